"""The market's parameters and two presets of them.

A preset is in human units: base units depend on the token, so it becomes Parameters when the
token's decimals are known.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from marketplace.chain.amounts import parse_amount
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
    draw_timeout: int
    commit_window: int
    reveal_window: int
    challenge_window: int
    unbonding_delay: int
    seat_stake: int
    absence_bps: int
    incoherence_bps: int
    bond_per_trace: int
    fault_multiple: int
    max_traces: int

    def as_tuple(self) -> tuple[int, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, slots=True)
class Preset:
    """seat_stake and bond_per_trace: human amounts. randomness_delay: blocks between asking for
    randomness and the block whose hash it is."""

    name: str
    committee_size: int
    max_rounds: int
    draw_timeout: int
    commit_window: int
    reveal_window: int
    challenge_window: int
    seat_stake: str
    absence_bps: int
    incoherence_bps: int
    bond_per_trace: str
    fault_multiple: int
    max_traces: int
    randomness_delay: int

    @property
    def unbonding_delay(self) -> int:
        """The least that the market accepts: no stake leaves while a batch it voted on is open."""
        round_seconds = self.draw_timeout + self.commit_window + self.reveal_window
        return self.max_rounds * round_seconds + self.challenge_window

    def parameters(self, decimals: int) -> Parameters:
        """For a token with that many decimals."""
        return Parameters(
            committee_size=self.committee_size,
            max_rounds=self.max_rounds,
            draw_timeout=self.draw_timeout,
            commit_window=self.commit_window,
            reveal_window=self.reveal_window,
            challenge_window=self.challenge_window,
            unbonding_delay=self.unbonding_delay,
            seat_stake=parse_amount(self.seat_stake, decimals),
            absence_bps=self.absence_bps,
            incoherence_bps=self.incoherence_bps,
            bond_per_trace=parse_amount(self.bond_per_trace, decimals),
            fault_multiple=self.fault_multiple,
            max_traces=self.max_traces,
        )


MINIMAL: Final = Preset(
    name="minimal",
    committee_size=3,
    max_rounds=3,
    draw_timeout=60,
    commit_window=120,
    reveal_window=60,
    challenge_window=2,
    seat_stake="100",
    absence_bps=500,
    incoherence_bps=2000,
    bond_per_trace="0.01",
    fault_multiple=5,
    max_traces=65_536,
    randomness_delay=1,
)
"""For a demo or test on a local chain: every phase ends early once all members have acted."""

STANDARD: Final = Preset(
    name="standard",
    committee_size=5,
    max_rounds=3,
    draw_timeout=1 * HOUR,
    commit_window=4 * HOUR,
    reveal_window=2 * HOUR,
    challenge_window=1 * DAY,
    seat_stake="100",
    absence_bps=500,
    incoherence_bps=2000,
    bond_per_trace="0.01",
    fault_multiple=5,
    max_traces=65_536,
    randomness_delay=3,
)
"""For a public chain: time for people to act and for challenges."""

PRESETS: Final = {preset.name: preset for preset in (MINIMAL, STANDARD)}


def preset(name: str) -> Preset:
    """A preset by name; ConfigError names the known ones."""
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}", fix=f"use one of: {', '.join(PRESETS)}")
    return PRESETS[name]
