// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Attestation, ContentId, Parameters} from "../libraries/Types.sol";

/// Batches from commit to settlement.
///
/// Phases (computed by `phaseOf`, never stored):
/// None -> InRound -> Challengeable [-> Disputed] -> Settleable -> Settled
///            |  \-> InRound (no quorum: another round)
///            \----> Void (no quorum in the last round, or no committee could be drawn)
/// Challengeable | Disputed -> InRound | Void (the court overturned the attestation: a fresh committee, or none is left)
/// Challengeable is the challenge window; Disputed what comes after it until the last dispute ends.
interface IBatchMarket {
    enum Phase {
        None,
        InRound,
        Challengeable,
        Settleable,
        Settled,
        Void,
        Disputed
    }

    struct Batch {
        address miner;
        uint64 bounty;
        uint32 count;
        bytes32 root;
        uint96 bond;
        /// the newest round; the attested one once there is an attestation
        uint64 round;
        uint40 attestedAt;
        uint8 rounds;
        bool closed;
        uint40 firstTask;
        Attestation attestation;
        /// disputes that have not ended
        uint16 disputes;
        /// how many attestations the court took back
        uint8 overturned;
    }

    event BatchCommitted(
        uint64 indexed batch,
        uint64 indexed bounty,
        address indexed miner,
        bytes32 root,
        uint32 count,
        uint64 firstTask,
        uint256 bond,
        uint64 round,
        ContentId content
    );
    event BatchRoundOpened(uint64 indexed batch, uint64 indexed round, uint8 size);
    event BatchAttested(uint64 indexed batch, uint64 indexed round, Attestation attestation);
    event BatchSettled(
        uint64 indexed batch, uint256 minerPaid, uint256 feesPaid, uint256 bondForfeited, uint256 slashed
    );
    event BatchVoided(uint64 indexed batch, uint256 slashed);
    event BatchOverturned(uint64 indexed batch, uint64 indexed round, Attestation attestation, uint256 slashed);

    error BatchMarket_InvalidParameters(string name);
    error BatchMarket_WrongDeployment(string name, address linked);
    error BatchMarket_UnknownBatch(uint64 batch);
    error BatchMarket_ZeroRoot();
    error BatchMarket_InvalidCount(uint32 count, uint16 groupSize, uint32 maxTraces);
    error BatchMarket_InvalidCodec(uint8 codec);
    error BatchMarket_WrongPhase(uint64 batch, Phase phase);
    error BatchMarket_RoundNotClosed(uint64 batch, uint64 round);
    error BatchMarket_RoundNotStalled(uint64 batch, uint64 round);
    error BatchMarket_NotTheLeader(bytes32 given, bytes32 leader);
    error BatchMarket_NotCourt(address caller);
    error BatchMarket_TooFewVerifiers(uint256 eligible, uint256 needed);
    error BatchMarket_BatchTooDear(uint256 value, uint256 most);
    error BatchMarket_FeeTooLow(uint256 fee, uint256 least);
    error BatchMarket_NarrowFirst(uint64 batch, uint256 until);
    error BatchMarket_NoConflict(uint64 batch);
    error BatchMarket_DisputesOpen(uint64 batch, uint16 disputes);

    /// Commits a batch: whole groups for the next assigned tasks. Reserves its worst-case cost (every trace paid, the
    /// full fee) and collects the bond. Publish the content only once this is included. `firstTask` and `seed` say which
    /// assignment the traces answer: a second process of the same miner or a reorg must not turn honest work into a lie.
    ///
    /// Requirements:
    /// - `root` must not be zero (BatchMarket_ZeroRoot); the codec must be raw or dag-pb (BatchMarket_InvalidCodec).
    /// - `traces` must be whole groups, from one group to `maxTraces` (BatchMarket_InvalidCount).
    /// - The bounty must pay at least the least fee for checking (BatchMarket_FeeTooLow).
    /// - Neither its worst-case cost nor its bond may exceed what a lying majority would lose (BatchMarket_BatchTooDear):
    ///   smaller batches.
    /// - Enough verifiers must have a free seat (BatchMarket_TooFewVerifiers).
    /// - The bounty must be open and have the funds (BountyEscrow_DeadlinePassed, BountyEscrow_InsufficientFunds).
    /// - The caller's assignment must be open (Assignments_NotOpen), have this seed (Assignments_OtherSeed) and this next
    ///   task (Assignments_OtherTask).
    function commitBatch(
        uint64 bounty,
        bytes32 root,
        uint32 traces,
        uint64 firstTask,
        bytes32 seed,
        ContentId calldata content
    ) external returns (uint64 batch);

    /// Counts a closed round. A quorum (more than half of the seats) on one attestation starts the challenge window;
    /// `leader` must then be that attestation. Without a quorum it opens another round, of the same size where members
    /// were absent and of 2k+1 seats where they disagreed, or after the last one makes the batch void. Anybody may call.
    ///
    /// Requirements:
    /// - The batch must be InRound (BatchMarket_WrongPhase) and its round closed (BatchMarket_RoundNotClosed).
    /// - `leader` must hash to the leading vote where that has a quorum (BatchMarket_NotTheLeader).
    /// - Where members disagreed without a quorum, the time to narrow the conflict must be over (BatchMarket_NarrowFirst) and
    ///   no dispute of the batch be open (BatchMarket_DisputesOpen).
    function tally(uint64 batch, Attestation calldata leader) external;

    /// Makes a batch void whose committee could not be drawn in time. Anybody may call it.
    ///
    /// Requirements:
    /// - The batch must be InRound (BatchMarket_WrongPhase) and its round stalled (BatchMarket_RoundNotStalled).
    function voidStalled(uint64 batch) external;

    /// Pays: units x price to the miner, its bond less what faults and unpaid traces cost, the fee to coherent members in
    /// equal shares of all seats but those of convicted members, the rest back to the bounty. "Malformed" takes the whole
    /// bond, "unavailable" the fees. Anybody may call it.
    ///
    /// Requirements:
    /// - The batch must be Settleable (BatchMarket_WrongPhase).
    function settle(uint64 batch) external;

    /// Counts a dispute about the attestation. Only the court.
    ///
    /// Requirements:
    /// - The caller must be the court (BatchMarket_NotCourt); the batch must be Challengeable (BatchMarket_WrongPhase).
    function beginDispute(uint64 batch) external;

    /// Counts a dispute between two votes of a round that closed without a quorum: one for each round. Only the court.
    ///
    /// Requirements:
    /// - The batch must be InRound (BatchMarket_WrongPhase), its round closed with enough reveals but no quorum, and not
    ///   narrowed before (BatchMarket_NoConflict).
    function beginConflict(uint64 batch) external;

    /// Ends a dispute. Only the court.
    function endDispute(uint64 batch) external;

    /// Takes an attestation back. Its signers are convicted where `guilty`; the batch goes to a fresh committee, or becomes
    /// void where it had its last round. Only the court.
    /// @return slashed what the signers lost, shifted to the court
    function overturn(uint64 batch, bool guilty) external returns (uint256 slashed);

    /// Puts another attestation in the place of the present one, or of none: the vote that won a conflict, or "unavailable"
    /// where a jury could not have the content: then the signers of the one before lose the absence penalty, for whoever signs
    /// keeps the content until settlement. The challenge window starts again. Only the court.
    function attest(uint64 batch, Attestation calldata attestation) external;

    function get(uint64 batch) external view returns (Batch memory);

    /// @return the rounds of a batch, oldest first
    function roundsOf(uint64 batch) external view returns (uint64[] memory);

    function phaseOf(uint64 batch) external view returns (Phase);

    /// @return the bond a batch of `traces` for `bounty` needs, in token base units
    function bondFor(uint64 bounty, uint32 traces) external view returns (uint256);

    /// @return what committees vote on: keccak256(abi.encode(chain id, this contract, batch, batch root))
    function subjectOf(uint64 batch) external view returns (bytes32);

    function parameters() external view returns (Parameters memory);

    function count() external view returns (uint64);
}
