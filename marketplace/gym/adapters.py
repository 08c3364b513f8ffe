"""LoRA adapters as policies: base weights plus scale * B A, the same bits on every machine.

A matrix product rounds as its library and its threads please, so no two machines would merge an
adapter into quite the same weights. Here each product of two fp32 numbers is exact in fp64, and
the sum over the rank runs in one fixed order; then it is scaled, the base weight is added, and
the result is rounded to fp32 once. PEFT's own merge differs from it by rounding only.

Only what PEFT calls plain LoRA is taken: no code, no pickles, no DoRA, no other initialisations
that change the base, no biases, no replaced layers. Everything is refused by name.

Source: Hu et al., "LoRA", arXiv 2106.09685, section 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marketplace.gym.modules import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from marketplace.gym.policy import Policy
from marketplace.protocol import strict_json
from marketplace.protocol.errors import CheckpointError

import torch  # isort: skip  (after the policy, which sets how its threads wait)

MAX_RANK: Final = 256
MAX_CONFIG_BYTES: Final = 65_536
_MOST_LEVELS: Final = 16  # of arrays and objects inside each other
_ROWS: Final = 64
"""Rows merged at once: what they take in fp64 fits into a core's cache."""

_PREFIX: Final = "base_model.model."
_KINDS: Final = {"F32", "BF16", "F16"}
_SILENT: Final = {
    "peft_version", "inference_mode", "init_lora_weights", "lora_dropout", "revision",
    "base_model_name_or_path", "megatron_core", "qalora_group_size",
}  # fmt: skip
"""Keys that change nothing about what the weights mean once trained."""

_STARTS: Final = (None, True, False, "gaussian", "eva", "orthogonal")
"""init_lora_weights that leave the base as it is. Others (pissa, olora, corda, loftq, ...) take
their start off the base's own weights, so that the adapter belongs to another base."""


class _Config(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)
    peft_type: Literal["LORA"]
    task_type: Literal["CAUSAL_LM"] = "CAUSAL_LM"
    r: Annotated[int, Field(ge=1, le=MAX_RANK)]
    lora_alpha: Annotated[float, Field(gt=0, le=65_536)]
    target_modules: Annotated[
        list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")]],
        Field(min_length=1, max_length=64),
    ]
    bias: Literal["none"] = "none"


@dataclass(frozen=True, slots=True)
class AdapterShape:
    """rank: of every update. alpha: the update is alpha / rank * B A. targets: names of the
    linear layers that have one, ascending."""

    rank: int
    alpha: float
    targets: tuple[str, ...]


def read_shape(folder: str | Path) -> AdapterShape:
    """What adapter_config.json says. Raises CheckpointError, naming the key."""
    path = Path(folder) / ADAPTER_CONFIG
    try:
        data = path.read_bytes()
        if len(data) > MAX_CONFIG_BYTES:
            raise ValueError(f"it has {len(data):,} bytes, and {MAX_CONFIG_BYTES:,} are the most")
        record: Any = strict_json.loads(data.decode("utf-8"), depth=_MOST_LEVELS)
        config = _Config.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise CheckpointError(
            f"{str(path)!r}: {name} is {first['input']!r:.80}: {first['msg']}",
            fix=f"use plain LoRA of rank 1 to {MAX_RANK}",
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(path)!r} can't be read: {error}") from None
    unknown = sorted(
        key for key, value in record.items()
        if value and key not in _SILENT and key not in _Config.model_fields
    )  # fmt: skip
    if unknown:
        raise CheckpointError(
            f"{str(path)!r} sets {unknown[0]}, which plain LoRA does not have",
            fix="train the adapter without it",
        )
    if (start := record.get("init_lora_weights")) not in _STARTS:
        raise CheckpointError(
            f"{str(path)!r} sets init_lora_weights to {start!r:.40}, which changes the base",
            fix="train the adapter without it, or convert it to plain LoRA",
        )
    return AdapterShape(config.r, config.lora_alpha, tuple(sorted(set(config.target_modules))))


def load_adapter(folder: str | Path, base_folder: str | Path) -> Policy:
    """The policy of a whole model with an adapter merged into it.

    Raises CheckpointError if either can't be used or they do not fit each other. That the base
    is the one the adapter names is for the caller to see to (verifier_node.checkpoints).
    """
    path = Path(folder)
    shape = read_shape(path)
    policy = Policy.load(base_folder)
    merge(policy, shape, read_pairs(policy, path, shape))
    return policy


def read_pairs(
    policy: Policy, folder: Path, shape: AdapterShape
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """A [rank, in] and B [out, rank] of each layer, fp32, by the layer's name in the base.

    Raises CheckpointError for names and shapes other than the base's, and weights not finite.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / ADAPTER_WEIGHTS
    wanted = _expected(policy, shape)
    if not wanted:
        raise CheckpointError(
            f"the base has none of the layers {', '.join(shape.targets)}",
            fix="load the adapter with the base that it was trained on",
        )
    found: dict[str, torch.Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            if names != set(wanted):
                other = sorted(names ^ set(wanted))[0]
                what = "lacks" if other in wanted else "has"
                raise CheckpointError(
                    f"{str(path)!r} {what} {other}, unlike its base",
                    fix="load the adapter with the base that it was trained on",
                )
            for name in sorted(names):
                part = file.get_slice(name)
                size, kind = tuple(part.get_shape()), part.get_dtype()
                if size != wanted[name] or kind not in _KINDS:
                    raise CheckpointError(
                        f"{name} of {str(path)!r} is {kind} {list(size)}, and the base needs "
                        f"{list(wanted[name])}",
                        fix="load the adapter with the base that it was trained on",
                    )
                found[name] = file.get_tensor(name).float()
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{str(path)!r} can't be read: {error}") from None
    for name, weights in found.items():
        if not bool(weights.isfinite().all()):
            raise CheckpointError(f"weight {name} of {str(path)!r} is not finite")
    layers = sorted({name.removeprefix(_PREFIX).rsplit(".", 2)[0] for name in found})
    return {layer: (found[_name(layer, "A")], found[_name(layer, "B")]) for layer in layers}


@torch.no_grad()
def merge(
    policy: Policy,
    shape: AdapterShape,
    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
) -> None:
    """Add the updates to the policy's weights, in place. CheckpointError if one overflows."""
    scale = shape.alpha / shape.rank
    for layer, (first, second) in pairs.items():
        weight = policy.model.get_submodule(layer).weight
        assert isinstance(weight, torch.Tensor)
        right, left = first.double(), second.double()
        for start in range(0, len(left), _ROWS):
            rows = left[start : start + _ROWS]
            update = torch.zeros(len(rows), right.shape[1], dtype=torch.float64)
            for place in range(shape.rank):
                update.addcmul_(rows[:, place : place + 1], right[place : place + 1])
            # Apart: fused with the addition, scaling would not round on some processors.
            update.mul_(scale)
            merged = weight[start : start + _ROWS].double().cpu().add_(update).float()
            if not bool(merged.isfinite().all()):
                raise CheckpointError(f"{layer} is not finite with the adapter merged into it")
            weight[start : start + _ROWS] = merged.to(weight.device)


def shape_record(shape: AdapterShape) -> dict[str, Any]:
    """adapter_config.json, as PEFT reads it too."""
    assert math.isfinite(shape.alpha)
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": shape.rank,
        "lora_alpha": shape.alpha,
        "lora_dropout": 0.0,
        "target_modules": list(shape.targets),
        "bias": "none",
        "base_model_name_or_path": None,
        "inference_mode": True,
    }


def _expected(policy: Policy, shape: AdapterShape) -> dict[str, tuple[int, int]]:
    """Shapes of the adapter's tensors, by name."""
    wanted = {}
    shared = policy.model.get_input_embeddings().weight
    for layer, module in policy.model.named_modules():
        if layer.rsplit(".", 1)[-1] not in shape.targets:
            continue
        if not isinstance(module, torch.nn.Linear) or module.weight is shared:
            raise CheckpointError(
                f"{layer} is no linear layer of its own, and an adapter can't change it",
                fix="target the projections of attention and of the feed-forward layers",
            )
        wanted[_name(layer, "A")] = (shape.rank, module.in_features)
        wanted[_name(layer, "B")] = (module.out_features, shape.rank)
    return wanted


def _name(layer: str, part: str) -> str:
    return f"{_PREFIX}{layer}.lora_{part}.weight"
