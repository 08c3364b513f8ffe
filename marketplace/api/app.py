"""create_app: the read API over one index."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from marketplace import __version__
from marketplace.api.routes import router
from marketplace.protocol.errors import TracemarketError

_log = logging.getLogger(__name__)

_DESCRIPTION: Final = """\
A market for verified reasoning traces, as seen in an index that follows its chain.

* **Amounts** are token base units as decimal strings; `/market` names the token's decimals.
* **Phases** are as of the index's newest block and the server's clock.
* **Lists** are pages: pass `next_cursor` as `cursor` until it is null.
* Every answer names the block it speaks of in the header `X-Indexed-Block`.
"""

_TAGS: Final = [
    {"name": "market", "description": "The market as a whole."},
    {"name": "environments", "description": "What is asked: task source, checker, rules."},
    {"name": "bounties", "description": "Escrow for traces of one environment."},
    {"name": "batches", "description": "Committed traces and the rounds that check them."},
    {"name": "juries", "description": "Score sheets where there are no right answers."},
    {"name": "disputes", "description": "The court: disputes, juries, appeals, planted batches."},
    {"name": "verifiers", "description": "Stake, seats, fees and penalties."},
    {"name": "checkpoints", "description": "Registered model weights."},
    {"name": "balances", "description": "What accounts can withdraw."},
]


def create_app(index: Path, clock: Callable[[], float] = time.time) -> FastAPI:
    """index: the file that an indexer writes; it may appear later (503 until then). clock:
    seconds since the epoch."""
    app = FastAPI(
        title="tracemarket",
        version=__version__,
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
    )
    app.state.index = index
    app.state.clock = clock
    app.include_router(router)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(TracemarketError, _not_ready)
    return app


def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return JSONResponse({"detail": "; ".join(map(_sentence, error.errors()))}, 422)


def _sentence(problem: dict[str, Any]) -> str:
    name = problem["loc"][-1]
    message = problem["msg"].removeprefix("Value error, ")
    return f"{name} is {problem['input']!r}: {message[:1].lower()}{message[1:]}"


def _not_ready(_: Request, error: Exception) -> JSONResponse:
    # The message names a path of this machine: for the log, not for the world.
    _log.warning("index_not_ready error=%s", error)
    return JSONResponse({"detail": "the index is not ready: its first pass is not done"}, 503)
