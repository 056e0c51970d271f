"""The chat client against a real server: what it sends, how it fails, what it remembers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from turnhalle.envs.chat_client import ChatClient, shared_client
from turnhalle.envs.chat_options import ChatOptions
from turnhalle.envs.core import Message
from turnhalle.envs.errors import ConfigError, EndpointError, JudgeError

ASKED = [Message(role="user", content="How many?")]


class Number(BaseModel):
    model_config = ConfigDict(extra="forbid")

    number: int


@contextmanager
def client(url: str, **options: Any) -> Iterator[ChatClient]:
    opened = ChatClient(ChatOptions.of(url=url, model="m", **({"backoff_s": 0.0} | options)))
    yield opened
    opened.close()


def test_it_sends_the_conversation_and_returns_the_text(serve: Any) -> None:
    endpoint = serve(lambda body: "three")
    with client(endpoint.url, temperature=0.5, max_tokens=9) as asker:
        assert asker.ask(ASKED) == "three"
    assert endpoint.asked[0] == {
        "model": "m",
        "messages": [{"role": "user", "content": "How many?"}],
        "temperature": 0.5,
        "max_tokens": 9,
    }
    assert (asker.usage.prompt_tokens, asker.usage.completion_tokens) == (7, 3)


def test_text_that_utf8_cannot_hold_is_sent_with_a_replacement(serve: Any) -> None:
    endpoint = serve(lambda body: "ok")
    with client(endpoint.url) as asker:
        asker.ask([Message.model_construct(role="user", content="a\ud800b", name=None)])
    assert endpoint.asked[0]["messages"][0]["content"] == "a?b"


def test_the_key_comes_from_the_environment(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = serve(lambda body: "ok")
    monkeypatch.setenv("MY_KEY", "s3cret")
    with client(endpoint.url, api_key_env="MY_KEY") as asker:
        asker.ask(ASKED)
    assert endpoint.headers[0]["Authorization"] == "Bearer s3cret"
    monkeypatch.delenv("MY_KEY")
    with (
        client(endpoint.url, api_key_env="MY_KEY") as asker,
        pytest.raises(ConfigError, match="MY_KEY is to hold the API key"),
    ):
        asker.ask(ASKED)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(serve: Any, status: int) -> None:
    endpoint = serve(lambda body: "ok" if len(endpoint.asked) == 3 else (status, b"busy"))
    with client(endpoint.url, retries=2) as asker:
        assert asker.ask(ASKED) == "ok"
    assert (asker.usage.requests, asker.usage.retries) == (3, 2)


def test_a_server_may_ask_to_be_left_alone_for_a_while(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = serve(lambda body: (429, b"slow down"))
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    for wait, expected in (("7", 7.0), ("9999", 30.0), ("soon", 0.5)):
        endpoint.sends = {"Retry-After": wait}
        with (
            client(endpoint.url, retries=1, backoff_s=0.5) as asker,
            pytest.raises(EndpointError),
        ):
            asker.ask(ASKED)
        assert pauses[-1] == expected


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ((500, b"broken"), "answered 500: broken"),
        ((200, b"<html>"), "no chat completion: <html>"),
        ((200, {"choices": []}), "no chat completion"),
        ((200, b"[" * 100_000), "no chat completion"),
        ((200, {"choices": [{"message": {"content": None}}]}), "without text"),
    ],
)
def test_retries_are_bounded_and_the_error_says_what_came(
    serve: Any, answer: Any, what: str
) -> None:
    endpoint = serve(lambda body: answer)
    with client(endpoint.url, retries=1) as asker, pytest.raises(EndpointError, match=what) as it:
        asker.ask(ASKED)
    assert len(endpoint.asked) == 2
    assert str(it.value).startswith(f"endpoint: m at {endpoint.url} ")


def test_what_retrying_cannot_mend_is_not_retried(serve: Any) -> None:
    endpoint = serve(lambda body: (401, b"who are you"))
    with client(endpoint.url) as asker, pytest.raises(EndpointError, match="401: who are you"):
        asker.ask(ASKED)
    assert len(endpoint.asked) == 1


def test_a_slow_server_is_given_up(serve: Any) -> None:
    endpoint = serve(lambda body: time.sleep(1) or "late")
    with (
        client(endpoint.url, timeout_s=0.1, retries=1) as asker,
        pytest.raises(EndpointError, match=r"did not answer within 0\.1 s \(tried 2 times\)"),
    ):
        asker.ask(ASKED)


def test_a_dead_server_is_an_error_of_the_boundary_that_asked(serve: Any) -> None:
    endpoint = serve(lambda body: "ok")
    endpoint.stop()
    options = ChatOptions.of(url=endpoint.url, model="m", retries=1, backoff_s=0)
    asker = ChatClient(options, JudgeError)
    with pytest.raises(JudgeError, match=r"judge: m at http.* cannot be reached: ConnectError"):
        asker.ask(ASKED)
    asker.close()


def test_an_equal_request_is_answered_from_the_cache(serve: Any, tmp_path: Path) -> None:
    endpoint = serve(lambda body: f"reply {len(endpoint.asked)}")
    for _ in range(2):
        with client(endpoint.url, cache=tmp_path) as asker:
            assert asker.ask(ASKED) == "reply 1"
            assert asker.ask([Message(role="user", content="Other")]) == "reply 2"
    assert asker.usage.from_cache == 2
    assert asker.usage.requests == 0
    with client(endpoint.url, cache=tmp_path, temperature=1.0) as asker:
        assert asker.ask(ASKED) == "reply 3"


def test_a_damaged_cache_says_so(serve: Any, tmp_path: Path) -> None:
    endpoint = serve(lambda body: "ok")
    with client(endpoint.url, cache=tmp_path) as asker:
        asker.ask(ASKED)
        next(tmp_path.rglob("*.json")).write_text("{", encoding="utf-8")
        with pytest.raises(ConfigError, match="damaged"):
            asker.ask(ASKED)


def test_a_reply_of_a_schema_is_asked_for_and_read(serve: Any) -> None:
    endpoint = serve(lambda body: ' {"number": 3}\n')
    with client(endpoint.url) as asker:
        assert asker.ask_for(Number, ASKED).number == 3
    sent = endpoint.asked[0]["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["schema"]["required"] == ["number"]


@pytest.mark.parametrize(
    "text",
    [
        "three", "", '{"number": "many"}', '{"number": 3} I think', '{"number": 3, "more": 1}',
        '{"number": 1, "number": 3}', "[3]", "3", "[" * 100_000, "```json\n{\"number\": 3}\n```",
    ],
)  # fmt: skip
def test_a_reply_that_is_not_of_the_schema_is_never_guessed_at(serve: Any, text: str) -> None:
    endpoint = serve(lambda body: text)
    with client(endpoint.url) as asker, pytest.raises(EndpointError, match="asked for JSON of N"):
        asker.ask_for(Number, ASKED)


def test_the_schema_goes_into_the_prompt_only_where_that_is_declared(serve: Any) -> None:
    def answer(body: dict[str, Any]) -> Any:
        return (400, b"no response_format") if "response_format" in body else '{"number": 3}'

    endpoint = serve(answer)
    with client(endpoint.url) as asker, pytest.raises(EndpointError, match="set schema_fallback"):
        asker.ask_for(Number, ASKED)
    with client(endpoint.url, schema_fallback=True) as asker:
        assert [asker.ask_for(Number, ASKED).number for _ in range(2)] == [3, 3]
    assert "'number'" in endpoint.asked[-1]["messages"][-1]["content"]
    assert len(endpoint.asked) == 4  # refused once for each client, not once for each question


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"url": "localhost", "model": "m"}, "begins with http"),
        ({"url": "http://x"}, "'model': Field required"),
        ({"url": "http://x", "model": "m", "timeout": 3}, "'timeout'.*Known: url, model"),
        ({"url": "http://x", "model": "m", "retries": -1}, "greater than or equal to 0, got -1"),
    ],
)
def test_bad_options_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ChatOptions.of(**given)


def test_a_process_has_one_client_for_equal_options(serve: Any) -> None:
    endpoint = serve(lambda body: json.dumps(len(endpoint.asked)))
    one = shared_client(ChatOptions.of(url=endpoint.url, model="m"))
    assert shared_client(ChatOptions.of(url=endpoint.url, model="m")) is one
    assert shared_client(ChatOptions.of(url=endpoint.url, model="n")) is not one
    assert shared_client(ChatOptions.of(url=endpoint.url, model="m"), JudgeError) is not one
