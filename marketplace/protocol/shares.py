"""Who gets what is paid for the use of a checkpoint, derived from what it was trained on.

A list gives every holder a part of ALL_SHARES (a billion). On chain stands the root of its
Merkle-sum tree: whoever collects proves with its share that all shares add up to a billion, so
no list can promise more than there is. Who is on the list follows from the dataset:

    contributors   60 %  the miners of the batches, by weight: the tokens that were trained on
    authors        10 %  whoever registered the batches' environments, by the same
    trainer        30 %  and all of it where nobody contributed

The split may be another one; it stands in the list, where everybody sees it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from marketplace.protocol import strict_json
from marketplace.protocol.errors import InvalidValue, ProofFailed
from marketplace.protocol.hashing import TAG_SHARE_LEAF, Address, abi_hash, address20, uint
from marketplace.protocol.seeds import PPM
from marketplace.protocol.verdict import SumNode, VerdictTree

ALL_SHARES: Final = 1_000_000_000
MOST_PASSED_ON: Final = 500_000
"""Most that goes on to the parent, in ppm; the registry holds to it."""
USUAL_PASS_ON: Final = 100_000
MAX_HOLDERS: Final = 100_000


def apportion(whole: int, parts: Sequence[int]) -> list[int]:
    """`whole` in integers that follow the parts and add up to it exactly.

    Largest remainder, ties to whoever stands first. InvalidValue for a negative part, or where
    all are 0.
    """
    total = sum(parts)
    if total <= 0 or min(parts) < 0:
        raise InvalidValue(f"{whole} can't be divided by {list(parts)!r:.80}")
    found = [whole * part // total for part in parts]
    rest = whole - sum(found)
    by_remainder = sorted(range(len(parts)), key=lambda i: (-(whole * parts[i] % total), i))
    for index in by_remainder[:rest]:
        found[index] += 1
    return found


@dataclass(frozen=True, slots=True)
class Split:
    """Parts of contributors and authors, in ppm; the trainer has the rest."""

    contributors_ppm: int = 600_000
    authors_ppm: int = 100_000

    def __post_init__(self) -> None:
        uint(self.contributors_ppm, 32, "contributors_ppm")
        uint(self.authors_ppm, 32, "authors_ppm")
        if self.contributors_ppm + self.authors_ppm > PPM:
            raise InvalidValue(
                f"contributors and authors get {self.contributors_ppm + self.authors_ppm} ppm",
                fix=f"give them {PPM} at most",
            )


USUAL_SPLIT: Final = Split()


@dataclass(frozen=True, slots=True)
class Contribution:
    """One batch of a dataset. miner, author (of its environment): 20 bytes. weight_ppm: its part of
    the tokens that were trained on."""

    batch: int
    miner: bytes
    author: bytes
    weight_ppm: int


@dataclass(frozen=True, slots=True)
class Share:
    """account: 20 bytes. share: 1 to ALL_SHARES."""

    account: bytes
    share: int

    def __post_init__(self) -> None:
        address20(self.account, "account")
        if not 0 < uint(self.share, 32, "share") <= ALL_SHARES:
            raise InvalidValue(f"share is {self.share}, not 1 to {ALL_SHARES}")


@dataclass(frozen=True, slots=True)
class ShareList:
    """A checkpoint's shares, by ascending account, each once; they add up to ALL_SHARES.

    split: what the trainer says they were derived with. InvalidValue for anything else.
    """

    shares: tuple[Share, ...]
    split: Split = USUAL_SPLIT
    _tree: VerdictTree = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        accounts = [one.account for one in self.shares]
        if len(accounts) > MAX_HOLDERS:
            raise InvalidValue(f"{len(accounts)} holders, more than {MAX_HOLDERS}")
        if accounts != sorted(set(accounts)):
            raise InvalidValue("the accounts of a list of shares must ascend, each once")
        total = sum(one.share for one in self.shares)
        if total != ALL_SHARES:
            raise InvalidValue(f"the shares add up to {total}, not to {ALL_SHARES}")
        object.__setattr__(self, "_tree", VerdictTree(share_leaf(one) for one in self.shares))

    @property
    def root(self) -> bytes:
        """What stands on chain, 32 bytes."""
        return self._tree.attestation.root

    def index(self, account: Address) -> int | None:
        """The place of an account's share; None where it has none."""
        wanted = address20(account, "account")
        return next((i for i, one in enumerate(self.shares) if one.account == wanted), None)

    def proof(self, index: int) -> list[SumNode]:
        """The siblings of one share, with their sums, from the leaf up."""
        return self._tree.proof(index)


def share_leaf(one: Share) -> SumNode:
    """H(0x05 || abi.encode(address account, uint32 share)), with the share as its units."""
    digest = abi_hash(("address", "uint32"), (one.account, one.share), tag=TAG_SHARE_LEAF)
    return SumNode(digest, one.share, 0)


def derive_shares(
    trainer: Address, contributions: Iterable[Contribution], split: Split = USUAL_SPLIT
) -> ShareList:
    """The shares that follow from a dataset; one rounding in all, see apportion."""
    owner = address20(trainer, "trainer")
    claims: defaultdict[bytes, int] = defaultdict(int)
    total = 0
    for one in contributions:
        # Not times its units: both grow with a batch, and one large batch would then have more
        # than the same traces in several (docs/decisions/019).
        worth = uint(one.weight_ppm, 32, "weight in ppm")
        claims[address20(one.miner, "miner")] += worth * split.contributors_ppm
        claims[address20(one.author, "author")] += worth * split.authors_ppm
        total += worth
    rest = PPM - split.contributors_ppm - split.authors_ppm
    claims[owner] += total * rest if total else 1
    accounts = sorted(claims)
    parts = apportion(ALL_SHARES, [claims[account] for account in accounts])
    return ShareList(
        tuple(Share(*pair) for pair in zip(accounts, parts, strict=True) if pair[1]), split
    )


def kept_of(received: int, pass_on_ppm: int) -> int:
    """What stays for the holders of all that came in; the rest goes on to the parent."""
    return received - received * pass_on_ppm // PPM


def earned_by(received: int, pass_on_ppm: int, share: int) -> int:
    """What a share has earned of all that came in, collected before or not; base units."""
    return kept_of(received, pass_on_ppm) * share // ALL_SHARES


# --- the file ----------------------------------------------------------------------

_KEYS: Final = ("v", "split", "shares")
MAX_LIST_BYTES: Final = 256 + 96 * MAX_HOLDERS


def encode_shares(shares: ShareList) -> bytes:
    """The file of a list. Deterministic."""
    record = {
        "v": 1,
        "split": {
            "contributors_ppm": shares.split.contributors_ppm,
            "authors_ppm": shares.split.authors_ppm,
        },
        "shares": [["0x" + one.account.hex(), one.share] for one in shares.shares],
    }
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def decode_shares(data: bytes) -> ShareList:
    """The list in a file; ProofFailed for anything but what encode_shares writes."""
    try:
        record: Any = strict_json.loads(data.decode("utf-8"), depth=3)
        if type(record) is not dict or tuple(record) != _KEYS or record["v"] != 1:
            raise InvalidValue(f"it does not have exactly the keys {_KEYS}, with v 1")
        split = Split(**record["split"])
        found = ShareList(
            tuple(
                Share(address20(account, "account"), share) for account, share in record["shares"]
            ),
            split,
        )
        if encode_shares(found) != data:
            raise InvalidValue("it is not in canonical form")
    except (ValueError, TypeError) as error:
        raise ProofFailed(f"the list of shares is not valid: {str(error)[:200]}") from None
    return found
