"""The record that one viagra-run writes of its command's instances, in `deaths`."""

from __future__ import annotations

import os

from viagralib.base.clocks import boot_clock
from viagralib.companions.contract.process_contract import Death
from viagralib.companions.run.instance import Instance
from viagralib.processes import table
from viagralib.state.death_records import Recorder, now


class InstanceRecord:
    """Counts the instances and writes the record, where there is a recorder."""

    def __init__(self, recorder: Recorder | None, runner: int) -> None:
        """`runner` is the pid to which signals for the command are to be sent."""
        self._recorder = recorder
        self._runner = table.find(runner)
        self._first = first_instance()
        self.restarts = 0
        self._death: dict[str, object] | None = None

    @property
    def number(self) -> int:
        """How often the command has been restarted, before this run too."""
        return self._first + self.restarts

    def note_death(self, instance: Instance, death: Death) -> None:
        """Note how an instance ended; it is written with the next one's start."""
        self._death = {
            "at": now(),
            "instance": self.number,
            "pid": death.pid,
            "exit": death.code,
            "signal": death.signal,
            "core": death.core,
            "ran": round(boot_clock() - instance.began, 3),
        }

    def write(self, instance: Instance, end: dict[str, object] | None = None) -> None:
        """Replace the record; `end` is given when none follows. Raises OSError."""
        if not self._recorder:
            return
        runner = self._runner
        self._recorder.write(
            {
                "instance": self.number,
                "runner": runner and {"pid": runner.pid, "start": runner.start},
                "command": {"pid": instance.pid, "start": instance.start},
                "started": instance.began_at,
                "death": self._death,
                "end": end,
            }
        )


def first_instance() -> int:
    """Return how often viagra.py has restarted the daemon before, if it says so."""
    text = os.environ.get("VIAGRA_INSTANCE", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
