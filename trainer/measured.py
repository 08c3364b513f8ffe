"""evaluation.json: what was measured of a checkpoint, by environment.

A trainer writes it into the folder before the checkpoint is published: then its CID covers it, and
every reader sees what the trainer claims. Whoever measures a published checkpoint writes
beside the folder (FOLDER.evaluation.json), for what lies inside is fixed by the CID.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marketplace.gym.environment import Task
from marketplace.protocol import strict_json
from marketplace.protocol.errors import CheckpointError
from marketplace.protocol.hashing import keccak
from marketplace.storage.rooms import MANIFEST_NAME
from trainer.records import EVALUATION_NAME, MAX_LEVELS
from trainer.state import write_atomically


def tasks_digest(tasks: Sequence[Task]) -> str:
    """A name for the tasks of an evaluation, in order: evaluations with one digest are paired."""
    return "0x" + keccak("\0".join(task.prompt for task in tasks).encode()).hex()


def evaluation_path(folder: Path) -> Path:
    """Where measurements of a checkpoint folder are written: beside it once it is published."""
    if (folder / MANIFEST_NAME).exists():
        return folder.with_name(f"{folder.name}.{EVALUATION_NAME}")
    return folder / EVALUATION_NAME


def read_evaluations(folder: Path, *, claims: bool = True) -> dict[str, dict[str, Any]]:
    """By environment id: what was measured here, else what the checkpoint itself claims (with
    claims=False nothing else).

    CheckpointError for a file that is not such a record.
    """
    found: dict[str, dict[str, Any]] = {}
    beside = folder.with_name(f"{folder.name}.{EVALUATION_NAME}")
    published = (folder / MANIFEST_NAME).exists()
    for path in (folder / EVALUATION_NAME, beside):
        if not path.exists() or (published and not claims and path != beside):
            continue
        try:
            record = strict_json.loads(path.read_text("utf-8"), depth=MAX_LEVELS)
            found |= {str(key): dict(one) for key, one in record["environments"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{str(path)!r} is no record of evaluations: {error}", fix="remove it"
            ) from error
    return found


def write_evaluation(folder: Path, environment: str, record: Mapping[str, Any]) -> Path:
    """Add the record of one environment (over an older one). Returns the file."""
    path = evaluation_path(folder)
    kept = read_evaluations(folder, claims=False)
    kept[environment] = dict(record)
    text = json.dumps({"v": 1, "environments": kept}, sort_keys=True, allow_nan=False)
    write_atomically(path, text.encode() + b"\n")
    return path
