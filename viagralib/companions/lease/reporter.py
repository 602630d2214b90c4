"""What a keeper tells people: news, which --quiet keeps back, and troubles."""

from __future__ import annotations

from viagralib.companions.contract.companion import say
from viagralib.companions.lease.options import PROGRAM, Plan


class Reporter:
    """Tells of one resource; each thing once, until it is about something else."""

    def __init__(self, plan: Plan, name: str) -> None:
        self._is_quiet = plan.quiet
        self._name = name
        self._last = ""

    def news(self, text: str, about: str = "") -> None:
        """Tell what is in order; `about`: what stays equal where a text does not."""
        if not self._is_quiet:
            self.trouble(text, about)

    def trouble(self, text: str, about: str = "") -> None:
        """Tell what somebody may have to look after."""
        about = about or text
        if about != self._last:
            self._last = about
            say(PROGRAM, f"{self._name}: {text}")
