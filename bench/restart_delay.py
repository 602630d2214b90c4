"""How fast viagra-run restarts: the median delay from a death to the next life.

    python3 bench/restart_delay.py [KILLS]

A command writes the time at which it begins; it is killed with KILL, KILLS times.
The delay counts from the moment of the kill to the first statement of the next life,
so a program's own start (here: sh) is in it.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

RUN = Path(__file__).parent.parent / "viagralib" / "commands" / "viagra-run"
LIMIT = 30.0  # seconds for one life to begin


def main(kills: int) -> None:
    """Print the median, the 95th percentile and the worst delay in milliseconds."""
    python = os.path.realpath(sys.executable)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    command = ["sh", "-c", "echo $$; exec sleep 1000"]
    runner = subprocess.Popen(
        [python, "-I", str(RUN), "-o", "noorphan", "-r", "0", "-f", "signal", *command],
        stdout=subprocess.PIPE,
        env=environment,
    )
    try:
        delays = measure(runner, kills)
    finally:
        runner.terminate()
        runner.wait(LIMIT)
    delays.sort()
    print(f"{kills} restarts, milliseconds from death to next life:")
    print(f"  median {statistics.median(delays) * 1000:.2f}")
    print(f"  95 %   {delays[int(len(delays) * 0.95)] * 1000:.2f}")
    print(f"  worst  {delays[-1] * 1000:.2f}")


def measure(runner: subprocess.Popen[bytes], kills: int) -> list[float]:
    """Kill `kills` lives in a row; return the delays in seconds."""
    assert runner.stdout
    delays = []
    pid = int(runner.stdout.readline())
    for _ in range(kills):
        time.sleep(0.01)  # let the shell become the sleep
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        pid = int(runner.stdout.readline())
        delays.append(time.perf_counter() - began)
    return delays


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
