// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// Which tasks a miner must solve. A miner enrols in a bounty; a value that nobody knew at that time becomes its
/// assignment seed; its batches take task indices 0, 1, 2, ... of that seed without gaps. So nobody picks easy tasks.
interface IAssignments {
    event AssignmentRequested(uint64 indexed bounty, address indexed miner, uint64 point);
    event AssignmentOpened(uint64 indexed bounty, address indexed miner, bytes32 seed);

    error Assignments_NotMarket(address caller);
    error Assignments_AlreadyRequested(uint64 bounty, address miner, uint64 point);
    error Assignments_NotRequested(uint64 bounty, address miner);
    error Assignments_AlreadyOpen(uint64 bounty, address miner);
    error Assignments_NotReady(uint64 bounty, address miner, uint64 point);
    error Assignments_NotOpen(uint64 bounty, address miner);
    error Assignments_OtherSeed(bytes32 given, bytes32 seed);
    error Assignments_OtherTask(uint64 given, uint64 nextTask);

    struct Assignment {
        bytes32 seed;
        uint64 point;
        uint64 nextTask;
    }

    /// Enrols the caller.
    ///
    /// Requirements:
    /// - The bounty must exist (BountyEscrow_UnknownBounty).
    /// - The caller must not be enrolled (Assignments_AlreadyRequested).
    function request(uint64 bounty) external;

    /// Fixes the seed, or schedules it again where its randomness was missed. Anybody may call it.
    ///
    /// Requirements:
    /// - The miner must be enrolled (Assignments_NotRequested) and its seed not be fixed (Assignments_AlreadyOpen).
    /// - The randomness must be known or missed (Assignments_NotReady).
    function open(uint64 bounty, address miner) external;

    /// Takes the next `tasks` task indices, which the miner believes to begin at `firstTask` of `seed`. Only the market.
    ///
    /// Requirements:
    /// - The caller must be the market (Assignments_NotMarket).
    /// - The seed must be fixed (Assignments_NotOpen) and be `seed` (Assignments_OtherSeed).
    /// - The next task must be `firstTask` (Assignments_OtherTask).
    function take(uint64 bounty, address miner, uint64 tasks, uint64 firstTask, bytes32 seed) external;

    function get(uint64 bounty, address miner) external view returns (Assignment memory);
}
