"""Settings of a training run, parsed once from TOML or from keywords.

Defaults are what the demo runs with: they lift SmolLM2-135M on two-digit sums within three
turns on two cores (docs/training.md has the measurements).
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marketplace.protocol.errors import ConfigError

_Positive = Annotated[float, Field(gt=0.0)]


class TrainSettings(BaseModel):
    """Everything a run depends on besides its data and its parent checkpoint.

    learning_rate, betas, weight_decay: AdamW's. warmup_steps: linear, from 1/(n+1) of the rate.
    groups_per_step: kept groups in one optimizer step, about. epochs: passes over the data.
    max_grad_norm: the global gradient norm is clipped to it.
    ratio_low, ratio_high: clip band around the importance ratio (DAPO's asymmetric clip);
    negative_ratio_cap: hard upper bound for traces with a negative advantage (INTELLECT-2).
    opaque_weight: advantage given to tier C positives, whose behaviour policy is unknown.
    mean_tolerance, max_tolerance: a trace whose claimed log-probabilities differ from the
    parent's by more is not trained on.
    min_effective_share: an epoch stops when the effective sample size falls below this share.
    token_budget: tokens computed at once (memory). seed: order of the groups.
    weights: what a whole checkpoint is stored as; for bf16 they are rounded at random (by seed),
    which makes deltas small. Adapters are always fp32.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    learning_rate: _Positive = 1e-5
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.95,
    )
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    warmup_steps: Annotated[int, Field(ge=0)] = 1
    groups_per_step: Annotated[int, Field(ge=1)] = 16
    epochs: Annotated[int, Field(ge=1, le=16)] = 1
    max_grad_norm: _Positive = 1.0
    ratio_low: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.8
    ratio_high: Annotated[float, Field(gt=1.0)] = 1.28
    negative_ratio_cap: Annotated[float, Field(gt=1.0)] = 4.0
    opaque_weight: Annotated[float, Field(ge=0.0)] = 0.5
    mean_tolerance: _Positive = 0.02
    max_tolerance: _Positive = 0.5
    min_effective_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.3
    token_budget: Annotated[int, Field(ge=16)] = 512
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    weights: Literal["fp32", "bf16"] = "fp32"


def load_settings(path: str | Path) -> TrainSettings:
    """The settings in a TOML file. ConfigError names the file, the key and the value."""
    try:
        record = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"can't read {str(path)!r}: {error.strerror or error}") from error
    except ValueError as error:  # TOML and UTF-8 errors
        raise ConfigError(f"{str(path)!r} is not TOML: {error}") from error
    return parse_settings(record, source=str(path))


def parse_settings(record: dict[str, Any], *, source: str = "training settings") -> TrainSettings:
    """The settings in a mapping. ConfigError names the source, the key and the value."""
    if isinstance(record.get("betas"), list):  # TOML has no tuples
        record = {**record, "betas": tuple(record["betas"])}
    try:
        return TrainSettings.model_validate(record)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, one['loc']))} is {one['input']!r:.60}: {one['msg']}"
            for one in error.errors(include_url=False)
        )
        raise ConfigError(
            f"{source}: {problems}", fix=f"the keys are {', '.join(TrainSettings.model_fields)}"
        ) from None
