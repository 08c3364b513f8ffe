"""What each error of ScoreSheets means, as in sentences.py."""

from __future__ import annotations

from typing import Final

SHEET_SENTENCES: Final[dict[str, tuple[str, str | None]]] = {
    "ScoreSheets_NotPoster": (
        "bounty {bounty} is not {caller}'s",
        "let its poster say what judges are paid",
    ),
    "ScoreSheets_PotOpen": (
        "what bounty {bounty} pays judges is already fixed",
        "fund the pot, or post another bounty",
    ),
    "ScoreSheets_NoPot": (
        "bounty {bounty} has no pot for judges",
        "let its poster open one",
    ),
    "ScoreSheets_AnotherBounty": (
        "bounty {bounty} is {identity:hex}, not {named:hex}, which you mean",
        "look at it again: a chain that is reorganised gives numbers to others",
    ),
    "ScoreSheets_ZeroAmount": ("the amount is zero", "give more than zero"),
    "ScoreSheets_InexactTransfer": (
        "{received:money} arrived instead of {expected:money}",
        "use a token that takes no fee on transfers",
    ),
    "ScoreSheets_DeadlineNotPassed": (
        "the bounty is open until {deadline:time} (it is {time:time} on chain)",
        "ask for the refund after that",
    ),
    "ScoreSheets_BatchesOpen": (
        "bounty {bounty} has batches whose judges are not paid ({open} with sheets)",
        "settle them, then pay or release their sheets",
    ),
    "ScoreSheets_WrongPhase": (
        "the score sheets of batch {batch} are {phase:SheetPhase}",
        "commit, then reveal, each in its part of the commit window of the first round",
    ),
    "ScoreSheets_NotYourSeat": (
        "seat {seat} of the first round of batch {batch} is not {caller}'s",
        "use the key that was drawn for it",
    ),
    "ScoreSheets_AlreadyCommitted": (
        "seat {seat} of batch {batch} has committed its score sheet",
        "reveal that one",
    ),
    "ScoreSheets_ZeroCommitment": ("the commitment is zero", "commit to a salted sheet"),
    "ScoreSheets_CommitmentMismatch": (
        "the sheet hashes to {computed:hex}, the commitment was {expected:hex}",
        "reveal exactly the sheet and salt of the commitment, once",
    ),
    "ScoreSheets_BadSheet": (
        "what seat {seat} of batch {batch} gave is no score sheet of it",
        "give a grade from 0 to 4 for each trace, two in a byte",
    ),
    "ScoreSheets_NotSettled": (
        "batch {batch} is not settled with verdicts",
        "settle it first; where it ended without verdicts, release its sheets",
    ),
    "ScoreSheets_NotOver": ("batch {batch} has not ended without verdicts", "wait for its end"),
    "ScoreSheets_AlreadyClosed": (
        "batch {batch} has no score sheets left to pay or release",
        None,
    ),
    "ScoreSheets_NotTheSheet": (
        "that is not the sheet that seat {seat} of batch {batch} revealed",
        "take it from its SheetRevealed event",
    ),
    "ScoreSheets_InvalidRecipient": ("{to} can't receive the tokens", "give another address"),
    "ScoreSheets_AlreadyPlanted": ("{commitment:hex} is already planted", "use another salt"),
    "ScoreSheets_NotPlanted": (
        "{commitment:hex} is not planted by this key, or opened already",
        "open the very grades and salt of the planting, with the key that planted it, once",
    ),
    "ScoreSheets_PlantedTooLate": (
        "the gold was planted at {plantedAt:time}, its batch committed at {committedAt:time}",
        "plant before the batch is committed",
    ),
}
