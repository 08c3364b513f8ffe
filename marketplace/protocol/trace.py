"""One trace as one JSON line: {"v":1,"task":...,...}, strict in both directions.

"toploc" is the one key that may be left out: proofs of the model's activations (gym/toploc.py).

The Merkle leaf hashes the raw line, so two lines that mean the same are two different
leaves and no canonical form is needed. Strict: all other keys present, none unknown, none
twice, exact types, finite numbers, valid UTF-8, no lone surrogates. Whatever breaks this is
MalformedTrace.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, Final, Literal

from marketplace.protocol import strict_json
from marketplace.protocol.errors import MalformedTrace

TRACE_VERSION: Final = 1
MAX_LINE_BYTES: Final = 1 << 20
"""A line without its newline is at most 1 MiB."""

TOPLOC_TOKENS: Final = 32
"""Tokens that one proof covers, the paper's choice."""

MAX_PROOF_CHARS: Final = 344
"""Base64 of a modulus and 128 coefficients, two bytes each."""

_PROOF = re.compile(r"(?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_DEPTH = 8  # a trace has two levels; a few more get a message that names the field
_UINT32_MAX = 2**32 - 1
_UINT64_MAX = 2**64 - 1


class Tier(IntEnum):
    """Provenance tier a bounty asks for (uint8 on chain)."""

    A = 0  # replayable from the assigned seed
    B = 1  # scorable: log-probs match the named checkpoint
    C = 2  # opaque: only the answer is checked


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One completion of one task. Construction validates; errors are MalformedTrace.

    task: absolute task index. sample: place in the group.
    tokens: completion token ids, the stop token included when finish == "stop"; or None.
    logprobs: natural-log behaviour probabilities of tokens under softmax(logits / temperature)
        over the full vocabulary; same length as tokens, finite, <= 0; or None.
    checkpoint: registered checkpoint id (from 1), or None for a model that is not registered.
    claimed_score: what the miner says the checker gives, in [0, 1]; or None.
    toploc: base64 of one proof for every TOPLOC_TOKENS tokens, or None.
    """

    task: int
    sample: int
    prompt: str
    completion: str
    tokens: tuple[int, ...] | None
    logprobs: tuple[float, ...] | None
    finish: Literal["stop", "length"]
    checkpoint: int | None
    model: str
    temperature: float
    max_tokens: int
    claimed_score: float | None
    toploc: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _integer("task", self.task, 0, _UINT64_MAX)
        _integer("sample", self.sample, 0, _UINT32_MAX)
        _integer("max_tokens", self.max_tokens, 1, _UINT32_MAX)
        if self.checkpoint is not None:
            _integer("checkpoint", self.checkpoint, 1, _UINT64_MAX)
        for name in ("prompt", "completion", "model"):
            _text(name, getattr(self, name))
        if self.finish not in ("stop", "length"):
            raise MalformedTrace(f'finish is {_short(self.finish)}, neither "stop" nor "length"')
        put = object.__setattr__  # frozen: numbers are brought to one form here only
        put(self, "temperature", _number("temperature", self.temperature, 0.0, math.inf))
        if self.claimed_score is not None:
            put(self, "claimed_score", _number("claimed_score", self.claimed_score, 0.0, 1.0))
        if self.tokens is not None:
            put(self, "tokens", _token_ids(self.tokens))
        if self.logprobs is not None:
            put(self, "logprobs", _log_probabilities(self.logprobs))
            if self.tokens is None:
                raise MalformedTrace("logprobs are given but tokens is null")
            if len(self.logprobs) != len(self.tokens):
                raise MalformedTrace(f"{len(self.logprobs)} logprobs for {len(self.tokens)} tokens")
            if self.temperature == 0.0:
                raise MalformedTrace("logprobs are given but temperature is 0, which has none")

        if self.toploc is not None:
            put(self, "toploc", _proofs(self.toploc, len(self.tokens or ())))


_FIELDS = tuple(field.name for field in fields(Trace))
_OPTIONAL = frozenset({"toploc"})
_KEYS = frozenset((*_FIELDS, "v")) - _OPTIONAL


def encode_line(trace: Trace) -> bytes:
    """The line of a trace: compact JSON in UTF-8, no newline. Deterministic.

    Raises MalformedTrace if the line is over MAX_LINE_BYTES.
    """
    record: dict[str, Any] = {"v": TRACE_VERSION}
    for name in _FIELDS:
        value = getattr(trace, name)
        if value is not None or name not in _OPTIONAL:
            record[name] = value
    line = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    encoded = line.encode("utf-8")
    if len(encoded) > MAX_LINE_BYTES:
        raise MalformedTrace(
            f"the line of task {trace.task}, sample {trace.sample} has {len(encoded)} bytes, "
            f"over {MAX_LINE_BYTES}",
            fix="lower max_tokens or shorten the prompt",
        )
    return encoded


def decode_line(line: bytes) -> Trace:
    """The trace in one line (no newline). Raises MalformedTrace; never anything else."""
    if len(line) > MAX_LINE_BYTES:
        raise MalformedTrace(f"the line has {len(line)} bytes, over {MAX_LINE_BYTES}")
    try:
        # Decoded here: json.loads would also guess UTF-16 and UTF-32 from bytes.
        record = strict_json.loads(line.decode("utf-8"), depth=_DEPTH)
    except UnicodeDecodeError as error:
        raise MalformedTrace(f"the line is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise MalformedTrace(f"the line is not JSON: {error}") from None
    except ValueError as error:  # also an integer of more digits than Python converts
        raise MalformedTrace(f"the line can't be read as JSON: {error}") from None
    if type(record) is not dict:
        raise MalformedTrace(f"the line holds a JSON {type(record).__name__}, not an object")
    if record.keys() - _OPTIONAL != _KEYS:
        missing, unknown = _KEYS - record.keys(), record.keys() - _KEYS - _OPTIONAL
        raise MalformedTrace(
            f"missing keys {sorted(missing)}, unknown keys {_short(sorted(unknown))}"
        )
    for name in _OPTIONAL & record.keys():
        if record[name] is None:
            raise MalformedTrace(f"{name} is null: leave the key out")
    version = record.pop("v")
    if type(version) is not int or version != TRACE_VERSION:
        raise MalformedTrace(f"trace version is {_short(version)}, not {TRACE_VERSION}")
    return Trace(**record)


def _short(value: object) -> str:
    """repr, cut: an attacker's megabyte must not become the error message."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _integer(name: str, value: object, low: int, high: int) -> None:
    if type(value) is not int:
        raise MalformedTrace(f"{name} is {_short(value)}, not an integer")
    if not low <= value <= high:
        raise MalformedTrace(f"{name} is {_short(value)}, outside {low} to {high}")


def _text(name: str, value: object) -> None:
    if type(value) is not str:
        raise MalformedTrace(f"{name} is {_short(value)}, not a string")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise MalformedTrace(f"{name} holds a lone surrogate at character {error.start}") from None


def _number(name: str, value: object, low: float, high: float) -> float:
    if type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            raise MalformedTrace(f"{name} is {_short(value)}, too large") from None
    if type(value) is not float:
        raise MalformedTrace(f"{name} is {_short(value)}, not a number")
    if not math.isfinite(value) or not low <= value <= high:
        raise MalformedTrace(f"{name} is {value}, not finite or outside [{low}, {high}]")
    return value


def _sequence(name: str, value: object) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise MalformedTrace(f"{name} is {_short(value)}, not a list")
    return tuple(value)


def _token_ids(value: object) -> tuple[int, ...]:
    tokens = _sequence("tokens", value)
    # Fast path over the whole list; the slow loop only runs to name the culprit.
    if tokens and (not _all_of(int, tokens) or min(tokens) < 0 or max(tokens) > _UINT32_MAX):
        for place, token in enumerate(tokens):
            _integer(f"tokens[{place}]", token, 0, _UINT32_MAX)
    return tokens


def _log_probabilities(value: object) -> tuple[float, ...]:
    logprobs = _sequence("logprobs", value)
    if not _all_of(float, logprobs):
        logprobs = tuple(
            _number(f"logprobs[{place}]", one, -math.inf, 0.0) for place, one in enumerate(logprobs)
        )
    # A sum is finite only if every term is (terms <= 0 can't cancel out).
    if logprobs and not (max(logprobs) <= 0.0 and math.isfinite(sum(logprobs))):
        for place, one in enumerate(logprobs):
            _number(f"logprobs[{place}]", one, -math.inf, 0.0)
    return logprobs


def _proofs(value: object, tokens: int) -> tuple[str, ...]:
    proofs = _sequence("toploc", value)
    wanted = -(-tokens // TOPLOC_TOKENS)
    if not proofs or len(proofs) != wanted:
        raise MalformedTrace(f"{len(proofs)} toploc proofs for {tokens} tokens, not {wanted}")
    for place, one in enumerate(proofs):
        name = f"toploc[{place}]"
        if type(one) is not str or len(one) > MAX_PROOF_CHARS or not _PROOF.fullmatch(one):
            raise MalformedTrace(
                f"{name} is {_short(one)}, not base64 of at most {MAX_PROOF_CHARS} characters"
            )
        # Else two texts would stand for the same proof.
        if base64.b64encode(data := base64.b64decode(one)).decode() != one or len(data) % 2:
            raise MalformedTrace(f"{name} is not canonical base64 of whole 16-bit numbers")
    return proofs


def _all_of(kind: type, values: Iterable[object]) -> bool:
    return {kind}.issuperset(map(type, values))
