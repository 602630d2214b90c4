"""The scene of a bench: programs, homes, daemons, and a crowd of bystanders."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

BENCH = Path(__file__).resolve().parent
CHECKOUT = BENCH.parent
# What cron gives its jobs. No PYTHON* variable reaches what is measured.
ENVIRONMENT = {
    "HOME": "/root",
    "LOGNAME": "root",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SHELL": "/bin/sh",
}
# Hooks that ship with facts, and the command line that their daemons have.
READY = {
    "apache": "/usr/sbin/apache2 -k start",
    "cron": "/usr/sbin/cron -f",
    "nginx": "nginx: master process /usr/sbin/nginx",
    "redis": "/usr/bin/redis-server 127.0.0.1:6379",
    "sshd": "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",
}
USERS = {"redis-server": "redis"}  # whom the shipped facts ask for, beside root
# What the kernel calls those processes.
PLAIN = ("apache2", "cron", "nginx", "redis-server", "sshd")
MANY = tuple(f"food{number:02}" for number in range(1, 51))
LAST = tuple(f"last{number}" for number in range(5))  # begun after all others
FAR = tuple(f"far{number}" for number in range(5))  # after so many restarts:
RESTARTS = 1000
LISTENING = 5
BEATING = 2
MISSING = "absent"
UNWELL = ("missing", "sick", "dead")  # homes with something to tell, or to do
HOOK = "#!/bin/sh\nexit 1\n"  # nothing that is measured gets as far as a hook


class Scene:
    """A directory with all that is measured, and the processes that it is about."""

    def __init__(self, place: Path, python: str) -> None:
        self.place = place
        self.python = python
        self._children: list[subprocess.Popen[bytes]] = []
        self._last: list[subprocess.Popen[bytes]] = []
        place.chmod(0o755)
        self._copy_program()
        for program in ("still", "floor", "peak"):
            compile_c(BENCH / f"{program}.c", place / program)

    def _copy_program(self) -> None:
        """Copy viagra.py to where root trusts it, whoever owns the checkout."""
        library = self.place / "viagralib"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copy(CHECKOUT / "viagra.py", self.place)
        shutil.copytree(CHECKOUT / "viagralib", library, ignore=ignored)
        for path in [library, *library.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)

    def viagra(self, home: str, *words: str) -> list[str]:
        """Return the command that runs the program on one of the homes."""
        home_path, state = self.place / home, self.place / f"{home}.state"
        places = ["--dir", str(home_path), "--state", str(state)]
        return [self.python, "-I", str(self.place / "viagra.py"), *places, *words]

    def home(self, name: str, facts: dict[str, str], hook: str = HOOK) -> None:
        """Make a home that watches the daemons that have these facts; "": none."""
        start = self.place / name / "start.d"
        start.mkdir(parents=True)
        if name in UNWELL:  # our process 1 is young, as after a boot
            (start.parent / "viagra.toml").write_text('[run]\nboot = "0s"\n')
        for daemon, text in facts.items():
            (start / daemon).write_text(hook)
            (start / daemon).chmod(0o755)
            if text:
                (start / f"{daemon}.toml").write_text(text)

    def start(self, process: str, command: str = "") -> subprocess.Popen[bytes]:
        """Start a process of this name and command line; it sits still."""
        program = self.place / "bin" / process
        if not program.exists():
            program.parent.mkdir(exist_ok=True)
            shutil.copy(self.place / "still", program)
        child = self._spawn([command or process], program, USERS.get(process))
        self._children.append(child)
        return child

    def lose(self, process: str) -> None:
        """Have a run find this daemon of the home `missing`, before it is missing."""
        child = self.start(process)
        subprocess.run(self.viagra("missing"), env=ENVIRONMENT, check=True)
        self._children.remove(child)
        child.kill()
        child.wait()

    def crowd(self, size: int) -> None:
        """Add bystanders, so that there are `size` processes, or more if there were."""
        number = max(0, size - count_processes() - 1)
        bystanders = self._spawn(["bystander", str(number)], self.place / "still")
        self._children.append(bystanders)
        for child in self._last:
            child.kill()
            child.wait()
        self._last = [self.start(process) for process in LAST]
        for _ in range(RESTARTS):
            subprocess.run(["true"], check=True)  # the next pid is one further
        self._last += [self.start(process) for process in FAR]

    @staticmethod
    def _spawn(
        arguments: list[str], program: Path, user: str | None = None
    ) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            arguments,
            executable=program,
            user=user,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={},
        )
        if child.stdout is None or child.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{arguments[0]} did not start")
        return child


def build(place: Path, python: str) -> Scene:
    """Return the scene, with every home made and every daemon started."""
    scene = Scene(place, python)
    for process, command in zip(PLAIN, READY.values(), strict=True):
        scene.start(process, command)
    for process in MANY:
        scene.start(process)
    shipped = CHECKOUT / "start.d"
    scene.home("plain", dict.fromkeys(PLAIN, ""))
    scene.home("last", dict.fromkeys(LAST, ""))
    scene.home("far", dict.fromkeys(FAR, ""))
    facts = {name: (shipped / f"{name}.toml").read_text() for name in READY}
    scene.home("ready", facts)
    for name, text in facts.items():
        scene.home(f"ready-{name}", {name: text})
    scene.home("missing", dict.fromkeys((*PLAIN[:4], MISSING), ""))
    for number in (2, 10, 50):
        scene.home(f"many{number}", dict.fromkeys(MANY[:number], ""))
    healthy = _health_facts(scene)
    scene.home("health", healthy)
    nobody = 'start_timeout = "1s"\n' + _listens("tcp:127.0.0.1:1")
    scene.home("sick", {**healthy, MANY[0]: nobody})
    time.sleep(1.2)  # younger than its start_timeout, no daemon's health is asked for
    scene.lose(MISSING)
    return scene


def _health_facts(scene: Scene) -> dict[str, str]:
    """Return the facts of ten daemons: five listen, two beat, one has an alarm."""
    beat, log = scene.place / "beat", scene.place / "log"
    beat.touch()
    log.write_text("all is well\n" * 1000)
    facts = [_listens(_listener(scene.place, number)) for number in range(LISTENING)]
    facts += [f'heartbeat = {{ file = "{beat}", every = "1h" }}\n'] * BEATING
    facts += [f'alarm = {{ file = "{log}", pattern = "out of memory" }}\n', "", ""]
    return {
        name: 'start_timeout = "1s"\n' + text
        for name, text in zip(MANY[:10], facts, strict=True)
    }


def _listens(address: str) -> str:
    return f'listens = ["{address}"]\n'


def _listener(place: Path, number: int) -> str:
    """Listen on a socket, every other one local, and return its address."""
    if number % 2:
        path = f"{place}/socket{number}"
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        address = f"unix:{path}"
    else:
        server = socket.create_server(("127.0.0.1", 0))
        address = f"tcp:127.0.0.1:{server.getsockname()[1]}"
    server.listen(64)
    threading.Thread(target=_serve, args=(server,), daemon=True).start()
    return address


def _serve(server: socket.socket) -> None:
    while True:
        server.accept()[0].close()


def compile_c(source: Path, program: Path) -> None:
    """Compile one C file."""
    subprocess.run(["cc", "-O2", "-o", program, source], check=True)


def count_processes() -> int:
    """Return how many processes there are in this pid namespace."""
    return sum(name.isdecimal() for name in os.listdir("/proc"))


def parents_of_all() -> dict[int, int]:
    """Return the parent's pid of each process."""
    parents = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{name}/stat").read_text(errors="replace")
            parents[int(name)] = int(stat.rpartition(")")[2].split()[1])
    return parents
