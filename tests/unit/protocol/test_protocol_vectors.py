"""The committed vectors are fresh, and hold when recomputed from the written definitions.

The recomputation shares no code with the package: ABI words by hand, keccak straight from
pycryptodome, trees by RFC 9162's recursive definition.
"""

import importlib.util
import json
from pathlib import Path

import pytest
from Crypto.Hash import keccak as crypto_keccak

from marketplace.protocol import merkle, verdict
from marketplace.protocol.verdict import Attestation, SumNode

VECTORS = Path(__file__).parents[2] / "vectors"
DATA = json.loads((VECTORS / "protocol.json").read_text(encoding="utf-8"))
SIZES = {1, 2, 3, 4, 5, 7, 8, 9, 16, 33}


def H(data: bytes) -> bytes:
    return crypto_keccak.new(digest_bits=256, data=data).digest()


def raw(text: str) -> bytes:
    assert text.startswith("0x")
    return bytes.fromhex(text[2:])


def words(*values) -> bytes:
    """abi.encode of static values: 32-byte words, integers and addresses padded on the left."""
    encoded = b""
    for value in values:
        encoded += (
            value.to_bytes(32, "big") if isinstance(value, int) else raw(value).rjust(32, b"\0")
        )
    return encoded


def split(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def tree_hash(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return H(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:]))


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 9162 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), tree_hash(leaves[k:])]
    return [*path(m - k, leaves[k:]), tree_hash(leaves[:k])]


Sum = tuple[bytes, int, int]


def sum_hash(leaves: list[Sum]) -> Sum:
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    left, right = sum_hash(leaves[:k]), sum_hash(leaves[k:])
    packed = b"\x03"
    for digest, units, faults in (left, right):
        packed += digest + units.to_bytes(4, "big") + faults.to_bytes(4, "big")
    assert len(packed) == 81
    return H(packed), left[1] + right[1], left[2] + right[2]


def sum_path(m: int, leaves: list[Sum]) -> list[Sum]:
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*sum_path(m, leaves[:k]), sum_hash(leaves[k:])]
    return [*sum_path(m - k, leaves[k:]), sum_hash(leaves[:k])]


def trees(section: str, *key: str) -> list[list[dict]]:
    """The rows of a section, one list per tree, each in index order and complete."""
    groups: dict[tuple, list[dict]] = {}
    for row in DATA[section]:
        groups.setdefault(tuple(row[name] for name in key), []).append(row)
    for rows in groups.values():
        assert [row["index"] for row in rows] == list(range(rows[0]["size"]))
    return list(groups.values())


def test_the_committed_file_is_a_fresh_generation():
    spec = importlib.util.spec_from_file_location("vector_generator", VECTORS / "generate.py")
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    assert (VECTORS / "protocol.json").read_text(encoding="utf-8") == generator.render()
    assert generator.main(["--check"]) == 0


def test_keys_are_alphabetical_and_rows_flat():
    for rows in DATA.values():
        for row in rows:
            assert list(row) == sorted(row)
            for value in row.values():
                assert isinstance(value, str | int | list)
                if isinstance(value, list):
                    assert all(isinstance(one, str | int) for one in value)


def test_trace_leaves():
    for row in DATA["traceLeaves"]:
        line_hash = H(row["line"].encode())
        assert raw(row["lineHash"]) == line_hash
        encoded = words(
            row["chainId"],
            row["market"],
            row["bounty"],
            row["miner"],
            row["index"],
            row["lineHash"],
        )
        assert raw(row["leaf"]) == H(b"\x00" + encoded)


def test_merkle_roots_and_proofs():
    groups = trees("merkle", "size")
    assert {rows[0]["size"] for rows in groups} == SIZES
    for rows in groups:
        leaves = [raw(row["leaf"]) for row in rows]
        for row in rows:
            assert raw(row["root"]) == tree_hash(leaves)
            assert [raw(one) for one in row["proof"]] == path(row["index"], leaves)
            assert merkle.verify_inclusion(
                raw(row["leaf"]),
                row["index"],
                row["size"],
                [raw(one) for one in row["proof"]],
                raw(row["root"]),
            )


def test_verdict_leaves():
    for row in DATA["verdicts"]:
        names = ("batch", "index", "score", "reason", "units", "faults")
        assert raw(row["leaf"]) == H(b"\x02" + words(*(row[name] for name in names)))
    assert {row["reason"] for row in DATA["verdicts"]} == set(verdict.Reason)


def test_verdict_roots_and_proofs():
    groups = trees("verdictProofs", "batch")
    assert {rows[0]["size"] for rows in groups} == SIZES
    for rows in groups:
        leaves = [(raw(row["leaf"]), row["units"], row["faults"]) for row in rows]
        for row in rows:
            top = sum_hash(leaves)
            assert (raw(row["root"]), row["rootUnits"], row["rootFaults"]) == top
            proof = [
                (raw(digest), units, faults)
                for digest, units, faults in zip(
                    row["proofHashes"], row["proofUnits"], row["proofFaults"], strict=True
                )
            ]
            assert proof == sum_path(row["index"], leaves)
            assert verdict.verify_verdict(
                SumNode(*leaves[row["index"]]),
                row["index"],
                row["size"],
                [SumNode(*one) for one in proof],
                Attestation(*top),
            )


@pytest.mark.parametrize(
    ("section", "names", "result"),
    [
        ("taskSeeds", ("environment", "bounty", "miner", "assignmentSeed", "taskIndex"), "seed"),
        ("subjects", ("chainId", "market", "batch", "batchRoot"), "subject"),
        (
            "commitments",
            (
                "chainId",
                "rounds",
                "round",
                "subject",
                "verifier",
                "verdictRoot",
                "units",
                "faults",
                "salt",
            ),
            "commitment",
        ),
        (
            "jurySubjects",
            ("chainId", "court", "dispute", "batch", "index", "vote"),
            "subject",
        ),
    ],
)
def test_hashes_of_words(section, names, result):
    for row in DATA[section]:
        assert raw(row[result]) == H(words(*(row[name] for name in names)))


def test_noise_keys():
    for row in DATA["noiseKeys"]:
        place = b"".join(row[name].to_bytes(8, "big") for name in ("sample", "position"))
        assert raw(row["key"]) == H(b"tracemarket.noise" + raw(row["seed"]) + place)


def test_votes_are_odd_hashes():
    for section in ("commitments", "jurorVotes"):
        votes = set()
        for row in DATA[section]:
            digest = H(words(row["verdictRoot"], row["units"], row["faults"]))
            assert raw(row["vote"]) == odd(digest)
            votes.add(digest[-1] & 1)
        assert votes == {0, 1}  # both cases are among them


def odd(digest: bytes) -> bytes:
    return digest[:-1] + bytes([digest[-1] | 1])


def test_a_juror_votes_the_leaf_of_a_verdict():
    for row in DATA["jurorVotes"]:
        names = ("batch", "index", "score", "reason", "units", "faults")
        assert raw(row["verdictRoot"]) == H(b"\x02" + words(*(row[name] for name in names)))


def test_opened_paths_lead_from_the_root_to_each_verdict():
    sizes = set()
    for row in DATA["openedPaths"]:
        node = (raw(row["root"]), row["rootUnits"], row["rootFaults"])
        first, size = 0, row["count"]
        sizes.add(size)
        for level, right in enumerate(row["rights"]):
            pair = [
                (raw(row[f"{s}Hashes"][level]), row[f"{s}Units"][level], row[f"{s}Faults"][level])
                for s in ("left", "right")
            ]
            assert sum_hash(pair) == node
            k = split(size)
            node, first, size = (pair[1], first + k, size - k) if right else (pair[0], first, k)
        assert (first, size) == (row["index"], 1)
        names = ("batch", "index", "score", "reason", "units", "faults")
        leaf = H(b"\x02" + words(*(row[name] for name in names)))
        assert node == (leaf, row["units"], row["faults"])
    assert sizes == SIZES


def test_audit_leaves_are_hashed_twice():
    names = (
        "chainId",
        "audits",
        "batchRoot",
        "index",
        "score",
        "reason",
        "units",
        "faults",
        "salt",
    )
    for row in DATA["auditLeaves"]:
        assert raw(row["leaf"]) == H(H(words(*(row[name] for name in names))))


def test_plantings_prove_with_sorted_pairs():
    for row in DATA["plantings"]:
        node = raw(row["leaf"])
        for sibling in map(raw, row["proof"]):
            node = H(min(node, sibling) + max(node, sibling))
        assert node == raw(row["root"])


def test_every_binding_changes_the_hash():
    for section, result in (
        ("traceLeaves", "leaf"),
        ("taskSeeds", "seed"),
        ("noiseKeys", "key"),
        ("subjects", "subject"),
        ("commitments", "commitment"),
        ("jurySubjects", "subject"),
        ("jurorVotes", "vote"),
        ("auditLeaves", "leaf"),
    ):
        hashes = [row[result] for row in DATA[section]]
        assert len(set(hashes)) == len(hashes)


def test_dataset_roots():
    assert {len(row["batches"]) for row in DATA["datasetRoots"]} == SIZES | {0}
    for row in DATA["datasetRoots"]:
        leaves = [
            H(b"\x04" + words(row["chainId"], row["market"], batch, root, units, weight))
            for batch, root, units, weight in zip(
                row["batches"], row["verdictRoots"], row["units"], row["weights"], strict=True
            )
        ]
        assert [raw(leaf) for leaf in row["leaves"]] == leaves
        assert raw(row["root"]) == (tree_hash(leaves) if leaves else bytes(32))


def test_outcomes():
    for row in DATA["outcomes"]:
        assert raw(row["root"]) == H(row["name"].encode())
    assert [row["name"].rsplit(".")[-1] for row in DATA["jurorOutcomes"]] == [
        "unavailable",
        "malformed",
        "sound",
    ]
    for row in DATA["jurorOutcomes"]:
        assert raw(row["root"]) == H(row["name"].encode())
        assert raw(row["vote"]) == odd(H(words(row["root"], 0, 0)))
