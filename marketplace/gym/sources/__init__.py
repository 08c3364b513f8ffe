"""The kinds of task sources. A new one is a module here and one more member of SourceSpec."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from marketplace.gym.sources.code import CodeSource, NativeCodeSource
from marketplace.gym.sources.dataset import DatasetSource
from marketplace.gym.sources.dialogue import DialogueSource
from marketplace.gym.sources.finance import FinanceSource
from marketplace.gym.sources.game import GameSource
from marketplace.gym.sources.gymnasium import GymnasiumSource
from marketplace.gym.sources.json_schema import JsonSchemaSource
from marketplace.gym.sources.math_answer import MathAnswerSource
from marketplace.gym.sources.medicine import MedicineSource
from marketplace.gym.sources.openenv import OpenEnvSource
from marketplace.gym.sources.package import PackageSource
from marketplace.gym.sources.physics import PhysicsSource
from marketplace.gym.sources.reasoning_gym import ReasoningGymSource
from marketplace.gym.sources.tables import TablesSource
from marketplace.gym.sources.tool_calls import ToolCallsSource
from marketplace.gym.sources.verifiers import VerifiersSource
from marketplace.gym.sources.wasm_checker import WasmSource

SourceSpec = Annotated[
    CodeSource
    | DatasetSource
    | DialogueSource
    | FinanceSource
    | GameSource
    | GymnasiumSource
    | JsonSchemaSource
    | MathAnswerSource
    | MedicineSource
    | NativeCodeSource
    | OpenEnvSource
    | PackageSource
    | PhysicsSource
    | ReasoningGymSource
    | TablesSource
    | ToolCallsSource
    | VerifiersSource
    | WasmSource,
    Field(discriminator="kind"),
]
