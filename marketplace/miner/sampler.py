"""Samples whole groups: G completions of each prompt, from a local model or anything like it.

`TransformersSampler` runs a policy folder in this process. What all prompts share (the
few-shot examples) is computed once, each prompt's rest once, and in every decoding step equal
beginnings of one group are one row of the batch, until they differ. It draws from
softmax(logits / temperature) over the whole vocabulary, without top-p or top-k, and records
the natural-log probability of every token drawn, so that a verifier can re-score it.

`sample` draws by a seed of the caller's. `replay` (tier A) takes the token with the largest
logit / temperature + noise, where the noise follows from the task's seed and the place in the
group (gym/noise.py): the same distribution, but nothing left to choose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, runtime_checkable

from marketplace.protocol.errors import InvalidValue, SamplerError
from marketplace.protocol.seeds import noise_key

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache

    from marketplace.gym.policy import Policy

BATCH_ROWS: Final = 512
"""Completions decoded at the same time: what memory for logits grows with."""

BATCH_TOKENS: Final = 32_768
"""Most tokens whose keys and values are held at the same time (one group may need more)."""

NOISE_ROWS: Final = 32
"""Rows of noise held at the same time."""

_DECIMALS = 6
"""Log-probabilities are written with so many: far finer than any tolerance, half the bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingRules:
    """How to sample. stop: a completion ends with the token that completes one of these."""

    group_size: int
    temperature: float
    max_tokens: int
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.group_size < 1 or self.max_tokens < 1:
            raise InvalidValue(
                f"group_size is {self.group_size} and max_tokens {self.max_tokens}: "
                "both must be at least 1"
            )
        if not math.isfinite(self.temperature) or self.temperature <= 0:
            raise InvalidValue(f"temperature is {self.temperature}, not a positive number")


@dataclass(frozen=True, slots=True)
class Completion:
    """One sample. text: cut at the stop string. tokens: ids, the stop token included, or None.

    logprobs: one per token, at the temperature sampled with, <= 0, or None if not known. toploc:
    proofs of the activations behind it, or None.
    """

    text: str
    tokens: tuple[int, ...] | None
    logprobs: tuple[float, ...] | None
    finish: Literal["stop", "length"]
    toploc: tuple[str, ...] | None = None


class Sampler(Protocol):
    """Anything that completes prompts. model: its name, as the traces will state it."""

    model: str

    def sample(
        self, prompts: Sequence[str], rules: SamplingRules, *, seed: int
    ) -> Iterator[tuple[Completion, ...]]:
        """The group of each prompt, in order, each as soon as it is there.

        Raises SamplerError if the model gives nothing usable.
        """
        ...


@runtime_checkable
class ReplayableSampler(Sampler, Protocol):
    """A sampler that leaves the choice of every token to the task's seed."""

    def replay(
        self, prompts: Sequence[str], rules: SamplingRules, *, seeds: Sequence[bytes]
    ) -> Iterator[tuple[Completion, ...]]:
        """As sample, with one task seed (bytes32) for each prompt."""
        ...


class TransformersSampler:
    """Samples from a policy in this process. Same seed, prompts and machine: same samples.

    toploc: also prove the activations behind every completion (gym/toploc.py), with one more pass
    over each.
    """

    def __init__(
        self,
        policy: Policy,
        model: str,
        *,
        batch_rows: int = BATCH_ROWS,
        batch_tokens: int = BATCH_TOKENS,
        toploc: bool = False,
    ) -> None:
        self.model = model
        self._toploc = toploc
        self._policy = policy
        self._batch_rows = batch_rows
        self._batch_tokens = batch_tokens

    def sample(
        self, prompts: Sequence[str], rules: SamplingRules, *, seed: int
    ) -> Iterator[tuple[Completion, ...]]:
        """See Sampler. Raises SamplerError for a prompt that leaves no room in the context."""
        import torch

        generator = torch.Generator(self._policy.device).manual_seed(seed)
        return self._groups(prompts, rules, None, _Chance(generator))

    def replay(
        self, prompts: Sequence[str], rules: SamplingRules, *, seeds: Sequence[bytes]
    ) -> Iterator[tuple[Completion, ...]]:
        """See ReplayableSampler. Raises as sample."""
        if len(seeds) != len(prompts):
            raise InvalidValue(f"{len(seeds)} task seeds for {len(prompts)} prompts")
        return self._groups(prompts, rules, seeds, _replayed)

    def _groups(
        self,
        prompts: Sequence[str],
        rules: SamplingRules,
        seeds: Sequence[bytes] | None,
        choose: _Choice,
    ) -> Iterator[tuple[Completion, ...]]:
        import torch

        encoded = [prompt_tokens(self._policy, prompt, rules.max_tokens) for prompt in prompts]
        if not encoded:
            return
        shared = _common_prefix(encoded)
        with torch.inference_mode():
            prefix = self._prefix_cache(encoded[0][:shared])
        widest = max(map(len, encoded)) + rules.max_tokens
        size = max(1, min(self._batch_rows, self._batch_tokens // widest) // rules.group_size)
        for start in range(0, len(encoded), size):
            rests = [tokens[shared:] for tokens in encoded[start : start + size]]
            own = [b""] * len(rests) if seeds is None else seeds[start : start + size]
            with torch.inference_mode():  # not across a yield: the caller may train meanwhile
                groups = _Decoding(self._policy, rules, choose, prefix, shared, rests, own).run()
            for prompt, group in zip(encoded[start : start + size], groups, strict=True):
                yield self._proven(prompt, group) if self._toploc else group

    def _proven(
        self, prompt: tuple[int, ...], group: tuple[Completion, ...]
    ) -> tuple[Completion, ...]:
        from marketplace.gym.toploc import activations_of, proofs_of

        return tuple(
            replace(one, toploc=proofs_of(activations_of(self._policy, prompt, one.tokens or ())))
            for one in group
        )

    def _prefix_cache(self, tokens: Sequence[int]) -> DynamicCache | None:
        import torch

        if not tokens:
            return None
        inputs = torch.tensor([tokens], device=self._policy.device)
        output = self._policy.model(input_ids=inputs, use_cache=True, logits_to_keep=1)
        return output.past_key_values


@dataclass(slots=True)
class _Sample:
    """A completion in the making. row: its row of the current batch. seed, place: of its task
    (b"" where nothing depends on it), in its group."""

    row: int
    seed: bytes
    place: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: Literal["stop", "length"] = "length"


_Choice = Callable[["torch.Tensor", list[_Sample]], tuple[list[int], list[float]]]
"""From [rows, vocabulary] log-probabilities: one token for each sample, and its log-probability."""


class _Decoding:
    """One batch of groups, decoded together.

    prefix: cache of the `shared` tokens that all prompts begin with, one row. rests: what each
    prompt adds (at least one token); padded on the left, so that all of them end in one column.
    seeds: one for each prompt.
    """

    def __init__(
        self,
        policy: Policy,
        rules: SamplingRules,
        choose: _Choice,
        prefix: DynamicCache | None,
        shared: int,
        rests: Sequence[tuple[int, ...]],
        seeds: Sequence[bytes],
    ) -> None:
        self._policy, self._rules, self._choose = policy, rules, choose
        self._prefix, self._shared, self._rests = prefix, shared, rests
        self._seeds = seeds

    def run(self) -> list[tuple[Completion, ...]]:
        """The groups of the batch, in order."""
        samples = [
            [_Sample(row, seed, place) for place in range(self._rules.group_size)]
            for row, seed in enumerate(self._seeds)
        ]
        live = [sample for group in samples for sample in group]
        logprobs = self._read_prompts()
        while True:
            branches = self._draw(live, logprobs)
            live = [sample for sample in live if sample.row >= 0]
            if not live:
                return [tuple(map(self._completion, group)) for group in samples]
            logprobs = self._step(branches)

    def _read_prompts(self) -> torch.Tensor:
        """[groups, vocabulary] log-probabilities of the first token of each group."""
        import torch
        from transformers import DynamicCache

        count, width = len(self._rests), max(map(len, self._rests))
        inputs = torch.zeros((count, width), dtype=torch.long)
        self._mask = torch.ones((count, self._shared + width), dtype=torch.long)
        for row, rest in enumerate(self._rests):
            inputs[row, width - len(rest) :] = torch.tensor(rest)
            self._mask[row, self._shared : self._shared + width - len(rest)] = 0
        positions = (self._mask.cumsum(1) - 1).clamp_min(0)
        self._next_position = self._mask.sum(1)
        self._cache = DynamicCache(config=self._policy.model.config)
        for index, layer in enumerate(self._prefix.layers if self._prefix else ()):
            # Policies have full attention only (Policy.of), so every layer has keys and values.
            parts: Any = layer
            keys, values = (part.expand(count, -1, -1, -1) for part in (parts.keys, parts.values))
            self._cache.update(keys, values, index)
        return self._forward(inputs, positions[:, self._shared :])

    def _draw(self, live: list[_Sample], logprobs: torch.Tensor) -> list[tuple[int, int]]:
        """One token for each live sample. Those that end get row -1, the others their new row.

        Returns for each new row the row it continues and the token it adds.
        """
        drawn, values = self._choose(logprobs, live)
        branches: dict[tuple[int, int], int] = {}
        for sample, token, value in zip(live, drawn, values, strict=True):
            sample.tokens.append(token)
            sample.logprobs.append(written(value))
            if self._policy.codec.ends(sample.tokens, self._rules.stop):
                sample.finish, sample.row = "stop", -1
            elif len(sample.tokens) == self._rules.max_tokens:
                sample.row = -1
            else:
                sample.row = branches.setdefault((sample.row, token), len(branches))
        return list(branches)

    def _step(self, branches: list[tuple[int, int]]) -> torch.Tensor:
        """[branches, vocabulary] log-probabilities of the token after each branch."""
        import torch

        sources = torch.tensor([row for row, _ in branches])
        inputs = torch.tensor([[token] for _, token in branches])
        if not torch.equal(sources, torch.arange(len(self._mask))):
            self._cache.batch_select_indices(sources.to(self._policy.device))
            self._mask, self._next_position = self._mask[sources], self._next_position[sources]
        grown = torch.ones((len(branches), 1), dtype=torch.long)
        self._mask = torch.cat([self._mask, grown], dim=1)
        positions = self._next_position[:, None]
        self._next_position = self._next_position + 1
        return self._forward(inputs, positions)

    def _forward(self, inputs: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        device = self._policy.device
        output = self._policy.model(
            input_ids=inputs.to(device),
            attention_mask=self._mask.to(device),
            position_ids=positions.to(device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return (output.logits[:, -1].float() / self._rules.temperature).log_softmax(dim=-1)

    def _completion(self, sample: _Sample) -> Completion:
        text = self._policy.codec.completion(sample.tokens, self._rules.stop)
        return Completion(text, tuple(sample.tokens), tuple(sample.logprobs), sample.finish)


class _Chance:
    """Draws by a generator: by inverting the cumulative distribution (in fp64, so that no token
    of a large vocabulary is rounded away), once per row however many samples it has. Several
    times faster than multinomial."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def __call__(
        self, logprobs: torch.Tensor, samples: list[_Sample]
    ) -> tuple[list[int], list[float]]:
        import torch

        cumulative = logprobs.double().exp().cumsum(dim=-1)
        index = torch.tensor([sample.row for sample in samples], device=logprobs.device)
        chance = torch.rand(
            len(samples), generator=self._generator, dtype=torch.float64, device=index.device
        )
        # searchsorted wants a rectangle: the samples of a row side by side, the rest unused.
        seen = [0] * len(logprobs)
        columns = []
        for sample in samples:
            columns.append(seen[sample.row])
            seen[sample.row] += 1
        wanted = torch.zeros((len(logprobs), max(seen)), dtype=torch.float64, device=index.device)
        place = torch.tensor(columns, device=index.device)
        wanted[index, place] = chance * cumulative[index, -1]
        # right=True: the first token whose cumulative probability exceeds the draw.
        drawn = torch.searchsorted(cumulative, wanted, right=True)[index, place]
        return drawn.tolist(), logprobs[index, drawn].tolist()


def _replayed(logprobs: torch.Tensor, samples: list[_Sample]) -> tuple[list[int], list[float]]:
    """Takes the largest log-probability + noise, which is the largest logit / T + noise; of equal
    ones the smallest token id."""
    import torch

    from marketplace.gym.noise import gumbel_rows

    tokens: list[int] = []
    values: list[float] = []
    for start in range(0, len(samples), NOISE_ROWS):
        some = samples[start : start + NOISE_ROWS]
        keys = [noise_key(sample.seed, sample.place, len(sample.tokens)) for sample in some]
        noise = torch.from_numpy(gumbel_rows(keys, logprobs.shape[1])).to(logprobs.device)
        rows = logprobs[torch.tensor([sample.row for sample in some], device=logprobs.device)]
        taken = (noise + rows).argmax(dim=-1)  # torch: the first of equal maxima
        tokens += taken.tolist()
        values += rows.gather(1, taken[:, None])[:, 0].tolist()
    return tokens, values


def prompt_tokens(policy: Policy, prompt: str, max_tokens: int) -> tuple[int, ...]:
    """The prompt's tokens. SamplerError if there is none, or no room behind them."""
    tokens = policy.codec.encode(prompt)
    if not tokens:
        raise SamplerError(f"prompt {prompt!r} has no token", fix="give a prompt with text")
    if len(tokens) + max_tokens > policy.context:
        raise SamplerError(
            f"a prompt of {len(tokens)} tokens and {max_tokens} new ones do not fit into the "
            f"model's context of {policy.context}",
            fix="use a model with a longer context, or another environment",
        )
    return tokens


def written(logprob: float) -> float:
    """A log-probability as traces state it."""
    return min(round(logprob, _DECIMALS), 0.0)


def _common_prefix(sequences: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all sequences begin with, leaving each at least one of its own."""
    low, high = min(sequences), max(sequences)
    most = min(map(len, sequences)) - 1
    return next((i for i in range(most) if low[i] != high[i]), most)
