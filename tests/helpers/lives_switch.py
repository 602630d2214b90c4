"""A network switch between machines made of namespaces, whose cables can be bad.

For test_lease_lives.py, which starts it as a program of its own; the kernels that the
tests meet lack the packet schedulers for it. Orders are lines on stdin:

    plug N PID           machine N, with the network namespace of PID, gets an eth0
    cable FROM TO P S    frames from FROM to TO are lost with probability P, and the
                         others come S seconds late

Each order is answered by a line on stdout. The last byte of a hardware address is the
machine's number.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

_NEW_NET = 0x40000000  # CLONE_NEWNET, setns(2)
_TUNSETIFF, _TAP, _NO_PI = 0x400454CA, 0x0002, 0x1000  # linux/if_tun.h


class Switch:
    """The machines' cables."""

    def __init__(self) -> None:
        self._own = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._taps: dict[int, int] = {}  # number: descriptor
        self._cables: dict[tuple[int, int], tuple[float, float]] = {}
        self._late: list[tuple[float, int, bytes]] = []

    def obey(self, line: str) -> None:
        """Do what a line says."""
        match line.split():
            case ["plug", number, pid]:
                self._unplug(int(number))
                self._taps[int(number)] = self._plug(int(pid))
            case ["cable", one, other, lost, late]:
                self._cables[int(one), int(other)] = (float(lost), float(late))

    def _plug(self, pid: int) -> int:
        setns = ctypes.CDLL(None, use_errno=True).setns
        there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        if setns(there, _NEW_NET):
            raise OSError(ctypes.get_errno(), "setns")
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", b"eth0", _TAP | _NO_PI))
        setns(self._own, _NEW_NET)
        os.close(there)
        return tap

    def _unplug(self, number: int) -> None:
        if number in self._taps:
            os.close(self._taps.pop(number))

    def serve(self) -> None:
        """Pass frames on until stdin ends."""
        orders = b""
        while True:
            left = None
            if self._late:
                left = max(0.0, self._late[0][0] - time.monotonic())
            ready, _, _ = select.select([0, *self._taps.values()], [], [], left)
            if 0 in ready:
                text = os.read(0, 4096)
                if not text:
                    return
                *lines, orders = (orders + text).split(b"\n")
                for line in lines:
                    self.obey(line.decode())
                    os.write(1, b"done\n")
            for number, tap in list(self._taps.items()):
                if tap in ready:
                    self._receive(number, tap)
            now = time.monotonic()
            while self._late and self._late[0][0] <= now:
                _, number, frame = heapq.heappop(self._late)
                self._send(number, frame)

    def _receive(self, number: int, tap: int) -> None:
        for _ in range(64):
            try:
                frame = os.read(tap, 65536)
            except BlockingIOError:
                return
            except OSError:  # its machine is gone
                self._unplug(number)
                return
            place = frame[5]  # the last byte of the destination
            for other in [place] if place in self._taps else list(self._taps):
                if other != number:
                    self._pass(number, other, frame)

    def _pass(self, number: int, other: int, frame: bytes) -> None:
        lost, late = self._cables.get((number, other), (0.0, 0.0))
        if random.random() < lost:
            return
        if late:
            heapq.heappush(self._late, (time.monotonic() + late, other, frame))
        else:
            self._send(other, frame)

    def _send(self, number: int, frame: bytes) -> None:
        try:
            os.write(self._taps[number], frame)
        except (KeyError, OSError):
            pass  # unplugged, not up, or full: as on a real cable


if __name__ == "__main__":
    Switch().serve()
    sys.exit(0)
