"""Which expert answers a prompt: the nearest centroid of the experts' own prompts.

A prompt is the mean of the base model's input embeddings of its tokens, less the mean over all
prompts seen in fitting, at length 1. That costs a table look-up and no forward pass. The router
only says whom to ask: every trace names the expert checkpoint that wrote it, and is verified
with that one, so nobody has to agree with a router.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marketplace.gym.modules import ROUTER_CONFIG, ROUTER_WEIGHTS
from marketplace.gym.policy import Policy
from marketplace.protocol.errors import CheckpointError, InvalidValue

import torch  # isort: skip  (after the policy, which sets how its threads wait)

MAX_EXPERTS: Final = 64


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    v: Literal[1]
    experts: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=64)]


@dataclass(frozen=True, slots=True)
class Router:
    """experts: checkpoint ids, in the order of the rows of centroids. centroids: [experts, d]
    fp32, each of length 1. mean: [d], taken off every prompt first."""

    experts: tuple[int, ...]
    centroids: torch.Tensor
    mean: torch.Tensor

    def check(self, base: Policy) -> None:
        """Raises CheckpointError unless the router was fitted on embeddings like the base's."""
        width = base.model.get_input_embeddings().embedding_dim
        if len(self.mean) != width:
            raise CheckpointError(
                f"the router compares {len(self.mean)} numbers, and its base embeds in {width}",
                fix="compose the router again, on its own base",
            )

    def choose(self, base: Policy, prompt: str) -> int:
        """The checkpoint id of the expert to ask."""
        vector = _unit(embedded(base, prompt) - self.mean)
        return self.experts[int(torch.argmax(self.centroids @ vector))]


def fit_router(base: Policy, prompts: Mapping[int, Sequence[str]]) -> Router:
    """prompts: of each expert's environment, by checkpoint id; training prompts, not held out.

    Raises InvalidValue for fewer than two experts, or one without prompts.
    """
    if not 2 <= len(prompts) <= MAX_EXPERTS or not all(prompts.values()):
        raise InvalidValue(
            f"a router needs 2 to {MAX_EXPERTS} experts with prompts, not "
            f"{ {expert: len(some) for expert, some in prompts.items()} }"
        )
    vectors = {
        expert: torch.stack([embedded(base, prompt) for prompt in some])
        for expert, some in prompts.items()
    }
    # Of the experts' means, so that an environment with more prompts pulls no harder.
    mean = torch.stack([some.mean(0) for some in vectors.values()]).mean(0)
    centroids = torch.stack([_unit((some - mean).mean(0)) for some in vectors.values()])
    return Router(tuple(vectors), centroids, mean)


@torch.no_grad()
def embedded(base: Policy, prompt: str) -> torch.Tensor:
    """[d] fp32: the mean of the input embeddings of the prompt's tokens."""
    tokens = torch.tensor(base.codec.encode(prompt), device=base.device)
    return base.model.get_input_embeddings()(tokens).float().mean(0).cpu()


def write_router(router: Router, folder: Path) -> None:
    """router.json and router.safetensors."""
    from safetensors.torch import save_file

    tensors = {"centroids": router.centroids.contiguous(), "mean": router.mean.contiguous()}
    save_file(tensors, folder / ROUTER_WEIGHTS)
    record = {"experts": list(router.experts), "v": 1}
    (folder / ROUTER_CONFIG).write_text(json.dumps(record, indent=2) + "\n", "utf-8")


def read_router(folder: Path) -> Router:
    """The router in a folder. Raises CheckpointError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = _Config.model_validate_json((folder / ROUTER_CONFIG).read_bytes())
        tensors = load_file(folder / ROUTER_WEIGHTS)
    except (OSError, ValidationError, SafetensorError) as error:
        raise CheckpointError(
            f"{str(folder)!r} holds no router: {str(error).splitlines()[0]:.200}"
        ) from None
    centroids, mean = tensors.get("centroids"), tensors.get("mean")
    if (
        centroids is None
        or mean is None
        or mean.dim() != 1
        or {centroids.dtype, mean.dtype} != {torch.float32}
        or tuple(centroids.shape) != (len(config.experts), len(mean))
        or not bool(centroids.isfinite().all() & mean.isfinite().all())
    ):
        raise CheckpointError(
            f"{str(folder)!r} does not hold {len(config.experts)} finite fp32 centroids",
            fix="compose the router again",
        )
    return Router(tuple(config.experts), centroids, mean)


def _unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.norm().clamp_min(1e-12)
