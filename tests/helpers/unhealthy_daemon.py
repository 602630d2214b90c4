"""A daemon that can be told to fall ill: it beats, listens, logs, and obeys or not.

unhealthy_daemon.py takes one of these words, and what follows it:

    beat FILE           touch FILE often
    ten FILE            touch it ten times, count in FILE.count, then be silent
    aged FILE SECONDS   let FILE be that old all the time
    listen PORT         accept connections on 127.0.0.1
    deaf FILE           note each TERM in FILE, and live on
    family FILE         as deaf, with a child of its name and a grandchild
    log FILE            append what is written to FILE.say, line by line
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time

name, what, place = sys.argv[1:4]


def note(*_: object) -> None:
    with open(place, "a", encoding="ascii") as file:
        file.write("TERM\n")


def note_and_end(*_: object) -> None:
    with open(place + ".terms", "a", encoding="ascii") as file:
        file.write("TERM\n")
    sys.exit()


if what == "listen":
    server = socket.create_server(("127.0.0.1", int(place)))
if what in {"deaf", "family"}:
    signal.signal(signal.SIGTERM, note)
if what == "ten":
    signal.signal(signal.SIGTERM, note_and_end)
# By its name it is known to be ready: PR_SET_NAME.
ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)
if what == "listen":
    while True:
        server.accept()[0].close()
if what == "family":
    parent = os.getpid()
    if os.fork() == 0:
        place += ".child"
        if os.fork() == 0:
            os.setsid()
            with open(place.replace("child", "grandchild"), "w") as file:
                file.write(str(os.getpid()))
            os.execv("/bin/sleep", ["sleep", "1000"])
beats = 0
while True:
    if what in {"beat", "aged"} or (what == "ten" and beats < 10):
        with open(place, "w", encoding="ascii"):
            pass
        moment = time.time() - (float(sys.argv[4]) if what == "aged" else 0)
        os.utime(place, (moment, moment))
        beats += 1
    if what == "ten":
        with open(place + ".count", "w", encoding="ascii") as counted:
            counted.write(str(beats))
    if what == "log":
        with contextlib.suppress(OSError):
            with open(place + ".say", encoding="utf-8") as said:
                text = said.read()
            os.unlink(place + ".say")
            with open(place, "a", encoding="utf-8") as log:
                log.write(text)
    time.sleep(0.05)
