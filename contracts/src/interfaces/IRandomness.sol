// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// A source of values that nobody knows at the time they are asked for.
/// A point is a moment of the source (a block number, a beacon round).
///
/// Status of a point, which only ever moves to the right: Pending -> [Awaited ->] Ready or Missed. Ready may become
/// Missed, where a source forgets; Missed is final, or two readers could see two fates of one point.
interface IRandomness {
    enum Status {
        /// nobody can know the value yet
        Pending,
        /// the value can be read
        Ready,
        /// the value is out of reach for good: ask for a new point
        Missed,
        /// the value may be public, but the source does not have it yet: somebody must bring it. Whoever acts on a point
        /// must treat it as known already. Block hashes are never Awaited.
        Awaited
    }

    error Randomness_NotReady(uint64 point, Status status);
    error Randomness_InvalidDelay(uint64 delay);

    /// Never less than an earlier answer.
    ///
    /// @return point the first point whose value nobody can know now
    function nextPoint() external view returns (uint64 point);

    /// Never reverts.
    function statusOf(uint64 point) external view returns (Status status);

    /// @return value the value of a point; the same on every call
    ///
    /// Requirements:
    /// - The status of `point` must be Ready (Randomness_NotReady).
    function valueAt(uint64 point) external view returns (bytes32 value);
}
