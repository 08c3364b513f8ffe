// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {BountyTerms, Permit} from "../libraries/Types.sol";

/// Poster money. A bounty's funds are available (free for new batches) or reserved (the worst case of pending batches).
interface IBountyEscrow {
    event BountyCreated(
        uint64 indexed bounty, address indexed poster, bytes32 indexed environment, BountyTerms terms
    );
    event BountyFunded(uint64 indexed bounty, address indexed from, uint256 amount);
    event BountyReserved(uint64 indexed bounty, uint256 amount);
    event BountyReleased(uint64 indexed bounty, uint256 reserved, uint256 spent);
    event BountyReplenished(uint64 indexed bounty, uint256 amount);
    event BountyRefunded(uint64 indexed bounty, address indexed poster, uint256 amount);

    error BountyEscrow_NotMarket(address caller);
    error BountyEscrow_UnknownBounty(uint64 bounty);
    error BountyEscrow_AnotherBounty(uint64 bounty, bytes32 identity, bytes32 named);
    error BountyEscrow_UnknownEnvironment(bytes32 environment);
    error BountyEscrow_DeadlinePassed(uint64 deadline, uint256 timestamp);
    error BountyEscrow_DeadlineNotPassed(uint64 deadline, uint256 timestamp);
    error BountyEscrow_DeadlineTooFar(uint64 deadline, uint256 latest);
    error BountyEscrow_ZeroPrice();
    error BountyEscrow_ZeroAmount();
    error BountyEscrow_InvalidGroupSize(uint16 groupSize);
    error BountyEscrow_TrainerMissing(uint8 tier);
    error BountyEscrow_NothingToRefund(uint64 bounty);
    error BountyEscrow_InsufficientFunds(uint64 bounty, uint256 available, uint256 needed);

    struct Bounty {
        address poster;
        uint128 available;
        uint128 reserved;
        BountyTerms terms;
    }

    /// Opens a bounty and pays `amount` into it.
    ///
    /// Requirements:
    /// - The environment must be registered (BountyEscrow_UnknownEnvironment).
    /// - The deadline must lie ahead (BountyEscrow_DeadlinePassed), by 366 days at most (BountyEscrow_DeadlineTooFar).
    /// - The price must not be zero (BountyEscrow_ZeroPrice).
    /// - The group size must be at least 1, and 2 under PayRule.Informative (BountyEscrow_InvalidGroupSize).
    /// - Tiers A and B must name a trainer (BountyEscrow_TrainerMissing).
    function create(BountyTerms calldata terms, uint256 amount) external returns (uint64 bounty);

    /// The same with an EIP-2612 signature in favour of the ledger.
    function createWithPermit(BountyTerms calldata terms, uint256 amount, Permit calldata permit)
        external
        returns (uint64 bounty);

    /// Pays more into a bounty; anybody may.
    ///
    /// Requirements:
    /// - The bounty must exist (BountyEscrow_UnknownBounty) and be the one that the payer means, by `identityOf`
    ///   (BountyEscrow_AnotherBounty): after a reorganisation its number may be another poster's.
    /// - It must be open (BountyEscrow_DeadlinePassed).
    /// - `amount` must not be zero (BountyEscrow_ZeroAmount).
    function fund(uint64 bounty, bytes32 identity, uint256 amount) external;

    /// The same with an EIP-2612 signature in favour of the ledger.
    function fundWithPermit(uint64 bounty, bytes32 identity, uint256 amount, Permit calldata permit) external;

    /// Moves what is available into the poster's balance. Anybody may call it, any number of times: what pending batches
    /// give back later can be refunded later.
    ///
    /// Requirements:
    /// - The deadline must have passed (BountyEscrow_DeadlineNotPassed).
    /// - Something must be available (BountyEscrow_NothingToRefund).
    function refund(uint64 bounty) external returns (uint256 amount);

    /// Sets aside `amount` for a batch. Only the market.
    ///
    /// Requirements:
    /// - The caller must be the market (BountyEscrow_NotMarket).
    /// - The bounty must exist and be open, and `amount` be available (BountyEscrow_InsufficientFunds).
    function reserve(uint64 bounty, uint256 amount) external;

    /// Ends a reserve: `spent` goes to the market's holding, the rest becomes available. Only the market.
    function release(uint64 bounty, uint256 reserved, uint256 spent) external;

    /// Makes tokens that were shifted to this module (forfeited bonds, slashed stake) available to a bounty. Only the
    /// market and the court.
    function replenish(uint64 bounty, uint256 amount) external;

    /// @return the whole bounty; reverts where there is none (BountyEscrow_UnknownBounty)
    function get(uint64 bounty) external view returns (Bounty memory);

    /// What a bounty is, whatever its number: who gets back what is left, and what is bought for how much.
    /// @return keccak256(abi.encode(poster, terms)); reverts where there is none (BountyEscrow_UnknownBounty)
    function identityOf(uint64 bounty) external view returns (bytes32);

    /// @return the number of bounties; ids run from 1 to it
    function count() external view returns (uint64);
}
