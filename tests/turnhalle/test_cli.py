"""The commands, as people type them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from PIL import Image

import turnhalle as th
from turnhalle.agents.engines.local import TransformersEngine
from turnhalle.agents.evaluate import evaluate
from turnhalle.agents.scripted import scripted_policy
from turnhalle.agents.store import RunStore
from turnhalle.cli import app
from turnhalle.envs import registry
from turnhalle.envs.errors import InterruptedRunError
from turnhalle.envs.registry import resolve
from turnhalle.training.trainer import Trainer

COMMANDS = [command.callback.__name__ for command in app.registered_commands]  # type: ignore[union-attr]
SMALL = [
    "--set", "rollout.tasks=4", "--set", "rollout.group_size=4", "--set", "evaluate.tasks=10",
    "--set", "learn.warmup_steps=0",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(command: str, run: Any) -> None:
    said = run(command, "--help")
    assert said.code == 0
    assert re.search(rf"Examples?:\s+turnhalle {command}", said.out)


def test_the_commands_are_those_of_the_design() -> None:
    assert COMMANDS == [
        "train",
        "bench",
        "prime",
        "quantize",
        "check",
        "envs",
        "play",
        "new",
        "runs",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--env", "tolls"], "did you mean 'tools'"),
        (["train", "quickstrat"], "did you mean 'quickstart'"),
        (["train", "--set", "stepps=3"], "did you mean 'steps'"),
        (["train", "--model", "tinny"], "no model 'tinny'"),
        (["train", "--model", "."], "is no model folder"),
        (["train", "--resume", "nowhere"], "holds no run"),
        (["train", "math", "--resume", "nowhere"], "a resumed run keeps its options"),
        (["train", "--set", "model.device=cuda"], "sees no CUDA device"),
        (["bench", "--policy", "orakel"], "did you mean 'oracle'"),
        (["bench", "--policy", "oracle", "--split", "valid"], "unknown split 'valid'"),
        (["bench", "--policy", "runs/none"], "no model 'runs/none'"),
        (["prime"], "give an environment (--env) or a recipe"),
        (["check", "nowhere.py:Guess"], "no file 'nowhere.py'"),
        (["runs", "nowhere"], "holds no run"),
        (["runs", "--export", "game.html"], "--export writes one episode of a run"),
        (["play", "pacman", "--option", "size"], "takes name=value"),
        (["play", "pacman", "--option", "view=sensor"], "did you mean 'sensors'"),
        (["play", "math", "--export", "game.html"], "has no replay"),
        (["play", "pacman", "--export", "game.mp4"], "a .html or .gif file"),
        (["new", "my-env"], "cannot be the name of a package"),
        (["new", "lambda"], "is a word of Python"),
        (["new", "math"], "would hide the module math"),
        (["new", "turnhalle"], "would hide the module turnhalle"),
        (["new", "numpy"], "would hide the module numpy"),
        (["new", "__main__"], "would hide the module __main__"),
    ],
)
def test_mistakes_are_one_clear_message(
    arguments: list[str], said: str, run: Any, tmp_path: Path
) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert result.err.startswith("error: ")
    assert said in result.err
    assert "Traceback" not in result.err
    assert not list(tmp_path.glob("runs/*"))


def test_a_run_from_start_to_end(run: Any, tmp_path: Path) -> None:
    said = run("train", "--env", "math", "--steps", 3, "--set", 'model.kernels="on"', *SMALL)
    assert said.code == 0
    folder = tmp_path / "runs" / "math-1"
    assert "kernels: 3 x MLP, 3 x attention, 7 x norm, 3 x residual sum" in said.out
    cost = r"cost: an update took \d+\.\d\d s \(median\), and \d\.\d\d GiB .* at most \(model"
    assert re.search(cost + r"\.kernels = 'on', model\.compile = false", said.out)
    assert "step 3/3" in said.out
    assert re.search(r"before\s+│ +\d+ % \[", said.out)
    assert re.search(r"gain: [+-]\d+ points \[", said.out)
    assert "adapter  runs/math-1/adapter" in said.out
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert report.count("<svg") == 2
    assert "http://" not in report.replace("http://www.w3.org", "").replace(
        "http://purl.org", ""
    ).replace("http://creativecommons.org", "")
    assert list((folder / "tensorboard").glob("events*"))

    listed = run("runs")
    assert "runs/math-1" in listed.out
    assert "3 of 3" in listed.out
    assert "held-out success" in run("runs", "runs/math-1").out
    assert "sample" in run("runs", "runs/math-1", "--step", 2).out
    assert "> " in run("runs", "runs/math-1", "--episode", 1).out

    benched = run("bench", "--env", "math", "--policy", "runs/math-1", "--policy", "tiny", "-n", 20)
    assert "points [" in benched.out

    again = run("train", "--env", "math", "--out", "runs/math-1", *SMALL)
    assert again.code == 2
    assert "--resume runs/math-1" in again.err
    more = run("train", "--resume", "runs/math-1", "--steps", 4)
    assert "step 4/4" in more.out
    assert run("train", "--env", "math", "--steps", 1, *SMALL).out.count("runs/math-2/adapter")


def test_an_interrupted_run_closes_its_engine(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(trainer: Trainer) -> None:
        raise InterruptedRunError("stopped by hand")

    closed: list[TransformersEngine] = []
    monkeypatch.setattr(Trainer, "run", interrupt)
    monkeypatch.setattr(TransformersEngine, "shutdown", lambda engine: closed.append(engine))
    assert "stopped by hand" in run("train", "--env", "math", *SMALL).err
    assert len(closed) == 1


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gemma", "gemma3", "mistral"])
def test_any_model_folder_trains_two_steps(architecture: str, make_model: Any, run: Any) -> None:
    said = run(
        "train", "--env", "tools", "--model", make_model(architecture), "--steps", 2, *SMALL,
        "--set", "rollout.max_new_tokens=8", "--set", "env.options={max_turns=2}",
        "--set", "chat.system_prompt=", "--out", "run",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "step 2/2" in said.out
    assert "turnhalle prime --env tools" in said.out  # it says that there is nothing to learn from


def test_models_of_odd_sizes_train_too(make_model: Any, run: Any) -> None:
    folder = make_model("llama", hidden=96)
    said = run(
        "train", "--env", "math", "--model", folder, "--steps", 1, *SMALL,
        "--set", "rollout.max_new_tokens=8", "--out", "run",
    )  # fmt: skip
    assert said.code == 0, said.err


def test_the_check_fails_where_a_check_fails(run: Any, tmp_path: Path) -> None:
    assert run("check", "tools", "--quick").code == 0
    source = tmp_path / "bad.py"
    source.write_text(
        "import turnhalle as th\n"
        "class Bad(th.TextEnv):\n"
        "    'Pays for nothing.'\n"
        "    def draw(self, rng, difficulty): return {'n': rng.randrange(10**6)}\n"
        "    def start(self): return str(self.instance['n'])\n"
        "    def respond(self, action): return th.End('', success=True, reward=1.0)\n"
        "    def oracle(self): return 'x'\n",
        encoding="utf-8",
    )
    said = run("check", "bad.py:Bad", "--quick")
    assert said.code == 1
    assert re.search(r"idle +│ FAILED", said.out)
    said = run("check", tmp_path, "--json", "--only", "idle", "--only", "oracle")
    found = [json.loads(line) for line in said.out.splitlines()]
    assert [(f["check"], f["verdict"]) for f in found] == [("oracle", "ok"), ("idle", "failed")]
    assert "did you mean 'idle'" in run("check", tmp_path, "--only", "idel").err


def test_a_model_can_be_primed_and_trained_further(run: Any, make_model: Any) -> None:
    small = ["--set", "stages=[{sft={steps=2, batch_tokens=256}}]", "--set", "evaluate_tasks=10"]
    episodes = "demos=[{env={id='math'}, episodes=20}]"
    model = make_model()
    said = run("prime", "--env", "math", "--model", model, *small, "--out", "primed")
    assert said.code == 0, said.err
    assert "turnhalle train --env math --model primed" in said.out
    again = run("prime", "--env", "math", "--model", "primed", *small, "--set", episodes)
    assert "models/math-1" in again.out
    assert run("prime", "--env", "math", *small, "--out", "primed").code == 2


def test_environments_are_listed(run: Any) -> None:
    said = run("envs")
    assert "turnhalle/Pacman-v0" in said.out
    assert re.search(r"Tools-v0 +│ tools +│ 6 +│ 4 +│ 1 +│ yes", said.out)
    for title in ("family", "turns", "tools", "difficulty", "oracle"):
        assert title in said.out
    assert re.search(r"Pacman-v0 +│ pacman +│ 24 ", said.out)
    assert re.search(r"Gsm8k-v0 +│ math +│ 1 +│ - +│ 20 +│ yes", said.out)


def test_a_broken_environment_is_listed_beside_the_others(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(th.TextEnv):
        """Falls over its own feet."""

        def __init__(self) -> None:
            raise RuntimeError("no such foot")

    ids = ("broken/Feet-v0", "broken/Import-v0")
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    monkeypatch.setenv("COLUMNS", "200")
    try:
        th.register(ids[0], Broken)
        th.register(ids[1], "no_module_of_this_name:Env")
        said = run("envs").out
    finally:
        for id in ids:
            gymnasium.registry.pop(id, None)
    assert "(broken: RuntimeError: no such foot)" in said
    assert "(broken: ModuleNotFoundError: No module named 'no_module_of_this_name')" in said
    assert "turnhalle/Pacman-v0" in said


def test_people_can_play_take_back_and_ask(run: Any) -> None:
    said = run("play", "math", "--task", 3, typed="1\n:undo\n:hint\n:quit\n")
    assert said.out.count("wrong") == 2  # the rules say the word, too
    hint = re.search(r"#### (\d+)", said.out)
    assert hint is not None
    solved = run("play", "math", "--task", 3, typed=f"{hint[1]}\n")
    assert "solved in 1 turns, return 1.00" in solved.out


def test_the_board_is_shown_and_the_end_of_the_input_ends_the_game(run: Any) -> None:
    said = run("play", "pacman", "--option", "size=7", typed=":undo\nup\n")
    assert said.code == 0
    assert said.out.count("██") >= 18
    assert said.out.count("score 0, lives 1") == 2
    assert "nothing to take back" in said.out
    assert "\x1b" not in said.out


def test_ctrl_c_ends_a_game_cleanly(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import rich.console

    def interrupt(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(rich.console.Console, "input", interrupt)
    said = run("play", "pacman")
    assert (said.code, said.err) == (0, "")


def test_the_oracle_can_be_watched_and_its_game_exported(run: Any, tmp_path: Path) -> None:
    said = run("play", "pacman", "--difficulty", 2, "--oracle", "--export", "game.html")
    assert "solved in" in said.out
    assert said.out.rstrip().endswith("wrote game.html")
    assert "solved in" in (tmp_path / "game.html").read_text(encoding="utf-8")
    mine = run("play", "pacman", "--export", "mine.gif", typed="right\nright\n:undo\n:quit\n")
    assert "wrote mine.gif" in mine.out
    with Image.open(tmp_path / "mine.gif") as image:
        assert getattr(image, "n_frames", 1) == 2


def test_an_episode_of_a_run_can_be_exported(run: Any, tmp_path: Path) -> None:
    options = {"env": {"id": "pacman", "options": {"size": 7}}}
    store = RunStore(tmp_path / "run", create=True)
    store.put("options", options)
    factory = resolve("pacman", size=7)
    played = evaluate(factory, scripted_policy("oracle", factory), 2).trajectories
    store.write_step(0, {}, [("eval", trajectory, None) for trajectory in played])
    store.close()
    said = run("runs", "run", "--episode", 2, "--export", "two.html")
    assert said.out.strip() == "wrote two.html"
    page = (tmp_path / "two.html").read_text(encoding="utf-8")
    assert f"solved in {len(played[1].turns)} turns" in page
    assert "task 1 of eval" in page


def test_a_new_environment_passes_its_checks_at_once(run: Any, tmp_path: Path) -> None:
    assert run("new", "my_env").code == 0
    again = run("new", "my_env")
    assert (again.code, "is there already" in again.err) == (2, True)
    checked = subprocess.run(
        [sys.executable, "-m", "turnhalle", "check", "my_env.env:MyEnv"],
        cwd=tmp_path / "my_env", capture_output=True, text=True,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"],
        cwd=tmp_path / "my_env", capture_output=True, text=True,
    )  # fmt: skip
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "3 passed" in tested.stdout
    linted = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "100", "."],
        cwd=tmp_path / "my_env", capture_output=True, text=True,
    )  # fmt: skip
    assert linted.returncode == 0, linted.stdout
    made = subprocess.run(
        [sys.executable, "-c", "import gymnasium; gymnasium.make('my_env:my_env/MyEnv-v0')"],
        cwd=tmp_path / "my_env", capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    folder = run("check", "my_env", "--only", "oracle", "--only", "processes")
    assert (folder.code, "my_env/MyEnv-v0" in folder.out) == (0, True), folder.out + folder.err


def test_an_installed_environment_is_found_by_its_id(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("new", "made_here")
    project = tomllib.loads((tmp_path / "made_here/pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["entry-points"]["turnhalle.envs"] == {
        "made_here": "made_here.env:register"
    }

    code = (
        "import made_here.env, turnhalle as th; made_here.env.register(); "
        "print(th.make('made_here/MadeHere-v0').id)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "made_here", capture_output=True, text=True
    )
    assert done.stdout.strip() == "made_here/MadeHere-v0", done.stderr


def test_the_version_is_printed(run: Any) -> None:
    import turnhalle

    assert run("--version").out.strip() == turnhalle.__version__


SHAKY = """
import turnhalle as th

class Shaky(th.TextEnv):
    'Say the number.'
    def draw(self, rng, difficulty):
        return {"n": rng.randrange(10**6) // (2 - difficulty)}
    def start(self):
        return str(self.instance["n"])
    def respond(self, action):
        return th.End("", success=True, reward=1.0)
    def oracle(self):
        return str(self.instance["m"])
"""


def test_bugs_of_an_author_are_one_clear_message(run: Any, tmp_path: Path) -> None:
    (tmp_path / "shaky.py").write_text(SHAKY, encoding="utf-8")
    for arguments in (["prime", "--env"], ["bench", "--policy", "oracle", "--env"]):
        said = run(*arguments, "shaky.py")
        assert (said.code, said.err.count("\n")) == (2, 1)
        assert "bug in shaky.py:Shaky" in said.err
        assert "KeyError: 'm'" in said.err
    said = run("play", "shaky.py", "--difficulty", 2)
    assert "bug in draw of shaky.py:Shaky at difficulty 2: ZeroDivisionError" in said.err


def test_an_oracle_that_never_succeeds_primes_nothing(run: Any, tmp_path: Path) -> None:
    wrong = SHAKY.replace('"m"', '"n"').replace("success=True", "success=False")
    (tmp_path / "wrong.py").write_text(wrong, encoding="utf-8")
    said = run("prime", "--env", "wrong.py")
    assert said.code == 2
    assert "none of 8000 demonstrations of wrong.py:Shaky succeeds" in said.err


def test_a_run_is_not_resumed_with_fewer_steps_than_it_has_done(run: Any) -> None:
    assert run("train", "--env", "math", "--steps", 2, *SMALL, "--out", "run").code == 0
    said = run("train", "--resume", "run", "--steps", 1)
    assert said.code == 2
    assert "has done 2 steps already" in said.err


def test_bench_tells_the_faults_of_tool_calls_where_there_are_any(run: Any) -> None:
    bench = ("bench", "--policy", "oracle", "-n", "3", "--env", "calendar")
    said = run(*bench, "--policy", "null")
    assert "faults" in said.out
    assert re.search(r"null.*1\.00", said.out)
    assert "no_call" in said.out
    assert "faults" not in run(*bench).out
