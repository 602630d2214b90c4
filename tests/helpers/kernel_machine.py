"""A Debian on a kernel of its own, for tests: in qemu, thrown away after.

It boots in a minute or more, without help of the hardware: so it is for what needs a
kernel alone. That is a limit of memory for a unit, core dumps, an uptime that begins
with the boot, and a shutdown.
"""

from __future__ import annotations

import shlex
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from booted_machine import copy_checkout
from debian_machine import APART, installed, no_machine
from ready_machine import PATH, Machine
from world import need, need_root, until

# Makes a disk of a root directory, our checkout, and who runs commands: each connection
# is a shell of its own, early in the boot and late in a shutdown as well.
MAKE = """
directory=$1 lower=$2 checkout=$3 image=$4
mount -t tmpfs -o mode=755 tmpfs "$directory"
mkdir "$directory/upper" "$directory/work" "$directory/root"
options=lowerdir=$lower,upperdir=$directory/upper,workdir=$directory/work
mount -t overlay -o "$options" overlay "$directory/root"
cd "$directory/root"
cp -R "$checkout" srv/viagra
chroot . make -C /srv/viagra install DESTDIR=/ >"$image.log" 2>&1
printf '[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=5555\nAccept=yes\n' \
	>etc/systemd/system/agent.socket
cat >etc/systemd/system/agent@.service <<-END
	[Unit]
	DefaultDependencies=no
	CollectMode=inactive-or-failed
	[Service]
	ExecStart=/bin/bash -s
	Environment=HOME=/root LANG=C.UTF-8 PATH=$PATH
	StandardInput=socket
	StandardOutput=socket
	StandardError=socket
	KillMode=process
	Slice=-.slice
END
cat >etc/systemd/system/network.service <<-END
	[Unit]
	DefaultDependencies=no
	After=systemd-udev-trigger.service
	[Service]
	Type=oneshot
	RemainAfterExit=yes
	ExecStart=/bin/sh -c 'until ip link set eth0 up; do sleep 0.2; done'
	ExecStart=ip address add 10.0.2.15/24 dev eth0
END
mkdir -p etc/systemd/system/sysinit.target.wants
ln -s ../agent.socket ../network.service etc/systemd/system/sysinit.target.wants/
cp boot/vmlinuz-* "$image.kernel"
cp boot/initrd.img-* "$image.initrd"
truncate -s 4G "$image"
mke2fs -q -t ext4 -d . "$image"
"""
KERNEL_LINE = "root=/dev/vda rw console=ttyS0 net.ifnames=0 panic=1"
BOOTED = "systemctl is-system-running | grep -qE '^(running|degraded)$'"


class KernelMachine(Machine):
    """A machine on its own kernel, with our checkout installed; see Machine."""

    def __init__(self, suite: str, directory: Path) -> None:
        need_root()
        qemu = need("qemu-system-x86_64")
        need("mke2fs")
        lower = installed(suite, "kernel")
        directory.mkdir()
        checkout = copy_checkout(directory)
        image = directory.with_suffix(".image")
        make = [
            "sh",
            "-euc",
            MAKE,
            "sh",
            *map(str, (directory, lower, checkout, image)),
        ]
        subprocess.run([*APART, *make], check=True, env={"PATH": PATH})
        with socket.create_server(("127.0.0.1", 0)) as any_free:
            self._port = any_free.getsockname()[1]
        self._console = directory.with_suffix(".console")
        forward = f"hostfwd=tcp:127.0.0.1:{self._port}-:5555"
        self._qemu = subprocess.Popen(
            [
                *(qemu, "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1024"),
                *("-display", "none", "-monitor", "none", "-no-reboot"),
                *("-serial", f"file:{self._console}", "-append", KERNEL_LINE),
                *("-kernel", f"{image}.kernel", "-initrd", f"{image}.initrd"),
                *("-drive", f"file={image},if=virtio,format=raw,snapshot=on"),
                *("-device", "virtio-rng-pci"),
                *("-nic", f"user,model=virtio-net-pci,restrict=on,{forward}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: not self.is_running() or self._answers(), 600)
            if not self.is_running():
                no_machine(f"qemu boots none: {self.console()[-2000:]}")
            self.await_that(BOOTED, 600)
        except BaseException:
            self.end()
            raise

    def is_running(self) -> bool:
        """Return whether it has not been powered off."""
        return self._qemu.poll() is None

    def console(self) -> str:
        """Return what was printed on its console."""
        return self._console.read_text(errors="replace")

    def _answers(self) -> bool:
        try:
            return self.run("true", check=False).returncode == 0
        except OSError:
            return False

    def enter(
        self, *command: str, seconds: float = 60.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine, in a unit of its own."""
        told = "code=$?; echo; echo agent=$code"
        script = f"({shlex.join(command)}) </dev/null; {told}\n"
        with socket.create_connection(("127.0.0.1", self._port), 10) as agent:
            agent.settimeout(max(seconds, 60.0) * 5)
            agent.sendall(script.encode())
            agent.shutdown(socket.SHUT_WR)
            said = b""
            while data := agent.recv(65536):
                said += data
        text, _, code = said.decode(errors="replace").rpartition("\nagent=")
        result = int(code) if code.strip().isdecimal() else 255
        assert not check or result == 0, f"{command}: {text}"
        return subprocess.CompletedProcess(command, result, text, "")

    def end(self) -> None:
        """End the machine, if it has not been powered off."""
        if self.is_running():
            self._qemu.kill()
        self._qemu.wait()


@pytest.fixture(name="machine", scope="module")
def kernel_machine(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[KernelMachine]:
    """A machine for all tests of a module; the last of them may power it off."""
    machine = KernelMachine("trixie", tmp_path_factory.mktemp("kernel") / "machine")
    try:
        yield machine
    finally:
        machine.end()
