# I28: the memory, files and folders of other processes, by way of /proc
for pid in {1, os.getppid(), *others()} - {os.getpid(), 0}:
    for name in ("mem", "maps", "environ", "auxv", "pagemap", "syscall", "stack"):
        attempt(f"{name} of {pid}", lambda: open(f"/proc/{pid}/{name}", "rb").read(1) and name)
    attempt(f"memory of {pid}, to write", lambda: os.open(f"/proc/{pid}/mem", os.O_RDWR))
    attempt(f"descriptors of {pid}", lambda: os.listdir(f"/proc/{pid}/fd"))
    for name in ("root", "cwd", "exe", "ns/mnt"):
        attempt(f"{name} of {pid}", lambda: os.readlink(f"/proc/{pid}/{name}"))
