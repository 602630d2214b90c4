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
import time

from viagralib.base import guarded_files, records
from viagralib.base.messages import Fault, reason

VERSION = 1


class Recorder:
    """Writes the record of one name. A failure costs the record, never the command."""

    def __init__(self, name: str) -> None:
        """Make the `deaths` directory; raises Fault when it cannot be used."""
        import json  # noqa: F401  now, not when a restart is in a hurry

        from viagralib.state.directory import check_ours, this_boot

        self._every = {"version": VERSION, "name": name, "boot": this_boot()}
        place = f"{os.path.abspath(state_directory())}/deaths"
        self._path = f"{place}/{name}"
        try:
            check_ours(os.path.dirname(place))
            with contextlib.suppress(FileExistsError):
                os.mkdir(place, 0o700)
            if os.path.islink(place):
                raise Fault(place, "is a link: make it a directory")
            check_ours(place)
        except OSError as error:
            raise Fault("", f"no directory for it: {reason(error)}") from None

    def write(self, record: dict[str, object]) -> None:
        """Replace the record. Raises OSError.

        It is not forced to the disk: that can take longer than a restart may, and
        after a crash of the machine no death before it matters.
        """
        records.write(self._path, {**self._every, **record})


def read(state: str, name: str) -> records.Record:
    """Return the record of `name`; {} if there is none, or none that can be used.

    What another user owns or could have changed is not used.
    """
    path = f"{state}/deaths/{name}"
    try:
        record = records.read(path) if guarded_files.is_ours(path) else {}
    except OSError:
        return {}
    return record if record.get("version") == VERSION else {}


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
