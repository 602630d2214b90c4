"""Processes that hang inside a system call, on a file that nobody answers for.

python -I hanging_exec.py UID NAME...: mounts a file system (FUSE) over /tmp, in the
mount namespace that it was started in, and serves it; one process of each name opens a
file of it and executes true(1). Prints a line of their pids. Whoever ends this one ends
all: then the kernel gives its file system up. Exits 77 where it may not mount.

Without a name, a process writes from such a file's page into descriptor 3; where that
is a directory, it lists it into that page. So it holds the lock of that inode. Prints a
line to stderr once it does, or with the word "not".
"""

import ctypes
import mmap
import os
import signal
import stat
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_NAME = 15  # linux/prctl.h
MS_NOSUID_NODEV = 6  # linux/mount.h
LOOKUP, FORGET, GETATTR, OPEN, READ, FLUSH, INIT, MANY = (
    1,
    2,
    3,
    14,
    15,
    25,
    26,
    42,
)  # linux/fuse.h
ROOT, FILE = 1, 2  # the inodes

PLACE = "/tmp"

uid, names = int(sys.argv[1]), sys.argv[2:]


def attributes(inode: int) -> bytes:
    mode = 0o40755 if inode == ROOT else 0o100644
    # Of one page; without blocks and times.
    return struct.pack("<QQ44x7I", inode, mmap.PAGESIZE, mode, 1, uid, uid, 0, 4096, 0)


def hang(name: str) -> None:
    os.close(server)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    LIBC.prctl(PR_SET_NAME, name.encode())
    file = os.open(f"{PLACE}/file", os.O_RDONLY | os.O_CLOEXEC)
    if name:
        os.execv("/bin/true", ["true"])
    page = mmap.mmap(file, mmap.PAGESIZE, mmap.MAP_PRIVATE)
    try:
        if stat.S_ISDIR(os.fstat(3).st_mode):
            address = ctypes.addressof(ctypes.c_char.from_buffer(page))
            LIBC.getdents64(3, ctypes.c_void_p(address), ctypes.c_size_t(len(page)))
        else:
            os.write(3, page)
        print("not: it went on", file=sys.stderr)
    finally:
        os._exit(1)


signal.alarm(120)
try:
    server = os.open("/dev/fuse", os.O_RDWR)
except OSError as why:
    print(why, file=sys.stderr)
    sys.exit(77)
options = f"fd={server},rootmode=40000,user_id={uid},group_id={uid}"
if LIBC.mount(b"test", PLACE.encode(), b"fuse", MS_NOSUID_NODEV, options.encode()):
    print("mount:", os.strerror(ctypes.get_errno()), file=sys.stderr)
    sys.exit(77)
pids = []
for name in names or [""]:
    pids.append(os.fork())
    if not pids[-1]:
        hang(name)
waiting = len(names)
while True:
    request = os.read(server, 1 << 17)
    _, what, number, inode = struct.unpack("<IIQQ", request[:24])
    error, answer = 0, b""
    if what == INIT:
        answer = struct.pack("<IIII", 7, 31, 65536, 0) + bytes(48)
    elif what == LOOKUP:
        answer = struct.pack("<QQQQII", FILE, 0, 0, 0, 0, 0) + attributes(FILE)
    elif what == GETATTR:
        answer = struct.pack("<QII", 0, 0, 0) + attributes(inode)
    elif what == OPEN:
        answer = bytes(16)
    elif what == FLUSH:
        waiting -= 1
        if not waiting:
            print(*pids, flush=True)
        continue
    elif what == READ:
        print("held", file=sys.stderr, flush=True)
        continue
    elif what in (FORGET, MANY):
        continue
    else:
        error = -38  # ENOSYS
    os.write(server, struct.pack("<IiQ", 16 + len(answer), error, number) + answer)
