"""The process table: both of its readers give the same answer, and a look is fresh."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from other_users import HEADLESS, SYSTEM, fresh, python_program
from world import World, alive, comm, need, need_root, until

from viagralib.processes import linux, linux_system, portable
from viagralib.processes.linux import Unreadable, Vanished
from viagralib.processes.matching import classify
from viagralib.processes.observer import Observer
from viagralib.settings.configuration import load
from viagralib.trust.programs import ProgramTrust


def told(process: linux.Process, what: str) -> object:
    try:
        return getattr(process, what)()
    except (Vanished, Unreadable) as kept:
        return type(kept).__name__


def portrait(process: linux.Process) -> dict[str, object]:
    """Return all that matching asks of a process."""
    return {
        "name": process.name,
        "zombie": process.zombie,
        "parent": process.parent,
        "group": process.group,
        "session": process.session,
        **{
            what: told(process, what)
            for what in ("users", "arguments", "executable", "runs_set_user_id")
        },
    }


def assert_same(pid: int, *exceptions: str) -> dict[str, object]:
    """Hold both readers to the same answer, but for what is named."""
    ours, theirs = linux_system.find(pid), portable.find(pid)
    assert ours is not None and theirs is not None
    one, other = portrait(ours), portrait(theirs)
    for exception in exceptions:
        assert one.pop(exception) != other.pop(exception), exception
    assert one == other
    assert pid in [process.pid for process in linux_system.look({ours.name})]
    assert pid in [process.pid for process in portable.look({theirs.name})]
    return one


TEXTS = ["", " a b", ") S 1 (", "\n) Z 1", "é", "\udcff\udcfe", "\\"]


@pytest.mark.parametrize("text", TEXTS)
def test_both_readers_read_the_same_of_any_name(world: World, text: str) -> None:
    # The text first, and short: what the kernel cuts, the two tell differently.
    name = f"{text}{os.getpid():x}.{TEXTS.index(text)}"
    child = world.spawn([str(world.daemon(name)), "1000"])
    # While it executes, a process has its new program before its arguments.
    until(
        lambda: Path(f"/proc/{child.pid}/cmdline").read_bytes().endswith(b"\x001000\0")
    )
    told = assert_same(child.pid)
    assert (told["name"], told["zombie"]) == (name, False)
    assert told["arguments"] == [str(world.daemon(name)), "1000"]
    assert told["executable"] == str(world.daemon(name))
    assert told["parent"] == os.getpid()


def test_psutil_tells_a_name_whole_that_the_kernel_cut(world: World) -> None:
    name = fresh(40)
    child = world.up(name)
    assert_same(child.pid, "name")
    found = portable.find(child.pid)
    assert found is not None and found.name == name


def test_both_readers_read_the_same_of_a_deleted_program(world: World) -> None:
    name = fresh()
    child = world.up(name)
    (world.bin / name).unlink()
    assert assert_same(child.pid)["executable"] == str(world.bin / name)


def test_both_readers_read_the_same_of_a_zombie(world: World) -> None:
    name = fresh()
    child = world.up(name)
    os.kill(child.pid, signal.SIGKILL)
    until(lambda: not alive(child.pid))
    # Nobody asks for a zombie's arguments: the kernel keeps none.
    assert assert_same(child.pid, "arguments")["zombie"] is True


def test_psutil_takes_a_dead_first_thread_for_a_zombie(world: World) -> None:
    program = python_program(world.bin / fresh(), HEADLESS)
    child = world.spawn([str(program)])
    until(lambda: not alive(child.pid))
    assert_same(child.pid, "zombie", "arguments", "executable")
    found = linux_system.find(child.pid)
    assert found is not None and not found.zombie
    assert found.arguments()[1:] == [str(program)]


def test_psutil_splits_the_one_text_that_a_program_shows(world: World) -> None:
    name = fresh()
    child = world.spawn(
        [
            need("bash"),
            "-c",
            'exec -a "$1: at work" cat 0<>"$2"',
            "bash",
            name,
            fifo(world),
        ]
    )
    until(lambda: comm(child.pid) == "cat")
    assert_same(child.pid, "arguments")
    ours = linux_system.find(child.pid)
    assert ours is not None and ours.arguments() == [f"{name}: at work"]


def fifo(world: World) -> str:
    """Make what never ends for who reads it, and return its path."""
    os.mkfifo(world.place / "never")
    return str(world.place / "never")


def test_both_readers_read_the_same_of_users_and_set_user_id(world: World) -> None:
    need_root()
    name = fresh()
    program = world.daemon(name)
    setpriv = [need("setpriv"), f"--ruid={SYSTEM}", "--clear-groups"]
    child = world.spawn([*setpriv, str(program), "1000"])
    until(lambda: comm(child.pid) == name)
    assert assert_same(child.pid)["users"] == (SYSTEM, 0, 0)
    program.chmod(0o4755)
    assert assert_same(child.pid)["runs_set_user_id"] is True


def test_both_readers_see_the_same_processes(world: World) -> None:
    children = [world.up(fresh()).pid for _ in range(3)]
    ours = {process.pid for process in linux_system.look()}
    theirs = {process.pid for process in portable.look()}
    assert ours.issuperset(children) and theirs.issuperset(children)
    for pid in ours & theirs & {1, os.getpid(), os.getppid()}:
        mine, other = linux_system.find(pid), portable.find(pid)
        assert mine is not None and other is not None
        assert portrait(mine) == portrait(other)


def test_kernel_threads_have_neither_arguments_nor_executable() -> None:
    if comm(2) != "kthreadd":
        pytest.skip("needs a view of the kernel's threads")
    for reader in (linux_system, portable):
        found = reader.find(2)
        assert found is not None
        assert (told(found, "arguments"), told(found, "executable")) == (
            [],
            "Unreadable",
        )


def test_a_process_is_known_by_pid_and_start(world: World) -> None:
    first, second = world.up(fresh()), world.up(fresh())
    for reader in (linux_system, portable):
        one, other = reader.find(first.pid), reader.find(second.pid)
        again = reader.find(first.pid)
        assert one is not None and other is not None and again is not None
        assert one.identity == again.identity != other.identity
        assert one.start <= other.start
        assert 0 <= one.age() < 60


@pytest.mark.parametrize("reader", [linux_system, portable])
def test_what_ends_between_two_reads_is_as_if_never_seen(
    world: World, reader: object
) -> None:
    name = fresh()
    world.watch(name, 'command = "1000"')
    child = world.up(name)
    daemon = load(str(world.home)).daemons[name]
    observer = Observer([daemon], ProgramTrust(os.geteuid()), os.getpid())
    (process,) = reader.look({name})  # type: ignore[attr-defined]
    assert classify(daemon, process, observer) == ("counted", "fits")
    (process,) = reader.look({name})  # type: ignore[attr-defined]
    world.kill(child.pid)
    for what in ("arguments", "executable"):
        with pytest.raises(Vanished):
            getattr(process, what)()
    assert process.runs_set_user_id() is False
    with pytest.raises(Vanished):
        classify(daemon, process, observer)
    assert list(reader.look({name})) == []  # type: ignore[attr-defined]
    assert reader.find(child.pid) is None  # type: ignore[attr-defined]
