// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MerkleProofs} from "../libraries/MerkleProofs.sol";
import {Attestation, Verdict} from "../libraries/Types.sol";
import {VerdictFaults} from "../libraries/VerdictFaults.sol";
import {IEvidence} from "./IEvidence.sol";

/// Disputes about attestations, their juries, and the insurance pool.
///
/// Phases of a dispute (computed by `phaseOf`, never stored):
/// None -> InJury -> Appealable -> Decided -> Closed
///           ^  |        |
///           |  \-> InJury (no quorum: a larger jury)
///           \-----------/ (an appeal: a larger jury)
/// None -> Opening -> InJury (the verdict was opened) | Decided (a side did not move)
/// The last jury's decision is Decided at once. A jury that could not be drawn in time, or the last one without a quorum,
/// leaves the decision before it; where there is none, the attestation stands and everybody keeps their bonds. An appeal
/// whose jury could not be drawn keeps its bond too.
///
/// A juror re-checks one trace and votes its verdict: an Attestation of the verdict's leaf hash, units and faults. Where it
/// can't have the content it votes "unavailable"; where an outcome of the whole batch is disputed, that outcome or "sound".
///
/// All that the ledger holds for this contract is bonds of open disputes and the pool. Every penalty of a member or signer
/// goes in here; jurors, challengers and the wronged side are paid from what the losers lost, the rest stays in the pool. A
/// challenger that is right where nobody is convicted (another dispute was quicker, the content can't be had or came late)
/// bears the jurors' fees.
interface ICourt {
    enum Phase {
        None,
        Opening,
        InJury,
        Appealable,
        Decided,
        Closed
    }

    enum Kind {
        /// one verdict, named with its proof
        Leaf,
        /// one verdict, opened move by move because its tree was withheld
        Opening,
        /// the outcome "malformed"
        Malformed,
        /// the outcome "unavailable"
        Unavailable,
        /// two votes of a round without a quorum, narrowed to the first verdict on which they differ
        Conflict
    }

    enum Standing {
        None,
        Stands,
        Falls,
        /// the content can't be had: nobody is proven wrong, nothing is paid
        Unavailable,
        /// in a conflict: the second vote stands
        Rival
    }

    struct Dispute {
        address challenger;
        uint64 batch;
        uint32 index;
        /// the newest jury's round
        uint64 jury;
        /// token base units of the first bond; it doubles with every jury
        uint96 bond;
        uint32 decidedAt;
        uint8 juries;
        Kind kind;
        Standing standing;
        /// no appeal is possible
        bool last;
        bool closed;
        /// how many attestations of the batch had been overturned: names the attestation that is disputed
        uint8 attestation;
        /// the disputed verdict has a unit
        bool paid;
        /// the jury's verdict gives the miner more than the disputed one
        bool minerWronged;
        /// the disputed verdict or outcome, as jurors vote it
        bytes32 vote;
        /// in a conflict: the other one
        bytes32 rivalVote;
        /// what the last deciding jury voted
        bytes32 standingVote;
    }

    struct Appeal {
        address appellant;
        /// the decision that was appealed, None where no jury could be drawn for it
        Standing against;
        /// token base units
        uint88 bond;
    }

    event DisputeOpened(
        uint64 indexed dispute, uint64 indexed batch, address indexed challenger, Kind kind, uint32 index, uint96 bond
    );
    event JuryOpened(uint64 indexed dispute, uint64 indexed round, uint8 size);
    event VerdictDisputed(uint64 indexed dispute, uint32 index, bytes32 vote, bytes32 rivalVote);
    event JuryDecided(uint64 indexed dispute, uint64 indexed round, Standing standing, bytes32 vote);
    event Appealed(uint64 indexed dispute, address indexed appellant, Standing against, uint256 bond);
    event DisputeClosed(
        uint64 indexed dispute,
        uint64 indexed batch,
        Standing standing,
        uint256 slashed,
        uint256 jurorsPaid,
        uint256 challengerPaid,
        uint256 wrongedPaid
    );
    event FaultProven(
        uint64 indexed batch,
        address indexed prover,
        VerdictFaults.Fault fault,
        uint256 slashed,
        uint256 proverPaid,
        uint256 wrongedPaid
    );

    error Court_WrongDeployment(string name, address linked);
    error Court_UnknownDispute(uint64 dispute);
    error Court_WrongPhase(uint64 dispute, Phase phase);
    error Court_AnotherAttestation(uint64 batch, bytes32 identity, bytes32 named);
    error Court_AnotherDecision(uint64 dispute, bytes32 identity, bytes32 named);
    error Court_NotAttested(uint64 batch);
    error Court_WholeBatch(bytes32 verdictRoot);
    error Court_NoOutcome(bytes32 verdictRoot);
    error Court_AlreadyDisputed(uint64 batch, uint32 index);
    error Court_JuryNotClosed(uint64 dispute, uint64 round);
    error Court_NotTheLeader(bytes32 given, bytes32 leader);
    error Court_NotAVote(uint64 round, bytes32 vote);
    error Court_OpeningNotOver(uint64 dispute);

    /// Disputes one verdict of the attestation of `batch`, with a bond, and asks for a jury of 2k+1 members that sat in no
    /// round of the batch (k: size of the round that attested).
    ///
    /// Requirements:
    /// - The batch must be Challengeable (BatchMarket_WrongPhase) and attested with verdicts (Court_WholeBatch).
    /// - `lineHash` must be the trace's at that index (Evidence_BadTraceProof), the claim's verdict the attested one
    ///   (Evidence_BadVerdictProof).
    /// - This verdict of this attestation must not have been disputed (Court_AlreadyDisputed).
    function disputeLeaf(
        uint64 batch,
        Verdict calldata verdict,
        MerkleProofs.SumNode[] calldata verdictProof,
        bytes32 lineHash,
        bytes32[] calldata traceProof
    ) external returns (uint64 dispute);

    /// Disputes the outcome "malformed" or "unavailable" of `batch`, with a bond. Where "unavailable" falls, the content may
    /// have come late: nobody is convicted, and the challenger bears the jurors' fees.
    ///
    /// @param identity keccak256(abi.encode(the batch's root, count, attestation)). After a reorganisation the batch's number
    ///     may be another's, or its attestation another one, and the bond would be lost.
    ///
    /// Requirements:
    /// - The batch must have that identity (Court_AnotherAttestation).
    /// - It must be Challengeable (BatchMarket_WrongPhase) and attested with an outcome (Court_NoOutcome).
    /// - It must not have been disputed (Court_AlreadyDisputed).
    function disputeOutcome(uint64 batch, bytes32 identity) external returns (uint64 dispute);

    /// Demands, with a bond, that the verdict tree of `batch` be opened from its root to a verdict of the caller's choice (see
    /// IOpenings), which then goes to a jury. For trees that were withheld.
    ///
    /// @param identity as that of `disputeOutcome`
    ///
    /// Requirements:
    /// - The batch must have that identity (Court_AnotherAttestation).
    /// - It must be Challengeable (BatchMarket_WrongPhase) and attested with verdicts (Court_WholeBatch).
    function demandOpening(uint64 batch, bytes32 identity) external returns (uint64 dispute);

    /// Ends an opening: its verdict goes to a jury, or the side that did not move loses. Anybody may call it.
    ///
    /// Requirements:
    /// - The dispute must be Opening (Court_WrongPhase) and its opening be over (Court_OpeningNotOver).
    function concludeOpening(uint64 dispute) external;

    /// Shows that the attested verdict tree of `batch` can't be an honest one (see VerdictFaults), from its nodes alone. The
    /// attestation falls at once. Anybody may call it; what the caller earns is what checking the batch would have paid.
    ///
    /// Requirements:
    /// - The batch must have an attestation that is not settled (Court_NotAttested), with verdicts (Court_WholeBatch).
    /// - The nodes must lead to a fault (VerdictFaults_NotTheChildren, VerdictFaults_NotTheVerdict, Evidence_NoFault).
    function proveFault(uint64 batch, IEvidence.Opened calldata opened) external returns (VerdictFaults.Fault fault);

    /// Narrows a round that ended without a quorum to the first verdict on which two of its votes differ, and asks a jury
    /// about that one trace. The vote that wins becomes the attestation. Anybody may call it, without a bond.
    ///
    /// Requirements:
    /// - The batch must be InRound (BatchMarket_WrongPhase), its round have ended in conflict (BatchMarket_NoConflict).
    /// - `leader` must be the vote with most seats, `rival` another that was cast (Court_NotAVote).
    /// - Both claims must be proven (Evidence_BadVerdictProof), be about one index and differ (Evidence_SameVerdict), and no
    ///   verdict before it may differ (Evidence_NotTheFirstDifference).
    function narrow(uint64 batch, IEvidence.Claim calldata leader, IEvidence.Claim calldata rival)
        external
        returns (uint64 dispute);

    /// Counts a jury. A quorum (more than half of its seats) decides; without one a larger jury is drawn, up to the limit.
    /// Anybody may call it.
    ///
    /// Requirements:
    /// - The dispute must be InJury (Court_WrongPhase) and its jury closed or stalled (Court_JuryNotClosed).
    /// - `leader` must be the leading vote where that has a quorum (Court_NotTheLeader).
    function tallyJury(uint64 dispute, Attestation calldata leader) external;

    /// Appeals a decision with a bond that doubles with every jury there was; a jury of twice the size and one more is drawn from those who have
    /// not sat. Anybody may call it. The bond is lost if a jury leaves the decision as it is.
    ///
    /// @param decision keccak256(abi.encode(the batch's root and count, then of the dispute: kind, index, vote, rivalVote,
    ///     juries, standing, standingVote)): after a reorganisation the number may be that of another dispute, or what its
    ///     jury decided another thing.
    ///
    /// Requirements:
    /// - The dispute must be Appealable (Court_WrongPhase), and that be its decision (Court_AnotherDecision).
    function appeal(uint64 dispute, bytes32 decision) external;

    /// Ends a decided dispute: closes its juries, carries out the decision, pays. Anybody may call it.
    ///
    /// Requirements:
    /// - The dispute must be Decided (Court_WrongPhase).
    function close(uint64 dispute) external;

    /// @return the bond of a dispute about `batch`, in token base units
    function bondFor(uint64 batch) external view returns (uint256);

    function get(uint64 dispute) external view returns (Dispute memory);

    function appealsOf(uint64 dispute) external view returns (Appeal[] memory);

    function phaseOf(uint64 dispute) external view returns (Phase);

    /// @return token base units that belong to nobody in particular: they make good what a loser's bond does not cover
    function pool() external view returns (uint256);

    function count() external view returns (uint64);
}
