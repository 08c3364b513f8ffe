"""Rules for the ledger: balances, holdings of modules, tokens in and out."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from marketplace.indexer.events import LogEvent
from marketplace.indexer.projecting import Rows, Rulebook
from marketplace.indexer.rows import BALANCES, HOLDINGS, MONEY, BalanceRow, HoldingRow, MoneyRow

RULES: Final = Rulebook()


@RULES.on("ledger", "Deposited")
def _deposited(rows: Rows, event: LogEvent) -> None:
    account, amount = event.args["account"], event.args["amount"]
    row = _account(rows, account)
    rows.put(
        BALANCES,
        replace(row, balance=row.balance + amount, deposited=row.deposited + amount),
    )
    money = _money(rows)
    rows.put(
        MONEY,
        replace(money, tokens_in=money.tokens_in + amount, balances=money.balances + amount),
    )


@RULES.on("ledger", "Withdrawn")
def _withdrawn(rows: Rows, event: LogEvent) -> None:
    account, amount = event.args["account"], event.args["amount"]
    row = _account(rows, account)
    rows.put(
        BALANCES,
        replace(row, balance=row.balance - amount, withdrawn=row.withdrawn + amount),
    )
    money = _money(rows)
    rows.put(
        MONEY,
        replace(money, tokens_out=money.tokens_out + amount, balances=money.balances - amount),
    )


@RULES.on("ledger", "Collected")
def _collected(rows: Rows, event: LogEvent) -> None:
    amount, from_balance = event.args["amount"], event.args["fromBalance"]
    _hold(rows, event.args["module"], amount)
    if from_balance:
        row = _account(rows, event.args["from"])
        rows.put(
            BALANCES,
            replace(row, balance=row.balance - from_balance, spent=row.spent + from_balance),
        )
    money = _money(rows)
    rows.put(
        MONEY,
        replace(
            money,
            tokens_in=money.tokens_in + amount - from_balance,
            balances=money.balances - from_balance,
        ),
    )


@RULES.on("ledger", "Credited")
def _credited(rows: Rows, event: LogEvent) -> None:
    account, amount = event.args["account"], event.args["amount"]
    _hold(rows, event.args["module"], -amount)
    row = _account(rows, account)
    rows.put(
        BALANCES,
        replace(row, balance=row.balance + amount, credited=row.credited + amount),
    )
    money = _money(rows)
    rows.put(MONEY, replace(money, balances=money.balances + amount))


@RULES.on("ledger", "Shifted")
def _shifted(rows: Rows, event: LogEvent) -> None:
    _hold(rows, event.args["from"], -event.args["amount"])
    _hold(rows, event.args["to"], event.args["amount"])


def _hold(rows: Rows, module: str, change: int) -> None:
    row = rows.get(HOLDINGS, module) or HoldingRow(module)
    rows.put(HOLDINGS, replace(row, held=row.held + change))


def _account(rows: Rows, account: str) -> BalanceRow:
    return rows.get(BALANCES, account) or BalanceRow(account)


def _money(rows: Rows) -> MoneyRow:
    return rows.get(MONEY, 1) or MoneyRow()
