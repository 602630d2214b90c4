"""A keeper with a deadline, as viagra-lease is one: `contract_keeper.py SECONDS FILE`.

Holds a contract below a guardian, promises SECONDS of life once, starts a command that
leaves a daemon in a session of its own (pids to FILE), and stops itself.
"""

from __future__ import annotations

import os
import signal
import sys
import time

sys.path.insert(
    0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
)

from viagralib.base.clocks import boot_clock  # noqa: E402
from viagralib.companions.contract import guardian, signals, spawn  # noqa: E402

SCRIPT = "(setsid sh -c 'echo $$; exec sleep 1000' &) ; echo $$; exec sleep 1000"


def main(seconds: float, file: str, extensions: int) -> int:
    wanted = signals.collect()
    link = guardian.stand("keeper", killed=24, late=25)
    link.extend(boot_clock() + seconds)
    output = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    spawn.start(["sh", "-c", SCRIPT], dict(os.environ), output)
    for _ in range(extensions):
        time.sleep(seconds / 4)
        link.extend(boot_clock() + seconds)
    os.write(output, f"{os.getpid()}\n".encode())
    os.kill(os.getpid(), signal.SIGSTOP)
    signals.wait(wanted, 60)
    return 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
