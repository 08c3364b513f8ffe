"""The endpoint sampler against real servers on free ports."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse

sys.path.insert(0, str(Path(__file__).parents[2]))

from served import serving

from marketplace.miner.endpoint import OpenAICompatibleSampler
from marketplace.miner.sampler import SamplingRules
from marketplace.protocol.errors import ConfigError, SamplerError

RULES = SamplingRules(group_size=3, temperature=1.0, max_tokens=5, stop=("\n",))


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[str, list[dict]]]]:
    """Start a server whose `path` is answered by a function of the request's body.

    Returns its base URL and the requests that arrive (body, path and key).
    """
    with ExitStack() as stack:

        def start(answer, path="/v1/completions"):
            app, seen = FastAPI(), []

            @app.post(path)
            async def completions(request: Request):
                body = await request.json()
                seen.append({**body, "path": path, "key": request.headers.get("authorization")})
                return answer(body)

            return stack.enter_context(serving(app)), seen

        yield start


@pytest.fixture
def sampler() -> Iterator[Callable[..., OpenAICompatibleSampler]]:
    """Make samplers that never really wait; closed after the test."""
    with ExitStack() as stack:

        def make(url, **settings):
            settings.setdefault("wait", lambda seconds: None)
            made = OpenAICompatibleSampler(url, "llama-8b", timeout=20, **settings)
            stack.callback(made.close)
            return made

        yield make


def _choices(body, count=None):
    return {
        "id": "x",
        "choices": [
            {"index": i, "text": f" {i}\nand more", "finish_reason": "stop"}
            for i in range(count or body["n"])
        ],
    }


def test_whole_groups_in_one_request_each(serve, sampler):
    url, seen = serve(_choices)
    groups = list(sampler(url).sample(["1 + 1 =", "2 + 2 ="], RULES, seed=7))
    assert [[one.text for one in group] for group in groups] == [[" 0", " 1", " 2"]] * 2
    assert {(one.finish, one.tokens, one.logprobs) for one in groups[0]} == {("stop", None, None)}
    assert [request["prompt"] for request in seen] == ["1 + 1 =", "2 + 2 ="]
    first = seen[0]
    assert (first["model"], first["n"], first["max_tokens"]) == ("llama-8b", 3, 5)
    assert (first["temperature"], first["top_p"], first["stop"]) == (1.0, 1.0, ["\n"])
    assert first["key"] is None
    assert seen[0]["seed"] != seen[1]["seed"]


def test_server_that_ignores_n_is_asked_again_with_other_seeds(serve, sampler):
    url, seen = serve(lambda body: _choices(body, count=1))
    (group,) = sampler(url).sample(["1 + 1 ="], RULES, seed=7)
    assert len(group) == 3
    assert [request["n"] for request in seen] == [3, 2, 1]
    assert len({request["seed"] for request in seen}) == 3


def test_more_choices_than_asked_for_are_cut(serve, sampler):
    url, _ = serve(lambda body: _choices(body, count=9))
    assert [len(group) for group in sampler(url).sample(["1"], RULES, seed=0)] == [3]


def _with_tokens(body, logprobs):
    choice = {"text": "17", "finish_reason": "length", "token_ids": [5, 6]}
    choice["logprobs"] = {"token_logprobs": logprobs, "tokens": ["1", "7"]}
    return {"choices": [choice] * body["n"]}


def test_tokens_and_logprobs_where_given(serve, sampler):
    url, _ = serve(lambda body: _with_tokens(body, [-0.5, 1e-9]))
    (group,) = sampler(url).sample(["1"], RULES, seed=0)
    assert group[0].tokens == (5, 6)
    assert group[0].logprobs == (-0.5, 0.0)
    assert group[0].finish == "length"


@pytest.mark.parametrize("logprobs", [[-0.5], [-0.5, None], [-0.5, 0.25], None])
def test_unusable_logprobs_are_left_out(serve, sampler, logprobs):
    url, _ = serve(lambda body: _with_tokens(body, logprobs))
    (group,) = sampler(url).sample(["1"], RULES, seed=0)
    assert group[0].tokens == (5, 6)
    assert group[0].logprobs is None


def test_logprobs_at_another_temperature_are_left_out(serve, sampler):
    url, _ = serve(lambda body: _with_tokens(body, [-0.5, -0.1]))
    rules = SamplingRules(group_size=1, temperature=0.7, max_tokens=5)
    (group,) = sampler(url).sample(["1"], rules, seed=0)
    assert group[0].logprobs is None


def test_chat_where_completions_are_not_served(serve, sampler):
    def chat(body):
        message = {"role": "assistant", "content": "4"}
        return {"choices": [{"message": message, "finish_reason": "stop"}] * body["n"]}

    url, seen = serve(chat, path="/v1/chat/completions")
    groups = list(sampler(url).sample(["2 + 2 =", "3 + 1 ="], RULES, seed=0))
    assert [[one.text for one in group] for group in groups] == [["4"] * 3] * 2
    assert seen[0]["messages"] == [{"role": "user", "content": "2 + 2 ="}]


def test_neither_path_is_served(serve, sampler):
    url, _ = serve(_choices, path="/elsewhere")
    with pytest.raises(SamplerError, match="neither"):
        list(sampler(url).sample(["1"], RULES, seed=0))


def test_key_comes_from_the_environment_and_stays_out_of_messages(serve, sampler):
    url, seen = serve(lambda body: JSONResponse({"error": "no"}, status_code=401))
    made = sampler(url, api_key_env="MY_KEY", environ={"MY_KEY": "hush"})
    with pytest.raises(SamplerError, match="401") as caught:
        list(made.sample(["1"], RULES, seed=0))
    assert [request["key"] for request in seen] == ["Bearer hush"]
    assert "hush" not in str(caught.value)
    with pytest.raises(ConfigError, match="MY_KEY"):
        sampler(url, api_key_env="MY_KEY", environ={})


def test_passing_failures_are_tried_again(serve, sampler):
    answers = [
        lambda body: JSONResponse({}, status_code=429, headers={"Retry-After": "7"}),
        lambda body: PlainTextResponse("busy", status_code=503),
        _choices,
    ]
    pauses: list[float] = []
    url, seen = serve(lambda body: answers[len(seen) - 1](body))
    (group,) = sampler(url, wait=pauses.append).sample(["1"], RULES, seed=0)
    assert len(group) == 3
    assert pauses == [7.0, 2.0]


def test_lasting_failure_names_address_and_reason(serve, sampler):
    url, seen = serve(lambda body: PlainTextResponse("out of memory", status_code=500))
    with pytest.raises(SamplerError, match=r"failed 3 times.*500: out of memory"):
        list(sampler(url, retries=2).sample(["1"], RULES, seed=0))
    assert len(seen) == 3


def test_unknown_model_is_not_taken_for_a_missing_path(serve, sampler):
    error = {"error": {"message": "The model `llama-8b` does not exist."}}
    url, seen = serve(lambda body: JSONResponse(error, status_code=404))
    with pytest.raises(SamplerError, match="llama-8b"):
        list(sampler(url).sample(["1"], RULES, seed=0))
    assert len(seen) == 1


def test_strict_server_is_asked_without_what_it_does_not_know(serve, sampler):
    def strict(body):
        if "return_token_ids" in body:
            error = {"error": {"message": "Unrecognized request argument: return_token_ids"}}
            return JSONResponse(error, status_code=400)
        return _choices(body)

    url, seen = serve(strict)
    groups = list(sampler(url).sample(["1", "2"], RULES, seed=0))
    assert [len(group) for group in groups] == [3, 3]
    assert len(seen) == 3  # refused once, then known


@pytest.mark.parametrize(
    "answer",
    [
        lambda body: PlainTextResponse("<html>hello</html>"),
        lambda body: {"choices": "none"},
        lambda body: {"choices": []},
        lambda body: {"choices": [{"finish_reason": "stop"}]},
        lambda body: {"choices": [{"message": {"content": None}}]},
    ],
)
def test_answers_that_are_no_completions(serve, sampler, answer):
    url, _ = serve(answer)
    with pytest.raises(SamplerError):
        list(sampler(url).sample(["1"], RULES, seed=0))


def test_nobody_listens(sampler):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(SamplerError, match="ConnectError"):
            list(sampler(url, retries=1).sample(["1"], RULES, seed=0))


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://host/v1", "http://"])
def test_addresses_that_are_refused(url):
    with pytest.raises(ConfigError, match="HTTP address"):
        OpenAICompatibleSampler(url, "m")
