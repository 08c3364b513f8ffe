// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRandomness} from "./IRandomness.sol";

/// Randomness from a drand beacon with scheme bls-bn254-unchained-on-g1, verified on chain. A point is a beacon round.
/// Anybody may deliver a round's signature; the contract keeps its hash for good.
///
/// Status of a round (computed, never stored):
/// Pending -> Awaited -> Ready      delivered within `patience` of the round's time
/// Pending -> Awaited -> Missed     not delivered by then
interface IDrandRandomness is IRandomness {
    /// A drand network, as its chain info names it.
    struct Network {
        /// in G2, real part first: [x.re, x.im, y.re, y.im]. drand prints x.im, x.re, y.im, y.re.
        uint256[4] publicKey;
        /// time of round 1, unix seconds
        uint64 genesis;
        /// seconds between rounds
        uint64 period;
    }

    event BeaconDelivered(uint64 indexed round, bytes32 value, address indexed deliverer);

    error DrandRandomness_InvalidKey(uint256[4] publicKey);
    error DrandRandomness_InvalidPeriod(uint64 period);
    error DrandRandomness_InvalidPatience(uint64 patience);
    error DrandRandomness_NoSuchRound(uint64 round);
    error DrandRandomness_NotDue(uint64 round, uint256 time);
    error DrandRandomness_TooLate(uint64 round, uint256 deadline);
    error DrandRandomness_AlreadyDelivered(uint64 round);
    error DrandRandomness_NotOnCurve(uint256[2] signature);
    error DrandRandomness_BadSignature(uint64 round, uint256[2] signature);

    /// Keeps the value of `round`. Anybody may call it.
    ///
    /// @param signature in G1, [x, y]: the two halves of the 64 bytes that drand publishes
    ///
    /// Requirements:
    /// - Rounds start at 1 (DrandRandomness_NoSuchRound).
    /// - The round's time must have come (DrandRandomness_NotDue), and at most `patience` seconds ago
    ///   (DrandRandomness_TooLate).
    /// - The round must not have been delivered (DrandRandomness_AlreadyDelivered).
    /// - `signature` must be a point of the curve other than infinity, in reduced coordinates
    ///   (DrandRandomness_NotOnCurve), and the network's signature of the round (DrandRandomness_BadSignature).
    function deliver(uint64 round, uint256[2] calldata signature) external;

    /// @return time of a round in unix seconds. Requires a round of at least 1 (DrandRandomness_NoSuchRound).
    function timeOf(uint64 round) external view returns (uint256 time);

    /// @return publicKey as in Network
    function publicKey() external view returns (uint256[4] memory publicKey);

    function genesis() external view returns (uint64);

    function period() external view returns (uint64);

    /// @return seconds from asking to the round at least. Blocks can be known or made later than their timestamp says,
    /// and can be reorganised: the delay must cover both.
    function delay() external view returns (uint64);

    /// @return seconds from a round's time to the last moment of its delivery
    function patience() external view returns (uint64);
}
