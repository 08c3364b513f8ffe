"""Samples from any server that speaks OpenAI's completions API: vLLM, Ollama, llama.cpp, Exo.

    POST {base_url}/completions        the prompt as it is; token ids and log-probs where given
    POST {base_url}/chat/completions   the prompt as a user message, if the first is not served

base_url is what such servers print, usually ending in /v1. What comes back is text, and for
servers that return token ids (vLLM: "return_token_ids") also tokens and log-probabilities; these
are of another program than a verifier's, so they suit bounties of tier C.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import httpx
from pydantic import BaseModel, Field

from marketplace.gym.endpoint import Endpoint, parsed
from marketplace.miner.sampler import Completion, SamplingRules
from marketplace.protocol.errors import SamplerError

_NOT_SERVED: Final = frozenset({404, 405, 501})
_WISHES: Final = {"logprobs": 1, "return_token_ids": True}
"""What makes a trace richer, but not every server knows."""

_NEGATIVE_ZERO: Final = 1e-6
"""Some servers report a certain token's log-probability as this far above 0."""


class _LogProbs(BaseModel):
    token_logprobs: list[Annotated[float, Field(allow_inf_nan=False)] | None] | None = None


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    # Unknown keys are ignored: every server adds its own.
    text: str | None = None
    message: _Message | None = None
    finish_reason: str | None = None
    token_ids: list[Annotated[int, Field(ge=0)]] | None = None
    logprobs: _LogProbs | None = None


class _Answer(BaseModel):
    choices: list[_Choice]


class OpenAICompatibleSampler:
    """Sampler (see there) on an HTTP endpoint.

    api_key_env: name of the environment variable that holds the key; None for no key. The key
    goes into the request's header and nowhere else. extra: further request fields, such as
    {"top_k": -1, "min_p": 0} for servers that truncate the distribution by default. timeout:
    seconds for one request. retries: further tries after a failure that may pass.
    wait: sleeps so many seconds.

    Raises ConfigError if the variable is not set or base_url is no HTTP address.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str | None = None,
        extra: Mapping[str, Any] | None = None,
        timeout: float = 120.0,
        retries: int = 3,
        wait: Callable[[float], None] = time.sleep,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.model = model
        self._endpoint = Endpoint(
            base_url,
            model,
            api_key_env=api_key_env,
            timeout=timeout,
            retries=retries,
            wait=wait,
            environ=environ,
        )
        self._extra = dict(extra or {})
        self._chat = False  # the server has no /completions
        self._strict = False  # the server refuses fields that it doesn't know

    def close(self) -> None:
        """Close the connections."""
        self._endpoint.close()

    def sample(
        self, prompts: Sequence[str], rules: SamplingRules, *, seed: int
    ) -> Iterator[tuple[Completion, ...]]:
        """See Sampler. seed: passed on; whether the server heeds it is its own affair.

        Servers that ignore `n` are asked again until the group is complete.
        """
        for index, prompt in enumerate(prompts):
            group: list[Completion] = []
            while len(group) < rules.group_size:
                # A seed of its own for every request: else a server without `n` repeats itself.
                turn = (seed * 1_000_003 + index * 4_099 + len(group)) % 2**31
                choices = self._ask(prompt, rules, rules.group_size - len(group), turn)
                if not choices:
                    raise SamplerError(
                        f"{self._endpoint.url} answered model {self.model!r} without any choice",
                        fix="look at the server's log",
                    )
                group += [_completion(choice, rules) for choice in choices]
            yield tuple(group[: rules.group_size])

    def _ask(self, prompt: str, rules: SamplingRules, count: int, seed: int) -> list[_Choice]:
        if not self._chat:
            body = self._body(rules, count, seed)
            body |= {"prompt": prompt} | ({} if self._strict else _WISHES)
            answer = self._post("/completions", body | self._extra)
            if answer is not None:
                return answer.choices
        body = self._body(rules, count, seed)
        body["messages"] = [{"role": "user", "content": prompt}]
        answer = self._post("/chat/completions", body | self._extra)
        if answer is None:
            raise SamplerError(
                f"{self._endpoint.url} serves neither /completions nor /chat/completions",
                fix="check the address; it usually ends in /v1",
            )
        self._chat = True
        return answer.choices

    def _body(self, rules: SamplingRules, count: int, seed: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "n": count,
            "temperature": rules.temperature,
            "top_p": 1.0,
            "max_tokens": rules.max_tokens,
            "seed": seed,
        }
        # Some servers refuse an empty list.
        return body | ({"stop": list(rules.stop)} if rules.stop else {})

    def _post(self, path: str, body: dict[str, Any]) -> _Answer | None:
        """The answer; None if the server does not serve this path."""

        def is_told(response: httpx.Response) -> bool:
            return _is_not_served(response) or _names_wish(response, body)

        response = self._endpoint.post(path, body, is_told=is_told)
        if response.is_success:
            return parsed(response, _Answer, "completions")
        if _is_not_served(response):
            return None
        self._strict = True
        return self._post(path, {k: v for k, v in body.items() if k not in _WISHES})


def _completion(choice: _Choice, rules: SamplingRules) -> Completion:
    text = choice.text
    if text is None and choice.message is not None:
        text = choice.message.content
    if text is None:
        raise SamplerError("a choice has neither text nor message.content")
    places = [place for place in map(text.find, rules.stop) if place >= 0]
    text = text[: min(places)] if places else text
    tokens = tuple(choice.token_ids) if choice.token_ids else None
    finish: Literal["stop", "length"] = "length" if choice.finish_reason == "length" else "stop"
    return Completion(text, tokens, _logprobs(choice, tokens, rules), finish)


def _logprobs(
    choice: _Choice, tokens: tuple[int, ...] | None, rules: SamplingRules
) -> tuple[float, ...] | None:
    """The log-probabilities, where they are what a trace may state.

    Servers report them at temperature 1, whatever they sampled with.
    """
    values = choice.logprobs.token_logprobs if choice.logprobs else None
    if tokens is None or not values or len(values) != len(tokens) or rules.temperature != 1.0:
        return None
    known = [value for value in values if value is not None and value <= _NEGATIVE_ZERO]
    return tuple(min(value, 0.0) for value in known) if len(known) == len(values) else None


def _is_not_served(response: httpx.Response) -> bool:
    """Whether the server lacks this path; a 404 may be about the model too (vLLM, Ollama)."""
    return response.status_code in _NOT_SERVED and "model" not in response.text.lower()


def _names_wish(response: httpx.Response, body: Mapping[str, Any]) -> bool:
    """Whether the server objects to a field that it was only wished to know."""
    return response.status_code in (400, 422) and any(
        name in body and name in response.text for name in _WISHES
    )
