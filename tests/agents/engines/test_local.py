"""The transformers engine: its log-probs are the model's, whatever is batched, cached or shared."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from turnhalle.agents.engines import local
from turnhalle.agents.engines.base import Completion, Request, Sampling
from turnhalle.agents.engines.local import TransformersEngine
from turnhalle.agents.lm import LanguageModel
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.envs.errors import EngineError

from .running import run

STOP = frozenset({2})


@pytest.fixture(
    scope="module", params=["qwen3", "llama", "gemma", "gemma3", "mistral", "deepseek_v3"]
)
def lm(request: pytest.FixtureRequest, make_model: Any) -> LanguageModel:
    folder = make_model(request.param)
    return load_model(ModelOptions(name=str(folder), precision="fp32", device="cpu"))


@pytest.fixture(scope="module")
def qwen(make_model: Any) -> LanguageModel:
    return load_model(ModelOptions(name=str(make_model()), precision="fp32", device="cpu"))


def ask(
    session: int, ids: list[int], seed: int = 0, new: int = 12, temperature: float = 1.0
) -> Request:
    sampling = Sampling(max_new_tokens=new, temperature=temperature)
    return Request(session, ids, seed, sampling, STOP)


def prompt(seed: int, length: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(3, 250) for _ in range(length)]


@torch.no_grad()
def score(lm: LanguageModel, ids: list[int], sampled: int, temperature: float) -> list[float]:
    """Log-probs of the last `sampled` tokens, by one plain forward pass of the whole model."""
    logits = lm.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()
    logprobs = torch.log_softmax(logits / temperature, dim=-1)
    first = len(ids) - sampled
    return [float(logprobs[i - 1, ids[i]]) for i in range(first, len(ids))]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_over_turns_are_those_of_a_plain_forward_pass(
    lm: LanguageModel, temperature: float
) -> None:
    engine = TransformersEngine(lm)
    contexts = {i: prompt(i, 5 + 3 * i) for i in range(5)}
    for turn in range(3):
        requests = [ask(i, list(c), 10 * turn + i, 12, temperature) for i, c in contexts.items()]
        for session, completion in run(engine, requests).items():
            context = contexts[session] + completion.token_ids
            expected = score(lm, context, len(completion.token_ids), temperature)
            assert completion.logprobs == pytest.approx(expected, abs=1e-4)
            contexts[session] = context + prompt(100 + session, 4)


def test_a_sample_does_not_depend_on_its_company(qwen: LanguageModel) -> None:
    requests = [ask(i, prompt(i, 6 + i), seed=i) for i in range(6)]
    together = run(TransformersEngine(qwen), requests)
    for request in requests:
        alone = run(TransformersEngine(qwen), [request])[request.session]
        assert alone.token_ids == together[request.session].token_ids


def test_sessions_join_and_leave_while_others_run(qwen: LanguageModel) -> None:
    engine = TransformersEngine(qwen)
    contexts = {i: prompt(i, 8) for i in range(12)}
    waiting, turns = list(contexts), dict.fromkeys(contexts, 0)
    running: set[int] = set()
    while waiting or running:
        while waiting and len(running) < 5:
            session = waiting.pop(0)
            running.add(session)
            engine.submit(ask(session, list(contexts[session]), session, 2 + session % 5))
        for completion in engine.step():
            session = completion.session
            before = len(contexts[session])
            contexts[session] += completion.token_ids
            expected = score(qwen, contexts[session], len(contexts[session]) - before, 1.0)
            assert completion.logprobs == pytest.approx(expected, abs=1e-4)
            turns[session] += 1
            running.discard(session)
            if turns[session] < 1 + session % 3:
                contexts[session] += prompt(session, 3)
                waiting.append(session)
            else:
                engine.close(session)
    assert set(turns.values()) == {1, 2, 3}


def test_a_shared_prompt_is_computed_once(qwen: LanguageModel) -> None:
    fed: list[tuple[int, ...]] = []

    class Counting(TransformersEngine):
        def _forward(self, ids: torch.Tensor, *rest: Any) -> torch.Tensor:
            fed.append(tuple(ids.shape))
            return super()._forward(ids, *rest)

    same = prompt(0, 30)
    requests = [ask(i, list(same), seed=i) for i in range(8)]
    shared = run(Counting(qwen), requests)
    assert fed[0] == (1, 30)
    for request in requests:
        alone = run(TransformersEngine(qwen), [request])[request.session]
        assert alone.token_ids == shared[request.session].token_ids
    assert len({tuple(c.token_ids) for c in shared.values()}) > 1


def test_a_turn_feeds_only_what_is_new(qwen: LanguageModel) -> None:
    fed = 0

    class Counting(TransformersEngine):
        def _forward(self, ids: torch.Tensor, *rest: Any) -> torch.Tensor:
            nonlocal fed
            fed += ids.shape[1]
            return super()._forward(ids, *rest)

    engine = Counting(qwen)
    context = prompt(1, 40)
    for turn in range(4):
        completion = run(engine, [ask(0, list(context), seed=turn)])[0]
        context += completion.token_ids + prompt(turn, 5)
    assert fed <= len(context)


def test_a_rewritten_history_is_computed_again(qwen: LanguageModel) -> None:
    engine = TransformersEngine(qwen)
    first = prompt(1, 20)
    run(engine, [ask(0, list(first))])
    rewritten = first[:10] + prompt(2, 10)
    again = run(engine, [ask(0, list(rewritten), seed=5)])[0]
    afresh = run(TransformersEngine(qwen), [ask(0, list(rewritten), seed=5)])[0]
    assert again.token_ids == afresh.token_ids
    assert again.logprobs == pytest.approx(afresh.logprobs, abs=1e-4)


def test_new_weights_are_used_at_once_and_raise_the_version(make_model: Any) -> None:
    lm = load_model(ModelOptions(name=str(make_model()), precision="fp32", device="cpu"))
    engine = TransformersEngine(lm)
    context = prompt(1, 20)
    run(engine, [ask(0, list(context))])
    with torch.no_grad():
        for parameter in lm.model.parameters():
            parameter.mul_(1.1)
    engine.load_adapter(7, lm.trainable())
    completion = run(engine, [ask(0, list(context), seed=3)])[0]
    assert completion.adapter_version == 7
    expected = score(lm, context + completion.token_ids, len(completion.token_ids), 1.0)
    assert completion.logprobs == pytest.approx(expected, abs=1e-4)


def test_turns_end_by_stop_token_length_or_context(qwen: LanguageModel) -> None:
    engine = TransformersEngine(qwen, max_context=32)
    stop = frozenset(range(20))
    sampling = Sampling(max_new_tokens=400)
    requests = [Request(i, prompt(i, 10), i, sampling, stop) for i in range(40)]
    done = run(engine, requests)
    stopped = [c for c in done.values() if c.finish_reason == "stop"]
    cut = [c for c in done.values() if c.finish_reason == "length"]
    assert stopped
    assert cut
    for completion in stopped:
        assert completion.token_ids[-1] in stop
        assert not stop & set(completion.token_ids[:-1])
    assert {len(c.token_ids) for c in cut} == {22}
    assert len(run(engine, [ask(99, prompt(0, 10), new=3)])[99].token_ids) <= 3


def test_sessions_may_be_closed_before_they_ran(qwen: LanguageModel) -> None:
    engine = TransformersEngine(qwen)
    run(engine, [ask(100, prompt(0, 5))])
    for session in range(20):
        engine.submit(ask(session, prompt(session, 5), session))
    for session in range(15):
        engine.close(session)
    done: dict[int, Completion] = {}
    while len(done) < 5:
        done |= {completion.session: completion for completion in engine.step()}
    for session, completion in done.items():
        context = prompt(session, 5) + completion.token_ids
        expected = score(qwen, context, len(completion.token_ids), 1.0)
        assert completion.logprobs == pytest.approx(expected, abs=1e-4)


def test_bad_requests_are_refused(qwen: LanguageModel) -> None:
    engine = TransformersEngine(qwen, max_context=32)
    with pytest.raises(EngineError, match="1 to 31 tokens, got 32"):
        engine.submit(ask(0, prompt(0, 32)))
    with pytest.raises(EngineError, match="got 0"):
        engine.submit(ask(0, []))
    engine.submit(ask(0, prompt(0, 5)))
    with pytest.raises(EngineError, match="session 0 already has a turn running"):
        engine.submit(ask(0, prompt(0, 5)))


def test_checkpointed_gradients_change_nothing_of_what_is_sampled(
    qwen: LanguageModel, make_model: Any
) -> None:
    options = ModelOptions(
        name=str(make_model()), precision="fp32", device="cpu", gradient_checkpointing=True
    )
    requests = [ask(n, prompt(n // 2, 20)) for n in range(4)]
    plain = run(TransformersEngine(qwen), requests)
    checkpointed = run(TransformersEngine(load_model(options)), requests)
    assert {n: c.token_ids for n, c in plain.items()} == {
        n: c.token_ids for n, c in checkpointed.items()
    }


def test_a_fork_goes_on_from_what_was_computed_for_its_parent(
    qwen: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TransformersEngine(qwen)
    opening = prompt(0, 200)
    said = run(engine, [ask(0, opening)])[0].token_ids
    contexts = [opening + said + prompt(i, 4) for i in range(1, 20)]
    alone = run(TransformersEngine(qwen), [ask(i, c, i) for i, c in enumerate(contexts)])
    fed, hidden = [], qwen.hidden

    def counted(ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        fed.append(ids.shape[1])
        return hidden(ids, *rest)

    monkeypatch.setattr(qwen, "hidden", counted)
    forks = [
        Request(i + 1, c, i, Sampling(max_new_tokens=12), STOP, 0) for i, c in enumerate(contexts)
    ]
    done = run(engine, forks)
    assert max(fed) <= 8
    assert all(done[i + 1].token_ids == alone[i].token_ids for i in alone)
    assert all(done[i + 1].logprobs == pytest.approx(alone[i].logprobs, abs=1e-4) for i in alone)


def test_sessions_that_all_wait_keep_to_the_budget_and_cost_little_else(
    qwen: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = qwen.kv_bytes_per_token * 256
    engine = TransformersEngine(qwen, max_cache_bytes=20 * row)
    contexts = {i: prompt(i, 100) for i in range(60)}
    largest, forward = [0], qwen.hidden

    def watched(ids: torch.Tensor, positions: torch.Tensor, *rest: Any) -> torch.Tensor:
        if ids.shape[1] > 1:  # prefill gathers the rows that it attends to
            largest.append(len(ids) * int(positions.max() + 1))
        result = forward(ids, positions, *rest)
        tensors = (*engine._cache.keys, *engine._cache.values)
        assert sum(t.nbytes for t in tensors if t is not None) <= 20 * row
        return result

    monkeypatch.setattr(qwen, "hidden", watched)
    monkeypatch.setattr(local, "_MAX_PREFILL_CONTEXT", 1024)
    for turn in range(3):
        done = run(engine, [ask(i, list(c), turn, new=4) for i, c in contexts.items()])
        for i, completion in done.items():
            contexts[i] += completion.token_ids + prompt(turn, 30)
    assert 512 < max(largest) <= 1024
    assert engine._cache.length <= 256
    for session in list(contexts):
        engine.close(session)
    assert engine._cache.length == 0


def test_a_small_budget_evicts_and_recomputes_and_changes_no_sample(qwen: LanguageModel) -> None:
    row = qwen.kv_bytes_per_token * 128
    contexts = {i: prompt(i, 20 + i) for i in range(9)}
    roomy, tight = TransformersEngine(qwen), TransformersEngine(qwen, max_cache_bytes=3.5 * row)
    for turn in range(3):
        requests = [ask(i, list(c), 10 * turn + i) for i, c in contexts.items()]
        expected, done = run(roomy, requests), run(tight, requests)
        tensors = (*tight._cache.keys, *tight._cache.values)
        assert sum(t.nbytes for t in tensors if t is not None) <= 3.5 * row
        for i, completion in done.items():
            assert completion.token_ids == expected[i].token_ids
            assert completion.logprobs == pytest.approx(expected[i].logprobs, abs=1e-4)
            contexts[i] += completion.token_ids + prompt(100 + i, 4)
    for session in list(contexts):
        tight.close(session)
    assert tight._seats.width == 0


@pytest.mark.parametrize("truncation", [{"top_k": 3}, {"top_p": 0.6}, {"top_k": 5, "top_p": 0.9}])
def test_what_top_k_and_top_p_keep_is_recorded(
    qwen: LanguageModel, truncation: dict[str, Any]
) -> None:
    sampling = Sampling(max_new_tokens=12, temperature=0.8, **truncation)
    asked = [Request(i, prompt(i, 10), i, sampling, frozenset()) for i in range(6)]
    plain = ask(9, prompt(9, 10))
    done = run(TransformersEngine(qwen), [*asked, plain])
    assert done[9].kept_mass is None
    assert done[9].token_ids == run(TransformersEngine(qwen), [plain])[9].token_ids
    for request in asked:
        completion = done[request.session]
        whole = score(qwen, request.token_ids + completion.token_ids, 12, 0.8)
        mass = torch.tensor(completion.kept_mass)
        ours = torch.tensor(completion.logprobs) + mass.log()
        assert ours.tolist() == pytest.approx(whole, abs=1e-4)
        assert mass.min() > 0
        assert mass.min() < 1
        if "top_k" not in truncation:
            assert mass.min() >= 0.6


def test_a_turn_ends_at_a_stop_text(qwen: LanguageModel) -> None:
    decode = "".join
    letters = [chr(97 + i % 26) for i in range(300)]
    engine = TransformersEngine(qwen, decode=lambda ids: decode(letters[i] for i in ids))
    sampling = Sampling(max_new_tokens=64, stop=("e", "qu"))
    done = run(engine, [Request(i, prompt(i, 10), i, sampling, frozenset()) for i in range(8)])
    for completion in done.values():
        text = decode(letters[i] for i in completion.token_ids)
        assert ("e" in text or "qu" in text) == (completion.finish_reason == "stop")
        assert "e" not in text[:-1]
        assert "qu" not in text[:-1]
    with pytest.raises(EngineError, match="knows stop tokens only"):
        TransformersEngine(qwen).submit(Request(0, [5], 0, sampling, frozenset()))
