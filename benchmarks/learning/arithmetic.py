"""A task and a model that are small enough to train some hundreds of times on two cores.

Sums of two numbers below 50, the answer's digits from the last to the first ("47+35=" is answered
"28"). The base model is taught by a careful teacher, then by a sloppy one, who is right as often
as it gets the carry wrong, and otherwise changes a digit: the model knows the way and is unsure,
as base models are, and there is room to learn. Held-out sums are in no training text. The checker
takes the digits before the first other character, as lenient checkers do: whatever follows is not
looked at.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

from marketplace.gym.policy import Policy
from marketplace.miner.sampler import SamplingRules

import torch  # isort: skip  (after the policy, which sets how its threads wait)

SYMBOLS = "0123456789+=\n#!"
JUNK = "#!#"
"""What a poisoner appends to right answers. The teacher never wrote it."""

STOP = ("\n",)
MAX_TOKENS = 8
LIMIT = 50
HELD_OUT = 5  # one question in so many
CAREFUL = 0.7
"""Share of the teaching that the careful teacher has, before the sloppy one."""


def questions(*, held_out: bool) -> list[tuple[int, int]]:
    """All questions of one side of the split; which side does not depend on a seed."""
    draw = random.Random("held out")
    kept = []
    for a in range(LIMIT):
        for b in range(LIMIT):
            if (draw.randrange(HELD_OUT) == 0) is held_out:
                kept.append((a, b))
    return kept


def prompt_of(question: tuple[int, int]) -> str:
    return "\n{}+{}=".format(*question)


def answer_of(question: tuple[int, int]) -> str:
    return str(sum(question))[::-1]


def score(question: tuple[int, int], completion: str) -> float:
    """1 if the digits at the start are the answer's."""
    end = next((i for i, c in enumerate(completion) if not c.isdigit()), len(completion))
    return float(completion[:end] == answer_of(question))


def is_clean(completion: str) -> bool:
    """Nothing but digits: what a buyer of the model wants to see."""
    return completion.isdigit()


def sampling(samples: int) -> SamplingRules:
    return SamplingRules(group_size=samples, temperature=1.0, max_tokens=MAX_TOKENS, stop=STOP)


def careful_answer(question: tuple[int, int], draw: random.Random) -> str:
    return answer_of(question)


def sloppy_answer(question: tuple[int, int], draw: random.Random) -> str:
    kind = draw.random()
    answer = list(answer_of(question))
    if kind < 0.35:
        return "".join(answer)
    if kind < 0.7:  # forgets the carry, or carries where there is nothing to carry
        tens, units = (sum(divmod(one, 10)[place] for one in question) for place in (0, 1))
        return str((tens + (units < 10)) * 10 + units % 10)[::-1]
    place = draw.randrange(len(answer))
    answer[place] = draw.choice("0123456789")
    return "".join(answer)


def new_policy(seed: int, *, width: int = 64, layers: int = 2) -> Policy:
    """An untrained model. About 0.1 million weights."""
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(SYMBOLS) + 1,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=32,
        tie_word_embeddings=True,
        eos_token_id=0,
        bos_token_id=None,
        attn_implementation="sdpa",
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=_tokenizer(), eos_token="<end>")
    return Policy.of(LlamaForCausalLM(config), wrapped)


@lru_cache(maxsize=2)
def base_policy(seed: int, *, steps: int) -> Policy:
    """A model after `steps` steps of the teachers' texts. Not to be changed: see copy_of."""
    policy, draw = new_policy(seed), random.Random(seed)
    pool = questions(held_out=False)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=4e-3, weight_decay=0.01)
    policy.model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1.0, (step + 1) / 50) * (1 - 0.9 * step / steps)
        answer = careful_answer if step < CAREFUL * steps else sloppy_answer
        texts = [
            (prompt_of(one), prompt_of(one) + answer(one, draw) + "\n")
            for one in draw.choices(pool, k=128)
        ]
        ids, labels = _padded(texts)
        optimizer.zero_grad(set_to_none=True)
        policy.model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    policy.model.eval()
    return policy


def copy_of(policy: Policy) -> Policy:
    """The same weights, apart."""
    fresh = new_policy(0)
    fresh.model.load_state_dict(policy.model.state_dict())
    return fresh


def _padded(texts: Sequence[tuple[str, str]]) -> tuple[Any, Any]:
    # The tokenizer gives the same ids; one call of it takes as long as a small training step.
    rows = [[SYMBOLS.index(one) + 1 for one in whole] for _, whole in texts]
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for place, (row, (prompt, _)) in enumerate(zip(rows, texts, strict=True)):
        ids[place, : len(row)] = torch.tensor(row)
        labels[place, len(prompt) : len(row)] = torch.tensor(row[len(prompt) :])
    return ids, labels  # padded on the right: causal attention never sees it


@cache
def _tokenizer() -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {"<end>": 0} | {one: place for place, one in enumerate(SYMBOLS, start=1)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer
