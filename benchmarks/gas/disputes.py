"""Cost of a dispute by batch size.

A row is one batch size: {"traces", "proof_hashes", "steps": {action: {"transactions", "gas"}}},
made from the transactions of a real dispute over one leaf, with inclusion proofs in the batch's
tree and in the attested one: the objection, a jury's whole work, its count and the end. The size
shows in the objection alone; the batch's own life is not in a row.
"""

from __future__ import annotations

import os
from typing import Any

from market import Bench, steps

from marketplace.protocol.disputes import juror_attestation, leaf_tree, leaf_verdicts
from marketplace.protocol.hashing import keccak
from marketplace.protocol.merkle import Tree, trace_leaf
from marketplace.protocol.verdict import Reason, Verdict

SIZES = (16, 256, 1024, 4096, 65536)


def measure(kit: Bench) -> list[dict[str, Any]]:
    """One row for each of SIZES."""
    return [_dispute(kit, size) for size in SIZES]


def _dispute(kit: Bench, traces: int) -> dict[str, Any]:
    miner, keeper = kit.accounts.miner, kit.reader
    lines = [os.urandom(32) for _ in range(traces)]
    where = (kit.deployment.chain_id, kit.deployment.address("market"), kit.bounty, miner.address)
    tree = Tree([trace_leaf(*where, index, line) for index, line in enumerate(lines)])
    batch = kit.commit_batch(kit.bounty, traces=traces, root=tree.root)
    verdicts = leaf_verdicts([Verdict(1_000_000, Reason.CORRECT, 1, 0)] * traces)
    attested = leaf_tree(batch, verdicts)
    round_id = kit.draw(batch)
    kit.vote(round_id, [attested.attestation] * keeper.round(round_id).seats)
    keeper.tally(batch, attested.attestation)

    index = traces // 3
    challenger = kit.client(miner)
    start = len(kit.gas)
    dispute, _ = challenger.dispute_leaf(
        batch, verdicts[index], attested.proof(index), keccak(lines[index]), tree.proof(index)
    )
    jury = keeper.dispute(dispute).jury
    assert jury is not None
    kit.wait_for_randomness(keeper.round(jury).draw_point)
    keeper.draw(jury)
    vote = juror_attestation(batch, verdicts[index])
    kit.vote(jury, [vote] * keeper.round(jury).seats)
    keeper.tally_jury(dispute, vote)
    kit.pass_time(kit.deployment.parameters.appeal_window + 1)
    keeper.close_dispute(dispute)
    end = len(kit.gas)
    kit.pass_challenge_window()
    keeper.settle(batch)
    return {
        "traces": traces,
        "proof_hashes": len(tree.proof(index)) + len(attested.proof(index)),
        "steps": steps(kit.gas[start:end]),
    }
