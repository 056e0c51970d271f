# I30: write anywhere but in /tmp, /dev/shm and the queues of messages
allowed = (
    "/tmp",
    "/dev/shm",
    "/dev/mqueue",
    "/proc/self",
    "/proc/thread-self",
    f"/proc/{os.getpid()}",
)
folders = {
    "/",
    "/usr",
    "/etc",
    "/var",
    "/var/tmp",
    "/opt",
    "/root",
    "/home",
    "/run",
    "/srv",
    "/dev",
}
with open("/proc/self/mountinfo") as mounts:
    folders |= {line.split()[4] for line in mounts}
folders |= {path for path in sys.path if path.startswith("/")}
for root, names, _ in os.walk("/etc"):
    folders |= {os.path.join(root, name) for name in names}
for folder in sorted(folders):
    if not folder.startswith(allowed) and os.path.isdir(folder):
        path = f"{folder}/{TOKEN}"
        attempt(f"a file in {folder}", lambda: os.close(os.open(path, os.O_CREAT | os.O_WRONLY)))
for root, _, names in os.walk("/"):
    if root.startswith(("/proc", "/sys", "/dev", "/tmp")):
        continue
    for name in names:
        path = os.path.join(root, name)
        if os.access(path, os.W_OK) and not os.path.islink(path) and os.path.isfile(path):
            attempt(f"open {path} to write", lambda: os.close(os.open(path, os.O_WRONLY)))
