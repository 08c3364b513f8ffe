"""`make gym-tour`: every built-in environment through the market, on a chain of its own.

For each: a bounty is funded, a miner commits one batch with right and wrong completions, a
committee attests it, the batch settles. The miner, the nodes and the chain are the real ones; only
the completions are made up, from reference answers and from `gym/examples/NAME.json`:

    {"right": null, "wrong": "no idea"}

right: completions that must be paid, one for each task in turn, or null for the reference
answers. wrong: one that must earn nothing; of a dialogue, a transcript whose messages are said to
the world anew. Environments without such a file take the above.

`--page FILE` writes the table as Markdown: docs/tour.md is made so.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final, Self

from eth_account.signers.local import LocalAccount
from rich.markup import escape

from marketplace.chain.anvil import AnvilNode, published_account
from marketplace.chain.client import MarketClient
from marketplace.chain.deploying import deploy
from marketplace.chain.parameters import MINIMAL
from marketplace.chain.records import BatchPhase, BountyTerms
from marketplace.cli.output import emit_json, plain, say, table
from marketplace.cli.tour_page import page, shown
from marketplace.gym.checking import BatchCheck
from marketplace.gym.environment import Environment, Task
from marketplace.gym.pool import CheckItem, CheckPool
from marketplace.gym.sources.dataset import builtin_asset
from marketplace.gym.spec import builtin_names, builtin_spec, environment_id, spec_bytes
from marketplace.gym.trial import checks_per_second
from marketplace.gym.worlds.dialogue import prompted, read, written
from marketplace.miner.mine import Miner
from marketplace.miner.sampler import Completion, SamplingRules
from marketplace.miner.spool import Spool
from marketplace.protocol.errors import TracemarketError, TransactionTimeout
from marketplace.protocol.payout import PayRule
from marketplace.protocol.seeds import task_seed
from marketplace.protocol.sheets import TOP
from marketplace.protocol.trace import Tier
from marketplace.storage.embedded import EmbeddedStore
from verifier_node.checking import BatchChecker
from verifier_node.daemon import VerifierNode
from verifier_node.journal import Journal
from verifier_node.judges import Item

# Generous windows: a phase ends early once everybody has acted.
PRESET: Final = replace(
    MINIMAL, name="tour", draw_timeout=3600, commit_window=3600, reveal_window=3600
)
VERIFIERS: Final = 3
GROUPS: Final = 4
GROUP_SIZE: Final = 2
RATE_SECONDS: Final = 1.0
_PASSES: Final = 60


@dataclass(frozen=True, slots=True)
class Stop:
    """What became of one environment. source, scoring: the kinds of its tasks and of its
    scorer. tasks: tried, each with a right and a wrong completion.

    checks_per_second: of one worker. paid, refused: a completion of each kind. reason: of the
    refused one, explained by why. units: paid for in all. error: what went wrong, or "".
    """

    environment: str
    source: str = ""
    scoring: str = ""
    tasks: int = 0
    checks_per_second: float | None = None
    paid: str = ""
    refused: str = ""
    reason: str = ""
    why: str = ""
    units: int = 0
    seconds: float = 0.0
    error: str = ""


class ScriptedSampler:
    """A miner's sampler that gives completions made beforehand, a group for each prompt."""

    model = "script"

    def __init__(self, groups: Sequence[tuple[str, ...]]) -> None:
        self._groups = groups

    def sample(
        self, prompts: Sequence[str], rules: SamplingRules, *, seed: int
    ) -> Iterator[tuple[Completion, ...]]:
        for group in self._groups[: len(prompts)]:
            yield tuple(Completion(text, None, None, "stop") for text in group)


class ScriptedSpeaker:
    """A miner's sampler for dialogues: says the messages of transcripts made beforehand, the last
    one again until the world ends the dialogue. groups: what comes of it, as transcripts."""

    model = "script"

    def __init__(
        self, environment: Environment, tasks: Sequence[Task], groups: Sequence[tuple[str, ...]]
    ) -> None:
        # Talks of one task begin with the same prompt: their messages wait in the order of talks.
        self._messages: defaultdict[str, deque[str]] = defaultdict(deque)
        self.groups = [
            tuple(self._rehearsed(environment, task, transcript) for transcript in group)
            for task, group in zip(tasks, groups, strict=True)
        ]

    def _rehearsed(self, environment: Environment, task: Task, transcript: str) -> str:
        turns = environment.spec.source.turns()
        said = [one.message for one in read(transcript, turns)]
        talk = environment.begin(task)
        for turn in range(turns):
            if talk.done:
                break
            message = said[min(turn, len(said) - 1)]
            self._messages[prompted(task.prompt, talk.exchanges)].append(message)
            talk.say(message)
        return written(talk.exchanges)

    def sample(
        self, prompts: Sequence[str], rules: SamplingRules, *, seed: int
    ) -> Iterator[tuple[Completion, ...]]:
        for prompt in prompts:
            yield (Completion(self._messages[prompt].popleft(), None, None, "stop"),)


class ScriptedJudge:
    """A verifier's judge that knows the completions made beforehand: what is right gets the highest
    grade, all else none."""

    name = "script"

    def __init__(self) -> None:
        self.right: set[str] = set()

    def grade(self, rubric: str, items: Sequence[Item]) -> list[int]:
        return [TOP if item.completion in self.right else 0 for item in items]


class Tour:
    """A chain, a market, a poster, a miner and a committee. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._assets = folder / "assets"
        self._store = EmbeddedStore(folder / "store")
        self._judge = ScriptedJudge()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        self._node = self._stack.enter_context(AnvilNode())
        self._pool = self._stack.enter_context(CheckPool(workers=1, assets=self._assets))
        bank, poster, miner, *verifiers = [published_account(i) for i in range(3 + VERIFIERS)]
        self._deployment = deploy(self._node.url, bank, PRESET)
        minter, self._poster, self._miner = (self._client(key) for key in (bank, poster, miner))
        nodes = []
        for place, client in enumerate(map(self._client, verifiers)):
            minter.mint_test_tokens(client.address, client.token.parse("10000"))
            client.stake(client.token.parse("5000"))
            journal = Journal(self._folder / f"{client.address}.sqlite")
            checker = BatchChecker(
                client, self._store, self._pool, fetch_seconds=0, scorer_for=None
            )
            self._checker = checker
            nodes.append(
                VerifierNode(
                    client,
                    self._store,
                    journal,
                    checker,
                    keeper=place == 0,
                    fetch_seconds=0,
                    judge=self._judge,
                )
            )
        self._nodes = nodes
        for client in (self._poster, self._miner):
            minter.mint_test_tokens(client.address, client.token.parse("10000"))

    def chain(self) -> str:
        """What the chain's node calls itself."""
        return str(self._node.rpc("web3_clientVersion"))

    def visit(self, name: str) -> Stop:
        """One environment, from its registration to the settlement of a batch."""
        started = time.perf_counter()
        try:
            stop = self._visit(name)
        except TracemarketError as error:
            stop = Stop(name, error=f"{type(error).__name__}: {error}")
        return replace(stop, seconds=time.perf_counter() - started)

    def _visit(self, name: str) -> Stop:
        spec, example = builtin_spec(name), example_of(name)
        bounty = self._open_bounty(name)
        miner = Miner(
            self._miner,
            self._store,
            Spool(self._folder / "spool"),
            fetch_seconds=0,
            assets=self._assets,
            sleep=lambda _: self._node.mine(),
        )
        environment = miner.environment(self._miner.bounty(bounty))
        tasks = self._tasks(miner, environment, bounty)
        groups: list[tuple[str, ...]] = [
            (_right(example, environment, task, place), str(example["wrong"]))
            for place, task in enumerate(tasks)
        ]
        sampler: ScriptedSampler | ScriptedSpeaker = ScriptedSampler(groups)
        if spec.source.turns():
            sampler = ScriptedSpeaker(environment, tasks, groups)
            groups = sampler.groups
        self._judge.right = {group[0] for group in groups}
        mined = miner.mine(bounty, GROUPS, sampler)
        check = self._settle(mined.batch)
        items = [
            CheckItem(task.seed, completion, task.prompt)
            for task, group in zip(tasks, groups, strict=True)
            for completion in group
        ]
        rate = checks_per_second(spec, self._pool, items, RATE_SECONDS)
        texts = [text for group in groups for text in group]
        return replace(
            _stop(name, check, texts, rate),
            source=spec.source.kind,
            scoring="its source" if spec.scoring.kind == "source" else spec.scoring.kind,
        )

    def _open_bounty(self, name: str) -> int:
        spec, client = builtin_spec(name), self._poster
        data = spec_bytes(spec)
        self._store.put(data)
        for asset in spec.assets():
            if (path := builtin_asset(asset.cid)) is not None:
                self._store.put_file(path)
        client.register_environment(environment_id(data))
        terms = BountyTerms(
            environment=environment_id(data),
            trainer=None,
            deadline=client.head().timestamp + 86_400,
            group_size=GROUP_SIZE,
            tier=Tier.C,
            pay_rule=PayRule.CORRECT,
            price_per_unit=client.token.parse("0.1"),
            fee_per_trace=client.token.parse("0.02"),
        )
        bounty, _ = client.create_bounty(terms, client.token.parse("20"))
        return bounty

    def _tasks(self, miner: Miner, environment: Environment, bounty: int) -> list[Task]:
        assignment = miner.enrol(bounty)
        assert assignment.seed is not None  # it is open
        ident = environment_id(spec_bytes(environment.spec))
        return [
            environment.task(task_seed(ident, bounty, self._miner.address, assignment.seed, number))
            for number in range(assignment.next_task, assignment.next_task + GROUPS)
        ]

    def _settle(self, batch: int) -> BatchCheck:
        """The verdicts that the committee attested and the market settled."""
        for _ in range(_PASSES):
            for node in self._nodes:
                node.run_once()
            settled = self._poster.batch(batch)
            if settled.phase is BatchPhase.SETTLED:
                break
            self._node.mine(2)
            self._node.increase_time(PRESET.challenge_window + 1)
        else:
            raise TransactionTimeout(f"batch {batch} did not settle in {_PASSES} passes")
        finding = self._checker.find(settled)
        if finding.check is None or finding.attestation != settled.attestation:
            raise TracemarketError(f"batch {batch} was attested otherwise: {finding.note}")
        return finding.check

    def _client(self, key: LocalAccount) -> MarketClient:
        return MarketClient(self._node.url, self._deployment, key, poll=0.05)


def example_of(name: str) -> dict[str, Any]:
    """The example completions of a built-in environment."""
    found: dict[str, Any] = {"right": None, "wrong": "no idea"}
    path = resources.files("marketplace.gym") / "examples" / f"{name}.json"
    if path.is_file():
        found |= json.loads(path.read_text("utf-8"))
    return found


def _right(example: dict[str, Any], environment: Environment, task: Task, place: int) -> str:
    if example["right"] is None:
        return environment.reference_completion(task)
    return str(example["right"][place % len(example["right"])])


def _stop(name: str, check: BatchCheck, completions: Sequence[str], rate: float) -> Stop:
    verdicts = check.verdicts
    units = sum(verdict.units for verdict in verdicts)
    told = Stop(name, tasks=len(verdicts) // GROUP_SIZE, checks_per_second=rate, units=units)
    for index in range(0, len(verdicts), GROUP_SIZE):
        right, wrong = check.explain(index), check.explain(index + 1)
        if right.verdict.units != 1:
            return replace(told, error=f"a right trace was not paid: {right.text}")
        if wrong.verdict.units != 0:
            return replace(told, error=f"a wrong trace was paid: {wrong.text}")
    return replace(
        told,
        paid=completions[0],
        refused=completions[1],
        reason=wrong.reason.name,
        why=wrong.text,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(description="every built-in environment, on Anvil")
    options.add_argument("--only", nargs="*", metavar="NAME", help="of built-in environments")
    options.add_argument("--out", type=Path, default=Path("build/gym-tour.json"))
    options.add_argument("--page", type=Path, help="write the table as Markdown, too")
    options.add_argument("--json", action="store_true", help="print JSON")
    chosen = options.parse_args(arguments)
    work = chosen.out.with_suffix(".work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    stops = []
    with Tour(work) as tour:
        anvil = tour.chain()
        for name in chosen.only or builtin_names():
            stops.append(tour.visit(name))
            say(f"{name}: {escape(stops[-1].error or 'settled')} ({stops[-1].seconds:.1f} s)")
    shutil.rmtree(work)
    chosen.out.write_text(json.dumps(plain(stops), indent=1) + "\n", "utf-8")
    if chosen.page is not None:
        chosen.page.write_text(page(plain(stops), anvil=anvil), "utf-8")
    if chosen.json:
        emit_json(stops)
    else:
        _print(stops)
    return 1 if any(stop.error for stop in stops) else 0


def _print(stops: Sequence[Stop]) -> None:
    table(
        "the Gym, end to end on Anvil",
        ["environment=", "tasks>", "checks/s>", "paid", "refused", "reason="],
        [
            (
                stop.environment,
                stop.tasks,
                "" if stop.checks_per_second is None else f"{stop.checks_per_second:,.0f}",
                stop.error or shown(stop.paid, 60),
                shown(stop.refused, 60),
                stop.reason,
            )
            for stop in stops
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
