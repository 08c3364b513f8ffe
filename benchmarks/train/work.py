"""The same work for both sides: models, traces, and our step.

Traces are random tokens with random scores: what a step costs depends on their lengths alone.
Old log-probabilities are the model's own with noise, so that ratios differ from 1 and the losses
of both sides can be told apart from wrong ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from marketplace.gym.packing import TokenGroup, pack_groups, prefetched
from marketplace.gym.policy import Codec, Policy, completion_logprobs, pack_logprobs
from trainer.advantages import leave_one_out
from trainer.forward import training_forward

import torch  # isort: skip  (after the policy, which sets how its threads wait)

SMOLLM: Final = Path("build/models/smollm2-135m")
MODELS: Final = ("small", "middle", "smollm2-135m")
LOW: Final = 0.8
HIGH: Final = 1.28
RATE: Final = 1e-6
BETAS: Final = (0.9, 0.95)
MAX_NORM: Final = 1.0
TEMPERATURE: Final = 1.0


@dataclass(frozen=True, slots=True)
class Traces:
    """A group of completions of one prompt with advantages and old log-probabilities."""

    group: TokenGroup
    advantages: tuple[float, ...]
    old: tuple[tuple[float, ...], ...] = ()

    @property
    def tokens(self) -> int:
        return sum(map(len, self.group.completions))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step computed, to compare the sides by."""

    loss: float
    grad_norm: float


def load(name: str) -> Policy:
    """small: 4 layers of 256, 8,192 tokens. middle: 8 layers of 384, 16,384 tokens. Both random."""
    if name == "smollm2-135m":
        return Policy.load(SMOLLM)
    layers, width, vocabulary = {"small": (4, 256, 8_192), "middle": (8, 384, 16_384)}[name]
    return llama(
        layers=layers,
        width=width,
        inner=width * 8 // 3 // 32 * 32,
        heads=width // 64,
        key_heads=width // 128,
        vocabulary=vocabulary,
        context=4096,
    )


def llama(
    *,
    layers: int,
    width: int,
    inner: int,
    heads: int,
    key_heads: int,
    vocabulary: int,
    context: int,
    device: str | torch.device = "cpu",
) -> Policy:
    """A random model of such a shape, with the tokenizer of SmolLM."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
        pad_token_id=2,
        eos_token_id=2,
        bos_token_id=1,
    )
    with torch.device(device):
        model: Any = LlamaForCausalLM(config)
    # Never asked for a token that this model lacks: prompts are token ids.
    tokenizer = AutoTokenizer.from_pretrained(SMOLLM)
    return Policy(model.eval(), tokenizer, Codec(tokenizer, frozenset(), vocabulary), context)


def draw(
    policy: Policy, *, prompt: int, group: int, shortest: int, longest: int, seed: int = 0
) -> Traces:
    """A group with a prompt and completions of such lengths, tokens and scores drawn."""
    chance = random.Random(seed)
    vocabulary = policy.model.config.vocab_size

    def some(count: int) -> tuple[int, ...]:
        return tuple(chance.randrange(3, vocabulary) for _ in range(count))

    # Lengths spread evenly, so that every seed has the same padding.
    lengths = [shortest + (longest - shortest) * i // max(1, group - 1) for i in range(group)]
    made = TokenGroup(some(prompt), tuple(some(one) for one in lengths))
    scores = [float(i % 2) for i in range(group)]
    chance.shuffle(scores)
    return Traces(made, leave_one_out(scores))


def with_old(policy: Policy, traces: Traces, budget: int) -> Traces:
    """The traces with old log-probabilities: the model's own, off by about 0.2 nats."""
    chance = random.Random(1)
    (own,) = completion_logprobs(policy, [traces.group], TEMPERATURE, token_budget=budget)
    return replace(
        traces, old=tuple(tuple(one + chance.gauss(0, 0.2) for one in row) for row in own)
    )


class Ours:
    """Our optimizer step over token trees."""

    def __init__(self, policy: Policy, *, budget: int, recompute: bool = False) -> None:
        self.policy, self.budget, self.recompute = policy, budget, recompute
        self.parameters = list(policy.model.parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=RATE, betas=BETAS, weight_decay=0.0, fused=True
        )

    def step(self, traces: Traces) -> Outcome:
        self.policy.model.eval()
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        with training_forward(self.policy.model, recompute=self.recompute):
            for rows, old, advantages, logprobs in self._passes(traces):
                ratio = (logprobs[rows] - old).exp()
                gain = torch.minimum(ratio * advantages, ratio.clamp(LOW, HIGH) * advantages)
                loss = -gain.sum() / traces.tokens
                loss.backward()
                total += float(loss.detach())
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, MAX_NORM)
        self.optimizer.step()
        return Outcome(total, float(norm))

    def _passes(self, traces: Traces) -> Iterator[tuple[torch.Tensor, ...]]:
        for pack in prefetched(pack_groups([traces.group], self.budget)):
            logprobs = pack_logprobs(self.policy, pack, TEMPERATURE)
            rows = torch.cat([torch.from_numpy(span.rows) for span in pack.spans])
            old = torch.tensor([one for span in pack.spans for one in traces.old[span.completion]])
            advantages = torch.cat(
                [
                    torch.full((len(span.rows),), traces.advantages[span.completion])
                    for span in pack.spans
                ]
            )
            yield rows, old, advantages, logprobs


def packed_sizes(traces: Traces, budget: int) -> dict[str, int]:
    """What our step computes: nodes, rows of the head, pairs of attention."""
    packs = list(pack_groups([traces.group], budget))
    return {
        "packs": len(packs),
        "nodes": sum(len(one.tokens) for one in packs),
        "head_rows": sum(len({*one.parents[one.scored].tolist()}) for one in packs),
        "pairs": sum(block.mask.size for one in packs for block in one.blocks()),
    }
