# R22: signal what must not be reached, and still be there
import signal

for target in (os.getppid(), 1, *others()):
    if target > 1:  # to process 1 of its own namespace a signal may be sent, and does nothing
        attempt(f"signal to {target}", lambda: os.kill(target, signal.SIGCONT))
with contextlib.suppress(OSError):
    os.kill(0, signal.SIGTERM)
