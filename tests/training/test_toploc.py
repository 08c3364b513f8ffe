"""TOPLOC proofs: honest ones hold, in bfloat16 too; those of another checkpoint or text don't."""

from __future__ import annotations

import base64
import importlib.machinery
import importlib.util
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from marketplace.gym import toploc
from marketplace.gym.checking import GroupToScore
from marketplace.gym.provenance import OffPolicyScorer
from marketplace.gym.spec import SamplingSpec
from marketplace.gym.toploc import activations_of, differences, is_admitted, proofs_of
from marketplace.miner.sampler import SamplingRules, TransformersSampler
from marketplace.protocol.errors import MalformedTrace
from marketplace.protocol.trace import Trace, decode_line, encode_line

SAMPLING = SamplingSpec(temperature=0.9, max_tokens=40)
RULES = SamplingRules(group_size=3, temperature=0.9, max_tokens=40)
PROMPT = "1 + 2 = "


@pytest.fixture
def group(policy):
    (found,) = TransformersSampler(policy, "tiny", toploc=True).sample([PROMPT], RULES, seed=5)
    return tuple(
        Trace(
            task=1,
            sample=place,
            prompt=PROMPT,
            completion=one.text,
            tokens=one.tokens,
            logprobs=one.logprobs,
            finish=one.finish,
            checkpoint=7,
            model="tiny",
            temperature=0.9,
            max_tokens=40,
            claimed_score=None,
            toploc=one.toploc,
        )
        for place, one in enumerate(found)
    )


def judged(policy, *traces: Trace) -> list[bool]:
    scorer = OffPolicyScorer(lambda _: policy, SAMPLING)
    return scorer.off_policy(7, [GroupToScore(PROMPT, traces)])


def test_honest_proofs_hold_and_travel(policy, group) -> None:
    assert all(len(one.toploc) == -(-len(one.tokens) // 32) for one in group)
    assert any(len(one.toploc) == 2 for one in group)
    assert judged(policy, *(decode_line(encode_line(one)) for one in group)) == [False] * 3
    bare = replace(group[0], toploc=None)
    assert b"toploc" not in encode_line(bare)
    assert judged(policy, bare) == [False]  # log-probabilities alone decide


def test_false_proofs_are_off_policy_though_the_log_probabilities_are_true(
    policy, make_policy, group
) -> None:
    one, other, _ = group
    tokens = policy.codec.encode(PROMPT)
    strange = proofs_of(activations_of(make_policy(1), tokens, one.tokens))
    garbage = tuple(
        base64.b64encode(struct.pack(">129H", 65_000, *range(128))).decode() for _ in one.toploc
    )
    short = tuple(base64.b64encode(b"\x00\x07\x00\x01").decode() for _ in one.toploc)
    null = tuple(base64.b64encode(bytes(258)).decode() for _ in one.toploc)
    for proofs in (strange, garbage, short, null):
        assert judged(policy, replace(one, toploc=proofs), other) == [True, False]


def test_a_changed_number_breaks_a_proof(policy, group) -> None:
    numbers = list(struct.unpack(">129H", base64.b64decode(group[0].toploc[0])))
    numbers[5] = (numbers[5] + 1) % toploc.PRIME
    forged = base64.b64encode(struct.pack(">129H", *numbers)).decode()
    assert judged(policy, replace(group[0], toploc=(forged, *group[0].toploc[1:]))) == [True]


def far_activations(changed: dict[int, int]) -> torch.Tensor:
    """[2, 128] of which 128 are large, each of another size; the bits of those in changed are moved
    by so much. Bits of bfloat16: a sign, 8 of the exponent, 7 of the mantissa."""
    bits = torch.zeros(256, dtype=torch.int16)
    for place in range(128):
        bits[2 * place] = 0x4000 + 128 * (place // 32) + 2 * (place % 32) + changed.get(place, 0)
    return bits.view(torch.bfloat16).view(2, 128)


OTHER_EXPONENT = 1024
"""Bits: eight exponents up, the same mantissa."""


@pytest.mark.parametrize(
    ("changed", "found", "admitted"),
    [
        ({}, (0, 0, 0), True),
        ({place: OTHER_EXPONENT for place in range(38)}, (38, 0, 0), True),
        ({place: OTHER_EXPONENT for place in range(39)}, (39, 0, 0), False),
        ({place: OTHER_EXPONENT for place in range(128)}, (128, None, None), False),
        # Mantissas, in their last bits.
        ({place: 20 for place in range(63)}, (0, 20 * 63 / 128, 0), True),
        ({place: 32 for place in range(40)}, (0, 10, 0), True),
        ({place: 32 for place in range(41)}, (0, 10.25, 0), False),
        ({place: 8 for place in range(128)}, (0, 8, 8), True),
        ({place: 9 for place in range(128)}, (0, 9, 9), False),
        # Both kinds: the mantissas' error is over those whose exponents agree.
        (
            {place: OTHER_EXPONENT if place < 38 else 8 for place in range(128)},
            (38, 8, 8),
            True,
        ),
    ],
)
def test_what_differs_at_the_thresholds(changed, found, admitted) -> None:
    mine = far_activations({})
    proofs = proofs_of(far_activations(changed))
    (difference,) = differences(mine, proofs)
    assert (difference.mismatches, difference.mean, difference.median) == found
    assert difference.points == 128
    assert is_admitted(mine, proofs) == admitted


def test_a_bfloat16_machine_gives_proofs_that_hold(policy, make_policy, group) -> None:
    half = make_policy(0)
    half.model.to(torch.bfloat16)
    tokens = policy.codec.encode(PROMPT)
    for one in group:
        proofs = proofs_of(activations_of(half, tokens, one.tokens))
        mine = activations_of(policy, tokens, one.tokens)
        assert is_admitted(mine, proofs), differences(mine, proofs)


@pytest.mark.parametrize(
    "proofs",
    [
        (),
        ("AAAA",),  # too few
        ("AAA", "AAAA"),
        ("A-AA", "AAAA"),
        ("AAAA\n", "AAAA"),
        ("AAE=", "AAE=" * 200),
        ("AAF=", "AAE="),  # bits that nobody reads
        ("AAAA", "AAAA"),  # three bytes
        ("AAE=", 7),
        "AAE=AAE=",
    ],
)
def test_lines_with_what_is_no_proof_are_malformed(group, proofs) -> None:
    one = next(trace for trace in group if len(trace.toploc) == 2)
    with pytest.raises(MalformedTrace, match="toploc"):
        replace(one, toploc=proofs)
    line = encode_line(replace(one, toploc=None))
    with pytest.raises(MalformedTrace, match="null"):
        decode_line(line[:-1] + b',"toploc":null}')


def test_polynomials_are_those_of_the_package() -> None:
    """Its compiled module for polynomials loads beside this torch, the one for tensors does not."""
    import torch  # noqa: F401  (its libraries)

    spec = importlib.util.find_spec("toploc")
    if spec is None or spec.origin is None:
        pytest.skip("toploc is not installed")
    (path,) = Path(spec.origin).parent.glob("C/csrc/ndd.*.so")
    loader = importlib.machinery.ExtensionFileLoader("ndd", str(path))
    try:
        theirs = importlib.util.module_from_spec(
            importlib.util.spec_from_loader("ndd", loader)  # type: ignore[arg-type]
        )
    except ImportError as error:
        pytest.skip(f"toploc's code can't be loaded: {error}")
    x = [(7919 * place) % 60_000 for place in range(128)]
    y = [(104_729 * place * place) % 65_000 for place in range(128)]
    found = toploc._interpolated(x, y)
    assert found == list(theirs.compute_newton_coefficients(x, y))
    assert [toploc._evaluated(found, one) for one in x] == y
    assert theirs.evaluate_polynomials(found, [5, 65_496]) == [
        toploc._evaluated(found, one) for one in (5, 65_496)
    ]
