"""The routes. All are reads of one snapshot; lists are keyset pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Final, NoReturn, TypeVar

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response

from marketplace.api import models, sheet_models, sheet_views, views
from marketplace.api.inputs import (
    AddressPageQuery,
    AddressPath,
    AuditQuery,
    BatchQuery,
    BountyQuery,
    CheckpointQuery,
    DisputeQuery,
    EnvironmentPath,
    Id,
    PageQuery,
    PanelQuery,
)
from marketplace.indexer.queries import Snapshot, open_snapshot

R = TypeVar("R")
M = TypeVar("M")

_PHASES: Final = {name: phase for phase, name in views.BATCH_PHASES.items()}
_DISPUTE_PHASES: Final = {name: phase for phase, name in views.DISPUTE_PHASES.items()}
_MISSING: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": models.Problem, "description": "There is none with this key."}
}

router = APIRouter(
    responses={
        422: {"model": models.Problem, "description": "A value is not valid."},
        503: {"model": models.Problem, "description": "The index is not ready."},
    }
)


def _snapshot(request: Request, response: Response) -> Iterator[Snapshot]:
    state = request.app.state
    with open_snapshot(state.index, state.clock) as seen:
        response.headers["X-Indexed-Block"] = str(seen.sync.indexed.number)
        yield seen


Seen = Annotated[Snapshot, Depends(_snapshot)]


@router.get("/health", tags=["market"], summary="How far the index is")
def health(seen: Seen, request: Request) -> models.Health:
    return views.health(seen, request.app.state.clock())


@router.get("/market", tags=["market"], summary="The market: contracts, rules, money")
def market(seen: Seen) -> models.Market:
    return views.market(seen)


@router.get("/environments", tags=["environments"], summary="Environments, oldest first")
def environments(
    seen: Seen, query: Annotated[PageQuery, Query()]
) -> models.Page[models.Environment]:
    rows = seen.environments(query.cursor, query.limit + 1)
    return _page(rows, query.limit, views.environment, lambda row: row.position)


@router.get(
    "/environments/{id}", tags=["environments"], summary="One environment", responses=_MISSING
)
def environment(seen: Seen, id: EnvironmentPath) -> models.Environment:
    row = seen.environment(id)
    return views.environment(row) if row else _missing(f"environment {id}")


@router.get("/bounties", tags=["bounties"], summary="Bounties, oldest first")
def bounties(seen: Seen, query: Annotated[BountyQuery, Query()]) -> models.Page[models.Bounty]:
    rows = seen.bounties(
        query.cursor,
        query.limit + 1,
        open=query.open,
        environment=query.environment,
        poster=query.poster,
    )
    return _page(rows, query.limit, lambda row: views.bounty(seen, row), lambda row: row.id)


@router.get("/bounties/{id}", tags=["bounties"], summary="One bounty", responses=_MISSING)
def bounty(seen: Seen, id: Id) -> models.Bounty:
    row = seen.bounty(id)
    return views.bounty(seen, row) if row else _missing(f"bounty {id}")


@router.get(
    "/bounties/{id}/assignments",
    tags=["bounties"],
    summary="Miners that are enrolled in a bounty, by address",
    responses=_MISSING,
)
def assignments(
    seen: Seen, id: Id, query: Annotated[AddressPageQuery, Query()]
) -> models.Page[models.Assignment]:
    if seen.bounty(id) is None:
        _missing(f"bounty {id}")
    rows = seen.assignments(id, query.cursor or "", query.limit + 1)
    return _page(rows, query.limit, lambda row: views.assignment(seen, row), lambda row: row.miner)


@router.get("/batches", tags=["batches"], summary="Batches, oldest first")
def batches(seen: Seen, query: Annotated[BatchQuery, Query()]) -> models.Page[models.Batch]:
    rows = seen.batches(
        query.cursor,
        query.limit + 1,
        bounty=query.bounty,
        miner=query.miner,
        phase=None if query.phase is None else _PHASES[query.phase],
    )
    return _page(rows, query.limit, lambda row: views.batch(seen, row), lambda row: row.id)


@router.get(
    "/batches/{id}",
    tags=["batches"],
    summary="One batch with its rounds, attestations and disputes",
    responses=_MISSING,
)
def batch(seen: Seen, id: Id) -> models.BatchDetail:
    row = seen.batch(id)
    return views.batch_detail(seen, row) if row else _missing(f"batch {id}")


@router.get(
    "/batches/{id}/sheets",
    tags=["juries"],
    summary="The score sheets of a batch that a jury grades, with their medians",
    responses=_MISSING,
)
def sheets(seen: Seen, id: Id, query: Annotated[PanelQuery, Query()]) -> sheet_models.Panel:
    row, panel = seen.batch(id), seen.panel(id)
    if row is None or panel is None:
        _missing(f"score sheet of batch {id}")
    return sheet_views.panel(seen, row, panel, query.calibrator)


@router.get(
    "/bounties/{id}/pot",
    tags=["juries"],
    summary="What a bounty pays its judges",
    responses=_MISSING,
)
def pot(seen: Seen, id: Id) -> sheet_models.Pot:
    row = seen.pot(id)
    if row is None or row.per_trace == 0:
        _missing(f"pot of bounty {id}")
    return sheet_views.pot(row)


@router.get(
    "/judges/{address}",
    tags=["juries"],
    summary="What an account earned by judging; zeros where it earned nothing",
)
def judge(seen: Seen, address: AddressPath) -> sheet_models.JudgeBalance:
    return sheet_views.judge(seen.judge(address))


@router.get(
    "/rounds/{id}",
    tags=["batches"],
    summary="One round (or jury) with its seats",
    responses=_MISSING,
)
def round(seen: Seen, id: Id) -> models.Round:
    row = seen.round(id)
    return views.round(seen, row) if row else _missing(f"round {id}")


@router.get("/disputes", tags=["disputes"], summary="Disputes, oldest first")
def disputes(seen: Seen, query: Annotated[DisputeQuery, Query()]) -> models.Page[models.Dispute]:
    rows = seen.disputes(
        query.cursor,
        query.limit + 1,
        batch=query.batch,
        challenger=query.challenger,
        phase=None if query.phase is None else _DISPUTE_PHASES[query.phase],
    )
    return _page(rows, query.limit, lambda row: views.dispute(seen, row), lambda row: row.id)


@router.get(
    "/disputes/{id}",
    tags=["disputes"],
    summary="One dispute with its juries and appeals",
    responses=_MISSING,
)
def dispute(seen: Seen, id: Id) -> models.DisputeDetail:
    row = seen.dispute(id)
    return views.dispute_detail(seen, row) if row else _missing(f"dispute {id}")


@router.get("/audits", tags=["disputes"], summary="Planted batches that were opened, by batch")
def audits(seen: Seen, query: Annotated[AuditQuery, Query()]) -> models.Page[models.Audit]:
    rows = seen.audits(query.cursor, query.limit + 1, planter=query.planter, missed=query.missed)
    return _page(rows, query.limit, views.audit, lambda row: row.batch)


@router.get("/verifiers", tags=["verifiers"], summary="Verifiers, by address")
def verifiers(
    seen: Seen, query: Annotated[AddressPageQuery, Query()]
) -> models.Page[models.Verifier]:
    rows = seen.verifiers(query.cursor or "", query.limit + 1)
    return _page(rows, query.limit, lambda row: views.verifier(seen, row), lambda row: row.address)


@router.get("/verifiers/{address}", tags=["verifiers"], summary="One verifier", responses=_MISSING)
def verifier(seen: Seen, address: AddressPath) -> models.Verifier:
    row = seen.verifier(address)
    return views.verifier(seen, row) if row else _missing(f"verifier {address}")


@router.get("/checkpoints", tags=["checkpoints"], summary="Checkpoints, oldest first")
def checkpoints(
    seen: Seen, query: Annotated[CheckpointQuery, Query()]
) -> models.Page[models.Checkpoint]:
    rows = seen.checkpoints(query.cursor, query.limit + 1, query.trainer)
    return _page(rows, query.limit, views.checkpoint, lambda row: row.id)


@router.get("/checkpoints/{id}", tags=["checkpoints"], summary="One checkpoint", responses=_MISSING)
def checkpoint(seen: Seen, id: Id) -> models.Checkpoint:
    row = seen.checkpoint(id)
    return views.checkpoint(row) if row else _missing(f"checkpoint {id}")


@router.get(
    "/balances/{address}",
    tags=["balances"],
    summary="An account's balance in the ledger; zeros where it has none",
)
def balance(seen: Seen, address: AddressPath) -> models.Balance:
    return views.balance(seen.balance(address))


def _page(
    rows: Sequence[R], limit: int, view: Callable[[R], M], key: Callable[[R], object]
) -> models.Page[M]:
    """A page of `limit` items; rows: one more than that where the list goes on."""
    shown = rows[:limit]
    cursor = str(key(shown[-1])) if len(rows) > limit else None
    return models.Page(items=[view(row) for row in shown], next_cursor=cursor)


def _missing(what: str) -> NoReturn:
    raise HTTPException(404, f"there is no {what}")
