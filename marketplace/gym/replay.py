"""Replays sampled completions: by how much does the token that the noise picks beat the others?

One teacher-forced pass over token trees (packing.py). A prefix that completions share is
computed once, but each completion has noise of its own at every position. The margin of a
token is

    max over other tokens of (logit / T + noise)  -  (logit / T + noise) of the token itself

in fp32: at most 0 if it is what argmax(logit / T + noise) picks, ties included, and otherwise by
how much it lost. Rows of logits exist for one pack at a time (a long chain: one segment), and
noise for a few rows. Last tokens, after which nothing is asked, are not read at all.

Noise is 5 % of the work on a CPU, and two thirds of that is the generator itself, which skips
nothing: leaving out the tokens that can't win would save 1 or 2 %. Needs the extra [verify].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from marketplace.gym.noise import gumbel_rows
from marketplace.gym.packing import TOKEN_BUDGET, Pack, TokenGroup, pack_groups
from marketplace.gym.policy import Policy, reading
from marketplace.protocol.seeds import noise_key

import torch  # isort: skip  (after the policy, which sets how its threads wait)

NOISE_ROWS: Final = 32
"""Rows of noise held at the same time: 6 MB at 49,152 tokens."""


@dataclass(frozen=True, slots=True)
class SeededGroup:
    """Completions of one task. seed: bytes32 of the task. samples: the place of each in its
    group, which with the seed fixes its noise."""

    tokens: TokenGroup
    seed: bytes
    samples: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Replayed:
    """One value for each token of a completion: log-probability at T, margin in nats."""

    logprobs: tuple[float, ...]
    margins: tuple[float, ...]


@torch.no_grad()
def replay(
    policy: Policy,
    groups: Sequence[SeededGroup],
    temperature: float,
    *,
    token_budget: int = TOKEN_BUDGET,
) -> list[list[Replayed]]:
    """Per group, per completion: what the policy and the seed say of its tokens."""
    found = [[Replayed((), ())] * len(group.samples) for group in groups]
    for pack in pack_groups([group.tokens for group in groups], token_budget):
        trunk, inner = pack.trunk()
        predictors = np.unique(pack.parents[pack.scored])
        places = [
            (span, position, int(node))
            for span in pack.spans
            for position, node in enumerate(pack.scored[span.rows])
        ]
        rows = np.searchsorted(predictors, pack.parents[[node for *_, node in places]])
        values = np.empty((2, len(places)), np.float32)
        for first, logits in _predictions(policy, trunk, inner[predictors], token_budget):
            scaled = logits / temperature
            norms = torch.logsumexp(scaled, dim=-1)
            inside = np.flatnonzero((rows >= first) & (rows < first + len(scaled)))
            for chunk in np.array_split(inside, range(NOISE_ROWS, len(inside), NOISE_ROWS)):
                if not len(chunk):
                    continue
                keys = [
                    noise_key(
                        groups[span.group].seed,
                        groups[span.group].samples[span.completion],
                        position,
                    )
                    for span, position, _ in (places[one] for one in chunk)
                ]
                targets = pack.tokens[[places[one][2] for one in chunk]]
                values[:, chunk] = _judged(scaled, norms, rows[chunk] - first, targets, keys)
        start = 0
        for span in pack.spans:
            logprobs, margins = values[:, start : start + len(span.rows)].tolist()
            found[span.group][span.completion] = Replayed(tuple(logprobs), tuple(margins))
            start += len(span.rows)
    return found


def _judged(
    scaled: torch.Tensor, norms: torch.Tensor, rows: Any, targets: Any, keys: Sequence[bytes]
) -> Any:
    """[2, n] log-probabilities and margins of the targets, each by one row of scaled logits.
    norms: logsumexp of each row."""
    device = scaled.device
    places = torch.from_numpy(rows).to(device)
    picked = scaled[places]
    chosen = torch.from_numpy(targets).to(device)[:, None]
    logprobs = picked.gather(1, chosen)[:, 0] - norms[places]
    picked += torch.from_numpy(gumbel_rows(keys, picked.shape[1])).to(device)
    own = picked.gather(1, chosen)[:, 0]
    picked.scatter_(1, chosen, -torch.inf)
    return torch.stack([logprobs, picked.amax(dim=-1) - own]).cpu().numpy()


def _predictions(
    policy: Policy, pack: Pack, predictors: Any, segment: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """fp32 logits after the predictors (nodes, ascending), some at a time, with the place of the
    first. Only a chain can be longer than the segment; it goes through a key-value cache."""
    device, count = policy.device, len(pack.tokens)
    if count <= segment or not pack.is_chain():
        with reading(policy, pack) as asked:
            output = policy.model(**asked, logits_to_keep=torch.from_numpy(predictors).to(device))
        yield 0, output.logits[0].float()
        return
    tokens = torch.from_numpy(pack.tokens)[None].to(device)
    positions = torch.from_numpy(pack.positions)[None].to(device)
    cache: Any = None
    for start in range(0, count, segment):
        end = min(start + segment, count)
        first, last = np.searchsorted(predictors, (start, end))
        # With nothing to predict in the segment the head still runs on one row.
        wanted = predictors[first:last] - start if last > first else np.zeros(1, np.int64)
        output = policy.model(
            input_ids=tokens[:, start:end],
            position_ids=positions[:, start:end],
            past_key_values=cache,
            logits_to_keep=torch.from_numpy(wanted).to(device),
            use_cache=True,
        )
        cache = output.past_key_values
        if last > first:
            yield int(first), output.logits[0].float()
