"""What each contract error means in plain English, and what to do about it.

Error name -> (message, fix). The fields are the error's arguments by name; after the colon
stands how to show them (see errors.py): money, time, hex, or the name of an enum.
"""

from __future__ import annotations

from typing import Final

_MODULE_ONLY = "only the market's own contracts may call this, not {caller}"
_WRONG_FILE = "check that the deployment file belongs to this version of the software"

SENTENCES: Final[dict[str, tuple[str, str | None]]] = {
    # --- environments ---
    "EnvironmentRegistry_AlreadyRegistered": (
        "environment {environment:hex} is already registered, by {author}",
        "use it as it is, or change the spec",
    ),
    "EnvironmentRegistry_ZeroId": (
        "the environment id is zero",
        "give the sha2-256 digest of the spec file",
    ),
    # --- bounties ---
    "BountyEscrow_UnknownBounty": ("there is no bounty {bounty}", "list the bounties"),
    "BountyEscrow_UnknownEnvironment": (
        "environment {environment:hex} is not registered",
        "register its spec first",
    ),
    "BountyEscrow_DeadlinePassed": (
        "the bounty's deadline {deadline:time} has passed (it is {timestamp:time} on chain)",
        "choose a later deadline for a new bounty",
    ),
    "BountyEscrow_DeadlineNotPassed": (
        "the bounty is open until {deadline:time} (it is {timestamp:time} on chain)",
        "ask for the refund after that",
    ),
    "BountyEscrow_ZeroPrice": ("the price per unit is zero", "offer at least the smallest amount"),
    "BountyEscrow_ZeroAmount": ("the amount is zero", "pay in more than zero"),
    "BountyEscrow_InvalidGroupSize": (
        "the group size {groupSize} is too small",
        "use at least 1, and at least 2 where informative groups are paid",
    ),
    "BountyEscrow_TrainerMissing": (
        "a bounty of tier {tier:Tier} names no trainer",
        "name the trainer whose checkpoints are the policy",
    ),
    "BountyEscrow_NothingToRefund": (
        "bounty {bounty} has nothing to refund",
        "wait until its pending batches are settled",
    ),
    "BountyEscrow_InsufficientFunds": (
        "bounty {bounty} has {available:money} free, this batch needs {needed:money}",
        "fund it or commit fewer traces",
    ),
    "BountyEscrow_NotMarket": (_MODULE_ONLY, _WRONG_FILE),
    # --- money ---
    "Ledger_InexactTransfer": (
        "the token delivered {received:money} of {expected:money}",
        "use a token that takes no fee on transfers",
    ),
    "Ledger_InsufficientBalance": (
        "{account} has {balance:money} to withdraw, not {needed:money}",
        "withdraw less",
    ),
    "Ledger_InsufficientHolding": (
        "{held:money} is held for {module}, not {needed:money}: the books would not balance",
        "report this: it can't happen",
    ),
    "Ledger_NoCode": ("there is no token contract at {token}", "give the address of an ERC-20"),
    "Ledger_NotModule": (
        "{caller} is not one of the market's own contracts",
        _WRONG_FILE,
    ),
    "Ledger_ZeroAddress": ("the receiver is the zero address", "give the address to pay to"),
    "SafeERC20FailedOperation": (
        "the token {token} refused the transfer",
        "check the balance and the allowance, and that the token is not paused",
    ),
    "ReentrancyGuardReentrantCall": ("the token called back into the ledger", "use a plain ERC-20"),
    # --- stake ---
    "VerifierStake_ZeroAmount": ("the amount is zero", "give more than zero"),
    "VerifierStake_BelowSeatStake": (
        "the stake would be {stake:money}; one seat needs {seatStake:money}",
        "stake more",
    ),
    "VerifierStake_InsufficientFreeStake": (
        "{free:money} of the stake is behind no open seat, not {needed:money}",
        "ask for less, or wait until the open seats are closed",
    ),
    "VerifierStake_NothingUnbonding": (
        "{verifier} has no stake unbonding",
        "request to unstake first",
    ),
    "VerifierStake_StillUnbonding": (
        "the stake can be claimed from {claimableAt:time} (it is {timestamp:time} on chain)",
        "wait until then",
    ),
    "VerifierStake_NotEnoughVerifiers": (
        "{eligible} verifiers have a free seat, the draw needs {needed}",
        "wait for more stake; past the draw timeout the batch can be made void",
    ),
    "VerifierStake_InvalidParameters": ("the stake of a seat is zero", "set seat_stake above zero"),
    "VerifierStake_NotRounds": (_MODULE_ONLY, _WRONG_FILE),
    "SortitionTree_SumTooLarge": (
        "all verifiers together would have {sum} seats, more than the draw can hold",
        "stake less",
    ),
    # --- rounds ---
    "Rounds_WrongPhase": (
        "round {round} is {phase:RoundPhase}",
        "look at the round: each call has its phase",
    ),
    "Rounds_NotYourSeat": (
        "seat {seat} of round {round} is not that of {verifier}",
        "use the seat and key that were drawn",
    ),
    "Rounds_WrongSeatState": (
        "seat {seat} of round {round} is {state:SeatState}",
        "commit once, then reveal once",
    ),
    "Rounds_ZeroCommitment": ("the commitment is zero", "commit to a salted attestation"),
    "Rounds_CommitmentMismatch": (
        "the reveal hashes to {computed:hex}, the commitment was {expected:hex}",
        "reveal exactly the attestation and salt of the commitment",
    ),
    "Rounds_SumsTooLarge": (
        "units and faults add up to {sum}, the batch allows {maxUnits}",
        "check the sums of the verdict tree; whole-batch outcomes have none",
    ),
    "Rounds_AlreadyJudged": ("round {round} is already judged", None),
    "Rounds_NotMarket": (_MODULE_ONLY, _WRONG_FILE),
    # --- assignments ---
    "Assignments_AlreadyRequested": (
        "{miner} is already enrolled in bounty {bounty}",
        "open the assignment once block {point} is past",
    ),
    "Assignments_NotRequested": (
        "{miner} is not enrolled in bounty {bounty}",
        "request an assignment first",
    ),
    "Assignments_AlreadyOpen": (
        "the assignment of {miner} in bounty {bounty} is already open",
        "go on with its tasks",
    ),
    "Assignments_NotReady": (
        "the assignment of {miner} in bounty {bounty} waits for block {point}",
        "open it after that block",
    ),
    "Assignments_NotOpen": (
        "the assignment of {miner} in bounty {bounty} is not open",
        "open it, then solve its tasks",
    ),
    "Assignments_OtherSeed": (
        "the traces answer tasks of seed {given:hex}, the assignment's is {seed:hex}",
        "read the assignment again and sample its tasks",
    ),
    "Assignments_OtherTask": (
        "the traces begin at task {given}, the next task is {nextTask}",
        "read the assignment again: another batch took these tasks",
    ),
    "Assignments_NotMarket": (_MODULE_ONLY, _WRONG_FILE),
    "Randomness_InvalidDelay": ("the randomness delay is {delay}", "use at least 1 block"),
    "Randomness_NotReady": (
        "the randomness of block {point} is {status:RandomnessStatus}",
        "try again later",
    ),
    # --- batches ---
    "BatchMarket_UnknownBatch": ("there is no batch {batch}", "list the batches"),
    "BatchMarket_ZeroRoot": (
        "the batch root is zero",
        "commit the Merkle root of the trace leaves",
    ),
    "BatchMarket_InvalidCount": (
        "a batch of {count} traces is not whole groups of {groupSize}, or over {maxTraces}",
        "commit whole groups, up to the limit",
    ),
    "BatchMarket_InvalidCodec": (
        "content codec {codec} is not raw (85) or dag-pb (112)",
        "give a CIDv1 of one of these codecs",
    ),
    "BatchMarket_WrongPhase": (
        "batch {batch} is {phase:BatchPhase}",
        "look at the batch: each call has its phase",
    ),
    "BatchMarket_RoundNotClosed": (
        "round {round} of batch {batch} is not closed",
        "wait for the reveals or the end of the window",
    ),
    "BatchMarket_RoundNotStalled": (
        "round {round} of batch {batch} is not stalled",
        "void it only after the draw timeout without a draw",
    ),
    "BatchMarket_NotTheLeader": (
        "the attestation hashes to {given:hex}, most seats revealed {leader:hex}",
        "give the attestation with most votes",
    ),
    "BatchMarket_InvalidParameters": (
        "the parameter {name} is out of range",
        "choose another value",
    ),
    "BatchMarket_WrongDeployment": (
        "{name} is {linked}: the contracts do not belong together",
        "deploy all of them again, with a key that nothing else uses meanwhile",
    ),
    # --- checkpoints ---
    "CheckpointRegistry_UnknownCheckpoint": (
        "there is no checkpoint {checkpoint}",
        "list the checkpoints",
    ),
    "CheckpointRegistry_InvalidContent": (
        "the content {digest:hex} with codec {codec} is no raw or dag-pb CID",
        "publish the weights first",
    ),
    # --- numbers and tokens ---
    "SafeCastOverflowedUintDowncast": ("{value} does not fit {bits} bits", "give a smaller amount"),
    "ERC20InsufficientAllowance": (
        "the ledger may take {allowance:money}, it needs {needed:money}",
        "approve more, or pay with a permit",
    ),
    "ERC20InsufficientBalance": (
        "{sender} has {balance:money}, it needs {needed:money}",
        "get more of the token",
    ),
    "ERC20InvalidApprover": ("{approver} can't approve", None),
    "ERC20InvalidReceiver": ("{receiver} can't receive the token", "give another address"),
    "ERC20InvalidSender": ("{sender} can't send the token", None),
    "ERC20InvalidSpender": ("{spender} can't be approved", None),
    "ERC2612ExpiredSignature": ("the permit ended at {deadline:time}", "sign a new one"),
    "ERC2612InvalidSigner": ("the permit of {owner} is signed by {signer}", "sign it again"),
    "InvalidAccountNonce": (
        "the permit of {account} has another nonce than {currentNonce}",
        "sign a new one",
    ),
    "ECDSAInvalidSignature": ("the permit's signature is not valid", "sign it again"),
    "ECDSAInvalidSignatureLength": ("the signature has {length} bytes", "sign it again"),
    "ECDSAInvalidSignatureS": ("the signature is not in canonical form", "sign it again"),
    "InvalidShortString": ("the token's name can't be stored", None),
    "StringTooLong": ("the token's name {str!r} is too long", None),
    "TestStablecoin_LocalChainsOnly": (
        "the test stablecoin exists on local chains only, not on chain {chainId}",
        "give the address of a real token",
    ),
}
