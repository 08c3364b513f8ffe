"""TOPLOC proofs: which model's activations a completion came from (arXiv 2501.16007).

The proofs have the format of PyPI toploc 0.1.6, over the last hidden state (after the final norm,
as bfloat16) at every place that a token of the completion was drawn from: for each 32 tokens the
128 activations of largest magnitude, as a polynomial over GF(65497) through (place modulo m, bits
of the value). A verifier computes its own activations in one pass, evaluates the polynomial at its
own largest places, and compares exponents and mantissas. The package's own compiled code can't be
loaded beside this project's torch, so the format is written out here.

A proof is one more thing that can be false, never a replacement: what the tier asks for is judged
all the same.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import mean, median
from typing import TYPE_CHECKING, Final

from marketplace.protocol.trace import TOPLOC_TOKENS

if TYPE_CHECKING:
    import torch

    from marketplace.gym.policy import Policy

PRIME: Final = 65_497
TOPK: Final = 128
_LEAST_MODULUS: Final = 2


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The largest honest difference for bfloat16. mismatches: of exponents, out of 128: at least 90
    have to agree. mean, median: error of the mantissas (7 bits) where the exponents agree.

    Those of the paper's own experiments: TEXP, TMEAN and TMEDIAN in vllm_validate_poly.py of
    github.com/PrimeIntellect-ai/toploc-experiments at 1d83232, 90, 10 and 8, which refuse what is
    below the first or above the others. PyPI toploc 0.1.6 has none: it reports the differences."""

    mismatches: int = 38
    mean: float = 10.0
    median: float = 8.0


@dataclass(frozen=True, slots=True)
class Difference:
    """A proof against a verifier's own activations. mean, median: None where no exponent agrees."""

    mismatches: int
    points: int
    mean: float | None
    median: float | None

    def is_within(self, thresholds: Thresholds) -> bool:
        """Whether an honest machine could differ so. mismatches count as a share of 128."""
        return (
            self.mean is not None
            and self.median is not None
            and self.mismatches * TOPK <= thresholds.mismatches * self.points
            and self.mean <= thresholds.mean
            and self.median <= thresholds.median
        )


def proofs_of(activations: torch.Tensor) -> tuple[str, ...]:
    """[tokens, width] activations: base64 of one proof for every TOPLOC_TOKENS tokens."""
    return tuple(
        base64.b64encode(_proof(*_largest(chunk))).decode("ascii")
        for chunk in activations.split(TOPLOC_TOKENS)
    )


def differences(activations: torch.Tensor, proofs: Sequence[str]) -> list[Difference] | None:
    """Each proof against activations as proofs_of takes them; None for what can't be a proof of so
    many activations."""
    chunks = activations.split(TOPLOC_TOKENS)
    if len(chunks) != len(proofs):
        return None
    found = []
    for chunk, proof in zip(chunks, proofs, strict=True):
        places, bits = _largest(chunk)
        numbers = _numbers(proof)
        if len(numbers) != 1 + len(places) or numbers[0] < max(_LEAST_MODULUS, len(places)):
            return None
        modulus, *coefficients = numbers
        told = [_evaluated(coefficients, place % modulus) for place in places]
        found.append(_difference(told, bits))
    return found


def is_admitted(
    activations: torch.Tensor, proofs: Sequence[str], thresholds: Thresholds | None = None
) -> bool:
    """Whether every proof could come from a machine that honestly computed these activations."""
    found = differences(activations, proofs)
    allowed = thresholds or Thresholds()
    return found is not None and all(one.is_within(allowed) for one in found)


def activations_of(policy: Policy, prompt: Sequence[int], tokens: Sequence[int]) -> torch.Tensor:
    """[tokens, width] bfloat16: the last hidden state at the place that each token was drawn
    from."""
    import torch

    inputs = torch.tensor([[*prompt, *tokens[:-1]]], device=policy.device)
    with torch.inference_mode():
        output = policy.model.base_model(input_ids=inputs, use_cache=False)
    hidden: torch.Tensor = output.last_hidden_state[0, len(prompt) - 1 :]
    return hidden.to(device="cpu", dtype=torch.bfloat16)


def _largest(chunk: torch.Tensor) -> tuple[list[int], list[int]]:
    """Places in the flattened chunk and bits of the activations of largest magnitude."""
    import torch

    flat = chunk.reshape(-1)
    # Equal magnitudes are common in bfloat16: the earlier one first, everywhere.
    order = torch.sort(flat.abs(), descending=True, stable=True).indices[:TOPK]
    bits = flat[order].view(torch.int16).tolist()
    return order.tolist(), [value & 0xFFFF for value in bits]


def _proof(places: Sequence[int], bits: Sequence[int]) -> bytes:
    modulus = next(
        one for one in range(PRIME, 0, -1) if len({place % one for place in places}) == len(places)
    )
    coefficients = _interpolated([place % modulus for place in places], bits)
    return struct.pack(f">{1 + len(coefficients)}H", modulus, *coefficients)


def _interpolated(x: Sequence[int], y: Sequence[int]) -> list[int]:
    """Coefficients, the constant first, of the polynomial through all points (Newton)."""
    count, inverses = len(x), _inverses()
    table = [value % PRIME for value in y]
    for step in range(1, count):
        for place in range(count - 1, step - 1, -1):
            inverse = inverses[(x[place] - x[place - step]) % PRIME]
            table[place] = (table[place] - table[place - 1]) * inverse % PRIME
    coefficients = [0] * count
    for place in range(count - 1, -1, -1):  # Horner, in Newton's form
        for index in range(count - 1, 0, -1):
            coefficients[index] = (coefficients[index - 1] - coefficients[index] * x[place]) % PRIME
        coefficients[0] = (table[place] - coefficients[0] * x[place]) % PRIME
    return coefficients


@cache
def _inverses() -> list[int]:
    """Of every number modulo PRIME."""
    found = [0, 1]
    for number in range(2, PRIME):
        found.append(-(PRIME // number) * found[PRIME % number] % PRIME)
    return found


def _evaluated(coefficients: Sequence[int], x: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % PRIME
    return value


def _numbers(proof: str) -> tuple[int, ...]:
    data = base64.b64decode(proof)
    return struct.unpack(f">{len(data) // 2}H", data)


def _difference(told: Sequence[int], bits: Sequence[int]) -> Difference:
    """Signs don't count, as in the package."""
    pairs = list(zip(told, bits, strict=True))
    errors = [
        abs((one & 0x7F) - (other & 0x7F)) for one, other in pairs if one & 0x7F80 == other & 0x7F80
    ]
    return Difference(
        len(pairs) - len(errors),
        len(pairs),
        mean(errors) if errors else None,
        median(errors) if errors else None,
    )
