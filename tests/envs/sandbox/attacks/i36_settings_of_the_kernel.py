# I36: settings of the kernel; opened and closed, never written
for path in (
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sysrq-trigger",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/kernel/hostname",
    "/proc/sys/fs/binfmt_misc/register",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/1/oom_score_adj",
    "/proc/irq/0/smp_affinity",
    "/proc/kcore",
    "/proc/kmsg",
    "/sys/kernel/uevent_helper",
    "/sys/power/state",
):
    attempt(path, lambda: os.close(os.open(path, os.O_WRONLY)))
for top in ("/proc/sys", "/sys"):
    for root, folders, names in os.walk(top):
        for name in names:
            path = os.path.join(root, name)
            if os.access(path, os.W_OK):
                attempt(f"write {path}", lambda: os.close(os.open(path, os.O_WRONLY)))
        if root.count("/") > 5:
            folders.clear()
for path in ("/proc/kcore", "/proc/kmsg", "/proc/timer_list", "/proc/keys", "/proc/sched_debug"):
    attempt(f"read {path}", lambda: len(open(path, "rb").read(16)) or 1 / 0)
