"""Replayable sampling in vLLM: a logits processor that adds the assigned noise.

    vllm serve MODEL --dtype float32 --logits-processors marketplace.miner.vllm_noise:TaskNoise

For vLLM's v1 interface (vllm.v1.sample.logits_processor.LogitsProcessor), one request for each
sample, with temperature 0, no top-p, top-k or penalties, and these extra arguments (`extra_args`
of SamplingParams, `vllm_xargs` over HTTP):

    noise_seed          the task's seed, 0x and 64 hex digits
    noise_sample        the sample's place in its group
    noise_temperature   the environment's temperature

The processor replaces a request's logits by logit / T + noise in fp32, whose argmax is the
token that tier A asks for. Requests without these arguments are left alone. What vLLM reports as
log-probabilities is not at temperature T: re-score the tokens (gym.policy.completion_logprobs)
before they go into a trace (miner/vllm_sampler.py does all of it).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch

from marketplace.gym.noise import gumbel_rows
from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.hashing import uint
from marketplace.protocol.seeds import noise_key

try:
    from vllm.v1.sample.logits_processor import LogitsProcessor as _Base
except ImportError:  # vLLM loads the class by name; everything else can be used without it
    _Base = object

_NAMES: Final = ("noise_seed", "noise_sample", "noise_temperature")


class BatchUpdate(Protocol):
    """What vLLM says has changed in its batch; to be followed in this order."""

    removed: Sequence[int]
    added: Sequence[tuple[int, Any, Any, list[int]]]
    moved: Sequence[tuple[int, int, Any]]


@dataclass(frozen=True, slots=True)
class NoiseRequest:
    """One sample. output: its tokens so far; vLLM appends to this very list."""

    seed: bytes
    sample: int
    temperature: float
    output: list[int]

    @classmethod
    def of(cls, arguments: Mapping[str, Any] | None, output: list[int]) -> NoiseRequest | None:
        """The request that the extra arguments describe; None without any of ours.

        Raises InvalidValue (a ValueError, as vLLM wants it) for arguments that make no sense.
        """
        given = [name for name in _NAMES if name in (arguments or {})]
        if not arguments or not given:
            return None
        if len(given) != len(_NAMES):
            raise InvalidValue(f"{', '.join(given)} given, but {', '.join(_NAMES)} are needed")
        seed, sample, temperature = (arguments[name] for name in _NAMES)
        try:
            raw = bytes.fromhex(str(seed).removeprefix("0x"))
        except ValueError:
            raw = b""
        if len(raw) != 32:
            raise InvalidValue(f"noise_seed is {seed!r}, not 0x and 64 hex digits")
        try:
            heat = float(temperature)
        except (TypeError, ValueError):
            heat = math.nan
        if not math.isfinite(heat) or heat <= 0:
            raise InvalidValue(f"noise_temperature is {temperature!r}, not a positive number")
        return cls(raw, uint(sample, 64, "noise_sample"), heat, output)


class TaskNoise(_Base):  # type: ignore[misc, valid-type]
    """See the module. One row of logits per request, in the order of vLLM's batch."""

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Raises ValueError for a request that could not be replayed."""
        if NoiseRequest.of(sampling_params.extra_args, []) is None:
            return
        # Greedy, so that vLLM takes the largest of what `apply` leaves.
        if sampling_params.temperature != 0:
            raise InvalidValue(
                f"temperature is {sampling_params.temperature} beside noise_temperature",
                fix="send temperature 0: the noise is what samples",
            )

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._device = device
        self._requests: dict[int, NoiseRequest] = {}

    def is_argmax_invariant(self) -> bool:
        """False: changing the argmax is what it is for."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follows requests through vLLM's batch."""
        if batch_update is None:
            return
        requests = self._requests
        for index in batch_update.removed:
            requests.pop(index, None)
        for index, params, _, output in batch_update.added:
            requests.pop(index, None)
            if (
                request := NoiseRequest.of(getattr(params, "extra_args", None), output)
            ) is not None:
                requests[index] = request
        for source, target, direction in batch_update.moved:
            moving, displaced = requests.pop(source, None), requests.pop(target, None)
            if moving is not None:
                requests[target] = moving
            if displaced is not None and direction.name == "SWAP":
                requests[source] = displaced

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """[requests, vocabulary] logits, with logit / T + noise where a request asks for it."""
        if not self._requests:
            return logits
        rows = sorted(self._requests)
        requests = [self._requests[row] for row in rows]
        keys = [noise_key(one.seed, one.sample, len(one.output)) for one in requests]
        noise = torch.from_numpy(gumbel_rows(keys, logits.shape[1])).to(logits.device)
        heat = torch.tensor([one.temperature for one in requests], device=logits.device)
        index = torch.tensor(rows, device=logits.device)
        if logits.dtype != torch.float32:  # vLLM hands over fp32; noise has no room in bf16
            logits = logits.float()
        logits[index] = logits[index] / heat[:, None] + noise
        return logits
