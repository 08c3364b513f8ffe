"""The environment spec: what is asked, how it is sampled, how it is scored, what limits hold.

A spec is content-addressed: its id is the sha2-256 of its bytes, which is also the digest of
its CID (a spec is at most 262,144 bytes, always one raw block). Every error is a SpecError
that names the field, the value and what would be valid.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib import resources
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from marketplace.gym.source import Asset, Part
from marketplace.gym.sources import SourceSpec
from marketplace.gym.sources.dataset import builtin_asset
from marketplace.protocol import strict_json
from marketplace.protocol.errors import SpecError
from marketplace.protocol.seeds import PPM

MAX_SPEC_BYTES: Final = 262_144
MAX_DEPTH: Final = 16

MATH_VERIFY_PACKAGES: Final = ("math-verify", "latex2sympy2-extended", "sympy")
"""What scoring as mathematics must pin: another version may score the same text differently."""

NEAR_PACKAGES: Final = ("datasketch",)
"""What near-duplicates depend on: another version may hash the same text differently."""


class PromptSpec(Part):
    """The prompt: `shots` solved examples through shot_template, then template.

    {question} and {answer} are replaced literally; nothing else is interpreted.
    """

    template: Annotated[str, Field(max_length=20_000)] = "{question}"
    shots: Annotated[int, Field(ge=0, le=32)] = 0
    shot_template: Annotated[str, Field(max_length=20_000)] = "{question}\n{answer}\n\n"

    @field_validator("template")
    @classmethod
    def _asks_the_question(cls, value: str) -> str:
        return _holding_once(value, ("{question}",))

    @field_validator("shot_template")
    @classmethod
    def _shows_an_example(cls, value: str) -> str:
        return _holding_once(value, ("{question}", "{answer}"))


class WholeAnswer(Part):
    """The answer is the completion, stripped."""

    kind: Literal["whole"]


class LastLineAnswer(Part):
    """The answer is the last line that is not blank, stripped."""

    kind: Literal["last_line"]


class BetweenAnswer(Part):
    """The answer is what stands before the last `end`, after the last `start` before it."""

    kind: Literal["between"]
    start: Annotated[str, Field(min_length=1, max_length=64)]
    end: Annotated[str, Field(min_length=1, max_length=64)]


AnswerRule = Annotated[WholeAnswer | LastLineAnswer | BetweenAnswer, Field(discriminator="kind")]


class ScoringSpec(Part):
    """exact: by text. source: by the source's own scorer. math_verify: as mathematics."""

    kind: Literal["exact", "source", "math_verify"]


class RubricScoring(Part):
    """No right answer: verifiers grade by the rubric, each with a judge of its own, and the score
    is the median of their grades (docs/juries.md). Another class of environment.

    rubric: what judges are told; it should say what each grade from 0 to 4 means. min_sheets: of
    judges with any weight, below which a batch has no verdicts and ends void; None for more than
    half of the first committee. calibrators: addresses whose gold sheets fix the judges' weights;
    nobody's where there are none.
    """

    kind: Literal["rubric"]
    rubric: Annotated[str, Field(min_length=40, max_length=8000)]
    min_sheets: Annotated[int, Field(ge=1, le=127)] | None = None
    calibrators: Annotated[
        tuple[Annotated[str, Field(pattern=r"^0x[0-9a-f]{40}$")], ...], Field(max_length=16)
    ] = ()


Scoring = Annotated[ScoringSpec | RubricScoring, Field(discriminator="kind")]


class SamplingSpec(Part):
    """temperature: of the softmax, no top-p, no top-k. max_tokens: per completion."""

    temperature: Annotated[float, Field(gt=0.0, le=4.0)] = 1.0
    max_tokens: Annotated[int, Field(ge=1, le=65_536)] = 256
    stop: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=64)], ...], Field(max_length=8)
    ] = ()


class LimitsSpec(Part):
    """Per trace. seconds: of a check. memory_mb: MiB beyond the worker's own. max_chars: text.

    paid_per_task: units of one question at most, in this batch and those that originality.earlier
    looks back on (None: no limit)."""

    seconds: Annotated[float, Field(ge=0.05, le=60.0)] = 5.0
    memory_mb: Annotated[int, Field(ge=64, le=8192)] = 512
    max_chars: Annotated[int, Field(ge=1, le=262_144)] = 8192
    paid_per_task: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


class ProvenanceSpec(Part):
    """Tiers A and B. groups: re-scored of each batch, drawn by the round's randomness. mean,
    maximum: largest honest difference of a trace's log-probs from the checkpoint's, in nats.
    Tier A besides: margin: by how much, in nats, the best other token may beat the one taken;
    flips: share of a trace's tokens that may be beaten at all, one of them in any case (see
    provenance.py). Part of the spec, so that all verifiers judge alike."""

    groups: Annotated[int, Field(ge=1, le=4096)] = 4
    mean: Annotated[float, Field(gt=0.0, le=1.0)] = 0.02
    maximum: Annotated[float, Field(gt=0.0, le=10.0)] = 0.5
    margin: Annotated[float, Field(gt=0.0, le=10.0)] = 0.001
    flips: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01


class NearSpec(Part):
    """When two texts for one question are nearly the same: shingles of so many characters, without
    those of the prompt; at least `least` of them in both; a MinHash estimate of their Jaccard
    similarity of at least similarity_ppm."""

    similarity_ppm: Annotated[int, Field(ge=300_000, le=PPM)] = 700_000
    shingle: Annotated[int, Field(ge=3, le=32)] = 8
    least: Annotated[int, Field(ge=16, le=65_536)] = 64


class OriginalitySpec(Part):
    """What counts as sold before (see originality.py). earlier: so many batches of the environment
    that were attested last before a batch's commit are looked at, beside the batch itself.
    near: None for equal texts only. nats: at tier B under the informative rule only texts at most
    this likely (-log p) count as copies: two honest samples may be equal."""

    earlier: Annotated[int, Field(ge=0, le=10_000)] = 0
    near: NearSpec | None = None
    nats: Annotated[float, Field(ge=1.0, le=1000.0)] = 32.0


class EnvironmentSpec(Part):
    """An environment. packages: exact versions that scoring depends on, by distribution name.

    holdout_ppm: share of questions, chosen by their text, that are never sold (0: none).
    """

    v: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
    description: Annotated[str, Field(max_length=2000)] = ""
    source: SourceSpec
    prompt: PromptSpec = PromptSpec()
    answer: AnswerRule = WholeAnswer(kind="whole")
    scoring: Scoring
    sampling: SamplingSpec = SamplingSpec()
    limits: LimitsSpec = LimitsSpec()
    provenance: ProvenanceSpec = ProvenanceSpec()
    originality: OriginalitySpec = OriginalitySpec()
    holdout_ppm: Annotated[int, Field(ge=0, lt=PPM)] = 100_000
    packages: dict[str, Annotated[str, Field(min_length=1, max_length=64)]] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _fits_together(self) -> EnvironmentSpec:
        if self.scoring.kind == "source" and not self.source.SCORES:
            raise ValueError(
                f'scoring.kind is "source", but source.kind "{self.source.kind}" has no scorer of '
                'its own: use "exact" or "math_verify"'
            )
        if self.source.turns() and (self.answer.kind, self.scoring.kind) != ("whole", "source"):
            raise ValueError(
                f'source.kind "{self.source.kind}" is of several turns: answer.kind has to be '
                f'"whole" and scoring.kind "source", not "{self.answer.kind}" and '
                f'"{self.scoring.kind}"'
            )
        if self.rubric is not None and self.source.turns():
            raise ValueError(
                f'scoring.kind is "rubric", but source.kind "{self.source.kind}" is of several '
                "turns: a jury grades one text"
            )
        scoring = MATH_VERIFY_PACKAGES if self.scoring.kind == "math_verify" else ()
        near = NEAR_PACKAGES if self.originality.near is not None else ()
        needs = (
            (self.source.kind, self.source.packages()),
            (self.scoring.kind, scoring),
            ("originality.near", near),
        )
        for kind, packages in needs:
            for package in packages:
                if package not in self.packages:
                    raise ValueError(
                        f'"{kind}" needs packages["{package}"], its exact version; '
                        f"packages has {sorted(self.packages)}"
                    )
        return self

    @property
    def rubric(self) -> RubricScoring | None:
        """How it is graded, where it has no right answers; None for a checked environment."""
        return self.scoring if isinstance(self.scoring, RubricScoring) else None

    @property
    def kind(self) -> str:
        """The class of environment: "checked", or "rubric" where a jury scores."""
        return "checked" if self.rubric is None else "rubric"

    def assets(self) -> tuple[Asset, ...]:
        """The data sets that tasks are made of: CIDs, and the most bytes each may have."""
        return self.source.assets()

    def to_fetch(self) -> tuple[Asset, ...]:
        """The assets that don't ship with the package: who builds the environment has to have
        them in a folder, a file each, named by its CID."""
        return tuple(one for one in self.assets() if builtin_asset(one.cid) is None)


def parse_spec(data: bytes) -> EnvironmentSpec:
    """The spec in JSON bytes, in any layout (indented or not). Raises SpecError.

    Stricter than json.loads: no duplicate key, no NaN or Infinity, no unknown key.
    """
    if len(data) > MAX_SPEC_BYTES:
        raise SpecError(f"the spec has {len(data)} bytes, over {MAX_SPEC_BYTES}")
    try:
        record = strict_json.loads(data.decode("utf-8"), depth=MAX_DEPTH)
    except UnicodeDecodeError as error:
        raise SpecError(f"the spec is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise SpecError(f"the spec is not JSON: {error}") from None
    except ValueError as error:
        raise SpecError(f"the spec can't be read as JSON: {error}") from None
    if not isinstance(record, dict):
        raise SpecError(f"the spec holds a JSON {type(record).__name__}, not an object")
    try:
        # allow_nan: 1e999 is JSON, but no number that a spec could be written down with again.
        return EnvironmentSpec.model_validate_json(json.dumps(record, allow_nan=False))
    except ValidationError as error:
        raise SpecError(_described(error)) from None
    except ValueError:
        raise SpecError("the spec holds a number beyond the range of floats") from None


def spec_bytes(spec: EnvironmentSpec) -> bytes:
    """The canonical bytes: sorted keys, no spaces, UTF-8, every default written out."""
    record = spec.model_dump(mode="json")
    text = json.dumps(
        record, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    data = text.encode("utf-8")
    if len(data) > MAX_SPEC_BYTES:
        raise SpecError(f"the spec has {len(data)} bytes, over {MAX_SPEC_BYTES}")
    return data


def environment_id(data: bytes) -> bytes:
    """The environment id (bytes32): sha2-256 of the registered bytes, the digest of their CID."""
    return hashlib.sha256(data).digest()


def builtin_names() -> list[str]:
    """The names of the specs that ship with the package."""
    return sorted(
        entry.name.removesuffix(".json")
        for entry in _specs().iterdir()
        if entry.name.endswith(".json")
    )


def builtin_spec(name: str) -> EnvironmentSpec:
    """A spec that ships with the package. SpecError lists the names when there is no such one."""
    names = builtin_names()
    if name not in names:
        raise SpecError(f"there is no built-in spec {name!r}", fix=f"use one of {names}")
    return parse_spec((_specs() / f"{name}.json").read_bytes())


def _specs() -> Any:
    return resources.files("marketplace.gym") / "specs"


def _holding_once(template: str, placeholders: Iterable[str]) -> str:
    for placeholder in placeholders:
        found = template.count(placeholder)
        if found != 1:
            raise ValueError(f"must hold {placeholder} exactly once, holds it {found} times")
    return template


def _described(error: ValidationError) -> str:
    """Every problem as `field: what is wrong, got value`, one line."""
    problems = []
    for problem in error.errors(include_url=False):
        # Literal tags of unions show up in the location; they name no key of the file.
        place = ".".join(str(part) for part in problem["loc"]) or "spec"
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown key"
        if problem["type"] != "missing" and not isinstance(problem["input"], dict):
            message += f", got {_short(problem['input'])}"
        problems.append(f"{place}: {message}")
    return "the spec is not valid: " + "; ".join(problems)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
