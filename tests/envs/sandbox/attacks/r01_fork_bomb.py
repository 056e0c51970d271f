# R1: fork until refused; the children stay
import time

count = 0
for _ in range(100):
    try:
        pid = os.fork()
    except OSError as error:
        say(error)
        break
    if pid == 0:
        time.sleep(30)
        os._exit(0)
    count += 1
at_most("processes", count + 1, PROCESSES)
