# R13: a daemon that would outlive the run
# ends: ok
# within: 2
import time

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for descriptor in range(3):
            os.close(descriptor)
        time.sleep(30)
    os._exit(0)
os.wait()
