"""Death records: what viagra-run knows of a command's instances and deaths, for others.

`deaths/NAME` in the state directory is one JSON object, replaced by rename:

    version   1
    name      NAME
    boot      the boot of the machine in which it was written
    instance  restarts so far; the first instance is 0
    runner    {"pid", "start"}: the process to signal; gone without an `end`: killed
    command   {"pid", "start"} of this instance
    started   when this instance began (seconds since the epoch)
    death     how the last instance ended that has ended, or null:
              {"at" (epoch), "instance", "pid", "exit" or null, "signal" or null,
               "core" (was core dumped), "ran" (seconds, time asleep included)}
    end       null while viagra-run is at work; else {"at", "finished"}: `finished` is
              true when the last instance ended as a plain exit 0

`start` counts in the kernel's units (Linux: clock ticks since boot, proc(5) stat,
field 22; else seconds since the epoch). A record may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time

from viagralib.base import files
from viagralib.base.messages import Fault, reason

VERSION = 1
_LARGEST = 65536  # bytes; ours are a few hundred


class Recorder:
    """Writes the record of one name. A failure costs the record, never the command."""

    def __init__(self, name: str) -> None:
        """Open the `deaths` directory; raises Fault when it cannot be used."""
        import json  # now, not when a restart is in a hurry

        from viagralib.state.directory import this_boot

        self._every = {"version": VERSION, "name": name, "boot": this_boot()}
        self._dumps = json.dumps
        self._name = name
        self._directory = _open_directory(state_directory())

    def write(self, record: dict[str, object]) -> None:
        """Replace the record. Raises OSError.

        It is not forced to the disk: that can take longer than a restart may, and
        after a crash of the machine no death before it matters.
        """
        text = self._dumps({**self._every, **record})
        new = f".{self._name}.{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(new, flags, 0o600, dir_fd=self._directory)
        try:
            os.write(file, text.encode() + b"\n")
        finally:
            os.close(file)
        os.replace(
            new, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory
        )


def read(state: str, name: str) -> dict[str, object] | None:
    """Return the record of `name`; None if there is none, or none that can be used.

    What another user owns or could have changed is not used.
    """
    from viagralib.state.directory import (
        parse_record,  # only on the day something is down
    )

    try:
        directory = _open_directory(state)
    except Fault:
        return None
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(name, flags, dir_fd=directory)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return None
            record = parse_record(files.rest(file, _LARGEST))
        finally:
            os.close(file)
    except (OSError, ValueError):
        return None
    finally:
        os.close(directory)
    return record if record.get("version") == VERSION else None


def check_name(name: str) -> None:
    """Raise Fault unless `name` can be a daemon's name, and so a file's."""
    if not name or name.startswith(".") or "/" in name or len(os.fsencode(name)) > 200:
        raise Fault("-n", f"{name!r} cannot be a daemon's name")
    if not name.isprintable():
        raise Fault("-n", "a daemon's name has no control characters")


def state_directory() -> str:
    """Return where the state is: $VIAGRA_STATE (set in hooks), else the default."""
    given = os.environ.get("VIAGRA_STATE")
    if given:
        return given
    from viagralib.settings.homes import find_state  # only with -n

    return find_state(None)


def now() -> float:
    """Return the time of day, in seconds since the epoch, to the millisecond."""
    return round(time.time(), 3)


def _open_directory(state: str) -> int:
    """Return a descriptor of `deaths` in the directory `state`; `deaths` is made."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        parent = os.open(state, flags)
    except OSError as error:
        raise Fault("", f"no state directory: {reason(error)}") from None
    try:
        _check_owner(parent, state)
        with contextlib.suppress(FileExistsError):
            os.mkdir("deaths", 0o700, dir_fd=parent)
        directory = os.open("deaths", flags | os.O_NOFOLLOW, dir_fd=parent)
    except OSError as error:
        raise Fault(state, f"no deaths directory: {reason(error)}") from None
    finally:
        os.close(parent)
    _check_owner(directory, os.path.join(state, "deaths"))
    return directory


def _check_owner(directory: int, path: str) -> None:
    """Raise Fault when another user could change what is in `directory`."""
    found = os.fstat(directory)
    if found.st_uid != os.geteuid():
        raise Fault(path, f"belongs to uid {found.st_uid}, not to {os.geteuid()}")
    if found.st_mode & 0o022:
        raise Fault(path, f"others can write there: chmod 0700 {path}")
