"""The gate: whatever is executed is judged here, at that moment, and only here.

No other module has a call that executes a program (tests/project/test_structure.py).
What belongs to root, like every directory and link on the way to it, can be exchanged
by root alone: so what was judged is what is executed.
"""

from __future__ import annotations

import errno
import os

from viagralib.trust.programs import ProgramTrust, find

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, NoReturn


class Refused(PermissionError):  # noqa: N818
    """Somebody else could change it: it is not executed."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EPERM, f"refused: {why}")


class Program:
    """What is to be executed: `path`, which `given` leads to."""

    def __init__(self, given: str, path: str) -> None:
        self.given = given
        self.path = path


class Gate:
    """What stands between a run and all that it executes.

    `closed` says why nothing at all may be executed: the home, the state or our own
    parts could be changed by somebody else.
    """

    def __init__(self, user: int, search_path: str, closed: str = "") -> None:
        self.search_path = search_path  # PATH for what is executed
        self.closed = closed
        self._user = user

    def hook(self, path: str) -> Program:
        """Return a hook's program, executed as what its links lead to. Raises OSError.

        So an init.d script sees its own name.
        """
        self._check()
        return Program(path, os.path.realpath(path))

    def find(self, *names: str) -> Program:
        """Return the first program of these names. Raises OSError: none, or unsafe."""
        self._check()
        for name in names:
            if path := find(name, self.search_path):
                if why := ProgramTrust(self._user).why_not_program(path):
                    raise Refused(why)
                return Program(path, path)
        raise FileNotFoundError(errno.ENOENT, "not found")

    def execute(
        self,
        program: Program,
        arguments: Iterable[str],
        environment: Mapping[str, str],
    ) -> NoReturn:
        """Become the program. Raises OSError."""
        self._judge(program)
        os.execve(program.path, [program.path, *arguments], environment)

    def feed(
        self,
        program: Program,
        environment: Mapping[str, str],
        text: bytes,
    ) -> None:
        """Run a program on our terminal, with `text` for stdin. Raises OSError."""
        import subprocess  # dear, and for people alone

        self._judge(program)
        subprocess.run([program.path], input=text, env=environment, check=False)

    def _check(self) -> None:
        if self.closed:
            raise Refused(self.closed.removeprefix("refused: "))

    def _judge(self, program: Program) -> None:
        self._check()
        # With fresh eyes: it may be long since the run began.
        if why := ProgramTrust(self._user).why_not_hook(program.given):
            raise Refused(why)


def spawn(
    argv: list[str],
    environment: Mapping[str, str],
    **how: Any,  # noqa: ANN401
) -> int:
    """Start a command, looked up in PATH, by posix_spawn(3); return its pid.

    Raises OSError.
    """
    return os.posix_spawn(_command(argv[0], environment), argv, environment, **how)


def become(argv: list[str], environment: Mapping[str, str]) -> NoReturn:
    """Become a command, looked up in PATH. Raises OSError."""
    os.execve(_command(argv[0], environment), argv, environment)


def _command(name: str, environment: Mapping[str, str]) -> str:
    """Return what a command's name stands for; for root, nobody else may change it.

    Somebody else's own programs are for --user: whom they can hurt is that user.
    """
    path = name if "/" in name else _search(name, environment.get("PATH", os.defpath))
    trust = ProgramTrust(0)
    if os.geteuid() == 0 and (why := trust.why_unsafe(os.path.abspath(path))):
        raise Refused(f"{why}, or name who is to run it with --user")
    return path


def _search(name: str, search_path: str) -> str:
    """Return the first program of a PATH, as execvp(3) finds it. Raises OSError."""
    places = [f"{place or '.'}/{name}" for place in search_path.split(":")]
    there = [path for path in places if os.path.isfile(path)]
    for path in there:
        if os.access(path, os.X_OK):
            return path
    if not name or not there:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return there[0]  # which the system says of why it cannot be executed
