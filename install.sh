#!/bin/sh
# install.sh - what `make install` and `make uninstall` do. The Makefile calls it,
# with PYTHON, PREFIX, SYSCONFDIR, STATEDIR, MANDIR and DESTDIR in the environment. With
# SYSTEM_PYTHON=/usr/bin/python3 as well, as packages want it, that one runs the program.
#
#   PREFIX/lib/viagra      the program, and a Python environment of its own
#   PREFIX/sbin/viagra.py  the command;  PREFIX/bin/viagra-*  for use inside hooks
#   PREFIX/share/viagra    hooks and facts as shipped, examples; replaced each time
#   SYSCONFDIR/viagra      hooks and facts in use: what was edited is never changed
set -eu
KINDS='start.d stop.d check.d fail.d notice.d'
umask 022 # whatever the caller's is: root must be able to trust what we make

fail() {
	echo "install: $*" >&2
	exit 1
}

check_python() {
	command -v "$PYTHON" >/dev/null || fail "no $PYTHON here: make PYTHON=/path/to/python3.11"
	version=$("$PYTHON" -IS -c 'import sys; print("%d.%d" % sys.version_info[:2])') ||
		fail "$PYTHON does not run"
	"$PYTHON" -IS -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
		fail "$PYTHON is Python $version; 3.11 or later is needed: make PYTHON=/path/to/python3.11"
}

# Whoever can change the interpreter can change what root runs.
check_trust_in_python() {
	"$PYTHON" -IS -B - "$PWD" <<-'END' || exit 1
		import os, sys
		sys.path.insert(0, sys.argv[1])
		from viagralib.trust.owners import Trust
		python = place = os.path.realpath(sys.executable)
		if why := Trust(os.geteuid()).why_not(python):
		    sys.exit(f"install: not with this Python: {why}")
		while os.geteuid() == 0 and place != "/":
		    place = os.path.dirname(place)
		    if not os.stat(place).st_mode & 0o001:
		        print(f"install: only root will be able to run it: {python} is in {place}")
	END
}

# Nothing is made, and executed, where somebody else could put another in its place.
check_trust_in_places() {
	[ -z "$DESTDIR" ] || return 0 # a package's, in a tree of who builds it
	set -- "$PREFIX/lib" "$PREFIX/lib/systemd/catalog" "$PREFIX/share" "$PREFIX/sbin" \
		"$PREFIX/bin" "$MANDIR/man1" "$MANDIR/man5" "$MANDIR/man8" "$home"
	for kind in $KINDS; do
		set -- "$@" "$home/$kind"
	done
	for place in $(completions | cut -d ' ' -f 2); do
		set -- "$@" "$PREFIX/share/$place"
	done
	"$PYTHON" -IS -B - "$PWD" "$@" <<-'END' || exit 1
			import os, sys
			sys.path.insert(0, sys.argv[1])
			from viagralib.trust.owners import Trust
			trust, whys = Trust(os.geteuid()), []
			for place in sys.argv[2:]:
			    while not os.path.lexists(place):
			        place = os.path.dirname(place)
			    whys += [why for why in trust.whys(place) if why not in whys]
			for why in whys:
			    print("install:", why, file=sys.stderr)
			sys.exit(1 if whys else 0)
		END
}

set_places() {
	if [ -z "$SYSCONFDIR" ]; then
		case $(uname -s) in
		Linux) SYSCONFDIR=/etc ;;
		*) SYSCONFDIR=$PREFIX/etc ;;
		esac
	fi
	for place in "$PREFIX" "$SYSCONFDIR" "$MANDIR" "${STATEDIR:-/}"; do
		case $place in
		[!/]* | '') fail "not an absolute path: '$place'" ;;
		*[!A-Za-z0-9/._+@,=:~-]*) fail "no good for a #! line: '$place'" ;;
		esac
	done
	case $DESTDIR in
	'' | /*) ;;
	*) DESTDIR=$PWD/$DESTDIR ;;
	esac
	lib=$PREFIX/lib/viagra
	share=$PREFIX/share/viagra
	home=$SYSCONFDIR/viagra
}

install_all() {
	check_python
	check_trust_in_python
	check_trust_in_places
	install_program
	install_commands
	install_settings
	install_share
	install_manual
	install_completions
	install_catalog
	[ -z "$DESTDIR" ] || return 0
	if ! "$PREFIX/sbin/viagra.py" test; then
		echo "install: all is in its place, but mend the faults above first; then" \
			"see $PREFIX/sbin/viagra.py test" >&2
		exit 2
	fi
	echo "installed. Next: chmod +x a hook in $home/start.d, and $share/crontab.example"
}

# Built beside the old one and put in its place when whole: cron does not wait.
install_program() {
	new=$DESTDIR$lib.new
	mkdir -p "${new%/*}"
	if ! why=$(mkdir "$new" 2>&1); then
		[ -d "$new" ] || fail "$why"
		fail "another make install is at work; if none is: rm -r $new"
	fi
	trap 'rm -rf "$new" "$new.list"' EXIT
	trap 'exit 1' INT TERM HUP
	find viagra.py viagralib -name __pycache__ -prune -o -type f -print >"$new.list"
	while read -r file; do
		mkdir -p "$(dirname "$new/$file")"
		copy_program "$file" "$new/$file"
	done <"$new.list"
	rm -f "$new.list"
	if [ -z "${SYSTEM_PYTHON-}" ]; then
		make_environment
		byte_compile
	fi
	rm -rf "$DESTDIR$lib.old"
	[ ! -e "$DESTDIR$lib" ] || mv "$DESTDIR$lib" "$DESTDIR$lib.old"
	mv "$new" "$DESTDIR$lib"
	trap - EXIT INT TERM HUP # what is there now is another's
	rm -rf "$DESTDIR$lib.old"
}

byte_compile() {
	"$new/venv/bin/python" -I -m compileall -q -s "$new" -p "$lib" \
		"$new/viagralib" "$new/venv/lib" || fail "could not byte-compile"
}

# A program of ours gets its own python, or in a package the system's, isolated (-I) from
# PYTHONPATH and the like, and all of them learn where home and state are. On Linux, the
# system's goes without its site-packages (-S): others than root may write to them.
copy_program() {
	isolated=-I
	[ -z "${SYSTEM_PYTHON-}" ] || [ "$(uname -s)" != Linux ] || isolated=-IS
	sed -e "1s|^#!.*python.*|#!${SYSTEM_PYTHON:-$lib/venv/bin/python} $isolated|" \
		-e "s|^INSTALLED_HOME = \"\"|INSTALLED_HOME = \"$home\"|" \
		-e "s|^INSTALLED_STATE = \"\"|INSTALLED_STATE = \"$STATEDIR\"|" "$1" >"$2"
	case $(head -n 1 "$2") in
	'#!'*) chmod 755 "$2" ;;
	*) chmod 644 "$2" ;;
	esac
}

make_environment() {
	if is_reusable "$DESTDIR$lib/venv"; then
		cp -RP "$DESTDIR$lib/venv" "$new/venv"
		return
	fi
	"$PYTHON" -IS -m venv --without-pip "$new/venv" || fail "$PYTHON cannot make a venv"
	# No way into it is left in the shape of a script that names where it was made.
	rm -f "$new"/venv/bin/[Aa]ctivate*
	sed '/^command = /d' "$new/venv/pyvenv.cfg" >"$new/cfg"
	mv "$new/cfg" "$new/venv/pyvenv.cfg"
	echo "install: fetching psutil"
	if fetch "psutil>=5.9" >"$new/log" 2>&1; then
		rm "$new/log"
	elif [ "$(uname -s)" = Linux ]; then
		tail -n 1 "$new/log" >&2
		rm "$new/log"
		echo "install: no psutil. viagra.py does without it on Linux. To have it," \
			"make install again with a network and pip (on Debian, python3-venv)" >&2
	else
		cat "$new/log" >&2
		fail "could not install psutil, by which viagra.py sees processes on this system"
	fi
}

# Nothing is executed, or copied, in a tree that somebody else could change.
is_nobody_elses() {
	"$PYTHON" -IS -B - "$PWD" "$1" 2>/dev/null <<-'END'
		import os, sys
		sys.path.insert(0, sys.argv[1])
		from viagralib.trust.owners import Trust
		sys.exit(1 if Trust(os.geteuid()).whys_below(sys.argv[2]) else 0)
	END
}

# The environment of an earlier install will do if it has all and this very Python.
is_reusable() {
	is_nobody_elses "$1" || return 1
	base='import sys; print(sys.version, sys.base_prefix)'
	[ -x "$1/bin/python" ] && "$1/bin/python" -I -c 'import psutil' 2>/dev/null &&
		[ "$("$1/bin/python" -I -c "$base")" = "$("$PYTHON" -IS -c "$base")" ]
}

# Without -S, a Python executes what lies in its directories of packages: .pth files.
is_site_nobody_elses() {
	"$PYTHON" -IS -B - "$PWD" <<-'END'
		import os, site, sys
		sys.path.insert(0, sys.argv[1])
		from viagralib.trust.owners import Trust
		trust = Trust(os.geteuid())
		places = filter(os.path.isdir, site.getsitepackages())
		sys.exit(1 if any(map(trust.why_not, places)) else 0)
	END
}

# Through the pip that PYTHON has, if that is of 22.3 or later, or else through one
# that is in the new environment only for that.
fetch() {
	options="--quiet --no-compile --no-cache-dir --disable-pip-version-check --no-input"
	environment=$new/venv/bin/python
	if is_site_nobody_elses && "$PYTHON" -I -m pip --python "$environment" --version; then
		# shellcheck disable=SC2086
		"$PYTHON" -I -m pip --python "$environment" install $options "$1"
		return
	fi
	"$environment" -I -m ensurepip --default-pip || return
	result=0
	# shellcheck disable=SC2086
	"$environment" -I -m pip install $options "$1" || result=$?
	"$environment" -I -m pip --quiet uninstall --yes setuptools pip
	return $result
}

install_commands() {
	mkdir -p "$DESTDIR$PREFIX/sbin" "$DESTDIR$PREFIX/bin"
	ln -sf ../lib/viagra/viagra.py "$DESTDIR$PREFIX/sbin/viagra.py"
	for file in "$DESTDIR$lib"/viagralib/companions/viagra-*; do
		name=${file##*/}
		[ ! -x "$file" ] || [ -d "$file" ] ||
			ln -sf "../lib/viagra/viagralib/companions/$name" "$DESTDIR$PREFIX/bin/$name"
	done
}

install_share() {
	rm -rf "$DESTDIR$share"
	mkdir -p "$DESTDIR$share"
	for file in *.md docs LICENSE crontab.example systemd prometheus ansible \
		$KINDS; do
		[ ! -e "$file" ] || cp -R "$file" "$DESTDIR$share/"
	done
	rm "$DESTDIR$share/systemd/viagra.catalog" # no unit: see install_catalog
	for file in "$DESTDIR$share"/crontab.example "$DESTDIR$share"/systemd/*; do
		sed "s|/usr/local/sbin/|$PREFIX/sbin/|g" "$file" >"$file.new"
		mv "$file.new" "$file"
	done
	find "$DESTDIR$share" -type d -exec chmod 755 {} +
	find "$DESTDIR$share" -type f -exec chmod 644 {} +
}

# What lies in share is what was shipped last: by it we know what somebody has edited,
# which is kept, and what was deleted, which stays so. All else becomes what is shipped.
install_settings() {
	kept='' updated='' left_out=''
	for kind in $KINDS; do
		mkdir -p "$DESTDIR$home/$kind"
		for entry in "$kind"/*; do
			[ ! -e "$entry" ] || install_setting "$entry"
		done
	done
	[ -z "$updated" ] || echo "updated in $home, where nobody had edited them:$updated"
	[ -z "$left_out" ] || echo "left out of $home, where they were deleted:$left_out"
	[ -z "$kept" ] || echo "kept as found in $home, while others are shipped:$kept." \
		"To compare: diff -ru $share $home"
}

install_setting() {
	there=$DESTDIR$home/$1
	shipped=$DESTDIR$share/$1
	if [ -e "$there" ] || [ -L "$there" ]; then
		is_same "$1" "$there" || update_setting "$1"
	elif [ -e "$shipped" ]; then
		left_out="$left_out $1"
	else
		case $1 in
		*.toml) is_same "${1%.toml}" "${there%.toml}" || return 0 ;; # another's hook
		esac
		copy_setting "$1"
	fi
}

update_setting() {
	case $1 in
	*/README) ;;
	*)
		if [ -L "$there" ] || ! is_same "$shipped" "$there"; then
			kept="$kept $1"
			return
		fi
		updated="$updated $1"
		;;
	esac
	copy_setting "$1"
}

# A new one is off until chmod +x; one that takes another's place is as that was.
copy_setting() {
	new_entry=${there%/*}/.${there##*/}.new
	rm -rf "$new_entry"
	cp -R "$1" "$new_entry"
	find "$new_entry" -type d -exec chmod 755 {} +
	find "$new_entry" -type f -exec chmod 644 {} +
	if [ -e "$there" ]; then
		[ -n "$(find "$there" -type f ! -perm -100)" ] ||
			find "$new_entry" -type f -exec chmod 755 {} +
		find "$there" -type f -perm -100 | while read -r file; do
			chmod 755 "$new_entry${file#"$there"}" 2>/dev/null || : # a step less
		done
	fi
	if [ -d "$there" ] || [ -L "$there" ]; then
		rm -rf "$there"
	fi
	mv -f "$new_entry" "$there"
}

is_same() {
	diff -r "$1" "$2" >/dev/null 2>&1
}

install_manual() {
	for page in man/*.[1-9]; do
		place=$DESTDIR$MANDIR/man${page##*.}
		mkdir -p "$place"
		sed -e "s|/usr/local/sbin/viagra|$PREFIX/sbin/viagra|g" \
			-e "s|/usr/local/share/viagra|$PREFIX/share/viagra|g" \
			"$page" >"$place/${page##*/}"
		chmod 644 "$place/${page##*/}"
	done
}

# Each as its shell looks for it: file, place below PREFIX/share, name there.
completions() {
	echo viagra.py.bash bash-completion/completions viagra.py
	echo viagra.py.zsh zsh/site-functions _viagra.py
	echo viagra.py.fish fish/vendor_completions.d viagra.py.fish
}

install_completions() {
	completions | while read -r file place name; do
		place=$DESTDIR$PREFIX/share/$place
		mkdir -p "$place"
		sed "s|/usr/local/sbin/|$PREFIX/sbin/|g" "completions/$file" >"$place/$name"
		chmod 644 "$place/$name"
	done
}

# Texts for `journalctl -x`; systemd looks for them in these two places alone.
install_catalog() {
	case $(uname -s):$PREFIX in
	Linux:/usr | Linux:/usr/local) ;;
	*) return 0 ;;
	esac
	catalog=$DESTDIR$PREFIX/lib/systemd/catalog
	mkdir -p "$catalog"
	cp systemd/viagra.catalog "$catalog/"
	chmod 644 "$catalog/viagra.catalog"
	update_catalog
}

# Of the machine itself alone; in a package, Debian's systemd does it.
update_catalog() {
	if [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; then
		journalctl --update-catalog || :
	fi
}

uninstall_all() {
	if [ ! -e "$DESTDIR$lib" ] || [ ! -w "$DESTDIR$PREFIX/lib" ]; then
		fail "nothing of yours in $DESTDIR$lib: make uninstall as who installed it, with the" \
			"same PREFIX, such as make uninstall PREFIX=\$HOME/.local"
	fi
	catalog=$PREFIX/lib/systemd/catalog
	if [ -e "$DESTDIR$catalog/viagra.catalog" ]; then
		rm -f "$DESTDIR$catalog/viagra.catalog"
		remove_if_empty "$catalog"
		remove_if_empty "${catalog%/*}"
		update_catalog
	fi
	completions | while read -r _ place name; do
		rm -f "$DESTDIR$PREFIX/share/$place/$name"
		remove_if_empty "$PREFIX/share/$place"
		remove_if_empty "$PREFIX/share/${place%/*}"
	done
	for link in "$DESTDIR$PREFIX"/bin/viagra-*; do
		case $(readlink "$link") in
		../lib/viagra/*) rm -f "$link" ;;
		esac
	done
	for page in man/*.[1-9]; do
		rm -f "$DESTDIR$MANDIR/man${page##*.}/${page##*/}"
	done
	rm -rf "$DESTDIR$PREFIX/sbin/viagra.py" "$DESTDIR$lib" "$DESTDIR$lib.new" "$DESTDIR$share"
	remove_empty
	state='/var/lib/viagra (/var/db/viagra on the BSDs)'
	[ "$(id -u)" = 0 ] || state=$HOME/.local/state/viagra
	echo "uninstalled. Kept: $home; the state, ${STATEDIR:-$state};" \
		"and until the next boot root's locks in /run/viagra (/var/run/viagra)."
	echo "If cron still runs it, take its line out: crontab -e"
}

# Directories that are of no use to others; those of /usr and /usr/local are.
remove_empty() {
	for section in 1 5 8; do
		remove_if_empty "$MANDIR/man$section"
	done
	case $PREFIX in
	/usr | /usr/local) return ;;
	esac
	for place in "$MANDIR" "$PREFIX/share/man" "$PREFIX/share" "$PREFIX/lib" \
		"$PREFIX/bin" "$PREFIX/sbin" "$PREFIX"; do
		remove_if_empty "$place"
	done
}

remove_if_empty() {
	rmdir "$DESTDIR$1" 2>/dev/null || :
}

cd "$(dirname "$0")"
case ${1-} in
check-python)
	check_python
	;;
install)
	set_places
	install_all
	;;
uninstall)
	set_places
	uninstall_all
	;;
*) fail "this is for the Makefile: make install, make uninstall" ;;
esac
