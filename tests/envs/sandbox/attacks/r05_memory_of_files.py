# R5: memory by way of files: tmpfs, /dev/shm, memfd
# ends: ok memory
block = b"x" * MIB
size = 0
for folder in ("/", "/dev", "/dev/shm", "/run", "/tmp", "/var/tmp", "."):
    with contextlib.suppress(OSError), open(f"{folder}/{TOKEN}", "wb", buffering=0) as file:
        for _ in range(64):
            size += file.write(block)
at_most("MiB on disk", size // MIB, 3 * DISK // MIB)
held = []
size = 0
with contextlib.suppress(OSError):
    for number in range(16):  # several, for a limit of the size of one file is not enough
        held.append(os.memfd_create(str(number)))
        with contextlib.suppress(OSError):
            for _ in range(MEMORY // 4 // MIB):
                size += os.write(held[-1], block)
                if size > MEMORY + 8 * MIB:
                    say("REACHED memory in memfds", size // MIB)
                    os._exit(0)
say("contained: memfd", size // MIB)
