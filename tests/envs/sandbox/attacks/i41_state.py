# I41: leave something for the next run, in files, memory that is shared, and the interpreter
# runs: 2
# gap: System V
import builtins
import json

KEY = int(TOKEN[1:8], 16)
for folder in ("/tmp", "/dev/shm", "/var/tmp", "/dev/mqueue", "."):
    path = f"{folder}/state"
    if os.path.exists(path):
        say("REACHED the earlier run by", path)
for folder in ("/tmp", "/dev/shm", "/var/tmp", "/dev/mqueue", "."):
    path = f"{folder}/state"
    with contextlib.suppress(OSError), open(path, "w") as file:
        file.write("state")
for folder in ("/tmp", "/dev/shm", "/dev/mqueue"):
    with contextlib.suppress(OSError):
        at_most(
            f"what an earlier run left in {folder}", len(set(os.listdir(folder)) - {"state"}), 0
        )
for name, x86, arm, arguments in (
    ("memory", 29, 194, (KEY, 4096)),
    ("messages", 68, 186, (KEY,)),
    ("semaphores", 64, 190, (KEY, 1)),
):
    if libc.syscall(arm if ARM else x86, *arguments, 0o600) != -1:
        say("REACHED the earlier run by System V", name)
    libc.syscall(arm if ARM else x86, *arguments, 0o1600)  # made, if it is not there
if getattr(builtins, "state", None) or getattr(json, "state", None):
    say("REACHED the earlier run by the interpreter")
builtins.state = json.state = "state"
builtins.print = json.dumps = sys.stdout = None
os.environ["STATE"] = "state"
