"""`make install`, `make uninstall`, and the program that they put there and remove."""

from __future__ import annotations

import filecmp
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from checkout import CHECKOUT
from world import STEADY, alive, all_pids, executable, remove_locks, unique, until

ROOT = CHECKOUT
CRON = {"PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "HOME": "/", "LOGNAME": "root"}
# Quicker, where psutil is not what matters: on Linux it goes without.
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
# A machine of its own as far as /usr/local, /etc and /var go.
PRIVATE = """
set -e
mount -t tmpfs -o mode=755 tmpfs {room}
for place in etc var; do
    mkdir {room}/$place {room}/$place.work
    options=lowerdir=/$place,upperdir={room}/$place,workdir={room}/$place.work
    mount -t overlay -o $options overlay /$place
done
mount -t tmpfs -o mode=755 tmpfs /usr/local
"""


def lacking(what: str) -> None:
    """Skip the test for want of something; under CI it is an error."""
    if os.environ.get("CI"):
        pytest.fail(f"this machine lacks {what}")
    pytest.skip(f"this machine lacks {what}")


class Installation:
    """The program, installed below a directory of its own."""

    def __init__(self, place: Path, umask: int = 0o022, destdir: bool = False) -> None:
        self.place = place
        self.umask = umask
        self.destdir = place / "stage" if destdir else None
        inside = Path("/opt/food") if destdir else place
        self.prefix, self.sysconfdir = inside / "local", inside / "etc"
        self.state = inside / "state"
        self.command = self.prefix / "sbin" / "viagra.py"
        self.home = self.sysconfdir / "viagra"
        self.told = ""  # by the first install

    def real(self, path: Path) -> Path:
        """Return where a path of the installation lies on this machine."""
        return Path(f"{self.destdir or ''}{path}")

    def make(
        self,
        target: str,
        expected: int = 0,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a target of the Makefile; what it prints comes back as `stdout`."""
        done = subprocess.run(
            [
                "make",
                target,
                f"PYTHON={python}",
                f"PREFIX={self.prefix}",
                f"SYSCONFDIR={self.sysconfdir}",
                f"STATEDIR={self.state}",
                *([f"DESTDIR={self.destdir}"] if self.destdir else []),
            ],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            umask=self.umask,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == expected, done.stdout
        return done

    def run(
        self, *arguments: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the command as cron would, with more in the environment."""
        return subprocess.run(
            [self.command, *arguments],
            cwd=self.place,
            env={**CRON, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def check_modes(self) -> None:
        """Hold that all of it is ours, and that nobody else may write any of it."""
        parts = [self.real(path) for path in (self.prefix, self.sysconfdir)]
        for path in [*parts, *(one for part in parts for one in part.rglob("*"))]:
            status = path.lstat()
            assert status.st_uid == os.geteuid(), path
            if path.is_symlink():
                continue
            mode = stat.S_IMODE(status.st_mode)
            wanted = 0o755 if path.is_dir() or mode & 0o100 else 0o644
            assert mode == wanted, f"{path}: {mode:o}"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Give an installation made with the harshest umask."""
    installation = Installation(tmp_path_factory.mktemp("i"), umask=0o077)
    installation.told = installation.make("install").stdout
    yield installation
    remove_locks([installation.home, installation.state])


@pytest.fixture
def daemon(installed: Installation) -> Iterator[Path]:
    """Give a program that sleeps, and a hook for it in the installed home."""
    program = installed.place / unique("food")
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    hook = installed.home / "start.d" / program.name
    hook.write_text(f"#!/bin/sh\n{program} 1000 &\n")
    hook.chmod(0o755)
    facts = hook.with_name(f"{hook.name}.toml")
    facts.write_text('patience = "0s"\n')
    settings = installed.home / "viagra.toml"
    settings.write_text(f"[run]\n{''.join(STEADY)}")
    yield program
    settings.unlink()
    hook.unlink()
    facts.unlink()
    for pid in processes_of(program):
        os.kill(pid, signal.SIGKILL)


def processes_of(program: Path) -> list[int]:
    return [pid for pid in all_pids() if executable(pid) == str(program) and alive(pid)]


def entries(directory: Path) -> list[str]:
    return sorted(str(one.relative_to(directory)) for one in directory.rglob("*"))


def files(directory: Path) -> list[Path]:
    return [one for one in directory.rglob("*") if one.is_file()]


# What is where


@pytest.mark.xdist_group("install")
def test_all_is_in_its_place(installed: Installation) -> None:
    installed.check_modes()
    assert {"check.d", "fail.d"} <= set(entries(installed.home))
    for kind in ("start.d", "stop.d"):
        assert set(entries(ROOT / kind)) <= set(entries(installed.home / kind))
        assert entries(ROOT / kind) == entries(
            installed.prefix / "share" / "viagra" / kind
        )
    shipped = [path for path in installed.home.rglob("*") if path.is_file()]
    assert not [path for path in shipped if path.stat().st_mode & 0o111]  # all are off
    for page in (ROOT / "man").iterdir():
        place = installed.prefix / "share" / "man" / f"man{page.name[-1]}"
        text = page.read_text()
        for part in ("sbin", "share"):
            its_own = f"{installed.prefix}/{part}/viagra"
            text = text.replace(f"/usr/local/{part}/viagra", its_own)
        assert (place / page.name).read_text() == text
    share = installed.prefix / "share"
    for name in (
        "bash-completion/completions/viagra.py",
        "zsh/site-functions/_viagra.py",
        "fish/vendor_completions.d/viagra.py.fish",
    ):
        text = (share / name).read_text()
        assert f"{installed.prefix}/sbin/viagra.py --complete" in text


@pytest.mark.xdist_group("install")
def test_program_has_a_python_of_its_own(installed: Installation) -> None:
    library = installed.prefix / "lib" / "viagra"
    python = library / "venv" / "bin" / "python"
    first = (library / "viagra.py").read_text().splitlines()[0]
    assert first == f"#!{python} -I"
    command = [str(python), "-I", "-c", "import psutil; print(psutil.__file__)"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No module named 'psutil'" in found.stderr:
        lacking("a network to fetch psutil")
    assert found.stdout.startswith(f"{library}/venv/")
    sources = {path.with_suffix("") for path in (library / "viagralib").rglob("*.py")}
    compiled = (library / "viagralib").rglob("__pycache__/*.pyc")
    assert sources == {
        path.parent.parent / path.stem.split(".")[0] for path in compiled
    }


@pytest.mark.xdist_group("install")
def test_commands_for_hooks_are_there(installed: Installation) -> None:
    companions = [
        path.name
        for path in (ROOT / "viagralib" / "companions").glob("viagra-*")
        if os.access(path, os.X_OK)
    ]
    there = [path.name for path in (installed.prefix / "bin").iterdir()]
    assert sorted(there) == sorted(companions)
    for name in companions:
        first = (installed.prefix / "bin" / name).read_text().splitlines()[0]
        assert "/usr/bin/env" not in first


@pytest.mark.xdist_group("install")
def test_systemd_takes_the_installed_units(installed: Installation) -> None:
    if not shutil.which("systemd-analyze"):
        lacking("systemd-analyze")
    units = installed.prefix / "share" / "viagra" / "systemd"
    assert f"ExecStart={installed.command}\n" in (units / "viagra.service").read_text()
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *sorted(units.iterdir())],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    told = [line for line in done.stdout.splitlines() if "viagra" in line]
    assert (done.returncode, told) == (0, [])


# What it does


@pytest.mark.xdist_group("install")
def test_installed_program_brings_a_daemon_back(
    installed: Installation, daemon: Path
) -> None:
    for _ in range(2):
        done = installed.run()
        assert done.returncode == 0, done.stdout
        assert done.stdout.startswith(f"Restarting {daemon.name}\n")
        [pid] = processes_of(daemon)
        again = installed.run()
        assert (again.returncode, again.stdout) == (0, "")
        os.kill(pid, signal.SIGKILL)
        until(lambda: not processes_of(daemon))
    assert len(list((installed.state / "incidents").iterdir())) == 2


@pytest.mark.xdist_group("install")
def test_all_four_commands_know_home_and_state(installed: Installation) -> None:
    companion = {
        name: str(installed.prefix / "bin" / f"viagra-{name}")
        for name in ("lease", "run", "wait")
    }
    told = json.loads(installed.run("test", "--json").stdout)
    assert (told["home"], told["state"]) == (str(installed.home), str(installed.state))
    for words in (
        [companion["lease"], "forbid", "food"],
        [companion["run"], "-n", "food", "true"],
    ):
        subprocess.run(words, env=CRON, check=True)
    left = {str(path.relative_to(installed.state)) for path in files(installed.state)}
    assert {"leases/food/forbidden", "deaths/food"} <= left, left
    # The facts of the home: the hook's name alone would be no process's.
    hook, name = installed.home / "start.d" / "waited-for", unique("food")
    program = shutil.copy(shutil.which("sleep") or "/bin/sleep", installed.place / name)
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o755)
    facts = hook.with_name("waited-for.toml")
    facts.write_text(f'process = "{name}"\nuser = {os.geteuid()}\n')
    with subprocess.Popen([program, "1000"]) as process:
        words = [companion["wait"], "--timeout", "30s", "process:waited-for"]
        done = subprocess.run(words, env=CRON, check=False)
        process.kill()
    hook.unlink()
    facts.unlink()
    assert done.returncode == 0


@pytest.mark.xdist_group("install")
def test_nothing_planted_is_imported(installed: Installation, daemon: Path) -> None:
    planted = installed.place / "planted"
    (planted / "viagralib").mkdir(parents=True)
    trap = f"open({str(installed.place / 'trapped')!r}, 'w')\n"
    for name in ("sitecustomize", "usercustomize", "tomllib", "re", "startup"):
        (planted / f"{name}.py").write_text(trap)
    (planted / "viagralib" / "__init__.py").write_text(trap)
    shutil.copytree(planted, installed.place, dirs_exist_ok=True)  # its directory
    done = installed.run(
        "check",
        PYTHONPATH=str(planted),
        PYTHONSTARTUP=str(planted / "startup.py"),
        PYTHONHOME="/nonexistent",
        PYTHONINSPECT="1",
        PYTHONUSERBASE=str(planted),
        PYTHONWARNINGS="error",
        PYTHONSAFEPATH="",
    )
    assert done.returncode == 1, done.stdout
    assert done.stdout == f'{daemon.name} is down: no process named "{daemon.name}"\n'
    assert not (installed.place / "trapped").exists()


# Again, and away


@pytest.mark.xdist_group("install")
def test_second_install_keeps_what_was_edited_and_updates_the_rest(
    installed: Installation,
) -> None:
    start = installed.home / "start.d"
    (start / "sshd").write_text("#!/bin/sh\n# mine\n")
    (start / "sshd").chmod(0o755)
    (start / "cron.toml").write_text("# mine\n")
    shutil.rmtree(start / "postfix", ignore_errors=True)
    (start / "postfix").unlink()
    (start / "postfix").write_text("#!/bin/sh\n# mine, not postfix\n")
    (start / "postfix.toml").unlink()  # shipped ones would be facts of another's hook
    for gone in ("apache", "apache.toml"):
        (start / gone).unlink()
    (start / "README").write_text("old")
    (installed.home / "viagra.toml").write_text('[run]\nevery = "1m"\n')
    # What an earlier version shipped, and nobody has edited since: hook, facts, a step.
    old = ["rsyslogd", "rsyslogd.toml", "nfs/20-start", "nfs/99-gone"]
    for name in old:
        for place in (start, installed.prefix / "share" / "viagra" / "start.d"):
            (place / name).write_text("# of the version before\n")
    (start / "rsyslogd").chmod(0o755)
    (start / "nfs" / "30-wait").chmod(0o755)
    before = {path: path.read_bytes() for path in start.iterdir() if path.is_file()}
    told = installed.make("install").stdout
    for path, content in before.items():
        if path.name not in {"README", *old}:
            assert path.read_bytes() == content, path
    for name in ("README", "rsyslogd", "rsyslogd.toml", "nfs/20-start"):
        assert filecmp.cmp(start / name, ROOT / "start.d" / name, shallow=False), name
    assert not (start / "nfs" / "99-gone").exists()
    on = {str(p.relative_to(start)) for p in start.rglob("*") if is_on(p)}
    assert on == {"sshd", "rsyslogd", "nfs/30-wait"}
    assert not {"apache", "apache.toml", "postfix.toml"} & {*os.listdir(start)}
    assert told_of(told, "kept as") == ["cron.toml", "postfix", "sshd"]
    assert told_of(told, "updated in") == ["nfs", "rsyslogd", "rsyslogd.toml"]
    assert told_of(told, "left out") == ["apache", "apache.toml", "postfix.toml"]
    # The old environment will do, where psutil could be fetched for it.
    assert "psutil" not in told or "no psutil" in installed.told
    assert not [name for name in os.listdir(start) if name.startswith(".")]
    for name in ("sshd", "rsyslogd", "nfs/30-wait"):
        (start / name).chmod(0o644)


def is_on(path: Path) -> bool:
    return path.is_file() and bool(path.stat().st_mode & 0o111)


def told_of(told: str, how: str) -> list[str]:
    """Return which entries of start.d a line of the installation names."""
    [line] = [line for line in told.splitlines() if line.startswith(how)]
    return re.findall(r" start\.d/([\w.-]+\w)", line.partition(". To compare")[0])


def test_install_that_fails_leaves_nothing_of_itself(tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    python = tmp_path / "away" / "python"
    fails = 'case "$*" in *"-m venv"*) exit 1 ;; esac'
    python.write_text(f'#!/bin/sh\n{fails}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    planted = (
        tmp_path / "away" / "sitecustomize.py"
    )  # and nothing of others is imported
    planted.write_text(f"open({str(tmp_path / 'trapped')!r}, 'w')\n")
    installation = Installation(tmp_path)
    environment = {"PYTHONPATH": str(planted.parent)}
    told = installation.make("install", 2, str(python), environment).stdout
    assert f"{python} cannot make a venv" in told
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(files) == [python, planted]
    new = installation.prefix / "lib" / "viagra.new"
    assert not new.exists()
    new.mkdir(parents=True)  # what another one is making
    told = installation.make("install", 2, environment=OFFLINE).stdout
    assert f"another make install is at work; if none is: rm -r {new}" in told
    assert list(new.parent.iterdir()) == [new] and list(new.iterdir()) == []
    new.rmdir()
    new.symlink_to("nowhere")  # mkdir(1) says why
    told = installation.make("install", 2, environment=OFFLINE).stdout
    assert "another make install" not in told and "File exists" in told


def test_lax_umask_and_staging_directory(tmp_path: Path) -> None:
    installation = Installation(tmp_path, umask=0o002, destdir=True)
    installation.make("install", environment=OFFLINE)
    installation.check_modes()
    library = installation.prefix / "lib" / "viagra"
    stage = os.fsencode(installation.destdir or "")
    for path in installation.real(installation.prefix).rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert stage not in path.read_bytes(), path
    first = installation.real(library / "viagra.py").read_text().splitlines()[0]
    assert first == f"#!{library}/venv/bin/python -I"
    installation.make("uninstall")
    assert not installation.real(installation.prefix).exists()
    assert installation.real(installation.home / "start.d" / "sshd").exists()


@pytest.mark.long
def test_a_package_runs_nothing_of_the_systems_site_packages(tmp_path: Path) -> None:
    """Upgraded Debians give /usr/local/lib/python3 to the group staff."""
    system = tmp_path / "system"
    made = [sys.executable, "-I", "-m", "venv", "--without-pip", str(system)]
    subprocess.run(made, check=True)
    [packages] = system.glob("lib/python*/site-packages")
    executed = tmp_path / "executed"
    (packages / "x.pth").write_text(f"import os; open({str(executed)!r}, 'w')\n")
    installation = Installation(tmp_path, destdir=True)
    python = {"SYSTEM_PYTHON": f"{system}/bin/python"}
    installation.make("install", environment=python)
    library = installation.real(installation.prefix / "lib/viagra")
    programs = [library / "viagra.py", *library.glob("viagralib/companions/viagra-*")]
    for program in programs:
        done = subprocess.run([program, "--help"], capture_output=True, check=False)
        assert done.returncode == 0 and done.stdout and not done.stderr, done
    assert len(programs) == 4 and not executed.exists()


def test_make_install_loads_no_packages_that_others_may_write(tmp_path: Path) -> None:
    """Only pip does without -S, where nobody else may write what it then executes."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        lacking("root's rights, or unshare")
    text = (ROOT / "install.sh").read_text()
    functions = re.findall(r"^\w+\(\) \{\n.*?^\}\n", text, re.M | re.S)
    assert set(re.findall(r'"\$PYTHON" (-I\w*) -m (\w+)', text)) == {
        ("-IS", "venv"),
        ("-I", "pip"),
    }
    script = f"""
    {PRIVATE.format(room=tmp_path)}
    PYTHON=/usr/bin/python3
    first='import site; print(site.getsitepackages()[0])'
    packages=$($PYTHON -IS -c "$first") || exit 77
    case $packages in
    /usr/local/*) mkdir -p $packages ;;
    *) exit 77 ;;
    esac
    {"".join(functions)}
    is_site_nobody_elses || exit 11
    echo 'import os; os.mkdir("/usr/local/executed")' >$packages/x.pth
    chmod 2775 $packages
    check_python
    check_trust_in_python
    ! is_site_nobody_elses || exit 12
    [ ! -e /usr/local/executed ] || exit 13
    """
    done = subprocess.run(
        ["unshare", "--mount", "--propagation=private", "sh", "-c", script],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("this machine's Python has no packages below /usr/local")
    assert done.returncode == 0


def test_defaults_on_a_machine_of_its_own(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        lacking("root's rights")
    if not shutil.which("unshare"):
        lacking("unshare")
    script = f"""
    {PRIVATE.format(room=tmp_path)}
    make install PYTHON={sys.executable} >{tmp_path}/told 2>&1
    viagra=/usr/local/sbin/viagra.py
    grep '^install: no psutil. viagra.py does without it on Linux' {tmp_path}/told
    env -i PATH=/usr/bin:/bin $viagra || exit 19
    # Python 3.14 adds one whose first letter is a Greek one.
    ! ls /usr/local/lib/viagra/venv/bin | grep -v thon || exit 20
    [ -L $viagra ] || exit 11
    cd /etc/viagra/start.d || exit 12
    chmod +x sshd
    env -i PATH=/usr/bin:/bin $viagra test | grep '^home /etc/viagra, state /var/lib/v'
    env -i PATH=/usr/bin:/bin $viagra test | grep '^  sshd: watched'
    ls -ld /var/lib/viagra | grep '^drwx------'
    man -w 8 viagra.py >/dev/null 2>&1 || ls /usr/local/share/man/man8/viagra.py.8
    cd - >/dev/null
    chmod 2775 /usr/local
    ! make install PYTHON={sys.executable} >{tmp_path}/told 2>&1 || exit 13
    grep '^install: .*chmod g-w /usr/local$' {tmp_path}/told
    ! grep psutil {tmp_path}/told || exit 18
    chmod 755 /usr/local
    deep=/usr/local/share/zsh/site-functions
    mkdir -p $deep
    chmod 2775 $deep
    ! make install PYTHON={sys.executable} >{tmp_path}/told 2>&1 || exit 19
    grep "^install: .*chmod g-w $deep$" {tmp_path}/told
    chmod 2755 $deep
    make uninstall >{tmp_path}/told
    grep '^uninstalled. Kept: /etc/viagra; ' {tmp_path}/told
    [ -z "$(find /usr/local ! -type d)" ] || exit 14
    [ -x /etc/viagra/start.d/sshd ] || exit 15
    [ -d /var/lib/viagra ] || exit 16
    ! make uninstall >{tmp_path}/told 2>&1 || exit 17
    grep 'with the same PREFIX, such as make uninstall PREFIX=' {tmp_path}/told
    """
    done = subprocess.run(
        ["unshare", "--mount", "--propagation=private", "sh", "-c", script],
        cwd=ROOT,
        env={**os.environ, **OFFLINE},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert len(done.stdout.splitlines()) >= 5


@pytest.mark.long
def test_the_wheel_has_the_four_commands_without_hooks(tmp_path: Path) -> None:
    make = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "-w",
        str(tmp_path),
    ]
    source = shutil.copytree(
        ROOT, tmp_path / "source", ignore=shutil.ignore_patterns(".*", "build")
    )
    done = subprocess.run(
        [*make, str(source)], capture_output=True, text=True, check=False
    )
    if "No matching distribution" in done.stderr:
        lacking("a network to fetch setuptools")
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("viagra_py-*.whl")
    place = tmp_path / "there"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(place)
    [metadata] = place.glob("*.dist-info/METADATA")
    assert "gives the four commands alone: no hooks" in metadata.read_text()
    text = (metadata.parent / "entry_points.txt").read_text()
    commands = re.findall(r"(?m)^([\w-]+) = (.*):(.*)$", text)
    names = ["viagra", "viagra-lease", "viagra-run", "viagra-wait"]
    assert sorted(name for name, _, _ in commands) == names
    assert not list(place.rglob("start.d"))
    for _, module, function in commands:
        script = f"import sys; sys.argv[1:] = ['--help']; from {module} import "
        script = f"{script}{function}; sys.exit({function}())"
        run = [sys.executable, "-c", script]
        done = subprocess.run(
            run, cwd=place, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 and "usage" in done.stdout.lower(), done


# What is refused


def fake_python(place: Path, code: str) -> str:
    """Return a Python that runs some code before what it is given with -I -c."""
    fake = place / "python3"
    fake.write_text(
        f'#!/bin/sh\n[ "$2" != -c ] || exec {sys.executable} -c "{code}\n$3"\n'
        f'exec {sys.executable} "$@"\n'
    )
    fake.chmod(0o755)
    return str(fake)


def test_old_python_gets_one_clear_line(tmp_path: Path) -> None:
    old = fake_python(tmp_path, "import sys; sys.version_info = (3, 9, 2)")
    told = Installation(tmp_path).make("install", expected=2, python=old).stdout
    [line] = [line for line in told.splitlines() if not line.startswith("make")]
    assert f"{old} is Python 3.9; 3.11 or later is needed" in line
    assert "make PYTHON=/path/to" in line
    assert not (tmp_path / "local").exists()


@pytest.mark.parametrize("prefix", ["relative", "/with a blank", ""])
def test_places_that_cannot_be_are_refused(tmp_path: Path, prefix: str) -> None:
    installation = Installation(tmp_path)
    done = subprocess.run(
        ["make", "install", f"PREFIX={prefix}", f"DESTDIR={tmp_path}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "install: no" in done.stdout
    assert entries(installation.place) == []


def test_python_that_another_user_could_change_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        lacking("root's rights")
    python = tmp_path / "python3"
    shutil.copy(os.path.realpath(sys.executable), python)
    os.chown(python, 64321, 64321)
    environment = {**CRON, "PYTHONHOME": sys.base_prefix}
    done = subprocess.run(
        ["make", "install", f"PYTHON={python}", f"PREFIX={tmp_path}/local"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout
    assert f"not with this Python: {python} belongs to 64321" in done.stdout
    assert not (tmp_path / "local").exists()
