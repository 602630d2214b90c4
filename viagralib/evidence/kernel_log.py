"""The kernel's log: its lines, and what they say of a process that it killed."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Container, Iterable
from typing import NamedTuple

from viagralib.base import files
from viagralib.base.clocks import awake_clock

_RECORD = 8192  # bytes: the longest record of /dev/kmsg (kernel: printk, dev-kmsg)
_LONGEST_LOG = 20_000  # records; the ring is far smaller, but a flood must end
# What the kernel says of a death that it caused or saw. The name is the one that the
# process had, cut at 15 bytes, and anybody can choose it.
_WHO = r"(?P<name>.*)\[(?P<pid>\d{1,10})\]: "
_AUDIT = r"^audit: type={} .* pid=(?P<pid>\d{{1,10}}) comm=\"(?P<name>[^\"]*)\" .*"
_DEATHS = tuple(
    (cause, re.compile(pattern))
    for cause, pattern in (
        (
            "out of memory",
            r"^(?:Memory cgroup o|O)ut of memory: "
            r"Kill(?:ed)? process (?P<pid>\d{1,10}) \((?P<name>.*?)\)",
        ),
        # x86, sparc, powerpc; riscv and older powerpc; arm64.
        ("segmentation fault", f"^{_WHO}(?:segfault|unhandled signal 11) "),
        ("segmentation fault", f"^{_WHO}unhandled level \\d translation fault "),
        ("", f"^{_WHO}(?P<what>unhandled exception: [^,]*|unhandled signal \\d+)"),
        ("", f"^{_WHO}(?P<what>undefined instruction|illegal instruction|bad frame)"),
        ("trap", r"^traps: (?P<name>.*)\[(?P<pid>\d{1,10})\] (?P<what>[a-z ]+?) ip:"),
        # 32-bit arm.
        ("", r"^(?P<name>.*) \((?P<pid>\d{1,10})\): (?P<what>undefined instruction)"),
        # <linux/audit.h>: AUDIT_SECCOMP, where sig=0 is logged alone, and ANOM_ABEND.
        ("a system call that seccomp forbids", _AUDIT.format(1326) + r"sig=[1-9]"),
        ("", _AUDIT.format(1701) + r"(?P<what>sig=\d+)"),
        (
            "broken memory",
            r"^(?:Memory failure|MCE).*: (?:Killing|Sending SIGBUS to) "
            r"(?P<name>.*):(?P<pid>\d{1,10}) due to hardware memory corruption",
        ),
    )
)


# Whose limit it was, told just before such a death: "/system.slice/food.service".
_LIMIT = re.compile(
    r"^oom-kill:constraint=CONSTRAINT_MEMCG,.*?,oom_memcg=(/[^,]*),.*,pid=(\d{1,10}),"
)


class Line(NamedTuple):
    """One line of the kernel's log; `at` is in seconds since 1970."""

    at: float
    text: str

    def date(self) -> str:
        return time.strftime("%b %e %H:%M:%S", time.localtime(self.at))


class Death(NamedTuple):
    """What the kernel says of one process's end."""

    at: float
    cause: str
    name: str
    pid: int


def read() -> list[Line]:
    """Return what the kernel's ring still holds, oldest first. Raises OSError."""
    booted = time.time() - awake_clock()
    descriptor = files.open_system("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    lines = []
    try:
        for _ in range(_LONGEST_LOG):
            try:
                lines.append(parse(os.read(descriptor, _RECORD), booted))
            except BrokenPipeError:
                continue  # overwritten while we read: the next one is there
            except BlockingIOError:
                break
    finally:
        os.close(descriptor)
    return lines


def parse(record: bytes, booted: float) -> Line:
    """Return a record of the form "6,123,4567890,-;text", its time in microseconds."""
    prefix, _, rest = record.partition(b";")
    fields = prefix.split(b",")
    stamp = fields[2] if len(fields) > 2 else b""
    micro = int(stamp) if stamp.isdigit() and len(stamp) < 18 else 0
    text = rest.split(b"\n", 1)[0].decode(errors="surrogateescape")
    return Line(booted + micro / 1e6, text)


def find_death(
    lines: Iterable[Line], name: str, since: float, pids: Container[int] = ()
) -> Death | None:
    """Return the last death of a process of this name, not before `since`.

    One of these pids comes first: anybody's process may have that name.
    """
    last = None
    newest_first = [line for line in reversed(list(lines)) if line.at >= since]
    for line in newest_first:
        # Thousands of lines say other things: only a few are worth a pattern.
        death = _death(line) if name in line.text else None
        if death and death.name == name:
            last = death if death.pid in pids else last or death
            if death.pid in pids:
                break
    return _with_limit(last, newest_first) if last else None


def _with_limit(death: Death, lines: Iterable[Line]) -> Death:
    """Return a death for want of memory with the control group whose limit it was."""
    for line in lines if death.cause == "out of memory" else ():
        found = _LIMIT.search(line.text) if line.text.startswith("oom-kill:") else None
        if found and int(found[2]) == death.pid:
            group = os.path.basename(found[1])
            is_unit = group.endswith((".service", ".slice", ".scope"))
            limit = f"MemoryMax= of {group}" if is_unit else f"limit of {group}"
            return death._replace(cause=f"out of memory, by the {limit}")
    return death


def _death(line: Line) -> Death | None:
    for cause, pattern in _DEATHS:
        if found := pattern.search(line.text):
            what = found.groupdict().get("what") or cause
            what = what.replace("sig=", "signal ")
            return Death(line.at, what, found["name"], int(found["pid"]))
    return None
