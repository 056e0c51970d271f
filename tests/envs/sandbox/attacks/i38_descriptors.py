# I38: descriptors that were left open: of the host's files, of the supervisor
import stat

held = {}
for name in os.listdir("/proc/self/fd"):
    with contextlib.suppress(OSError):
        held[int(name)] = os.readlink(f"/proc/self/fd/{name}")
say(held)
extra = []
for number, target in held.items():
    mode = os.fstat(number).st_mode
    if "@TOKEN@" in target or stat.S_ISDIR(mode) or (stat.S_ISREG(mode) and "@TOKEN@" in target):
        say("REACHED", number, target)
    if number > 2:
        extra.append(target)
at_most("descriptors besides one channel", len(extra), 1)
for number in range(256):
    with contextlib.suppress(OSError):
        if b"@SECRET@" in os.pread(number, 4096, 0):
            say("REACHED the secret by", number)
