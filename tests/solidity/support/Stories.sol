// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MerkleProofs} from "../../../contracts/src/libraries/MerkleProofs.sol";
import {VerdictFaults} from "../../../contracts/src/libraries/VerdictFaults.sol";
import {IEvidence} from "../../../contracts/src/interfaces/IEvidence.sol";
import {Attestation, Verdict} from "../../../contracts/src/libraries/Types.sol";
import {Scenario} from "./Scenario.sol";
import {SmallTrees} from "./SmallTrees.sol";

/// What there is to say of a batch: its truth, two lies about verdicts, and trees that no honest member can have built.
/// All of it follows from the batch's number, so whoever needs a tree builds it again.
abstract contract Stories is Scenario {
    enum Story {
        Truth,
        LieA,
        LieB,
        /// the root's sums are not those of its children
        BadSum,
        /// one verdict names another batch
        BadBatch,
        /// one verdict's reason does not exist
        BadCap,
        /// a verdict where the root's children belong, or children where the only verdict belongs
        BadShape
    }

    bytes32 internal constant SOUND = keccak256("tracemarket.outcome.sound");

    mapping(uint64 batch => uint32) internal _countOf;
    /// the story behind a vote that was cast, plus one; zero where nobody has its tree
    mapping(uint64 batch => mapping(bytes32 vote => uint8)) internal _storyOf;

    /// @return the outcome that is true of a batch; zero where its traces have verdicts
    function _outcomeOf(uint64 batch) internal pure returns (bytes32) {
        uint256 dice = _dice(batch, "outcome") % 10;
        return dice == 0 ? UNAVAILABLE : dice == 1 ? MALFORMED : bytes32(0);
    }

    function _verdictOf(uint64 batch, Story story, uint32 index) internal view returns (Verdict memory) {
        uint256 dice = _dice(_dice(batch, "verdict"), index) % 4;
        (uint32 units, uint32 faults) = (dice > 1 ? 1 : 0, dice == 0 ? 1 : 0);
        if (_lies(batch, story, index)) (units, faults) = (1 - units, units == 1 && index % 2 == 0 ? 1 : 0);
        uint8 reason = story == Story.BadCap && index == _spot(batch) ? 0 : uint8(1 + units);
        return Verdict(index, units * 1_000_000, reason, units, faults);
    }

    function _lies(uint64 batch, Story story, uint32 index) internal view returns (bool) {
        if (story != Story.LieA && story != Story.LieB) return false;
        uint256 dice = _dice(batch, story == Story.LieA ? "A" : "B");
        return index == dice % _countOf[batch] || (dice >> (8 + index)) % 4 == 0;
    }

    /// @return index of the verdict that is bad in a bad tree, false in the first lie, and planted
    function _spot(uint64 batch) internal view returns (uint32) {
        return uint32(_dice(batch, "A") % _countOf[batch]);
    }

    /// @return the batch that a verdict names
    function _saidOf(uint64 batch, Story story, uint32 index) internal view returns (uint64) {
        return story == Story.BadBatch && index == _spot(batch) ? batch + 1 : batch;
    }

    function _leavesOf(uint64 batch, Story story) internal view returns (MerkleProofs.SumNode[] memory leaves) {
        leaves = new MerkleProofs.SumNode[](_countOf[batch]);
        for (uint32 i; i < leaves.length; ++i) {
            leaves[i] = _leafOf(_saidOf(batch, story, i), _verdictOf(batch, story, i));
        }
    }

    function _leafOf(uint64 batch, Verdict memory verdict) internal pure returns (MerkleProofs.SumNode memory) {
        return MerkleProofs.verdictLeaf(
            batch, verdict.index, verdict.score, verdict.reason, verdict.units, verdict.faults
        );
    }

    function _attestationOf(uint64 batch, Story story) internal view returns (Attestation memory said) {
        MerkleProofs.SumNode[] memory leaves = _leavesOf(batch, story);
        MerkleProofs.SumNode memory root = SmallTrees.sumRoot(leaves, 0, leaves.length);
        said = Attestation(root.hash, root.units, root.faults);
        if (story == Story.BadSum) {
            if (said.units != 0) --said.units;
            else if (said.faults != 0) --said.faults;
            else ++said.units;
        }
        if (story == Story.BadShape) {
            said.verdictRoot = leaves.length == 1 ? MerkleProofs.hashOf(leaves[0], leaves[0]) : leaves[0].hash;
        }
    }

    /// @return opened the nodes that show what is wrong with a bad story
    function _faultOf(uint64 batch, Story story) internal view returns (IEvidence.Opened memory opened) {
        MerkleProofs.SumNode[] memory leaves = _leavesOf(batch, story);
        uint256 size = leaves.length;
        if (story == Story.BadShape && size == 1) {
            opened.path = new VerdictFaults.Children[](1);
            opened.path[0] = VerdictFaults.Children(leaves[0], leaves[0]);
            return opened;
        }
        if (story == Story.BadSum && size != 1) {
            opened.path = new VerdictFaults.Children[](1);
            opened.path[0] = SmallTrees.childrenOf(leaves, 0, size);
            return opened;
        }
        uint32 index = story == Story.BadShape ? 0 : _spot(batch);
        opened.leaf = true;
        opened.batch = _saidOf(batch, story, index);
        opened.verdict = _verdictOf(batch, story, index);
        if (story == Story.BadShape) return opened;
        uint256 levels = SmallTrees.depthOf(size, index);
        opened.path = new VerdictFaults.Children[](levels);
        opened.rights = new bool[](levels);
        uint256 first;
        for (uint256 i; i < levels; ++i) {
            opened.path[i] = SmallTrees.childrenOf(leaves, first, size);
            uint256 left = SmallTrees.split(size);
            opened.rights[i] = index >= first + left;
            if (opened.rights[i]) (first, size) = (first + left, size - left);
            else size = left;
        }
    }

    function _claimOf(uint64 batch, Story story, uint32 index) internal view returns (IEvidence.Claim memory) {
        return IEvidence.Claim(
            _attestationOf(batch, story),
            _verdictOf(batch, story, index),
            SmallTrees.sumProof(_leavesOf(batch, story), index)
        );
    }

    /// @return the first index on which two stories differ
    function _firstDifference(uint64 batch, Story a, Story b) internal view returns (uint32) {
        MerkleProofs.SumNode[] memory one = _leavesOf(batch, a);
        MerkleProofs.SumNode[] memory other = _leavesOf(batch, b);
        for (uint32 i; i < one.length; ++i) {
            if (one[i].hash != other[i].hash) return i;
        }
        revert("the stories are one");
    }

    function _lineOf(bytes32 salt, uint32 index) internal pure returns (bytes32) {
        return keccak256(abi.encode(salt, index));
    }

    function _tracesOf(uint64 bounty, address by, bytes32 salt, uint32 count)
        internal
        view
        returns (bytes32[] memory leaves)
    {
        leaves = new bytes32[](count);
        for (uint32 i; i < count; ++i) {
            leaves[i] =
                MerkleProofs.traceLeaf(block.chainid, address(market), bounty, by, i, _lineOf(salt, i));
        }
    }

    /// A member's vote. Committees have moods: a round may be honest, lie as one, or be split; one member in ten does
    /// as it likes.
    function _memberVote(uint64 batch, uint64 round, uint8 seat, uint256 seed)
        internal
        returns (Attestation memory)
    {
        bytes32 truth = _outcomeOf(batch);
        uint256 mood = _dice(round, "mood") % 12;
        uint256 dice = _dice(seed, "vote");
        if (dice % 10 == 0) mood = (dice >> 8) % 12;
        if (mood < 4) return truth == 0 ? _told(batch, Story.Truth) : Attestation(truth, 0, 0);
        if (mood == 4) return _told(batch, Story.LieA);
        if (mood == 5) return _told(batch, Story.LieB);
        if (mood == 6 || mood == 7) return _told(batch, Story(3 + _dice(round, "bad") % 4));
        if (mood == 8) return Attestation(truth == UNAVAILABLE ? MALFORMED : UNAVAILABLE, 0, 0);
        if (mood == 9) {
            return truth == MALFORMED ? _told(batch, Story.Truth) : Attestation(MALFORMED, 0, 0);
        }
        if (mood == 10) return _told(batch, Story((seat + _dice(round, "split")) % 3));
        return Attestation(keccak256(abi.encode("withheld", round)), uint32(_dice(round, "units") % 2), 0);
    }

    function _told(uint64 batch, Story story) internal returns (Attestation memory said) {
        said = _attestationOf(batch, story);
        bytes32 vote = rounds.voteOf(said);
        if (_storyOf[batch][vote] == 0) _storyOf[batch][vote] = uint8(story) + 1;
    }

    function _leafVote(uint64 batch, Story story, uint32 index) internal view returns (Attestation memory) {
        MerkleProofs.SumNode memory node = _leafOf(batch, _verdictOf(batch, story, index));
        return Attestation(node.hash, node.units, node.faults);
    }

    function _dice(uint256 seed, string memory purpose) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, purpose)));
    }

    function _dice(uint256 seed, uint256 number) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, number)));
    }
}
