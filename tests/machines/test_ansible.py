"""ansible/viagra.yml, by Debian's Ansible, on a Debian that is freshly installed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from checkout import CHECKOUT
from debian_machine import ORIGIN, DebianMachine
from ready_machine import PATH
from world import need

pytestmark = pytest.mark.machines


def test_the_second_time_nothing_is_changed(tmp_path: Path) -> None:
    ansible = need("ansible-playbook")
    machine = DebianMachine("bookworm", tmp_path / "machine")
    try:
        machine.shell(
            "apt-get -qq -y --no-install-recommends --no-download install cron"
        )
        # Nothing in the machine listens: what ssh would carry goes straight into it.
        ssh = tmp_path / "ssh"
        clean = ["env", "-i", "HOME=/root", f"PATH={PATH}", "sh", "-c"]
        enter = shlex.join([*machine.entrance, *clean])
        words = f'for word; do :; done\nexec {enter} "$word"\n'
        ssh.write_text(f"#!/bin/sh\n{words}")
        ssh.chmod(0o755)
        results = [play(ansible, ssh, tmp_path) for _ in range(2)]
        assert re.search(r"ok=9 +changed=7 ", results[0]), results[0]
        assert re.search(r"ok=9 +changed=0 ", results[1]), results[1]
        told = machine.shell("viagra.py test")
        for name in ("sshd", "cron", "food"):
            assert f"  {name}: watched\n" in told
        line = "*/10 * * * * /usr/local/sbin/viagra.py\n"
        assert line in machine.shell("crontab -l")
    finally:
        machine.end()


def play(ansible: str, ssh: Path, place: Path) -> str:
    """Have Ansible bring the machine to what the example says; return what it tells."""
    given = {
        "ansible_become": "false",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_executable": str(ssh),
        "ansible_ssh_transfer_method": "piped",
        "viagra_source": ORIGIN,
    }
    more = [part for key, one in given.items() for part in ("-e", f"{key}={one}")]
    done = subprocess.run(
        [ansible, "-i", "fresh,", "--skip-tags", "packages", *more]
        + [str(CHECKOUT / "ansible" / "viagra.yml")],
        env={"PATH": os.environ["PATH"], "HOME": str(place), "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
