"""The bench still runs, with numbers too small to tell anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from checkout import CHECKOUT
from world import environment, need, need_root

RUN = CHECKOUT / "bench" / "run"


def bench(*options: str) -> str:
    """Return what the bench prints; it must succeed."""
    need_root()
    for program in ("unshare", "cc", "hyperfine"):
        need(program)
    python = os.path.realpath(sys.executable)
    done = subprocess.run(
        [RUN, *options],
        env={**environment(), "PYTHON": python},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.xdist_group("bench")
@pytest.mark.long
def test_one_run_prints_one_table_of_all() -> None:
    for program in ("tcsh", "monit", "pgrep"):
        need(program)
    need("/usr/lib/nagios/plugins/check_procs")
    out = bench("--only", "runs", "--sizes", "100", "--runs", "3")
    for title in ("doing nothing", "quiet", "csh script", "monit", "check_procs", "C:"):
        assert re.search(rf"\| .*{title}.* \| [\d,.]+ ms \(\S+ x\) \|", out)


@pytest.mark.xdist_group("bench")
@pytest.mark.long
def test_recovery_is_measured_from_the_look_to_the_end() -> None:
    need("strace")
    out = bench("--only", "recovery", "--sizes", "100", "--runs", "1")
    for title in ("evidence, all of it", "hook's exec to the end: up, and told"):
        assert re.search(rf"\| {title} \| \d+\.\d\d s \|", out)
    assert "from the last look to the hook's exec, 100 processes | 20 ms |" in out


@pytest.mark.xdist_group("bench")
@pytest.mark.long
def test_supervisors_are_measured_beside_ours() -> None:
    for program in ("runsv", "supervisord"):
        need(program)
    out = bench("--only", "supervisors", "--kills", "1", "--idle", "1")
    for title in ("viagra-run", "viagra-run -o noorphan", "runsv", "supervisord"):
        assert re.search(rf"\| {title}.* \| [\d,.]+ ms \| .* MB \| \d \|", out)
