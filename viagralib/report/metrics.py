"""Metrics: one file in the text format of Prometheus, for node_exporter's textfile
collector, replaced in each run that is about all daemons, the quiet one included."""

from __future__ import annotations

import os
import stat
import time

from viagralib import VERSION
from viagralib.base import guarded_files, records
from viagralib.base.forked import within
from viagralib.base.messages import Fault, reason, safe
from viagralib.base.users import ordinary_users
from viagralib.processes.verdicts import UP, Verdict
from viagralib.state import incident_ids, keeper_records
from viagralib.state.directory import State
from viagralib.state.run_context import Run
from viagralib.trust.owners import walk

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Mapping

_Samples = dict[tuple[str, ...], float]  # by the values of a metric's labels
# Each metric: its kind, what it says, and its labels.
_METRICS = {
    "viagra_build_info": ("gauge", "The version of viagra.py.", ("version",)),
    "viagra_run_timestamp_seconds": ("gauge", "When the last run began.", ()),
    "viagra_run_duration_seconds": ("gauge", "How long the last run took.", ()),
    "viagra_run_interval_seconds": ("gauge", "How often cron should run it.", ()),
    "viagra_run_faults": ("gauge", "Faults in settings, facts and hooks.", ()),
    "viagra_daemon_up": (
        *("gauge", "Whether the daemon was up and well at the end of the last run."),
        ("daemon",),
    ),
    "viagra_daemon_verdict": (
        *("gauge", "The verdict on the daemon: up, down, sick or unknown."),
        ("daemon", "verdict"),
    ),
    "viagra_daemon_standing": (
        *("gauge", "Why the daemon is left alone, if it is."),
        ("daemon", "standing"),
    ),
    "viagra_daemon_restarts_total": (
        *("counter", "How often the daemon was restarted."),
        ("daemon",),
    ),
    "viagra_daemon_incident_timestamp_seconds": (
        *("gauge", "When the daemon's newest incident began."),
        ("daemon",),
    ),
    "viagra_lease_role_timestamp_seconds": (
        *("gauge", "Since when this machine's keeper of the lease has its role."),
        ("lease", "role"),
    ),
}


def write(
    run: Run,
    verdicts: Mapping[str, Verdict],
    standings: Mapping[str, str],
    faults: list[Fault],
) -> list[Fault]:
    """Replace the file; return why that cannot be, as a fault of the settings."""
    if run.is_narrowed or run.is_unsafe:
        return []
    path = run.settings.metrics
    text = _text(_samples(run, verdicts, standings, faults))

    def replace() -> bytes:
        try:
            _replace(run, path, text)
        except OSError as error:
            return reason(error).encode(errors="surrogateescape")
        return b""

    told = within(run.state.path, replace)  # who lists its directory may hold it
    why = _held(path) if told is None else os.fsdecode(told)
    text = f"[run] metrics: could not write {safe(path)}: {why}"
    return [Fault("viagra.toml", text)] if why else []


def _held(path: str) -> str:
    place = safe(os.path.dirname(path))
    return f"who has its directory open holds it up; see fuser {place}"


def _samples(
    run: Run,
    verdicts: Mapping[str, Verdict],
    standings: Mapping[str, str],
    faults: list[Fault],
) -> dict[str, _Samples]:
    names = list(run.settings.daemons)
    standings = dict.fromkeys(run.paused(), "paused") | dict(standings)
    counted = {*run.state.names("counts")} & {*names}
    incidents = incident_ids.newest(run.state.names("incidents"))
    found: dict[str, _Samples] = {name: {} for name in _METRICS}
    found["viagra_build_info"] = {(VERSION,): 1}
    found["viagra_run_timestamp_seconds"] = {(): round(run.began, 3)}
    took = round(time.monotonic() - run.first_look, 4)
    found["viagra_run_duration_seconds"] = {(): took}
    found["viagra_run_interval_seconds"] = {(): run.settings.every}
    found["viagra_run_faults"] = {(): len(faults)}
    for name in names:
        if verdict := verdicts.get(name):
            found["viagra_daemon_up"][name,] = verdict.word == UP
            found["viagra_daemon_verdict"][name, verdict.word] = 1
        if standing := standings.get(name):
            found["viagra_daemon_standing"][name, standing] = 1
        restarts = run.state.count(name) if name in counted else 0
        found["viagra_daemon_restarts_total"][name,] = restarts
        if name in incidents:
            began = incident_ids.began_at(incidents[name])
            found["viagra_daemon_incident_timestamp_seconds"][name,] = began
    found["viagra_lease_role_timestamp_seconds"] = _leases(run.state)
    return found


def _leases(state: State) -> _Samples:
    found: _Samples = {}
    for name in state.names("leases"):
        keeper = keeper_records.keeper(state.path, name)
        since = records.number(keeper, "since")
        if since is not None:
            found[name, str(keeper.get("role"))] = since
    return found


def _text(found: dict[str, _Samples]) -> str:
    lines = []
    for metric, (kind, help_text, labels) in _METRICS.items():
        if not found[metric]:
            continue
        lines += [f"# HELP {metric} {help_text}", f"# TYPE {metric} {kind}"]
        for values, number in found[metric].items():
            pairs = [f'{k}="{_quoted(v)}"' for k, v in zip(labels, values, strict=True)]
            braces = f"{{{','.join(pairs)}}}" if pairs else ""
            lines.append(f"{metric}{braces} {number:.15g}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return safe(text).replace("\\", "\\\\").replace('"', '\\"')


def _replace(run: Run, path: str, text: str) -> None:
    """Replace a file that others may read. Raises OSError.

    Debian's directory belongs to a service's user. That one may do what it likes with
    its own files; in a person's, or everybody's, there is nothing to be written.
    """
    place = os.path.dirname(path)
    if why := run.observer.trust.why_not(place):
        people, _ = ordinary_users()
        *way, last = map(os.lstat, walk(place))
        loose = [one for one in way if not one.st_mode & stat.S_ISVTX] + [last]
        is_open = any(one.st_mode & (stat.S_IWOTH | stat.S_IWGRP) for one in loose)
        if is_open or any(one.st_uid >= people for one in (*way, last)):
            raise OSError(None, why)
    guarded_files.replace(path, text.encode(), mode=0o644)
