# I26: passwords, homes, the data of a task
attempt("a file of the host", lambda: open("@SECRET_FILE@").read())
attempt("its folder", lambda: os.listdir("@FOLDER@"))
for path in ("/etc/shadow", "/root/.ssh", "/root/.bashrc", "/work", "/host", "/etc/ssh"):
    attempt(path, lambda: os.listdir(path) if os.path.isdir(path) else open(path).read())
for folder in ("/root", "/home", "/mnt", "/media", "/srv"):
    with contextlib.suppress(OSError):
        at_most(f"entries of {folder}", len(os.listdir(folder)), 0)
