"""Which machine this is: machine-id and boot-id, so that equal host names are two."""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys

from viagralib.base import files
from viagralib.state.directory import this_boot

_PR_SET_NAME = 15  # linux/prctl.h
# machine-id(5); the others are the BSDs' and what containers have.
_MACHINE_IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id", "/etc/hostid")


def this_node() -> str:
    """Return what names this machine during this boot, and no other.

    It is a hash: machine-id(5) asks not to show the id itself to others. A machine
    whose id nothing tells is named by its host name and boot.
    """
    seed = f"viagra-lease {_machine_id()} {this_boot()}"
    return hashlib.sha256(seed.encode(errors="replace")).hexdigest()[:16]


def _machine_id() -> str:
    for path in _MACHINE_IDS:
        try:
            if text := files.read(path, 200).decode(errors="replace").strip():
                return text
        except OSError:
            continue
    return host()


def host() -> str:
    return os.uname().nodename


def name_process(name: str) -> None:
    """Have this process, and those that it forks, known by `name` (Linux: prctl(2)).

    Else the process table has the interpreter's name, and only the arguments tell.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)
