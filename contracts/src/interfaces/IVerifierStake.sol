// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Permit} from "../libraries/Types.sol";

/// Verifier stake and two lots. A verifier's weight in the draw of a committee is its number of free seats: stake /
/// seatStake, rounded down, less its open seats. Stake behind an open seat can't leave; stake in unbonding can still be
/// slashed. In the draw of a jury every seat counts, open or free, and jurors lock none: so nobody can keep a jury from
/// being drawn by keeping seats busy. What a juror loses is taken from wherever it has stake, so stake may come to cover
/// fewer seats than are open.
///
/// Whatever changes a weight makes the due draws first (see IRounds), and reverts with Rounds_DrawDue where it can't.
interface IVerifierStake {
    event Staked(address indexed verifier, uint256 amount);
    event UnstakeRequested(address indexed verifier, uint256 amount, uint256 claimableAt);
    event Unstaked(address indexed verifier, uint256 amount);
    event SeatClosed(address indexed verifier, uint256 penalty);

    error VerifierStake_NotRounds(address caller);
    error VerifierStake_ZeroAmount();
    error VerifierStake_BelowSeatStake(uint256 stake, uint256 seatStake);
    error VerifierStake_InsufficientFreeStake(uint256 free, uint256 needed);
    error VerifierStake_NothingUnbonding(address verifier);
    error VerifierStake_StillUnbonding(uint256 claimableAt, uint256 timestamp);
    error VerifierStake_TooManySeats(uint256 seats);
    error VerifierStake_InvalidParameters();

    struct Verifier {
        uint96 stake;
        uint96 unbonding;
        uint32 claimableAt;
        uint32 openSeats;
        /// position in the tree plus one; zero where the verifier never staked
        uint32 leaf;
    }

    /// Adds stake of the caller.
    ///
    /// Requirements:
    /// - `amount` must not be zero (VerifierStake_ZeroAmount).
    /// - The stake must then cover a seat (VerifierStake_BelowSeatStake).
    function stake(uint256 amount) external;

    /// The same with an EIP-2612 signature in favour of the ledger.
    function stakeWithPermit(uint256 amount, Permit calldata permit) external;

    /// Takes `amount` out of the lot at once; it can be claimed after the unbonding delay. A second request restarts the
    /// clock for all that is unbonding.
    ///
    /// Requirements:
    /// - `amount` must not be zero (VerifierStake_ZeroAmount).
    /// - It must not exceed the stake behind no open seat (VerifierStake_InsufficientFreeStake).
    function requestUnstake(uint256 amount) external;

    /// Moves unbonded stake of `verifier` into its balance. Anybody may call it.
    ///
    /// Requirements:
    /// - Something must be unbonding (VerifierStake_NothingUnbonding) and due (VerifierStake_StillUnbonding).
    function claim(address verifier) external returns (uint256 amount);

    /// Draws up to `size` different verifiers by weight, without replacement, and for a committee locks a seat of each. Only
    /// rounds.
    ///
    /// Requirements:
    /// - The caller must be the rounds contract (VerifierStake_NotRounds).
    /// @param least with fewer verifiers to draw from nobody is drawn
    /// @param excluded leaves of those who may not be drawn
    /// @return members their leaves in the lot, none where there are too few
    /// @return owners their accounts
    function draw(bytes32 randomness, uint256 size, uint256 least, uint32[] calldata excluded, bool jury)
        external
        returns (uint32[] memory members, address[] memory owners);

    /// Closes a seat of each member (jurors have none to close) and takes its penalty: from its stake as far as that does not uncover its other
    /// seats, then from what is unbonding, and a juror's from the rest of its stake. The sum is shifted to `beneficiary`, a
    /// module. Only rounds.
    /// @return slashed what was taken; less than the penalties where there was less
    function closeSeats(uint32[] calldata members, uint256[] calldata penalties, address beneficiary, bool jury)
        external
        returns (uint256 slashed);

    /// @return the account at a leaf of the lot
    function ownerOf(uint32 leaf) external view returns (address);

    /// @return the accounts at several leaves of the lot
    function ownersOf(uint32[] calldata leaves) external view returns (address[] memory);

    function get(address verifier) external view returns (Verifier memory);

    /// @return free seats of one verifier
    function weightOf(address verifier) external view returns (uint256);

    /// @return free seats of all verifiers
    function totalWeight() external view returns (uint256);

    /// @return verifiers with at least one free seat
    function eligible() external view returns (uint256);

    /// @return verifiers with at least one seat, open or free
    function stakers() external view returns (uint256);

    /// @return token base units locked by one seat
    function seatStake() external view returns (uint96);
}
