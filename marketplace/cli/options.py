"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="print JSON for scripts")]
BountyId = Annotated[int, typer.Argument(min=1, help="bounty id")]
BatchId = Annotated[int, typer.Argument(min=1, help="batch id")]
