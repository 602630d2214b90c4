#compdef viagra.py
# zsh: what may follow `viagra.py`; the program itself knows it.
local -a found
found=("${(@f)$(/usr/local/sbin/viagra.py --complete "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
found=("${(@)found//\\/\\\\}")
found=("${(@)${(@)found//:/\\:}/$'\t'/:}")
if [[ ${found[1]} == */ ]]; then
	_describe -V viagra.py found -S ''
elif [[ -n ${found[1]} ]]; then
	_describe -V viagra.py found
fi
