// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRoyalties} from "../../../contracts/src/interfaces/IRoyalties.sol";
import {MerkleProofs} from "../../../contracts/src/libraries/MerkleProofs.sol";
import {ContentId, Shares} from "../../../contracts/src/libraries/Types.sol";
import {Scenario} from "./Scenario.sol";
import {SmallTrees} from "./SmallTrees.sol";

/// Checkpoints with a few holders, whose lists lie in storage.
abstract contract RoyaltyScenario is Scenario {
    struct Holder {
        address account;
        uint32 share;
    }

    uint32 internal constant ALL = 1_000_000_000;

    mapping(uint64 checkpoint => Holder[]) internal holdersOf;

    function _leaves(uint64 checkpoint) internal view returns (MerkleProofs.SumNode[] memory leaves) {
        leaves = new MerkleProofs.SumNode[](holdersOf[checkpoint].length);
        for (uint256 i; i < leaves.length; ++i) {
            Holder memory one = holdersOf[checkpoint][i];
            leaves[i] = MerkleProofs.shareLeaf(one.account, one.share);
        }
    }

    /// Registers a checkpoint of the trainer's with these holders.
    function _register(uint64 parent, uint32 passOnPpm, Holder[] memory list) internal returns (uint64) {
        return _registerAs(parent, passOnPpm, list, uint32(list.length));
    }

    /// @param holders as registered, which need not be the list's
    function _registerAs(uint64 parent, uint32 passOnPpm, Holder[] memory list, uint32 holders)
        internal
        returns (uint64 checkpoint)
    {
        checkpoint = checkpoints.count() + 1;
        for (uint256 i; i < list.length; ++i) {
            holdersOf[checkpoint].push(list[i]);
        }
        bytes32 root = SmallTrees.sumRoot(_leaves(checkpoint), 0, list.length).hash;
        ContentId memory content = ContentId(keccak256(abi.encode("weights", checkpoint)), RAW);
        bytes32 identity = _identityOf(parent);
        vm.prank(trainer);
        checkpoints.register(
            parent,
            identity,
            content,
            0,
            Shares(root, holders, passOnPpm, ContentId(keccak256("list"), RAW))
        );
    }

    /// @return of a checkpoint as a parent: zero where there is none
    function _identityOf(uint64 checkpoint) internal view returns (bytes32) {
        return checkpoint == 0 ? bytes32(0) : checkpoints.identityOf(checkpoint);
    }

    function _pay(address payer, uint64 checkpoint, uint256 amount) internal {
        _arm(payer, amount);
        bytes32 identity = checkpoints.identityOf(checkpoint);
        vm.prank(payer);
        royalties.pay(checkpoint, identity, amount);
    }

    function _collect(uint64 checkpoint, uint256 index) internal returns (uint256) {
        Holder memory one = holdersOf[checkpoint][index];
        MerkleProofs.SumNode[] memory proof = SmallTrees.sumProof(_leaves(checkpoint), index);
        return royalties.collect(checkpoint, index, one.account, one.share, proof);
    }

    /// @return what is kept for the holders of a checkpoint, by the reference
    function _kept(uint64 checkpoint) internal view returns (uint256) {
        (,, uint32 passOnPpm,) = checkpoints.sharesOf(checkpoint);
        uint256 received = royalties.accountOf(checkpoint).received;
        return received - received * passOnPpm / 1_000_000;
    }

    /// @return held what the ledger must hold for the royalties, from the accounts of all checkpoints
    function _owed() internal view returns (uint256 held) {
        for (uint64 checkpoint = 1; checkpoint <= checkpoints.count(); ++checkpoint) {
            IRoyalties.Account memory sums = royalties.accountOf(checkpoint);
            held += uint256(sums.received) - sums.passedOn - sums.collected;
        }
    }
}
