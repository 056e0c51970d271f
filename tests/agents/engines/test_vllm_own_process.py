"""vLLM in a process of its own: the same turns as in this one, and it may die alone.

Runs where the tests of `test_vllm.py` do: `pytest -m vllm`.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from turnhalle.agents.chat import ChatOptions, load_chat
from turnhalle.agents.core import Trajectory
from turnhalle.agents.engines.base import Completion, Request, Sampling
from turnhalle.agents.engines.options import VllmOptions
from turnhalle.agents.engines.parity import require_adapter_in_force
from turnhalle.agents.limits import LimitOptions
from turnhalle.agents.llm import LLMPolicy
from turnhalle.agents.lm import LanguageModel
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.agents.process import tune_process
from turnhalle.agents.rollout import Job, rollout
from turnhalle.envs.core import StopReason
from turnhalle.envs.errors import EngineError
from turnhalle.envs.registry import resolve

from .running import WITH_VLLM, ask, assert_exact, prompt, run, teach

pytestmark = WITH_VLLM


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    lm = load_model(ModelOptions(device="cpu"), lora_seed=0)
    tune_process(lm.num_parameters)
    return lm


@pytest.fixture(scope="module")
def shared(lm: LanguageModel) -> Iterator[Any]:
    from turnhalle.agents.engines.vllm import VllmEngine

    engine = VllmEngine(lm, VllmOptions(own_process=True), max_context=512)
    mine = engines()
    yield engine
    engine.shutdown()
    _, alive = psutil.wait_procs(mine, timeout=60)
    assert not alive


@pytest.fixture
def engine(shared: Any, lm: LanguageModel) -> Any:
    teach(lm, seed=0)
    shared.load_adapter(1, lm.trainable())
    return shared


def engines() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "VLLM" in child.name()]


def test_log_probs_are_those_of_transformers_and_follow_the_adapter(
    engine: Any, lm: LanguageModel
) -> None:
    asked = [ask(i, prompt(i, 20 + i), temperature=0.7 if i % 2 else 1.0) for i in range(8)]
    first = run(engine, asked)
    assert_exact(lm, asked, first)
    teach(lm, seed=1, scale=0.2)
    engine.load_adapter(2, lm.trainable())
    second = run(engine, asked)
    assert_exact(lm, asked, second)
    assert {c.adapter_version for c in second.values()} == {2}
    assert sum(first[i].token_ids != second[i].token_ids for i in first) >= 6
    require_adapter_in_force(lm, engine)


def test_a_closed_session_leaves_the_others_alone_and_may_come_again(engine: Any) -> None:
    asked = [ask(i, prompt(i, 20), new=100) for i in range(6)]
    whole = run(engine, asked)
    for request in asked:
        engine.submit(request)
    engine.close(0)
    engine.submit(asked[0])
    done: dict[int, Completion] = {}
    while engine._turns:
        done |= {completion.session: completion for completion in engine.step()}
    assert {i: c.token_ids for i, c in done.items()} == {i: c.token_ids for i, c in whole.items()}


def test_what_vllm_refuses_fails_its_own_turn_only(engine: Any, lm: LanguageModel) -> None:
    with pytest.raises(EngineError, match=f"not among the model's {lm.config.vocab_size}"):
        engine.submit(ask(0, [5, int(lm.config.vocab_size)]))  # vLLM would die of it
    odd = Request(0, prompt(0, 20), 0, Sampling(), frozenset({10**6}))
    done = run(engine, [odd, ask(1, prompt(1, 20))])
    assert done[0].finish_reason == "error"
    assert "vLLM refuses a turn" in str(done[0].error)
    assert done[1].error is None
    assert engine.num_restarts == 0


def test_adapters_that_vllm_cannot_serve_are_refused_and_the_old_one_stays(
    engine: Any, lm: LanguageModel
) -> None:
    asked = [ask(i, prompt(i, 20)) for i in range(4)]
    before = run(engine, asked)
    odd = {f"model.nowhere.{name}": p for name, p in lm.trainable().items()}
    with pytest.raises(EngineError, match=r"no layer model\.nowhere"):
        engine.load_adapter(9, odd)
    after = run(engine, asked)
    assert all(after[i].token_ids == before[i].token_ids for i in before)
    assert {c.adapter_version for c in after.values()} == {1}


def play(engine: Any, limits: LimitOptions, watch: Any = None) -> list[Trajectory]:
    policy = LLMPolicy("tiny", engine, load_chat("tiny", ChatOptions()), Sampling())
    jobs = [Job("eval", index) for index in range(48)]
    return rollout(resolve("tools"), policy, jobs, watch, limits)


def test_a_process_that_is_killed_is_started_again_and_its_turns_go_on(
    engine: Any, lm: LanguageModel
) -> None:
    calm = play(engine, LimitOptions())
    before, killed = engine.num_restarts, []

    def watch(done: int, total: int) -> bool:
        if done >= 8 and not killed:
            killed.extend(engines())
            for process in killed:
                process.send_signal(signal.SIGKILL)
        return False

    played = play(engine, LimitOptions(), watch)
    assert killed
    assert engine.num_restarts == before + 1
    assert [t.stop for t in played] == [t.stop for t in calm]
    for one, other in zip(played, calm, strict=True):
        for turn, expected in zip(one.turns, other.turns, strict=True):
            assert [s.token_ids for s in turn.segments] == [s.token_ids for s in expected.segments]
            assert turn.segments[-1].adapter_version == 1


def test_an_engine_that_hangs_ends_episodes_at_their_time_out(engine: Any) -> None:
    (process,) = [child for child in engines() if "Engine" in child.name()]
    process.suspend()
    try:
        played = play(engine, LimitOptions(episode_timeout_s=0.5))
    finally:
        process.resume()
    assert {t.stop for t in played} == {StopReason.TIMEOUT}
    assert not engine._turns
    assert run(engine, [ask(0, prompt(0, 20))])[0].error is None


def test_a_script_that_ends_without_shutting_down_leaves_no_process(tmp_path: Path) -> None:
    script = tmp_path / "ends.py"
    script.write_text(
        "import psutil\n"
        "from turnhalle.agents.engines.options import VllmOptions\n"
        "from turnhalle.agents.engines.vllm import VllmEngine\n"
        "from turnhalle.agents.models import ModelOptions, load_model\n"
        "if __name__ == '__main__':  # its process imports this file again\n"
        "    lm = load_model(ModelOptions(device='cpu'))\n"
        "    engine = VllmEngine(lm, VllmOptions(own_process=True), max_context=512)\n"
        "    pids = [str(p.pid) for p in psutil.Process().children(recursive=True)]\n"
        "    open('pids', 'w').write(' '.join(pids))\n"
    )
    subprocess.run([sys.executable, script], timeout=300, check=True, cwd=tmp_path)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert pids
    left = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(left, timeout=30)
    assert not alive


def test_several_engines_need_processes_of_their_own() -> None:
    with pytest.raises(ValidationError, match="set own_process=true too"):
        VllmOptions(data_parallel=2)


@pytest.mark.slow
def test_several_engines_share_the_turns_and_sample_the_same(
    engine: Any, lm: LanguageModel
) -> None:
    from turnhalle.agents.engines.vllm import VllmEngine

    asked = [ask(i, prompt(i, 40), new=64) for i in range(32)]
    whole = run(engine, asked)
    pair = VllmEngine(lm, VllmOptions(own_process=True, data_parallel=2), max_context=512)
    try:
        pair.load_adapter(1, lm.trainable())
        workers = [p for p in engines() if "Worker" in p.name()]
        before = [sum(p.cpu_times()[:2]) for p in workers]
        again = run(pair, asked)
        worked = [sum(p.cpu_times()[:2]) - b for p, b in zip(workers, before, strict=True)]
    finally:
        pair.shutdown()
    assert all(again[i].token_ids == whole[i].token_ids for i in whole)
    assert len(worked) == 2
    assert min(worked) > 0.5 * max(worked)
