"""Bounties that a run opens by itself, one for each turn, from the trainer's own key.

What a bounty offers is written down (bounties.json in the run's folder) before it is opened: a
run that was killed finds its bounty again, by terms that no other has, instead of paying for a
second one; what may still wait to be mined is waited for. A bounty that a reorganisation of the
chain took away is looked for by its terms too. What all of them hold or have spent never exceeds
the budget; what they took in and gave back is read from the chain, so no kill makes the run forget
what it paid.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from marketplace.chain.client import MarketClient
from marketplace.chain.errors import show_time
from marketplace.chain.records import BountyTerms
from marketplace.cli.output import say
from marketplace.protocol.errors import CheckpointError, ConfigError
from trainer.recipe import BountyPolicy
from trainer.state import write_atomically

NOTE_NAME = "bounties.json"

_UNMINED_POLLS: Final = 300
"""Looks at what waits to be mined, before the run gives up."""
_REORG_BOUNTIES: Final = 64
"""Numbers below the one that was expected, in which a bounty is looked for: where the chain was
reorganised there may be fewer before it."""


@dataclass(frozen=True, slots=True)
class OwnBounties:
    """Of one run. folder: the run's. poll: seconds between two looks at the chain."""

    client: MarketClient
    folder: Path
    policy: BountyPolicy
    poll: float = 2.0
    sleep: Callable[[float], None] = time.sleep

    def of_turn(self, turn: int, terms: Callable[[int], BountyTerms], *, traces: int) -> int:
        """The turn's bounty: the one noted, one of exactly the noted terms, or a new one.

        terms: by the deadline. traces: that the turn wants; no more money goes in than they can
        cost. ConfigError where the offer or the budget does not pay a group, or the key's
        transactions are not mined; InsufficientFunds where the key does not pay.
        """
        known = self._known()
        own = known.setdefault(str(turn), {})
        noted = "deadline" in own
        if not noted:
            # A number of its own for each turn: the terms name the bounty until it has an id.
            now = self.client.head().timestamp
            own["deadline"] = now + int(self.policy.lasts_hours * 3600) + turn
            own["from"] = self.client.bounty_count() + 1
            offered = terms(own["deadline"])
            own["price"], own["fee"] = offered.price_per_unit, offered.fee_per_trace
            self._write(known)
        # As noted: the recipe may offer another price by now.
        wanted = replace(
            terms(int(own["deadline"])), price_per_unit=own["price"], fee_per_trace=own["fee"]
        )
        if "bounty" in own:
            before = int(own["bounty"])
            if self._is_there(before, wanted):
                return before
            say(f"bounty {before} is gone from the chain (a reorganisation): looking for it")
            del own["bounty"]
            self._write(known)
        if noted:
            self._until_mined(turn)
        number = self._opened(wanted, int(own["from"]))
        if number is None and self.client.head().timestamp >= wanted.deadline:
            del known[str(turn)]  # noted long ago, and never opened
            self._write(known)
            return self.of_turn(turn, terms, traces=traces)
        if number is None:
            try:
                amount = self._affordable(wanted, traces)
            except ConfigError:
                del known[str(turn)]  # never opened: the next call takes what the recipe says then
                self._write(known)
                raise
            number, _ = self.client.create_bounty(wanted, amount)
        own["bounty"] = number
        self._write(known)
        return number

    def give_up(self, turn: int) -> None:
        """The turn's bounty is over and brought nothing: the next call of of_turn opens another."""
        known = self._known()
        known.setdefault("past", []).append(known.pop(str(turn))["bounty"])
        self._write(known)

    def outlay(self) -> int:
        """What was put into the run's bounties and did not come back, in base units."""
        numbers = set(self._numbers())
        total = 0
        if not numbers:
            return total
        start, head = self.client.deployment.block, self.client.head().number
        for event in self.client.events(start, head, names=["BountyFunded", "BountyRefunded"]):
            if event.args["bounty"] not in numbers:
                continue
            if event.name == "BountyRefunded":
                total -= event.args["amount"]
            elif event.args["from"] == self.client.address:
                total += event.args["amount"]
        return total

    def close(self) -> None:
        """Take back what is left in bounties that are over; say what is still held, and until
        when. The money goes to the key's balance on the market, which pays for the next bounty."""
        token = self.client.token
        for number in self._numbers():
            bounty = self.client.bounty(number)
            if not bounty.available:
                continue
            amount = token.format(bounty.available)
            if self.client.head().timestamp <= bounty.terms.deadline:
                say(
                    f"bounty {number} holds {amount} and can be bought from until "
                    f"{show_time(bounty.terms.deadline)}; the same command takes back the rest then"
                )
                continue
            self.client.refund_bounty(number)
            say(f"bounty {number} is over: {amount} are back in the balance of the key")

    def _affordable(self, terms: BountyTerms, traces: int) -> int:
        """What goes into a new bounty: the amount, or less where the turn's traces can't cost that
        much or no more is left of the budget."""
        token, policy = self.client.token, self.policy
        # Whatever else it could pay would be bought behind the run's back and never trained on.
        self._payable(terms, token.parse(policy.amount))
        amount = min(token.parse(policy.amount), traces * _of_trace(terms))
        if policy.budget is None:
            return amount
        self.close()
        budget = token.parse(policy.budget)
        left = budget - self.outlay()
        group = terms.group_size * _of_trace(terms)
        if left < group:
            raise ConfigError(
                f"the budget of {token.format(budget)} has {token.format(max(0, left))} left, and "
                f"a group costs up to {token.format(group)}",
                fix="raise budget in [bounty], or run the command again when what unsold bounties "
                "hold can be taken back",
            )
        if left < amount:
            say(f"{token.format(left)} are left of the budget of {token.format(budget)}")
        return min(left, amount)

    def _payable(self, terms: BountyTerms, amount: int) -> None:
        """ConfigError for an offer that no miner could sell a group to."""
        group = terms.group_size * _of_trace(terms)
        if amount < group:
            token = self.client.token
            raise ConfigError(
                f"amount in [bounty] is {token.format(amount)}, and a group of "
                f"{terms.group_size} traces costs up to {token.format(group)}",
                fix="raise amount, or lower price_per_unit or fee_per_trace",
            )

    def _until_mined(self, turn: int) -> None:
        """An earlier process may have sent what opens the bounty: never send it twice."""
        for attempt in range(_UNMINED_POLLS):
            waiting = self.client.unmined()
            if not waiting:
                return
            if not attempt:
                say(f"{waiting} transactions of {self.client.address} wait to be mined")
            self.sleep(self.poll)
        raise ConfigError(
            f"{waiting} transactions of {self.client.address} are not mined, and one may open the "
            f"bounty of turn {turn}",
            fix="wait until they are mined, or replace them in your wallet; then run the command "
            "again",
        )

    def _is_there(self, number: int, terms: BountyTerms) -> bool:
        if number > self.client.bounty_count():
            return False
        bounty = self.client.bounty(number)
        return bounty.poster == self.client.address and bounty.terms == terms

    def _opened(self, terms: BountyTerms, first: int) -> int | None:
        for number in range(max(1, first - _REORG_BOUNTIES), self.client.bounty_count() + 1):
            if self._is_there(number, terms):
                return number
        return None

    def _numbers(self) -> list[int]:
        """Bounties that the run has opened, also one that was opened but not noted yet."""
        known = self._known()
        past = [int(number) for number in known.pop("past", ())]
        return sorted([*past, *(int(one["bounty"]) for one in known.values() if "bounty" in one)])

    def _known(self) -> dict[str, Any]:
        path = self.folder / NOTE_NAME
        try:
            return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}
        except ValueError as error:
            raise CheckpointError(
                f"{str(path)!r} can't be read: {error}",
                fix="see `tracemarket bounty list` for what was opened before you remove it",
            ) from error

    def _write(self, known: dict[str, Any]) -> None:
        write_atomically(self.folder / NOTE_NAME, json.dumps(known, sort_keys=True).encode())


def _of_trace(terms: BountyTerms) -> int:
    """The most that a trace can cost, in base units: what the escrow reserves for it."""
    return terms.price_per_unit + terms.fee_per_trace
