"""Rollouts, measured: our engines beside `model.generate`, TRL and vLLM's bare loop.

A random Qwen3 of 0.87 M parameters plays 8 tasks x 8 rollouts x 3 turns x 32 tokens behind a prompt
of 200 tokens; CPU-seconds on one thread, medians of interleaved rounds. Every part runs in a
process of its own. TRL runs in .venvs/trl (made on first use; `--no-peer` leaves it out), vLLM
where it is installed (`make vllm`). "Raw" is vLLM's add_request/step loop on the same token ids.
"""

from __future__ import annotations

import argparse
import heapq
import importlib.util
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from grpo_step import run_trl, write_model

import turnhalle as th
from turnhalle.agents.chat import ChatOptions, load_chat
from turnhalle.agents.engines.base import Engine, Sampling
from turnhalle.agents.engines.local import TransformersEngine
from turnhalle.agents.llm import LLMPolicy
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.agents.process import tune_process
from turnhalle.agents.rollout import Job, rollout
from turnhalle.agents.scripted import ScriptedPolicy
from turnhalle.envs.registry import EnvFactory

TASKS, GROUP, TURNS, TOKENS = 8, 8, 3, 32
EPISODES = TASKS * GROUP
OPENING = "You are in a hall with many doors. " * 5 + "Say a word. "
"""About 190 tokens, one a byte; the task's own text makes them 200 and more."""


class Game(th.TextEnv):
    """Three turns."""

    max_turns = TURNS
    system_prompt = ""
    latency_s = 0.0

    def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
        return {"game": rng.randrange(10**6)}

    def start(self) -> str:
        return f"{OPENING}Game {self.instance['game']}: reach the goal. Guess."

    def respond(self, action: str) -> th.Reply:
        if self.latency_s:
            time.sleep(self.latency_s)
        return th.Reply(f"obs {self.turn}: try again", reward=0.5)


class SlowGame(Game):
    """Answers after 50 ms."""

    metadata = {**Game.metadata, "blocking": True}  # noqa: RUF012
    latency_s = 0.05


def jobs(step: int) -> list[Job]:
    return [Job("train", step * TASKS + i, s, step) for i in range(TASKS) for s in range(GROUP)]


def policy_of(folder: str, engine: Engine) -> LLMPolicy:
    chat = load_chat(folder, ChatOptions(system_prompt=""))
    chat.stop_ids = frozenset()  # every turn has all its tokens
    return LLMPolicy("policy", engine, chat, Sampling(max_new_tokens=TOKENS))


def cpu_seconds(work: Callable[[int], None], rounds: int) -> list[float]:
    """CPU-seconds of `rounds` rounds after one that warms up."""
    seconds = []
    for number in range(rounds + 1):
        started = time.process_time()
        work(number)
        seconds.append(time.process_time() - started)
    return seconds[1:]


def load(folder: str, lora_seed: int | None = None) -> Any:
    torch.set_num_threads(1)
    options = ModelOptions(name=folder, precision="fp32", device="cpu", lora_rank=16)
    lm = load_model(options, lora_seed=lora_seed)
    tune_process(lm.num_parameters)
    return lm


def ours(folder: str, rounds: int) -> dict[str, Any]:
    lm = load(folder)
    policy = policy_of(folder, TransformersEngine(lm))
    return {"s": cpu_seconds(lambda n: check(rollout(EnvFactory(Game), policy, jobs(n))), rounds)}


def check(played: list[Any]) -> None:
    assert sum(t.num_sampled for t in played) == EPISODES * TURNS * TOKENS


@torch.no_grad()
def generate(folder: str, rounds: int) -> dict[str, Any]:
    """`model.generate` called for all episodes once a turn, as lock-step trainers do."""
    lm = load(folder)
    chat = load_chat(folder, ChatOptions(system_prompt=""))

    def play(number: int) -> None:
        envs = [Game() for _ in range(EPISODES)]
        contexts = []
        for env, job in zip(envs, jobs(number), strict=True):
            _, info = env.reset(options=job.options())
            contexts.append(chat.prompt(info["messages"], []))
        for _ in range(TURNS):
            longest = max(map(len, contexts))
            ids = torch.tensor([[0] * (longest - len(c)) + c for c in contexts])
            out = lm.model.generate(
                input_ids=ids, attention_mask=(ids != 0).long(), do_sample=True, top_k=0,
                max_new_tokens=TOKENS, min_new_tokens=TOKENS, pad_token_id=0,
            )  # fmt: skip
            for i, sampled in enumerate(out[:, longest:].tolist()):
                *_, info = envs[i].step(chat.read(sampled, []))
                tail = chat.continuation(contexts[i] + sampled, info["messages"])
                contexts[i] = contexts[i] + sampled + tail

    return {"s": cpu_seconds(play, rounds)}


def vllm(folder: str, rounds: int) -> dict[str, Any]:
    """Our driver on vLLM beside vLLM's bare loop, with and without latency, in turns."""
    from turnhalle.agents.engines.options import VllmOptions
    from turnhalle.agents.engines.vllm import VllmEngine

    lm = load(folder, lora_seed=0)
    engine = VllmEngine(lm, VllmOptions())
    engine.load_adapter(1, lm.trainable())
    policy = policy_of(folder, engine)
    ways: dict[str, Callable[[int], Any]] = {
        "driver": lambda n: check(rollout(EnvFactory(Game), policy, jobs(n))),
        "raw": lambda n: bare(engine, *spoken(policy.chat, n), 0.0),
        "driver 50 ms": lambda n: check(rollout(EnvFactory(SlowGame), policy, jobs(n))),
        "raw 50 ms": lambda n: bare(engine, *spoken(policy.chat, n), 0.05),
    }
    stepping = watch_steps(engine)
    measured: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    for number in range(2 * rounds + 1):
        order = list(ways.items())[:: 1 if number % 2 else -1]
        for offset, (name, way) in enumerate(order):
            stepping[0], cpu, wall = 0.0, time.process_time(), time.perf_counter()
            way(4 * number + offset)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            measured[name] += [(cpu, wall, cpu - stepping[0])] * bool(number)
    syncs = []
    for version in range(2, 22):
        started = time.process_time()
        engine.load_adapter(version, lm.trainable())
        syncs.append(time.process_time() - started)
    engine.shutdown()
    return {"ways": measured, "sync": syncs}


def watch_steps(engine: Any) -> list[float]:
    """A list whose only number grows by the CPU-seconds of vLLM's own steps."""
    core, spent = engine._core._engine, [0.0]
    inner = core.step

    def step() -> Any:
        started = time.process_time()
        outputs = inner()
        spent[0] += time.process_time() - started
        return outputs

    core.step = step
    return spent


def own_process(folder: str, rounds: int) -> dict[str, Any]:
    """Our driver on vLLM in a process of its own: wall time, CPU-seconds here and there."""
    import psutil

    from turnhalle.agents.engines.options import VllmOptions
    from turnhalle.agents.engines.vllm import VllmEngine

    lm = load(folder, lora_seed=0)
    engine = VllmEngine(lm, VllmOptions(own_process=True))
    engine.load_adapter(1, lm.trainable())
    policy = policy_of(folder, engine)
    children = psutil.Process().children(recursive=True)

    def spent() -> tuple[float, float, float]:
        there = sum(sum(child.cpu_times()[:2]) for child in children)
        return time.perf_counter(), time.process_time(), there

    measured = []
    for number in range(rounds + 1):
        before = spent()
        check(rollout(EnvFactory(Game), policy, jobs(number)))
        measured.append([b - a for a, b in zip(before, spent(), strict=True)])
    engine.shutdown()
    return {"spent": measured[1:]}


def spoken(chat: Any, number: int) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of every episode's prompt, and of what environments answer."""
    prompts, tails = [], []
    for job in jobs(number):
        env = Game()
        _, info = env.reset(options=job.options())
        prompts.append(chat.prompt(info["messages"], []))
        if not tails:
            for _ in range(TURNS):
                *_, info = env.step("a")
                tails.append(chat.continuation([], info["messages"]))
    return prompts, tails


def bare(engine: Any, prompts: list[list[int]], tails: list[list[int]], latency_s: float) -> None:
    """The smallest loop that keeps vLLM busy: no chat, no environments, no records."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    core = engine._core._engine
    contexts = [list(prompt) for prompt in prompts]
    turns, ready = [0] * EPISODES, [(0.0, e) for e in range(EPISODES)]
    running = 0
    while ready or running:
        while ready and ready[0][0] <= time.perf_counter():
            _, e = heapq.heappop(ready)
            params = SamplingParams(
                max_tokens=TOKENS, seed=10 * e + turns[e], ignore_eos=True,
                logprobs=0, flat_logprobs=True, detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )  # fmt: skip
            prompt: Any = {"prompt_token_ids": list(contexts[e])}
            core.add_request(f"raw-{e}", prompt, params, lora_request=engine._core._adapter)
            running += 1
        for output in core.step() if running else ():
            if output.finished:
                e, running = int(output.request_id[4:]), running - 1
                contexts[e] += list(output.outputs[0].token_ids) + tails[turns[e]]
                turns[e] += 1
                if turns[e] < TURNS:
                    heapq.heappush(ready, (time.perf_counter() + latency_s, e))


def overhead(folder: str, rounds: int) -> dict[str, Any]:
    """What the driver adds to environments and policy, in microseconds a turn."""

    class Long(Game):
        """Twenty turns."""

        max_turns = 20

    factory, count = EnvFactory(Long), 512
    policy = ScriptedPolicy("says a", lambda env, rng: "a", count)

    def plain(number: int) -> None:
        for job in [Job("train", number * count + i) for i in range(count)]:
            env = factory()
            env.reset(options=job.options())
            while not env.is_over:
                env.step("a")

    def driven(number: int) -> None:
        rollout(factory, policy, [Job("train", number * count + i) for i in range(count)])

    bare_s, driven_s = cpu_seconds(plain, rounds), cpu_seconds(driven, rounds)
    spent = statistics.median(driven_s) - statistics.median(bare_s)
    return {"us": 1e6 * spent / (20 * count)}


def memory(folder: str, rounds: int) -> dict[str, Any]:
    """2,000 episodes of 20 turns at once, GiB beyond the loaded model."""

    class Long(Game):
        """Twenty short turns."""

        max_turns = 20

        def start(self) -> str:
            return f"Game {self.instance['game']}"

        def respond(self, action: str) -> th.Reply:
            return th.Reply("ok")

    lm = load(folder)
    engine = TransformersEngine(lm, max_cache_bytes=2**30)
    policy = policy_of(folder, engine)
    policy.max_concurrent, policy.sampling = 2000, Sampling(max_new_tokens=2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    played = rollout(EnvFactory(Long), policy, [Job("train", i) for i in range(2000)])
    assert all(len(t.turns) == 20 for t in played)
    return {"gib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20}


PARTS = {f.__name__: f for f in (ours, generate, vllm, own_process, overhead, memory)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds, after a warm-up")
    parser.add_argument("--no-peer", action="store_true", help="leave TRL out")
    parser.add_argument("--part", choices=PARTS, help="one part, as JSON; for this script itself")
    parser.add_argument("--folder", help="with --part: where the model is")
    given = parser.parse_args()
    if given.part:
        print(json.dumps(PARTS[given.part](given.folder, given.rounds)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        print_engines(folder, given.rounds, not given.no_peer)
        if importlib.util.find_spec("vllm") is not None:
            print_vllm(apart("vllm", folder, given.rounds))
            print_own_process(apart("own_process", folder, given.rounds)["spent"])
        print(f"\ndriver: {apart('overhead', folder, given.rounds)['us']:.0f} us a turn")
        gib = apart("memory", folder, 1)["gib"]
        print(f"2,000 episodes of 20 turns at once: {gib:.2f} GiB beside the model", flush=True)


def apart(part: str, folder: str, rounds: int) -> Any:
    command = [sys.executable, __file__, "--part", part, "--folder", folder]
    done = subprocess.run(
        [*command, "--rounds", str(rounds)], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def print_engines(folder: str, rounds: int, with_peer: bool) -> None:
    seconds: dict[str, list[float]] = {"transformers engine": [], "model.generate": []}
    for _ in range(rounds):
        seconds["transformers engine"] += apart("ours", folder, 1)["s"]
        seconds["model.generate"] += apart("generate", folder, 1)["s"]
    if with_peer:
        work = {
            "model": folder, "out": f"{folder}/out", "lora": False, "steps": rounds + 1,
            "tasks": TASKS, "group_size": GROUP, "turns": TURNS, "tokens": TOKENS,
            "opening": OPENING,
        }  # fmt: skip
        seconds["TRL 1.16"] = run_trl(work)["rollout"]
    first = statistics.median(seconds["transformers engine"])
    print("| rollout of 64 episodes x 3 turns x 32 tokens | CPU-s | against ours |\n|---|---|---|")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"| {name} | {median:.2f} | {median / first:.2f} |", flush=True)


def print_vllm(measured: dict[str, Any]) -> None:
    tokens, turns = EPISODES * TURNS * TOKENS, EPISODES * TURNS
    print(
        "\n| vLLM | tokens/CPU-s | tokens/s | us a turn outside vLLM's steps |\n|---|---|---|---|"
    )
    for name, spent in measured["ways"].items():
        cpu, wall, outside = (statistics.median(values) for values in zip(*spent, strict=True))
        print(
            f"| {name} | {tokens / cpu:.0f} | {tokens / wall:.0f} | {1e6 * outside / turns:.0f} |"
        )
    for latency, which, what in (("", 0, "CPU-s"), (" 50 ms", 1, "wall time")):
        pairs = zip(measured["ways"][f"driver{latency}"], measured["ways"][f"raw{latency}"],
                    strict=True)  # fmt: skip
        ratios = sorted(raw[which] / ours[which] for ours, raw in pairs)
        print(
            f"driver / raw{latency}, in {what}: {statistics.median(ratios):.3f} "
            f"[{ratios[0]:.3f}, {ratios[-1]:.3f}] of {len(ratios)} pairs"
        )
    print(
        f"sync of a rank-16 adapter: {1e3 * statistics.median(measured['sync']):.1f} ms", flush=True
    )


def print_own_process(spent: list[list[float]]) -> None:
    wall, here, there = (statistics.median(values) for values in zip(*spent, strict=True))
    tokens = EPISODES * TURNS * TOKENS
    print(
        f"vLLM in its own process: {tokens / wall:.0f} tokens/s; CPU-s here {here:.2f}, there "
        f"{there:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
