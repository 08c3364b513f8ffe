"""A judge behind any server that speaks OpenAI's chat API: vLLM, Ollama, llama.cpp, Exo."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import httpx
from pydantic import BaseModel, ValidationError

from marketplace.protocol.errors import ConfigError, SamplerError
from verifier_node.judges import Item, head, question

_RETRIED: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_LONGEST_PAUSE: Final = 30.0
_GRADE: Final = re.compile(r"\W*([0-4])\b")


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message


class _Answer(BaseModel):
    choices: list[_Choice]


class EndpointJudge:
    """Judge (see there) on an HTTP endpoint: rubric as the system's message, the texts as the
    user's, a digit as the answer.

    An answer that is no grade counts as 0: a text that talks a judge out of grading must not gain
    by it, nor keep the other texts of its batch from being graded.

    api_key_env: name of the environment variable that holds the key; None for no key. timeout:
    seconds for one request. retries: further tries after a failure that may pass. wait: sleeps so
    many seconds. Raises ConfigError if the variable is not set or base_url is no HTTP address.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str | None = None,
        timeout: float = 120.0,
        retries: int = 3,
        wait: Callable[[float], None] = time.sleep,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.name = model
        self._url = base_url.rstrip("/") + "/chat/completions"
        self._retries = retries
        self._wait = wait
        headers = {}
        if api_key_env is not None:
            if not environ.get(api_key_env):
                raise ConfigError(
                    f"the environment variable {api_key_env} is not set",
                    fix=f"export {api_key_env}=<the endpoint's key>",
                )
            headers["Authorization"] = f"Bearer {environ[api_key_env]}"
        try:
            parsed = httpx.URL(self._url)
        except httpx.InvalidURL:
            parsed = httpx.URL("")
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ConfigError(
                f"endpoint {base_url!r} is no HTTP address",
                fix="give something like http://127.0.0.1:8000/v1",
            )
        self._client = httpx.Client(headers=headers, timeout=timeout)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def grade(self, rubric: str, items: Sequence[Item]) -> list[int]:
        """See Judge. Raises SamplerError."""
        return [self._one(rubric, item) for item in items]

    def _one(self, rubric: str, item: Item) -> int:
        answer = self._post(
            {
                "model": self.name,
                "temperature": 0.0,
                "max_tokens": 8,
                "messages": [
                    {"role": "system", "content": head(rubric) + "Answer with one digit only."},
                    {"role": "user", "content": question(item)},
                ],
            }
        )
        said = answer.choices[0].message.content if answer.choices else None
        found = _GRADE.match(said or "")
        return int(found[1]) if found else 0

    def _post(self, body: dict[str, object]) -> _Answer:
        reason = ""
        for attempt in range(self._retries + 1):
            try:
                response = self._client.post(self._url, json=body)
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {error}"
            else:
                if response.is_success:
                    try:
                        return _Answer.model_validate_json(response.content)
                    except ValidationError:
                        raise SamplerError(
                            f"{self._url} answered something else than a chat completion: "
                            f"{response.text[:200]!r}",
                            fix="check that the address is an OpenAI-compatible endpoint",
                        ) from None
                reason = f"status {response.status_code}: {response.text[:200]}"
                if response.status_code not in _RETRIED:
                    raise SamplerError(
                        f"{self._url} refused model {self.name!r} with {reason}",
                        fix="check the model's name, the key and the request's limits",
                    )
            if attempt < self._retries:
                self._wait(min(2.0**attempt, _LONGEST_PAUSE))
        raise SamplerError(
            f"{self._url} failed {self._retries + 1} times, the last time with {reason}",
            fix="start the server, or raise timeout if the model is slow",
        )
