// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Attestation, ContentId, Parameters} from "../libraries/Types.sol";

/// Batches from commit to settlement.
///
/// Phases (computed by `phaseOf`, never stored):
/// None -> InRound -> Challengeable -> Settleable -> Settled
///            |  \-> InRound (no quorum: another round)
///            \----> Void (no quorum in the last round, or no committee could be drawn)
interface IBatchMarket {
    enum Phase {
        None,
        InRound,
        Challengeable,
        Settleable,
        Settled,
        Void
    }

    struct Batch {
        address miner;
        uint64 bounty;
        uint32 count;
        bytes32 root;
        uint96 bond;
        uint64 round;
        uint40 attestedAt;
        uint8 rounds;
        bool closed;
        uint40 firstTask;
        Attestation attestation;
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

    /// Commits a batch: whole groups for the next assigned tasks. Reserves its worst-case cost (every trace paid, the
    /// full fee) and collects the bond. Publish the content only once this is included. `firstTask` and `seed` say which
    /// assignment the traces answer: a second process of the same miner or a reorg must not turn honest work into a lie.
    ///
    /// Requirements:
    /// - `root` must not be zero (BatchMarket_ZeroRoot); the codec must be raw or dag-pb (BatchMarket_InvalidCodec).
    /// - `count` must be whole groups, from one group to `maxTraces` (BatchMarket_InvalidCount).
    /// - The bounty must be open and have the funds (BountyEscrow_DeadlinePassed, BountyEscrow_InsufficientFunds).
    /// - The caller's assignment must be open (Assignments_NotOpen), have this seed (Assignments_OtherSeed) and this next
    ///   task (Assignments_OtherTask).
    function commitBatch(
        uint64 bounty,
        bytes32 root,
        uint32 count,
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
    function tally(uint64 batch, Attestation calldata leader) external;

    /// Makes a batch void whose committee could not be drawn in time. Anybody may call it.
    ///
    /// Requirements:
    /// - The batch must be InRound (BatchMarket_WrongPhase) and its round stalled (BatchMarket_RoundNotStalled).
    function voidStalled(uint64 batch) external;

    /// Pays: units x price to the miner, its bond less what faults forfeit, the fee to coherent members in equal shares
    /// of all seats, the rest back to the bounty. Anybody may call it.
    ///
    /// Requirements:
    /// - The batch must be Settleable (BatchMarket_WrongPhase).
    function settle(uint64 batch) external;

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
