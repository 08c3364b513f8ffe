"""Samples a registered checkpoint on a vLLM server that has its weights: for tiers A and B.

    vllm serve FOLDER --dtype float32 --logits-processors marketplace.miner.vllm_noise:TaskNoise

FOLDER is the checkpoint (`tracemarket model export ID FOLDER --to safetensors`). The server picks
tokens, and nothing else that it says is believed: where a completion ends is the market's rule,
log-probabilities are the checkpoint's own, from one pass here, and tokens that the task's seed
did not pick (tier A) end the sampling before anything is committed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

from marketplace.gym.endpoint import Endpoint, parsed
from marketplace.gym.packing import TokenGroup
from marketplace.gym.policy import Policy, completion_logprobs
from marketplace.gym.provenance import ReplayTolerance
from marketplace.gym.replay import SeededGroup, replay
from marketplace.miner.sampler import Completion, SamplingRules, prompt_tokens, written
from marketplace.protocol.errors import InvalidValue, SamplerError

_WHOLE_DISTRIBUTION: Final = {
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""Said with every request: vLLM takes what is left out from the model's generation_config."""

_OTHER_PASSES: Final = 1e-4
"""Nats by which a verifier's pass, of another shape or machine, may find another margin: more than
twice what was measured (docs/provenance.md). A trace that only some of them admit is a fault."""

Rows = tuple[tuple[int, ...], ...]


class _Choice(BaseModel):
    token_ids: list[Annotated[int, Field(ge=0)]] | None = None


class _Answer(BaseModel):
    choices: list[_Choice]


class VllmSampler:
    """A ReplayableSampler (see there). endpoint: the server's. policy: the checkpoint that it has.
    model: its name in traces. tolerance: of the environment, for tier A. in_flight: requests at a
    time; the server batches them."""

    def __init__(
        self,
        endpoint: Endpoint,
        policy: Policy,
        model: str,
        *,
        tolerance: ReplayTolerance | None = None,
        in_flight: int = 64,
    ) -> None:
        self.model = model
        self._endpoint = endpoint
        self._policy = policy
        self._tolerance = tolerance or ReplayTolerance()
        self._in_flight = in_flight

    def sample(
        self, prompts: Sequence[str], rules: SamplingRules, *, seed: int
    ) -> Iterator[tuple[Completion, ...]]:
        """See Sampler. One request for each prompt."""
        encoded = [prompt_tokens(self._policy, one, rules.max_tokens) for one in prompts]
        bodies = [
            [self._body(tokens, rules, rules.group_size) | _drawn(rules, seed, place)]
            for place, tokens in enumerate(encoded)
        ]
        for tokens, rows in zip(encoded, self._answers(bodies, rules), strict=True):
            (values,) = completion_logprobs(
                self._policy, [TokenGroup(tokens, rows)], rules.temperature
            )
            yield self._completions(rows, values, rules)

    def replay(
        self, prompts: Sequence[str], rules: SamplingRules, *, seeds: Sequence[bytes]
    ) -> Iterator[tuple[Completion, ...]]:
        """See ReplayableSampler. One request for each sample. SamplerError where the server took
        another token than the seed picks."""
        if len(seeds) != len(prompts):
            raise InvalidValue(f"{len(seeds)} task seeds for {len(prompts)} prompts")
        encoded = [prompt_tokens(self._policy, one, rules.max_tokens) for one in prompts]
        places = range(rules.group_size)
        bodies = [
            [self._body(tokens, rules, 1) | _picked(rules, seed, place) for place in places]
            for tokens, seed in zip(encoded, seeds, strict=True)
        ]
        answers = self._answers(bodies, rules)
        for prompt, tokens, seed, rows in zip(prompts, encoded, seeds, answers, strict=True):
            seeded = SeededGroup(TokenGroup(tokens, rows), seed, tuple(places))
            (found,) = replay(self._policy, [seeded], rules.temperature)
            for place, one in enumerate(found):
                if not self._tolerance.admits([m + _OTHER_PASSES for m in one.margins]):
                    raise SamplerError(
                        f"{self._endpoint.url} took tokens for sample {place} of {prompt[-60:]!r} "
                        f"that its task's seed did not pick: another was ahead by "
                        f"{max(one.margins):.3g} nats",
                        fix="serve this very checkpoint in float32 with --logits-processors "
                        "marketplace.miner.vllm_noise:TaskNoise (docs/provenance.md)",
                    )
            yield self._completions(rows, [one.logprobs for one in found], rules)

    def _body(self, tokens: Sequence[int], rules: SamplingRules, count: int) -> dict[str, Any]:
        return {
            "model": self._endpoint.model,
            "prompt": list(tokens),
            "n": count,
            "max_tokens": rules.max_tokens,
            "stop": list(rules.stop),
            "include_stop_str_in_output": True,
            "stop_token_ids": sorted(self._policy.codec.stop_ids),
            "return_token_ids": True,
            **_WHOLE_DISTRIBUTION,
        }

    def _answers(
        self, bodies: Sequence[Sequence[dict[str, Any]]], rules: SamplingRules
    ) -> Iterator[Rows]:
        """The completions of each prompt, in order, from the requests made for it."""
        pool = ThreadPoolExecutor(self._in_flight, thread_name_prefix="vllm")
        over = Event()
        try:
            asked: list[list[Future[Rows]]] = [
                [pool.submit(self._ask, body, rules, over) for body in some] for some in bodies
            ]
            for some in asked:
                yield tuple(row for one in some for row in one.result())
        finally:
            # Else each of the others would try again to its last try before the error is told.
            over.set()
            pool.shutdown(cancel_futures=True)

    def _ask(self, body: Mapping[str, Any], rules: SamplingRules, over: Event) -> Rows:
        response = self._endpoint.post("/completions", body, given_up=over.is_set)
        answer = parsed(response, _Answer, "completions")
        if len(answer.choices) != body["n"]:
            raise SamplerError(
                f"{self._endpoint.url} answered {body['n']} samples with {len(answer.choices)}",
                fix="sample with vLLM; other servers suit bounties of tier C",
            )
        return tuple(self._ended(choice, rules) for choice in answer.choices)

    def _ended(self, choice: _Choice, rules: SamplingRules) -> tuple[int, ...]:
        """The choice's tokens up to where the market's rule ends them."""
        if not choice.token_ids:
            raise SamplerError(
                f"{self._endpoint.url} gave no token ids",
                fix="sample with a vLLM that knows return_token_ids; other servers suit tier C",
            )
        codec, tokens = self._policy.codec, choice.token_ids[: rules.max_tokens]
        if max(tokens) >= codec.vocabulary:
            raise SamplerError(
                f"{self._endpoint.url} gave token {max(tokens)}, and {self.model} has "
                f"{codec.vocabulary}",
                fix="serve this very checkpoint",
            )
        for end in range(1, len(tokens) + 1):
            if codec.ends(tokens[:end], rules.stop):
                return tuple(tokens[:end])
        if len(tokens) < rules.max_tokens:
            raise SamplerError(
                f"{self._endpoint.url} ended a completion after {len(tokens)} tokens, neither at "
                f"a stop string nor at {rules.max_tokens} tokens",
                fix="serve it with a --max-model-len that holds prompt and completion",
            )
        return tuple(tokens)

    def _completions(
        self, rows: Rows, values: Sequence[Sequence[float]], rules: SamplingRules
    ) -> tuple[Completion, ...]:
        codec = self._policy.codec
        return tuple(
            Completion(
                codec.completion(tokens, rules.stop),
                tokens,
                tuple(map(written, logprobs)),
                "stop" if codec.ends(tokens, rules.stop) else "length",
            )
            for tokens, logprobs in zip(rows, values, strict=True)
        )


def _drawn(rules: SamplingRules, seed: int, place: int) -> dict[str, Any]:
    # A seed of its own for every prompt, else equal prompts would get equal completions.
    return {"temperature": rules.temperature, "seed": (seed * 1_000_003 + place * 4_099) % 2**31}


def _picked(rules: SamplingRules, seed: bytes, place: int) -> dict[str, Any]:
    return {
        "temperature": 0.0,
        "vllm_xargs": {
            "noise_seed": "0x" + seed.hex(),
            "noise_sample": place,
            "noise_temperature": rules.temperature,
        },
    }
