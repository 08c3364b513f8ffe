// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEvidence} from "../../../contracts/src/interfaces/IEvidence.sol";
import {MerkleProofs} from "../../../contracts/src/libraries/MerkleProofs.sol";
import {Attestation, Verdict} from "../../../contracts/src/libraries/Types.sol";
import {VerdictFaults} from "../../../contracts/src/libraries/VerdictFaults.sol";

/// Verdict trees by the recursive definition of RFC 9162, 2.1.1, whole or with one lie in them.
///
/// All 2n-1 nodes lie in one array, a node before its left subtree, that before the right one: the root is at 0, the left
/// child of the node at `spot` is at `spot + 1`, and the right one after the 2 x split - 1 nodes of the left.
library VerdictTrees {
    enum Lie {
        None,
        /// the node's units are one more than those below it
        Units,
        /// the node's faults are one more than those below it
        Faults,
        /// a verdict stands in an inner node's place
        VerdictForNode,
        /// two nodes stand below a verdict's place
        NodeForVerdict
    }

    struct Tree {
        uint64 batch;
        uint256 size;
        MerkleProofs.SumNode[] nodes;
        Verdict[] verdicts;
        /// the batch that each verdict names
        uint64[] said;
        /// what a node in a verdict's place opens to
        VerdictFaults.Children inside;
        /// what a verdict in a node's place opens to
        Verdict instead;
    }

    error VerdictTrees_NoSuchNode(uint256 spot);

    /// A verdict that nobody objects to, the same for the same seed.
    function verdictOf(uint256 seed, uint256 index) internal pure returns (Verdict memory) {
        uint256 dice = uint256(keccak256(abi.encode(seed, index)));
        uint32 units = uint32(dice & 1);
        uint32 faults = units == 1 ? 0 : uint32((dice >> 1) & 1);
        return Verdict(
            uint32(index), uint32((dice >> 8) % 1_000_001), uint8(1 + ((dice >> 40) % 31)), units, faults
        );
    }

    function random(uint64 batch, uint256 seed, uint256 size) internal pure returns (Tree memory) {
        Verdict[] memory verdicts = new Verdict[](size);
        for (uint256 i; i < size; ++i) {
            verdicts[i] = verdictOf(seed, i);
        }
        return build(batch, verdicts);
    }

    /// The first `units` traces earn a unit, the others nothing.
    function plain(uint64 batch, uint256 units, uint256 size) internal pure returns (Tree memory) {
        Verdict[] memory verdicts = new Verdict[](size);
        for (uint256 i; i < size; ++i) {
            verdicts[i] =
                i < units ? Verdict(uint32(i), 1_000_000, 1, 1, 0) : Verdict(uint32(i), 0, 2, 0, 0);
        }
        return build(batch, verdicts);
    }

    function build(uint64 batch, Verdict[] memory verdicts) internal pure returns (Tree memory) {
        uint64[] memory said = new uint64[](verdicts.length);
        for (uint256 i; i < said.length; ++i) {
            said[i] = batch;
        }
        return buildWith(batch, verdicts, said, Lie.None, 0);
    }

    /// @param spot the node that lies
    function buildWith(uint64 batch, Verdict[] memory verdicts, uint64[] memory said, Lie lie, uint256 spot)
        internal
        pure
        returns (Tree memory tree)
    {
        tree.batch = batch;
        tree.size = verdicts.length;
        tree.verdicts = verdicts;
        tree.said = said;
        tree.nodes = new MerkleProofs.SumNode[](2 * verdicts.length - 1);
        tree.instead = Verdict(0, 0, 2, 0, 0);
        tree.inside = VerdictFaults.Children(
            MerkleProofs.verdictLeaf(batch, 0, 1_000_000, 1, 1, 0), MerkleProofs.verdictLeaf(batch, 1, 0, 2, 0, 1)
        );
        _fill(tree, 0, 0, verdicts.length, lie, spot);
    }

    function attestationOf(Tree memory tree) internal pure returns (Attestation memory) {
        return Attestation(tree.nodes[0].hash, tree.nodes[0].units, tree.nodes[0].faults);
    }

    /// @return place of the verdict's node
    function placeOf(Tree memory tree, uint256 index) internal pure returns (uint256 place) {
        uint256 size = tree.size;
        while (size != 1) {
            uint256 split = splitOf(size);
            if (index < split) {
                ++place;
                size = split;
            } else {
                place += 2 * split;
                index -= split;
                size -= split;
            }
        }
    }

    /// @return proof siblings from the leaf up
    function proofOf(Tree memory tree, uint256 index) internal pure returns (MerkleProofs.SumNode[] memory proof) {
        (uint256[] memory places, bool[] memory rights,,) = wayTo(tree, placeOf(tree, index));
        proof = new MerkleProofs.SumNode[](rights.length);
        for (uint256 i; i < proof.length; ++i) {
            VerdictFaults.Children memory children = childrenAt(tree, places[i]);
            proof[proof.length - 1 - i] = rights[i] ? children.left : children.right;
        }
    }

    /// @return places the nodes from the root to `spot`, both included
    /// @return rights for each but the last whether the way goes on to the right
    /// @return first index of the first verdict below `spot`
    /// @return size number of the verdicts below `spot`
    function wayTo(Tree memory tree, uint256 spot)
        internal
        pure
        returns (uint256[] memory places, bool[] memory rights, uint256 first, uint256 size)
    {
        require(spot < tree.nodes.length, VerdictTrees_NoSuchNode(spot));
        places = new uint256[](16);
        rights = new bool[](16);
        size = tree.size;
        uint256 place;
        uint256 depth;
        while (place != spot) {
            uint256 split = splitOf(size);
            bool right = spot >= place + 2 * split;
            rights[depth++] = right;
            place += right ? 2 * split : 1;
            if (right) first += split;
            size = right ? size - split : split;
            places[depth] = place;
        }
        assembly ("memory-safe") {
            mstore(places, add(depth, 1))
            mstore(rights, depth)
        }
    }

    /// What the node at `spot` opens to, as an inner one.
    function childrenAt(Tree memory tree, uint256 spot) internal pure returns (VerdictFaults.Children memory) {
        (,,, uint256 size) = wayTo(tree, spot);
        if (size == 1) return tree.inside;
        return VerdictFaults.Children(tree.nodes[spot + 1], tree.nodes[spot + 2 * splitOf(size)]);
    }

    /// @return opened the way from the root to `spot`, and `spot` itself opened to its children or to its verdict
    function openedAt(Tree memory tree, uint256 spot, bool asVerdict)
        internal
        pure
        returns (IEvidence.Opened memory opened)
    {
        (uint256[] memory places, bool[] memory rights, uint256 first, uint256 size) = wayTo(tree, spot);
        opened.rights = rights;
        opened.path = new VerdictFaults.Children[](asVerdict ? places.length - 1 : places.length);
        for (uint256 i; i < opened.path.length; ++i) {
            opened.path[i] = childrenAt(tree, places[i]);
        }
        if (!asVerdict) return opened;
        opened.leaf = true;
        opened.batch = size == 1 ? tree.said[first] : tree.batch;
        opened.verdict = size == 1 ? tree.verdicts[first] : tree.instead;
    }

    /// The node opened to what it ought to be: children, or a verdict where one belongs.
    function openedAt(Tree memory tree, uint256 spot) internal pure returns (IEvidence.Opened memory) {
        (,,, uint256 size) = wayTo(tree, spot);
        return openedAt(tree, spot, size == 1);
    }

    function claimOf(Tree memory tree, uint256 index) internal pure returns (IEvidence.Claim memory) {
        return IEvidence.Claim(attestationOf(tree), tree.verdicts[index], proofOf(tree, index));
    }

    /// @return split the largest power of two below `size`
    function splitOf(uint256 size) internal pure returns (uint256 split) {
        split = 1;
        while (split * 2 < size) split *= 2;
    }

    function _fill(Tree memory tree, uint256 spot, uint256 first, uint256 size, Lie lie, uint256 liar) private pure {
        MerkleProofs.SumNode memory node;
        if (size == 1) {
            node = leafOf(tree.said[first], tree.verdicts[first]);
            if (lie == Lie.NodeForVerdict && spot == liar) {
                (, node) = MerkleProofs.joinSums(tree.inside.left, tree.inside.right);
            }
        } else {
            uint256 split = splitOf(size);
            _fill(tree, spot + 1, first, split, lie, liar);
            _fill(tree, spot + 2 * split, first + split, size - split, lie, liar);
            (, node) = MerkleProofs.joinSums(tree.nodes[spot + 1], tree.nodes[spot + 2 * split]);
            if (lie == Lie.VerdictForNode && spot == liar) node = leafOf(tree.batch, tree.instead);
        }
        if (spot == liar) {
            if (lie == Lie.Units) ++node.units;
            else if (lie == Lie.Faults) ++node.faults;
        }
        tree.nodes[spot] = node;
    }

    function leafOf(uint64 batch, Verdict memory verdict) internal pure returns (MerkleProofs.SumNode memory) {
        return MerkleProofs.verdictLeaf(
            batch, verdict.index, verdict.score, verdict.reason, verdict.units, verdict.faults
        );
    }
}

/// The tree of a batch's traces, by the same definition.
library TraceTrees {
    /// What the traces are bound to.
    struct Origin {
        address market;
        uint64 bounty;
        address miner;
    }

    function lineOf(uint256 index) internal pure returns (bytes32) {
        return keccak256(abi.encode("line", index));
    }

    function rootOf(Origin memory origin, uint256 first, uint256 size) internal view returns (bytes32) {
        if (size == 1) return leafOf(origin, first);
        uint256 split = VerdictTrees.splitOf(size);
        return MerkleProofs.join(rootOf(origin, first, split), rootOf(origin, first + split, size - split));
    }

    function leafOf(Origin memory origin, uint256 index) internal view returns (bytes32) {
        return MerkleProofs.traceLeaf(
            block.chainid, origin.market, origin.bounty, origin.miner, index, lineOf(index)
        );
    }

    /// @return proof siblings from the leaf up
    function proofOf(Origin memory origin, uint256 index, uint256 size)
        internal
        view
        returns (bytes32[] memory proof)
    {
        proof = new bytes32[](32);
        uint256 depth;
        uint256 first;
        while (size != 1) {
            uint256 split = VerdictTrees.splitOf(size);
            if (index < first + split) {
                proof[depth++] = rootOf(origin, first + split, size - split);
                size = split;
            } else {
                proof[depth++] = rootOf(origin, first, split);
                first += split;
                size -= split;
            }
        }
        assembly ("memory-safe") {
            mstore(proof, depth)
        }
        for (uint256 i; i < depth / 2; ++i) {
            (proof[i], proof[depth - 1 - i]) = (proof[depth - 1 - i], proof[i]);
        }
    }
}
