"""What commands print of others' is printed as it is: never read as markup, which may be broken."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import turnhalle as th
from turnhalle.agents.evaluate import evaluate
from turnhalle.agents.models import resolve_model
from turnhalle.agents.scripted import scripted_policy
from turnhalle.agents.store import RunStore
from turnhalle.commands import doctor
from turnhalle.commands.display import LiveDisplay
from turnhalle.commands.options import make_console
from turnhalle.commands.summary import print_transcript
from turnhalle.envs import registry
from turnhalle.envs.registry import resolve
from turnhalle.envs.rewards import catalogue
from turnhalle.envs.sandbox.doctor import Examination, Finding

FOREIGN = "[/216391] [bold]x"
"""Read as markup, it closes what nobody opened."""

BRACKETS = f"""
import turnhalle as th

class Brackets(th.TextEnv):
    '''Say it as {FOREIGN}.'''
    def draw(self, rng, difficulty):
        return {{"n": rng.randrange(10**6)}}
    def start(self):
        return f"[/{{self.instance['n']}}]"
    def respond(self, action):
        is_near = str(self.instance["n"]) in action
        return th.End("[/no]", success=is_near, reward=float(is_near))
    def oracle(self):
        return f"[/{{self.instance['n']}}]"
"""


@pytest.fixture
def brackets(tmp_path: Path) -> str:
    (tmp_path / "brackets.py").write_text(BRACKETS, encoding="utf-8")
    return "brackets.py:Brackets"


def test_what_a_check_found_is_shown_as_it_is(run: Any, brackets: str) -> None:
    said = run("check", brackets, "--quick")
    assert (said.code, said.err) == (1, "")
    assert "[/" in said.out
    assert "FAILED" in said.out


def test_an_environment_with_brackets_is_played(run: Any, brackets: str) -> None:
    said = run("play", brackets, typed=":hint\n[/x]\n")
    assert said.code == 0, said.err
    assert "[/no]" in said.out


def test_environments_say_what_they_are(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(th.TextEnv):
        __doc__ = f"Says {FOREIGN}."

        def __init__(self) -> None:
            raise RuntimeError(FOREIGN)

    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    monkeypatch.setenv("COLUMNS", "200")
    try:
        th.register("odd/Odd-v0", Odd)
        said = run("envs")
    finally:
        gymnasium.registry.pop("odd/Odd-v0", None)
    assert said.code == 0, said.err
    assert said.out.count(FOREIGN) == 2
    assert f"RuntimeError: {FOREIGN}" in said.out


def test_rewards_say_what_they_are(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "describe_rewards", lambda: {"odd": FOREIGN})
    assert FOREIGN in run("reward", "list").out


def test_gaps_of_a_sandbox_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    finding = Finding("docker", "network", "BROKEN", FOREIGN, 0.0)
    doctor._print([Examination("docker", "", (FOREIGN,), (finding,))])
    doctor._print([Examination("docker", FOREIGN, (), ())])
    said = capsys.readouterr().out
    assert f"docker: {FOREIGN}" in said
    assert f"docker, network: {FOREIGN}" in said
    assert f"docker is not available: {FOREIGN}" in said


def test_runs_of_folders_with_brackets_are_listed(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "[b]-1"
    options = {"env": {"id": FOREIGN}, "model": {"name": FOREIGN}, "steps": 3}
    store = RunStore(folder, create=True)
    store.put("options", options)
    factory = resolve("math")
    played = evaluate(factory, scripted_policy("oracle", factory), 2).trajectories
    store.write_step(0, {"eval/success": 1.0}, [("eval", t, None) for t in played])
    store.write_event(0, "warning", FOREIGN)
    store.close()
    assert FOREIGN in run("runs").out
    said = run("runs", "runs/[b]-1")
    assert f"runs/[b]-1: {FOREIGN} with {FOREIGN}" in said.out
    assert f"warning: {FOREIGN}" in said.out


def test_transcripts_and_notes_are_shown_as_they_are() -> None:
    factory = resolve("math")
    episode = evaluate(factory, scripted_policy("oracle", factory), 1).trajectories[0]
    episode.turns[0].action = FOREIGN
    console = make_console()
    console.record = True
    print_transcript(console, episode)
    display = LiveDisplay(1, console)
    display.progress(FOREIGN, 1, 2)
    display.note(FOREIGN)
    with display.live:
        display.live.refresh()
    assert console.export_text().count(FOREIGN) >= 3


def test_a_model_in_a_folder_with_brackets_is_measured(run: Any, tmp_path: Path) -> None:
    """The console says whom it waits for."""
    shutil.copytree(resolve_model("tiny"), tmp_path / "a[" / "b]")
    said = run("bench", "--env", "math", "--policy", "a[/b]", "-n", 2)
    assert said.code == 0, said.err
    assert "a[/b]" in said.out
