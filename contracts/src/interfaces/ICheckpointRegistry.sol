// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ContentId} from "../libraries/Types.sol";

/// Registered model weights: where they are, what they came from and what they were trained on.
interface ICheckpointRegistry {
    struct Checkpoint {
        address trainer;
        uint64 parent;
        uint32 registeredAt;
        bytes32 digest;
        uint8 codec;
        bytes32 datasetRoot;
    }

    event CheckpointRegistered(
        uint64 indexed checkpoint,
        address indexed trainer,
        uint64 indexed parent,
        ContentId content,
        bytes32 datasetRoot
    );

    error CheckpointRegistry_UnknownCheckpoint(uint64 checkpoint);
    error CheckpointRegistry_InvalidContent(bytes32 digest, uint8 codec);

    /// Registers a checkpoint of the caller.
    ///
    /// Requirements:
    /// - `parent` must be zero (a base model) or exist (CheckpointRegistry_UnknownCheckpoint).
    /// - The content must be a raw or dag-pb CID (CheckpointRegistry_InvalidContent).
    function register(uint64 parent, ContentId calldata content, bytes32 datasetRoot)
        external
        returns (uint64 checkpoint);

    /// @return a checkpoint; reverts where there is none (CheckpointRegistry_UnknownCheckpoint)
    function get(uint64 checkpoint) external view returns (Checkpoint memory);

    /// @return the newest checkpoint of a trainer, zero where it has none
    function latestOf(address trainer) external view returns (uint64);

    function count() external view returns (uint64);
}
