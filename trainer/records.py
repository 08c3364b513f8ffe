"""The records in a checkpoint, as whoever fetches it reads them: made by strangers, checked here.

Needs no model runtime. trainer/checkpoint.py and trainer/measured.py write the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marketplace.gym.spec import SamplingSpec
from marketplace.protocol.errors import CheckpointError, ProofFailed
from marketplace.protocol.hashing import ZERO32, Address
from marketplace.protocol.merkle import dataset_leaf, dataset_root
from marketplace.protocol.seeds import PPM
from marketplace.protocol.shares import apportion
from marketplace.storage.checkpoints import fetch_checkpoint_file
from marketplace.storage.cid import Cid
from marketplace.storage.store import ContentStore

SAMPLING_NAME: Final = "sampling.json"
TRAINING_NAME: Final = "training.json"
EVALUATION_NAME: Final = "evaluation.json"
MAX_RECORD_BYTES: Final = 64 << 20
MAX_SAMPLING_BYTES: Final = 65_536
MAX_LEVELS: Final = 64
"""Of arrays and objects inside each other in a record."""

_Hash = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]
_Uint32 = Annotated[int, Field(ge=0, lt=2**32)]


class _Lenient(BaseModel):
    """What is not named here may be there too: a newer trainer may record more."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class BatchEntry(_Lenient):
    """One batch of a dataset. weight_ppm: its share of the tokens that were trained on."""

    batch: Annotated[int, Field(ge=1, lt=2**64)]
    verdict_root: _Hash
    units: _Uint32
    weight_ppm: int
    tokens: Annotated[int, Field(ge=0)] = 0

    @property
    def leaf(self) -> tuple[int, bytes, int, int]:
        """As protocol.merkle.dataset_root takes it."""
        return self.batch, bytes.fromhex(self.verdict_root[2:]), self.units, self.weight_ppm


class DatasetRecord(_Lenient):
    root: _Hash
    batches: tuple[BatchEntry, ...]


class TrainingFile(_Lenient):
    """A training.json. parent: None for a base model."""

    v: Literal[1]
    parent: int | None
    dataset: DatasetRecord
    settings: dict[str, Any]
    metrics: dict[str, Any]
    packages: dict[str, str] = {}
    revision: str = "unknown"


class Claim(_Lenient):
    """What a trainer says that its checkpoint can do in one environment."""

    environment_name: Annotated[str, Field(max_length=64)]
    tasks: _Uint32
    samples: _Uint32
    pass_at_1: Annotated[float, Field(ge=0, le=1)]
    standard_error: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class EvaluationFile(_Lenient):
    """An evaluation.json. environments: by environment id."""

    v: Literal[1]
    environments: dict[str, Claim]


def parse_training(data: bytes, name: str) -> TrainingFile:
    """A training.json; CheckpointError names the checkpoint (`name`), the field and the value."""
    try:
        # JSON has no tuples: strict only about what stands in it.
        return TrainingFile.model_validate_json(data)
    except ValidationError as error:
        raise CheckpointError(f"{TRAINING_NAME} of {name}: {_first(error)}") from None


def fetch_training(
    store: ContentStore, cid: Cid, name: str, *, timeout: float
) -> TrainingFile | None:
    """The training.json of a checkpoint, without its weights; None where it has none.

    Raises StorageError, CheckpointError.
    """
    data = fetch_checkpoint_file(
        store, cid, TRAINING_NAME, timeout=timeout, max_bytes=MAX_RECORD_BYTES
    )
    return None if data is None else parse_training(data, name)


def fetch_sampling(
    store: ContentStore, cid: Cid, name: str, *, timeout: float
) -> SamplingSpec | None:
    """The sampling rules in a checkpoint; None where it has none. Raises as fetch_training."""
    data = fetch_checkpoint_file(
        store, cid, SAMPLING_NAME, timeout=timeout, max_bytes=MAX_SAMPLING_BYTES
    )
    if data is None:
        return None
    try:
        return SamplingSpec.model_validate_json(data)
    except ValidationError as error:
        raise CheckpointError(f"{SAMPLING_NAME} of {name}: {_first(error)}") from None


def fetch_evaluation(
    store: ContentStore, cid: Cid, name: str, *, timeout: float
) -> EvaluationFile | None:
    """What the trainer claims in a checkpoint; None where it claims nothing. Raises as
    fetch_training."""
    data = fetch_checkpoint_file(
        store, cid, EVALUATION_NAME, timeout=timeout, max_bytes=MAX_RECORD_BYTES
    )
    if data is None:
        return None
    try:
        return EvaluationFile.model_validate_json(data)
    except ValidationError as error:
        raise CheckpointError(f"{EVALUATION_NAME} of {name}: {_first(error)}") from None


def added_up(*counts: Mapping[str, int]) -> dict[str, int]:
    """Traces left out, by reason, at several places: one reason may be given at more than one."""
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))


def weights_of(tokens: Sequence[int]) -> list[int]:
    """Each batch's share of the tokens that were trained on, in ppm; they add up to a million.
    All 0 where nothing was."""
    return apportion(PPM, tokens) if any(tokens) else [0] * len(tokens)


def root_of(chain_id: int, market: Address, entries: Sequence[BatchEntry]) -> bytes:
    """The dataset root of entries, 32 bytes. ProofFailed names the batch that can't be in one."""
    for entry in entries:
        if not 0 <= entry.weight_ppm <= PPM:
            raise ProofFailed(
                f"batch {entry.batch} has the weight {entry.weight_ppm} ppm, outside 0 to {PPM}"
            )
    for before, after in pairwise(entries):
        if after.batch <= before.batch:
            raise ProofFailed(f"batch {after.batch} follows batch {before.batch} in the dataset")
    if not entries:
        return ZERO32
    # Nor 0: royalties follow the weights, and where nobody has any the trainer has all.
    if (total := sum(entry.weight_ppm for entry in entries)) != PPM:
        last = entries[-1].batch
        raise ProofFailed(
            f"the weights of batches {entries[0].batch} to {last} add up to {total} ppm, not {PPM}"
        )
    return dataset_root(chain_id, market, [entry.leaf for entry in entries])


def leaves_of(chain_id: int, market: Address, entries: Sequence[BatchEntry]) -> list[bytes]:
    return [dataset_leaf(chain_id, market, *entry.leaf) for entry in entries]


def _first(error: ValidationError) -> str:
    one = error.errors(include_url=False)[0]
    field = ".".join(map(str, one["loc"])) or "the file"
    given = "" if one["type"] in ("missing", "json_invalid") else f" (is {one['input']!r:.60})"
    return f"{field}: {one['msg']}{given}"
