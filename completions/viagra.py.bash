# shellcheck shell=bash
# bash: what may follow `viagra.py`; the program itself knows it.
_viagra_py() {
	local found quoted
	COMPREPLY=()
	while IFS=$'\t' read -r found _; do
		printf -v quoted %q "$found"
		COMPREPLY+=("$quoted")
	done < <(/usr/local/sbin/viagra.py --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
	# The order is the program's: the newest incident comes first. A directory goes on.
	compopt -o nosort 2>/dev/null
	[[ ${COMPREPLY[0]-} != */ ]] || compopt -o nospace
}
complete -F _viagra_py viagra.py
