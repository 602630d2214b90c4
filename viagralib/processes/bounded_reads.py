"""Reads of /proc that may never end: a thread makes them, which can be left.

While execve(2) closes files, the kernel tells hardly anything of a process: who asks
waits, and nothing but KILL ends that. On a file system of its user's own (FUSE), it can
take for ever. The process's comm, status, cgroup and threads are told at once.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` adds to it is dear
import _thread
import os

from viagralib.base import files
from viagralib.base.files import noting
from viagralib.processes.linux import (
    FEW_ARGUMENTS,
    SMALL,
    Process,
    Unreadable,
    Vanished,
    contents,
)
from viagralib.processes.linux_system import parse

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator
    from typing import TypeVar

    _T = TypeVar("_T")

# What is asked of a daemon when all is well, as Process.ask() has it.
_AHEAD = (
    ("stat", files.read_once, SMALL),
    ("cmdline", contents, FEW_ARGUMENTS),
    ("cwd", os.readlink),
    ("exe", os.stat),
)
_PATIENCE = 1.0  # seconds for an answer
_LESS = 0.25  # as long as there is one that does not come
_GRACE = 0.05  # seconds for a thread that has its answer, and waits for its turn
_AT_ONCE = 256  # answers between two rests
_MOST = 8  # silent ones of a user; from then on, none of that user's is asked about
_LENT = 65536  # uids from here on that no account has are lent to people by subuid(5)

_silent: dict[str, int] = {}  # the user of each pid of which nothing is told now
_accounts: dict[int, bool] = {}  # whether a uid from _LENT on is an account's
# By the thread that asks: URLs are asked in threads, which look whose a socket is.
_readers: dict[int, _Reader] = {}


def _forget() -> None:
    _readers.clear()
    _silent.clear()


os.register_at_fork(after_in_child=_forget)  # where no thread but one goes on


class _Reader:
    """A thread that asks about one pid after the other, as long as it gets answers."""

    def __init__(self) -> None:
        self._go, self._rest = _thread.allocate_lock(), _thread.allocate_lock()
        self._go.acquire()
        self._rest.acquire()
        self._turn = _thread.allocate_lock()  # for an answer, or for being left
        self.is_left = False
        self._pid, self._native = "", 0
        # Signals are for the thread that waits for them.
        mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
        try:
            _thread.start_new_thread(self._work, ())
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)

    def ask(self, call: Callable[[str], _T], pids: Iterator[str]) -> list[_T]:
        """Return the next answers: _AT_ONCE, or the last ones, or up to the one that
        does not come: then this thread is left. Raises what `call` raises."""
        answers: list[_T] = []
        self._call, self._pids, self._answers = call, pids, answers
        self._error: Exception | None = None
        self._go.release()
        try:
            self._wait()
        except BaseException:
            self._leave()
            raise
        if self._error:
            raise self._error
        return answers

    def _wait(self) -> None:
        seen = 0
        while not self._rest.acquire(timeout=_LESS if _silent else _PATIENCE):
            if self._runs():
                continue
            if self._rest.acquire(timeout=_GRACE):
                return
            with self._turn:
                if self._pid and seen == len(self._answers):
                    _silent[self._pid] = _user(self._pid)
                    self._leave()
                    return
                seen = len(self._answers)

    def _runs(self) -> bool:
        """Return whether it would go on, if it had a processor."""
        try:
            return files.proc_state(f"/proc/self/task/{self._native}") == "R"
        except OSError:
            return not self._native

    def _leave(self) -> None:
        self.is_left = True
        del _readers[_thread.get_ident()]

    def _work(self) -> None:
        self._native = _thread.get_native_id()
        while self._go.acquire():
            try:
                if not self._get_some():
                    return
            except Exception as why:
                self._error = why
            self._rest.release()

    def _get_some(self) -> bool:
        """Get answers; return whether somebody still waits for them."""
        answers, call, turn = self._answers, self._call, self._turn
        for pid in self._pids:
            if _silent and _is_silent(pid):
                continue
            self._pid, error = pid, None
            try:
                answer = call(pid)
            except Exception as why:
                error = why
            with turn:
                self._pid = ""
                if self.is_left:  # it was told in the end
                    _silent.pop(pid, None)
                    return False
                if error:
                    raise error
                answers.append(answer)
            if len(answers) == _AT_ONCE:
                break
        return True


def answers(call: Callable[[str], _T], pids: Iterable[str]) -> Iterator[_T]:
    """Yield what `call` returns of each pid; no more of one that nothing is told of."""
    rest = iter(pids)
    is_over = False
    while not is_over:
        try:
            reader = _readers.get(_thread.get_ident()) or _Reader()
        except RuntimeError:  # the system has no thread for us
            yield from (call(pid) for pid in rest if not _is_silent(pid))
            return
        _readers[_thread.get_ident()] = reader
        some = reader.ask(call, rest)
        is_over = len(some) < _AT_ONCE and not reader.is_left
        yield from some


def ask(process: Process, call: Callable[[], _T]) -> _T:
    """Return what `call` reads of a process. Raises Unreadable when nothing is told."""
    for answer in answers(lambda _: call(), [str(process.pid)]):
        return answer
    from viagralib.base.users import user_name

    real, *_ = process.users()
    raise Unreadable(
        "its state: the kernel does not answer, as while it hangs inside execve(2): if "
        "it is not the daemon, set the fact user; else end what else user "
        f"{user_name(real)} runs, a file system it may be"
    )


def read_ahead(processes: list[Process]) -> None:
    """Read what will be asked of some processes, without waiting for each answer."""
    named = {str(process.pid): process for process in processes}

    def read(pid: str) -> None:
        for file, call, *more in _AHEAD:
            try:
                told = call(f"/proc/{pid}/{file}", *more)
            except (OSError, Vanished, Unreadable):
                return  # whoever asks finds out why
            named[pid].ahead[file, call, *more] = told

    for _ in answers(read, named):
        pass


def each(file: str, hidden: list[int], most: int) -> Iterator[tuple[int, bytes]]:
    """Yield each pid of which is told, and how its `file` begins; b"": gone, hidden.

    Raises OSError as look() does.
    """
    return files.read_each("/proc", file, most, noting(hidden), answers)


def everybody(hidden: list[int]) -> Iterator[Process]:
    """Yield all processes, as look() does, those of which nothing is told last."""
    for pid, line in each("stat", hidden, SMALL):
        if line and (process := parse(pid, line)):
            yield process
    for pid in [*map(int, _silent)]:
        if process := told_at_once(Process(pid, 0.0), None):
            yield process


def told_at_once(process: Process, names: Container[str] | None) -> Process | None:
    """Return what is told of a silent process; None: it is gone, or not so named."""
    try:
        name = files.read_once(f"/proc/{process.pid}/comm", SMALL)
        fields = (b"PPid:", b"NSpgid:", b"NSsid:")
        places = [int(process.status(field)[0]) for field in fields]
        process.state = process.status(b"State:")[0].decode()
    except (OSError, Vanished, Unreadable):
        return None
    process.parent, process.group, process.session = places
    process.name, process.silent = os.fsdecode(name[:-1]), True
    return process if names is None or process.name in names else None


def _is_silent(pid: str) -> bool:
    if pid in _silent or len(_silent) < _MOST:
        return pid in _silent
    return (user := _user(pid)) > 0 and [*_silent.values()].count(user) >= _MOST


def _user(pid: str) -> int:
    """Return whose it is; _LENT for all uids that are lent; 0: nobody's any more."""
    try:
        uid = Process(int(pid), 0.0).users()[0]
    except (Vanished, Unreadable):
        return 0
    if uid >= _LENT and uid not in _accounts:
        from viagralib.base.users import user_name

        _accounts[uid] = user_name(uid) != str(uid)
    return uid if _accounts.get(uid, True) else _LENT
