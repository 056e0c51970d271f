# I34: mounts, roots and namespaces, new ones and those of others
import signal

empty = b""
forbidden("mount tmpfs", 165, 40, b"none", b"/tmp", b"tmpfs", 0, empty)
forbidden("bind /", 165, 40, b"/", b"/tmp", empty, 4096, empty)
forbidden("remount /", 165, 40, empty, b"/", empty, 32 | 4096, empty)
forbidden("remount /proc", 165, 40, empty, b"/proc", empty, 32, empty)
forbidden("umount /proc", 166, 39, b"/proc", 2)
forbidden("umount /tmp", 166, 39, b"/tmp", 2)
forbidden("pivot_root", 155, 41, b"/tmp", b"/tmp")
forbidden("chroot", 161, 51, b"/tmp")
forbidden("open_tree", 428, 428, -100, b"/", 1)
forbidden("fsopen", 430, 430, b"tmpfs", 0)
forbidden("move_mount", 429, 429, -100, b"/tmp", -100, b"/tmp", 0)
forbidden("open_by_handle_at", 304, 265, 0, 0, 0)
kinds = {
    "user": 0x10000000,
    "mount": 0x20000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "ipc": 0x8000000,
    "uts": 0x4000000,
    "cgroup": 0x2000000,
}
for kind, flag in kinds.items():
    forbidden(f"unshare {kind}", 272, 97, flag)
    forbidden(f"unshare user and {kind}", 272, 97, flag | kinds["user"])
    forbidden(f"clone {kind}", 56, 220, flag | signal.SIGCHLD, 0, 0, 0, 0)
for pid in {1, os.getppid(), os.getpid()} - {0}:
    for kind in ("user", "mnt", "pid", "net", "ipc"):
        with contextlib.suppress(OSError):
            forbidden(
                f"setns {kind} of {pid}",
                308,
                268,
                os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY),
                0,
            )
arguments = (ctypes.c_uint64 * 8)(kinds["user"], 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
forbidden("clone3 user", 435, 435, arguments, 64)
