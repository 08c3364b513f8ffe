// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// A source of values that nobody knows at the time they are asked for.
/// A point is a moment of the source (a block number, a beacon round).
interface IRandomness {
    enum Status {
        Pending,
        Ready,
        Missed,
        Awaited
    }

    error Randomness_NotReady(uint64 point, Status status);
    error Randomness_InvalidDelay(uint64 delay);

    /// @return point the first point whose value nobody can know now; never below an earlier answer
    function nextPoint() external view returns (uint64 point);

    /// @return status Pending before anybody can know the value, Awaited while it may be public but is not here yet,
    /// Ready while it can be read, Missed when it is out of reach
    function statusOf(uint64 point) external view returns (Status status);

    /// @return value the value of a point; the same on every call
    ///
    /// Requirements:
    /// - The status of `point` must be Ready (Randomness_NotReady).
    function valueAt(uint64 point) external view returns (bytes32 value);
}
