// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MerkleProofs} from "../libraries/MerkleProofs.sol";
import {Verdict} from "../libraries/Types.sol";

/// Planted batches. A poster that wants to know whether committees check mines its own bounty under another address, with a
/// trace whose verdict it knows beforehand, and commits to that here: nobody can tell such a batch from any other until
/// it is opened. A committee that signs without checking misses the trap, and the planter disputes that verdict before
/// the court with a certain win: the signers' loss pays the bounty its fees back. The record tells everybody how often
/// committees were tested, and how often they failed.
interface IAudits {
    struct Planting {
        address planter;
        uint40 plantedAt;
    }

    struct Audit {
        address planter;
        uint32 index;
        /// the committee's verdict of the trap is not the planted one
        bool missed;
    }

    event Planted(bytes32 indexed root, address indexed planter);
    event AuditOpened(uint64 indexed batch, address indexed planter, uint32 index, Verdict planted, bool missed);

    error Audits_AlreadyPlanted(bytes32 root);
    error Audits_ZeroRoot();
    error Audits_NotPlanted(bytes32 root, bytes32 leaf);
    error Audits_NotYours(bytes32 root, address planter);
    error Audits_PlantedTooLate(uint256 plantedAt, uint256 committedAt);
    error Audits_NotAttested(uint64 batch);
    error Audits_AlreadyOpened(uint64 batch);

    /// Commits to plantings: the root of a Merkle tree (OpenZeppelin's, sorted pairs) over `leafOf`, or one such leaf.
    ///
    /// Requirements:
    /// - `root` must not be zero (Audits_ZeroRoot) nor have been used (Audits_AlreadyPlanted).
    function plant(bytes32 root) external;

    /// Shows that `batch` was planted, once it is attested. `attested` is the committee's verdict of the trap.
    ///
    /// Requirements:
    /// - `batch` must be attested with verdicts or settled (Audits_NotAttested), and not be opened (Audits_AlreadyOpened).
    /// - The caller must have planted it (Audits_NotPlanted, Audits_NotYours), at least a second before it was committed
    ///   (Audits_PlantedTooLate).
    /// - `attested` must be the attested verdict of that trace (Evidence_BadVerdictProof).
    function open(
        uint64 batch,
        Verdict calldata planted,
        bytes32 salt,
        bytes32 root,
        bytes32[] calldata proof,
        Verdict calldata attested,
        MerkleProofs.SumNode[] calldata attestedProof
    ) external returns (bool missed);

    /// @return leaf keccak256(keccak256(abi.encode(chain id, this contract, batch root, verdict, salt)))
    function leafOf(bytes32 batchRoot, Verdict calldata planted, bytes32 salt) external view returns (bytes32 leaf);

    function plantingOf(bytes32 root) external view returns (Planting memory);

    function auditOf(uint64 batch) external view returns (Audit memory);
}
