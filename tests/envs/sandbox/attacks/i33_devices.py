# I33: devices of the host, there or made
import stat

for folder in ("/tmp", "/dev/shm", "/dev", "."):
    for name, kind, major, minor in (("disk", stat.S_IFBLK, 254, 0), ("mem", stat.S_IFCHR, 1, 1)):
        device = os.makedev(major, minor)
        attempt(
            f"make {name} in {folder}", lambda: os.mknod(f"{folder}/{TOKEN}", kind | 0o600, device)
        )
for name in (
    "vda",
    "sda",
    "nvme0n1",
    "mem",
    "kmem",
    "port",
    "kvm",
    "kmsg",
    "fuse",
    "net/tun",
    "loop0",
    "loop-control",
    "mapper/control",
    "vhost-vsock",
    "uinput",
    "dri/card0",
    "tty1",
    "userfaultfd",
    "snapshot",
    "hpet",
):
    attempt(f"/dev/{name}", lambda: os.open(f"/dev/{name}", os.O_RDONLY | os.O_NONBLOCK))
usual = {"full", "null", "ptmx", "random", "tty", "urandom", "zero", "console"}
for root, _, names in os.walk("/dev"):
    for name in set(names) - usual:
        path = os.path.join(root, name)
        mode = os.lstat(path).st_mode
        if stat.S_ISBLK(mode) or (stat.S_ISCHR(mode) and os.access(path, os.R_OK) and name != "0"):
            say("REACHED", path)
