# R14: a child that keeps stdout open, so that a reader never sees its end
# ends: ok
# within: 2
import time

if os.fork() == 0:
    os.setsid()
    time.sleep(30)
    os._exit(0)
say("done")
