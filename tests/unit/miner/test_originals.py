"""Groups at the end that hold copies and nothing paid are left out; nothing else is."""

from __future__ import annotations

import pytest

from marketplace.miner.originals import without_copies
from marketplace.protocol.seeds import PPM
from marketplace.protocol.verdict import Reason, Verdict

PAID = Verdict(PPM, Reason.CORRECT, 1, 0)
COPY = Verdict(PPM, Reason.DUPLICATE, 0, 0)
WRONG = Verdict(0, Reason.WRONG, 0, 0)


@pytest.mark.parametrize(
    ("verdicts", "kept", "copies"),
    [
        ([PAID, WRONG, COPY, WRONG], 2, 1),
        ([COPY, COPY, PAID, COPY], 4, 3),  # what comes before a paid group has to stay
        ([PAID, WRONG, WRONG, WRONG], 4, 0),  # wrong is no copy
        ([PAID, PAID, COPY, COPY, WRONG, WRONG], 6, 2),
        ([PAID, PAID, COPY, COPY, WRONG, COPY], 2, 3),
        ([COPY, COPY, COPY, COPY], 0, 4),
    ],
)
def test_what_is_left_out(verdicts: list[Verdict], kept: int, copies: int) -> None:
    lines = [bytes([place]) for place in range(len(verdicts))]
    found = without_copies(lines, verdicts, 2)
    assert (list(found.lines), found.copies) == (lines[:kept], copies)
    assert found.left_out == len(lines) - kept
