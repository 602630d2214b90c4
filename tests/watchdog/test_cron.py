"""The whole way with Debian's own parts: cron, mail, and the init.d scripts of inetd
and apache2, in a private machine. Their packages are in packages-cron.txt.
"""

from __future__ import annotations

import os
import re
import time
from functools import partial
from pathlib import Path

import pytest
from checkout import CHECKOUT
from cron_machine import cron_machine, start_cron, write
from ready_machine import Machine
from world import absent, need, until

__all__ = ["cron_machine"]  # a fixture
MAILBOX = "/var/mail/root"


def mail(machine: Machine) -> list[str]:
    """Return the mails in root's mailbox, oldest first."""
    text = machine.shell(f"cat {MAILBOX} 2>/dev/null || :")
    return [part for part in re.split(r"^From .*$", text, flags=re.M) if part.strip()]


def body(message: str) -> str:
    return message.partition("\n\n")[2]


@pytest.mark.xdist_group("cron")
def test_mail_of_a_restart_comes_while_the_daemon_holds_its_output_open(
    machine: Machine, program: Path
) -> None:
    for package in ("cron", "postfix"):
        need(package)
    # To whom it goes, and its charset, as the page has it.
    page = (CHECKOUT / "docs" / "cron.md").read_text()
    settings = "".join(re.findall(r"^    ([A-Z_]+=.*\n)", page, re.MULTILINE))
    settings = settings.replace("ops@example.org", "daemon")
    # A daemon that counts its lives, and keeps what it was given as its output.
    machine.shell("mkdir -p /var/food && cp /bin/sleep /var/food/food")
    write(
        machine,
        "/etc/viagra/start.d/food",
        "#!/bin/sh\necho life | tee -a /var/food/lives; echo gr\u00fcn\n"
        "/var/food/food 1000 &\n",
        "755",
    )
    write(
        machine,
        "/etc/cron.d/viagra",
        f"{settings}PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
        f"* * * * * root {program}; echo run >>/var/food/runs\n",
    )
    machine.shell("rm -f /etc/cron.d/e2scrub_all /etc/cron.d/php")
    machine.shell(f": >{MAILBOX}; exec postfix start", check=False)
    machine.start("exec /var/food/food 1000")
    until(lambda: machine.holds("pgrep -x food"))
    old = machine.shell("pgrep -x food").split()
    minute = start_cron(machine)
    began = time.monotonic()
    until(lambda: machine.holds("pgrep -x cron"))
    machine.shell(f"kill -KILL {old[0]}")

    until(lambda: mail(machine), 75)
    assert time.monotonic() - began < minute + 75
    [message] = mail(machine)
    assert re.search(r"^Subject: Cron <root@", message, re.MULTILINE)
    assert re.search(r"^Content-Type: text/plain; charset=UTF-8$", message, re.M)
    assert "\n    gr\u00fcn\n" in message
    until(lambda: machine.holds("grep -q 'Restarting food' /var/mail/daemon"))
    first, second, *facts = body(message).splitlines()
    assert first == "Restarting food"
    assert re.fullmatch(r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \S+ \d{4}", second)
    [new] = machine.shell("pgrep -x food").split()
    assert any(fact.startswith(f"  now       up, pid {new}, after ") for fact in facts)
    incident = re.findall(r"^  evidence  (.*)$", message, re.MULTILINE)[0]
    open_files = machine.shell(f"readlink /proc/{new}/fd/1 /proc/{new}/fd/2").split()
    assert open_files == [f"{incident}/hook.log"] * 2

    # The next minute's run finds nothing to do, nothing locked, and says nothing.
    runs = "wc -l </var/food/runs"
    before = int(machine.shell(runs))
    until(lambda: int(machine.shell(runs)) > before, 75)
    time.sleep(1.0)  # for a mail that must not come
    assert len(mail(machine)) == 1
    assert machine.shell("cat /var/food/lives").split() == ["life"]
    assert machine.shell("pgrep -x food").split() == [new]
    done = machine.run(str(program), "--verbose", check=False)
    assert (done.returncode, done.stdout) == (0, f"food is up: pid {new}\n")


def test_the_articles_own_pair_by_debians_init_scripts(
    machine: Machine, program: Path
) -> None:
    for script in ("openbsd-inetd", "apache2"):
        if not os.access(f"/etc/init.d/{script}", os.X_OK):
            absent(f"needs Debian's package {script}")
    machine.shell(
        "ln -s /etc/init.d/openbsd-inetd /etc/viagra/start.d/inetd;"
        "ln -s /etc/init.d/apache2 /etc/viagra/start.d/apache;"
        "echo 'daytime stream tcp nowait root internal' >>/etc/inetd.conf"
    )
    start = 'arguments = ["start"]\nuser = "root"\n'
    write(machine, "/etc/viagra/start.d/inetd.toml", start)
    write(machine, "/etc/viagra/start.d/apache.toml", start + 'process = "apache2"\n')
    for script in ("openbsd-inetd", "apache2"):
        machine.shell(f"exec /etc/init.d/{script} start", check=False)
    for name in ("inetd", "apache2"):
        until(partial(machine.holds, f"pgrep -x {name}"))
    quiet = machine.run(str(program), check=False)
    assert (quiet.returncode, quiet.stdout) == (0, "")

    old = machine.shell("pgrep -x 'inetd|apache2'").split()
    machine.shell(f"kill -KILL {' '.join(old)}")
    until(lambda: not machine.holds("pgrep -x 'inetd|apache2'"))
    done = machine.run(str(program), check=False)
    assert done.returncode == 0, done.stdout
    for name, script in (("inetd", "inetd"), ("apache", "apache")):
        assert f"Restarting {name}\n" in done.stdout
        assert f"  hook      start.d/{script} start: exit 0 after" in done.stdout
    assert done.stdout.count("  now       up, pid ") == 2
    serves = "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {}))'"
    until(lambda: machine.holds(serves.format(13)))
    until(lambda: machine.holds(serves.format(80)))
    again = machine.run(str(program), check=False)
    assert (again.returncode, again.stdout) == (0, "")
