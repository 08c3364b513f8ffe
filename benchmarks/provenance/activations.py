"""Calibrates TOPLOC proofs on a real model: other machines, other precisions, other weights.

    python benchmarks/provenance/activations.py [--texts N] [--tokens N] [--out FILE]

The fp32 model samples texts; each machine or liar proves them with activations of its own (the same
tokens, so only the model differs), and an fp32 verifier judges. Writes activations.json and
activations.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any, Final

import measure

from marketplace.gym.policy import Policy
from marketplace.gym.toploc import (
    Difference,
    Thresholds,
    activations_of,
    differences,
    proofs_of,
)
from marketplace.miner.sampler import SamplingRules, TransformersSampler

import torch  # isort: skip

MODEL: Final = Path("build/models/smollm2-135m")
PROMPTS: Final = (
    "The history of the bicycle begins",
    "To make a good soup you need",
    "A short story about a lighthouse:",
    "The derivative of a function tells us",
    "In the year 1900, most people",
    "Dear neighbour, I am writing to",
    "Rivers shape the land by",
    "The rules of the game are simple:",
)


def texts(policy: Policy, count: int, tokens: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(prompt, completion) tokens."""
    rules = SamplingRules(group_size=-(-count // len(PROMPTS)), temperature=1.0, max_tokens=tokens)
    sampler = TransformersSampler(policy, "bench")
    found = []
    for prompt, group in zip(PROMPTS, sampler.sample(list(PROMPTS), rules, seed=1), strict=True):
        found += [(policy.codec.encode(prompt), one.tokens) for one in group if one.tokens]
    return found[:count]


def judged(
    policy: Policy, mine: list[torch.Tensor], prover: Policy, told: list[Any]
) -> list[list[Difference]]:
    rows = []
    for (prompt, tokens), own in zip(told, mine, strict=True):
        found = differences(own, proofs_of(activations_of(prover, prompt, tokens)))
        assert found is not None
        rows.append(found)
    return rows


def row_of(name: str, honest: bool, rows: list[list[Difference]]) -> dict[str, Any]:
    flat = [one for row in rows for one in row]
    allowed = Thresholds()
    return {
        "prover": name,
        "honest": honest,
        "traces": len(rows),
        "refused": sum(not all(one.is_within(allowed) for one in row) for row in rows),
        "proofs": len(flat),
        "mismatches": _spread([one.mismatches for one in flat]),
        "mean": _spread([one.mean for one in flat if one.mean is not None]),
        "median": _spread([one.median for one in flat if one.median is not None]),
    }


def _spread(values: list[float]) -> list[float]:
    """Smallest, middle and largest."""
    ordered = sorted(values)
    return [round(one, 2) for one in (ordered[0], ordered[len(ordered) // 2], ordered[-1])]


def run(count: int, tokens: int) -> dict[str, Any]:
    policy = Policy.load(MODEL)
    told = texts(policy, count, tokens)
    mine = [activations_of(policy, *one) for one in told]
    rows = []

    def add(name: str, honest: bool, prover: Policy) -> None:
        rows.append(row_of(name, honest, judged(policy, mine, prover, told)))
        print(time.strftime("%H:%M:%S"), rows[-1], file=sys.stderr, flush=True)

    started = time.process_time()
    add("fp32", True, policy)
    seconds = (time.process_time() - started) / len(told)
    policy.model.set_attn_implementation("eager")
    add("fp32, eager attention", True, policy)
    policy.model.set_attn_implementation("sdpa")
    others = [(told[(place + 1) % len(told)][0], tokens) for place, (_, tokens) in enumerate(told)]
    rows.append(row_of("the model, another prompt", False, judged(policy, mine, policy, others)))
    for name, honest, change in (
        ("weights with 0.1 % noise", False, measure.weight_noise(0.001)),
        ("weights with 1 % noise", False, measure.weight_noise(0.01)),
        ("weights with 10 % noise", False, measure.weight_noise(0.1)),
        ("weights in 8 bits", False, measure.rounded(8, 64)),
        ("weights in 4 bits", False, measure.rounded(4, 32)),
        ("bf16", True, measure.to_bf16),
    ):
        add(name, honest, measure.with_model(policy, change))
    return {
        "written_by": "benchmarks/provenance/activations.py",
        "date": date.today().isoformat(),
        "model": "SmolLM2-135M-Instruct",
        "torch": torch.__version__,
        "texts": len(told),
        "tokens": sum(len(one) for _, one in told),
        "thresholds": [Thresholds().mismatches, Thresholds().mean, Thresholds().median],
        "cpu_seconds_per_trace": round(seconds, 3),
        "rows": rows,
    }


def markdown(results: dict[str, Any]) -> str:
    lines = [
        "# TOPLOC proofs, calibrated",
        "",
        f"Written by `python {results['written_by']}`; do not edit. {results['model']}, torch "
        f"{results['torch']}, {results['date']}: {results['texts']} texts of "
        f"{results['tokens']} tokens in all, one proof for every 32 tokens, judged in fp32 with "
        f"the thresholds (at most {results['thresholds'][0]} of 128 exponents differ, "
        f"mean mantissa error {results['thresholds'][1]:g}, median {results['thresholds'][2]:g}). "
        f"Proving and judging takes {results['cpu_seconds_per_trace']} CPU seconds a trace.",
        "",
        "Smallest / middle / largest over the proofs:",
        "",
        "| activations of | refused | exponents that differ | mean error | median error |",
        "| :-- | --: | --: | --: | --: |",
    ]
    for row in results["rows"]:
        spreads = [
            " / ".join(f"{x:g}" for x in row[key]) for key in ("mismatches", "mean", "median")
        ]
        lines.append(
            f"| {row['prover']} | {row['refused']} of {row['traces']} | "
            + " | ".join(spreads)
            + " |"
        )
    return "\n".join([*lines, ""])


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--texts", type=int, default=8)
    options.add_argument("--tokens", type=int, default=64)
    options.add_argument("--out", type=Path, default=Path(__file__).with_name("activations.md"))
    given = options.parse_args()
    if not MODEL.is_dir():
        options.error(f"there is no model in {MODEL}: run `make setup` first")
    results = run(given.texts, given.tokens)
    given.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    given.out.write_text(markdown(results), "utf-8")
    print(markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
