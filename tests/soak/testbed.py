"""Where a soak takes place: a home with hooks, a small disk for the state, a crowd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
PLACE = Path("/run/soak")  # on a file system that ends with our mount namespace
LOCKS = Path("/run/viagra")
CROWD: list[subprocess.Popen[bytes]] = []  # who started the bystanders
# What cron gives its jobs.
ENVIRONMENT = {
    "HOME": "/root",
    "LOGNAME": "root",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SHELL": "/bin/sh",
}
KEEP = 60
KEEP_BYTES = 24_000_000
DISK = "size=48m,mode=700"
START_TIMEOUT = 6  # seconds
HANGING = 3 * START_TIMEOUT  # for so long a hook hangs that nobody ends
PAUSES = (0.0, 0.5, 1.5)  # seconds that hooks take before they start anything
SETTINGS = f"""\
[defaults]
patience = "1s"
start_timeout = "{START_TIMEOUT}s"
limit = {{ restarts = 1000000, within = "1s" }}
[evidence]
timeout = "2s"
keep = {KEEP}
keep_bytes = "{KEEP_BYTES // 1_000_000}MB"
[run]
boot = "0s"
"""
# Every tenth daemon is held, again and again.
HELD_OFTEN = 'limit = { restarts = 3, within = "10s" }\n'
# One half of the daemons are what their hook becomes, the other what it leaves behind.
HOOK = """\
#!/bin/sh
echo "starting $VIAGRA_DAEMON, instance $VIAGRA_INSTANCE"
read -r mood <{place}/moods/$VIAGRA_DAEMON
case $mood in
fails) echo "not today"; exit 1 ;;
hangs) sleep {hanging}; exit 1 ;;
esac
sleep {pause}
{how}
"""
_DAEMON = "{place}/bin/{name} {place}/ledger {place}/alive/{name} $PPID"


def build(names: list[str], bystanders: int) -> None:
    """Make all that a soak needs, in the file systems of our own mount namespace."""
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    if Path("/dev/log").exists():  # nobody else's log is to be filled by a soak
        mount("--bind", "/dev/null", "/dev/log")
    for name in ("", "start.d", "state", "bin", "moods", "alive", "out"):
        (PLACE / name).mkdir(mode=0o755)
    (PLACE / "ledger").touch()
    mount("-t", "tmpfs", "-o", DISK, "tmpfs", str(PLACE / "state"))
    _copy_program()
    _compile(HERE / "soak_daemon.c", PLACE / "soak_daemon")
    _compile(CHECKOUT / "bench" / "still.c", PLACE / "still")
    (PLACE / "viagra.toml").write_text(SETTINGS)
    for number, name in enumerate(names):
        _watch(name, number)
    _crowd(bystanders)


def command(*words: str) -> list[str]:
    """Return the command that runs viagra.py here."""
    places = ["--dir", str(PLACE), "--state", str(PLACE / "state")]
    python = os.path.realpath(sys.executable)
    return [python, "-I", str(PLACE / "viagra.py"), *places, *words]


def mount(*words: str) -> None:
    """Mount something, in our mount namespace."""
    subprocess.run(["mount", *words], check=True)


def _copy_program() -> None:
    """Copy viagra.py to where root trusts it, whoever owns the checkout."""
    library = PLACE / "viagralib"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copy(CHECKOUT / "viagra.py", PLACE)
    shutil.copytree(CHECKOUT / "viagralib", library, ignore=ignored)
    for path in [PLACE / "viagra.py", library, *library.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        os.chown(path, 0, 0)


def _compile(source: Path, program: Path) -> None:
    subprocess.run(["cc", "-O2", "-o", program, source], check=True)


def _watch(name: str, number: int) -> None:
    shutil.copy(PLACE / "soak_daemon", PLACE / "bin" / name)
    (PLACE / "moods" / name).write_text("good\n")
    daemon = _DAEMON.format(place=PLACE, name=name)
    how = f"exec {daemon}" if number % 2 else f"{daemon} &"
    hook = PLACE / "start.d" / name
    pause = PAUSES[number % len(PAUSES)]
    hook.write_text(HOOK.format(place=PLACE, hanging=HANGING, pause=pause, how=how))
    hook.chmod(0o755)
    if number % 10 == 9:
        (PLACE / "start.d" / f"{name}.toml").write_text(HELD_OFTEN)


def _crowd(number: int) -> None:
    """Start processes that nobody watches; they sit still until we end."""
    crowd = subprocess.Popen(
        ["bystanders", str(number)],
        executable=PLACE / "still",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={},
    )
    if crowd.stdout is None or crowd.stdout.readline() != b"ready\n":
        raise RuntimeError("the bystanders did not start")
    CROWD.append(crowd)
