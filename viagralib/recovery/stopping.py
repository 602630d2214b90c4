"""Stopping a daemon by signals: whom to warn, whom to spare."""

from __future__ import annotations

from collections.abc import Generator

from viagralib.processes import table
from viagralib.processes.linux import Process
from viagralib.processes.tree import ProcessTree, end
from viagralib.settings.facts import Facts


def by_signals(
    tree: ProcessTree, stopped: list[Process], facts: Facts
) -> Generator[None, object, list[Process]]:
    """Warn the topmost, wait, kill the rest of the tree; return what still lives."""
    try:
        return (
            yield from end(
                tree, topmost(stopped), facts.warn_signal, facts.stop_timeout
            )
        )
    except PermissionError:
        return tree.living()


def topmost(processes: list[Process]) -> list[Process]:
    """Return those whose parent is none of them."""
    pids = {one.pid for one in processes}
    return [one for one in processes if one.parent not in pids]


def ourselves(own_pid: int, ended: list[Process]) -> set[int]:
    """Return the pids of this run and of what it descends from, but for `ended`.

    Under cron, the daemon cron is an ancestor of ours: it may have to be ended, but
    not the job that we are part of.
    """
    pids: set[int] = set()
    pid = own_pid
    while pid > 1 and pid not in pids:
        pids.add(pid)
        process = table.find(pid)
        pid = process.parent if process else 0
    return pids - {one.pid for one in ended}
