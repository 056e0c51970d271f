"""What a run of `print(1)` costs in each sandbox, beside bare processes and `docker run`.

Latency with one client, throughput with two clients on two slots; everything takes its turn in
every round. CPU is what the host's process and the box used together, which a busy machine does
not change much; seconds of wall time it does. Docker's daemon works in processes of its own, whose
CPU is in no column. Tiers that this machine lacks are named at the end.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from turnhalle.envs.errors import SandboxUnavailableError
from turnhalle.envs.sandbox.core import Limits, Program, Sandbox, Status
from turnhalle.envs.sandbox.docker.options import IMAGE, DockerOptions
from turnhalle.envs.sandbox.options import SandboxOptions, TierName, open_sandbox

PROGRAM = Program("print(1)")
_SLOW = {"docker, fresh": 10, "docker run --rm": 20}
"""Ways that run so many times less often."""
Once = Callable[[], float]
"""Run once; gives the CPU-seconds used in a box, 0 where children are counted by the system."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60, help="in a round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    ways: dict[str, Once] = {
        "subprocess, python -I -S": lambda: _process("-I", "-S"),
        "subprocess, python": _process,
    }
    sandboxes, missing, starts = {}, {}, {}
    for tier in ("bubblewrap", "docker", "landlock"):
        try:
            started = time.perf_counter()
            with _open(tier, slots=1) as cold:
                _sandboxed(cold)
                starts[tier] = time.perf_counter() - started
            sandboxes[tier] = _open(tier, slots=2)
            ways[tier] = lambda box=sandboxes[tier]: _sandboxed(box)  # type: ignore[misc]
        except SandboxUnavailableError as error:
            missing[tier] = str(error).splitlines()[1]
    if "docker" in sandboxes:
        sandboxes["docker, fresh"] = box = _open("docker", 2, is_fresh=True)
        ways["docker, fresh"] = lambda: _sandboxed(box)
        ways["docker run --rm"] = _docker_run
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, once in ways.items():
            count = max(2, arguments.runs // _SLOW.get(name, 1))
            samples[name] += [_timed(once) for _ in range(count)]
            rates[name].append(_rate(once, count))
    _print(samples, rates)
    for tier, seconds in starts.items():
        late = [_lateness(sandboxes[tier]) * 1e3 for _ in range(10)]
        print(
            f"{tier}: cold start and first run {seconds * 1e3:.0f} ms; a sleeper is dead "
            f"{statistics.median(late):.0f} ms after its wall limit (worst of ten {max(late):.0f})"
        )
    for tier, why in missing.items():
        print(f"{tier}: not here ({why})")
    for sandbox in sandboxes.values():
        sandbox.close()


def _open(tier: TierName, slots: int, is_fresh: bool = False) -> Sandbox:
    docker = DockerOptions(fresh=is_fresh)
    return open_sandbox(SandboxOptions(tier=tier, slots=slots, recycle_after=10**6, docker=docker))


def _lateness(sandbox: Sandbox) -> float:
    """Seconds between the wall limit of a program that sleeps and its end."""
    limits = Limits(wall_s=0.2)
    return sandbox.run(Program("import time; time.sleep(9)"), limits).usage.wall_s - limits.wall_s


def _process(*flags: str) -> float:
    command = [sys.executable, *flags, "-c", PROGRAM.code]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"1\n"
    return 0.0


def _docker_run() -> float:
    flags = ("--rm", "--network=none", IMAGE, "python3", "-I", "-S", "-c")
    command = ["docker", "run", *flags, PROGRAM.code]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"1\n"
    return 0.0


def _sandboxed(sandbox: Sandbox) -> float:
    result = sandbox.run(PROGRAM)
    assert (result.status, result.stdout) == (Status.OK, "1\n"), result
    return result.usage.cpu_s


def _cpu_s() -> float:
    import resource

    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def _timed(once: Once) -> tuple[float, float]:
    """Wall time and CPU-seconds of a run."""
    cpu, started = _cpu_s(), time.perf_counter()
    boxed = once()
    return time.perf_counter() - started, _cpu_s() - cpu + boxed


def _rate(once: Once, count: int) -> float:
    """Runs a second with two clients."""
    clients = [threading.Thread(target=lambda: [once() for _ in range(count)]) for _ in range(2)]
    started = time.perf_counter()
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return 2 * count / (time.perf_counter() - started)


def _print(samples: dict[str, list[tuple[float, float]]], rates: dict[str, list[float]]) -> None:
    print(f"{'way':28}{'p50 ms':>9}{'p95':>8}{'p99':>8}{'CPU-ms':>9}{'runs/s':>9}{'best':>7}")
    for name, taken in samples.items():
        wall = sorted(seconds * 1e3 for seconds, _ in taken)
        cells = [wall[int(share * (len(wall) - 1))] for share in (0.5, 0.95, 0.99)]
        cpu = statistics.median(cpu * 1e3 for _, cpu in taken)
        texts = "".join(f"{cell:{width}.1f}" for cell, width in zip(cells, (9, 8, 8), strict=True))
        rate = statistics.median(rates[name])
        print(f"{name:28}{texts}{cpu:9.1f}{rate:9.0f}{max(rates[name]):7.0f}")


if __name__ == "__main__":
    main()
