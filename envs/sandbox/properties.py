"""What a sandbox should hold against, each with the attack that proves it.

An attack is a program that says what it could do; the list of what it could do must be empty.
Nothing in it destroys anything if it succeeds, but for processes of the same user.
"""

from __future__ import annotations

from .core import Limits, Status
from .proof import Property


def _tiers(*names: str) -> frozenset[str]:
    return frozenset({"unsafe", *names})


_SYSCALLS = """
import platform
numbers = {"x86_64": {"ptrace": 101, "unshare": 272, "setns": 308, "mount": 165, "bpf": 321,
    "keyctl": 250, "add_key": 248, "perf_event_open": 298, "userfaultfd": 323, "kexec_load": 246,
    "process_vm_writev": 311, "init_module": 175, "pivot_root": 155},
  "aarch64": {"ptrace": 117, "unshare": 97, "setns": 268, "mount": 40, "bpf": 280, "keyctl": 219,
    "add_key": 217, "perf_event_open": 241, "userfaultfd": 282, "kexec_load": 104,
    "process_vm_writev": 271, "init_module": 105, "pivot_root": 41}}[platform.machine()]
"""

PROPERTIES: tuple[Property, ...] = (
    Property(
        "no network",
        attack="""
import socket
def connect(address):
    with socket.socket() as link:
        link.settimeout(2)
        link.connect(address)
attempt('a service of the host', lambda: connect(('127.0.0.1', port)))
attempt('metadata', lambda: connect(('169.254.169.254', 80)))
def datagram():
    with socket.socket(type=socket.SOCK_DGRAM) as link:
        link.sendto(b'x', ('8.8.8.8', 53))
attempt('datagrams', datagram)
for family in (16, 17, 38, 40):
    attempt(f'family {family}', lambda: socket.socket(family, 3 if family < 38 else 1).close())
""",
    ),
    Property(
        "no files of the host",
        attack="""
for path in (secret_file, '/etc/shadow', home, '/root', '/home', '/var/log', '/run/docker.sock',
             '/sys/fs/cgroup/memory', '/dev/mem', '/dev/kvm', '/dev/vda'):
    if os.path.isdir(path): attempt(path, lambda: os.listdir(path) != [])
    else: attempt(path, lambda: bool(open(path, 'rb').read(1)))
""",
    ),
    Property(
        "no environment of the host",
        attack="""
for pid in pids():
    def look():
        return bytes.fromhex(variable) in open(f'/proc/{pid}/environ', 'rb').read()
    attempt(f'environ of {pid}', look)
""",
    ),
    Property(
        "no settings of the kernel",
        attack="""
for path in ('/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/proc/sys/kernel/modprobe',
             '/sys/kernel/uevent_helper', '/sys/power/state'):
    attempt(path, lambda: os.close(os.open(path, os.O_WRONLY)))
""",
    ),
    Property(
        "nobody's rights",
        attack=r"""
lines = open('/proc/self/status').read().splitlines()
status = dict(line.split(':\t', 1) for line in lines if ':\t' in line)
for name in ('CapInh', 'CapPrm', 'CapEff', 'CapAmb'):
    if int(status[name], 16): found.append(f'{name} {status[name]}')
if status['NoNewPrivs'] != '1' or status['Seccomp'] != '2': found.append('no filter')
inside, outside, _ = open('/proc/self/uid_map').read().split()[:3]
if os.getuid() == 0 or int(outside) == 0 and int(inside) == os.getuid(): found.append('root')
if os.getgroups() not in ([], [os.getgid()]): found.append(f'groups {os.getgroups()}')
attempt('setuid', lambda: os.setuid(0))
""",
    ),
    Property(
        "no rights to be had",
        attack="""
lines = open('/proc/self/status').read().splitlines()
found += [line for line in lines if line[:6] == 'CapBnd' and int(line[8:], 16)]
""",
        # Docker's supervisors need three; elsewhere only root may empty the set. No-new-privileges,
        # which is another property, makes it moot for the candidate.
        unclaimed=_tiers("docker", "landlock"),
    ),
    Property(
        "no forbidden system calls",
        _SYSCALLS
        + """
for name, number in numbers.items():
    flags = 0x10000000 if name == 'unshare' else 0
    attempt(name, lambda: call(number, flags, 0, 0, 0, 0))
attempt('clone3', lambda: call(435, 0, 0) or ctypes.get_errno() != 38)
attempt('io_uring', lambda: call(425, 1, ctypes.create_string_buffer(120)))
attempt('pidfd_getfd', lambda: call(438, call(434, 1, 0), 0, 0))
""",
    ),
    Property(
        "nothing written but its own folders, and those bounded",
        attack="""
def fill(folder):
    size = 0
    with open(f'{folder}/fill{os.getpid()}', 'wb', buffering=0) as file:
        try:
            while size < 64 * 2**20: size += file.write(b'x' * 2**20)
        except OSError: pass
    size and os.unlink(file.name)
    return size > 17 * 2**20 and f'{size >> 20} MiB'
for folder in ('/tmp', '/dev/shm', '/', '/dev', '/usr', '/usr/lib', '/var', '/var/tmp', '/run',
               '/etc', '/proc'):
    attempt(folder, lambda: fill(folder))
attempt('mknod', lambda: os.mknod('/tmp/device', 0o60600, os.makedev(254, 0)))
""",
        unclaimed=_tiers("landlock"),
    ),
    Property(
        "processes are bounded",
        attack="""
import time
count = 0
try:
    while count < 64:
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        count += 1
except OSError: pass
if count > 16: found.append(f'{count} children')
""",
        unclaimed=_tiers("landlock"),
    ),
    Property(
        "memory is bounded over all processes",
        attack="""
import time
pipes = []
for _ in range(8):
    read, write = os.pipe()
    if os.fork() == 0:
        block = b'x' * (100 << 20)
        os.write(write, b'1')
        time.sleep(8)
        os._exit(0)
    os.close(write)
    pipes.append(read)
held = sum(bool(os.read(pipe, 1)) for pipe in pipes)
if held > 4: found.append(f'{held} children with 100 MiB each')
""",
        statuses=(
            Status.OK,
            Status.MEMORY,
        ),
        needs_cgroup=True,
    ),
    Property(
        "signals stay inside",
        attack="""
import signal
for number in (signal.SIGTERM, signal.SIGKILL):
    for pid in (1, os.getppid() or 1):
        try: os.kill(pid, number)
        except OSError: pass
os.kill(0, signal.SIGCONT)
try: os.kill(-1, signal.SIGKILL)
except OSError: pass
""",
        statuses=(
            Status.OK,
            Status.SIGNAL,
        ),
    ),
    Property(
        "no other processes",
        attack="""
mine = {os.getpid(), os.getppid(), 1}
others = set(pids()) - mine
if len(others) > 1: found.append(f'{len(others)} others')
for pid in set(pids()) - {os.getpid()}:
    attempt(f'memory of {pid}', lambda: os.close(os.open(f'/proc/{pid}/mem', os.O_RDWR)))
    attempt(f'descriptors of {pid}', lambda: os.listdir(f'/proc/{pid}/fd'))
    attempt(f'root of {pid}', lambda: os.listdir(f'/proc/{pid}/root/'))
""",
        unclaimed=_tiers("landlock"),
    ),
    Property(
        "no descriptors of others",
        attack="""
for fd in range(4, 1024): attempt(f'descriptor {fd}', lambda: os.fstat(fd).st_mode)
""",
    ),
    Property(
        "nothing is left for the next run",
        attack="""
for folder in ('/tmp', '/dev/shm'):
    if os.listdir(folder): found.append(f'{folder}: {os.listdir(folder)}')
attempt('shared memory', lambda: libc.shmget(4711, 0, 0) >= 0)
""",
        before="""
for folder in ('/tmp', '/dev/shm'):
    attempt('', lambda: open(f'{folder}/left', 'w').close())
    attempt('', lambda: os.makedirs(f'{folder}/deep/er'))
    attempt('', lambda: os.chmod(f'{folder}/deep', 0))
libc.shmget(4711, 4096, 0o1666)
import time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: time.sleep(30)
    os._exit(0)
""",
        unclaimed=_tiers("landlock"),
    ),
    Property(
        "no memory of earlier runs",
        attack="""
wanted = bytes(value ^ 255 for value in bytes.fromhex(masked))
areas = [line.split()[:2] for line in open('/proc/self/maps')]
with open('/proc/self/mem', 'rb', 0) as memory:
    for span, rights in areas:
        start, end = (int(part, 16) for part in span.split('-'))
        if 'w' not in rights: continue
        try:
            memory.seek(start)
            block = memory.read(end - start)
        except (OSError, ValueError): continue
        if block.count(wanted) > 2: found.append(f'{block.count(wanted)} traces')
""",
        before="""
secret = bytes.fromhex(marker).decode()
keep = [secret + str(number) for number in range(1000)]
print(*keep)
print(*keep, file=sys.stderr)
""",
    ),
    Property(
        "limits hold against the stubborn",
        attack="""
import signal
for number in range(1, 32):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass
""",
        limits=Limits(cpu_s=0.3, wall_s=15.0),
        unclaimed=frozenset(),
        statuses=(Status.TIMEOUT_CPU,),
    ),
    Property(
        "output is bounded",
        attack="""
while True: os.write(1, b'x' * 65536)
""",
        unclaimed=frozenset(),
        statuses=(Status.OUTPUT_LIMIT,),
    ),
)
