"""The kinds of task sources. A new one is a module here and one more member of SourceSpec."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from marketplace.gym.sources.code import CodeSource, NativeCodeSource
from marketplace.gym.sources.math_answer import MathAnswerSource
from marketplace.gym.sources.reasoning_gym import ReasoningGymSource
from marketplace.gym.sources.wasm_checker import WasmSource

SourceSpec = Annotated[
    ReasoningGymSource | MathAnswerSource | CodeSource | NativeCodeSource | WasmSource,
    Field(discriminator="kind"),
]
