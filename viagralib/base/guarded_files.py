"""Files where others could have put something else: links, pipes, devices, masses.

A daemon's log, pidfile or heartbeat lies where its user may write; root must not be led
elsewhere, wait, or be filled up by it. So the way is gone part by part. A link is
followed where it is root's or ours, and nobody else can change it, nor the way. At the
end lies a regular file: opening a device can be an order to it (watchdog(4)).
"""

from __future__ import annotations

import errno
import os
import stat

from viagralib.base.files import Descriptor, rest, write

_PASS = getattr(os, "O_PATH", getattr(os, "O_SEARCH", os.O_RDONLY))  # no right to list
_PASS |= os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LEASED = "held by a lease, fcntl(2): end the process in /proc/locks that has it"
_LONGEST_CHAIN = 40  # links followed, as Linux does: path_resolution(7)


class Refused(OSError):  # noqa: N818
    """What lies there is not opened, and why."""

    def __init__(self, what: str) -> None:
        super().__init__(errno.EPERM, f"is {what}")


def open_file(
    path: str, flags: int = os.O_RDONLY, mode: int = 0o600, *, link: bool = True
) -> int:
    """Return a descriptor of the regular file `path`; O_CREAT makes it. Raises OSError.

    Without `link`, `path` itself must be none, whosoever.
    """
    if hasattr(os, "O_PATH") and (descriptor := _open_plain(path, flags)) >= 0:
        return descriptor
    with Way(path, link) as way:
        if flags & os.O_CREAT:
            try:
                return os.open(way.name, flags | _NEW, mode, dir_fd=way.directory)
            except FileExistsError:
                flags &= ~os.O_CREAT
        return way.open(flags)


def _open_plain(path: str, flags: int) -> int:
    """Open a file with one name, that is no link, at the end of a way without links.

    -1: it is no such file, as far as can be seen; for nearly all it is quicker.
    """
    try:
        handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError) as why:
        if isinstance(why, FileNotFoundError) and not flags & os.O_CREAT:
            raise
        return -1
    with Descriptor(handle):
        way, status = f"/proc/self/fd/{handle}", os.fstat(handle)
        is_plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
        try:
            if is_plain and os.readlink(way) == path:
                return _open_now(way, flags & ~os.O_CREAT)
        except OSError:
            pass  # the reason is found on the other way
    return -1


def _open_now(path: str, flags: int, directory: int | None = None) -> int:
    """Open a file, or raise OSError: its owner can have open(2) wait, by a lease."""
    try:
        file = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except BlockingIOError:
        raise Refused(_LEASED) from None
    if flags & os.O_ACCMODE != os.O_RDONLY:
        os.set_blocking(file, True)  # hooks inherit their log as it was made
    return file


def read(path: str, most: int, *, link: bool = True) -> bytes:
    """Return the first `most` bytes of a file. Raises OSError."""
    with opened(path, link=link) as descriptor:
        return rest(descriptor, most)


def replace(path: str, text: bytes, *, mode: int = 0o600, sync: bool = False) -> None:
    """Replace a file whole: a reader sees the old one or the new one. Raises OSError.

    With `sync`, the new one is on the disk before this returns.
    """
    place, name = os.path.split(path)
    fresh = f".{name}.{os.getpid()}"
    with Way(f"{place or '.'}/.") as way:
        here = way.directory
        try:
            _remove(fresh, here)
            with Descriptor(
                os.open(fresh, _NEW | os.O_WRONLY, mode, dir_fd=here)
            ) as new:
                os.fchmod(new, mode)  # whatever the umask
                write(new, text)
                if sync:
                    os.fsync(new)
            os.replace(fresh, name, src_dir_fd=here, dst_dir_fd=here)
        except OSError:
            _remove(fresh, here)
            raise
        if sync:
            with Descriptor(os.open(".", os.O_RDONLY, dir_fd=here)) as directory:
                os.fsync(directory)


def _remove(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except OSError:
        pass  # most often there is none


def put(path: str, text: bytes) -> None:
    """Write a file of ours anew, for our eyes alone. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with Descriptor(open_file(path, flags, link=False)) as new:
        write(new, text)


def opened(path: str, *, link: bool = True) -> Descriptor:
    """Return the file to read, open, for a `with`. Raises OSError."""
    return Descriptor(open_file(path, link=link))


def status(path: str) -> os.stat_result:
    """Return what lies at `path`, whatever it is; it is not opened. Raises OSError."""
    with Way(path) as way:
        return way.status()


def is_ours(path: str) -> bool:
    """Return whether nobody else can put anything at `path`. Raises OSError."""
    with Way(path) as way:
        return not way.is_shared


class Way:
    """The way to a file, up to its `directory`, where it is `name`. Raises OSError."""

    def __init__(self, path: str, link: bool = True) -> None:
        self.name = ""
        self.directory = -1
        self.is_shared = False  # others can put something here, or here elsewhere
        self._owners = {0, os.geteuid()}
        self._is_loose = False  # others can change the way that was gone
        self._path = path
        self._link = link

    def __enter__(self) -> Way:
        try:
            if not self._path or "\0" in self._path:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            self._enter("/")
            # A place that somebody has removed around us has no name: no need of one.
            is_whole = os.path.isabs(self._path)
            start = "" if is_whole else os.getcwd()
            self._go(_parts(os.path.join(start, self._path)))
        except OSError as error:
            self.__exit__(None, error)
            raise
        return self

    def __exit__(self, kind: object, error: object, trace: object = None) -> None:
        if isinstance(error, OSError):
            error.filename = self._told()
        if self.directory >= 0:
            os.close(self.directory)

    def _told(self) -> str:
        """Return the path, and what on the way it is about, if that is another name."""
        try:
            here = os.readlink(f"/proc/self/fd/{self.directory}")
        except OSError:
            return self._path  # not even /, or no /proc
        entry = os.path.normpath(f"{here}/{self.name}")
        is_same = entry == os.path.abspath(self._path)
        return self._path if is_same else f"{self._path}, at {entry}"

    def _go(self, parts: list[str]) -> None:
        links = 0
        while True:
            self.name = parts.pop()
            try:
                status = self.status()
            except FileNotFoundError:
                if parts:
                    raise
                return
            if stat.S_ISLNK(status.st_mode):
                links += 1
                parts += self._follow(status, links, is_last=not parts)
            elif parts:
                self._enter(self.name)
            else:
                return

    def _enter(self, name: str) -> None:
        here = self.directory  # -1: nowhere yet
        self.directory = os.open(name, _PASS, dir_fd=None if here < 0 else here)
        if here >= 0:
            os.close(here)
        status = os.fstat(self.directory)
        is_owned = status.st_uid in self._owners
        is_open = not is_owned or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if is_open and not (is_owned and status.st_mode & stat.S_ISVTX):
            self._is_loose = True
        self.is_shared = bool(is_open) or self._is_loose

    def _follow(self, status: os.stat_result, links: int, is_last: bool) -> list[str]:
        """Return the parts that a link leads to."""
        if links > _LONGEST_CHAIN:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if is_last and not self._link:
            raise Refused("a link: name the file that it leads to")
        if self._is_loose or status.st_uid not in self._owners:
            text = "a link that others could change: name the file that it leads to"
            raise Refused(text)
        target = os.readlink(self.name, dir_fd=self.directory)
        self._enter("/" if target.startswith("/") else ".")
        return _parts(target)

    def status(self) -> os.stat_result:
        """Return what lies at the end of the way."""
        return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)

    def open(self, flags: int) -> int:
        """Open what lies there, if that is a file."""
        if hasattr(os, "O_PATH"):  # Linux: to have it, and not to open it yet
            look = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
            with Descriptor(os.open(self.name, look, dir_fd=self.directory)) as handle:
                self._check(os.fstat(handle))
                if os.path.exists(f"/proc/self/fd/{handle}"):  # /proc is mounted
                    return _open_now(f"/proc/self/fd/{handle}", flags)
        seen = self.status()
        self._check(seen)
        descriptor = _open_now(self.name, flags | os.O_NOFOLLOW, self.directory)
        if os.path.samestat(seen, os.fstat(descriptor)):
            return descriptor
        os.close(descriptor)
        raise Refused("another file than a moment ago")

    def _check(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise Refused("no regular file")
        if self.is_shared and status.st_nlink > 1:
            raise Refused("a hard link that others could have made")


def _parts(path: str) -> list[str]:
    """Return the parts of a path, the last one first."""
    return [part for part in reversed(path.split("/")) if part] or ["."]
