// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ICheckpointRegistry} from "./interfaces/ICheckpointRegistry.sol";
import {Codecs} from "./libraries/Codecs.sol";
import {ContentId} from "./libraries/Types.sol";

contract CheckpointRegistry is ICheckpointRegistry {
    mapping(uint64 id => Checkpoint) private _checkpoints;
    mapping(address trainer => uint64) public latestOf;
    uint64 public count;

    function register(uint64 parent, ContentId calldata content, bytes32 datasetRoot)
        external
        returns (uint64 checkpoint)
    {
        require(parent <= count, CheckpointRegistry_UnknownCheckpoint(parent));
        require(
            content.digest != 0 && Codecs.known(content.codec),
            CheckpointRegistry_InvalidContent(content.digest, content.codec)
        );
        checkpoint = ++count;
        _checkpoints[checkpoint] = Checkpoint({
            trainer: msg.sender,
            parent: parent,
            registeredAt: uint32(block.number),
            digest: content.digest,
            codec: content.codec,
            datasetRoot: datasetRoot
        });
        latestOf[msg.sender] = checkpoint;
        emit CheckpointRegistered(checkpoint, msg.sender, parent, content, datasetRoot);
    }

    function get(uint64 checkpoint) external view returns (Checkpoint memory) {
        require(checkpoint != 0 && checkpoint <= count, CheckpointRegistry_UnknownCheckpoint(checkpoint));
        return _checkpoints[checkpoint];
    }
}
