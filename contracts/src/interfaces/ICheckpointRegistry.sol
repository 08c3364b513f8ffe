// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ContentId, Shares} from "../libraries/Types.sol";

/// Registered model weights: where they are, what they came from, what they were trained on, and who gets what is paid for
/// their use. Sampling rules and evaluation are files of the content, bound by its CID.
interface ICheckpointRegistry {
    struct Checkpoint {
        address trainer;
        uint64 parent;
        uint32 registeredAt;
        bytes32 digest;
        uint8 codec;
        uint32 holders;
        uint32 passOnPpm;
        bytes32 datasetRoot;
        bytes32 sharesRoot;
        /// what `identityOf` answers
        bytes32 identity;
    }

    event CheckpointRegistered(
        uint64 indexed checkpoint,
        address indexed trainer,
        uint64 indexed parent,
        ContentId content,
        bytes32 datasetRoot,
        Shares shares,
        bytes32 identity
    );

    error CheckpointRegistry_UnknownCheckpoint(uint64 checkpoint);
    error CheckpointRegistry_AnotherParent(uint64 parent, bytes32 identity, bytes32 named);
    error CheckpointRegistry_InvalidContent(bytes32 digest, uint8 codec);
    error CheckpointRegistry_InvalidShares(bytes32 root, uint32 holders);
    error CheckpointRegistry_PassesOnTooMuch(uint32 passOnPpm, uint32 most);

    /// Registers a checkpoint of the caller.
    ///
    /// Requirements:
    /// - `parent` must be zero (a base model) or exist (CheckpointRegistry_UnknownCheckpoint), and be the one that the caller
    ///   means, by `identityOf`, or zero for a base model (CheckpointRegistry_AnotherParent): after a reorganisation its
    ///   number may be another's, who would get what is passed on.
    /// - The content and the list of shares must be raw or dag-pb CIDs (CheckpointRegistry_InvalidContent).
    /// - The shares must have a root and a number of holders (CheckpointRegistry_InvalidShares).
    /// - At most the half may be passed on to the parent, nothing where there is none
    ///   (CheckpointRegistry_PassesOnTooMuch).
    function register(
        uint64 parent,
        bytes32 parentIdentity,
        ContentId calldata content,
        bytes32 datasetRoot,
        Shares calldata shares
    ) external returns (uint64 checkpoint);

    /// @return a checkpoint; reverts where there is none (CheckpointRegistry_UnknownCheckpoint)
    function get(uint64 checkpoint) external view returns (Checkpoint memory);

    /// What royalties need of a checkpoint; reverts where there is none (CheckpointRegistry_UnknownCheckpoint).
    function sharesOf(uint64 checkpoint)
        external
        view
        returns (bytes32 root, uint32 holders, uint32 passOnPpm, uint64 parent);

    /// What a checkpoint is, whatever its number: equal only where everything that was registered of it is equal, and of its
    /// parent, and so on to the base model. Who pays names it. Reverts where there is no such checkpoint
    /// (CheckpointRegistry_UnknownCheckpoint).
    /// @return keccak256(abi.encode(the parent's identity or zero, trainer, content, dataset root, root of the shares,
    ///     holders, passOnPpm)). Not the list of shares, which the root fixes, nor the block.
    function identityOf(uint64 checkpoint) external view returns (bytes32);

    /// @return the newest checkpoint of a trainer, zero where it has none
    function latestOf(address trainer) external view returns (uint64);

    function count() external view returns (uint64);
}
