"""Answers as a vLLM server gives them, by the part of its interface that VllmSampler uses:
completions of token ids by a policy, with the logits processor that vLLM would load (served.py puts
them behind real HTTP). What it does not stand in for is vLLM's kernels: docs/provenance.md says
what was measured with them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from marketplace.gym.policy import Policy
from marketplace.miner.vllm_noise import TaskNoise

import torch  # isort: skip  (after the policy, which sets how its threads wait)


def vllm_like(
    policy: Policy, *, noise: bool = True, overrun: int = 1
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Answers as vLLM does. noise: whether the processor is loaded. overrun: tokens that it goes
    on behind a stop string, which it looks for in text that comes late."""
    # Weights of its own: the sampler reads with the policy's while the server's thread decodes.
    policy = replace(policy, model=copy.deepcopy(policy.model))

    @torch.no_grad()
    def sampled(body: dict[str, Any], place: int) -> list[int]:
        output: list[int] = []
        processor = TaskNoise(None, torch.device("cpu"), False)
        params = SimpleNamespace(extra_args=body.get("vllm_xargs"), temperature=0.0)
        if noise:
            processor.update_state(
                SimpleNamespace(removed=(), added=[(0, params, body["prompt"], output)], moved=())
            )
        chance = torch.Generator().manual_seed(body.get("seed", 0) + place)
        left = overrun
        while len(output) < body["max_tokens"]:
            ids = torch.tensor([[*body["prompt"], *output]])
            logits = processor.apply(policy.model(input_ids=ids).logits[:, -1].float())[0]
            if body["temperature"]:
                drawn = (logits / body["temperature"]).softmax(-1)
                token = int(torch.multinomial(drawn, 1, generator=chance))
            else:
                token = int(logits.argmax())
            output.append(token)
            if token in body["stop_token_ids"]:
                break
            text = policy.codec.completion(output, ())
            if any(one in text for one in body["stop"]):
                if not left:
                    break
                left -= 1
        return output

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        assert body["return_token_ids"]
        return {"choices": [{"token_ids": sampled(body, place)} for place in range(body["n"])]}

    return answer
