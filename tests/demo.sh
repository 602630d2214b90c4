#!/bin/sh
# demo.sh - viagra.py's main job, shown on a real process of its own: up and silent,
# killed, brought back with the notice, silent again. Called by `make demo`, as any
# user. All of it happens in one new directory, which goes at the end, with every
# process; also on Ctrl-C. Exit 0 only if each step was seen to be true.
set -u
umask 077 # nobody else may change what root is shown to run

PYTHON=${PYTHON:-python3}
food=food$$ # the daemon's name: no other process has it
room=

say() {
	printf '\n== %s\n' "$*"
}

fail() {
	printf 'demo: %s\n' "$*" >&2
	exit 1
}

cleanup() {
	trap '' INT TERM HUP
	[ -n "$room" ] || return
	end_all
	rm -rf "$room"
	rm -f "/run/viagra/$food."* # root's locks
}

# By their pids: a recorded one may be another process by now, so each is looked at.
end_all() {
	for pid in $(daemons); do
		kill -9 "$pid" 2>/dev/null
	done
}

daemons() {
	if read -r pid <"$room/pid" && grep -qs "$food" "/proc/$pid/cmdline"; then
		echo "$pid"
	fi
	ps -A -ww -o pid= -o args= | while read -r pid arguments; do
		case $arguments in
		*"$room/$food 600"*) echo "$pid" ;;
		esac
	done
} 2>/dev/null

# Sets $python to the interpreter itself: PYTHON may be a shell script of a version
# manager.
find_python() {
	command -v "$PYTHON" >/dev/null ||
		fail "no $PYTHON here: make demo PYTHON=/path/to/python3.11"
	python=$("$PYTHON" -c 'import sys; print(sys.executable)' 2>/dev/null) ||
		fail "$PYTHON does not run: make demo PYTHON=/path/to/python3.11"
	"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
		fail "$PYTHON is older than 3.11: make demo PYTHON=/path/to/python3.11"
}

# viagra.py refuses to run what another user could change, itself included. So it gets
# a copy, in a place that it trusts and that lets programs run (no noexec mount).
make_room() {
	refused=
	for base in "${TMPDIR:-/tmp}" /tmp /var/tmp "${HOME:-/}"; do
		room=$(mktemp -d "$base/viagra-demo.XXXXXX" 2>/dev/null) || continue
		cp -R viagra.py viagralib "$room/" || fail "could not copy the program to $room"
		printf '#!/bin/sh\nexit 0\n' >"$room/probe"
		chmod 700 "$room/probe"
		why=$(why_not_here) && return
		refused="$refused
  $base: $why"
		rm -rf "$room"
	done
	room=
	fail "found no safe place for it:$refused"
}

why_not_here() {
	"$room/probe" 2>/dev/null || {
		echo "programs cannot be run there"
		return 1
	}
	"$python" -I -B - "$room" <<-'END'
		import os, sys
		sys.path.insert(0, sys.argv[1])
		from viagralib.trust.owners import Trust
		why = Trust(os.geteuid()).why_not(f"{sys.argv[1]}/viagra.py")
		print(why)
		sys.exit(bool(why))
	END
}

get_psutil() {
	if [ "$(uname -s)" = Linux ]; then
		echo "On Linux, viagra.py reads /proc by itself: nothing to install."
	elif "$python" -I -c 'import psutil' 2>/dev/null; then
		echo "psutil is there: nothing to install."
	else
		echo "Fetching psutil into an environment that goes with the demo ..."
		{ "$python" -I -m venv "$room/venv" &&
			"$room/venv/bin/python" -I -m pip install --quiet psutil; } ||
			fail "no psutil, by which viagra.py sees the processes of this system"
		python=$room/venv/bin/python
	fi
}

# The daemon: sleep(1) under another name. Where sleep is a part of one large program
# that goes by its name, a script takes its place.
make_daemon() {
	mkdir -p "$room/home/start.d"
	# Also while this machine boots, or installs packages.
	printf '[run]\nboot = "0s"\npackages = "0s"\n' >"$room/home/viagra.toml"
	cp "$(command -v sleep)" "$room/$food"
	chmod 700 "$room/$food"
	if ! "$room/$food" 0 2>/dev/null; then
		printf '#!%s -I\nimport sys, time\ntime.sleep(int(sys.argv[1]))\n' \
			"$python" >"$room/$food"
	fi
	cat >"$room/home/start.d/$food" <<-END
		#!/bin/sh
		# The start hook: all that viagra.py has to be told about a daemon.
		"$room/$food" 600 &
		echo \$! >"$room/pid"
		echo "started by its hook, because it was \${VIAGRA_REASON:-not there}"
	END
	chmod 700 "$room/home/start.d/$food"
}

# Runs viagra.py and shows what it prints, and its exit code, which must be $1.
viagra() {
	wanted=$1
	shift
	echo "  \$ viagra.py${*:+ $*}"
	"$python" -I "$room/viagra.py" --dir="$room/home" --state="$room/state" "$@" \
		>"$room/output" 2>&1
	code=$?
	sed 's/^/  | /' "$room/output"
	if [ -s "$room/output" ]; then
		echo "  exit $code"
	else
		echo "  exit $code, and not a word"
	fi
	[ "$code" -eq "$wanted" ] || fail "exit $code, not $wanted"
}

is_silent() {
	[ ! -s "$room/output" ] || fail "it should have said nothing"
}

says() {
	grep -q -- "$1" "$room/output" || fail "it should have said: $1"
}

trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

cd "$(dirname "$0")/.." || exit 1
find_python
make_room
echo "A copy of viagra.py, and all that it makes here, is in $room."
get_psutil
make_daemon

say "A daemon is up: $food. Dropping its start hook into start.d was the whole set-up."
"$room/home/start.d/$food" >/dev/null || fail "could not start it"
first=$(cat "$room/pid")
echo "  its pid is $first. This is what cron runs, every few minutes:"
viagra 0
is_silent

say "Now it dies: kill -9 $first. Looking only:"
kill -9 "$first" || fail "could not kill it"
tries=0
until ! kill -0 "$first" 2>/dev/null || [ "$tries" -ge 50 ]; do
	sleep 0.1 2>/dev/null || sleep 1
	tries=$((tries + 1))
done
viagra 1 check
says "^$food is down: "

say "The next run of cron brings it back, and prints the notice that cron mails:"
viagra 0
says "^Restarting $food\$"
says "^  now .*up, pid "
says "started by its hook, because it was down"
second=$(cat "$room/pid")
[ "$second" != "$first" ] || fail "it has the old pid"
kill -0 "$second" || fail "no new process is there"
evidence=$(sed -n 's/^  evidence *//p' "$room/output")
[ -s "$evidence/notice.txt" ] || fail "no evidence was kept in $evidence"

say "It is back, as pid $second. Its evidence, taken before it was started again:"
(cd "$evidence" && ls) | tr '\n' ' ' | sed 's/^/  /; s/ $//'
echo

say "Silent again:"
viagra 0
is_silent

say "That was all of it: up and silent, killed, brought back with a notice, silent."
echo "The demo's daemon is ended and its directory removed. Next: README.md, Install."
