"""Model cards: README.md with a YAML head, from what the registry and the checkpoint say.

Nothing is written that was not read somewhere: what a checkpoint does not say is left out, and what
only its trainer claims is said to be a claim. Records come from strangers: they are checked before
they are read, and their words stay on their line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from marketplace.protocol.errors import CheckpointError
from trainer.records import EVALUATION_NAME, TRAINING_NAME, BatchEntry, added_up

_LONGEST: Final = 1000
"""Characters of one text of the trainer's."""


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A registered checkpoint. cid, dataset_root: as text; no root for a base model."""

    id: int
    cid: str
    trainer: str
    dataset_root: str | None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a checkpoint comes from. chain: itself first, the base model last. bounties, and
    environments by id: of the batches it was trained on, the base's without."""

    chain_id: int
    market: str
    chain: Sequence[Ancestor]
    bounties: Sequence[int]
    environments: Mapping[str, str]


def model_card(
    origin: Origin,
    record: Mapping[str, Any] | None,
    evaluations: Mapping[str, Mapping[str, Any]],
    *,
    measured: bool,
) -> str:
    """The card. record: training.json, None for a base model. evaluations: by environment id, of
    trainer.measured. measured: they were measured here, not only claimed by the trainer."""
    this = origin.chain[0]
    sections = [
        _head(origin, evaluations),
        f"# tracemarket checkpoint {this.id}\n",
        _about(origin, record),
        _lineage(origin),
        _data(origin, record),
        _evaluation(evaluations, measured=measured),
        _settings(record),
        _licence(),
    ]
    return "\n".join(section for section in sections if section)


def _head(origin: Origin, evaluations: Mapping[str, Mapping[str, Any]]) -> str:
    """YAML of the form that model hubs read; JSON strings are YAML strings."""
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "license: other",
        "license_name: see-licence-note",
        "tags:",
        "- tracemarket",
        "- reinforcement-learning",
    ]
    if evaluations:
        lines += [
            "model-index:",
            f"- name: {json.dumps(f'tracemarket-checkpoint-{origin.chain[0].id}')}",
            "  results:",
        ]
        for number, one in sorted(evaluations.items()):
            lines += [
                "  - task:",
                "      type: text-generation",
                "    dataset:",
                f"      name: {json.dumps(str(one.get('environment_name', number)))}",
                f"      type: {json.dumps(number)}",
                "    metrics:",
            ]
            for name, points in (("pass", one["pass"]), ("maj", one["majority"] or [])):
                for point in points:
                    kind = f"{name}@{point['k']}"
                    lines += [
                        f"    - type: {json.dumps(kind)}",
                        f"      value: {point['value']:.4f}",
                    ]
    return "\n".join([*lines, "---", ""])


def _about(origin: Origin, record: Mapping[str, Any] | None) -> str:
    this = origin.chain[0]
    what = (
        "A base model, registered as it is: trained on no traces of this market."
        if record is None or this.dataset_root is None
        else "Trained on reasoning traces that were bought on a tracemarket market: every trace "
        "was checked by verifiers drawn by lot, and proven against the chain before it was "
        "learned from."
    )
    return (
        f"{what}\n\n"
        f"- market: `{origin.market}` on chain {origin.chain_id}\n"
        f"- content: `{this.cid}`\n"
        f"- registered by: `{this.trainer}`\n"
    )


def _lineage(origin: Origin) -> str:
    rows = [
        f"| {one.id} | `{one.cid}` | "
        f"{f'`{one.dataset_root}`' if one.dataset_root else 'none (a base model)'} |"
        for one in origin.chain
    ]
    return "\n".join(
        ["## Lineage\n", "| checkpoint | content | dataset root |", "|---|---|---|", *rows, ""]
    )


def _data(origin: Origin, record: Mapping[str, Any] | None) -> str:
    if record is None or not origin.bounties:
        return ""
    dataset = record.get("dataset", {})
    lines = ["## Data\n", f"- bounties: {', '.join(map(str, origin.bounties))}"]
    lines += [
        f"- environment: {_plain(name)} (`{one}`)" for one, name in origin.environments.items()
    ]
    batches = dataset.get("batches", [])
    lines.append(f"- batches: {len(batches)}; dataset root `{origin.chain[0].dataset_root}`")
    for key in ("traces", "groups", "mean_score", "mean_tokens"):
        if key in dataset:
            value = dataset[key]
            shown = f"{value:.3f}" if isinstance(value, float) else _plain(value)
            lines.append(f"- {key.replace('_', ' ')}: {shown}")
    left_out = added_up(dataset.get("skipped", {}), record.get("metrics", {}).get("dropped", {}))
    lines += [f"- left out, {_plain(reason)}: {count}" for reason, count in left_out.items()]
    return "\n".join([*lines, ""])


def _evaluation(evaluations: Mapping[str, Mapping[str, Any]], *, measured: bool) -> str:
    lines = ["## Evaluation\n"]
    if not evaluations:
        return "\n".join([*lines, "None is known.", ""])
    by = "Measured by whoever exported this card" if measured else "Claimed by the trainer"
    lines.append(
        f"{by}, on held-out tasks, which are never sold. ± is one standard error, clustered by "
        "task. pass@k: one of k samples is right; maj@k: the commonest answer of k is right.\n"
    )
    for number, one in sorted(evaluations.items()):
        name = one.get("environment_name", number)
        lines.append(
            f"{_plain(name)}: {one['tasks']} tasks, {one['samples']} samples of each, "
            f"seed {one['seed']}\n"
        )
        lines += ["| k | pass@k | maj@k |", "|---|---|---|"]
        majority = one["majority"] or [None] * len(one["pass"])
        for point, other in zip(one["pass"], majority, strict=True):
            lines.append(
                f"| {_plain(point['k'])} | {_shown(point)} | {_shown(other) if other else ''} |"
            )
        lines.append("")
    return "\n".join(lines)


def _settings(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return ""
    lines = ["## Settings\n", "| setting | value |", "|---|---|"]
    settings = sorted(record.get("settings", {}).items())
    lines += [f"| {_plain(key)} | {_plain(value)} |" for key, value in settings]
    packages = sorted(record.get("packages", {}).items())
    versions = [f"{_plain(name)} {_plain(value)}" for name, value in packages]
    return "\n".join([*lines, "", f"Packages: {', '.join(versions)}.", ""])


def _licence() -> str:
    return (
        "## Licence\n\n"
        "The registry records no licence. These weights derive from the base model at the end of "
        "the lineage, whose licence applies to them, and were trained on traces whose sellers "
        "accepted the terms of their bounties. Check both before you pass them on.\n"
    )


def _plain(value: object) -> str:
    """A stranger's text as one line that is nothing but text: no other section, no markup."""
    line = " ".join(str(value).split())
    for char in "\\`*[]<>|#":
        line = line.replace(char, f"\\{char}")
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."


def _shown(point: Mapping[str, float]) -> str:
    return f"{point['value']:.3f} ± {point['standard_error']:.3f}"


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


class _Dataset(_Read):
    root: str = ""
    batches: list[BatchEntry] = []
    traces: int = 0
    groups: int = 0
    mean_score: float = 0.0
    mean_tokens: float = 0.0
    skipped: dict[str, int] = {}


class _Metrics(_Read):
    dropped: dict[str, int] = {}


class _Record(_Read):
    dataset: _Dataset = _Dataset()
    settings: dict[str, Any] = {}
    metrics: _Metrics = _Metrics()
    packages: dict[str, str] = {}


class _Point(_Read):
    k: int
    value: float
    standard_error: float


class _Evaluated(_Read):
    environment_name: str = ""
    tasks: int
    samples: int
    seed: int
    passes: list[_Point] = Field(alias="pass")
    majority: list[_Point] | None


def check_record(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """training.json as a card reads it: anybody may have written it. CheckpointError if not so."""
    return _checked(TypeAdapter(_Record), record, TRAINING_NAME)


def check_evaluations(found: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    """evaluation.json's environments as a card reads them. CheckpointError if they are not so."""
    checked = _checked(TypeAdapter(dict[str, _Evaluated]), found, EVALUATION_NAME)
    for number, one in checked.items():
        if one["majority"] is not None and len(one["majority"]) != len(one["pass"]):
            raise CheckpointError(
                f"{EVALUATION_NAME}: {number!r:.80} has {len(one['pass'])} points of pass@k and "
                f"{len(one['majority'])} of maj@k"
            )
    return checked


def _checked(shape: TypeAdapter[Any], found: Any, name: str) -> Any:
    try:
        shape.validate_python(found)
    except ValidationError as error:
        one = error.errors(include_url=False)[0]
        place = ".".join(map(str, one["loc"]))
        raise CheckpointError(f"{name}: {place} is {one['input']!r:.60}: {one['msg']}") from None
    return found
