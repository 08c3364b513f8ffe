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

Precision = Literal["fp32", "bf16", "auto"]

_Positive = Annotated[float, Field(gt=0.0)]
_Share = Annotated[float, Field(gt=0.0, le=1.0)]

LossName = Literal["ours", "grpo", "dapo", "dr_grpo", "gspo", "cispo"]


class TrainSettings(BaseModel):
    """Everything a run depends on besides its data and its parent checkpoint.

    learning_rate, betas, weight_decay: AdamW's. warmup_steps: linear, from 1/(n+1) of the rate.
    groups_per_step: kept groups in one optimizer step, about. epochs: passes over the data.
    max_grad_norm: the global gradient norm is clipped to it. token_budget: tokens computed at
    once (memory). seed: order of the groups, and what is drawn for replay.

    loss: ours (trainer/loss.py) or, for comparison, one of trainer/objectives.py.
    ratio_low, ratio_high: clip of current / proximal (DAPO's asymmetric clip);
    negative_ratio_cap: hard upper bound for traces with a negative advantage (INTELLECT-2).
    good_floor, bad_ceiling: least weight of stale good tokens, most of bad ones (TOPR).
    band_low, band_high: proximal / behaviour outside of it masks a token (IcePop).
    negative_drift: mean nats that a trace with a negative advantage may lie off (DeepSeek-V3.2).
    strict_...: the same for tier B. pull: weight of the squared log-ratio.
    positive_ce: weight of cross-entropy on traces of full score, beside the ratio's term; groups
    in which all are right are trained on for it. 0: neither.
    peer_low, peer_high, gspo_clip, cispo_high, dr_grpo_length: of the other losses.

    opaque_weight: advantage given to tier C positives, whose behaviour policy is unknown.
    scorable_share: most of a step's weighted tokens that tier B may have, beside tier A.
    miner_share: most of a step's |advantage| x tokens that count of one miner's, beside others.
    max_staleness: checkpoints back in the lineage that traces may come from; 0 is the parent.
    mean_tolerance, max_tolerance: a trace whose claimed log-probabilities differ from its
    checkpoint's by more is not trained on. replay_share: of tier A groups, sampled again.
    poison_sigmas: how many robust deviations a text may be less likely than others; 0: any.
    copy_nats: copies at tier B that are less likely than exp(-this) are left out.
    length_price: taken off a score for each thousand tokens; 0: length is free.
    min_effective_share: training stops when an epoch's effective sample size falls below it.
    rollback_sigmas: standard errors of held-out accuracy that a child may lose; 0: any loss.
    precision: of a step's matrix products; "auto" takes bf16 where it is measured to be faster.
    recompute: compute layers again in backward: less memory for a third more work.
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
    loss: LossName = "ours"
    ratio_low: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.8
    ratio_high: Annotated[float, Field(gt=1.0)] = 1.28
    negative_ratio_cap: Annotated[float, Field(gt=1.0)] = 4.0
    good_floor: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    bad_ceiling: Annotated[float, Field(ge=1.0)] = 1.0
    band_low: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    band_high: Annotated[float, Field(ge=1.0)] = 2.0
    negative_drift: _Positive = 1.0
    strict_band_low: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    strict_band_high: Annotated[float, Field(ge=1.0)] = 2.0
    strict_negative_drift: _Positive = 0.5
    pull: Annotated[float, Field(ge=0.0)] = 0.0
    positive_ce: Annotated[float, Field(ge=0.0)] = 1.0
    peer_low: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.8
    peer_high: Annotated[float, Field(gt=1.0)] = 1.2
    gspo_clip: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.0004
    cispo_high: Annotated[float, Field(ge=1.0)] = 5.0
    dr_grpo_length: Annotated[int, Field(ge=1)] = 256
    opaque_weight: Annotated[float, Field(ge=0.0)] = 0.5
    scorable_share: _Share = 0.5
    miner_share: _Share = 0.5
    max_staleness: Annotated[int, Field(ge=0, le=64)] = 2
    mean_tolerance: _Positive = 0.02
    max_tolerance: _Positive = 0.5
    replay_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    poison_sigmas: Annotated[float, Field(ge=0.0)] = 8.0
    copy_nats: Annotated[float, Field(ge=0.0)] = 32.0
    length_price: Annotated[float, Field(ge=0.0)] = 0.0
    min_effective_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.3
    rollback_sigmas: Annotated[float, Field(ge=0.0)] = 1.0
    token_budget: Annotated[int, Field(ge=16)] = 512
    precision: Precision = "fp32"
    recompute: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    weights: Literal["fp32", "bf16"] = "fp32"

    @property
    def imitates(self) -> bool:
        """Whether groups in which all are right teach anything: the other losses compare only."""
        return self.loss == "ours" and self.positive_ce > 0


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
