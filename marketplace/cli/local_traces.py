"""Traces for a dry run: sampled and checked on this machine, in the very form in which they are
sold, without chain and money. What is trained on them is no checkpoint of a market."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from random import Random

from marketplace.gym.checking import check_batch
from marketplace.gym.environment import Environment, Task
from marketplace.gym.policy import Policy
from marketplace.gym.pool import CheckPool
from marketplace.gym.sources.game import GameSource
from marketplace.gym.spec import EnvironmentSpec, environment_id, spec_bytes
from marketplace.miner.sampler import Completion, SamplingRules, TransformersSampler
from marketplace.miner.self_play import TablePlayer
from marketplace.protocol import batch_file
from marketplace.protocol.batch_terms import BatchTerms
from marketplace.protocol.errors import ConfigError
from marketplace.protocol.hashing import keccak
from marketplace.protocol.merkle import batch_tree
from marketplace.protocol.payout import PayRule
from marketplace.protocol.trace import Tier, Trace, encode_line
from marketplace.protocol.verdict import batch_verdicts, decode_verdicts, encode_verdicts
from trainer.data import open_attested
from trainer.recipe import Plan, Recipe
from trainer.run import Bought, RunFolder
from trainer.state import write_atomically
from trainer.turn import Trained

NOWHERE = "0x" + "00" * 20
"""Market and miner of traces that nobody sold."""

TASKS_OF_A_TURN = 1_000_000
GAMES = 2_000
"""That the self-taught player plays before it shows anything."""

_TRACES, _VERDICTS = "traces.zst", "verdicts.jsonl"


class LocalTrader:
    """A trainer.run.Trader without a market. environments: by the recipe's names."""

    unit: str | None = None

    def __init__(
        self,
        environments: Mapping[str, Environment],
        folder: RunFolder,
        pool: CheckPool,
        recipe: Recipe,
    ) -> None:
        for name, environment in environments.items():
            if environment.spec.source.turns():
                raise ConfigError(
                    f"environment {name!r} is of several turns: its traces have no tokens of one "
                    "policy to learn from",
                    fix="use an environment whose completions are one text",
                )
        self._environments = environments
        self._folder = folder
        self._pool = pool
        self._rule = PayRule[recipe.bounty.pay.upper()]

    def spec(self, environment: str) -> EnvironmentSpec:
        return self._environments[environment].spec

    def buy(self, plan: Plan, policy: Policy, parent: int) -> Bought:
        """Samples (or reads back) the turn's traces, and checks them as a verifier would."""
        environment = self._environments[plan.environment]
        terms = self._terms(plan, environment.spec)
        count = plan.stage.groups * terms.group_size
        place = self._folder.turn(plan.turn)
        if not (place / _VERDICTS).exists():
            lines = list(self._lines(plan, environment, terms, policy, parent))
            check = check_batch(lines, spec=environment.spec, terms=terms, pool=self._pool)
            write_atomically(place / _TRACES, batch_file.pack(lines))
            write_atomically(place / _VERDICTS, encode_verdicts(check.verdicts))
        lines = batch_file.unpack((place / _TRACES).read_bytes(), count)
        verdicts = decode_verdicts((place / _VERDICTS).read_bytes(), count)
        tree = batch_tree(terms.chain_id, terms.market, terms.bounty, terms.miner, lines)
        batch = open_attested(
            terms,
            root=tree.root,
            lines=lines,
            verdicts=verdicts,
            attestation=batch_verdicts(terms.batch, verdicts).attestation,
        )
        return Bought((batch,), None)

    def publish(self, plan: Plan, trained: Trained) -> int:
        """Nothing is registered: checkpoints are counted, the base is 1."""
        return plan.turn + 1

    def rolled_back(self, plan: Plan, trained: Trained) -> None:
        """Each turn samples its own traces: nothing to remember."""

    def unusable(self, plan: Plan, error: ConfigError) -> ConfigError:
        """Sampled from fixed seeds, the traces would be the same ones again."""
        return ConfigError(
            f"turn {plan.turn}: {error.message}",
            fix="traces of one score teach nothing: use more groups, an easier environment, a "
            "stronger model, another seed in [settings] or a [stages.reward], in a new folder",
        )

    def _terms(self, plan: Plan, spec: EnvironmentSpec) -> BatchTerms:
        sft = plan.stage.kind == "sft"
        return BatchTerms(
            chain_id=0,
            market=NOWHERE,
            batch=plan.turn,
            bounty=plan.turn,
            miner=NOWHERE,
            environment=environment_id(spec_bytes(spec)),
            assignment_seed=keccak(f"tracemarket.local {plan.settings.seed}".encode()),
            first_task=plan.turn * TASKS_OF_A_TURN,
            # Full scores are taken once each: the same text twice would only weigh it double.
            group_size=1 if sft else plan.stage.group_size,
            tier=Tier.C if sft else Tier.B,
            pay_rule=PayRule.CORRECT if sft else self._rule,
        )

    def _lines(
        self,
        plan: Plan,
        environment: Environment,
        terms: BatchTerms,
        policy: Policy,
        parent: int,
    ) -> Iterator[bytes]:
        numbers = range(terms.first_task, terms.first_task + plan.stage.groups)
        tasks = [environment.task(terms.seed(number)) for number in numbers]
        sampling = environment.spec.sampling
        checkpoint = None if plan.stage.kind == "sft" else parent
        if plan.stage.kind == "sft":
            groups: list[tuple[Completion, ...]] = [
                (_shown(text),) for text in _positives(plan, environment, tasks)
            ]
        else:
            rules = SamplingRules(
                group_size=terms.group_size,
                temperature=sampling.temperature,
                max_tokens=sampling.max_tokens,
                stop=sampling.stop,
            )
            sampler = TransformersSampler(policy, f"turn-{plan.turn}")
            prompts = [task.prompt for task in tasks]
            groups = list(sampler.sample(prompts, rules, seed=plan.settings.seed))
        for number, task, group in zip(numbers, tasks, groups, strict=True):
            for sample, one in enumerate(group):
                yield encode_line(
                    Trace(
                        task=number,
                        sample=sample,
                        prompt=task.prompt,
                        completion=one.text,
                        tokens=one.tokens,
                        logprobs=one.logprobs,
                        finish=one.finish,
                        checkpoint=checkpoint,
                        model=plan.stage.positives if checkpoint is None else "local",
                        temperature=sampling.temperature,
                        max_tokens=sampling.max_tokens,
                        claimed_score=None,
                    )
                )


def _positives(plan: Plan, environment: Environment, tasks: Sequence[Task]) -> Iterator[str]:
    """A completion for each task, mostly right ones; the check says which."""
    if plan.stage.positives == "reference":
        yield from map(environment.reference_completion, tasks)
        return
    source = environment.spec.source
    if not isinstance(source, GameSource):
        raise ConfigError(
            f"stage {plan.stage.name!r} wants games of self-play, and environment "
            f"{plan.environment!r} is of kind {source.kind!r}",
            fix='use positives = "reference", or an environment of kind "game"',
        )
    games = source.open()
    player = TablePlayer(games.game, Random(plan.settings.seed))
    player.learn(GAMES)
    for task in tasks:
        state = games.position(task.entry.raw["number"])
        moves = player.play(state) if source.ask == "game" else player.move(state)
        yield environment.completion_of(json.dumps(moves))


def _shown(text: str) -> Completion:
    return Completion(text, None, None, "stop")
