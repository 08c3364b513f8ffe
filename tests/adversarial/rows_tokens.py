"""Stablecoins that are not what they seem. The liar is the token, or who controls it."""

from __future__ import annotations

from arena import MINER, STAKE, TUSD, VICTIM, Arena, Refused
from cases import case
from matrix import Outcome, Ruling, row
from tokens import calldata, command, create, odd_market

HUNDRED = 100 * TUSD


def _life(arena: Arena) -> bool:
    """A batch from commit to settlement; whether the ledger then holds what it owes."""
    one = case(arena, MINER, traces=8, good=True)
    truth = one.truth.attestation
    arena.attest(one.batch, truth, truth)
    arena.settle(one.batch)
    return arena.phase(one.batch) == "settled" and _solvent(arena)


def _solvent(arena: Arena) -> bool:
    held = arena.view("token", "balanceOf", arena.deployment.address("ledger"))
    return held == arena.entries()


def _stuck(arena: Arena, names: list[str]) -> int:
    """What these can't withdraw of their ledger balances."""
    stuck = 0
    for name in names:
        account = arena.address(name)
        balance = arena.view("ledger", "balanceOf", account)
        try:
            arena.send(name, "ledger", "withdraw", account, balance)
        except Refused:
            stuck += balance
    return stuck


@row("Token that takes a fee", "token", Ruling.CAUGHT, trials=2)
def fee_token(arena: Arena, trial: int) -> Outcome:
    """From some day on each transfer burns a thousandth. Money that would arrive short is refused,
    in every way in; batches in flight are settled to the unit."""
    odd = odd_market(arena, "FeeToken")
    victim = odd.watch(VICTIM)
    command(odd, odd.deployment.token.address, "charge(bool)", True)
    identity = odd.view("escrow", "identityOf", odd.bounty)
    errors = {
        odd.refusal(VICTIM, "ledger", "deposit", HUNDRED),
        odd.refusal(VICTIM, "stake", "stake", STAKE),
        odd.refusal(VICTIM, "escrow", "fund", odd.bounty, identity, HUNDRED),
    }
    return Outcome(errors == {"Ledger_InexactTransfer"} and _solvent(odd), 0, 0, victim.cost)


@row("Token that returns nothing", "token", Ruling.CAUGHT, trials=2)
def silent_token(arena: Arena, trial: int) -> Outcome:
    """As USDT: transfers return no value. A batch's whole life works, and everybody can
    withdraw."""
    odd = odd_market(arena, "SilentToken")
    whole = _life(odd)
    return Outcome(whole and _stuck(odd, [MINER, *odd.verifiers]) == 0 and _solvent(odd), 0, 0)


@row("Token that lies about transfers", "token", Ruling.CAUGHT, trials=2)
def lying_token(arena: Arena, trial: int) -> Outcome:
    """It says true and moves nothing, or says false instead of reverting. Neither counts as
    money."""
    plain = arena
    lying = create(plain, "NamedLyingToken")
    try:
        Arena(plain.node, token=lying, verifiers=1)
        refused = ""
    except Refused as error:
        refused = error.error
    odd = odd_market(arena, "FalseToken")
    command(odd, odd.deployment.token.address, "refuse(bool)", True)
    said = odd.refusal(VICTIM, "ledger", "deposit", HUNDRED)
    caught = refused == "Ledger_InexactTransfer" and said is not None
    return Outcome(caught and _solvent(odd), 0, 0)


@row("Issuer blocks a miner", "token's issuer", Ruling.CAUGHT, trials=2)
def blocked_miner(arena: Arena, trial: int) -> Outcome:
    """A blocked miner can't be paid out. The batch is settled all the same (payments are pulled),
    others withdraw, and the miner sends what is its own elsewhere."""
    odd = odd_market(arena, "BlockingToken")
    token = odd.deployment.token.address
    odd.enrol(MINER)
    one = case(odd, MINER, traces=8, good=True)
    command(odd, token, "setBlocked(address,bool)", odd.address(MINER), True)
    truth = one.truth.attestation
    odd.attest(one.batch, truth, truth)
    odd.settle(one.batch)
    owed = odd.view("ledger", "balanceOf", odd.address(MINER))
    blocked = _stuck(odd, [MINER]) == owed > 0
    others = _stuck(odd, odd.verifiers)
    odd.send(MINER, "ledger", "withdraw", odd.address("heir"), owed)
    left = odd.view("ledger", "balanceOf", odd.address(MINER))
    return Outcome(blocked and others == 0 and left == 0, 0, 0, others + left)


@row("Issuer pauses the token", "token's issuer", Ruling.CAUGHT, trials=2)
def paused_token(arena: Arena, trial: int) -> Outcome:
    """Nothing moves while it is paused; batches in flight go on inside the ledger, and once it
    moves again everybody withdraws in full."""
    odd = odd_market(arena, "BlockingToken")
    token = odd.deployment.token.address
    one = case(odd, MINER, traces=8, good=True)
    command(odd, token, "setPaused(bool)", True)
    truth = one.truth.attestation
    odd.attest(one.batch, truth, truth)
    odd.settle(one.batch)
    waiting = _stuck(odd, [MINER])
    command(odd, token, "setPaused(bool)", False)
    harm = _stuck(odd, [MINER, *odd.verifiers])
    return Outcome(waiting > 0 and _solvent(odd), 0, 0, harm, {"held up": waiting / TUSD})


@row("Issuer blocks the ledger", "token's issuer", Ruling.OPEN, trials=2)
def blocked_ledger(arena: Arena, trial: int) -> Outcome:
    """The issuer of the stablecoin can freeze all that the market holds. No contract can prevent
    that. Price: the issuer's name; whoever deploys a market chooses the issuer with the token."""
    odd = odd_market(arena, "BlockingToken")
    _life(odd)
    blocked = odd.deployment.address("ledger")
    command(odd, odd.deployment.token.address, "setBlocked(address,bool)", blocked, True)
    return Outcome(False, 0, 0, _stuck(odd, [MINER, *odd.verifiers]))


@row("Token that calls back", "recipient", Ruling.CAUGHT, trials=2)
def reentrant_token(arena: Arena, trial: int) -> Outcome:
    """As ERC-777: the recipient of a withdrawal is called, and withdraws and deposits again from
    within. Nothing of it goes through, and it receives its balance once."""
    odd = odd_market(arena, "CallbackToken")
    ledger, token = odd.deployment.address("ledger"), odd.deployment.token.address
    thief = create(odd, "Reentrant")
    odd.raw(odd.address(VICTIM), "token", "mint", thief, HUNDRED)
    run = "execute(address,bytes)"
    command(odd, thief, run, token, calldata("approve(address,uint256)", ledger, 2**255))
    command(odd, thief, run, ledger, calldata("deposit(uint256)", HUNDRED))
    within = calldata("withdraw(address,uint256)", thief, HUNDRED)
    command(odd, thief, "plan(address,bytes)", ledger, within)
    command(odd, thief, "plan(address,bytes)", ledger, calldata("deposit(uint256)", 1))
    command(odd, thief, run, ledger, within)
    got = odd.view("token", "balanceOf", thief)
    tried = odd.node.rpc(
        "eth_call", {"to": thief, "data": "0x" + calldata("attempts()").hex()}, "latest"
    )
    left = odd.view("ledger", "balanceOf", thief)
    caught = got == HUNDRED and left == 0 and _solvent(odd)
    return Outcome(caught, 0, got - HUNDRED, 0, {"calls tried within": int(tried, 16)})


@row("Token that rebases downwards", "token", Ruling.OPEN, trials=2)
def rebasing_token(arena: Arena, trial: int) -> Outcome:
    """The token halves the ledger's balance by itself: who withdraws last gets nothing. No ledger
    that counts units can prevent that. Price: don't deploy on such a token; where it grows instead,
    nobody loses."""
    odd = odd_market(arena, "RebasingToken")
    ledger = odd.deployment.address("ledger")
    savers = [f"saver {number}" for number in range(4)]
    for name in savers:
        odd.send(name, "ledger", "deposit", HUNDRED)
    held = odd.view("token", "balanceOf", ledger)
    target = odd.deployment.token.address
    command(odd, target, "rebase(address,uint256)", ledger, held + HUNDRED)
    whole = all(odd.wealth(name) > 0 for name in savers)
    command(odd, target, "rebase(address,uint256)", ledger, 2 * HUNDRED)
    return Outcome(not whole, 0, 0, _stuck(odd, savers))
