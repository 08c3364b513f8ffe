"""A small taskset for `verifiers`, as an example of what its package would hold."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import verifiers.v1 as vf
from pydantic import Field

__all__ = ["CodeWords"]

_WORDS = (
    "amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heron", "inlet", "jasper",
    "kayak", "lemon", "maple", "north", "ocean", "pearl", "quill", "river", "stone", "tulip",
)  # fmt: skip


class CodeWordData(vf.TaskData):
    """answer: the letters that the question asks for."""

    answer: str


class CodeWordTask(vf.Task[CodeWordData, vf.State, vf.TaskConfig]):
    """Two rewards, as tasksets have them: the answer, and that nothing stands around it."""

    @vf.reward(weight=0.75)
    async def right(self, trace: Any) -> float:
        return float(trace.last_reply.split()[-1:] == [self.data.answer])

    @vf.reward(weight=0.25)
    async def bare(self, trace: Any) -> float:
        return float(trace.last_reply == self.data.answer)


class CodeWordsConfig(vf.TasksetConfig):
    """size: rows. words: in each."""

    size: int = Field(default=400, ge=1, le=10_000)
    words: int = Field(default=5, ge=2, le=12)


class CodeWords(vf.Taskset[CodeWordTask, CodeWordsConfig]):
    """Rows made up from their index."""

    def load(self) -> Iterator[CodeWordTask]:
        for index in range(self.config.size):
            words = Random(index).sample(_WORDS, self.config.words)
            prompt = f"What do the last letters of these words spell: {', '.join(words)}?"
            data = CodeWordData(prompt=prompt, answer="".join(word[-1] for word in words))
            yield CodeWordTask(data, self.config.task)
