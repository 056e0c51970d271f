"""What `model.kernels` and `model.compile` do to a learner's pass, in time and memory.

A model as the trainer loads it, with a LoRA adapter: forward, log-probs of all tokens, backward, by
medians of interleaved rounds. On a CPU the built-in policy and a wider random model in CPU-seconds
of one thread; on a GPU random models of real widths. Layouts are the trainer's: rows, or a tree
whose branches share a prompt. Compiling is counted apart: it is paid once a run.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # so that its CPU-seconds are seen

import torch
from kernels_timing import timed
from torch._dynamo.utils import counters

from turnhalle.agents.lm import LanguageModel
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.kernels.compiled import compile_layers
from turnhalle.kernels.logprob import token_logprobs
from turnhalle.kernels.patch import apply
from turnhalle.kernels.tree_attention import tree_of

ROUNDS = {"cuda": 9, "cpu": 7}
WAYS = {"off": (), "kernels": ("kernels",), "compile": ("compile",), "both": ("kernels", "compile")}


class Model(NamedTuple):
    """Hidden size, MLP, layers and vocabulary of a random Qwen3; groups of a pass."""

    hidden: int
    inner: int
    layers: int
    words: int
    groups: int


CPU = {"wider": Model(512, 1536, 4, 8192, 1)}
GPU = {
    "as Qwen3-0.6B": Model(1024, 3072, 28, 151_936, 4),
    "as Qwen3-4B": Model(2560, 9728, 36, 151_936, 4),
}
PROMPT, BRANCH, BRANCHES = 256, 128, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", nargs="*", default=["fp32", "nf4"], help="on a CPU")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=WAYS)
    arguments = parser.parse_args()
    sys.path.remove(str(Path(__file__).parent))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1 if device == "cpu" else torch.get_num_threads())
    precisions = arguments.precision if device == "cpu" else ["bf16", "nf4"]
    print("| model | precision | layout | way | ms | of off | extra MiB | compiling | graphs |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as parent:
        folders = {"tiny": ("tiny", 8)} if device == "cpu" else {}
        for name, model in (CPU if device == "cpu" else GPU).items():
            folders[name] = (write(Path(parent) / name.replace(" ", "-"), model), model.groups)
        for name, (folder, groups) in folders.items():
            for precision in precisions:
                if precision == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
                    print("(bitsandbytes is not installed: nf4 is left out)", file=sys.stderr)
                    continue
                for layout in ("tree", "rows") if device == "cpu" else ("rows",):
                    label = f"| {name} | {precision} | {layout} |"
                    compare(label, folder, precision, layout, groups, arguments.ways, device)


def write(folder: Path, model: Model) -> str:
    """A random Qwen3."""
    import transformers

    config = transformers.Qwen3Config(
        vocab_size=model.words,
        hidden_size=model.hidden,
        intermediate_size=model.inner,
        num_hidden_layers=model.layers,
        num_attention_heads=model.hidden // 64,
        num_key_value_heads=max(1, model.hidden // 128),
        head_dim=64,
    )
    dtype = torch.bfloat16 if model.words > 10_000 else torch.float32
    transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).save_pretrained(folder)
    return str(folder)


def compare(
    label: str,
    folder: str,
    precision: Any,
    layout: str,
    groups: int,
    ways: list[str],
    device: str,
) -> None:
    """One model in one layout, in every way side by side."""
    torch._dynamo.reset()
    runs: dict[str, Callable[[], Any]] = {}
    started: dict[str, tuple[float, int]] = {}
    for way in ways:
        options = ModelOptions(name=folder, precision=precision, device=device, kernels="off")
        lm = load_model(options, lora_seed=0)
        if "kernels" in WAYS[way]:
            apply(lm.model, check=False)
        if "compile" in WAYS[way]:
            compile_layers(lm.model)
        runs[way] = learner_pass(lm, layout, groups)
        counters.clear()
        before = cpu_seconds()
        runs[way]()
        started[way] = (cpu_seconds() - before, counters["stats"]["unique_graphs"])
    times: dict[str, list[float]] = {way: [] for way in runs}
    memory: dict[str, list[float]] = {way: [] for way in runs}
    for _ in range(ROUNDS[device]):
        for way, run in runs.items():
            seconds, extra = timed(run, device)
            times[way].append(seconds)
            memory[way].append(extra)
    base = statistics.median(times[ways[0]])
    for way in runs:
        median = statistics.median(times[way])
        compiling = started[way][0] - median if "compile" in WAYS[way] else 0.0
        print(
            f"{label} {way} | {1000 * median:.1f} | {median / base:.2f} | "
            f"{statistics.median(memory[way]) / 2**20:.0f} | {compiling:.0f} s | "
            f"{started[way][1]} |",
            flush=True,
        )


def learner_pass(lm: LanguageModel, layout: str, groups: int) -> Callable[[], Any]:
    """Groups of branches behind a prompt, scored and differentiated."""
    length = PROMPT + BRANCH
    generator = torch.Generator().manual_seed(0)
    parents: list[int] = []
    for _ in range(groups):
        first = len(parents)
        parents += [-1, *range(first, first + PROMPT - 1)]
        for _ in range(BRANCHES):
            start = len(parents)
            parents += [first + PROMPT - 1, *range(start, start + BRANCH - 1)]
    tree = tree_of(parents).to(lm.device)
    count = len(parents) if layout == "tree" else groups * BRANCHES * length
    ids = torch.randint(3, 250, (count,), generator=generator).to(lm.device)
    learning = list(lm.trainable().values())

    def run() -> Any:
        if layout == "tree":
            states = lm.tree_states(ids, tree)
        else:
            states = lm.hidden_states(ids.view(-1, length)).flatten(0, 1)
        scores = token_logprobs(states[:-1], lm.head, ids[1:])[0]
        return torch.autograd.grad(scores.sum(), learning)

    return run


def cpu_seconds() -> float:
    """Of this process and the compilers it started; by the clock on a GPU."""
    if torch.cuda.is_available():
        return time.perf_counter()
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


if __name__ == "__main__":
    main()
