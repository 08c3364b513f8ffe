"""Writes tests/vectors/protocol.json, the values that Solidity and Python must agree on.

    python tests/vectors/generate.py          write the file
    python tests/vectors/generate.py --check  exit 1 if the file is not what would be written

Shaped for Solidity's vm.parseJson: each section is an array of flat objects with camelCase keys,
written in alphabetical order, so that abi.decode fits a struct whose fields are declared
in alphabetical order. bytes32 and addresses are 0x hex, integers are decimal numbers within
uint64 (vm.parseJson and JSON readers in other languages agree on those), proofs are parallel
arrays, from the leaf up.

    traceLeaves     bounty chainId index leaf line lineHash market miner
    merkle          index leaf proof root size
    verdicts        batch faults index leaf reason score units
    verdictProofs   batch faults index leaf proofFaults proofHashes proofUnits root rootFaults
                    rootUnits size units
    taskSeeds       assignmentSeed bounty environment miner seed taskIndex
    noiseKeys       key position sample seed
    subjects        batch batchRoot chainId market subject
    commitments     chainId commitment faults round rounds salt subject units verdictRoot verifier
                    vote
    datasetRoots    batches chainId leaves market root units verdictRoots weights
    outcomes        name root
    jurorOutcomes   name root vote
    jurySubjects    batch chainId court dispute index subject vote
    jurorVotes      batch faults index reason score units verdictRoot vote
    openedPaths     batch count faults index leftFaults leftHashes leftUnits rights rightFaults
                    rightHashes rightUnits root rootFaults rootUnits reason score units
    auditLeaves     audits batchRoot chainId faults index leaf reason salt score units
    plantings       leaf proof root
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from marketplace.protocol import commitments, disputes, merkle, seeds, verdict
from marketplace.protocol.disputes import LeafVerdict
from marketplace.protocol.hashing import keccak
from marketplace.protocol.trace import Trace, encode_line
from marketplace.protocol.verdict import Attestation, Reason, SumNode, Verdict, VerdictTree

PATH = Path(__file__).with_name("protocol.json")
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 16, 33)
MAX_UINT32 = 2**32 - 1
MAX_UINT64 = 2**64 - 1
CHAIN_ID = 31337


def _word(*parts: object) -> bytes:
    """A 32-byte value that depends on its parts and on nothing else."""
    return keccak("/".join(map(str, parts)).encode())


def _address(name: str) -> str:
    return "0x" + _word("address", name)[:20].hex()


MARKET, OTHER_MARKET = _address("market"), _address("other market")
ROUNDS = _address("rounds")
MINERS = (_address("miner 1"), _address("miner 2"))


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


def _line(index: int) -> bytes:
    return encode_line(
        Trace(
            task=index // 4,
            sample=index % 4,
            prompt=f"What is {index} + 2? Réponse :",
            completion=f" {index + 2}\n",
            tokens=(index, 5, 2),
            logprobs=(-0.5, -0.25 * index, 0.0),
            finish="stop",
            checkpoint=1,
            model="vector/model",
            temperature=0.75,
            max_tokens=16,
            claimed_score=1.0,
        )
    )


def _trace_leaves() -> list[dict[str, Any]]:
    lines = [b"", b"{}", "é ∑ 🙂".encode(), *(_line(index) for index in range(5))]
    cases = [(CHAIN_ID, MARKET, 1, MINERS[0], index, line) for index, line in enumerate(lines)]
    # Each binding changed alone, then the largest values.
    base = (CHAIN_ID, MARKET, 1, MINERS[0], 0, lines[3])
    for place, value in enumerate((1, OTHER_MARKET, 2, MINERS[1], 1)):
        cases.append((*base[:place], value, *base[place + 1 :]))  # type: ignore[arg-type]
    cases.append((MAX_UINT64, "0x" + "ff" * 20, MAX_UINT64, "0x" + "ff" * 20, MAX_UINT64, b"z"))
    return [
        {
            "chainId": chain_id,
            "market": market,
            "bounty": bounty,
            "miner": miner,
            "index": index,
            "line": line.decode(),
            "lineHash": _hex(keccak(line)),
            "leaf": _hex(merkle.trace_leaf(chain_id, market, bounty, miner, index, line)),
        }
        for chain_id, market, bounty, miner, index, line in cases
    ]


def _merkle() -> list[dict[str, Any]]:
    rows = []
    for size in SIZES:
        leaves = [_word("leaf", size, index) for index in range(size)]
        tree = merkle.Tree(leaves)
        for index, leaf in enumerate(leaves):
            rows.append(
                {
                    "size": size,
                    "index": index,
                    "leaf": _hex(leaf),
                    "root": _hex(tree.root),
                    "proof": [_hex(sibling) for sibling in tree.proof(index)],
                }
            )
    return rows


_CYCLE = (
    Verdict(1_000_000, Reason.CORRECT, 1, 0),
    Verdict(0, Reason.WRONG, 0, 0),
    Verdict(0, Reason.OFF_POLICY, 0, 1),
    Verdict(1_000_000, Reason.DUPLICATE, 0, 0),
    Verdict(333_333, Reason.PARTIAL, 1, 0),
    Verdict(0, Reason.PARSE_FAILURE, 1, 0),
    Verdict(0, Reason.CHECKER_ERROR, 0, 0),
    Verdict(0, Reason.MALFORMED_LINE, 0, 1),
    Verdict(0, Reason.CHECKER_TIMEOUT, 0, 0),
    Verdict(0, Reason.TOO_LONG, 1, 0),
    Verdict(0, Reason.UNASSIGNED, 0, 1),
    Verdict(0, Reason.TAMPERED_PROMPT, 0, 1),
    Verdict(0, Reason.FALSE_CLAIM, 0, 1),
)


def _verdicts() -> list[dict[str, Any]]:
    cases = [(7, index, one) for index, one in enumerate(_CYCLE)]
    cases.append((8, 0, _CYCLE[0]))
    cases.append((MAX_UINT64, MAX_UINT64, _CYCLE[0]))
    return [
        {
            "batch": batch,
            "index": index,
            "score": one.score_ppm,
            "reason": int(one.reason),
            "units": one.units,
            "faults": one.faults,
            "leaf": _hex(verdict.verdict_leaf(batch, index, one).hash),
        }
        for batch, index, one in cases
    ]


def _sum_rows(batch: int, leaves: list[SumNode]) -> list[dict[str, Any]]:
    tree = VerdictTree(leaves)
    rows = []
    for index, leaf in enumerate(leaves):
        proof = tree.proof(index)
        rows.append(
            {
                "batch": batch,
                "size": len(leaves),
                "index": index,
                "leaf": _hex(leaf.hash),
                "units": leaf.units,
                "faults": leaf.faults,
                "root": _hex(tree.attestation.root),
                "rootUnits": tree.attestation.units,
                "rootFaults": tree.attestation.faults,
                "proofHashes": [_hex(sibling.hash) for sibling in proof],
                "proofUnits": [sibling.units for sibling in proof],
                "proofFaults": [sibling.faults for sibling in proof],
            }
        )
    return rows


def _verdict_proofs() -> list[dict[str, Any]]:
    rows = []
    for batch, size in enumerate(SIZES, start=1):
        verdicts = [_CYCLE[index % len(_CYCLE)] for index in range(size)]
        rows += _sum_rows(
            batch, [verdict.verdict_leaf(batch, i, one) for i, one in enumerate(verdicts)]
        )
    # The largest sums that fit: the byte order of the packed words shows here.
    wide = [
        SumNode(_word("wide", 0), 0x01020304, 0x0A0B0C0D),
        SumNode(_word("wide", 1), MAX_UINT32 - 0x01020304, 0),
        SumNode(_word("wide", 2), 0, MAX_UINT32 - 0x0A0B0C0D),
    ]
    return rows + _sum_rows(0, wide)


def _task_seeds() -> list[dict[str, Any]]:
    environment, assignment = _word("environment"), _word("assignment")
    base = (environment, 1, MINERS[0], assignment, 0)
    cases: list[tuple[Any, ...]] = [base]
    for place, value in enumerate(
        (_word("other environment"), 2, MINERS[1], _word("other assignment"), 1)
    ):
        cases.append((*base[:place], value, *base[place + 1 :]))
    cases.append((b"\xff" * 32, MAX_UINT64, "0x" + "ff" * 20, b"\xff" * 32, MAX_UINT64))
    return [
        {
            "environment": _hex(case[0]),
            "bounty": case[1],
            "miner": case[2],
            "assignmentSeed": _hex(case[3]),
            "taskIndex": case[4],
            "seed": _hex(seeds.task_seed(*case)),
        }
        for case in cases
    ]


def _noise_keys() -> list[dict[str, Any]]:
    seed = _word("task seed")
    cases = [(seed, 0, 0), (_word("other task seed"), 0, 0), (seed, 1, 0), (seed, 0, 1)]
    cases.append((b"\xff" * 32, MAX_UINT64, MAX_UINT64))
    return [
        {
            "seed": _hex(seed),
            "sample": sample,
            "position": position,
            "key": _hex(seeds.noise_key(seed, sample, position)),
        }
        for seed, sample, position in cases
    ]


def _subjects() -> list[dict[str, Any]]:
    cases = [
        (CHAIN_ID, MARKET, 1, _word("batch root")),
        (1, MARKET, 1, _word("batch root")),
        (CHAIN_ID, OTHER_MARKET, 1, _word("batch root")),
        (CHAIN_ID, MARKET, 2, _word("batch root")),
        (CHAIN_ID, MARKET, 1, _word("other batch root")),
        (MAX_UINT64, MARKET, MAX_UINT64, b"\xff" * 32),
    ]
    return [
        {
            "chainId": chain_id,
            "market": market,
            "batch": batch,
            "batchRoot": _hex(root),
            "subject": _hex(commitments.subject(chain_id, market, batch, root)),
        }
        for chain_id, market, batch, root in cases
    ]


def _commitments() -> list[dict[str, Any]]:
    verifiers = (_address("verifier 1"), _address("verifier 2"))
    subject = commitments.subject(CHAIN_ID, MARKET, 1, _word("batch root"))
    given = Attestation(_word("verdict root"), 12, 3)
    base = (CHAIN_ID, ROUNDS, 1, subject, verifiers[0], given, _word("salt"))
    cases: list[tuple[Any, ...]] = [base]
    for place, value in (
        (0, 1),
        (1, _address("other rounds")),
        (2, 2),
        (3, _word("other subject")),
        (4, verifiers[1]),
        (5, Attestation(_word("other verdict root"), 12, 3)),
        (5, Attestation(given.root, 13, 3)),
        (5, Attestation(given.root, 12, 4)),
        (5, verdict.UNAVAILABLE),
        (5, verdict.MALFORMED),
        (5, Attestation(b"\xff" * 32, MAX_UINT32, MAX_UINT32)),
        (6, _word("other salt")),
    ):
        cases.append((*base[:place], value, *base[place + 1 :]))
    return [
        {
            "chainId": case[0],
            "rounds": case[1],
            "round": case[2],
            "subject": _hex(case[3]),
            "verifier": case[4],
            "verdictRoot": _hex(case[5].root),
            "units": case[5].units,
            "faults": case[5].faults,
            "salt": _hex(case[6]),
            "commitment": _hex(commitments.commitment(*case)),
            "vote": _hex(commitments.vote(case[5])),
        }
        for case in cases
    ]


def _dataset_roots() -> list[dict[str, Any]]:
    rows = []
    for size in (0, *SIZES):
        entries = [
            (3 * index + 1, _word("dataset", size, index), index * index, 1_000_000 - index)
            for index in range(size)
        ]
        rows.append(
            {
                "chainId": CHAIN_ID,
                "market": MARKET,
                "batches": [entry[0] for entry in entries],
                "verdictRoots": [_hex(entry[1]) for entry in entries],
                "units": [entry[2] for entry in entries],
                "weights": [entry[3] for entry in entries],
                "leaves": [
                    _hex(merkle.dataset_leaf(CHAIN_ID, MARKET, *entry)) for entry in entries
                ],
                "root": _hex(merkle.dataset_root(CHAIN_ID, MARKET, entries)),
            }
        )
    return rows


def _numbers(given: LeafVerdict) -> dict[str, Any]:
    return {
        "index": given.index,
        "score": given.score_ppm,
        "reason": given.reason,
        "units": given.units,
        "faults": given.faults,
    }


LIES = (
    LeafVerdict(0, MAX_UINT32, 255, MAX_UINT32, MAX_UINT32),
    LeafVerdict(MAX_UINT32, 0, 0, 1, 1),
)


def _jury_subjects() -> list[dict[str, Any]]:
    base = (CHAIN_ID, _address("court"), 1, 2, 3, _word("vote"))
    cases: list[tuple[Any, ...]] = [base]
    for place, value in enumerate((1, _address("other court"), 2, 3, 4, _word("other vote"))):
        cases.append((*base[:place], value, *base[place + 1 :]))
    cases.append((MAX_UINT64, MARKET, MAX_UINT64, MAX_UINT64, MAX_UINT32, b"\xff" * 32))
    return [
        {
            "chainId": case[0],
            "court": case[1],
            "dispute": case[2],
            "batch": case[3],
            "index": case[4],
            "vote": _hex(case[5]),
            "subject": _hex(commitments.jury_subject(*case)),
        }
        for case in cases
    ]


def _juror_votes() -> list[dict[str, Any]]:
    rows = []
    for batch, given in [*((7, one) for one in disputes.leaf_verdicts(_CYCLE)), (8, LIES[0])]:
        said = disputes.juror_attestation(batch, given)
        vote = _hex(commitments.vote(said))
        rows.append(
            {"batch": batch, **_numbers(given), "verdictRoot": _hex(said.root), "vote": vote}
        )
    return rows


def _opened_paths() -> list[dict[str, Any]]:
    rows = []
    for batch, size in enumerate(SIZES, start=1):
        given = disputes.leaf_verdicts(_CYCLE[index % len(_CYCLE)] for index in range(size))
        tree = disputes.leaf_tree(batch, given)
        top = tree.attestation
        for one in given:
            path, rights = disputes.open_path(tree, top, one.index)
            rows.append(
                {
                    "batch": batch,
                    "count": size,
                    **_numbers(one),
                    "root": _hex(top.root),
                    "rootUnits": top.units,
                    "rootFaults": top.faults,
                    "rights": [int(right) for right in rights],
                    "leftHashes": [_hex(children.left.hash) for children in path],
                    "leftUnits": [children.left.units for children in path],
                    "leftFaults": [children.left.faults for children in path],
                    "rightHashes": [_hex(children.right.hash) for children in path],
                    "rightUnits": [children.right.units for children in path],
                    "rightFaults": [children.right.faults for children in path],
                }
            )
    return rows


_AUDITS = _address("audits")


def _audit_leaves() -> list[dict[str, Any]]:
    base = (CHAIN_ID, _AUDITS, _word("batch root"), LeafVerdict(3, 0, 2, 0, 0), _word("salt"))
    cases: list[tuple[Any, ...]] = [base]
    changed = (1, MARKET, _word("other batch root"), LIES[0], _word("other salt"))
    for place, value in enumerate(changed):
        cases.append((*base[:place], value, *base[place + 1 :]))
    return [
        {
            "chainId": case[0],
            "audits": case[1],
            "batchRoot": _hex(case[2]),
            **_numbers(case[3]),
            "salt": _hex(case[4]),
            "leaf": _hex(disputes.audit_leaf(*case)),
        }
        for case in cases
    ]


def _plantings() -> list[dict[str, Any]]:
    rows = []
    for size in SIZES:
        leaves = [_word("planting", size, index) for index in range(size)]
        tree = disputes.PlantingTree(leaves)
        for place, leaf in enumerate(leaves):
            proof = [_hex(one) for one in tree.proof(place)]
            rows.append({"leaf": _hex(leaf), "proof": proof, "root": _hex(tree.root)})
    return rows


def build() -> dict[str, list[dict[str, Any]]]:
    """All sections. Deterministic."""
    return {
        "traceLeaves": _trace_leaves(),
        "merkle": _merkle(),
        "verdicts": _verdicts(),
        "verdictProofs": _verdict_proofs(),
        "taskSeeds": _task_seeds(),
        "noiseKeys": _noise_keys(),
        "subjects": _subjects(),
        "commitments": _commitments(),
        "datasetRoots": _dataset_roots(),
        "outcomes": [
            {"name": "tracemarket.outcome.unavailable", "root": _hex(verdict.UNAVAILABLE.root)},
            {"name": "tracemarket.outcome.malformed", "root": _hex(verdict.MALFORMED.root)},
        ],
        "jurorOutcomes": [
            {
                "name": f"tracemarket.outcome.{name}",
                "root": _hex(outcome.root),
                "vote": _hex(commitments.vote(outcome)),
            }
            for name, outcome in (
                ("unavailable", verdict.UNAVAILABLE),
                ("malformed", verdict.MALFORMED),
                ("sound", verdict.SOUND),
            )
        ],
        "jurySubjects": _jury_subjects(),
        "jurorVotes": _juror_votes(),
        "openedPaths": _opened_paths(),
        "auditLeaves": _audit_leaves(),
        "plantings": _plantings(),
    }


def render() -> str:
    """The file's text: one row a line, so that a diff names the row that moved."""
    sections = []
    for name, rows in sorted(build().items()):
        lines = ",\n".join(json.dumps(row, sort_keys=True) for row in rows)
        sections.append(f"{json.dumps(name)}: [\n{lines}\n]")
    return "{\n" + ",\n".join(sections) + "\n}\n"


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        if PATH.is_file() and PATH.read_text(encoding="utf-8") == render():
            return 0
        print(f"{PATH.name} is stale. Fix: run python tests/vectors/generate.py", file=sys.stderr)
        return 1
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    PATH.write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
