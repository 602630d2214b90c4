"""URLs that a daemon must answer with success: asked in threads of their own.

Neither a name server nor a daemon that hangs keeps a run waiting beyond the deadline:
a thread that has no answer by then is left behind, and ends with the run.
"""

from __future__ import annotations

import socket
import threading

from viagralib.base import http_answer
from viagralib.base.messages import reason
from viagralib.health.findings import WELL, Finding
from viagralib.health.socket_owners import why_not_its
from viagralib.processes.linux import Process
from viagralib.processes.verdicts import SICK, UNKNOWN


class Request:
    """A URL that must answer with 2xx within `seconds`, by no stranger's socket."""

    def __init__(self, url: str, seconds: float, processes: list[Process]) -> None:
        """Of who else listens there, as a proxy may be meant to, it is unknown."""
        self._url = url
        self._processes = processes
        self._seconds = seconds
        self.finding = Finding(SICK, f"{url}: no answer in time")
        self._answered = threading.Event()
        try:
            threading.Thread(target=self._ask, daemon=True).start()
        except RuntimeError as error:  # no more threads for us
            self._end(UNKNOWN, str(error))

    def is_over(self, late: bool) -> bool:
        """Return whether the finding stands; when it is `late`, it does."""
        return late or self._answered.is_set()

    def close(self) -> None:
        """Nothing is to be ended: see above."""

    def _ask(self) -> None:
        def why_stranger(connection: socket.socket) -> str:
            return why_not_its(connection, self._processes)

        try:
            address = http_answer.parse(self._url)
            why = http_answer.why_not(address, self._seconds, why_stranger)
        except http_answer.StrangerError as error:
            self._end(UNKNOWN, str(error))
        except OSError as error:
            self._end(UNKNOWN, f"could not be asked: {reason(error)}")
        else:
            self._end(SICK if why else WELL, why or "")

    def _end(self, word: str, why: str) -> None:
        self.finding = Finding(word, f"{self._url}: {why}")
        self._answered.set()
