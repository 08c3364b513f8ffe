// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MerkleProofs} from "../libraries/MerkleProofs.sol";
import {Permit} from "../libraries/Types.sol";

/// Money for the use of checkpoints. Of all that came in for a checkpoint, a part fixed at its registration goes on to its
/// parent, rounded down; the rest is kept for the holders of its shares, each by its billionths, rounded down. All of it
/// is cumulative: what a rounding leaves stays with the checkpoint and counts in the next payment's sum.
interface IRoyalties {
    /// Sums over the life of a checkpoint, in token base units.
    struct Account {
        /// paid in by anybody, or passed on by children
        uint128 received;
        uint128 passedOn;
        uint128 collected;
    }

    event RoyaltyPaid(uint64 indexed checkpoint, address indexed payer, uint256 amount);
    event RoyaltyCollected(
        uint64 indexed checkpoint, address indexed account, uint256 index, uint256 amount
    );
    event RoyaltyPassedOn(uint64 indexed checkpoint, uint64 indexed parent, uint256 amount);

    error Royalties_WrongDeployment(address linked);
    error Royalties_AnotherCheckpoint(uint64 checkpoint, bytes32 identity, bytes32 named);
    error Royalties_ZeroAmount();
    error Royalties_BadShareProof(uint64 checkpoint, uint256 index, address account, uint32 share);
    error Royalties_NothingToCollect(uint64 checkpoint, uint256 index);
    error Royalties_NothingToPassOn(uint64 checkpoint);
    error Royalties_Overdrawn(uint64 checkpoint, uint256 kept, uint256 collected, uint256 amount);

    /// Pays for the use of a checkpoint; anybody may, and it costs the same whatever the number of holders.
    ///
    /// Requirements:
    /// - The checkpoint must exist (CheckpointRegistry_UnknownCheckpoint) and be the one that the payer means, by
    ///   ICheckpointRegistry.identityOf (Royalties_AnotherCheckpoint): after a reorganisation its number may be that of
    ///   another one, or of one with another parent.
    /// - `amount` must not be zero (Royalties_ZeroAmount).
    function pay(uint64 checkpoint, bytes32 identity, uint256 amount) external;

    /// The same with an EIP-2612 signature in favour of the ledger.
    function payWithPermit(uint64 checkpoint, bytes32 identity, uint256 amount, Permit calldata permit) external;

    /// Moves all that share `index` of a checkpoint has earned since it was collected last into the ledger balance of its
    /// account. Anybody may call it; the proof binds it to the registered list, so it needs no identity.
    ///
    /// Requirements:
    /// - The checkpoint must exist (CheckpointRegistry_UnknownCheckpoint).
    /// - The proof must lead from the share to the registered root, with shares that add up to a billion
    ///   (Royalties_BadShareProof). A list with more or less than that can't be collected from at all.
    /// - Something must be due (Royalties_NothingToCollect).
    /// - All collections together must not exceed what is kept for the holders (Royalties_Overdrawn); the proofs see to it.
    /// @return amount in token base units
    function collect(
        uint64 checkpoint,
        uint256 index,
        address account,
        uint32 share,
        MerkleProofs.SumNode[] calldata proof
    ) external returns (uint256 amount);

    /// Moves what is due to the parent's royalties. Anybody may call it; one call is one step of the lineage.
    ///
    /// Requirements:
    /// - The checkpoint must exist (CheckpointRegistry_UnknownCheckpoint).
    /// - Something must be due (Royalties_NothingToPassOn).
    /// @return amount in token base units
    function passOn(uint64 checkpoint) external returns (uint256 amount);

    /// @return the sums of a checkpoint; all zero where nothing was ever paid
    function accountOf(uint64 checkpoint) external view returns (Account memory);

    /// @return what share `index` of a checkpoint has collected in all
    function collectedOf(uint64 checkpoint, uint256 index) external view returns (uint256);

    /// @return what `passOn` would move now
    function passOnDue(uint64 checkpoint) external view returns (uint256);
}
