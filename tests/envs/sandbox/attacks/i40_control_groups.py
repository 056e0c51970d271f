# I40: leave the control group, or have it run a program of the host
for root, folders, names in os.walk("/sys/fs/cgroup"):
    for name in (
        "release_agent",
        "notify_on_release",
        "cgroup.procs",
        "tasks",
        "memory.limit_in_bytes",
        "memory.max",
        "pids.max",
        "cpu.max",
        "devices.allow",
    ):
        if name in names:
            attempt(f"{root}/{name}", lambda: os.close(os.open(f"{root}/{name}", os.O_WRONLY)))
    attempt(f"a group in {root}", lambda: os.mkdir(f"{root}/{TOKEN}"))
    if root.count("/") > 5:
        folders.clear()
for kind in (b"cgroup", b"cgroup2"):
    forbidden("mount " + kind.decode(), 165, 40, b"none", b"/tmp", kind, 0, b"")
