"""Start a command: in a clean state of signals, as a user, and knowing if it failed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from viagralib.base import files
from viagralib.base.messages import Fault, safe
from viagralib.companions.contract import signals
from viagralib.trust import gate

CANNOT_RUN = 126  # found, but could not be executed
NOT_FOUND = 127


class NotStarted(Exception):  # noqa: N818
    """The command could not be executed; `code` is the exit code that says so."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class User:
    """Whom a command is to run as."""

    def __init__(self, name: str) -> None:
        """Look `name` up in the user database; raises Fault if it may not be used."""
        import pwd  # only with --user

        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise Fault("--user", f"no user {name!r}") from None
        if os.geteuid() not in (0, entry.pw_uid):
            raise Fault("--user", f"only root can run a command as {name}")
        self.name = name
        self.uid, self.gid = entry.pw_uid, entry.pw_gid
        self.home, self.shell = entry.pw_dir, entry.pw_shell or "/bin/sh"

    def environment(self) -> dict[str, str]:
        """Return the variables that depend on the user, as login(1) sets them."""
        return {
            "HOME": self.home,
            "SHELL": self.shell,
            "USER": self.name,
            "LOGNAME": self.name,
        }

    def become(self) -> None:
        """Turn this process into the user's, with no way back."""
        if os.geteuid() == 0:
            os.initgroups(self.name, self.gid)
            os.setgid(self.gid)
            os.setuid(self.uid)

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """Do what is done meanwhile with the user's rights only."""
        if os.geteuid() != 0:
            yield
            return
        groups, gid = os.getgroups(), os.getegid()
        try:
            os.initgroups(self.name, self.gid)
            os.setegid(self.gid)
            os.seteuid(self.uid)
            yield
        finally:
            os.seteuid(0)
            os.setegid(gid)
            os.setgroups(groups)


def environment(user: User | None, instance: int) -> dict[str, str]:
    """Return ours for instance number `instance` of a command, run as `user`."""
    variables = {**os.environ, **(user.environment() if user else {})}
    return {**variables, "VIAGRA_INSTANCE": str(instance)}


def start(
    argv: Sequence[str],
    environment: Mapping[str, str],
    output: int | None = None,
    prepare: Callable[[], None] | None = None,
) -> int:
    """Execute `argv` (looked up in PATH) in a process of its own; return its pid.

    `output` is a descriptor for its stdout and stderr; `prepare` is called in that
    process before. Raises NotStarted when it cannot be executed, OSError when the
    system has no further process.
    """
    ends = [(output, 1), (output, 2)] if output is not None else []
    if prepare:

        def be_it() -> None:
            for pair in ends:
                os.dup2(*pair)
            prepare()
            execute(argv, environment)

        return _fork(argv[0], be_it)
    # Not by fork(2): the child would wait for its turn, on a busy machine for long.
    try:
        return gate.spawn(
            list(argv),
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, *pair) for pair in ends],
            setsigmask=(),
            setsigdef=signals.to_restore(),
        )
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.ENOMEM):
            raise OSError(error.errno, os.strerror(error.errno)) from None
        raise not_started(argv[0], error) from None


def _fork(program: str, be_it: Callable[[], None]) -> int:
    told, tell = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(told)
        os.close(tell)
        raise
    if pid == 0:
        _be_child(be_it, tell)
    os.close(tell)
    # End of file comes with exec(2), which closes the child's end.
    with files.Descriptor(told):
        failure = files.rest(told, 4096)
    if failure:
        os.waitpid(pid, 0)
        number, _, words = failure.decode(errors="replace").partition(" ")
        raise not_started(program, OSError(int(number), words))
    return pid


def execute(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """Become the program `argv`, looked up in PATH. Raises OSError."""
    signals.restore()
    gate.become(list(argv), environment)


def become(argv: Sequence[str]) -> None:
    """Become the program `argv`, with our environment. Raises NotStarted."""
    try:
        execute(argv, os.environ)
    except OSError as error:
        raise not_started(argv[0], error) from None


def _be_child(be_it: Callable[[], None], tell: int) -> None:
    """Be the command, or report the error and exit. Runs in the child."""
    failure = f"{errno.EIO} {os.strerror(errno.EIO)}"
    try:
        be_it()
    except OSError as error:
        failure = f"{error.errno or errno.EIO} {error.strerror}"
    finally:
        # Never return into the parent's code, whatever went wrong.
        os.write(tell, failure.encode(errors="replace"))
        os._exit(CANNOT_RUN)


def not_started(program: str, error: OSError) -> NotStarted:
    """Return what to raise for an error of exec(2), with ctrun's codes."""
    searched = "/" not in program  # then a PATH entry that is no directory is skipped
    absent = error.errno == errno.ENOENT or (searched and error.errno == errno.ENOTDIR)
    code = NOT_FOUND if absent else CANNOT_RUN
    words = error.strerror or ""
    if error.errno == errno.ENOEXEC:
        words += " (a script needs a #! line)"
    return NotStarted(code, f"{safe(program)}: could not run: {words}")
