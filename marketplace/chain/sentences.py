"""What each contract error means in plain English, and what to do about it.

Error name -> (message, fix). The fields are the error's arguments by name; after the colon
stands how to show them (see errors.py): money, time, hex, or the name of an enum.
"""

from __future__ import annotations

from typing import Final

from marketplace.chain.sheet_sentences import SHEET_SENTENCES

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
    "BountyEscrow_AnotherBounty": (
        "bounty {bounty} is {identity:hex}, not {named:hex}, which you mean",
        "look at it again: a chain that is reorganised gives numbers to others",
    ),
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
    "BountyEscrow_DeadlineTooFar": (
        "the deadline {deadline:time} is later than {latest:time}",
        "choose an earlier one; it can be at most a year ahead",
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
    "Ledger_InvalidRecipient": (
        "{to} can't be paid: it is the zero address or the ledger itself",
        "give the address to pay to",
    ),
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
    "VerifierStake_TooManySeats": (
        "the stake would be worth {seats} seats, more than the draw can hold",
        "stake less, or with several keys",
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
        "reveal exactly the attestation and salt of the commitment; one that a relay brought with "
        "all others is opened by revealFor or revealVerdicts",
    ),
    "Rounds_SumsTooLarge": (
        "units and faults add up to {sum}, the batch allows {maxUnits}",
        "check the sums of the verdict tree; whole-batch outcomes have none",
    ),
    "Rounds_WrongLength": (
        "{given} places were given for the {seats} seats of round {round}",
        "give one for each seat, in order",
    ),
    "Rounds_BadSignature": (
        "the commitment for seat {seat} of round {round} is signed by {signer}, not {verifier}",
        "let the seat's member sign for this chain, round and commit window",
    ),
    "Rounds_AlreadyJudged": ("round {round} is already judged", None),
    "Rounds_NotAVerdict": (
        "{verdictRoot:hex} is an answer of jurors only",
        "attest a verdict root, or that the batch is unavailable or malformed",
    ),
    "Rounds_DrawDue": (
        "the draw of round {round} is due and goes first",
        "make the due draws; where their randomness is not on chain yet, deliver it",
    ),
    "Rounds_NotAuthorized": (_MODULE_ONLY, _WRONG_FILE),
    "Rounds_NotOpener": (_MODULE_ONLY, _WRONG_FILE),
    # --- assignments ---
    "Assignments_AlreadyRequested": (
        "{miner} is already enrolled in bounty {bounty}",
        "open the assignment once the randomness of point {point} is known",
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
        "the assignment of {miner} in bounty {bounty} waits for the randomness of point {point}",
        "open it after that block, or once that beacon round is delivered",
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
    "Randomness_InvalidDelay": ("the randomness delay is {delay}", "use at least 1"),
    "Randomness_NotReady": (
        "the randomness of point {point} is {status:RandomnessStatus}",
        "try again later",
    ),
    "DrandRandomness_InvalidKey": (
        "{publicKey} is no public key of a beacon",
        "give the key of the network's chain info",
    ),
    "DrandRandomness_InvalidPeriod": (
        "the beacon's period is {period}",
        "give the seconds between its rounds",
    ),
    "DrandRandomness_InvalidPatience": (
        "the patience is {patience}",
        "give the seconds in which a beacon round must be delivered",
    ),
    "DrandRandomness_NoSuchRound": (
        "there is no beacon round {round}",
        "rounds start at 1",
    ),
    "DrandRandomness_NotDue": (
        "beacon round {round} comes at {time:time}",
        "deliver it then",
    ),
    "DrandRandomness_TooLate": (
        "beacon round {round} could be delivered until {deadline:time}",
        "schedule the draw again",
    ),
    "DrandRandomness_AlreadyDelivered": ("beacon round {round} is already on chain", None),
    "DrandRandomness_NotOnCurve": (
        "{signature} is no point of the curve",
        "give the two halves of the signature that the network published",
    ),
    "DrandRandomness_BadSignature": (
        "{signature} is not the network's signature of beacon round {round}",
        "fetch it again, from another relay",
    ),
    "BNAddFailed": ("the chain could not add the points {input}", None),
    "InvalidDSTLength": ("the domain {dst:hex} is too long to hash with", None),
    "InvalidFieldElement": ("{x} is outside the curve's field", None),
    "MapToPointFailed": ("{noSqrt} has no square root in the curve's field", None),
    "ModExpFailed": ("the chain could not raise {base} to {exponent} modulo {modulus}", None),
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
    "Court_WrongDeployment": (
        "{name} is {linked}: the contracts do not belong together",
        "deploy all of them again, with a key that nothing else uses meanwhile",
    ),
    "BatchMarket_FeeTooLow": (
        "the bounty pays {fee:money} for the checking of a trace, the market asks {least:money}",
        "open a bounty with a higher fee",
    ),
    "BatchMarket_BatchTooDear": (
        "the batch or its bond is worth {value:money}, more than the {most:money} that a lying "
        "majority loses",
        "commit fewer traces",
    ),
    "BatchMarket_TooFewVerifiers": (
        "{eligible} verifiers have a free seat, the market asks for {needed}",
        "wait for more stake",
    ),
    "BatchMarket_NarrowFirst": (
        "the votes on batch {batch} conflict: they can be narrowed until {until:time}",
        "narrow the conflict, or count again after that",
    ),
    "BatchMarket_NoConflict": (
        "the round of batch {batch} did not end in a conflict that can be narrowed",
        "look at the batch and its round",
    ),
    "BatchMarket_DisputesOpen": (
        "batch {batch} has {disputes} open disputes",
        "end them first",
    ),
    "BatchMarket_NotCourt": (_MODULE_ONLY, _WRONG_FILE),
    # --- disputes ---
    "Court_UnknownDispute": ("there is no dispute {dispute}", "list the disputes"),
    "Court_WrongPhase": (
        "dispute {dispute} is {phase:DisputePhase}",
        "look at the dispute: each call has its phase",
    ),
    "Court_AnotherAttestation": (
        "batch {batch} and its attestation are {identity:hex}, not {named:hex}, which you mean",
        "look at it again: a chain that is reorganised gives numbers to others",
    ),
    "Court_AnotherDecision": (
        "what dispute {dispute} decided is {identity:hex}, not {named:hex}, which you mean",
        "look at it again: a chain that is reorganised gives numbers to others",
    ),
    "Court_NotAttested": (
        "batch {batch} has no attestation that could still fall",
        "look at the batch",
    ),
    "Court_WholeBatch": (
        "the attestation {verdictRoot:hex} speaks of the whole batch: it has no verdicts",
        "dispute the outcome",
    ),
    "Court_NoOutcome": (
        "the attestation {verdictRoot:hex} is no outcome but a tree of verdicts",
        "dispute one of its verdicts",
    ),
    "Court_AlreadyDisputed": (
        "verdict {index} of batch {batch} is or was disputed",
        "look at that dispute; a decision can be appealed",
    ),
    "Court_JuryNotClosed": (
        "round {round}, the jury of dispute {dispute}, is not closed",
        "wait for the reveals or the end of the window",
    ),
    "Court_NotTheLeader": (
        "the attestation hashes to {given:hex}, most jurors revealed {leader:hex}",
        "give the attestation with most votes",
    ),
    "Court_NotAVote": (
        "{vote:hex} is not the vote of round {round} that it should be",
        "give the leading vote first and another one that was cast second",
    ),
    "Court_OpeningNotOver": (
        "the opening of dispute {dispute} is not over",
        "make the next move, or wait until its time has passed",
    ),
    "Openings_NotCourt": (_MODULE_ONLY, _WRONG_FILE),
    "Openings_NotChallenger": (
        "{caller} is not the challenger of dispute {dispute}",
        "use the key that opened the dispute",
    ),
    "Openings_WrongStatus": (
        "the opening of dispute {dispute} is {status:OpeningStatus}",
        "look at the opening: each move has its turn",
    ),
    "VerdictFaults_NotTheChildren": (
        "these are not the children of node {hash:hex} ({size} verdicts from {first} on)",
        "build them from the attested verdicts",
    ),
    "VerdictFaults_NotTheVerdict": (
        "this is not the verdict of node {hash:hex} (number {index})",
        "give the attested verdict",
    ),
    "Evidence_BadTraceProof": (
        "the proof does not lead from trace {index} to the root of batch {batch}",
        "build it from the committed lines",
    ),
    "Evidence_BadVerdictProof": (
        "the proof does not lead from verdict {index} of batch {batch} to its attestation",
        "build it from the attested verdicts",
    ),
    "Evidence_NoFault": (
        "the nodes show no fault of the verdicts of batch {batch}",
        "dispute the verdict that is wrong",
    ),
    "Evidence_SameVerdict": (
        "both trees say the same of trace {index}",
        "give the first verdict on which they differ",
    ),
    "Evidence_NotTheFirstDifference": (
        "the trees differ before trace {index}",
        "give the first verdict on which they differ",
    ),
    # --- planted batches ---
    "Audits_AlreadyPlanted": ("{root:hex} is already planted", "use another salt"),
    "Audits_ZeroRoot": ("the root is zero", "give the root of a tree of plantings"),
    "Audits_NotPlanted": (
        "{leaf:hex} is not planted under {root:hex}",
        "give the verdict, salt and proof of the planting",
    ),
    "Audits_NotYours": (
        "{root:hex} was planted by {planter}",
        "use the key that planted it",
    ),
    "Audits_PlantedTooLate": (
        "it was planted at {plantedAt:time}, the batch was committed at {committedAt:time}",
        "plant before the batch is committed",
    ),
    "Audits_NotAttested": (
        "batch {batch} has no attested verdicts",
        "open the audit once it is attested",
    ),
    "Audits_AlreadyOpened": ("the audit of batch {batch} is already open", None),
    # --- score sheets ---
    **SHEET_SENTENCES,
    # --- checkpoints ---
    "CheckpointRegistry_UnknownCheckpoint": (
        "there is no checkpoint {checkpoint}",
        "list the checkpoints",
    ),
    "CheckpointRegistry_AnotherParent": (
        "checkpoint {parent} is {identity:hex}, not {named:hex}, which is to be the parent",
        "look at it again: a chain that is reorganised gives numbers to others",
    ),
    "CheckpointRegistry_InvalidContent": (
        "the content {digest:hex} with codec {codec} is no raw or dag-pb CID",
        "publish the weights first",
    ),
    "CheckpointRegistry_InvalidShares": (
        "the list of shares has the root {root:hex} and {holders} holders",
        "give the root of a list with at least one holder",
    ),
    "CheckpointRegistry_PassesOnTooMuch": (
        "{passOnPpm} ppm would go on to the parent's royalties, {most} can",
        "pass on less; a base model has nobody to pass on to",
    ),
    # --- royalties ---
    "Royalties_AnotherCheckpoint": (
        "checkpoint {checkpoint} is {identity:hex}, not {named:hex}, which you mean",
        "look at it again: a chain that is reorganised gives numbers to others",
    ),
    "Royalties_ZeroAmount": ("the amount is zero", "pay more than zero"),
    "Royalties_BadShareProof": (
        "{account} does not have the share {share} at place {index} of checkpoint {checkpoint}",
        "build the proof from the registered list; nobody can collect by one whose shares don't "
        "add up to a billion",
    ),
    "Royalties_NothingToCollect": (
        "share {index} of checkpoint {checkpoint} has nothing to collect",
        "wait for more payments; what is below a base unit stays owed",
    ),
    "Royalties_NothingToPassOn": (
        "checkpoint {checkpoint} has nothing to pass on",
        "wait for more payments, or look whether it passes on anything at all",
    ),
    "Royalties_Overdrawn": (
        "checkpoint {checkpoint} keeps {kept:money} for its holders, {collected:money} are "
        "collected, and {amount:money} more are asked for",
        "report this: it can't happen",
    ),
    "Royalties_WrongDeployment": (
        "{linked} does not belong to these royalties",
        "deploy all contracts again, with a key that nothing else uses meanwhile",
    ),
    # --- several calls in one ---
    "AddressEmptyCode": ("there is no contract at {target}", _WRONG_FILE),
    "FailedCall": ("one of the calls failed without saying why", "send them one by one"),
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
