# I35: become somebody else: by a call, by a setuid program, by capabilities
import subprocess

for name in ("setuid", "setgid", "seteuid", "setegid"):
    if os.getuid() != 0:
        attempt(f"{name}(0)", lambda: getattr(os, name)(0))
if os.getgroups():
    say("REACHED groups", os.getgroups())
attempt("setgroups", lambda: os.setgroups([0]))
status = dict(
    line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line
)
for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
    at_most(name, int(status[name], 16), 0)
if status["NoNewPrivs"].strip() != "1":
    say("REACHED new privileges")
for command in (
    ["su", "-c", "id"],
    ["mount", "-t", "tmpfs", "none", "/tmp"],
    ["unshare", "-Ur", "id"],
    ["passwd", "-d", "root"],
    ["sudo", "-n", "id"],
    ["newgrp", "root"],
    ["pkexec", "id"],
):
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=0.5)
        at_most(" ".join(command), int(done.returncode == 0), 0)
