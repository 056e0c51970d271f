# I42: disturb a run beside this one: same user, same moment
# beside: yes
import signal
import time

end = time.monotonic() + 0.8
while time.monotonic() < end:
    for pid in others():
        for number in (signal.SIGSTOP, signal.SIGKILL):
            with contextlib.suppress(OSError):
                if pid not in (1, os.getppid()):
                    os.kill(pid, number)
                    say("REACHED process", pid)
    with contextlib.suppress(OSError):
        os.kill(-1, signal.SIGKILL)
    for folder in ("/tmp", "/dev/shm", "."):
        if os.path.exists(f"{folder}/victim"):
            say("REACHED the file of the neighbour")
    time.sleep(0.01)
