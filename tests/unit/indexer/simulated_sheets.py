"""What ScoreSheets would log, and the life of a batch before a jury."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from simulated_batches import HONEST, Log, account

from marketplace.protocol.hashing import keccak
from marketplace.protocol.sheets import pack

if TYPE_CHECKING:
    from simulated import SimulatedChain

FUNDS = 1_000
RATE = 10


def log(name: str, **args: Any) -> list[Log]:
    return [("sheets", name, args)]


def open_pot(chain: SimulatedChain, *, rate: int = RATE, funds: int = FUNDS) -> None:
    chain.mine(log("PotOpened", bounty=1, perTrace=rate))
    chain.mine(log("PotFunded", bounty=1, **{"from": account(7), "amount": funds}))


def grade(
    chain: SimulatedChain, batch: int, round: int, sheets: Sequence[Sequence[int] | None]
) -> None:
    """Mine the batch's draw, a commitment of every member, and the sheets that are shown."""
    members = [account(1 + seat) for seat in range(len(sheets))]
    chain.mine(chain.market.draw(round, members))
    for seat, who in enumerate(members):
        commitment = keccak(f"sheet {batch} {seat}".encode())
        chain.mine(
            log("SheetCommitted", batch=batch, verifier=who, seat=seat, commitment=commitment)
        )
    for seat, (who, given) in enumerate(zip(members, sheets, strict=True)):
        if given is not None:
            sheet = pack(given)
            chain.mine(log("SheetRevealed", batch=batch, verifier=who, seat=seat, sheet=sheet))


def settle(chain: SimulatedChain, batch: int, round: int) -> None:
    """Mine everybody's votes and the settlement."""
    market = chain.market
    seats = len(market.rounds[round]["seats"])
    chain.mine(*(market.commit_verdict(round, seat) for seat in range(seats)))
    chain.mine(*(market.reveal(round, seat, HONEST) for seat in range(seats)))
    chain.mine(market.attest(batch, HONEST))
    chain.mine(market.settle(batch))


def gold(chain: SimulatedChain, batch: int, grades: Sequence[int], planter: str) -> None:
    chain.mine(log("GoldOpened", batch=batch, planter=planter, sheet=pack(grades, gold=True)))
