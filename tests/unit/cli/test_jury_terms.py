"""What the command line lets a bounty of class rubric pay, and how gold is written."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from marketplace.chain.records import Token
from marketplace.cli.judging import make_judge
from marketplace.cli.juries import class_of, judging_terms, parse_grades
from marketplace.gym.spec import builtin_spec, environment_id, spec_bytes
from marketplace.protocol.errors import ConfigError
from marketplace.protocol.sheets import UNKNOWN, unpack
from marketplace.storage.embedded import EmbeddedStore
from verifier_node.endpoint_judge import EndpointJudge

TOKEN = Token("0x" + "11" * 20, "Test Dollar", "tUSD", 6, None)


@pytest.fixture
def context(tmp_path):
    store = EmbeddedStore(tmp_path)
    parameters = SimpleNamespace(min_fee_per_trace=100, committee_size=5)
    reader = SimpleNamespace(parameters=parameters, token=TOKEN)
    return SimpleNamespace(store=lambda: store, reader=lambda: reader)


def stored(context, name: str) -> bytes:
    data = spec_bytes(builtin_spec(name))
    context.store().put(data)
    return environment_id(data)


def test_classes(context, monkeypatch):
    monkeypatch.setattr("marketplace.cli.juries.FETCH_SECONDS", 0)
    assert class_of(context, stored(context, "polite_refusal")) == "rubric"
    assert class_of(context, stored(context, "chain_sum")) == "checked"
    assert class_of(context, b"\x01" * 32) is None


def test_a_rubric_bounty_pays_votes_and_judges(context):
    ident = stored(context, "polite_refusal")
    assert judging_terms(context, ident, "0.002", "0.0004", "10") == (400, 10_000_000)
    with pytest.raises(ConfigError, match=r"class rubric, and its fee for a trace is 0\.0019"):
        judging_terms(context, ident, "0.0019", "0.0004", "10")
    for pay, pot in ((None, None), ("0.0004", None), (None, "10"), ("0.000399", "10")):
        with pytest.raises(ConfigError, match="class rubric, and --judge-pay is") as raised:
            judging_terms(context, ident, "0.002", pay, pot)
        assert "0.0004" in raised.value.fix


def test_a_checked_bounty_pays_no_judges(context, monkeypatch):
    monkeypatch.setattr("marketplace.cli.juries.FETCH_SECONDS", 0)
    ident = stored(context, "chain_sum")
    assert judging_terms(context, ident, "0.0001", None, None) is None
    assert judging_terms(context, b"\x01" * 32, "0.0001", None, None) is None
    with pytest.raises(ConfigError, match="this one is checked"):
        judging_terms(context, ident, "0.0001", "0.0004", None)


def test_gold_as_text():
    assert unpack(parse_grades("430x2"), 5, gold=True) == (4, 3, 0, UNKNOWN, 2)
    for text in ("", "5", "43 0", "4-1"):
        with pytest.raises(ConfigError, match="no grades"):
            parse_grades(text)


def test_one_judge_or_none(tmp_path):
    assert make_judge(None, None, None, None) is None
    judge = make_judge(None, "http://127.0.0.1:1/v1", "m", None)
    assert isinstance(judge, EndpointJudge)
    with pytest.raises(ConfigError, match="two judges"):
        make_judge(tmp_path, "http://127.0.0.1:1/v1", "m", None)
    with pytest.raises(ConfigError, match="--judge-model is None"):
        make_judge(None, "http://127.0.0.1:1/v1", None, None)
