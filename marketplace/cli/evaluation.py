"""Held-out accuracy of a policy, as `model eval` and the demo measure it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from marketplace.gym.environment import Environment, Task
from marketplace.gym.policy import Policy
from marketplace.miner.dialogue import sample_dialogues
from marketplace.miner.sampler import SamplingRules, TransformersSampler
from trainer.evaluate import Evaluation, count_votes, evaluate


def evaluate_policy(
    policy: Policy,
    environment: Environment,
    tasks: Sequence[Task],
    *,
    samples: int,
    seed: int,
    on_task: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Samples each task `samples` times by the environment's sampling rules, and scores."""
    sampling = environment.spec.sampling
    rules = SamplingRules(
        group_size=samples,
        temperature=sampling.temperature,
        max_tokens=sampling.max_tokens,
        stop=sampling.stop,
    )
    sampler = TransformersSampler(policy, "held-out")

    def complete(prompts: Sequence[str]) -> Iterable[Sequence[str]]:
        if environment.spec.source.turns():
            for group in sample_dialogues(environment, tasks, sampler, rules, seed=seed):
                yield [completion.text for completion in group]
            return
        for group in sampler.sample(prompts, rules, seed=seed):
            yield [completion.text for completion in group]

    def vote(texts: Sequence[str]) -> tuple[int, ...]:
        return count_votes([environment.answer_of(text) for text in texts], environment.same_answer)

    return evaluate(tasks, complete, environment.score, vote=vote, on_task=on_task)
