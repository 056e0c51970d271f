"""What a sandbox should hold against, each with the attack that proves it.

An attack is a program that says what it could do; the list of what it could do must be empty.
Nothing in it destroys anything if it succeeds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .core import Limits, Program, RunResult, Sandbox, Status

_TRY = """
import ctypes, os, sys
found = []
def attempt(name, action):
    try:
        result = action()
    except (OSError, MemoryError, ImportError):
        return
    if result is not False:
        found.append(f"{name}: {result}"[:200])
def pids():
    try:
        return [int(name) for name in os.listdir('/proc') if name.isdigit()]
    except OSError:
        return [os.getpid(), os.getppid(), 1]
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return libc.syscall(*wide) >= 0
"""
_END = "\nprint('\\n'.join(found))\n"


@dataclass(frozen=True, slots=True)
class Property:
    """Something that holds, or does not."""

    name: str
    attack: str
    """Code that appends to `found` what it could do; `attempt(name, action)` helps."""
    before: str = ""
    """Code of a run that comes first, and may leave something behind."""
    limits: Limits = field(default_factory=lambda: Limits(wall_s=15.0))
    unclaimed: frozenset[str] = frozenset({"unsafe"})
    """Tiers that do not claim it."""
    statuses: tuple[Status, ...] = (Status.OK,)
    """How the attack may end; in most it ends by itself."""
    needs_cgroup: bool = False
    """Not claimed by a tier whose record says that memory is limited per process."""

    def examine(self, sandbox: Sandbox, secrets: dict[str, str]) -> str:
        """Attack; gives what was found, "" if the property holds.

        Args:
            sandbox: What is attacked.
            secrets: Of the host, by their name in the attack's code: paths, a port, text.
        """
        names = "".join(f"{name} = {value!r}\n" for name, value in secrets.items())
        if self.before:
            sandbox.run(Program(names + _TRY + self.before), self.limits)
        result = sandbox.run(Program(names + _TRY + self.attack + _END), self.limits)
        if problem := _problem(result, self.statuses):
            return problem
        alive = sandbox.run(Program("print('alive')"), Limits(wall_s=15.0))
        return "" if alive.stdout == "alive\n" else f"the next run ended with {alive.status}"


def _problem(result: RunResult, statuses: tuple[Status, ...]) -> str:
    if result.status not in statuses:
        last = (result.stderr.strip().splitlines() or [result.detail])[-1]
        return f"the attack ended with {result.status}: {last}"[:300]
    return result.stdout.strip().replace("\n", "; ")[:300] if result.status is Status.OK else ""


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
        "import socket\n"
        "def connect(address):\n"
        "    with socket.socket() as link:\n"
        "        link.settimeout(2)\n        link.connect(address)\n"
        "attempt('a service of the host', lambda: connect(('127.0.0.1', port)))\n"
        "attempt('metadata', lambda: connect(('169.254.169.254', 80)))\n"
        "def datagram():\n"
        "    with socket.socket(type=socket.SOCK_DGRAM) as link:\n"
        "        link.sendto(b'x', ('8.8.8.8', 53))\n"
        "attempt('datagrams', datagram)\n"
        "for family in (16, 17, 38, 40):\n"
        "    attempt(f'family {family}', lambda: socket.socket(family, 3 if family < 38 else 1).close())",
    ),
    Property(
        "no files of the host",
        "for path in (secret_file, '/etc/shadow', home, '/root', '/home', '/var/log', '/run/docker.sock',\n"
        "             '/sys/fs/cgroup/memory', '/dev/mem', '/dev/kvm', '/dev/vda'):\n"
        "    attempt(path, lambda: os.listdir(path) != [] if os.path.isdir(path) else bool(open(path, 'rb').read(1)))",
        unclaimed=_tiers(),
    ),
    Property(
        "no environment of the host",
        "for pid in pids():\n"
        "    def look():\n"
        "        return bytes.fromhex(variable) in open(f'/proc/{pid}/environ', 'rb').read()\n"
        "    attempt(f'environ of {pid}', look)",
    ),
    Property(
        "no settings of the kernel",
        "for path in ('/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/proc/sys/kernel/modprobe',\n"
        "             '/sys/kernel/uevent_helper', '/sys/power/state'):\n"
        "    attempt(path, lambda: os.close(os.open(path, os.O_WRONLY)))",
    ),
    Property(
        "nobody's rights",
        "status = dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)\n"
        "for name in ('CapInh', 'CapPrm', 'CapEff', 'CapAmb'):\n"
        "    if int(status[name], 16): found.append(f'{name} {status[name]}')\n"
        "if status['NoNewPrivs'] != '1' or status['Seccomp'] != '2': found.append('no filter')\n"
        "inside, outside, _ = open('/proc/self/uid_map').read().split()[:3]\n"
        "if os.getuid() == 0 or int(outside) == 0 and int(inside) == os.getuid(): found.append('root')\n"
        "if os.getgroups() not in ([], [os.getgid()]): found.append(f'groups {os.getgroups()}')\n"
        "attempt('setuid', lambda: os.setuid(0))",
    ),
    Property(
        "no rights to be had",
        "lines = open('/proc/self/status').read().splitlines()\n"
        "found += [line for line in lines if line[:6] == 'CapBnd' and int(line[8:], 16)]",
        unclaimed=_tiers("landlock"),  # only root may empty it; no-new-privileges holds too
    ),
    Property(
        "no forbidden system calls",
        _SYSCALLS + "for name, number in numbers.items():\n"
        "    flags = 0x10000000 if name == 'unshare' else 0\n"
        "    attempt(name, lambda: call(number, flags, 0, 0, 0, 0))\n"
        "attempt('clone3', lambda: call(435, 0, 0) or ctypes.get_errno() != 38)\n"
        "attempt('io_uring', lambda: call(425, 1, ctypes.create_string_buffer(120)))\n"
        "attempt('pidfd_getfd', lambda: call(438, call(434, 1, 0), 0, 0))",
    ),
    Property(
        "nothing written but its own folders, and those bounded",
        "def fill(folder):\n"
        "    size = 0\n"
        "    with open(f'{folder}/fill{os.getpid()}', 'wb', buffering=0) as file:\n"
        "        try:\n"
        "            while size < 64 * 2**20: size += file.write(b'x' * 2**20)\n"
        "        except OSError: pass\n"
        "    size and os.unlink(file.name)\n"
        "    return size > 17 * 2**20 and f'{size >> 20} MiB'\n"
        "for folder in ('/tmp', '/dev/shm', '/', '/dev', '/usr', '/usr/lib', '/var', '/var/tmp', '/run', '/etc', '/proc'):\n"
        "    attempt(folder, lambda: fill(folder))\n"
        "attempt('mknod', lambda: os.mknod('/tmp/device', 0o60600, os.makedev(254, 0)))",
        unclaimed=_tiers("landlock"),
    ),
    Property(
        "processes are bounded",
        "import time\ncount = 0\n"
        "try:\n"
        "    while count < 64:\n"
        "        if os.fork() == 0:\n            time.sleep(30)\n            os._exit(0)\n"
        "        count += 1\n"
        "except OSError: pass\n"
        "if count > 16: found.append(f'{count} children')",
        unclaimed=_tiers("landlock"),
    ),
    Property(
        "memory is bounded over all processes",
        "import time\npipes = []\n"
        "for _ in range(8):\n"
        "    read, write = os.pipe()\n"
        "    if os.fork() == 0:\n"
        "        block = b'x' * (100 << 20)\n        os.write(write, b'1')\n        time.sleep(8)\n        os._exit(0)\n"
        "    os.close(write)\n    pipes.append(read)\n"
        "held = sum(bool(os.read(pipe, 1)) for pipe in pipes)\n"
        "if held > 4: found.append(f'{held} children with 100 MiB each')",
        statuses=(Status.OK, Status.MEMORY),
        needs_cgroup=True,
    ),
    Property(
        "signals stay inside",
        "import signal\n"
        "for number in (signal.SIGTERM, signal.SIGKILL):\n"
        "    for pid in (1, os.getppid() or 1):\n"
        "        try: os.kill(pid, number)\n"
        "        except OSError: pass\n"
        "os.kill(0, signal.SIGCONT)\n"
        "try: os.kill(-1, signal.SIGKILL)\n"
        "except OSError: pass",
        statuses=(Status.OK, Status.SIGNAL),
    ),
    Property(
        "no other processes",
        "mine = {os.getpid(), os.getppid(), 1}\n"
        "others = set(pids()) - mine\n"
        "if len(others) > 1: found.append(f'{len(others)} others')\n"
        "for pid in set(pids()) - {os.getpid()}:\n"
        "    attempt(f'memory of {pid}', lambda: os.close(os.open(f'/proc/{pid}/mem', os.O_RDWR)))\n"
        "    attempt(f'descriptors of {pid}', lambda: os.listdir(f'/proc/{pid}/fd'))\n"
        "    attempt(f'root of {pid}', lambda: os.listdir(f'/proc/{pid}/root/'))",
        unclaimed=_tiers("landlock"),
    ),
    Property(
        "no descriptors of others",
        "for fd in range(4, 1024): attempt(f'descriptor {fd}', lambda: os.fstat(fd).st_mode)",
    ),
    Property(
        "nothing is left for the next run",
        before="for folder in ('/tmp', '/dev/shm'):\n"
        "    attempt('', lambda: open(f'{folder}/left', 'w').close())\n"
        "    attempt('', lambda: os.makedirs(f'{folder}/deep/er'))\n"
        "    attempt('', lambda: os.chmod(f'{folder}/deep', 0))\n"
        "libc.shmget(4711, 4096, 0o1666)\n"
        "import time\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(30)\n    os._exit(0)",
        attack="for folder in ('/tmp', '/dev/shm'):\n"
        "    if os.listdir(folder): found.append(f'{folder}: {os.listdir(folder)}')\n"
        "attempt('shared memory', lambda: libc.shmget(4711, 0, 0) >= 0)",
        unclaimed=_tiers("landlock"),
    ),
    Property(
        "no memory of earlier runs",
        before="secret = bytes.fromhex(marker).decode()\n"
        "keep = [secret + str(number) for number in range(1000)]\n"
        "print(*keep)\nprint(*keep, file=sys.stderr)",
        attack="wanted = bytes(value ^ 255 for value in bytes.fromhex(masked))\n"
        "areas = [line.split()[:2] for line in open('/proc/self/maps')]\n"
        "with open('/proc/self/mem', 'rb', 0) as memory:\n"
        "    for span, rights in areas:\n"
        "        start, end = (int(part, 16) for part in span.split('-'))\n"
        "        if 'w' not in rights: continue\n"
        "        try:\n            memory.seek(start)\n            block = memory.read(end - start)\n"
        "        except (OSError, ValueError): continue\n"
        "        if block.count(wanted) > 2: found.append(f'{block.count(wanted)} traces')",
    ),
    Property(
        "limits hold against the stubborn",
        "import signal\n"
        "for number in range(1, 32):\n"
        "    try: signal.signal(number, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\n"
        "while True: pass",
        limits=Limits(cpu_s=0.3, wall_s=15.0),
        statuses=(Status.TIMEOUT_CPU,),
        unclaimed=frozenset(),
    ),
    Property(
        "output is bounded",
        "while True: os.write(1, b'x' * 65536)",
        statuses=(Status.OUTPUT_LIMIT,),
        unclaimed=frozenset(),
    ),
)
