"""The soak still soaks: a few daemons, for a few seconds, and all that goes wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from checkout import CHECKOUT
from world import environment, need, need_root

RUN = CHECKOUT / "tests" / "soak" / "run"


@pytest.mark.long
def test_a_few_daemons_die_for_a_few_seconds_and_all_holds() -> None:
    need_root()
    for program in ("unshare", "mount", "cc", "ps", "w", "vmstat", "ss"):
        need(program)
    python = os.path.realpath(sys.executable)
    few = ["--seconds", "9", "--daemons", "3", "--bystanders", "20", "--life", "4"]
    done = subprocess.run(
        [RUN, *few],
        env={**environment(), "PYTHON": python},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert re.search(r"^\| deaths \| [1-9]", done.stdout, re.MULTILINE)
    assert re.search(r"^\| incidents \| [1-9]", done.stdout, re.MULTILINE)
    assert done.stdout.count("| holds |") > 10
