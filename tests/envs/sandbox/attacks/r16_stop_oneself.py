# R16: stop children and oneself, so that nothing ever ends by itself
# ends: timeout_wall
import signal

with contextlib.suppress(OSError):
    os.fork()
os.kill(os.getpid(), signal.SIGSTOP)
