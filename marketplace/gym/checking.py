"""From the lines of a batch to its verdicts, for verifiers, and for miners before they commit.

Every rule here depends on the batch, the bounty's terms, the spec, the round's randomness and
what was bought before the batch's commit alone, so that honest verifiers arrive at the same
attestation. The first rule that a trace breaks is its reason, in this order: malformed line, not
the assigned task, another prompt, off policy by what it states, too long, checker state, false
claim, off policy by re-scoring. Copies are found last, among what breaks no rule.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from marketplace.gym.jobs import CheckExecutor, CheckItem, CheckResult, Status
from marketplace.gym.originality import Earlier, TextOf, TextOriginals
from marketplace.gym.spec import EnvironmentSpec
from marketplace.protocol import batch_file, merkle, payout
from marketplace.protocol.batch_terms import BatchTerms
from marketplace.protocol.errors import (
    CheckerFailed,
    InvalidValue,
    MalformedBatch,
    MalformedTrace,
)
from marketplace.protocol.payout import Checked
from marketplace.protocol.seeds import walk_seed
from marketplace.protocol.sheets import GRID, TOP
from marketplace.protocol.trace import Tier, Trace, decode_line
from marketplace.protocol.verdict import (
    FAULTS,
    Attestation,
    Reason,
    Verdict,
    VerdictTree,
    batch_verdicts,
    score_reason,
    to_ppm,
)


@dataclass(frozen=True, slots=True)
class GroupToScore:
    """The traces of one sampled group that nothing speaks against yet; all have this prompt.

    Each has tokens and logprobs, of one length; at least one trace. seed: of the task, under
    tier A: the tokens must be those that it picks for each trace's place in the group.
    """

    prompt: str
    traces: tuple[Trace, ...]
    seed: bytes | None = None


class ProvenanceScorer(Protocol):
    """Re-scores behaviour log-probs. The verifier's needs torch; this package does not."""

    def off_policy(self, checkpoint: int, groups: list[GroupToScore]) -> list[bool]:
        """One answer per trace, groups in order: True if checkpoint did not sample it so (from
        the group's seed, where it has one)."""
        ...


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a trace got its verdict. text: one line for people, not part of the verdict."""

    index: int
    verdict: Verdict
    text: str

    @property
    def reason(self) -> Reason:
        """The verdict's reason."""
        return self.verdict.reason


@dataclass(frozen=True, slots=True)
class BatchCheck:
    """The verdicts of a batch in file order, their attestation, and one line of text for each."""

    batch: int
    verdicts: tuple[Verdict, ...]
    attestation: Attestation
    notes: tuple[str, ...]

    def explain(self, index: int) -> Explanation:
        """Why trace `index` got its verdict. InvalidValue off the end."""
        if not 0 <= index < len(self.verdicts):
            raise InvalidValue(f"trace index is {index}, the batch has {len(self.verdicts)}")
        return Explanation(index, self.verdicts[index], self.notes[index])

    def tree(self) -> VerdictTree:
        """The verdict tree, for proofs."""
        return batch_verdicts(self.batch, self.verdicts)


def open_batch(
    data: batch_file.Buffer, *, count: int, root: bytes, terms: BatchTerms
) -> list[bytes]:
    """The lines of a batch file, if they are what the miner committed to.

    Raises MalformedBatch (BatchTooLarge over the limits) if the file can't be read as count
    lines or does not lead to root: the outcome of the whole batch is then verdict.MALFORMED.
    """
    lines = batch_file.unpack(data, count)
    tree = merkle.batch_tree(terms.chain_id, terms.market, terms.bounty, terms.miner, lines)
    if tree.root != root:
        raise MalformedBatch(
            f"the lines lead to batch root 0x{tree.root.hex()}, not 0x{bytes(root).hex()}"
        )
    return lines


def check_batch(
    lines: Sequence[bytes],
    *,
    spec: EnvironmentSpec,
    terms: BatchTerms,
    pool: CheckExecutor,
    randomness: bytes | None = None,
    scorer: ProvenanceScorer | None = None,
    checkpoint_ok: Callable[[int], bool] | None = None,
    earlier: Earlier | None = None,
    panel: Sequence[int] | None = None,
) -> BatchCheck:
    """Judges every trace of a batch. lines: as from open_batch, whole groups only.

    randomness: bytes32 of the round; with it the spec's provenance.groups are drawn for scorer.
    checkpoint_ok: whether a checkpoint id counts (None: any does). scorer None: no re-scoring,
    as for a miner that checks its own batch. earlier: what was bought in the batches that the
    spec's originality.earlier looks back on; None: the batch alone. panel: of a rubric environment
    the median grade of every trace; None: as if nothing was worth anything (`for_jury` says what
    there is to grade).

    Raises InvalidValue for terms that can't be checked; SpecError, EnvironmentMismatch and
    CheckerFailed as CheckPool.stream: then there is no verdict at all.
    """
    _check_terms(lines, terms, randomness, scorer)
    if panel is not None and (spec.rubric is None or len(panel) != len(lines)):
        raise InvalidValue(
            f"{len(panel)} grades for {len(lines)} traces of a {spec.kind} environment"
        )
    review = _Review(spec, terms, checkpoint_ok)
    waiting: deque[_Line] = deque()
    results = pool.stream(spec, review.items(lines, waiting), len(lines))
    for result in results:
        _settle(waiting.popleft(), result)
    if terms.tier is not Tier.C and scorer is not None and randomness is not None:
        groups = len(lines) // terms.group_size
        sampled = sampled_groups(randomness, groups, spec.provenance.groups)
        _rescore(lines, review.lines, sampled, terms, scorer)
    if panel is not None:
        for line, grade in zip(review.lines, panel, strict=True):
            line.grade(grade)
    verdicts = payout.apply(
        terms.pay_rule,
        terms.group_size,
        [line.checked() for line in review.lines],
        TextOriginals(
            spec, terms.tier, terms.pay_rule, [line.original for line in review.lines], earlier
        ),
    )
    return BatchCheck(
        terms.batch,
        tuple(verdicts),
        batch_verdicts(terms.batch, verdicts).attestation,
        tuple(_note(line, verdict) for line, verdict in zip(review.lines, verdicts, strict=True)),
    )


_AWAITING = frozenset({Reason.WRONG, Reason.DUPLICATE})
"""The reasons of what waits for a jury: no points, and that its text is a copy."""


def for_jury(check: BatchCheck) -> tuple[int, ...]:
    """The traces of a rubric environment's batch, checked without a panel, that are for the jury to
    grade. All others have their verdict already."""
    return tuple(place for place, one in enumerate(check.verdicts) if one.reason in _AWAITING)


def sampled_groups(randomness: bytes, groups: int, wanted: int) -> list[int]:
    """The groups to re-score, ascending: the first `wanted` different H(randomness || counter)
    mod groups, counter a uint64 from 0; all groups if there are no more than wanted."""
    if wanted >= groups:
        return list(range(groups))
    drawn: set[int] = set()
    counter = 0
    while len(drawn) < wanted:
        drawn.add(int.from_bytes(walk_seed(randomness, counter), "big") % groups)
        counter += 1
    return sorted(drawn)


# --- one trace after the other -----------------------------------------------------


@dataclass(slots=True)
class _Line:
    """What is known about a trace so far. reason, text: the rule it breaks, or its score."""

    reason: Reason | None = None
    text: str = ""
    score_ppm: int = 0
    completion: str = ""
    claimed: float | None = None
    original: TextOf | None = None

    def refuse(self, reason: Reason, text: str) -> None:
        self.reason, self.text, self.score_ppm = reason, text, 0

    def grade(self, grade: int) -> None:
        """The jury's median, for what the rules left to it."""
        if self.reason is Reason.WRONG:
            self.score_ppm = GRID[grade]
            self.reason = score_reason(self.score_ppm)
            self.text = f"the jury's median grade is {grade} of {TOP}"

    def checked(self) -> Checked:
        if self.reason is None:
            raise CheckerFailed("the check pool left a trace without a result")
        return Checked(self.score_ppm, self.reason, self.completion)


class _Review:
    """The rules that need no checker. Fills `lines` while the pool takes its items."""

    def __init__(
        self,
        spec: EnvironmentSpec,
        terms: BatchTerms,
        checkpoint_ok: Callable[[int], bool] | None,
    ) -> None:
        self._spec, self._terms = spec, terms
        self._checkpoint_ok = checkpoint_ok
        self._known_checkpoints: dict[int, bool] = {}
        self.lines: list[_Line] = []

    def items(self, lines: Iterable[bytes], waiting: deque[_Line]) -> Iterator[CheckItem]:
        """What the pool has to check; for each item its line is appended to waiting."""
        checkpoint: int | None = None
        seed = b""
        for index, raw in enumerate(lines):
            group, sample = divmod(index, self._terms.group_size)
            task = self._terms.first_task + group
            if sample == 0:
                checkpoint, seed = None, self._terms.seed(task)
            line = _Line()
            self.lines.append(line)
            try:
                trace = decode_line(raw)
            except MalformedTrace as error:
                line.refuse(Reason.MALFORMED_LINE, str(error))
                continue
            if (trace.task, trace.sample) != (task, sample):
                line.refuse(
                    Reason.UNASSIGNED,
                    f"answers task {trace.task} sample {trace.sample}, "
                    f"but this line is assigned task {task} sample {sample}",
                )
                continue
            # What a jury thinks is not the miner's to know: a claim about it is no lie.
            line.claimed = trace.claimed_score if self._spec.rubric is None else None
            line.completion = trace.completion
            line.original = TextOf.of(trace)
            checkpoint = trace.checkpoint if checkpoint is None else checkpoint
            if broken := self._off_policy(trace, checkpoint):
                line.refuse(Reason.OFF_POLICY, broken)
            elif broken := self._too_long(trace):
                line.refuse(Reason.TOO_LONG, broken)
            waiting.append(line)
            # A refused trace still has its prompt compared: tampering is the older lie.
            yield CheckItem(seed, trace.completion if line.reason is None else None, trace.prompt)

    def _off_policy(self, trace: Trace, group_checkpoint: int | None) -> str:
        """What a trace states against tiers A and B, or ""."""
        if self._terms.tier is Tier.C:
            return ""
        sampling = self._spec.sampling
        if not trace.tokens or trace.logprobs is None or trace.checkpoint is None:
            names = ("tokens", "logprobs", "checkpoint")
            missing = [name for name in names if not getattr(trace, name)]
            return f"tier {self._terms.tier.name} needs {' and '.join(missing)}"
        if trace.checkpoint != group_checkpoint:
            return f"checkpoint {trace.checkpoint} in a group of checkpoint {group_checkpoint}"
        if not self._is_acceptable(trace.checkpoint):
            return f"checkpoint {trace.checkpoint} is not one that this bounty accepts"
        if trace.temperature != sampling.temperature:
            return f"temperature {trace.temperature}, but the spec says {sampling.temperature}"
        if trace.max_tokens != sampling.max_tokens:
            return f"max_tokens {trace.max_tokens}, but the spec says {sampling.max_tokens}"
        return ""

    def _is_acceptable(self, checkpoint: int) -> bool:
        if self._checkpoint_ok is None:
            return True
        if checkpoint not in self._known_checkpoints:
            self._known_checkpoints[checkpoint] = bool(self._checkpoint_ok(checkpoint))
        return self._known_checkpoints[checkpoint]

    def _too_long(self, trace: Trace) -> str:
        most_chars, most_tokens = self._spec.limits.max_chars, self._spec.sampling.max_tokens
        if len(trace.completion) > most_chars:
            return f"the completion has {len(trace.completion)} characters, over {most_chars}"
        if trace.tokens is not None and len(trace.tokens) > most_tokens:
            return f"the completion has {len(trace.tokens)} tokens, over {most_tokens}"
        return ""


def _settle(line: _Line, result: CheckResult) -> None:
    """Puts a pool result on its line."""
    if result.status is Status.PROMPT:
        line.refuse(Reason.TAMPERED_PROMPT, result.detail)
    elif line.reason is not None:
        return  # only its prompt was asked about
    elif result.status is not Status.OK or result.score is None or result.reason is None:
        line.refuse(result.reason or Reason.CHECKER_ERROR, result.detail)
    elif line.claimed is not None and to_ppm(line.claimed) != to_ppm(result.score):
        line.refuse(
            Reason.FALSE_CLAIM, f"claims score {line.claimed:g}, but it is {result.score:g}"
        )
    else:
        line.reason, line.text = result.reason, result.detail
        line.score_ppm = to_ppm(result.score)


def _rescore(
    raw: Sequence[bytes],
    lines: Sequence[_Line],
    sampled: Iterable[int],
    terms: BatchTerms,
    scorer: ProvenanceScorer,
) -> None:
    size, replayed = terms.group_size, terms.tier is Tier.A
    lie = "its tokens and logprobs are not what the assigned seed gives with checkpoint"
    if not replayed:
        lie = "its logprobs are not those of checkpoint"
    by_checkpoint: defaultdict[int, list[tuple[GroupToScore, list[_Line]]]] = defaultdict(list)
    for group in sampled:
        indices = [
            index
            for index in range(group * size, (group + 1) * size)
            if lines[index].reason not in FAULTS and lines[index].reason is not Reason.TOO_LONG
        ]
        traces = tuple(decode_line(raw[index]) for index in indices)
        if traces and traces[0].checkpoint is not None:
            seed = terms.seed(terms.first_task + group) if replayed else None
            to_score = GroupToScore(traces[0].prompt, traces, seed)
            found = (to_score, [lines[index] for index in indices])
            by_checkpoint[traces[0].checkpoint].append(found)
    for checkpoint, asked_of in sorted(by_checkpoint.items(), key=lambda pair: pair[0]):
        members = [line for _, of_group in asked_of for line in of_group]
        answers = scorer.off_policy(checkpoint, [to_score for to_score, _ in asked_of])
        if len(answers) != len(members):
            raise CheckerFailed(f"the scorer gave {len(answers)} answers for {len(members)} traces")
        for line, off in zip(members, answers, strict=True):
            if off:
                line.refuse(Reason.OFF_POLICY, f"{lie} {checkpoint}")


def _note(line: _Line, verdict: Verdict) -> str:
    paid = f"; worth {verdict.units} unit{'' if verdict.units == 1 else 's'}"
    if verdict.reason is Reason.DUPLICATE:
        return f"{line.text}; a text like it was bought before for its question{paid}"
    return line.text if verdict.faults else line.text + paid


def _check_terms(
    lines: Sequence[bytes],
    terms: BatchTerms,
    randomness: bytes | None,
    scorer: ProvenanceScorer | None,
) -> None:
    if terms.group_size < 1 or not lines or len(lines) % terms.group_size:
        raise InvalidValue(f"{len(lines)} traces are not whole groups of {terms.group_size}")
    if scorer is not None and terms.tier is not Tier.C and randomness is None:
        raise InvalidValue("re-scoring needs the round's randomness, got None")
