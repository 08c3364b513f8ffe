"""What each attack costs and earns under a market's parameters; what may not be deployed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from marketplace.chain.amounts import format_amount, parse_amount
from marketplace.chain.deployment import load_deployment
from marketplace.chain.parameters import Parameters, Preset, preset
from marketplace.cli.context import of
from marketplace.cli.options import AsJson
from marketplace.cli.output import emit_json, facts, say, table
from marketplace.protocol.assessment import Assessment, Hinge, Verdict
from marketplace.protocol.attack_table import assess_all, paying
from marketplace.protocol.attacks import luck, thinnest
from marketplace.protocol.economics import SHARES, Assumptions, Case, assumed
from marketplace.protocol.errors import ConfigError

_DECIMALS = 6
_MONEY = frozenset({"price", "fee", "check_cost", "gas_cost", "pool"})


def _share(text: str) -> Any:
    return typer.Option(min=0, max=1, help=text)


def economics(
    ctx: typer.Context,
    preset_name: Annotated[
        str | None, typer.Option("--preset", help="parameters by name: minimal or standard")
    ] = None,
    deployment: Annotated[
        Path | None,
        typer.Option(help="take the parameters of this file (default: the global one)"),
    ] = None,
    price: Annotated[str | None, typer.Option(help="tokens for a unit")] = None,
    fee: Annotated[str | None, typer.Option(help="tokens for the checking of a trace")] = None,
    traces: Annotated[int | None, typer.Option(min=1, help="traces of a batch")] = None,
    check_cost: Annotated[
        str | None, typer.Option(help="tokens that honestly checking a trace costs")
    ] = None,
    gas_cost: Annotated[str | None, typer.Option(help="tokens for a million gas")] = None,
    seats: Annotated[int | None, typer.Option(min=1, help="verifiers with a free seat")] = None,
    leaving: Annotated[
        int | None, typer.Option(min=0, help="of those, unstaked before a jury is drawn")
    ] = None,
    attacker: Annotated[float | None, _share("of the seats, held or bought by attackers")] = None,
    lazy: Annotated[float | None, _share("of the seats, signing claims unchecked")] = None,
    audits: Annotated[float | None, _share("of batches that are planted")] = None,
    watch: Annotated[float | None, _share("chance that somebody re-checks and disputes")] = None,
    miner_watch: Annotated[
        float | None, _share("chance that a miner re-checks its own batch and disputes")
    ] = None,
    poster_watch: Annotated[
        float | None, _share("chance that a poster disputes a batch that it can't fetch")
    ] = None,
    serves: Annotated[
        float | None, _share("chance that members give content to one that can't fetch it")
    ] = None,
    believed: Annotated[
        float | None, _share("chance that a bribe promised to the last jury is taken")
    ] = None,
    pool: Annotated[str | None, typer.Option(help="tokens in the insurance pool")] = None,
    as_json: AsJson = False,
) -> None:
    """Weigh every known attack: cost, gain, loss, and what the answer hinges on.

    Fails where an attack pays that other parameters would prevent. "open": it pays and no
    parameter prevents it.
    """
    rules, decimals, name = _rules(ctx, preset_name, deployment)
    given = {
        "price": price, "fee": fee, "traces": traces, "check_cost": check_cost,
        "gas_cost": gas_cost, "seats": seats, "leaving": leaving, "attacker": attacker,
        "lazy": lazy, "audits": audits, "watch": watch, "miner_watch": miner_watch,
        "poster_watch": poster_watch, "serves": serves, "believed": believed, "pool": pool,
    }  # fmt: skip
    said = {
        key: parse_amount(value, decimals) if isinstance(value, str) else value
        for key, value in given.items()
        if value is not None
    }
    case = Case(rules, assumed(rules, 10**decimals, **said))
    found = assess_all(case)
    if as_json:
        emit_json(_document(name, decimals, case, found))
    else:
        _print(name, decimals, case, found)
    refuse(name, [each for each in found if each.verdict is Verdict.PAYS])


def require_sound(chosen: Preset, *, local: bool) -> None:
    """ConfigError for a preset in which an attack pays under the default assumptions. On a chain
    that is not local the market is as thin as the preset lets it be."""
    rules = chosen.parameters(_DECIMALS)
    seats = {} if local else {"seats": rules.min_verifiers}
    refuse(chosen.name, paying(Case(rules, assumed(rules, 10**_DECIMALS, **seats))))


def refuse(name: str, found: Sequence[Assessment]) -> None:
    """ConfigError that names the attacks that pay and what to change."""
    if not found:
        return
    parameters = dict.fromkeys(each for one in found for each in one.parameters)
    raise ConfigError(
        f"under {name} an attack pays: {', '.join(each.name for each in found)}",
        fix=f"change {', '.join(parameters)}, or what is assumed (`tracemarket economics`)",
    )


def _rules(
    ctx: typer.Context, preset_name: str | None, file: Path | None
) -> tuple[Parameters, int, str]:
    if preset_name is not None:
        if file is not None:
            raise ConfigError("a preset and a deployment file were given", fix="give one of them")
        return preset(preset_name).parameters(_DECIMALS), _DECIMALS, preset_name
    path = file or of(ctx).deployment_path
    if file is None and not path.exists():
        raise ConfigError(
            f"there is no deployment file {path}", fix="name a preset with --preset, or a file"
        )
    deployment = load_deployment(path)
    return deployment.parameters, deployment.token.decimals, str(path)


# --- what is shown -------------------------------------------------------------------


def _print(name: str, decimals: int, case: Case, found: Sequence[Assessment]) -> None:
    facts(f"assumed of {name}", [
        (key, _value(key, getattr(case.assumptions, key), decimals))
        for key in Assumptions.__slots__
    ])  # fmt: skip
    lucky = luck(case)
    facts("what the lot gives the attacker", [
        ("a majority of a committee", _percent(lucky.committee)),
        ("then of the first jury", _percent(lucky.first_jury)),
        ("then the last word", _percent(lucky.last_jury)),
    ])  # fmt: skip
    table(
        "attacks, expected money of one attempt in tokens",
        ["attack=", "at risk>", "gain>", "loss>", "net>", "pays="],
        [
            (
                each.name,
                *(
                    f"{amount / 10**decimals:.2f}"
                    for amount in (
                        each.outlay.at_risk,
                        each.outlay.gain,
                        each.outlay.cost + each.outlay.loss,
                        each.outlay.net,
                    )
                ),
                "no" if each.verdict is Verdict.DOES_NOT_PAY else each.verdict.value,
            )
            for each in found
        ],
    )
    table(
        "what the answer hinges on",
        ["attack=", "who", "turns at"],
        [
            (
                each.name,
                each.who,
                "; ".join(_turns(hinge, decimals) for hinge in each.hinges) or "nothing assumed",
            )
            for each in found
        ],
    )
    for each in found:
        if each.verdict is Verdict.OPEN:
            say(f"open: {each.name}: {each.note}")
    least = thinnest(case.rules)
    if case.rules.min_verifiers < least:
        say(
            f"thin: batches are sold from {case.rules.min_verifiers} verifiers on, a jury needs "
            f"{least}: below that nothing can be disputed"
        )


def _document(name: str, decimals: int, case: Case, found: Sequence[Assessment]) -> dict[str, Any]:
    return {
        "of": name,
        "decimals": decimals,
        "assumptions": {
            key: str(getattr(case.assumptions, key))
            if key in _MONEY
            else getattr(case.assumptions, key)
            for key in Assumptions.__slots__
        },
        "luck": luck(case),
        "least_seats_for_a_jury": thinnest(case.rules),
        "attacks": [
            {
                "name": each.name,
                "who": each.who,
                # Expected values, rounded to base units.
                **{
                    part: str(round(getattr(each.outlay, part)))
                    for part in ("at_risk", "cost", "gain", "loss", "net")
                },
                "verdict": each.verdict.value,
                "hinges": each.hinges,
                "parameters": each.parameters,
                "note": each.note,
            }
            for each in found
        ],
    }


def _money(amount: float, decimals: int) -> str:
    value = amount / 10**decimals
    return f"{value:,.3f}"


def _percent(value: float) -> str:
    return f"{100 * value:.2g} %" if value < 0.1 else f"{100 * value:.1f} %"


def _value(key: str, value: float, decimals: int) -> str:
    if key in SHARES:
        return _percent(value)
    return format_amount(int(value), decimals) if key in _MONEY else f"{int(value):,}"


def _turns(hinge: Hinge, decimals: int) -> str:
    if hinge.break_even is None:
        return f"{hinge.assumption}: never"
    return f"{hinge.assumption} {_value(hinge.assumption, hinge.break_even, decimals)}"
