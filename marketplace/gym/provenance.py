"""Tiers A and B: are a trace's tokens and log-probabilities those of the checkpoint it names?

One teacher-forced pass over token trees gives the checkpoint's own log-probabilities of the
claimed tokens. A trace is off policy if these differ from the claimed ones by more than a
tolerance, if its tokens do not give its text, or if they end where a sampler would not have
ended, or if proofs of activations that it carries are false (toploc.py). What tier B can't prove is
that nobody chose among several samples.

Tier A proves that too: each token must be the one that the task's seed and the trace's place
in its group pick (replay.py). Rounding differs between honest machines, so a token may be
beaten by a small margin, and a small share of tokens may be beaten at all. Both bounds matter:
within the margin a liar is free to take the other token and sample on from there, so that
margin times the share of tokens that near a tie is what is left of best-of-n
(benchmarks/provenance).

Tolerances of tier B, measured on SmolLM2-135M (docs/training.md): honest fp32 samplers, batched,
with a key-value cache, on one or two threads, differ from this pass by less than 1e-4 in any
token; a bf16 copy of the same model by 0.05 in the mean of a trace; a model one GRPO step on by
0.2 to 0.3. So the default of 0.02 admits fp32 samplers of any shape and no other precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from marketplace.gym.packing import TOKEN_BUDGET, TokenGroup
from marketplace.protocol.errors import CheckerFailed, InvalidValue, TracemarketError

if TYPE_CHECKING:
    from marketplace.gym.checking import GroupToScore
    from marketplace.gym.policy import Policy
    from marketplace.gym.spec import SamplingSpec
    from marketplace.protocol.trace import Trace

    _Kept = tuple[TokenGroup, list[Trace], bytes | None]

MEAN_TOLERANCE: Final = 0.02
MAX_TOLERANCE: Final = 0.5
MARGIN_TOLERANCE: Final = 0.001
FLIPS_TOLERANCE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Largest honest |verified - claimed| in nats, over the tokens of one trace."""

    mean: float = MEAN_TOLERANCE
    maximum: float = MAX_TOLERANCE

    def __post_init__(self) -> None:
        for name, value in (("mean", self.mean), ("maximum", self.maximum)):
            if not math.isfinite(value) or value <= 0:
                raise InvalidValue(f"{name} tolerance is {value}, not a positive number")

    def admits(self, verified: Sequence[float], claimed: Sequence[float]) -> bool:
        """Whether an honest sampler could have claimed this. False for anything not finite."""
        if len(verified) != len(claimed) or not verified:
            return False
        gaps = [abs(one - other) for one, other in zip(verified, claimed, strict=True)]
        # Written so that NaN is refused: every comparison with it is False.
        return all(gap <= self.maximum for gap in gaps) and sum(gaps) <= self.mean * len(gaps)


@dataclass(frozen=True, slots=True)
class ReplayTolerance:
    """What an honest sampler's tokens may lose by, in nats, and what share of a trace's tokens
    may lose at all; one token may in any case."""

    margin: float = MARGIN_TOLERANCE
    flips: float = FLIPS_TOLERANCE

    def __post_init__(self) -> None:
        if not math.isfinite(self.margin) or self.margin <= 0:
            raise InvalidValue(f"margin tolerance is {self.margin}, not a positive number")
        if not 0 <= self.flips <= 1:
            raise InvalidValue(f"flips tolerance is {self.flips}, not a share")

    def admits(self, margins: Sequence[float]) -> bool:
        """Whether an honest sampler could have taken these tokens. False for NaN or no token."""
        if not margins or not all(margin <= self.margin for margin in margins):
            return False
        flips = sum(margin > 0 for margin in margins)
        return flips <= max(1, math.floor(self.flips * len(margins)))


class OffPolicyScorer:
    """checking.ProvenanceScorer on local checkpoints.

    policy_of: the policy of a registered checkpoint id; the caller fetches and caches. What it
    raises passes through: then the batch has no verdict. sampling: the environment's.
    """

    def __init__(
        self,
        policy_of: Callable[[int], Policy],
        sampling: SamplingSpec,
        *,
        tolerance: Tolerance | None = None,
        replay_tolerance: ReplayTolerance | None = None,
        token_budget: int = TOKEN_BUDGET,
    ) -> None:
        self._policy_of = policy_of
        self._sampling = sampling
        self._tolerance = tolerance or Tolerance()
        self._replay_tolerance = replay_tolerance or ReplayTolerance()
        self._token_budget = token_budget

    def off_policy(self, checkpoint: int, groups: list[GroupToScore]) -> list[bool]:
        """One answer per trace, groups in order: True if checkpoint did not sample it so, or,
        in a group with a seed, not from that seed.

        Raises CheckerFailed where the model does: a checkpoint is its trainer's, and what it
        raises must not end a node that judges other batches too.
        """
        policy = self._policy_of(checkpoint)
        try:
            return self._judged(policy, groups)
        except TracemarketError:
            raise
        except Exception as error:
            raise CheckerFailed(
                f"checkpoint {checkpoint} raised {type(error).__name__}: {str(error)[:300]}"
            ) from error

    def _judged(self, policy: Policy, groups: list[GroupToScore]) -> list[bool]:
        prompts = [policy.codec.encode(group.prompt) for group in groups]
        sound = [
            [trace for trace in group.traces if self._is_sound(policy, prompt, trace)]
            for prompt, group in zip(prompts, groups, strict=True)
        ]
        kept = [
            (TokenGroup(prompt, tuple(trace.tokens or () for trace in traces)), traces, group.seed)
            for prompt, traces, group in zip(prompts, sound, groups, strict=True)
            if traces
        ]
        # By identity: a miner may hand in the same trace twice in a group.
        admitted = self._scorable(policy, [one for one in kept if one[2] is None])
        admitted |= self._replayable(policy, [one for one in kept if one[2] is not None])
        admitted -= self._false_proofs(policy, kept, admitted)
        return [id(trace) not in admitted for group in groups for trace in group.traces]

    def _false_proofs(self, policy: Policy, kept: list[_Kept], admitted: set[int]) -> set[int]:
        """Of the admitted traces, those whose TOPLOC proofs other activations must have given."""
        from marketplace.gym.toploc import activations_of, is_admitted

        return {
            id(trace)
            for tokens, traces, _ in kept
            for trace in traces
            if trace.toploc is not None
            and id(trace) in admitted
            and not is_admitted(
                activations_of(policy, tokens.prompt, trace.tokens or ()), trace.toploc
            )
        }

    def _scorable(self, policy: Policy, kept: list[_Kept]) -> set[int]:
        # Imported here, so that Tolerance needs no torch.
        from marketplace.gym.policy import completion_logprobs

        scored = completion_logprobs(
            policy,
            [tokens for tokens, *_ in kept],
            self._sampling.temperature,
            token_budget=self._token_budget,
        )
        return {
            id(trace)
            for (_, traces, _), verified in zip(kept, scored, strict=True)
            for trace, values in zip(traces, verified, strict=True)
            if self._tolerance.admits(values, trace.logprobs or ())
        }

    def _replayable(self, policy: Policy, kept: list[_Kept]) -> set[int]:
        from marketplace.gym.replay import SeededGroup, replay

        seeded = [
            SeededGroup(tokens, seed or b"", tuple(trace.sample for trace in traces))
            for tokens, traces, seed in kept
        ]
        replayed = replay(
            policy, seeded, self._sampling.temperature, token_budget=self._token_budget
        )
        return {
            id(trace)
            for (_, traces, _), found in zip(kept, replayed, strict=True)
            for trace, one in zip(traces, found, strict=True)
            if self._replay_tolerance.admits(one.margins)
            and self._tolerance.admits(one.logprobs, trace.logprobs or ())
        }

    def _is_sound(self, policy: Policy, prompt: tuple[int, ...], trace: Trace) -> bool:
        """Everything that needs no pass of the model, and that such a pass relies on."""
        tokens, rules = trace.tokens, self._sampling
        if (trace.temperature, trace.max_tokens) != (rules.temperature, rules.max_tokens):
            return False
        if not prompt or not tokens or len(prompt) + len(tokens) > policy.context:
            return False
        if max(tokens) >= policy.codec.vocabulary:
            return False
        if policy.codec.finish(tokens, rules.stop, rules.max_tokens) != trace.finish:
            return False
        return policy.codec.completion(tokens, rules.stop) == trace.completion
