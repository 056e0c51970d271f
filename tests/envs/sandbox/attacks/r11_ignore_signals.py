# R11: spin and ignore every signal that can be ignored
# wall: 20
# ends: timeout_cpu
import signal

for number in signal.valid_signals():
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_IGN)
while True:
    pass
