"""A turn of training moves the policy where the scores point, and nowhere without reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from marketplace.gym.packing import TokenGroup
from marketplace.gym.policy import completion_logprobs
from marketplace.miner.sampler import SamplingRules, TransformersSampler
from marketplace.protocol.errors import CheckpointError
from trainer.advantages import leave_one_out
from trainer.config import TrainSettings
from trainer.data import ALL_ALIKE, OFF_POLICY, SINGLE, TrainingGroup
from trainer.grpo import CAPPED, train_turn, verify_behaviour
from trainer.loss import OUTSIDE_BAND, Tokens, effective_share, refinery_loss
from trainer.measures import StepMetrics, epoch_effective_share
from trainer.objectives import OBJECTIVES, rules_of
from trainer.state import TrainState

SETTINGS = TrainSettings(learning_rate=3e-3, groups_per_step=4, token_budget=64)


def _group(policy, text="1 + 1 = ", answers=("2\n", "3\n", "11\n"), scores=(1.0, 0.0, 0.0)):
    prompt = policy.codec.encode(text)
    completions = tuple(map(policy.codec.encode, answers))
    (behaviour,) = completion_logprobs(policy, [TokenGroup(prompt, completions)], 1.0)
    return TrainingGroup(1, 0, prompt, completions, tuple(behaviour), tuple(scores))


def _chances(policy, group):
    (rows,) = completion_logprobs(policy, [TokenGroup(group.prompt, group.completions)], 1.0)
    return [sum(row) for row in rows]


def _weights(policy):
    return {name: one.clone() for name, one in policy.model.state_dict().items()}


def _same(policy, weights):
    return all(torch.equal(one, weights[name]) for name, one in policy.model.state_dict().items())


def test_rewarded_completions_become_likelier_and_others_rarer(policy):
    group = _group(policy)
    before = _chances(policy, group)
    metrics = train_turn(policy, [group], SETTINGS, temperature=1.0)
    after = _chances(policy, group)
    assert after[0] > before[0]
    assert after[1] < before[1]
    assert after[2] < before[2]
    assert (metrics.groups, metrics.traces, metrics.tokens) == (1, 3, 7)
    assert len(metrics.steps) == 1
    assert metrics.steps[0].mean_ratio == pytest.approx(1, abs=1e-4)


def test_turns_of_sampling_and_training_raise_the_reward(policy):
    # Rewarded: completions that end at once. A skill that two layers can learn.
    rules = SamplingRules(group_size=16, temperature=1.0, max_tokens=4, stop=("\n",))
    prompts = [f"{n} = " for n in range(8)]
    rewards = []
    for turn in range(6):
        groups = []
        samples = list(TransformersSampler(policy, "tiny").sample(prompts, rules, seed=turn))
        for task, (prompt, group) in enumerate(zip(prompts, samples, strict=True)):
            groups.append(
                TrainingGroup(
                    batch=1,
                    task=task,
                    prompt=policy.codec.encode(prompt),
                    completions=tuple(one.tokens for one in group),
                    behaviour=tuple(one.logprobs for one in group),
                    scores=tuple(float("1" in one.text) for one in group),
                )
            )
        rewards.append(sum(score for group in groups for score in group.scores) / 128)
        train_turn(
            policy,
            groups,
            TrainSettings(learning_rate=1e-2, groups_per_step=2, epochs=2, seed=turn),
            temperature=1.0,
        )
    assert rewards[-1] > rewards[0] + 0.2


def test_micro_batches_do_not_change_the_step(make_policy):
    metrics = []
    for token_budget in (1000, 16):
        policy = make_policy(0)
        answers = ("2\n", "3\n", "11\n", "1234567\n")
        groups = [
            _group(policy, f"{n} = ", answers[: n + 2], (1.0, 0.0, 0.5, 0.0)[: n + 2])
            for n in range(3)
        ]
        settings = SETTINGS.model_copy(update={"token_budget": token_budget})
        metrics += train_turn(policy, groups, settings, temperature=1.0).steps
    whole, cut = metrics
    # The norm of the gradient before clipping: it sees the denominator, which Adam would hide.
    assert cut.grad_norm == pytest.approx(whole.grad_norm, rel=1e-3)
    assert cut.loss == pytest.approx(whole.loss, abs=1e-4)
    assert whole.loss != 0


def test_traces_that_claim_other_logprobs_are_dropped(policy):
    honest = _group(policy)
    lie = tuple(value - 0.05 for value in honest.behaviour[1])
    group = replace(honest, behaviour=(honest.behaviour[0], lie, honest.behaviour[2]))
    (kept,), dropped = verify_behaviour(policy, [group], SETTINGS, temperature=1.0)
    assert kept.completions == (honest.completions[0], honest.completions[2])
    assert kept.scores == (1.0, 0.0)
    assert dropped == {OFF_POLICY: 1}


def test_what_is_left_of_a_group_must_still_say_something(policy):
    honest = _group(policy)
    lie = tuple(value - 0.05 for value in honest.behaviour[0])
    alike = replace(honest, behaviour=(lie, *honest.behaviour[1:]))
    single = replace(honest, behaviour=(honest.behaviour[0], lie[:2], lie[:1]))
    before = _weights(policy)
    metrics = train_turn(policy, [alike, single], SETTINGS, temperature=1.0)
    assert metrics.dropped == {OFF_POLICY: 3, ALL_ALIKE: 2, SINGLE: 1}
    assert metrics.steps == ()
    assert _same(policy, before)
    assert metrics.summary()["loss"] == 0


def test_groups_that_are_all_right_are_imitated(make_policy):
    """Also under a length price, which must not compare them; other losses have no use for them."""
    for price in (0.0, 200.0):
        policy = make_policy(0)
        solved = _group(policy, answers=("2\n", "3\n", "11111\n"), scores=(1.0, 1.0, 1.0))
        before = _chances(policy, solved)
        settings = SETTINGS.model_copy(update={"length_price": price})
        metrics = train_turn(policy, [solved], settings, temperature=1.0)
        assert metrics.traces == 3
        assert all(new > old for new, old in zip(_chances(policy, solved), before, strict=True))
    for change in ({"positive_ce": 0.0}, {"loss": "dapo"}):
        settings = SETTINGS.model_copy(update=change)
        solved = _group(policy, scores=(1.0, 1.0, 1.0))
        metrics = train_turn(policy, [solved], settings, temperature=1.0)
        assert (metrics.steps, metrics.dropped) == ((), {ALL_ALIKE: 3})


def test_only_full_scores_are_imitated(make_policy):
    """The trace of half the score has the group's largest advantage but one, and no more of it."""
    found = []
    for weight in (0.0, 1.0):
        policy = make_policy(0)
        group = _group(policy, scores=(0.6, 0.5, 0.4))
        settings = SETTINGS.model_copy(update={"positive_ce": weight})
        train_turn(policy, [group], settings, temperature=1.0)
        found.append(_weights(policy))
    assert _same(policy, found[0])


def test_claims_within_tolerance_are_replaced_by_verified_values(policy):
    honest = _group(policy)
    near = replace(honest, behaviour=tuple(tuple(v - 0.01 for v in r) for r in honest.behaviour))
    (kept,), dropped = verify_behaviour(policy, [near], SETTINGS, temperature=1.0)
    assert kept.behaviour == honest.behaviour
    assert dropped == {}


def test_opaque_positives_become_likelier(policy):
    group = replace(_group(policy), behaviour=None, scores=(1.0, 1.0, 1.0))
    before = _chances(policy, group)
    metrics = train_turn(policy, [group], SETTINGS, temperature=1.0)
    assert all(late > early for late, early in zip(_chances(policy, group), before, strict=True))
    assert metrics.steps[0].mean_ratio == 1.0


def test_same_seed_same_weights(make_policy):
    first, second = make_policy(1), make_policy(1)
    for one in (first, second):
        groups = [_group(one, f"{n} - 1 = ") for n in range(6)]
        train_turn(one, groups, SETTINGS.model_copy(update={"epochs": 2}), temperature=1.0)
    assert _same(second, _weights(first))


def test_no_groups_no_change(policy):
    before = _weights(policy)
    metrics = train_turn(policy, [], SETTINGS, temperature=1.0)
    assert metrics.steps == ()
    assert _same(policy, before)


def test_progress_is_told(policy):
    told = []
    groups = [_group(policy, f"{n} + 1 = ") for n in range(8)]
    settings = SETTINGS.model_copy(update={"epochs": 2, "min_effective_share": 0.0})
    train_turn(policy, groups, settings, temperature=1.0, on_step=lambda *one: told.append(one[:2]))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_stale_data_stop_the_turn_at_the_end_of_an_epoch(policy):
    groups = [_group(policy, f"{n} + 1 = ") for n in range(8)]
    settings = SETTINGS.model_copy(
        update={"learning_rate": 0.1, "epochs": 16, "min_effective_share": 0.9}
    )
    metrics = train_turn(policy, groups, settings, temperature=1.0)
    assert metrics.stopped_early
    assert len(metrics.steps) in range(2, 32, 2)
    assert epoch_effective_share(metrics.steps[-2:]) < 0.9
    for end in range(2, len(metrics.steps), 2):
        assert epoch_effective_share(metrics.steps[end - 2 : end]) >= 0.9


def test_an_epochs_share_is_that_of_all_its_tokens():
    ratios = [torch.tensor([1.0, 0.5, 2.0]), torch.tensor([0.0, 3.0, 1.0, 1.0, 0.1])]
    steps = [
        StepMetrics(0, 0, float(one.mean()), 0, effective_share(one), 1, len(one)) for one in ratios
    ]
    assert epoch_effective_share(steps) == pytest.approx(effective_share(torch.cat(ratios)))
    nothing = StepMetrics(0, 0, 0.0, 0, 0.0, 1, 5)
    assert epoch_effective_share([nothing]) == 0.0


@pytest.mark.parametrize("loss", OBJECTIVES)
def test_eight_micro_batches_are_one_of_eight(make_policy, loss):
    """Also with gates that mask: the denominator is the whole step's."""
    found = []
    for token_budget in (16, 1000):
        policy = make_policy(0)
        answers = ("2\n", "3\n", "11\n", "12345678\n")
        groups = [_group(policy, f"{n} = ", answers, (1.0, 0.0, 0.5, 0.0)) for n in range(8)]
        groups = [replace(one, age=1, checkpoint=7) for one in groups]
        settings = SETTINGS.model_copy(
            update={
                "loss": loss,
                "token_budget": token_budget,
                "groups_per_step": 8,
                "max_grad_norm": 1e9,
                "max_tolerance": 99.0,
                "mean_tolerance": 99.0,
                "negative_drift": 0.01,
                "strict_negative_drift": 0.01,
            }
        )
        state = TrainState()
        older = make_policy(0)
        with torch.no_grad():
            older.model.model.embed_tokens.weight += 0.02
        train_turn(
            policy, groups, settings, temperature=1.0, state=state, behaviour_of={7: older}.get
        )
        found.append((state.steps[0], {n: k["exp_avg"] for n, k in state.optimizer.items()}))
    (cut, small), (whole, large) = found
    assert cut["loss"] == pytest.approx(whole["loss"], abs=1e-5)
    assert whole["masked"].keys() == cut["masked"].keys()
    assert bool(whole["masked"]) is (loss == "ours")
    largest = max(float(one.abs().max()) for one in large.values())
    for name, one in large.items():
        torch.testing.assert_close(small[name], one, atol=1e-5 * largest + 1e-9, rtol=1e-3)


def test_packed_loss_and_gradient_equal_padded(make_policy, unpacked):
    """Token trees against one plain sequence after another, through the whole loss."""
    policy, plain = make_policy(0), make_policy(0)
    answers = ("2\n", "3\n", "11\n", "12345678\n")
    groups = [_group(policy, f"{n} = ", answers, (1.0, 0.0, 0.5, 0.0)) for n in range(3)]
    settings = SETTINGS.model_copy(update={"groups_per_step": 3, "max_grad_norm": 1e9})
    state = TrainState()
    train_turn(policy, groups, settings, temperature=1.0, state=state)

    terms, units = torch.zeros(()), 0.0
    for group in groups:
        advantages = leave_one_out(group.scores)
        for advantage, score, tokens in zip(
            advantages, group.scores, group.completions, strict=True
        ):
            logprobs = unpacked(plain, group.prompt, tokens, 1.0)
            result = refinery_loss(
                Tokens(
                    logprobs,
                    logprobs.detach(),
                    None,
                    torch.full((len(tokens),), advantage),
                    torch.zeros(len(tokens), dtype=torch.long),
                    imitation=torch.full((len(tokens),), settings.positive_ce * (score == 1)),
                ),
                rules_of(settings),
            )
            terms, units = terms + result.terms.sum(), units + result.units
    (terms / units).backward()
    assert state.steps[0]["loss"] == pytest.approx((terms / units).item(), abs=1e-5)
    expected = {n: p.grad for n, p in plain.model.named_parameters() if p.grad is not None}
    largest = max(float(one.abs().max()) for one in expected.values())
    for name, one in expected.items():
        got = state.optimizer[name]["exp_avg"] / (1 - settings.betas[0])
        torch.testing.assert_close(got, one, atol=1e-5 * largest, rtol=1e-3)


def test_a_step_that_is_masked_whole_changes_nothing(policy, make_policy):
    older = make_policy(5)
    group = replace(_group(older), age=1, checkpoint=7)
    settings = SETTINGS.model_copy(
        update={"strict_band_low": 0.999, "strict_band_high": 1.001, "positive_ce": 0.0}
    )
    before = _weights(policy)
    metrics = train_turn(policy, [group], settings, temperature=1.0, behaviour_of={7: older}.get)
    assert metrics.steps[0].masked == {OUTSIDE_BAND: 1.0}
    assert (metrics.steps[0].grad_norm, metrics.steps[0].effective_share) == (0.0, 0.0)
    assert _same(policy, before)


def test_a_step_says_what_it_trained_on(policy):
    (step,) = train_turn(policy, [_group(policy)], SETTINGS, temperature=1.0).steps
    assert step.mean_length == pytest.approx(7 / 3)
    assert step.mean_score == pytest.approx(1 / 3)
    assert step.kl_quantiles == pytest.approx((0, 0, 0), abs=1e-6)
    assert step.masked == {}


def test_no_miner_has_more_than_its_share_of_a_step(make_policy):
    found = []
    for share in (1.0, 0.5):
        policy = make_policy(0)
        groups = [replace(_group(policy, f"{n} = "), miner="loud") for n in range(7)]
        groups.append(replace(_group(policy, "9 = "), miner="quiet"))
        settings = SETTINGS.model_copy(update={"groups_per_step": 8, "miner_share": share})
        (step,) = train_turn(policy, groups, settings, temperature=1.0).steps
        found.append(step.masked)
    assert found == [{}, {CAPPED: pytest.approx(3 / 8)}]


def test_length_has_a_price(policy):
    same = _group(policy, answers=("2\n", "22222\n", "3\n"), scores=(1.0, 1.0, 0.0))
    # Without imitation, which lifts the start that both right answers share.
    settings = SETTINGS.model_copy(update={"length_price": 200.0, "positive_ce": 0.0})
    before = _chances(policy, same)
    train_turn(policy, [same], settings, temperature=1.0)
    after = _chances(policy, same)
    assert after[0] > before[0]
    assert after[1] < before[1]


def test_gradient_that_is_not_finite_changes_nothing(policy):
    group = _group(policy)
    opaque = replace(group, behaviour=None)
    with torch.no_grad():
        policy.model.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    before = _weights(policy)
    with pytest.raises(CheckpointError, match="gradient norm is nan"):
        train_turn(policy, [opaque], SETTINGS, temperature=1.0)
    for name, one in policy.model.state_dict().items():
        torch.testing.assert_close(one, before[name], equal_nan=True)
