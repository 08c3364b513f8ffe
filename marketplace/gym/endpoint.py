"""Requests to any server that speaks OpenAI's API (vLLM, Ollama, llama.cpp, Exo), with retries."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from marketplace.protocol.errors import ConfigError, SamplerError

_RETRIED: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_LONGEST_PAUSE: Final = 30.0

MAX_ANSWER_BYTES: Final = 256 << 20
"""Of one answer, unpacked: far over a large group's tokens with their log-probabilities."""

Parsed = TypeVar("Parsed", bound=BaseModel)


class Endpoint:
    """One model behind an HTTP address. url: the address, without a slash at its end.

    api_key_env: name of the environment variable that holds the key; None for no key. The key
    goes into the request's header and nowhere else. timeout: seconds for one request, to the end
    of its answer. retries: further tries after a failure that may pass. wait: sleeps so many
    seconds. The server may send anything.

    Raises ConfigError if the variable is not set or base_url is no HTTP address.
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
        clock: Callable[[], float] = time.monotonic,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.model = model
        self.url = base_url.rstrip("/")
        self._timeout, self._retries = timeout, retries
        self._wait, self._clock = wait, clock
        headers = {}
        if api_key_env is not None:
            if not environ.get(api_key_env):
                raise ConfigError(
                    f"the environment variable {api_key_env} is not set",
                    fix=f"export {api_key_env}=<the endpoint's key>",
                )
            headers["Authorization"] = f"Bearer {environ[api_key_env]}"
        try:
            parsed = httpx.URL(self.url)
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

    def post(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        is_told: Callable[[httpx.Response], bool] = lambda _: False,
        given_up: Callable[[], bool] = lambda: False,
    ) -> httpx.Response:
        """The response of success, or one that is_told says the caller wants to hear of.

        given_up: whether nobody waits for it any more; asked before each further try. Raises
        SamplerError for every other refusal, and after the last try.
        """
        url = self.url + path
        reason = ""
        for attempt in range(self._retries + 1):
            pause = min(2.0**attempt, _LONGEST_PAUSE)
            try:
                response = self._answer(url, body)
            except httpx.RequestError as error:
                reason = f"{type(error).__name__}: {error}"
            else:
                if response.is_success or is_told(response):
                    return response
                reason = f"status {response.status_code}: {response.text[:200]}"
                if response.status_code not in _RETRIED:
                    raise SamplerError(
                        f"{url} refused model {self.model!r} with {reason}",
                        fix="check the model's name, the key and the request's limits",
                    )
                pause = _retry_after(response, pause)
            if attempt == self._retries or given_up():
                break
            self._wait(pause)
        raise SamplerError(
            f"{url} failed {attempt + 1} times, the last time with {reason}",
            fix="start the server, or raise timeout if the model is slow",
        )

    def _answer(self, url: str, body: Mapping[str, Any]) -> httpx.Response:
        """Of one try, read to its end within what one answer may take. httpx.RequestError."""
        deadline = self._clock() + self._timeout
        content = bytearray()
        with self._client.stream("POST", url, json=body) as response:
            for part in response.iter_bytes():
                content += part
                if len(content) > MAX_ANSWER_BYTES:
                    raise SamplerError(
                        f"{url} answered with more than {MAX_ANSWER_BYTES:,} bytes",
                        fix="check that the address is an OpenAI-compatible endpoint",
                    )
                if self._clock() > deadline:
                    raise httpx.ReadTimeout(f"no whole answer within {self._timeout:g} s")
        # Without the headers that say how to read it: it is unpacked, and its text is UTF-8 (of
        # Python's codecs, which a server may name, some give no text).
        told = {k: v for k, v in response.headers.items() if k == "retry-after"}
        return httpx.Response(
            response.status_code, headers=told, content=bytes(content), request=response.request
        )


def parsed(response: httpx.Response, kind: type[Parsed], what: str) -> Parsed:
    """A response's body. Raises SamplerError if it is no such thing; what: its name for people."""
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        raise SamplerError(
            f"{response.request.url} answered something else than {what}: "
            f"{response.text[:200]!r} ({error.error_count()} problems)",
            fix="check that the address is an OpenAI-compatible endpoint",
        ) from None


def _retry_after(response: httpx.Response, default: float) -> float:
    """Seconds that the server asks for, within reason."""
    try:
        asked = float(response.headers["Retry-After"])
    except (KeyError, ValueError):
        return default
    return default if math.isnan(asked) else min(max(asked, 0.0), _LONGEST_PAUSE)
