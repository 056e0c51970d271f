# R4: children that each stay below the limit, and together are far above it
# gap: memory limit is per process
import time

read_end, write_end = os.pipe()
for _ in range(PROCESSES - 2):
    if os.fork() == 0:
        held = b"x" * (MEMORY // 2)
        os.write(write_end, b"1")
        time.sleep(30)
        os._exit(len(held))
os.close(write_end)
time.sleep(1)
os.set_blocking(read_end, False)
try:
    count = len(os.read(read_end, 100))
except BlockingIOError:
    count = 0
alive = 0
for pid in others():  # only those that still hold what they took count
    with contextlib.suppress(OSError), open(f"/proc/{pid}/statm") as file:
        alive += int(file.read().split()[1]) * 4096 > MEMORY // 2
say("took", count, "hold", alive)
at_most("children that hold half of the memory", min(count, alive), 2)
os._exit(0)
