"""Memory of a verifier over a million traces, batch after batch.

    python benchmarks/check/flat_memory.py [--traces N] [--batch N] [--json FILE]

Each batch is packed as a file, opened, checked (originality and verdict tree included) and dropped.
Prints resident memory of the verifier and of its workers and runners at several marks.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import psutil

from marketplace.gym.checking import check_batch, open_batch
from marketplace.gym.environment import Environment
from marketplace.gym.pool import CheckPool
from marketplace.gym.spec import EnvironmentSpec
from marketplace.protocol import batch_file, merkle
from marketplace.protocol.batch_terms import BatchTerms
from marketplace.protocol.payout import PayRule
from marketplace.protocol.trace import Tier, Trace, encode_line

MARKS: Final = (10_000, 50_000, 100_000, 500_000, 1_000_000)
GROUP: Final = 8
MIB: Final = 1 << 20


def tiny_spec() -> EnvironmentSpec:
    return EnvironmentSpec.model_validate(
        {
            "v": 1,
            "name": "tiny",
            "source": {"kind": "math_answer", "families": ("linear",), "largest": 1000},
            "scoring": {"kind": "exact"},
            "limits": {"seconds": 1.0, "memory_mb": 128, "max_chars": 200},
        }
    )


def terms_of(number: int, first_task: int) -> BatchTerms:
    return BatchTerms(
        chain_id=1,
        market="0x" + "11" * 20,
        batch=number,
        bounty=1,
        miner="0x" + "22" * 20,
        environment=bytes(32),
        assignment_seed=b"\x05" * 32,
        first_task=first_task,
        group_size=GROUP,
        tier=Tier.C,
        pay_rule=PayRule.CORRECT,
    )


def lines_of(environment: Environment, terms: BatchTerms, count: int) -> list[bytes]:
    """Whole groups: right and wrong answers in turn, all different."""
    lines = []
    for place in range(count):
        group, sample = divmod(place, GROUP)
        if sample == 0:
            task = environment.task(terms.seed(terms.first_task + group))
        lines.append(
            encode_line(
                Trace(
                    task=terms.first_task + group,
                    sample=sample,
                    prompt=task.prompt,
                    completion=task.answer if sample == 0 else f"{place}.{sample}",
                    tokens=None,
                    logprobs=None,
                    finish="stop",
                    checkpoint=None,
                    model="tiny",
                    temperature=1.0,
                    max_tokens=16,
                    claimed_score=None,
                )
            )
        )
    return lines


def measure(
    traces: int, batch: int, marks: Sequence[int], workers: int = 1
) -> Iterator[dict[str, Any]]:
    """Resident bytes at the first batch's end after each mark."""
    spec = tiny_spec()
    environment = Environment(spec)
    own = psutil.Process()
    done = number = 0
    left = [mark for mark in marks if mark <= traces]
    started = time.perf_counter()
    with CheckPool(workers) as pool:
        while left:
            number += 1
            terms = terms_of(number, done // GROUP)
            data, root = _packed(environment, terms, batch)
            lines = open_batch(data, count=batch, root=root, terms=terms)
            check = check_batch(lines, spec=spec, terms=terms, pool=pool)
            assert check.attestation.units == batch // GROUP
            del data, lines, check
            done += batch
            if done >= left[0]:
                left.pop(0)
                children = own.children(recursive=True)
                yield {
                    "traces": done,
                    "verifier_bytes": own.memory_info().rss,
                    "verifier_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
                    "workers_bytes": sum(one.memory_info().rss for one in children),
                    "seconds": round(time.perf_counter() - started, 1),
                }


def _packed(environment: Environment, terms: BatchTerms, count: int) -> tuple[bytes, bytes]:
    lines = lines_of(environment, terms, count)
    tree = merkle.batch_tree(terms.chain_id, terms.market, terms.bounty, terms.miner, lines)
    return batch_file.pack(lines), tree.root


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--traces", type=int, default=MARKS[-1])
    options.add_argument("--batch", type=int, default=1000)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    found = []
    for one in measure(given.traces, given.batch, MARKS):
        found.append(one)
        print(
            f"{one['traces']:>9,} traces: verifier {one['verifier_bytes'] / MIB:.1f} MiB (peak "
            f"{one['verifier_peak_bytes'] / MIB:.1f}), workers and runners "
            f"{one['workers_bytes'] / MIB:.1f} MiB, {one['seconds']} s",
            flush=True,
        )
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
