"""Evidence: what the machine looks like before anything is touched."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Container, Iterable

from viagralib.base import durations
from viagralib.base.messages import reason, trouble
from viagralib.base.users import runtime_directory
from viagralib.evidence import kernel_log, service_manager
from viagralib.hooks import child_process
from viagralib.processes.pidfd import is_past_killing
from viagralib.settings.viagra_toml import Settings
from viagralib.state.hook_log import create_roomy, memory
from viagralib.trust.gate import Gate, Program

LARGEST = 4_000_000  # bytes of each capture; ps on a huge machine stays below it
# Taken besides the commands of viagra.toml, by the first of them that is there.
DISKS = ("df -Pl", "df -l")  # -l: a network file system that is gone hangs df
SOCKETS = ("ss -tulnp", "sockstat -l", "netstat -an")
KERNEL_LOG_LINES = 200


class Capture:
    """One command's output: a file of the incident while there is room for it."""

    def __init__(self, name: str, output: int) -> None:
        self.name = name
        self.output = output
        self.child: child_process.Child | None = None
        self.problem = ""
        self.killed = 0.0  # by time.monotonic(): when it was out of time
        self.may_fail = False  # it has mostly nothing to tell

    def text(self) -> str:
        """Return what the command printed; "" when it cannot be read."""
        try:
            size = os.fstat(self.output).st_size
            return os.pread(self.output, size, 0).decode(errors="surrogateescape")
        except (OSError, MemoryError):
            return ""


class Evidence:
    """What one run captures as evidence, side by side, each limited in time."""

    def __init__(self, settings: Settings, gate: Gate, directory: str) -> None:
        self.directory = directory
        self.captures: dict[str, Capture] = {}
        self.problems: list[str] = []
        self.kernel_log: list[kernel_log.Line] = []
        self.is_told = False  # by a notice of this run: what is no daemon's own
        self._is_discarded = False
        self._timeout = settings.evidence_timeout
        self._gate = gate
        self._commands = settings.commands

    def begin(self, units: Iterable[str], cores: dict[str, str]) -> None:
        """Start every command, and read the kernel's log meanwhile.

        Of each of the service manager's `units`, how it ended and its journal; `cores`
        are commands that tell of core dumps, by the file of each.
        """
        for command in self._commands:
            try:
                stem = os.path.basename(shlex.split(command)[0])
            except (ValueError, IndexError):
                self.problems.append(f"no command: {command!r}")
                continue
            self._start(_file_name(stem, self.captures), (command,))
        for unit in units if service_manager.is_there() else ():
            self._start(unit_file(unit), (service_manager.show_command(unit),))
            self._start(journal_file(unit), (service_manager.journal_command(unit),))
        for name, command in cores.items() if service_manager.is_there() else ():
            self._start(name, (command,), may_fail=True)
        self._start("disks.txt", DISKS)
        self._start("sockets.txt", SOCKETS)
        if sys.platform.startswith("linux"):
            self._keep_kernel_log()
        else:
            self._start("kernel.txt", ("dmesg",))

    def begin_after_start(self, unit: str, since: float) -> None:
        """Start to capture a unit's journal since a start, in seconds since 1970."""
        if service_manager.is_there():
            command = f"{service_manager.journal_command(unit)} --since=@{int(since)}"
            self._start(journal_file(unit, after_start=True), (command,))

    def poll(self) -> bool:
        """Return whether all of it is taken, or out of time."""
        # A list, not a generator: each is limited in time by being asked.
        return all([self._is_over(capture) for capture in self.captures.values()])

    def finish(self) -> None:
        """Wait until all of it is taken, at most for the time limit of each capture."""
        while not self.poll():
            time.sleep(0.02)
        if self._is_discarded:
            shutil.rmtree(self.directory, ignore_errors=True)

    def text(self, name: str) -> str:
        """Return one capture, by the name of its file; "" when there is none."""
        return self.captures[name].text() if name in self.captures else ""

    def share(self, directory: str) -> None:
        """Put the captures into another incident of this run as well."""
        if not self.directory or not directory or directory == self.directory:
            return
        for name in self.captures:
            try:
                os.link(f"{self.directory}/{name}", f"{directory}/{name}")
            except FileExistsError:
                continue  # shared before
            except OSError as error:
                self.problems.append(f"{name}: {reason(error)}")

    def discard(self, directory: str) -> None:
        """Remove an incident of this run; the one with the captures is hidden until
        the end, for others may still share them."""
        if directory != self.directory:
            shutil.rmtree(directory, ignore_errors=True)
            return
        place, name = os.path.split(directory)
        with contextlib.suppress(OSError):
            os.rename(directory, f"{place}/.{name}")
            self.directory = f"{place}/.{name}"
        self._is_discarded = bool(directory)

    def _start(
        self, name: str, commands: tuple[str, ...], may_fail: bool = False
    ) -> None:
        path = self._gate.search_path
        environment = {"PATH": path, "LC_ALL": "C", "COLUMNS": "200"}
        environment |= runtime_directory()
        called = shlex.split(commands[0])[0]
        try:
            program, (called, *arguments) = self._find(commands)
            capture = Capture(name, self._open(name))
        except OSError as error:
            is_option = may_fail or len(commands) > 1
            if not (is_option and isinstance(error, FileNotFoundError)):  # `test` notes
                self.problems.append(f"{called}: {reason(error)}")
            return
        self.captures[name] = capture
        capture.may_fail = may_fail
        try:
            capture.child = child_process.start(
                self._gate, program, arguments, capture.output, environment, LARGEST
            )
            capture.child.release()
        except OSError as error:
            capture.problem = reason(error)
            self.problems.append(f"{called}: {reason(error)}")

    def _find(self, commands: tuple[str, ...]) -> tuple[Program, list[str]]:
        """Return the first that is there, and its words. Raises OSError."""
        for words in map(shlex.split, commands):
            with contextlib.suppress(FileNotFoundError):
                return self._gate.find(words[0]), words
        raise FileNotFoundError(errno.ENOENT, "not found")

    def _open(self, name: str) -> int:
        """Return where a capture goes: memory, when the disk has no room for it."""
        if self.directory:
            try:
                return create_roomy(f"{self.directory}/{name}", os.O_RDWR)
            except OSError as error:
                self.problems.append(f"{name}: {reason(error)}")
        return memory(name)

    def _is_over(self, capture: Capture) -> bool:
        child = capture.child
        if child is None or capture.problem:
            return True
        if child.poll():
            capture.problem = _how_it_failed(capture, child) or "-"
        elif child.seconds() > self._timeout:
            capture.killed = capture.killed or time.monotonic()
            child.kill()
            if is_past_killing(child.tree.members(), time.monotonic() - capture.killed):
                capture.problem = f"cannot be ended (pid {child.process.pid})"
        if capture.problem not in ("", "-") and not capture.may_fail:
            self.problems.append(f"{os.path.basename(child.path)}: {capture.problem}")
        return bool(capture.problem)

    def _keep_kernel_log(self) -> None:
        try:
            self.kernel_log = kernel_log.read()
            capture = Capture("kernel.txt", self._open("kernel.txt"))
            self.captures[capture.name] = capture
            lines = self.kernel_log[-KERNEL_LOG_LINES:]
            text = "".join(f"{line.date()} {line.text}\n" for line in lines)
            os.write(capture.output, text.encode(errors="surrogateescape"))
        except (OSError, MemoryError) as error:
            self.problems.append(f"kernel log: {trouble(error)}")


def unit_file(unit: str) -> str:
    """Return the capture that tells how a unit ended."""
    return f"unit-{os.path.basename(unit)}.txt"


def journal_file(unit: str, after_start: bool = False) -> str:
    """Return the capture with the end of a unit's journal, of before or after."""
    return f"journal-{os.path.basename(unit)}{'-start' if after_start else ''}.txt"


def _file_name(stem: str, taken: Container[str]) -> str:
    """Return the file of a command's output: ps.txt for `ps auxww`; a second: ps-2."""
    name, number = f"{stem}.txt", 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}.txt"
    return name


def _how_it_failed(capture: Capture, child: child_process.Child) -> str:
    if child.failure:
        return child.failure
    status = child.status or 0
    if status == -signal.SIGXFSZ:
        return f"cut at {os.fstat(capture.output).st_size} bytes"
    if status == -signal.SIGKILL:
        return f"out of time after {durations.spell(child.seconds())}"
    if status < 0:
        return f"killed by signal {-status}"
    return f"exit {status}" if status else ""
