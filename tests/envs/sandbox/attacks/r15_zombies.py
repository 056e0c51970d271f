# R15: children that nobody waits for, of parents that are gone
import time

for _ in range(40):
    with contextlib.suppress(OSError):
        if os.fork() == 0:
            with contextlib.suppress(OSError):
                os.fork()
            os._exit(0)
        time.sleep(0.002)
