// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ICheckpointRegistry} from "./interfaces/ICheckpointRegistry.sol";
import {Codecs} from "./libraries/Codecs.sol";
import {ContentId, Shares} from "./libraries/Types.sol";

contract CheckpointRegistry is ICheckpointRegistry {
    /// The trainer and those whose work it used get at least the half.
    uint32 private constant MOST_PASSED_ON = 500_000;

    mapping(uint64 id => Checkpoint) private _checkpoints;
    mapping(address trainer => uint64) public latestOf;
    uint64 public count;

    function register(
        uint64 parent,
        bytes32 parentIdentity,
        ContentId calldata content,
        bytes32 datasetRoot,
        Shares calldata shares
    ) external returns (uint64 checkpoint) {
        require(parent <= count, CheckpointRegistry_UnknownCheckpoint(parent));
        bytes32 found = _checkpoints[parent].identity;
        require(found == parentIdentity, CheckpointRegistry_AnotherParent(parent, found, parentIdentity));
        _requireContent(content);
        require(
            shares.root != 0 && shares.holders != 0,
            CheckpointRegistry_InvalidShares(shares.root, shares.holders)
        );
        uint32 most = parent == 0 ? 0 : MOST_PASSED_ON;
        require(shares.passOnPpm <= most, CheckpointRegistry_PassesOnTooMuch(shares.passOnPpm, most));
        _requireContent(shares.list);
        bytes32 identity = keccak256(
            abi.encode(
                parentIdentity,
                msg.sender,
                content,
                datasetRoot,
                shares.root,
                shares.holders,
                shares.passOnPpm
            )
        );
        checkpoint = ++count;
        _checkpoints[checkpoint] = Checkpoint({
            trainer: msg.sender,
            parent: parent,
            registeredAt: uint32(block.number),
            digest: content.digest,
            codec: content.codec,
            holders: shares.holders,
            passOnPpm: shares.passOnPpm,
            datasetRoot: datasetRoot,
            sharesRoot: shares.root,
            identity: identity
        });
        latestOf[msg.sender] = checkpoint;
        emit CheckpointRegistered(checkpoint, msg.sender, parent, content, datasetRoot, shares, identity);
    }

    function get(uint64 checkpoint) external view returns (Checkpoint memory) {
        return _existing(checkpoint);
    }

    function sharesOf(uint64 checkpoint)
        external
        view
        returns (bytes32 root, uint32 holders, uint32 passOnPpm, uint64 parent)
    {
        Checkpoint storage entry = _existing(checkpoint);
        return (entry.sharesRoot, entry.holders, entry.passOnPpm, entry.parent);
    }

    function identityOf(uint64 checkpoint) external view returns (bytes32 identity) {
        identity = _checkpoints[checkpoint].identity;
        require(identity != 0, CheckpointRegistry_UnknownCheckpoint(checkpoint));
    }

    function _requireContent(ContentId calldata content) private pure {
        require(
            content.digest != 0 && Codecs.known(content.codec),
            CheckpointRegistry_InvalidContent(content.digest, content.codec)
        );
    }

    function _existing(uint64 checkpoint) private view returns (Checkpoint storage entry) {
        entry = _checkpoints[checkpoint];
        require(entry.trainer != address(0), CheckpointRegistry_UnknownCheckpoint(checkpoint));
    }
}
