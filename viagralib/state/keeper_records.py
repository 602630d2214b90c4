"""What viagra-lease's keepers on this node note of themselves: leases/NAME/keeper."""

from __future__ import annotations

from viagralib.base import records
from viagralib.base.records import Record
from viagralib.processes import table


def keeper(state: str, name: str) -> Record:
    """Return what the keeper of a lease noted: its role, since, pid and start time.

    {} when there is none that lives.
    """
    record = records.read(f"{state}/leases/{name}/keeper")
    pid = records.integer(record, "pid") or 0
    found = table.find(pid) if pid > 0 else None
    return record if found and found.start == record.get("start") else {}
