"""Audits: plant a batch with a known trap, and show later whether its committee checked."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import Annotated

import typer

from marketplace.chain.keystore import load_keystore, password
from marketplace.chain.reads import MarketReader
from marketplace.cli.context import of
from marketplace.cli.mining import sampler_for
from marketplace.cli.options import AsJson, BatchId, BountyId
from marketplace.cli.output import emit_json, say, table
from marketplace.gym.checking import check_batch
from marketplace.gym.pool import CheckPool
from marketplace.miner.mine import Miner
from marketplace.miner.plantings import Planted, Plantings, set_trap
from marketplace.miner.spool import Spool
from marketplace.protocol.batch_terms import BatchTerms
from marketplace.protocol.disputes import LeafVerdict, claim
from marketplace.protocol.errors import ConfigError, ContentUnavailable
from marketplace.protocol.trace import Tier
from marketplace.protocol.verdict import OUTCOMES, Reason
from verifier_node.published import published

app = typer.Typer(
    help="Plant batches with a known trap, to see whether committees check.", no_args_is_help=True
)


@app.command("plant")
def plant(
    ctx: typer.Context,
    bounty: BountyId,
    miner_keystore: Annotated[
        Path, typer.Option(help="another key: it mines the batch, so that nobody can tell")
    ],
    miner_password_file: Annotated[
        Path | None, typer.Option(help="file with its password; the first key's without it")
    ] = None,
    groups: Annotated[int, typer.Option(min=1, help="groups in this batch, at most")] = 4,
    model: Annotated[Path | None, typer.Option(help="sample a model folder of your own")] = None,
    endpoint: Annotated[str | None, typer.Option(help="sample an OpenAI-compatible server")] = None,
    endpoint_model: Annotated[
        str | None, typer.Option(help="the model's name at the endpoint")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="checker processes")] = max(
        1, (os.cpu_count() or 2) - 1
    ),
) -> None:
    """Mine your own bounty from another key with one trace that lies about its score, and commit
    to its verdict beforehand. What opens the planting is kept in the home directory."""
    context = of(ctx)
    planter, store = context.client(), context.store()
    found = planter.bounty(bounty)
    if Tier(found.terms.tier) is not Tier.C:
        raise ConfigError(
            f"bounty {bounty} is of tier {Tier(found.terms.tier).name}: its verdicts depend on the "
            "draw, so none is known beforehand",
            fix="plant on a bounty of tier C",
        )
    account = load_keystore(
        miner_keystore, password(file=miner_password_file or context.password_file)
    )
    if account.address == planter.address:
        raise ConfigError(
            "the planter's own key would mine the batch: everybody could tell",
            fix="give another key with --miner-keystore",
        )
    client = context.client(account)
    miner = Miner(
        client,
        store,
        Spool(context.folder("miner", client.address)),
        beacons=context.beacons_if_any(client),
        assets=context.assets,
    )
    sampler, checkpoint = sampler_for(
        context, client, found.terms.trainer, model, endpoint, endpoint_model
    )
    groups = miner.clamp(found, groups)
    environment = miner.environment(found)
    assignment = miner.enrol(bounty)
    assert assignment.seed is not None  # it is open
    lines = miner.sample(
        found,
        environment,
        assignment,
        groups,
        sampler,
        checkpoint=checkpoint,
        seed=secrets.randbits(63),
    )
    deployment = client.deployment
    terms = BatchTerms(
        chain_id=deployment.chain_id,
        market=deployment.address("market"),
        batch=1,  # its number is not known yet, and no verdict depends on it
        bounty=bounty,
        miner=client.address,
        environment=found.terms.environment,
        assignment_seed=assignment.seed,
        first_task=assignment.next_task,
        group_size=found.terms.group_size,
        tier=found.terms.tier,
        pay_rule=found.terms.pay_rule,
    )
    with CheckPool(workers=workers, assets=context.assets) as pool:
        spec = environment.spec
        honest = check_batch(lines, spec=spec, terms=terms, pool=pool)
        lines, place = set_trap(lines, honest.verdicts)
        told = check_batch(lines, spec=spec, terms=terms, pool=pool)
    assert told.verdicts[place].reason is Reason.FALSE_CLAIM
    root = miner.packed(found, assignment, lines)[0].root
    planted = Planted(
        chain_id=deployment.chain_id,
        audits=deployment.address("audits"),
        planter=planter.address,
        miner=client.address,
        bounty=bounty,
        batch_root=root,
        salt="0x" + secrets.token_bytes(32).hex(),
        verdict=LeafVerdict.of(place, told.verdicts[place]).as_tuple(),
    )
    kept = Plantings(context.folder("plantings")).add(planted)
    planter.plant_audit(planted.root)
    time.sleep(1.0)  # it counts only if it is a second older than the batch
    # Spooled only now: what is spooled is committed some day, and unplanted it is a plain lie.
    mined = miner.commit_and_publish(miner.spool(found, assignment, lines))
    print(mined.batch)
    say(f"batch {mined.batch} is planted at trace {place}; {kept} opens it: keep it secret")


@app.command("open")
def open_audit(
    ctx: typer.Context,
    batch: BatchId,
    timeout: Annotated[float, typer.Option(min=0.0, help="seconds to look for each file")] = 10.0,
) -> None:
    """Show that an attested batch was planted, and whether its committee missed the trap."""
    context = of(ctx)
    client = context.client()
    found = client.batch(batch)
    root = "0x" + found.root.hex()
    mine = [
        one for one in _plantings(context.folder("plantings"), client) if one.batch_root == root
    ]
    if not mine:
        raise ConfigError(
            f"no planting of batch {batch} is in {context.folder('plantings')}",
            fix="see `tracemarket audit list`, or name the --home that planted it",
        )
    said = found.attestation
    if said is None or said in OUTCOMES:
        raise ConfigError(
            f"batch {batch} is not attested with verdicts",
            fix="open it once it is: `tracemarket batch show`",
        )
    known = published(client, context.store(), found, said, timeout=timeout)
    if known is None:
        raise ContentUnavailable(
            f"no verdict file of batch {batch} can be had",
            fix=f"demand that it be opened: `tracemarket dispute open {batch}`",
        )
    planted = mine[0]
    place = planted.trap.index
    attested = known.leaves[place]
    missed, _ = client.open_audit(
        batch,
        planted=planted.trap,
        salt=bytes.fromhex(planted.salt[2:]),
        root=planted.root,
        proof=[],
        attested=attested,
        attested_proof=claim(known.tree, attested).proof,
    )
    if missed:
        say(
            f"the committee missed the trap at trace {place}; while it can be challenged: "
            f"`tracemarket dispute leaf {batch} {place}`"
        )
    else:
        say(f"the committee found the trap at trace {place}")
    print("missed" if missed else "found")


@app.command("list")
def list_audits(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Your own plantings, and all that anybody opened."""
    context = of(ctx)
    reader = context.reader()
    rows = _rows(reader, _plantings(context.folder("plantings"), reader))
    if as_json:
        emit_json(rows)
        return
    table(
        "audits",
        ["batch>", "trace>", "planter", "state"],
        [(row["batch"] or "-", row["index"], row["planter"], row["state"]) for row in rows],
    )


def _plantings(folder: Path, reader: MarketReader) -> list[Planted]:
    deployment = reader.deployment
    return Plantings(folder).all(deployment.chain_id, deployment.address("audits"))


def _rows(reader: MarketReader, own: list[Planted]) -> list[dict[str, object]]:
    first, head = reader.deployment.block, reader.head().number
    rows: list[dict[str, object]] = []
    opened = set()
    for event in reader.events(first, head, names=["AuditOpened"]):
        opened.add(event.args["batch"])
        rows.append(
            {
                "batch": event.args["batch"],
                "index": event.args["index"],
                "planter": event.args["planter"],
                "state": "missed" if event.args["missed"] else "found",
            }
        )
    if own:
        roots = {
            "0x" + event.args["root"].hex(): event.args["batch"]
            for event in reader.events(first, head, names=["BatchCommitted"])
        }
    for planted in own:
        batch = roots.get(planted.batch_root)
        if batch in opened:
            continue
        if reader.planting(planted.root) is None:
            state = "not sent"
        elif batch is None:
            state = "planted"
        else:
            phase = reader.batch(batch).phase.name.lower().replace("_", " ")
            state = f"not opened, batch is {phase}"
        rows.append(
            {
                "batch": batch,
                "index": planted.trap.index,
                "planter": planted.planter,
                "state": state,
            }
        )
    return rows
