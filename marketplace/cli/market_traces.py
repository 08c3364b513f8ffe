"""Traces for a run against a deployment: settled batches of named bounties, or a bounty of the
run's own for each turn.

What a turn is trained on is written down before it is trained on (market.json in its folder): a run
that was killed trains on the same batches although more have settled since. Its own bounties:
own_bounties.py.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marketplace.chain.client import MarketClient
from marketplace.chain.errors import show_time
from marketplace.chain.reads import MarketReader
from marketplace.chain.records import Batch, BountyTerms, Checkpoint
from marketplace.cli.demo.money import settlements
from marketplace.cli.output import progress, say
from marketplace.cli.own_bounties import OwnBounties
from marketplace.gym.modules import is_adapter
from marketplace.gym.policy import Policy
from marketplace.gym.spec import EnvironmentSpec
from marketplace.protocol.errors import (
    ConfigError,
    TracemarketError,
)
from marketplace.protocol.payout import PayRule
from marketplace.protocol.shares import USUAL_PASS_ON, USUAL_SPLIT, Split
from marketplace.protocol.trace import Tier
from marketplace.storage.checkpoints import put_checkpoint
from marketplace.storage.cid import Cid
from marketplace.storage.store import ContentStore
from trainer.data import AttestedBatch
from trainer.lineage import lineage_ages
from trainer.pull import pull_available, settled_batches
from trainer.recipe import BountyPolicy, Plan
from trainer.run import Bought, RunFolder
from trainer.state import write_atomically
from trainer.turn import Trained, publish
from verifier_node.checkpoints import CheckpointCache

NOTE_NAME = "market.json"
IDENTITIES_NAME = "identities.json"
GONE = "in a batch whose content can't be had or proven"
ROLLED_BACK = "in a batch that was rolled back on before"


def fetched(
    reader: MarketReader,
    store: ContentStore,
    batches: Sequence[Batch],
    timeout: float,
    *,
    again: bool = False,
) -> tuple[list[AttestedBatch], dict[int, TracemarketError]]:
    """pull_available, told on the terminal. ConfigError where nothing is left.

    again: they were trained on, and another set would be another run: raises what is wrong.
    """
    with progress("fetching batches", len(batches)) as advance:
        attested, gone = pull_available(reader, store, batches, timeout=timeout, on_done=advance)
    for number, error in gone.items():
        if again:
            raise error
        say(f"left out: batch {number}: {error}")
    if gone and not attested:
        raise ConfigError(
            f"none of the {len(gone)} settled batches can be had and proven",
            fix="use the content store that verifiers and miners use (--store)",
        )
    return attested, gone


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketTrader:
    """A trainer.run.Trader on a market.

    environments: id and spec by the recipe's names. bounties: to train on; empty: one is opened
    for each turn, by the policy. base: what the run began with, as it was read. cache: of
    checkpoints. lost: file that keeps, over all runs, what was rolled back on. register: publish
    and register results. split, pass_on_ppm: of the royalties of what is registered. timeout:
    seconds for each download. poll: seconds between two looks at the chain.
    """

    client: MarketClient
    store: ContentStore
    folder: RunFolder
    environments: Mapping[str, tuple[bytes, EnvironmentSpec]]
    policy: BountyPolicy
    bounties: tuple[int, ...]
    base: Checkpoint
    cache: CheckpointCache
    lost: Path
    register: bool
    split: Split = USUAL_SPLIT
    pass_on_ppm: int = USUAL_PASS_ON
    timeout: float
    poll: float = 2.0
    sleep: Callable[[float], None] = time.sleep

    @property
    def unit(self) -> str | None:
        return self.client.token.symbol

    def spec(self, environment: str) -> EnvironmentSpec:
        return self.environments[environment][1]

    def buy(self, plan: Plan, policy: Policy, parent: int) -> Bought:
        """The turn's batches, as the run's folder names them, else those that are settled now (of
        named bounties) or as soon as there are enough (of an own one)."""
        note = self.folder.turn(plan.turn) / NOTE_NAME
        known = json.loads(note.read_text("utf-8")) if note.exists() else {}
        if "batches" not in known:
            found = (
                self._not_lost(plan, parent, known)
                if self.bounties
                else self._bought(plan, known.get("aside", 0))
            )
            known["batches"] = [batch.id for batch in found]
            _write(note, known)
        attested = self._fetched(known)
        _write(note, known)
        wanted = self.environments[plan.environment][0]
        for one in attested:
            if one.terms.environment != wanted:
                raise ConfigError(
                    f"batch {one.terms.batch} is of environment 0x{one.terms.environment.hex()}, "
                    f"not 0x{wanted.hex()}",
                    fix="name bounties of one environment",
                )
        paid = settlements(self.client)
        spent = sum(
            paid[number]["minerPaid"] + paid[number]["feesPaid"] - paid[number]["bondForfeited"]
            for number in (*known["batches"], *map(int, known["gone"]))  # paid for all the same
        )
        left_out = {ROLLED_BACK: known.get("lost", 0), GONE: sum(known["gone"].values())}
        return Bought(
            attested,
            spent / 10**self.client.token.decimals,
            ages=lineage_ages(self.client, parent, plan.settings.max_staleness),
            behaviour_of=self.cache.policy,
            left_out={reason: traces for reason, traces in left_out.items() if traces},
        )

    def _fetched(self, known: dict[str, Any]) -> list[AttestedBatch]:
        """The noted batches, proven. What can't be had or proven is left out, and the note says so
        from then on: nobody holds up a turn by taking back what was bought of him.

        A store that is down is no such thing (StorageError). ConfigError where nothing is left.
        """
        batches = {number: self.client.batch(number) for number in known["batches"]}
        again = known.get("fetched", False)
        attested, gone = fetched(
            self.client, self.store, list(batches.values()), self.timeout, again=again
        )
        if not again:
            known["batches"] = [one.terms.batch for one in attested]
            known["gone"] = {str(number): batches[number].count for number in gone}
            known["fetched"] = True
        return attested

    def publish(self, plan: Plan, trained: Trained) -> int:
        """Registers the turn's checkpoint, if it is not the newest one already."""
        if not self.register:
            return trained.parent
        # An adapter is small as it is; of whole weights others fetch what changed.
        whole = not is_adapter(trained.folder)
        parent = self._parent(trained.parent)
        parent_folder = self.cache.files(parent) if whole else None
        cid = put_checkpoint(self.store, trained.folder, parent=parent_folder)
        newest = self.client.latest_checkpoint(self.client.address)
        if newest is not None:
            content = self.client.checkpoint(newest).content
            if Cid.from_chain(content.digest, content.codec) == cid:
                return self._keep(newest)
        number, _ = publish(
            self.client,
            self.store,
            trained.folder,
            parent=parent,
            root=trained.dataset_root,
            stored=cid,
            split=self.split,
            pass_on_ppm=self.pass_on_ppm,
        )
        say(f"checkpoint {number} (child of {trained.parent}) is {cid}")
        return self._keep(number)

    def _keep(self, number: int) -> int:
        """Remembers what the number of a checkpoint that this run has just made stands for, over
        its processes: the next turn is a child of that, whatever has the number then."""
        kept = self._identities()
        kept[str(number)] = self.client.checkpoint(number).identity.hex()
        _write(self.folder.path / IDENTITIES_NAME, kept)
        return number

    def _identities(self) -> dict[str, str]:
        path = self.folder.path / IDENTITIES_NAME
        return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}

    def _parent(self, number: int) -> Checkpoint:
        """The run's checkpoint with this number. ConfigError where it has become another one's."""
        if number == self.base.id:
            return self.base
        found = self.client.checkpoint(number)
        if found.identity.hex() != (kept := self._identities().get(str(number))):
            raise ConfigError(
                f"checkpoint {number} is 0x{found.identity.hex()}, not 0x{kept}, which this run "
                "made and trained on; a reorg of the chain gave its number to another one",
                fix="remove the run's folder to start again from your newest checkpoint",
            )
        return found

    def rolled_back(self, plan: Plan, trained: Trained) -> None:
        """Remembers batches of named bounties that made the parent worse: trained on by the same
        settings once more they would do it again."""
        if self.bounties:
            kept = self._lost_batches()
            key = self._run_key(plan, trained.parent)
            kept[key] = sorted({*kept.get(key, ()), *trained.batches})
            _write(self.lost, kept)

    def unusable(self, plan: Plan, error: ConfigError) -> ConfigError:
        """The next call looks for batches again: those of named bounties that are settled by then,
        more of the turn's own bounty, or, where that one is over, another bounty."""
        place = self.folder.turn(plan.turn) / NOTE_NAME
        known = json.loads(place.read_text("utf-8"))
        batches, gone = known.pop("batches"), known.pop("gone")
        known.pop("fetched")
        if self.bounties:
            _write(place, known)
            return error
        tried = (*batches, *map(int, gone))
        known["aside"] = sum(self.client.batch(number).count for number in tried)
        _write(place, known)
        return ConfigError(
            f"turn {plan.turn}: {error.message}",
            fix="run the command again to buy more traces, within the budget",
        )

    def _not_lost(self, plan: Plan, parent: int, known: dict[str, Any]) -> list[Batch]:
        """Settled batches of the named bounties that the parent was not rolled back on."""
        settled = list(settled_batches(self.client, set(self.bounties)))
        lost = set(self._lost_batches().get(self._run_key(plan, parent), ()))
        found = [batch for batch in settled if batch.id not in lost]
        if not settled:
            raise ConfigError(
                f"bounties {', '.join(map(str, self.bounties))} have no settled batches",
                fix="wait until batches of a bounty are settled",
            )
        if again := [batch for batch in settled if batch.id in lost]:
            say(
                f"left out: {len(again)} batches that checkpoint {parent} was trained on before by "
                "the same settings, and rolled back"
            )
            known["lost"] = sum(batch.count for batch in again)
        if not found:
            raise ConfigError(
                f"checkpoint {parent} was rolled back on all {len(again)} settled batches of "
                f"bounties {', '.join(map(str, self.bounties))}",
                fix="train with other --settings (a lower learning_rate), or wait for more batches",
            )
        return found

    def _lost_batches(self) -> dict[str, list[int]]:
        return dict(json.loads(self.lost.read_text("utf-8"))) if self.lost.exists() else {}

    def _run_key(self, plan: Plan, parent: int) -> str:
        deployment = self.client.deployment
        place = f"{deployment.chain_id} {deployment.address('market')} {parent}"
        return f"{place} {hashlib.sha256(plan.settings.model_dump_json().encode()).hexdigest()}"

    def close(self) -> None:
        """Take back what bounties of the run's own still hold, where they are over."""
        if not self.bounties:
            self._own.close()

    @property
    def _own(self) -> OwnBounties:
        return OwnBounties(self.client, self.folder.path, self.policy, self.poll, self.sleep)

    def _bought(self, plan: Plan, aside: int) -> list[Batch]:
        """aside: settled traces of the bounty that could not be trained on by themselves."""
        wanted = plan.stage.groups * plan.stage.group_size

        def own() -> int:
            return self._own.of_turn(
                plan.turn, lambda deadline: self._terms(plan, deadline), traces=wanted
            )

        bounty = own()
        gives_up = self.client.head().timestamp + int(self.policy.wait_hours * 3600)
        deadline = self.client.bounty(bounty).terms.deadline
        more = f" beside {aside} that taught nothing" if aside else ""
        say(f"turn {plan.turn}: bounty {bounty} wants {wanted} traces{more}; waiting for miners")
        while True:
            now = self.client.head().timestamp
            # What is still being judged after the deadline is paid for too: it is waited for. Asked
            # first: what is settled by then is among what is found.
            over = now > deadline and not self.client.bounty(bounty).reserved
            found = list(settled_batches(self.client, {bounty}))
            traces = sum(batch.count for batch in found)
            if traces >= wanted + aside or (traces > aside and over):
                return found
            if over:
                self._own.give_up(plan.turn)
                _write(self.folder.turn(plan.turn) / NOTE_NAME, {})
                self._own.close()
                raise ConfigError(
                    f"bounty {bounty} had its deadline at {show_time(deadline)}, and nobody sold "
                    f"it anything{more}",
                    fix="offer more in [bounty] and run the command again: it opens another one",
                )
            if now > gives_up:
                raise ConfigError(
                    f"bounty {bounty} has {traces} settled traces of {wanted + aside}, and the "
                    "wait is over",
                    fix="run the command again to go on waiting",
                )
            self.sleep(self.poll)
            if (again := own()) != bounty:
                say(f"turn {plan.turn}: bounty {bounty} is bounty {again} now")
                bounty = again

    def _terms(self, plan: Plan, deadline: int) -> BountyTerms:
        sft = plan.stage.kind == "sft"
        token, policy = self.client.token, self.policy
        return BountyTerms(
            environment=self.environments[plan.environment][0],
            trainer=None if sft else self.client.address,
            deadline=deadline,
            group_size=plan.stage.group_size,
            tier=Tier.C if sft else Tier[policy.tier],
            pay_rule=PayRule.CORRECT if sft else PayRule[policy.pay.upper()],
            price_per_unit=token.parse(policy.price_per_unit),
            fee_per_trace=token.parse(policy.fee_per_trace),
        )


def _write(note: Path, known: Mapping[str, Any]) -> None:
    write_atomically(note, json.dumps(known, sort_keys=True).encode() + b"\n")
