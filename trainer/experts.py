"""Experts: one LoRA adapter for one environment, trained apart from all others.

An expert sees only its own environment's attested traces, so experts can be trained at the same
time on different machines that share nothing but the base checkpoint. What is registered is the
adapter (some megabytes) with the base's CID; the parent is the checkpoint whose traces it was
trained on: the base, or the expert's own previous turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import save_file

from marketplace.gym.adapters import (
    MAX_RANK,
    AdapterShape,
    read_pairs,
    read_shape,
    shape_record,
)
from marketplace.gym.modules import ADAPTER_CONFIG, ADAPTER_WEIGHTS, write_base
from marketplace.gym.policy import Policy
from marketplace.gym.spec import EnvironmentSpec, SamplingSpec
from marketplace.protocol.errors import CheckpointError, ConfigError
from trainer.checkpoint import TrainingRecord, new_path, whole_folder, write_json, write_records
from trainer.config import TrainSettings
from trainer.data import AttestedBatch
from trainer.grpo import StepMetrics
from trainer.turn import Trained, train_on_batches

import torch  # isort: skip  (after the policy, which sets how its threads wait)

NAME = "default"
"""PEFT's name of the adapter under training."""


class LoraSettings(BaseModel):
    """rank, alpha: the update is alpha / rank * B A. targets: names of the linear layers that
    get one. seed: of A; B begins as zeros, so an untrained expert is its base."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    rank: Annotated[int, Field(ge=1, le=MAX_RANK)] = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


@dataclass(frozen=True, slots=True)
class Start:
    """Where an expert starts. folder: of the whole model. cid: its manifest's, base32. adapter:
    folder of the expert's previous turn, if there is one; its shape is kept."""

    folder: Path
    cid: str
    adapter: Path | None = None


def adapt(start: Start, lora: LoraSettings) -> Policy:
    """The base with a trainable adapter in it: every other weight is frozen.

    Raises CheckpointError if the previous adapter does not fit, ConfigError for target layers
    that the model does not have.
    """
    from peft import LoraConfig, get_peft_model

    policy = Policy.load(start.folder)
    shape = AdapterShape(lora.rank, lora.alpha, tuple(sorted(lora.targets)))
    pairs = None
    if start.adapter is not None:
        shape = read_shape(start.adapter)
        pairs = read_pairs(policy, start.adapter, shape)
    # By name, not by a random draw that others in this process may have moved on.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(lora.seed)
        try:
            wrapped: Any = get_peft_model(
                policy.model,
                LoraConfig(
                    r=shape.rank,
                    lora_alpha=shape.alpha,  # type: ignore[arg-type]
                    target_modules=list(shape.targets),
                    lora_dropout=0.0,
                    bias="none",
                    task_type="CAUSAL_LM",
                ),
            )
        except ValueError as error:
            raise ConfigError(
                f"the base takes no adapter in {', '.join(shape.targets)}: {error}",
                fix="name linear layers of the model, such as q_proj",
            ) from error
    adapted = replace(policy, model=wrapped.eval())
    for layer, (first, second) in (pairs or {}).items():
        module = wrapped.base_model.model.get_submodule(layer)
        with torch.no_grad():
            module.lora_A[NAME].weight.copy_(first)
            module.lora_B[NAME].weight.copy_(second)
    return adapted


def save_adapter(
    policy: Policy,
    folder: str | Path,
    *,
    sampling: SamplingSpec,
    record: TrainingRecord,
    base: str,
    name: str = NAME,
) -> Path:
    """Write the adapter of a policy from `adapt` to a new folder, which appears complete.

    base: CID of the whole model. Raises CheckpointError as checkpoint.save_checkpoint.
    """
    from peft import get_peft_model_state_dict

    model: Any = policy.model
    config = model.peft_config[name]
    shape = AdapterShape(config.r, float(config.lora_alpha), tuple(sorted(config.target_modules)))
    tensors = get_peft_model_state_dict(model, adapter_name=name)
    return write_adapter(folder, shape, tensors, sampling=sampling, record=record, base=base)


def write_adapter(
    folder: str | Path,
    shape: AdapterShape,
    tensors: Mapping[str, torch.Tensor],
    *,
    sampling: SamplingSpec | None,
    record: TrainingRecord,
    base: str,
) -> Path:
    """An adapter folder from its tensors, by PEFT's names. Raises as save_adapter."""
    path = new_path(folder)
    for name, weights in tensors.items():
        if not bool(weights.isfinite().all()):
            raise CheckpointError(
                f"weight {name} is not finite", fix="lower learning_rate and train again"
            )
    with whole_folder(path) as made:
        whole = {name: one.detach().cpu().contiguous() for name, one in sorted(tensors.items())}
        save_file(whole, made / ADAPTER_WEIGHTS, {"format": "pt"})
        write_json(made / ADAPTER_CONFIG, shape_record(shape))
        write_base(made, base)
        write_records(made, sampling, record)
    return path


def train_expert(
    start: Start,
    parent: int,
    batches: Sequence[AttestedBatch],
    spec: EnvironmentSpec,
    settings: TrainSettings,
    folder: Path,
    *,
    lora: LoraSettings | None = None,
    on_step: Callable[[int, int, StepMetrics], None] | None = None,
) -> Trained:
    """One turn of an expert on attested batches of its environment, saved as an adapter folder.

    parent: the checkpoint that the traces were sampled from, which `start` describes. Raises as
    train_on_batches and adapt.
    """
    chosen = lora or LoraSettings()
    policy = adapt(start, chosen)
    return train_on_batches(
        policy,
        parent,
        batches,
        spec,
        settings,
        folder,
        on_step=on_step,
        save=partial(_save_trained, base=start.cid, lora=chosen),
    )


def _save_trained(
    policy: Policy,
    folder: Path,
    *,
    sampling: SamplingSpec,
    record: TrainingRecord,
    base: str,
    lora: LoraSettings,
) -> Path:
    settings = {**record.settings, "adapter": lora.model_dump(mode="json")}
    recorded = replace(record, settings=settings)
    return save_adapter(policy, folder, sampling=sampling, record=recorded, base=base)
