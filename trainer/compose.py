"""One module of several experts: merged into one adapter, or a router that asks one of them.

    linear    A and B averaged by weight (PEFT "linear"): the experts' rank, with cross terms
    mixture   all experts at once, weight times each one's update (PEFT "cat"): exact, the sum of
              the ranks. A mixture of outputs would need a pass and a cache per expert for every
              token; mixed in every layer it is one adapter, which verifiers check like any other
    ties      trim, elect signs, merge (arXiv 2306.01708), on the updates themselves (PEFT
              "ties_svd"), brought back to a low rank by SVD
    dare      drop at random, rescale, sum (arXiv 2311.03099; PEFT "dare_linear_svd"), seeded
    route     no merging: the nearest centroid of the experts' prompts (gym/routing.py)

PEFT's "ties" and "dare_linear" treat A and B each for itself; what they trim is then not what
the model sees. SVD rounds as its library pleases, which does not matter: the composer does it
once, and what is registered is the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from marketplace.gym.adapters import MAX_RANK, AdapterShape, read_pairs, read_shape
from marketplace.gym.modules import base_of, is_adapter, write_base
from marketplace.gym.policy import Policy
from marketplace.gym.routing import fit_router, write_router
from marketplace.protocol.errors import CheckpointError, ConfigError
from marketplace.protocol.seeds import PPM
from trainer.checkpoint import TrainingRecord, new_path, whole_folder, write_records
from trainer.experts import NAME, Start, adapt, write_adapter

import torch  # isort: skip  (after the policy, which sets how its threads wait)

Method = Literal["linear", "mixture", "ties", "dare", "route"]
_KINDS: Final[dict[str, str]] = {
    "linear": "linear",
    "mixture": "cat",
    "ties": "ties_svd",
    "dare": "dare_linear_svd",
}
_MERGED: Final = "merged"
_USED: Final[dict[str, set[str]]] = {
    "linear": {"weights"},
    "mixture": {"weights"},
    "ties": {"weights", "density", "rank"},
    "dare": {"weights", "density", "rank", "seed"},
    "route": set(),
}
"""Which settings each method reads: one that it would ignore is refused."""


class ComposeSettings(BaseModel):
    """weights: one for each expert; by default 1 / experts for linear and mixture, 1 for ties
    and dare. density: the share of each update that ties and dare keep. rank: of the result of
    ties and dare; by default the sum of the experts'. seed: of what dare drops."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    method: Method
    weights: tuple[Annotated[float, Field(ge=-1e6, le=1e6)], ...] | None = None
    density: Annotated[float, Field(gt=0, le=1)] = 0.5
    rank: Annotated[int, Field(ge=1, le=MAX_RANK)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @model_validator(mode="after")
    def _used(self) -> Self:
        idle = sorted(self.model_fields_set - _USED[self.method] - {"method"})
        if idle:
            raise ValueError(f"{self.method} has no use for {idle[0]}")
        return self


@dataclass(frozen=True, slots=True)
class Expert:
    """A registered adapter, fetched. cid: of its manifest, base32."""

    checkpoint: int
    cid: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Base:
    """The whole model that all experts were trained on, fetched."""

    checkpoint: int
    cid: str
    folder: Path


Entry = tuple[int, bytes, int, int]
"""batch, verdict root, units, weight in ppm: as protocol.merkle.dataset_root takes it."""


def joined(datasets: Sequence[Sequence[Entry]]) -> list[Entry]:
    """The batches of several experts as one dataset, ascending. Each expert counts the same,
    whatever its weights add up to; the new weights add up to a million (0 if all were 0)."""
    shares: dict[int, Fraction] = {}
    known: dict[int, Entry] = {}
    for entries in datasets:
        total = sum(entry[3] for entry in entries)
        for entry in entries:
            known[entry[0]] = entry
            share = Fraction(entry[3], total) if total else Fraction(0)
            shares[entry[0]] = shares.get(entry[0], Fraction(0)) + share
    whole = sum(shares.values())
    exact = {batch: PPM * share / whole if whole else share for batch, share in shares.items()}
    weights = {batch: int(share) for batch, share in exact.items()}
    # What rounding down left over goes to the largest remainders, the lower batch first.
    left = (PPM if whole else 0) - sum(weights.values())
    for batch in sorted(exact, key=lambda one: (weights[one] - exact[one], one))[:left]:
        weights[batch] += 1
    return [(*known[batch][:3], weights[batch]) for batch in sorted(known)]


def merge_experts(
    base: Base,
    experts: Sequence[Expert],
    settings: ComposeSettings,
    folder: Path,
    *,
    dataset: Mapping[str, Any],
) -> Path:
    """A new adapter folder. dataset: what the experts were trained on, for the record.

    Raises CheckpointError for experts of another base or other layers, ConfigError for settings
    that do not fit them.
    """
    weights = _weights(experts, settings)
    shapes = [_checked(base, expert) for expert in experts]
    for expert, shape in zip(experts, shapes, strict=True):
        if shape.targets != shapes[0].targets:
            raise CheckpointError(
                f"expert {expert.checkpoint} changes {', '.join(shape.targets)}, expert "
                f"{experts[0].checkpoint} {', '.join(shapes[0].targets)}",
                fix="compose experts that change the same layers",
            )
        if settings.method == "linear" and shape.rank != shapes[0].rank:
            raise ConfigError(
                f"expert {expert.checkpoint} has rank {shape.rank}, expert "
                f"{experts[0].checkpoint} {shapes[0].rank}",
                fix="compose them by ties, dare or mixture",
            )
    together = sum(shape.rank for shape in shapes)
    rank = settings.rank or together
    if settings.method != "linear" and rank > MAX_RANK:
        raise ConfigError(
            f"ranks {[shape.rank for shape in shapes]} make {together}, and {MAX_RANK} is the most",
            fix="compose fewer experts, or give ties and dare a --rank",
        )
    tensors, shape = _merged(base, experts, shapes, weights, settings, rank)
    record = _record(base, experts, settings, dataset, weights=list(weights))
    return write_adapter(folder, shape, tensors, sampling=None, record=record, base=base.cid)


def route_experts(
    base: Base,
    experts: Sequence[Expert],
    prompts: Mapping[int, Sequence[str]],
    folder: Path,
    *,
    dataset: Mapping[str, Any],
) -> Path:
    """A new router folder. prompts: of each expert's environment, by checkpoint id.

    Raises as merge_experts.
    """
    settings = ComposeSettings(method="route")
    _weights(experts, settings)
    for expert in experts:
        _checked(base, expert)
    router = fit_router(
        Policy.load(base.folder), {one.checkpoint: prompts[one.checkpoint] for one in experts}
    )
    path = new_path(folder)
    counts = [len(prompts[one.checkpoint]) for one in experts]
    with whole_folder(path) as made:
        write_router(router, made)
        write_base(made, base.cid)
        write_records(made, None, _record(base, experts, settings, dataset, prompts=counts))
    return path


def _merged(
    base: Base,
    experts: Sequence[Expert],
    shapes: Sequence[AdapterShape],
    weights: Sequence[float],
    settings: ComposeSettings,
    rank: int,
) -> tuple[dict[str, torch.Tensor], AdapterShape]:
    from peft import LoraConfig, get_peft_model_state_dict

    from trainer.experts import LoraSettings

    policy = adapt(Start(base.folder, base.cid, experts[0].folder), LoraSettings())
    wrapped: Any = policy.model
    names = [NAME]
    plain = Policy.load(base.folder)  # names and shapes as a fetcher sees them
    for expert, shape in zip(experts[1:], shapes[1:], strict=True):
        names.append(f"expert{expert.checkpoint}")
        config = LoraConfig(
            r=shape.rank,
            lora_alpha=shape.alpha,  # type: ignore[arg-type]
            target_modules=list(shape.targets),
            task_type="CAUSAL_LM",
        )
        wrapped.add_adapter(names[-1], config)
        for layer, (first, second) in read_pairs(plain, expert.folder, shape).items():
            module = wrapped.base_model.model.get_submodule(layer)
            with torch.no_grad():
                module.lora_A[names[-1]].weight.copy_(first)
                module.lora_B[names[-1]].weight.copy_(second)
    options: dict[str, Any] = {}
    if settings.method in ("ties", "dare"):
        options = {"density": settings.density, "svd_rank": rank, "svd_full_matrices": False}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        wrapped.base_model.add_weighted_adapter(
            names,
            list(weights),
            adapter_name=_MERGED,
            combination_type=_KINDS[settings.method],
            **options,
        )
    config = wrapped.peft_config[_MERGED]
    tensors = get_peft_model_state_dict(wrapped, adapter_name=_MERGED)
    shape = AdapterShape(config.r, float(config.lora_alpha), shapes[0].targets)
    return {name: _widened(name, one, shape.rank) for name, one in tensors.items()}, shape


def _widened(name: str, weights: torch.Tensor, rank: int) -> torch.Tensor:
    """A or B with zeros up to the rank: SVD finds no more of it than a layer has sides, and every
    layer of an adapter has the same."""
    missing = rank - weights.shape[0 if ".lora_A." in name else 1]
    if missing <= 0:
        return weights
    return torch.nn.functional.pad(
        weights, (0, 0, 0, missing) if ".lora_A." in name else (0, missing)
    )


def _weights(experts: Sequence[Expert], settings: ComposeSettings) -> tuple[float, ...]:
    ids = [expert.checkpoint for expert in experts]
    if len(ids) < 2 or len(set(ids)) != len(ids):
        raise ConfigError(
            f"experts {ids} can't be composed", fix="name two or more different checkpoints"
        )
    if settings.weights is None:
        each = 1.0 if settings.method in ("ties", "dare") else 1.0 / len(ids)
        return (each,) * len(ids)
    if len(settings.weights) != len(ids):
        raise ConfigError(
            f"{len(settings.weights)} weights for {len(ids)} experts",
            fix="give one --weight for each --expert, or none",
        )
    return settings.weights


def _checked(base: Base, expert: Expert) -> AdapterShape:
    if not is_adapter(expert.folder):
        raise CheckpointError(
            f"checkpoint {expert.checkpoint} is no adapter",
            fix="name experts made by `tracemarket model expert`",
        )
    if (found := base_of(expert.folder)) != base.cid:
        raise CheckpointError(
            f"expert {expert.checkpoint} was trained on base {found}, not on {base.cid}",
            fix="compose experts of one base",
        )
    return read_shape(expert.folder)


def _record(
    base: Base,
    experts: Sequence[Expert],
    settings: ComposeSettings,
    dataset: Mapping[str, Any],
    **more: Any,
) -> TrainingRecord:
    members = [{"checkpoint": one.checkpoint, "cid": one.cid} for one in experts]
    composed = {**settings.model_dump(mode="json"), **more, "experts": members}
    return TrainingRecord(
        parent=base.checkpoint, dataset=dataset, settings={"compose": composed}, metrics={}
    )
