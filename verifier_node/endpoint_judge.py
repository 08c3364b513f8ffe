"""A judge behind any server that speaks OpenAI's chat API: vLLM, Ollama, llama.cpp, Exo."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pydantic import BaseModel

from marketplace.gym.endpoint import Endpoint, parsed
from verifier_node.judges import Item, head, question

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

    Arguments and errors as Endpoint's.
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
        self._endpoint = Endpoint(
            base_url,
            model,
            api_key_env=api_key_env,
            timeout=timeout,
            retries=retries,
            wait=wait,
            environ=environ,
        )

    def close(self) -> None:
        """Close the connections."""
        self._endpoint.close()

    def grade(self, rubric: str, items: Sequence[Item]) -> list[int]:
        """See Judge. Raises SamplerError."""
        return [self._one(rubric, item) for item in items]

    def _one(self, rubric: str, item: Item) -> int:
        body = {
            "model": self.name,
            "temperature": 0.0,
            "max_tokens": 8,
            "messages": [
                {"role": "system", "content": head(rubric) + "Answer with one digit only."},
                {"role": "user", "content": question(item)},
            ],
        }
        response = self._endpoint.post("/chat/completions", body)
        answer = parsed(response, _Answer, "a chat completion")
        said = answer.choices[0].message.content if answer.choices else None
        found = _GRADE.match(said or "")
        return int(found[1]) if found else 0
