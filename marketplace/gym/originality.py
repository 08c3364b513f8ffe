"""Originality: is a text for a question one that was bought before?

Only texts for the same question (the same prompt) are compared, and only with what was paid for
earlier, so the first to sell a text is never hurt by those who copy it, and nobody can spoil a
question with texts that earned nothing. Texts are compared normalised: the same on every
machine, whatever Unicode version its Python has.

Near-duplicates go by MinHash (Broder 1997, as PyPI datasketch has it) over shingles of
characters, without those that the prompt has: quoting the question makes nobody a copier.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import eq
from typing import Final, Protocol

from marketplace.gym.spec import EnvironmentSpec, NearSpec
from marketplace.protocol.payout import PayRule
from marketplace.protocol.seeds import PPM
from marketplace.protocol.trace import Tier, Trace

PERMUTATIONS: Final = 128
"""Of one MinHash: its estimate of a similarity of 0.7 has a standard error of 0.04."""

_SEED: Final = 1
_CHUNK: Final = 4096
_BYTES: Final = 4  # of one hash value
_MOST_NATS: Final = 1000.0  # of one token; a spec's threshold is no higher

# Characters that came with a later Unicode are left as they are: older Pythons don't know them.
_UNICODE: Final = unicodedata.ucd_3_2_0
_INVISIBLE: Final = frozenset({"Cf", "Cc"})
_VARIANTS: Final = range(0xFE00, 0xFE10)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is compared of a text. digest: sha2-256 of the normalised text. signature: its MinHash,
    512 bytes; None where the spec compares equal texts only, or the text is too short."""

    digest: bytes
    signature: bytes | None

    def resembles(self, other: Fingerprint, near: NearSpec | None) -> bool:
        """Whether the texts are the same, or nearly. Symmetric."""
        if self.digest == other.digest:
            return True
        if near is None or self.signature is None or other.signature is None:
            return False
        same = _agreements(self.signature, other.signature)
        return same * PPM >= near.similarity_ppm * PERMUTATIONS


class Texts:
    """The texts of one question. Compared with all at once, for anybody may sell tens of thousands
    of texts for one question to himself, and members must still get through the next batch."""

    def __init__(self, found: Iterable[Fingerprint] = ()) -> None:
        self._count = 0
        self._digests: set[bytes] = set()
        self._signatures = bytearray()
        for one in found:
            self.add(one)

    def __len__(self) -> int:
        return self._count

    def add(self, one: Fingerprint) -> None:
        self._count += 1
        self._digests.add(one.digest)
        self._signatures += one.signature or b""

    def have_like(self, own: Fingerprint, near: NearSpec | None) -> bool:
        """Whether any of them resembles own (see Fingerprint.resembles)."""
        if own.digest in self._digests:
            return True
        if near is None or own.signature is None or not self._signatures:
            return False
        import numpy as np  # datasketch, which made the signatures, needs it too

        known = np.frombuffer(self._signatures, "<u4").reshape(-1, PERMUTATIONS)
        same = (known == np.frombuffer(own.signature, "<u4")).sum(axis=1)
        return int(same.max()) * PPM >= near.similarity_ppm * PERMUTATIONS


class Earlier(Protocol):
    """What was bought in the batches that a spec's originality.earlier looks back on."""

    def sold(self, question: bytes) -> Iterable[Fingerprint]:
        """The fingerprints of the paid texts for a question (see question_key)."""
        ...


def normalised(text: str) -> str:
    """text in NFKC, case-folded, without invisible characters, white space as single spaces.

    By Unicode 3.2, whose characters no later version maps otherwise: what that version does not
    know stays as it is. Punctuation and signs stay too: 1.5 is not 15.
    """
    if text.isascii():
        return " ".join("".join(_visible_ascii(text.lower())).split())
    composed = _UNICODE.normalize("NFKC", text)
    folded = _UNICODE.normalize("NFKC", "".join(_folded(composed)))
    return " ".join("".join(folded).split())


def question_key(prompt: str) -> bytes:
    """What stands for a question: 32 bytes. Every prompt of one spec holds its question."""
    return hashlib.sha256(prompt.encode()).digest()


def fingerprint(prompt: str, completion: str, near: NearSpec | None) -> Fingerprint:
    """The fingerprint of a completion. near: as in the spec; with it datasketch is needed."""
    text = normalised(completion)
    digest = hashlib.sha256(text.encode()).digest()
    if near is None:
        return Fingerprint(digest, None)
    shingles = _shingles(text, near.shingle)
    if len(shingles) >= near.least:
        shingles -= _shingles(normalised(prompt), near.shingle)
    if len(shingles) < near.least:
        return Fingerprint(digest, None)
    return Fingerprint(digest, _signature(shingles))


class TextOriginals:
    """payout.Originals of one batch: its texts against each other and against earlier ones.

    traces: in file order; None for a line that is no trace. earlier: None where the spec looks at
    the batch alone. Tier A compares equal texts of the batch only, under the correct rule: what an
    assigned seed makes a model say is nobody's copy, and is bought once all the same.
    """

    def __init__(
        self,
        spec: EnvironmentSpec,
        tier: Tier,
        rule: PayRule,
        traces: Sequence[TextOf | None],
        earlier: Earlier | None = None,
    ) -> None:
        self._traces, self._rule, self._tier = traces, rule, tier
        self._most = spec.limits.paid_per_task
        self._nats = spec.originality.nats
        self._near = spec.originality.near
        if tier is Tier.A or (tier is Tier.B and rule is PayRule.INFORMATIVE):
            self._near = None
        self._earlier = None if tier is Tier.A and self._most is None else earlier
        self._made: dict[int, Fingerprint] = {}
        self._here: dict[bytes, Texts] = {}
        self._before = (b"", Texts())

    def is_copy(self, index: int, beside: Sequence[int]) -> bool:
        """See payout.Originals."""
        text = self._traces[index]
        if text is None or self._is_exempt(text):
            return False
        own = self._fingerprint(index)
        question = text.question
        # Of one group, hence of one question.
        if any(own.resembles(self._fingerprint(other), self._near) for other in beside):
            return True
        if question in self._here and self._here[question].have_like(own, self._near):
            return True
        return self._tier is not Tier.A and self._sold(question).have_like(own, self._near)

    def has_room(self, index: int) -> bool:
        """See payout.Originals."""
        text = self._traces[index]
        if self._most is None or text is None:
            return True
        here = len(self._here.get(text.question, ()))
        return here + len(self._sold(text.question)) < self._most

    def bought(self, index: int) -> None:
        """See payout.Originals."""
        if (text := self._traces[index]) is not None:
            self._here.setdefault(text.question, Texts()).add(self._fingerprint(index))

    def _is_exempt(self, text: TextOf) -> bool:
        """Texts that two honest samplers of one checkpoint may both come to."""
        if self._rule is not PayRule.INFORMATIVE or self._tier is Tier.C:
            return False
        return self._tier is Tier.A or text.nats < self._nats

    def _fingerprint(self, index: int) -> Fingerprint:
        if index not in self._made:
            text = self._traces[index]
            assert text is not None
            self._made[index] = fingerprint(text.prompt, text.completion, self._near)
        return self._made[index]

    def _sold(self, question: bytes) -> Texts:
        # A group has one question, and is asked about trace by trace.
        if self._before[0] != question:
            found = () if self._earlier is None else self._earlier.sold(question)
            self._before = (question, Texts(found))
        return self._before[1]


@dataclass(frozen=True, slots=True)
class TextOf:
    """What originality needs of a trace. nats: -log of its probability by its own claim."""

    prompt: str
    completion: str
    nats: float

    @classmethod
    def of(cls, trace: Trace) -> TextOf:
        # Exactly rounded: a plain sum ends in other bits on Python 3.11 than on later ones.
        nats = math.fsum(min(-one, _MOST_NATS) for one in trace.logprobs or ())
        return cls(trace.prompt, trace.completion, nats)

    @property
    def question(self) -> bytes:
        return question_key(self.prompt)


# --- text --------------------------------------------------------------------------


def _visible_ascii(text: str) -> Iterator[str]:
    return (" " if char.isspace() else char for char in text if char >= " " or char.isspace())


def _folded(text: str) -> Iterator[str]:
    for char in text:
        category = _UNICODE.category(char)
        if category == "Cn":  # not in Unicode 3.2
            yield char
        elif char.isspace() or category in ("Zs", "Zl", "Zp"):
            yield " "
        elif category not in _INVISIBLE and ord(char) not in _VARIANTS:
            yield char.casefold()


def _shingles(text: str, size: int) -> set[str]:
    # Without white space: it is what edits change first.
    text = text.replace(" ", "")
    return {text[start : start + size] for start in range(len(text) - size + 1)}


def _signature(shingles: set[str]) -> bytes:
    from datasketch import MinHash

    sketch = MinHash(PERMUTATIONS, seed=_SEED, scheme="affine32", hashfunc=_hash32)
    chunk: list[bytes] = []
    for shingle in shingles:
        chunk.append(shingle.encode())
        if len(chunk) == _CHUNK:  # a batch takes PERMUTATIONS numbers for each shingle
            sketch.update_batch(chunk)
            chunk = []
    if chunk:
        sketch.update_batch(chunk)
    return bytes(sketch.hashvalues.astype("<u4").tobytes())


def _hash32(data: bytes) -> int:
    return int.from_bytes(hashlib.sha256(data).digest()[:_BYTES], "little")


def _agreements(one: bytes, other: bytes) -> int:
    return sum(map(eq, memoryview(one).cast("I"), memoryview(other).cast("I")))
