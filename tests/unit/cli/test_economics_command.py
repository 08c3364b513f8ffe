"""`tracemarket economics`, and what `tracemarket deploy` refuses."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from marketplace.chain.parameters import MINIMAL, PRESETS, STANDARD
from marketplace.cli import chains
from marketplace.cli.economics import require_sound
from marketplace.cli.main import main
from marketplace.protocol.attack_table import ATTACKS
from marketplace.protocol.errors import ConfigError


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["tracemarket", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return run


@pytest.mark.parametrize("name", PRESETS)
def test_presets_pass(cli, name) -> None:
    code, out, err = cli("economics", "--preset", name)
    assert code == 0
    for attack in ATTACKS:
        assert attack.name in out
    assert "open: selective publication" in err
    assert ("thin: batches are sold from 3" in err) == (name == "minimal")


def test_json(cli) -> None:
    code, out, _ = cli("economics", "--preset", "standard", "--json")
    assert code == 0
    found = json.loads(out)
    majority = next(one for one in found["attacks"] if one["name"] == "lying majority")
    # 1,024 traces at 0.012 and three seats of 100: a quarter of the lies come to light.
    assert majority["at_risk"] == "300000000"
    assert majority["gain"] == str(round(0.75 * 12_288_000))
    assert majority["loss"] == "75000000"
    assert majority["hinges"][0]["break_even"] == pytest.approx(0.0393, abs=1e-4)
    assert found["assumptions"]["price"] == "10000"
    assert found["least_seats_for_a_jury"] == 11


def test_an_assumption_under_which_an_attack_pays_is_refused(cli) -> None:
    code, out, err = cli("economics", "--preset", "standard", "--watch", "0.01")
    assert code == 2
    assert "lying majority" in out
    assert "an attack pays: lying majority, withheld verdict tree" in err
    assert "change seat_stake" in err


def test_a_thin_market_is_refused(cli) -> None:
    code, _, err = cli("economics", "--preset", "minimal", "--seats", 6)
    assert code == 2
    assert "captured juries" in err
    assert "min_verifiers" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "there is no deployment file"),
        (("--preset", "odd"), "there is no preset 'odd'"),
        (("--preset", "minimal", "--deployment", "x.json"), "were given"),
        (("--deployment", "x.json"), "there is no deployment file x.json"),
        (("--preset", "minimal", "--traces", 65_537), "at most 65536"),
        (("--preset", "minimal", "--price", "cheap"), "not a number"),
        (("--preset", "minimal", "--price", 1, "--traces", 200), "more than a lying majority"),
    ],
)
def test_bad_input(cli, words, said) -> None:
    code, _, err = cli("economics", *words)
    assert code == 2
    assert said in err


def test_parameters_of_a_deployment_file(cli, monkeypatch, tmp_path) -> None:
    """In the units of its own token."""
    (tmp_path / "deployment.json").write_text("{}")
    seen = SimpleNamespace(parameters=STANDARD.parameters(18), token=SimpleNamespace(decimals=18))
    monkeypatch.setattr("marketplace.cli.economics.load_deployment", lambda path: seen)
    code, out, _ = cli("economics", "--json", "--fee", "0.004")
    found = json.loads(out)
    assert code == 0
    assert found["of"] == "deployment.json"
    assert found["assumptions"]["fee"] == str(4 * 10**15)
    assert cli("economics", "--deployment", "deployment.json")[0] == 0


def test_shares_are_between_0_and_1(cli) -> None:
    assert cli("economics", "--preset", "minimal", "--watch", 2)[0] == 2


def test_what_may_be_deployed() -> None:
    require_sound(STANDARD, local=False)
    require_sound(MINIMAL, local=True)
    # Where people's money is, a market that sells to three verifiers can't be disputed.
    with pytest.raises(ConfigError, match="captured juries") as refused:
        require_sound(MINIMAL, local=False)
    assert "min_verifiers" in str(refused.value)
    with pytest.raises(ConfigError, match="garbage mining") as refused:
        require_sound(replace(STANDARD, wrong_bps=0), local=True)
    assert "wrong_bps" in str(refused.value)


@pytest.mark.parametrize("chain_id", [31337, 8453])
def test_deploy_refuses_before_it_sends_anything(cli, monkeypatch, chain_id) -> None:
    sent = []
    monkeypatch.setattr(chains, "preset", lambda name: replace(MINIMAL, wrong_bps=0))
    node = SimpleNamespace(eth=SimpleNamespace(chain_id=chain_id))
    monkeypatch.setattr(chains, "connect", lambda url: node)
    monkeypatch.setattr(chains, "node_errors", lambda w3: nullcontext())
    monkeypatch.setattr(chains, "deploy", lambda *given, **more: sent.append(given))

    code, _, err = cli("deploy", "--preset", "minimal")
    assert code == 2
    assert ("captured juries" if chain_id == 8453 else "garbage mining") in err
    assert sent == []
