"""Where every base unit went, from the market's own events and balances."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from marketplace.chain.reads import MarketReader
from marketplace.cli.demo.world import Meter


@dataclass(frozen=True, slots=True)
class BountyBooks:
    """A bounty's money in base units. Conservation, to the last unit:

    funded + forfeited (miners' bonds, for lies and for what earned nothing)
        = paid (miners) + fees (verifiers) + refunded + still_held

    Verifiers' penalties do not come here: they go to the court's pool.
    """

    funded: int
    forfeited: int
    paid: int
    fees: int
    refunded: int
    still_held: int

    def difference(self) -> int:
        """0 where the books balance."""
        went = self.paid + self.fees + self.refunded + self.still_held
        return self.funded + self.forfeited - went


def bounty_books(reader: MarketReader, bounty: int) -> BountyBooks:
    """The books of one bounty, from events; what is held, from the contract."""
    sums: defaultdict[str, int] = defaultdict(int)
    batches = set()
    names = [
        "BountyFunded",
        "BountyReplenished",
        "BountyRefunded",
        "BountyReleased",
        "BatchCommitted",
        "BatchSettled",
    ]
    for event in reader.events(reader.deployment.block, reader.head().number, names=names):
        args = event.args
        if event.name == "BatchSettled":
            if args["batch"] in batches:
                sums["paid"] += args["minerPaid"]
        elif args["bounty"] != bounty:
            continue
        elif event.name == "BatchCommitted":
            batches.add(args["batch"])
        elif event.name == "BountyReleased":
            sums["spent"] += args["spent"]
        else:
            sums[event.name] += args["amount"]
    held = reader.bounty(bounty)
    return BountyBooks(
        funded=sums["BountyFunded"],
        forfeited=sums["BountyReplenished"],
        paid=sums["paid"],
        fees=sums["spent"] - sums["paid"],
        refunded=sums["BountyRefunded"],
        still_held=held.available + held.reserved,
    )


def settlements(reader: MarketReader) -> dict[int, dict[str, int]]:
    """Batch -> amounts of its settlement in base units."""
    found = {}
    for event in reader.events(
        reader.deployment.block, reader.head().number, names=["BatchSettled"]
    ):
        args = dict(event.args)
        found[args.pop("batch")] = args
    return found


def gas_table(meter: Meter) -> dict[str, dict[str, int]]:
    """Action -> calls, median and total gas."""
    return {
        action: {"calls": len(used), "median": int(median(used)), "total": sum(used)}
        for action, used in sorted(meter.gas.items())
    }


def as_tokens(reader: MarketReader, books: BountyBooks) -> dict[str, Any]:
    """The books as base units and as human amounts, with the check."""
    return {
        **{name: str(units) for name, units in asdict(books).items()},
        "difference": str(books.difference()),
        "symbol": reader.token.symbol,
        "decimals": reader.token.decimals,
        "human": {name: reader.token.format(units) for name, units in asdict(books).items()},
    }
