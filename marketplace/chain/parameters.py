"""The market's parameters and two presets of them.

A preset is in human units: base units depend on the token, so it becomes Parameters when the
token's decimals are known.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from marketplace.chain.amounts import parse_amount
from marketplace.protocol.economics import least_loss
from marketplace.protocol.errors import ConfigError

HOUR: Final = 3600
DAY: Final = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Parameters:
    """As the struct of the same name in libraries/Types.sol, in its order.

    Times in seconds, shares in 1/10,000, money in token base units.
    """

    committee_size: int
    max_rounds: int
    max_juries: int
    min_verifiers: int
    draw_timeout: int
    commit_window: int
    reveal_window: int
    challenge_window: int
    appeal_window: int
    opening_window: int
    unbonding_delay: int
    seat_stake: int
    absence_bps: int
    late_bps: int
    incoherence_bps: int
    fraud_bps: int
    bond_per_trace: int
    fault_multiple: int
    wrong_bps: int
    min_fee_per_trace: int
    juror_fee: int
    max_traces: int

    @property
    def most_batch_value(self) -> int:
        """The most that a batch may cost and that its bond may be, in base units
        (ParameterRules.leastLoss)."""
        return least_loss(self)

    def as_tuple(self) -> tuple[int, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, slots=True)
class Preset:
    """Money (seat_stake, bond_per_trace, min_fee_per_trace, juror_fee) in human amounts.
    randomness_delay: blocks between asking for randomness and the block whose hash it is."""

    name: str
    committee_size: int
    max_rounds: int
    max_juries: int
    min_verifiers: int
    draw_timeout: int
    commit_window: int
    reveal_window: int
    challenge_window: int
    appeal_window: int
    opening_window: int
    seat_stake: str
    absence_bps: int
    late_bps: int
    incoherence_bps: int
    fraud_bps: int
    bond_per_trace: str
    fault_multiple: int
    wrong_bps: int
    min_fee_per_trace: str
    juror_fee: str
    max_traces: int
    randomness_delay: int

    @property
    def longest_dispute(self) -> int:
        """Seconds from a dispute's opening to its end at the latest, as ParameterRules counts it:
        an opening move by move, then every jury with its appeal."""
        levels = (self.max_traces - 1).bit_length()
        jury = self.draw_timeout + self.commit_window + self.reveal_window + self.appeal_window
        return (2 * levels + 2) * self.opening_window + self.max_juries * jury

    @property
    def unbonding_delay(self) -> int:
        """The least that the market accepts: a signer's stake stays within reach until the last
        dispute about its vote has ended."""
        round_seconds = self.draw_timeout + self.commit_window + self.reveal_window
        return round_seconds + self.challenge_window + self.longest_dispute

    def parameters(self, decimals: int) -> Parameters:
        """For a token with that many decimals."""
        return Parameters(
            committee_size=self.committee_size,
            max_rounds=self.max_rounds,
            max_juries=self.max_juries,
            min_verifiers=self.min_verifiers,
            draw_timeout=self.draw_timeout,
            commit_window=self.commit_window,
            reveal_window=self.reveal_window,
            challenge_window=self.challenge_window,
            appeal_window=self.appeal_window,
            opening_window=self.opening_window,
            unbonding_delay=self.unbonding_delay,
            seat_stake=parse_amount(self.seat_stake, decimals),
            absence_bps=self.absence_bps,
            late_bps=self.late_bps,
            incoherence_bps=self.incoherence_bps,
            fraud_bps=self.fraud_bps,
            bond_per_trace=parse_amount(self.bond_per_trace, decimals),
            fault_multiple=self.fault_multiple,
            wrong_bps=self.wrong_bps,
            min_fee_per_trace=parse_amount(self.min_fee_per_trace, decimals),
            juror_fee=parse_amount(self.juror_fee, decimals),
            max_traces=self.max_traces,
        )


MINIMAL: Final = Preset(
    name="minimal",
    committee_size=3,
    max_rounds=3,
    max_juries=3,
    min_verifiers=3,
    draw_timeout=60,
    commit_window=120,
    reveal_window=60,
    challenge_window=2,
    appeal_window=2,
    opening_window=2,
    seat_stake="100",
    absence_bps=500,
    late_bps=2000,
    incoherence_bps=2000,
    fraud_bps=20_000,
    bond_per_trace="0.01",
    fault_multiple=5,
    wrong_bps=10_000,
    min_fee_per_trace="0.0001",
    juror_fee="0.5",
    max_traces=65_536,
    randomness_delay=1,
)
"""For a demo or test on a local chain: every phase ends early once all members have acted."""

STANDARD: Final = Preset(
    name="standard",
    committee_size=5,
    max_rounds=3,
    max_juries=3,
    min_verifiers=16,
    draw_timeout=1 * HOUR,
    commit_window=4 * HOUR,
    reveal_window=2 * HOUR,
    challenge_window=1 * DAY,
    appeal_window=1 * DAY,
    opening_window=1 * HOUR,
    seat_stake="100",
    absence_bps=500,
    late_bps=2000,
    incoherence_bps=2000,
    fraud_bps=20_000,
    bond_per_trace="0.01",
    fault_multiple=5,
    wrong_bps=10_000,
    min_fee_per_trace="0.0001",
    juror_fee="0.5",
    max_traces=65_536,
    randomness_delay=3,
)
"""For a public chain: time for people to act, to dispute and to appeal; no batch is sold unless a
first jury can be seated beside its committee."""

PRESETS: Final = {preset.name: preset for preset in (MINIMAL, STANDARD)}


def preset(name: str) -> Preset:
    """A preset by name; ConfigError names the known ones."""
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}", fix=f"use one of: {', '.join(PRESETS)}")
    return PRESETS[name]
