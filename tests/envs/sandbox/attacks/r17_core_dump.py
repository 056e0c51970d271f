# R17: crash with a large core
# ends: signal
import resource

with contextlib.suppress(OSError, ValueError):
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    say("REACHED a core of any size")
os.abort()
