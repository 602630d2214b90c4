"""The page of status: one HTML file that needs nothing else, and runs nothing."""

from __future__ import annotations

import os
import time
from html import escape

from viagralib import VERSION
from viagralib.base import records
from viagralib.base.clocks import date
from viagralib.base.durations import spell
from viagralib.base.messages import safe
from viagralib.base.records import Record
from viagralib.processes.verdicts import UP
from viagralib.recovery.recovery import BACK, CAME_BACK
from viagralib.report import last_run
from viagralib.report.verdict_lines import Overview, since, user
from viagralib.state import incidents

DAYS = 90  # of the strip
NEWEST = 20  # incidents that are listed
# What a day was like: green, amber, red; grey where no incident of it is kept.
_WELL, _RESTARTED, _BAD, _UNKNOWN = "well", "back", "bad", "none"
_STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1f2328; --soft: #59636e;
  --line: #d1d9e0; --well: #1a7f37; --back-day: #9a6700; --bad: #cf222e;
  --none: #eaeef2 }
@media (prefers-color-scheme: dark) { :root { --back: #0d1117; --text: #f0f6fc;
  --soft: #9198a1; --line: #3d444d; --well: #3fb950; --back-day: #d29922;
  --bad: #f85149; --none: #262c36 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--back);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 0 }
p { margin: .25rem 0 } .soft { color: var(--soft) }
section, li { border-top: 1px solid var(--line); padding: .75rem 0 }
ol { list-style: none; padding: 0; margin: 0 }
.head { display: flex; flex-wrap: wrap; gap: 0 .75rem; align-items: baseline }
.word { font-weight: 600 } .word.well { color: var(--well) }
.word.back { color: var(--back-day) } .word.bad { color: var(--bad) }
.strip { display: grid; grid-template-columns: repeat(90, 1fr); height: 1.75rem;
  margin: .5rem 0 0 }
.strip span { border-right: 1px solid var(--back); background: var(--none) }
.strip .well { background: var(--well); opacity: .55 }
.strip .back { background: var(--back-day) } .strip .bad { background: var(--bad) }
.ends { display: flex; justify-content: space-between; font-size: .8rem }
"""


class Page:
    """What the page is made of: what a look found, and the records of incidents."""

    def __init__(self, overview: Overview) -> None:
        self.run = run = overview.run
        self.verdicts = overview.verdicts
        self.standings = overview.standings
        self.owners = overview.owners
        self.faults = overview.faults
        self.now = time.time()
        found = map(self._record, reversed(run.state.names("incidents")))
        self.records = [one for one in found if one]  # newest first

    def text(self) -> str:
        host = _text(os.uname().nodename)
        state = self._state_of_all()
        daemons = "".join(self._daemon(name) for name in self.run.names)
        newest = "".join(map(_incident, self.records[:NEWEST]))
        faults = "".join(f"<p>{_text(fault)}</p>" for fault in self.faults)
        return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'">
<title>{host}: {state}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{host}: {state}</h1>
<p class="soft">Written {_text(date(self.now))}; {_text(last_run.tell(self.run))}</p>
{f'<p class="word bad">To mend:</p>{faults}' if faults else ""}
</header>
<main>
{daemons or "<p>Nothing is watched.</p>"}
<section><h2>Newest incidents</h2></section>
<ol>{newest or "<li>None.</li>"}</ol>
</main>
<footer><p class="soft">viagra.py {VERSION}</p></footer>
</body>
</html>"""

    def _record(self, incident_id: str) -> Record | None:
        incident = incidents.load(self.run.state, incident_id)
        if incident is None or incident.daemon not in self.run.names:
            return None
        return incident.record

    def _state_of_all(self) -> str:
        names = self.run.settings.daemons
        down = [one for one in names if self._word(one)[1] == _BAD]
        if len(down) == 1:
            return f"{_text(down[0])} is not up"
        if down:
            return f"{len(down)} daemons are not up"
        if last_run.is_overdue(self.run):
            return "nobody watches"
        return "faults to mend" if self.faults else "all is well"

    def _word(self, name: str) -> tuple[str, str]:
        """Return how a daemon is, in one or two words, and how good that is."""
        verdict, standing = self.verdicts.get(name), self.standings.get(name, "")
        word = verdict.word if verdict else ""
        if name in self.run.settings.set_aside:
            return "off", _UNKNOWN
        if not verdict and not standing:
            return "faulty", _BAD
        words = ", ".join(filter(None, (word, standing.partition(":")[0])))
        alarming = word in ("", UP) or standing and not standing.startswith("held")
        kind = _WELL if word == UP else _RESTARTED
        return words, kind if alarming else _BAD

    def _daemon(self, name: str) -> str:
        verdict = self.verdicts.get(name)
        words, kind = self._word(name)
        facts = [self.standings.get(name, "").partition(": ")[2]]
        if verdict:
            began = since(verdict)
            pids = ", ".join(str(one.pid) for one in verdict.processes()[:5])
            facts.append(verdict.reason)
            facts.append(f"pid {pids}, user {user(verdict)}" if pids else "")
            facts.append(f"since {date(began)}" if began else "")
            owner = self.owners.get(name)
            facts.append(f"owned by {owner}" if owner else "")
        recent = self.run.state.recent(name)
        total = self.run.state.count(name)
        facts.append(f"restarts: {total}, {recent} in 24 hours" if total else "")
        return f"""<section>
<div class="head"><h2>{_text(name)}</h2><span class="word {kind}">{_text(words)}</span>
</div>
<p class="soft">{_text("; ".join(filter(None, facts)))}</p>
{self._strip(name)}
</section>
"""

    def _strip(self, name: str) -> str:
        """Return a strip of days, the last one today, with what happened on hover."""
        days: dict[str, list[Record]] = {}
        for record in self.records:
            if record["daemon"] == name:
                days.setdefault(_day(record.get("began")), []).append(record)
        cells = []
        year, month, today = time.localtime(self.now)[:3]
        for ago in range(DAYS - 1, -1, -1):
            # Noon, which every day has, however long it is.
            moment = time.mktime((year, month, today - ago, 12, 0, 0, 0, 0, -1))
            of_day = days.get(_day(moment), [])
            told = [_day(moment), *map(_told, reversed(of_day))]
            kind = _kind(of_day) if of_day else self._kind_of_calm(moment)
            cells.append(f'<span class="{kind}" title="{_text(chr(10).join(told))}">')
        number = sum(map(len, days.values()))
        label = f"{_text(name)}: {number} incidents kept of the last {DAYS} days"
        return (
            f'<div class="strip" role="img" aria-label="{label}">'
            f"{'</span>'.join(cells)}</span></div>"
            f'<div class="ends soft"><span>{DAYS} days ago</span>'
            "<span>today</span></div>"
        )

    def _kind_of_calm(self, moment: float) -> str:
        """Return what a day was like of which no incident is kept."""
        is_full = len(self.records) >= self.run.settings.keep
        oldest = _began(self.records[-1]) if is_full else 0.0
        return _UNKNOWN if moment < oldest else _WELL


def _incident(record: Record) -> str:
    return f"""<li><div class="head"><strong>{_text(str(record["daemon"]))}</strong>
<span class="word {_kind([record])}">{_text(_result(record))}</span>
<span class="soft">{_text(date(record.get("began")))}</span></div>
<p>{_text(_why(record))}</p></li>
"""


def _kind(records: list[Record]) -> str:
    good = all(one.get("result") in (BACK, CAME_BACK) for one in records)
    return _RESTARTED if good else _BAD


def _told(record: Record) -> str:
    clock = time.strftime("%H:%M", time.localtime(_began(record)))
    return f"{clock} {_result(record)}; {_why(record)}"


def _result(record: Record) -> str:
    """Return what was seen, how that ended, and how long the start took."""
    words = f"{record.get('verdict')}, {record.get('result') or 'did not finish'}"
    if seconds := records.number(record, "seconds"):
        words += f" in {spell(seconds)}"
    return words


def _why(record: Record) -> str:
    cause = record.get("cause")
    return f"{record.get('reason')}" + (f"; cause: {cause}" if cause else "")


def _began(record: Record) -> float:
    return records.number(record, "began") or 0.0


def _day(moment: object) -> str:
    moment = moment if isinstance(moment, int | float) else 0.0
    return time.strftime("%Y-%m-%d", time.localtime(moment))


def _text(text: str) -> str:
    """Return a text as part of the page: nothing in it is taken for HTML."""
    return "&#10;".join(escape(safe(line)) for line in text.split("\n"))
