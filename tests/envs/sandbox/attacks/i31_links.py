# I31: links in the work folder that lead a cleaner or collector out of it
# runs: 2
for folder in ("/tmp", "/dev/shm", "."):
    for number, target in enumerate(("/", "/etc", "@SECRET_FILE@", "@FOLDER@", "/dev/sda", "..")):
        with contextlib.suppress(OSError):
            os.symlink(target, f"{folder}/{TOKEN}link{number}")
    for path in ("/usr/bin/python3", "/etc/passwd", "/proc/self/exe", "@SECRET_FILE@"):
        attempt(
            f"hard link to {path}",
            lambda: os.link(path, f"{folder}/{TOKEN}hard", follow_symlinks=True),
        )
    with contextlib.suppress(OSError):
        os.rename(folder, f"{folder}-moved")
    with contextlib.suppress(OSError):
        os.rmdir(folder)
