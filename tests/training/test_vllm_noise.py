"""The logits processor for vLLM, driven as vLLM drives it; with vLLM where it is installed."""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace

import pytest

from marketplace.miner.sampler import SamplingRules, TransformersSampler
from marketplace.miner.vllm_noise import NoiseRequest, TaskNoise
from marketplace.protocol.hashing import keccak

import torch  # isort: skip

SEED = keccak(b"task")


class Direction(Enum):
    UNIDIRECTIONAL = 0
    SWAP = 1


def _params(sample=None, temperature=0.8, **change):
    arguments = None
    if sample is not None:
        arguments = {
            "noise_seed": "0x" + SEED.hex(),
            "noise_sample": sample,
            "noise_temperature": temperature,
        } | change
    return SimpleNamespace(extra_args=arguments, temperature=0.0)


def _update(removed=(), added=(), moved=()):
    return SimpleNamespace(removed=removed, added=added, moved=moved, batch_size=4)


def _processor():
    return TaskNoise(None, torch.device("cpu"), False)


def test_greedy_decoding_with_it_is_replayable_sampling(policy):
    """Requests join late, change places and leave: the tokens are the sampler's."""
    rules = SamplingRules(group_size=4, temperature=0.8, max_tokens=9, stop=("\n",))
    (group,) = TransformersSampler(policy, "tiny").replay(["1 + 2 = "], rules, seeds=[SEED])
    prompt = list(policy.codec.encode("1 + 2 = "))
    processor = _processor()
    outputs = {sample: [] for sample in range(4)}
    # Two requests at first; row 1 is somebody else's, which the noise must not touch.
    batch = [0, None, 1]
    processor.update_state(
        _update(added=[(0, _params(0), prompt, outputs[0]), (1, _params(), prompt, []),
                       (2, _params(1), prompt, outputs[1])])
    )  # fmt: skip
    for step in range(40):
        rows = [prompt + (outputs[one] if one is not None else []) for one in batch]
        with torch.no_grad():
            logits = torch.stack(
                [policy.model(input_ids=torch.tensor([row])).logits[0, -1] for row in rows]
            )
        plain = logits.clone()
        tokens = processor.apply(logits).argmax(dim=-1).tolist()
        for row, one in enumerate(batch):
            if one is None:
                assert tokens[row] == int(plain[row].argmax())
            else:
                outputs[one].append(tokens[row])
        if step == 1:  # two more; the stranger leaves, the last one takes its row
            processor.update_state(
                _update(
                    removed=[1],
                    added=[
                        (3, _params(2), prompt, outputs[2]),
                        (4, _params(3), prompt, outputs[3]),
                    ],
                    moved=[(4, 1, Direction.UNIDIRECTIONAL)],
                )
            )
            batch = [0, 3, 1, 2]
        elif step == 2:
            processor.update_state(_update(moved=[(0, 3, Direction.SWAP)]))
            batch = [2, 3, 1, 0]
        else:
            processor.update_state(None)
        done = [
            row
            for row, one in enumerate(batch)
            if one is not None
            and policy.codec.finish(outputs[one], rules.stop, rules.max_tokens) is not None
        ]
        if step > 2:
            for row in sorted(done, reverse=True):
                last = len(batch) - 1
                moved = [] if row == last else [(last, row, Direction.UNIDIRECTIONAL)]
                processor.update_state(_update(removed=[row], moved=moved))
                batch[row] = batch[last]
                batch.pop()
        if not batch:
            break
    for sample, completion in enumerate(group):
        # The loop above lets a request run on for the first steps, as vLLM's does not.
        assert tuple(outputs[sample][: len(completion.tokens)]) == completion.tokens
    assert not batch


def test_without_requests_logits_are_left_alone():
    logits = torch.zeros(2, 5)
    processor = _processor()
    assert processor.apply(logits) is logits
    processor.update_state(_update(added=[(0, _params(), [1], [])]))
    assert processor.apply(logits) is logits
    assert not processor.is_argmax_invariant()


def test_noise_has_room_only_in_fp32():
    processor = _processor()
    processor.update_state(_update(added=[(0, _params(0), [1], [])]))
    assert processor.apply(torch.zeros(1, 5, dtype=torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"noise_seed": "0x12"}, "64 hex digits"),
        ({"noise_seed": "zz" * 32}, "64 hex digits"),
        ({"noise_sample": -1}, "noise_sample is -1"),
        ({"noise_sample": "1"}, "not an integer"),
        ({"noise_temperature": 0}, "not a positive number"),
        ({"noise_temperature": "warm"}, "not a positive number"),
    ],
)
def test_arguments_that_make_no_sense(change, words):
    with pytest.raises(ValueError, match=words):
        TaskNoise.validate_params(_params(0, **change))


def test_half_of_the_arguments_or_a_temperature_is_refused():
    params = _params(0)
    del params.extra_args["noise_sample"]
    with pytest.raises(ValueError, match="noise_sample"):
        TaskNoise.validate_params(params)
    warm = _params(0)
    warm.temperature = 0.8
    with pytest.raises(ValueError, match="temperature 0"):
        TaskNoise.validate_params(warm)
    TaskNoise.validate_params(_params())
    assert NoiseRequest.of({"other": 1}, []) is None


def test_vllm_takes_it_as_a_logits_processor():
    interface = pytest.importorskip(
        "vllm.v1.sample.logits_processor", reason="vLLM is not installed here"
    )
    assert issubclass(TaskNoise, interface.LogitsProcessor)
    builder = interface.BatchUpdateBuilder()
    output: list[int] = []
    builder.added.append((0, _params(0), [1], output))
    processor = _processor()
    processor.update_state(builder.get_and_reset(1))
    first = processor.apply(torch.zeros(1, 64))
    output.append(3)
    assert not torch.equal(first, processor.apply(torch.zeros(1, 64)))
