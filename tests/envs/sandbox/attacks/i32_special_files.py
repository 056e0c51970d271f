# I32: pipes, sockets, folders too deep or closed to a cleaner
# runs: 2
import socket

for folder in ("/tmp", "/dev/shm"):
    os.chdir(folder)
    with contextlib.suppress(OSError):
        os.mkfifo("stdout")
        os.mkfifo("result.json")
    with contextlib.suppress(OSError):
        socket.socket(socket.AF_UNIX).bind("control")
    with contextlib.suppress(OSError):
        os.mkdir("closed", 0o700)
        os.close(os.open("closed/file", os.O_CREAT))
        os.chmod("closed", 0)
    with contextlib.suppress(OSError):
        for name in ("-rf", "new\nline", "\udcff\udcfe", "x" * 255, "a b;c"):
            os.close(os.open(name, os.O_CREAT, 0))
    with contextlib.suppress(OSError):
        for _ in range(1500):
            os.mkdir("deep")
            os.chdir("deep")
