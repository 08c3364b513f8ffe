"""The noise of replayable sampling: as documented, and the same on every machine."""

from __future__ import annotations

import math

import numpy as np
import pytest

from marketplace.gym import noise
from marketplace.gym.noise import exact_values, gumbel_rows, noise_table
from marketplace.protocol.errors import EnvironmentMismatch, InvalidValue
from marketplace.protocol.hashing import keccak
from marketplace.protocol.seeds import noise_key

KEYS = [noise_key(keccak(b"task"), sample, position) for sample in (0, 5) for position in (0, 9)]
MASK = 2**64 - 1
GOLDEN = [1.1112823486328125, 1.9776763916015625, -0.1300048828125, 0.4531402587890625]
SUM = 28300.215560913086


def _philox(key: list[int], counter: list[int], words: int) -> list[int]:
    """Philox 4x64-10 (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3), by hand."""
    found: list[int] = []
    while len(found) < words:
        for place in range(4):
            counter[place] = (counter[place] + 1) & MASK
            if counter[place]:
                break
        (a, b, c, d), (low, high) = counter, key
        for _ in range(10):
            one, two = a * 0xD2E7470EE14C6C93, c * 0xCA5A826395121157
            a, b, c, d = (two >> 64) ^ b ^ low, two & MASK, (one >> 64) ^ d ^ high, one & MASK
            low, high = (low + 0x9E3779B97F4A7C15) & MASK, (high + 0xBB67AE8584CAA73B) & MASK
        found += [a, b, c, d]
    return found


def _by_definition(key: bytes, vocabulary: int) -> list[float]:
    """The noise without numpy and without the table."""
    words = [int.from_bytes(key[start : start + 8], "little") for start in range(0, 32, 8)]
    stream = _philox(words[:2], [0, 0, *words[2:]], (vocabulary + 1) // 2)
    draws = [half for word in stream for half in (word % 2**32, word >> 32)][:vocabulary]
    values = []
    for draw in draws:
        fraction, exponent = math.frexp(draw + 0.5)  # fraction in [1/2, 1)
        middle = math.ldexp((math.floor(fraction * 4096) + 0.5) / 4096, exponent)
        values.append(round(-math.log(-math.log1p(-middle / 2**32)) * 65536) / 65536)
    return values


@pytest.mark.parametrize("vocabulary", [1, 7, 258, 3001])
def test_noise_is_what_the_documentation_says(vocabulary):
    rows = gumbel_rows(KEYS, vocabulary)
    assert (rows.shape, rows.dtype) == ((4, vocabulary), np.float32)
    for row, key in zip(rows, KEYS, strict=True):
        assert row.tolist() == _by_definition(key, vocabulary)


def test_a_larger_vocabulary_begins_with_the_same_noise():
    assert np.array_equal(gumbel_rows(KEYS, 257), gumbel_rows(KEYS, 49_152)[:, :257])


def test_golden_row():
    (row,) = gumbel_rows([keccak(b"golden")], 49_152)
    assert row[:4].tolist() == GOLDEN
    assert float(row.astype(np.float64).sum()) == SUM


def test_the_table_does_not_depend_on_the_last_digits_of_log():
    scaled = exact_values() * 65536
    assert np.abs(scaled - np.floor(scaled) - 0.5).min() > 1e-6
    assert np.abs(noise_table() - exact_values()).max() <= 0.5 / 65536
    assert np.all(np.diff(noise_table()) <= 0)
    with pytest.raises(ValueError, match="read-only"):
        noise_table()[0] = 1.0


def test_a_machine_with_other_noise_says_so(monkeypatch):
    values = exact_values()
    values[7] += 1 / 65536
    monkeypatch.setattr(noise, "exact_values", lambda: values)
    noise_table.cache_clear()
    with pytest.raises(EnvironmentMismatch, match="sampling noise on this machine"):
        gumbel_rows(KEYS, 4)
    monkeypatch.undo()
    assert noise_table().shape == (67_584,)


def test_it_is_gumbel_noise():
    values = np.sort(gumbel_rows([keccak(bytes([n])) for n in range(4)], 50_000).ravel())
    expected = np.exp(-np.exp(-values.astype(np.float64)))
    steps = (np.arange(len(values)) + 0.5) / len(values)
    # Kolmogorov-Smirnov over 200,000 draws: 0.0037 is passed once in a hundred.
    assert np.abs(expected - steps).max() < 0.0037
    assert values[-1] > 9  # the tail is there


def test_rows_have_nothing_to_do_with_each_other():
    rows = gumbel_rows(KEYS, 49_152)
    correlation = np.corrcoef(rows)[np.triu_indices(len(KEYS), 1)]
    assert np.abs(correlation).max() < 5 / math.sqrt(49_152)


def test_keys_must_be_digests():
    with pytest.raises(InvalidValue, match="noise key has 31 bytes"):
        gumbel_rows([b"x" * 31], 4)
