# R2: start threads until refused
import threading
import time

threading.stack_size(64 * 1024)
count = 0
for _ in range(100):
    try:
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
    except RuntimeError as error:
        say(error)
        break
    count += 1
at_most("threads", count + 1, PROCESSES)
os._exit(0)
