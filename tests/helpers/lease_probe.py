"""Whether a majority of etcd's members can be reached: `lease_probe.py FILE URL ...`

Asks one member after the other for a read that needs the majority, each 0.2 s, and
writes "TIME LATE STALLED TERM" to FILE: the monotonic clock when it asked, the seconds
by which this process itself was late (a busy machine), for how many seconds so far a
process of the machine had to wait for a processor, and the term of the leader who
answered, 0 when nobody did within half a second. With "-" for the FILE: exits as soon
as each member has answered such a read once; with "--", anything at all.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Callable

EVERY = 0.2
PATIENCE = 0.5
READ = json.dumps({"key": "cHJvYmU="})  # "probe"


def term(member: str) -> int:
    """Return the term in which a member answered, or 0."""
    try:
        connection = http.client.HTTPConnection(member, timeout=PATIENCE)
        try:
            connection.request("POST", "/v3/kv/range", READ)
            text = connection.getresponse().read()
        finally:
            connection.close()
        return int(json.loads(text)["header"]["raft_term"])
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return 0


def stalled() -> float:
    """Return for how long something had to wait (psi.rst); 0 where no kernel counts."""
    try:
        with open("/proc/pressure/cpu", encoding="ascii") as file:
            return int(file.readline().rpartition("total=")[2]) / 1e6
    except (OSError, ValueError):
        return 0.0


def main(file: str, members: list[str]) -> None:
    with open(file, "a", buffering=1) as out:
        due = time.monotonic()
        while True:
            asked = time.monotonic()
            # The one that answered goes first the next time: the others may hang.
            found = 0
            for _ in members:
                found = term(members[0])
                if found:
                    break
                members.append(members.pop(0))
            late = asked - due
            out.write(f"{asked:.6f} {late:.6f} {stalled():.6f} {found}\n")
            due = max(time.monotonic(), asked + EVERY)
            time.sleep(due - time.monotonic() if due > time.monotonic() else 0)


def version(member: str) -> bool:
    """Return whether a member serves its peers, which it does before it has any."""
    connection = http.client.HTTPConnection(member, timeout=PATIENCE)
    try:
        connection.request("GET", "/version")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait(answers: Callable[[str], object], members: list[str]) -> None:
    for member in members:
        while not answers(member):
            time.sleep(0.01)


if __name__ == "__main__":
    if sys.argv[1] in ("-", "--"):
        wait(term if sys.argv[1] == "-" else version, sys.argv[2:])
    else:
        main(sys.argv[1], sys.argv[2:])
