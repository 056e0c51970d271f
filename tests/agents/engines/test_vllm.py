"""The vLLM engine, for real: log-probs, adapters, the five traps of its CPU build, and its deaths.

All tests share one engine in this process, which changes the process (threads, logging); so they
run in a pytest of their own: `pytest -m vllm`, which `make test` does.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from turnhalle.agents.chat import ChatOptions, load_chat
from turnhalle.agents.engines.base import Completion, Request, Sampling
from turnhalle.agents.engines.options import VllmOptions
from turnhalle.agents.engines.parity import require_adapter_in_force, require_parity
from turnhalle.agents.llm import LLMPolicy
from turnhalle.agents.lm import LanguageModel
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.agents.process import tune_process
from turnhalle.agents.quantization.folder import write_folder
from turnhalle.agents.rollout import Job, rollout
from turnhalle.envs.errors import ConfigError, EngineError
from turnhalle.envs.registry import resolve

from .running import WITH_VLLM, ask, assert_exact, prompt, run, score, teach

pytestmark = WITH_VLLM


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    """The built-in policy in 4 bits, with an adapter that says something."""
    lm = load_model(ModelOptions(device="cpu"), lora_seed=0)
    tune_process(lm.num_parameters)
    return lm


@pytest.fixture(scope="module")
def shared(lm: LanguageModel) -> Iterator[Any]:
    from turnhalle.agents.engines.vllm import VllmEngine

    engine = VllmEngine(lm, VllmOptions(), max_context=512)
    yield engine
    engine.shutdown()


@pytest.fixture
def engine(shared: Any, lm: LanguageModel) -> Any:
    for session in list(shared._keys):  # of a test that failed
        shared.close(session)
    teach(lm, seed=0)
    shared.load_adapter(1, lm.trainable())
    return shared


def test_64_episodes_of_4_turns_have_the_log_probs_of_transformers(
    engine: Any, lm: LanguageModel
) -> None:
    chat = load_chat("tiny", ChatOptions())
    policy = LLMPolicy("tiny", engine, chat, Sampling(max_new_tokens=24), 64)
    played = rollout(resolve("tools"), policy, [Job("eval", i) for i in range(64)])
    assert sum(len(trajectory.turns) for trajectory in played) >= 4 * 64 * 0.5
    compared = 0
    for trajectory in played:
        context: list[int] = []
        for turn in trajectory.turns:
            observation, action = turn.segments
            context += observation.token_ids
            expected = score(lm, context, action.token_ids, 1.0)
            assert action.logprobs == pytest.approx(expected, abs=1e-4)
            assert action.adapter_version == 1
            context += action.token_ids
            compared += len(action.token_ids)
    assert compared > 1000


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_log_probs_are_of_the_distribution_that_was_sampled(
    engine: Any, lm: LanguageModel, temperature: float
) -> None:
    asked = [ask(i, prompt(i, 20), temperature=temperature) for i in range(8)]
    assert_exact(lm, asked, run(engine, asked))


def test_a_stop_token_is_the_last_of_a_turn_and_nothing_else_stops(engine: Any) -> None:
    stop = frozenset(range(2, 60))
    requests = [Request(i, prompt(i, 10), i, Sampling(max_new_tokens=8), stop) for i in range(40)]
    done = run(engine, requests)
    assert {c.finish_reason for c in done.values()} == {"stop", "length"}
    for completion in done.values():
        assert not stop & set(completion.token_ids[:-1])
        assert (completion.token_ids[-1] in stop) == (completion.finish_reason == "stop")


def test_a_sample_does_not_depend_on_its_company(engine: Any) -> None:
    requests = [ask(i, prompt(i, 6 + i)) for i in range(8)]
    together = run(engine, requests)
    for request in requests:
        assert run(engine, [request])[request.session].token_ids == (
            together[request.session].token_ids
        )


def test_a_new_adapter_changes_samples_at_once(engine: Any, lm: LanguageModel) -> None:
    asked = [ask(i, prompt(i, 40)) for i in range(8)]
    first = run(engine, asked)
    teach(lm, seed=1, scale=0.2)
    engine.load_adapter(2, lm.trainable())
    second = run(engine, asked)
    assert_exact(lm, asked, second)
    assert {c.adapter_version for c in second.values()} == {2}
    assert sum(first[i].token_ids != second[i].token_ids for i in first) >= 6


def test_ten_syncs_leak_nothing(engine: Any, lm: LanguageModel) -> None:
    process = psutil.Process()

    def sync(version: int) -> int:
        teach(lm, seed=version)
        engine.load_adapter(version, lm.trainable())
        run(engine, [ask(i, prompt(i, 40)) for i in range(8)])
        gc.collect()
        return process.memory_info().rss

    warm = [sync(version) for version in range(3)][-1]
    grown = max(sync(version) for version in range(3, 13)) - warm
    size = sum(p.nbytes for p in lm.trainable().values())
    assert len(engine._core._engine.list_loras()) == 1
    assert grown < 10 * size


def test_adapters_that_vllm_cannot_serve_are_refused_and_the_old_one_stays(
    engine: Any, lm: LanguageModel
) -> None:
    asked = [ask(i, prompt(i, 20)) for i in range(4)]
    before = run(engine, asked)
    odd = {f"model.nowhere.{name}": p for name, p in lm.trainable().items()}
    wide = {name: torch.cat([p] * 4, -1) for name, p in lm.trainable().items()}
    for tensors, why in ((odd, "no layer model.nowhere"), (wide, "not of rank 16")):
        with pytest.raises(EngineError, match=f"vLLM cannot load adapter 9: .*{why}"):
            engine.load_adapter(9, tensors)
        after = run(engine, asked)
        assert all(after[i].token_ids == before[i].token_ids for i in before)
        assert {c.adapter_version for c in after.values()} == {1}


def test_an_adapter_is_not_changed_under_running_turns(engine: Any, lm: LanguageModel) -> None:
    engine.submit(ask(0, prompt(0, 20)))
    with pytest.raises(EngineError, match="1 turns run"):
        engine.load_adapter(2, lm.trainable())
    engine.close(0)


def test_a_context_that_is_too_long_is_refused_and_one_that_fills_up_is_cut(engine: Any) -> None:
    with pytest.raises(EngineError, match="1 to 511 tokens, got 512"):
        engine.submit(ask(0, prompt(0, 512)))
    completion = run(engine, [Request(0, prompt(0, 500), 0, Sampling(), frozenset())])[0]
    assert (len(completion.token_ids), completion.finish_reason) == (12, "length")


def test_a_closed_session_leaves_the_others_alone(engine: Any) -> None:
    asked = [Request(i, prompt(i, 20), i, Sampling(), frozenset()) for i in range(6)]
    whole = run(engine, asked)
    for request in asked:
        engine.submit(request)
    assert engine.step() == []
    engine.close(0)
    done: dict[int, Completion] = {}
    while engine._turns:
        done |= {completion.session: completion for completion in engine.step()}
    assert all(done[i].token_ids == whole[i].token_ids for i in range(1, 6))
    assert engine.step() == []


def test_trap_1_threads_stay_as_they_were(engine: Any) -> None:
    assert torch.get_num_threads() == 1
    assert os.environ["OMP_NUM_THREADS"] == "1"
    torch.set_num_threads(2)  # vLLM makes this a function that does nothing
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_trap_2_seeded_prompts_beyond_the_prefill_budget_are_sampled(
    engine: Any, lm: LanguageModel
) -> None:
    asked = [ask(i, prompt(i, 400), new=2) for i in range(30)]
    assert sum(len(request.token_ids) for request in asked) > 8192
    assert_exact(lm, asked, run(engine, asked))


def test_trap_3_keys_and_values_of_old_weights_are_found_by_the_parity_check(
    engine: Any, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [ask(i, prompt(i, 200)) for i in range(4)]
    run(engine, asked)
    put = engine._core.put_adapter
    monkeypatch.setattr(engine._core, "put_adapter", lambda _, blob: put("the-same-name", blob))
    engine.load_adapter(1, lm.trainable())
    run(engine, asked)
    teach(lm, seed=2)
    engine.load_adapter(2, lm.trainable())
    stale = run(engine, asked)
    with pytest.raises(EngineError, match="keys and values of older ones"):
        compare(lm, asked, stale)
    monkeypatch.undo()
    engine.load_adapter(2, lm.trainable())
    compare(lm, asked, run(engine, asked))


def compare(lm: LanguageModel, asked: list[Request], done: dict[int, Completion]) -> float:
    sampled = [x for request in asked for x in done[request.session].logprobs]
    return require_parity(
        lm,
        torch.tensor(sampled),
        lambda: torch.tensor(
            [
                x
                for request in asked
                for x in score(lm, request.token_ids, done[request.session].token_ids, 1.0)
            ]
        ),
    )


def test_trap_5_an_adapter_that_vanished_is_loaded_again(engine: Any) -> None:
    asked = [ask(i, prompt(i, 20)) for i in range(4)]
    before = run(engine, asked)
    for number in engine._core._engine.list_loras():
        engine._core._engine.remove_lora(number)
    after = run(engine, asked)
    assert all(after[i].token_ids == before[i].token_ids for i in before)
    assert engine.num_restarts == 0


def test_an_engine_that_fails_once_begins_its_turns_again(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [ask(i, prompt(i, 20)) for i in range(6)]
    whole = run(engine, asked)
    break_forward(engine, monkeypatch, fails_at={3})
    again = run(engine, asked)
    assert all(again[i].token_ids == whole[i].token_ids for i in whole)
    assert {c.error for c in again.values()} == {None}


def test_an_engine_that_keeps_failing_gives_its_turns_up_and_lives_on(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [ask(i, prompt(i, 20)) for i in range(3)]
    whole = run(engine, asked)
    break_class(engine, monkeypatch)
    failed = run(engine, asked)
    assert {c.finish_reason for c in failed.values()} == {"error"}
    assert all("out of order" in str(c.error) for c in failed.values())
    assert engine.num_restarts >= 1
    monkeypatch.undo()
    again = run(engine, asked)
    assert all(again[i].token_ids == whole[i].token_ids for i in whole)


def break_forward(engine: Any, monkeypatch: pytest.MonkeyPatch, fails_at: set[int]) -> None:
    runner = engine._core._engine.model_executor.driver_worker.worker.model_runner
    forward, calls = runner.execute_model, iter(range(10**6))

    def broken(*args: Any, **kwargs: Any) -> Any:
        if next(calls) in fails_at:
            raise RuntimeError("out of order")
        return forward(*args, **kwargs)

    monkeypatch.setattr(runner, "execute_model", broken)


def break_class(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure that a new engine has too."""
    runner = type(engine._core._engine.model_executor.driver_worker.worker.model_runner)

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("out of order")

    monkeypatch.setattr(runner, "execute_model", broken)


def test_a_planted_adapter_shows_that_the_engine_follows(engine: Any, lm: LanguageModel) -> None:
    require_adapter_in_force(lm, engine)
    put = engine._core.put_adapter
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine._core, "put_adapter", lambda name, blob: None)
        engine._core._adapter = None
        with pytest.raises(EngineError, match="samples from the base model"):
            require_adapter_in_force(lm, engine)
    assert put is not None
    engine.load_adapter(1, lm.trainable())
    require_adapter_in_force(lm, engine)


def test_trap_4_a_base_that_is_reloaded_in_place_is_found_by_the_parity_check(
    engine: Any, lm: LanguageModel
) -> None:
    from turnhalle.agents.engines.export import _base_weights

    asked = [ask(i, prompt(i, 40)) for i in range(4)]
    embedding = lm.model.get_input_embeddings().weight
    kept = embedding.detach().clone()
    try:
        with torch.no_grad():
            embedding.mul_(1.5)
        # vLLM leaves the tied head as it was, packed for oneDNN, and says nothing.
        weights = {"weights_iterator": list(_base_weights(lm))}
        engine._core._engine.collective_rpc("reload_weights", kwargs=weights)
        engine.load_adapter(1, lm.trainable())
        with pytest.raises(EngineError, match="the engine has other weights"):
            compare(lm, asked, run(engine, asked))
    finally:
        with torch.no_grad():
            embedding.copy_(kept)
        engine._revive(False)
    assert compare(lm, asked, run(engine, asked)) < 1e-4


def test_a_4_bit_base_in_32_bits_cannot_stay_in_4_bits(lm: LanguageModel) -> None:
    from turnhalle.agents.engines.vllm import VllmEngine

    with pytest.raises(ConfigError, match='give "exact"'):
        VllmEngine(lm, VllmOptions(base="bnb"))


def test_an_int8_base_is_refused(lm: LanguageModel) -> None:
    from turnhalle.agents.engines.vllm import VllmEngine

    rounded = load_model(ModelOptions(precision="int8", device="cpu"), lora_seed=0)
    with pytest.raises(ConfigError, match='give engine\\.name="transformers"'):
        VllmEngine(rounded, VllmOptions())


def test_a_rank_beyond_vllm_s_is_refused_before_a_base_is_written(
    make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from turnhalle.agents.engines import vllm

    monkeypatch.setattr(vllm, "write_base", None)
    options = ModelOptions(name=str(make_model()), precision="fp32", device="cpu", lora_rank=600)
    with pytest.raises(ConfigError, match=r"rank 512 at most, not 600; set model.lora_rank"):
        vllm.VllmEngine(load_model(options, lora_seed=0), VllmOptions())


def test_a_compiled_model_is_not_slowed_down_without_a_word(make_model: Any) -> None:
    from turnhalle.agents.engines.vllm import VllmEngine
    from turnhalle.kernels.compiled import compile_layers

    options = ModelOptions(name=str(make_model()), precision="fp32", device="cpu")
    lm = load_model(options, lora_seed=0)
    compile_layers(lm.model)
    with pytest.raises(ConfigError, match=r"torch.compile off in its process; give it another"):
        VllmEngine(lm, VllmOptions())


def test_a_run_trains_with_vllm(tmp_path: Path) -> None:
    from turnhalle.agents.store import RunStore
    from turnhalle.training.options import TrainOptions
    from turnhalle.training.progress import Silent
    from turnhalle.training.trainer import Trainer

    write_folder("tiny", tmp_path / "small", "nf4", ["model.layers.0.self_attn.o_proj"])
    options = TrainOptions.model_validate(
        {
            "env": {"id": "tools"},
            "model": {"name": str(tmp_path / "small")},
            "engine": {"name": "vllm", "parity_every": 1, "vllm": {"sleep": True}},
            "rollout": {"tasks": 8, "group_size": 4, "max_new_tokens": 32},
            "evaluate": {"tasks": 20, "every": 0},
            "steps": 4,
        }
    )
    trainer = Trainer(options, tmp_path / "run", Silent())
    trainer.run()
    trainer.close()
    store = RunStore(tmp_path / "run", read_only=True)
    parity = store.metrics("parity")
    assert len(parity) >= 3
    assert max(value for _, value in parity) < 1e-4
    store.close()
