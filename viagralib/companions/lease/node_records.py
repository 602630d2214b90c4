"""What a node remembers of its leases: forbidden, at rest, and which keeper it has.

Files in `leases/NAME/` of the state directory, which may be deleted at any time:

    forbidden    somebody said `viagra-lease forbid`
    rest         until when this node is not to try again, after the command ended;
                 with a pid, that keeper, so that others have their turn
    keeper       the keeper that is here: role, pid and start time, since
"""

from __future__ import annotations

import os
import signal
import time

from viagralib.base import records
from viagralib.base.clocks import boot_clock
from viagralib.base.records import Record
from viagralib.processes import table
from viagralib.processes.pidfd import send
from viagralib.state import keeper_records
from viagralib.state.directory import this_boot

INIT, SECONDARY, PRIMARY = "init", "secondary", "primary"  # hastmon's words


class NodeRecords:
    """The files of one resource on this node."""

    def __init__(self, state: str, name: str) -> None:
        self._state, self._name = state, name
        self._directory = f"{state}/leases/{name}"

    def prepare(self) -> None:
        """Make the directory. Raises OSError."""
        above = os.path.dirname(self._directory)
        for place in (os.path.dirname(above), above, self._directory):
            os.makedirs(place, mode=0o700, exist_ok=True)

    @property
    def is_forbidden(self) -> bool:
        """Whether this node must not have the lease."""
        return os.path.lexists(f"{self._directory}/forbidden")

    def forbid(self) -> None:
        """Forbid it, and let the keeper know. Raises OSError."""
        self.prepare()
        records.write(f"{self._directory}/forbidden", {"since": time.time()})
        self._nudge()

    def allow(self) -> None:
        """Allow it again, now; also what rests is to try. Raises OSError."""
        for kind in ("forbidden", "rest"):
            try:
                os.unlink(f"{self._directory}/{kind}")
            except FileNotFoundError:
                pass
        self._nudge()

    def rest(self, seconds: float, pid: int = 0) -> None:
        """Have this node, or one keeper here, not try for so long. Raises OSError."""
        until = boot_clock() + seconds
        record: Record = {"boot": this_boot(), "until": until, "pid": pid}
        records.write(f"{self._directory}/rest", record)

    def rest_left(self, pid: object = 0) -> float:
        """Return for how many seconds more this node, or keeper, is not to try."""
        record = records.read(f"{self._directory}/rest")
        until = records.number(record, "until")
        is_ours = (records.integer(record, "pid") or 0) in {0, pid}
        if record.get("boot") != this_boot() or until is None or not is_ours:
            return 0.0
        return max(0.0, until - boot_clock())

    def note_role(self, role: str) -> None:
        """Note that this process is the keeper, and its role. Raises OSError.

        Another keeper here stays the one that is noted, until this is primary.
        """
        if role != PRIMARY and self.keeper().get("pid", os.getpid()) != os.getpid():
            return
        own = table.find(os.getpid())
        record: Record = {
            "role": role,
            "pid": os.getpid(),
            "start": own.start if own else 0,
            "since": time.time(),
        }
        records.write(f"{self._directory}/keeper", record)

    def keeper(self) -> Record:
        """Return what the keeper noted; {} when there is none that lives."""
        return keeper_records.keeper(self._state, self._name)

    def _nudge(self) -> None:
        """Have the keeper look at these files now."""
        pid = records.integer(self.keeper(), "pid")
        found = table.find(pid) if pid is not None else None
        if found:
            send(found, signal.SIGIO)
