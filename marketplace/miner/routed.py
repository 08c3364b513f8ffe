"""Samples each prompt from the expert that a router names.

A composed model that is a router has no weights of its own. Its traces are the experts' traces:
`expert_of` says which registered checkpoint a trace must name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from marketplace.miner.sampler import Completion, SamplingRules, TransformersSampler
from marketplace.protocol.errors import InvalidValue

if TYPE_CHECKING:
    from marketplace.gym.policy import Policy
    from marketplace.gym.routing import Router


class RoutedSampler:
    """A ReplayableSampler over experts. policy_of: the policy of an expert's checkpoint id.

    toploc: add proofs of the activations to the completions. Raises CheckpointError for a router
    that does not fit the base.
    """

    def __init__(
        self,
        router: Router,
        base: Policy,
        policy_of: Callable[[int], Policy],
        model: str,
        *,
        toploc: bool = False,
    ) -> None:
        router.check(base)
        self.model = model
        self._toploc = toploc
        self._router = router
        self._base = base
        self._policy_of = policy_of

    def expert_of(self, prompt: str) -> int:
        """The checkpoint that answers a prompt."""
        return self._router.choose(self._base, prompt)

    def sample(
        self, prompts: Sequence[str], rules: SamplingRules, *, seed: int
    ) -> Iterator[tuple[Completion, ...]]:
        """See Sampler. All prompts of an expert are sampled together."""
        return self._each(
            prompts, lambda sampler, chosen, _: sampler.sample(chosen, rules, seed=seed)
        )

    def replay(
        self, prompts: Sequence[str], rules: SamplingRules, *, seeds: Sequence[bytes]
    ) -> Iterator[tuple[Completion, ...]]:
        """See ReplayableSampler."""
        if len(seeds) != len(prompts):
            raise InvalidValue(f"{len(seeds)} task seeds for {len(prompts)} prompts")
        return self._each(
            prompts,
            lambda sampler, chosen, places: sampler.replay(
                chosen, rules, seeds=[seeds[place] for place in places]
            ),
        )

    def _each(
        self,
        prompts: Sequence[str],
        draw: Callable[
            [TransformersSampler, list[str], list[int]], Iterator[tuple[Completion, ...]]
        ],
    ) -> Iterator[tuple[Completion, ...]]:
        places: dict[int, list[int]] = {}
        for place, prompt in enumerate(prompts):
            places.setdefault(self.expert_of(prompt), []).append(place)
        found: list[tuple[Completion, ...]] = [()] * len(prompts)
        for expert, own in places.items():
            sampler = TransformersSampler(
                self._policy_of(expert), f"checkpoint-{expert}", toploc=self._toploc
            )
            groups = draw(sampler, [prompts[place] for place in own], own)
            for place, group in zip(own, groups, strict=True):
                found[place] = group
        yield from found
