"""Gumbel noise for replayable sampling: one number per vocabulary entry, the same everywhere.

A sampler that takes the largest logit / T + noise draws from softmax(logits / T) (Gumbel-max,
arXiv 1411.0030), and whoever knows the noise can say which token it must have taken. Noise of
one token position, from its 32-byte key (protocol.seeds.noise_key):

    words     w0..w3, the key as four little-endian uint64
    stream    numpy's Philox 4x64-10, key (w0, w1), counter from (0, 0, w2, w3)
    draws     each uint64 of the stream as two uint32, the low half first; draw i is token i's
    cell      the exponent and the first 11 bits after the leading one of draw + 1/2
    noise     -log(-log(1 - m / 2**32)), m the middle of the cell, rounded to a multiple of 2**-16

No logarithm is taken while sampling: there are 67,584 cells, in a table. No value before
rounding lies within 1e-6 of a rounding edge (a test says so), so that every machine whose log
is right to ten digits has the same table, and noise is bit-identical, not merely close. The
digest of table and stream is compared at first use. A cell is 2**-11 of its value wide, so
probabilities are wrong by about that part of themselves, less than rounding a model to bf16
makes them; the largest noise is 22.87. Only numpy is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from marketplace.protocol.errors import EnvironmentMismatch
from marketplace.protocol.hashing import bytes32, keccak

_BITS: Final = 11
_EXPONENTS: Final = 33
"""draw + 1/2 lies in [2**-1, 2**32)."""
_GRID: Final = 65_536.0
_DIGEST: Final = "19bea58d86eec725170e0fed66e35e2dd8a49b7a9c32ba936df4477535b02d11"

Noise = NDArray[np.float32]


def gumbel_rows(keys: Sequence[bytes], vocabulary: int) -> Noise:
    """[keys, vocabulary] fp32 noise. Raises EnvironmentMismatch where numpy or its log are not
    those that every other machine has."""
    table = noise_table()
    rows = np.empty((len(keys), vocabulary), np.float32)
    for row, key in zip(rows, keys, strict=True):
        np.take(table, _cells(key, vocabulary), out=row, mode="clip")
    return rows


@cache
def noise_table() -> Noise:
    """[67584] the noise of each cell, from the largest noise down. Raises as gumbel_rows."""
    table = (np.rint(exact_values() * _GRID) / _GRID).astype(np.float32)
    table.flags.writeable = False
    probe = table[_cells(keccak(b"tracemarket.noise"), 1000)]
    found = hashlib.sha256(table.astype("<f4").tobytes() + probe.astype("<f4").tobytes())
    if found.hexdigest() != _DIGEST:
        raise EnvironmentMismatch(
            f"the sampling noise on this machine (numpy {np.__version__}) has digest "
            f"{found.hexdigest()}, not {_DIGEST}",
            fix="use the numpy that constraints.txt names",
        )
    return table


def exact_values() -> NDArray[np.float64]:
    """[67584] the noise of each cell before it is rounded."""
    exponents = np.repeat(np.arange(-1, _EXPONENTS - 1), 1 << _BITS)
    within = np.tile(np.arange(1 << _BITS), _EXPONENTS)
    middles = np.ldexp(1.0 + (within + 0.5) / (1 << _BITS), exponents - 32)
    exact: NDArray[np.float64] = -np.log(-np.log1p(-middles))
    return exact


def _cells(key: bytes, vocabulary: int) -> NDArray[Any]:
    # Integers: numpy makes floats of a list in which large and small words meet.
    word = int.from_bytes(bytes32(key, "noise key"), "little")
    philox = np.random.Philox(key=word % (1 << 128), counter=word >> 128 << 128)
    stream = philox.random_raw((vocabulary + 1) // 2)
    draws = stream.astype("<u8", copy=False).view("<u4")[:vocabulary]
    bits = (draws + 0.5).view(np.uint64)
    # The exponent's bias is 1023, and the smallest exponent is -1.
    return ((bits >> np.uint64(52 - _BITS)) - np.uint64(1022 << _BITS)).view(np.int64)
