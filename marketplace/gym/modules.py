"""What a fetched folder is: a whole model, an adapter for one, or a router between adapters.

    whole     config.json, model.safetensors, tokenizer.json, ...
    adapter   adapter_config.json, adapter_model.safetensors, base.json
    router    router.json, router.safetensors, base.json

base.json names the whole model that the module belongs to by its manifest's CID:
{"v":1,"base":"b..."}. Reads names and small JSON only; no weights, no model runtime.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marketplace.protocol.errors import CheckpointError

ADAPTER_CONFIG: Final = "adapter_config.json"
ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
ROUTER_CONFIG: Final = "router.json"
ROUTER_WEIGHTS: Final = "router.safetensors"
BASE_NAME: Final = "base.json"


class _Base(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    v: Literal[1]
    base: Annotated[str, Field(pattern=r"^b[a-z2-7]{58}$")]


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter, to be loaded with its base."""
    return (folder / ADAPTER_CONFIG).exists()


def is_router(folder: Path) -> bool:
    """Whether the folder holds a router between experts."""
    return (folder / ROUTER_CONFIG).exists()


def base_of(folder: Path) -> str:
    """CID of the whole model that a module was made for. Raises CheckpointError."""
    path = folder / BASE_NAME
    try:
        return _Base.model_validate_json(path.read_bytes()).base
    except (OSError, ValidationError) as error:
        raise CheckpointError(
            f"{str(path)!r} names no base: {str(error).splitlines()[0]:.200}",
            fix='write {"v": 1, "base": "<CID of the base checkpoint>"} there',
        ) from None


def write_base(folder: Path, base: str) -> None:
    """Write base.json."""
    (folder / BASE_NAME).write_text(json.dumps({"base": base, "v": 1}, indent=2) + "\n", "utf-8")
