"""`turnhalle quantize`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from turnhalle.commands.options import (
    Difficulty,
    EnvName,
    Options,
    Out,
    make_console,
    parse_options,
)

if TYPE_CHECKING:
    from turnhalle.agents.engines.base import Sampling
    from turnhalle.agents.quantization.bnb import Format
    from turnhalle.agents.quantization.compare import Contest
    from turnhalle.agents.quantization.plan import Plan
    from turnhalle.envs.registry import EnvFactory

Report = Annotated[
    Path | None, typer.Option(help="Folder for a table and a plot of 16 to 1.58 bits.")
]
Held = Annotated[
    Literal["dynamic", "nf4", "fp4", "int8"],
    typer.Option(help="`dynamic` is nf4 with the layers that suffer most in 16 bits."),
]
Budget = Annotated[
    float | None,
    typer.Option(
        help="How much larger than nf4 `dynamic` may be; 0.1, the default, is 10 %.", min=0
    ),
]
TextFile = Annotated[
    Path | None,
    typer.Option(help="Measure on this file: chats (.jsonl), or plain text; else on episodes."),
]
Passages = Annotated[
    int, typer.Option(help="Episodes or passages to measure on; half of them choose.", min=2)
]

_BUDGET = 0.1
_WORST = 12
"""Most rows of the table of damages."""


def quantize(
    model: Annotated[str, typer.Argument(help="Model folder, Hugging Face name, or `tiny`.")],
    out: Out = None,
    report: Report = None,
    format: Held = "dynamic",
    budget: Budget = None,
    text: TextFile = None,
    passages: Passages = 128,
    env: EnvName = "tools",
    difficulty: Difficulty = None,
    option: Options = None,
    tasks: Annotated[
        int, typer.Option("--tasks", "-n", help="Held-out tasks of the report.", min=1)
    ] = 200,
    temperature: Annotated[float, typer.Option(help="0 is greedy.", min=0)] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="Most tokens of one turn.", min=1)] = 64,
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda` or `cuda:0`.")] = "auto",
) -> None:
    """Write a model in 8 or 4 bits, or report what fewer bits cost it.

    What is measured is the KL divergence of next-token distributions from the model's own, on
    episodes that it plays or on a text of yours. The folder is loaded as it is by transformers,
    peft, vLLM, `turnhalle train --model` and `turnhalle bench --policy`.

    Examples: `turnhalle quantize tiny --out small`;
    `turnhalle quantize Qwen/Qwen3-0.6B --text notes.txt --budget 0.05 --out qwen-4bit`;
    `turnhalle quantize tiny --env math --report bits`.
    """
    from turnhalle.agents.engines.base import Sampling
    from turnhalle.agents.models import require_packages
    from turnhalle.envs.errors import ConfigError
    from turnhalle.envs.options import EnvOptions

    require_packages("nf4")
    if out is None and report is None:
        raise ConfigError("nothing to do: give --out to write the model, --report to compare")
    if budget is not None and format != "dynamic" and report is None:
        raise ConfigError(f"--budget is of dynamic, and has no effect with --format {format}")
    _require_empty(out, report)
    factory = EnvOptions(id=env, difficulty=difficulty, options=parse_options(option)).factory()
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens)
    console = make_console()
    source = "playing" if text is None else "reading"
    with console.status(Text(f"reading {model}, {source} passages")):
        contest = _open(model, device, text, passages, factory, sampling, tasks)
    kept: list[str] = []
    if format == "dynamic" or report is not None:
        with console.status("measuring layers"):
            plan = contest.plan(_BUDGET if budget is None else budget)
        console.print(_damages(plan))
        kept = plan.skip_names
    if out is not None:
        if format == "dynamic":
            _write(console, contest, out, "nf4", kept)
        else:
            _write(console, contest, out, format, [])
    if report is not None:
        _report(console, contest, report, kept)


def _require_empty(*folders: Path | None) -> None:
    from turnhalle.agents.quantization.folder import require_empty

    for folder in folders:
        if folder is not None:
            require_empty(folder)


def _open(
    name: str,
    device: str,
    text: Path | None,
    count: int,
    factory: EnvFactory,
    sampling: Sampling,
    tasks: int,
) -> Contest:
    """The model in 32 bits, and the text to measure it on."""
    from turnhalle.agents.chat import ChatOptions, load_chat
    from turnhalle.agents.engines.local import TransformersEngine
    from turnhalle.agents.llm import LLMPolicy
    from turnhalle.agents.models import ModelOptions, load_model
    from turnhalle.agents.process import tune_process
    from turnhalle.agents.quantization.compare import Contest
    from turnhalle.agents.quantization.folder import require_unquantized
    from turnhalle.agents.quantization.yardstick import play
    from turnhalle.training.calibration import read_passages

    require_unquantized(name)
    chat = load_chat(name, ChatOptions())
    lm = load_model(ModelOptions(name=name, precision="fp32", device=device))
    tune_process(lm.num_parameters)
    if text is None:
        passages = play(factory, LLMPolicy(name, TransformersEngine(lm), chat, sampling), count)
    else:
        passages = read_passages(text, chat, lm.max_context)[:count]
    return Contest(name, device, chat, lm, passages, factory, sampling, tasks)


def _write(
    console: Console, contest: Contest, folder: Path, format: Format, kept: Sequence[str]
) -> None:
    """Write the folder, load it again, and say what it came to."""
    from turnhalle.agents.quantization.folder import weight_bytes

    with console.status(Text(f"writing {folder}")):
        contest.write(folder, format, kept)
        kl = contest.written_kl(folder)
    half = 2 * contest.reference.num_parameters
    size = weight_bytes(folder)
    console.print(
        f"{size / 1e6:.2f} MB of weights, {size / half:.0%} of 16 bits; KL {kl:.2g} nats a token "
        f"on {contest.yardstick.num_tokens} tokens\n"
        f"model  {folder}\n"
        f"next   turnhalle bench --policy {contest.name} --policy {folder}",
        soft_wrap=True,
    )


def _report(console: Console, contest: Contest, folder: Path, kept: Sequence[str]) -> None:
    """Compare, and write table and plot."""
    from turnhalle.agents.quantization.plot import markdown, svg

    rows = []
    with console.status("16 bits") as status:
        for row in contest.rows(kept):
            status.update(f"{row.name} done")
            rows.append(row)
    title = (
        f"{contest.name} in {contest.factory.id}, {contest.tasks} held-out tasks at temperature "
        f"{contest.sampling.temperature:g}; KL on {contest.yardstick.num_tokens} tokens."
    )
    folder.mkdir(parents=True, exist_ok=True)
    table = markdown(rows)
    (folder / "report.md").write_text(
        f"# In fewer bits\n\n{title}\n\n{table}\n![By size](report.svg)\n", encoding="utf-8"
    )
    (folder / "report.svg").write_text(svg(rows), encoding="utf-8")
    console.print(f"{title}\n{table}report  {folder / 'report.md'}", soft_wrap=True)


def _damages(plan: Plan) -> Table:
    """The layers that suffer most."""
    worst = sorted(plan.damages, key=lambda damage: damage.kl, reverse=True)[:_WORST]
    title = f"NF4, layer by layer: the {len(worst)} worst of {len(plan.damages)}"
    table = Table(title=f"{title} (errors are relative)")
    for name in ("layer", "KL", "weights", "outputs", "kept"):
        table.add_column(name, no_wrap=True)
    for damage in worst:
        table.add_row(
            damage.unit.name,
            f"{damage.kl:.2g}",
            f"{damage.weight_error:.1%}",
            f"{damage.output_error:.1%}",
            f"+{damage.extra_bytes / 1e6:.2f} MB" if damage.unit in plan.kept else "",
        )
    return table
