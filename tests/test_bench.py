"""The bench still runs, with numbers too small to tell anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from world import environment, need, need_root

RUN = Path(__file__).resolve().parent.parent / "bench" / "run"


@pytest.mark.xdist_group("bench")
def test_one_run_prints_one_table_of_all() -> None:
    need_root()
    for program in ("unshare", "cc", "hyperfine", "strace", "tcsh", "monit", "pgrep"):
        need(program)
    need("/usr/lib/nagios/plugins/check_procs")
    python = os.path.realpath(sys.executable)
    done = subprocess.run(
        [RUN, "--sizes", "100", "--runs", "1"],
        env={**environment(), "PYTHON": python},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for title in ("doing nothing", "quiet", "csh script", "monit", "check_procs", "C:"):
        assert re.search(rf"\| .*{title}.* \| [\d,.]+ ms \(\S+ x\) \|", done.stdout)
    assert "from the last look to the hook's exec | 20 ms |" in done.stdout
