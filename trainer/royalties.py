"""A checkpoint's list of shares: derived from its dataset, and checked against the registered one.

The contract can't read a dataset, so it takes the list that the trainer registers, whoever is on
it. Anybody can derive the list again from what the chain says of the batches; `check_shares` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from marketplace.chain.client import sole_shares
from marketplace.chain.reads import MarketReader
from marketplace.chain.records import Batch, Checkpoint, Collection
from marketplace.protocol.errors import ChainError, InvalidValue, ProofFailed
from marketplace.protocol.hashing import address20
from marketplace.protocol.shares import (
    ALL_SHARES,
    MAX_HOLDERS,
    MOST_PASSED_ON,
    USUAL_SPLIT,
    Contribution,
    ShareList,
    Split,
    decode_shares,
    derive_shares,
    earned_by,
)
from marketplace.storage.cid import Cid
from marketplace.storage.store import ContentStore
from trainer.records import BatchEntry

_LINE_BYTES = 96


@dataclass(frozen=True, slots=True)
class Difference:
    """An account whose registered share (0 for none) is not the derived one."""

    account: str
    registered: int
    derived: int


@dataclass(frozen=True, slots=True)
class SharesCheck:
    """registered: the list on record. derived: what follows from the dataset by its split.
    differences: empty where they agree. usual_split: the split is the protocol's own."""

    checkpoint: int
    registered: ShareList
    derived: ShareList
    differences: tuple[Difference, ...]
    usual_split: bool

    @property
    def honest(self) -> bool:
        return not self.differences


def contributions_of(
    reader: MarketReader, entries: Sequence[BatchEntry], batches: Sequence[Batch] | None = None
) -> list[Contribution]:
    """Whose each batch is: its miner and its environment's author, from the chain.

    batches: where they were read already. ChainError where an environment has no author, which
    only a reorg between two reads can show.
    """
    found = [reader.batch(one.batch) for one in entries] if batches is None else batches
    authors: dict[int, bytes] = {}
    contributions = []
    for entry, batch in zip(entries, found, strict=True):
        if batch.bounty not in authors:
            environment = reader.bounty(batch.bounty).terms.environment
            author = reader.environment_author(environment)
            if author is None:
                raise ChainError("the chain changed while it was read", fix="read it again")
            authors[batch.bounty] = address20(author, "author")
        contributions.append(
            Contribution(
                batch=entry.batch,
                miner=address20(batch.miner, "miner"),
                author=authors[batch.bounty],
                weight_ppm=entry.weight_ppm,
            )
        )
    return contributions


def fetch_shares(
    reader: MarketReader, store: ContentStore, checkpoint: Checkpoint, *, timeout: float
) -> ShareList:
    """The registered list of a checkpoint, proven against its registered root.

    The list of a trainer that holds all shares needs no file. Raises StorageError, ProofFailed.
    """
    if checkpoint.shares_root == sole_shares(checkpoint.trainer).root and checkpoint.holders == 1:
        return derive_shares(checkpoint.trainer, ())
    content = reader.share_list_content(checkpoint.id)
    if checkpoint.holders > MAX_HOLDERS:
        raise ProofFailed(f"checkpoint {checkpoint.id} says it has {checkpoint.holders} holders")
    data = store.get(
        Cid.from_chain(content.digest, content.codec),
        timeout=timeout,
        max_bytes=256 + _LINE_BYTES * checkpoint.holders,
    )
    try:
        shares = decode_shares(data)
    except ProofFailed as error:
        raise ProofFailed(f"checkpoint {checkpoint.id}: {error.message}") from None
    if (shares.root, len(shares.shares)) != (checkpoint.shares_root, checkpoint.holders):
        raise ProofFailed(
            f"the list of checkpoint {checkpoint.id} has {len(shares.shares)} holders and leads to "
            f"0x{shares.root.hex()}; {checkpoint.holders} and 0x{checkpoint.shares_root.hex()} are "
            "registered",
            fix="nobody can collect by this list; ask the trainer for the right one",
        )
    return shares


def check_shares(
    reader: MarketReader,
    registered: ShareList,
    checkpoint: Checkpoint,
    entries: Sequence[BatchEntry],
    batches: Sequence[Batch],
) -> SharesCheck:
    """The registered list beside the derived one. entries, batches: verified, see
    lineage.verify_step."""
    contributions = contributions_of(reader, entries, batches)
    derived = derive_shares(checkpoint.trainer, contributions, registered.split)
    ours = {one.account: one.share for one in derived.shares}
    theirs = {one.account: one.share for one in registered.shares}
    differences = tuple(
        Difference("0x" + account.hex(), theirs.get(account, 0), ours.get(account, 0))
        for account in sorted(ours | theirs)
        if theirs.get(account, 0) != ours.get(account, 0)
    )
    usual = registered.split == USUAL_SPLIT
    return SharesCheck(checkpoint.id, registered, derived, differences, usual)


def due_now(
    reader: MarketReader, checkpoint: Checkpoint, shares: ShareList, account: str
) -> tuple[Collection, int] | None:
    """What collects an account's share and what that brings now, in base units; None where the
    account has no share."""
    index = shares.index(account)
    if index is None:
        return None
    share = shares.shares[index].share
    received = reader.royalties(checkpoint.id).received
    earned = earned_by(received, checkpoint.pass_on_ppm, share)
    due = earned - reader.royalty_collected(checkpoint.id, index)
    proof = tuple(shares.proof(index))
    return Collection(checkpoint.id, index, account, share, proof), due


def percent(share: int) -> str:
    """ "12.5 %" of ALL_SHARES."""
    return f"{100 * share / ALL_SHARES:.6g} %"


def parse_terms(contributors: str, authors: str, pass_on: str) -> tuple[Split, int]:
    """The split of royalties and the parts per million passed on, from three percentages.

    Raises InvalidValue, which names the option.
    """
    split = Split(
        parse_percent(contributors, "--contributors"), parse_percent(authors, "--authors")
    )
    passed_on = parse_percent(pass_on, "--pass-on")
    if passed_on > MOST_PASSED_ON:
        raise InvalidValue(f"--pass-on is {pass_on} %", fix="pass on 50 % at most")
    return split, passed_on


def parse_percent(text: str, name: str) -> int:
    """Parts per million of a percentage such as "12.5"; InvalidValue for anything else."""
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    if not digits.isascii() or not digits.isdigit() or len(fraction) > 4:
        raise InvalidValue(
            f"{name} is {text!r}", fix="give percent with at most 4 decimals, such as 12.5"
        )
    ppm = int(whole or "0") * 10_000 + int(fraction.ljust(4, "0"))
    if ppm > 1_000_000:
        raise InvalidValue(f"{name} is {text} %, more than 100 %")
    return ppm
