# R6: many small files, a sparse file, an allocated one
# ends: ok memory timeout_cpu
for folder in ("/tmp", "/dev/shm"):
    for name, grow in (
        ("sparse", os.ftruncate),
        ("allocated", lambda fd, n: os.posix_fallocate(fd, 0, n)),
    ):
        path = f"{folder}/{TOKEN}{name}"
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
            attempt(f"{name} file of 1 GiB in {folder}", lambda: grow(descriptor, 2**30))
            os.close(descriptor)
            os.unlink(path)
for folder in ("/tmp", "/dev/shm"):
    count = 0
    with contextlib.suppress(OSError):
        for count in range(20_000):
            os.close(os.open(f"{folder}/{TOKEN}{count}", os.O_CREAT))
    at_most(f"files in {folder}", count + 1, 10_000)
