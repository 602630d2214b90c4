"""A command's output in a file that can be rotated: it comes through a pipe.

The command holds the pipe, never the file, so the file can be opened anew while the
command runs, as newsyslog(8) and logrotate(8) expect after they moved it away.
"""

from __future__ import annotations

import contextlib
import os

from viagralib.base import guarded_files
from viagralib.base.messages import Fault, reason
from viagralib.companions.contract import signals, spawn

_AT_ONCE = 65536  # bytes: what a pipe holds


class OutputFile:
    """`path`, and the pipe that leads to it; `entrance` is the command's end."""

    def __init__(self, path: str, user: spawn.User | None) -> None:
        """Open `path` for appending; it may belong to root, us or `user` only.

        Where others can change what lies there, it is opened as `user`. Raises Fault.
        """
        # Absolute: a later change of directory must not change which file it is.
        self._path = os.path.abspath(path)
        self._user = user
        self._owners = {0, os.geteuid()} | ({user.uid} if user else set())
        self._file = self._open()
        self._is_lossy = False
        self._exit, self.entrance = os.pipe()
        signals.watch(self._exit)

    def reopen(self) -> str | None:
        """Go on in a new file of that name; return why not, and keep the old one."""
        try:
            file = self._open()
        except Fault as fault:
            return str(fault)
        os.close(self._file)
        self._file = file
        return None

    def copy(self) -> str | None:
        """Move what is in the pipe to the file; return why not, once until something
        could be written again. Never blocks.

        What cannot be written (full disk) is lost, so that the command goes on.
        """
        trouble = None
        while True:
            try:
                text = os.read(self._exit, _AT_ONCE)
            except BlockingIOError:
                return trouble
            try:
                while text:
                    text = text[os.write(self._file, text) :]
                self._is_lossy = False
            except OSError as error:
                if not self._is_lossy:
                    trouble = f"{self._path}: output lost: {reason(error)}"
                self._is_lossy = True

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        role = None
        try:
            if self._user and not guarded_files.is_ours(self._path):
                role = self._user  # who may change what lies there, at any moment
            with role.acting() if role else contextlib.nullcontext():
                file = guarded_files.open_file(self._path, flags, 0o640, link=False)
        except OSError as error:
            whose = f" as {role.name}" if role else ""
            text = f"could not open{whose}: {reason(error)}"
            raise Fault(self._path, text) from None
        found = os.fstat(file)
        fault = None
        if found.st_uid not in self._owners:
            fault = f"belongs to uid {found.st_uid}"
        elif found.st_nlink != 1:
            fault = "has a second name (hard link)"
        if fault:
            os.close(file)
            raise Fault(self._path, fault)
        return file
