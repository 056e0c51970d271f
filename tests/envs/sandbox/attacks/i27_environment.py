# I27: secrets in an environment, of this process or another
paths = ["/proc/self/environ", "/proc/thread-self/environ", "/proc/1/environ"]
found = dict(os.environ)
for pid in [*others(), os.getppid()]:
    paths.append(f"/proc/{pid}/environ")
for path in paths:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        for item in file.read().split(b"\0"):
            name, _, value = item.decode().partition("=")
            found[name] = value
for pid in others():
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        at_most(f"secrets in the arguments of {pid}", file.read().count(b"@SECRET@"), 0)
say(found)
at_most("variables of the host", sum("CANARY" in name for name in found), 0)
