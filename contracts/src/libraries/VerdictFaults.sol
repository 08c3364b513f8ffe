// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MerkleProofs} from "./MerkleProofs.sol";
import {Attestation, Verdict} from "./Types.sol";

/// Decides from a verdict tree's nodes alone that no honest member can have built it. The tree's shape follows from the
/// batch's number of traces (RFC 9162: split at the largest power of two below the size), every node's hash opens to its
/// children or to its verdict, and the nodes say what their sums are: so a path from the root either follows or shows
/// the lie.
library VerdictFaults {
    uint256 private constant MOST_SCORE = 1_000_000;
    uint256 private constant MOST_REASON = 31;

    enum Fault {
        None,
        /// a node's sums are not those of its children, or of its verdict
        Sum,
        /// a verdict where children belong, or children where a verdict belongs
        Shape,
        /// a verdict of another batch or of another index: so it stands twice, or in another's place
        Index,
        /// more units or faults than a trace can have, or a score or reason that does not exist
        Cap
    }

    /// A node opened to what its hash says it is made of.
    struct Children {
        MerkleProofs.SumNode left;
        MerkleProofs.SumNode right;
    }

    /// A subtree: what its parent says of it, and which verdicts it must hold.
    struct Subtree {
        MerkleProofs.SumNode node;
        /// index of its first verdict
        uint256 first;
        /// number of its verdicts
        uint256 size;
    }

    error VerdictFaults_NotTheChildren(bytes32 hash, uint256 first, uint256 size);
    error VerdictFaults_NotTheVerdict(bytes32 hash, uint256 index);

    function rootOf(Attestation memory attestation, uint256 count) internal pure returns (Subtree memory) {
        return Subtree(
            MerkleProofs.SumNode(attestation.verdictRoot, attestation.units, attestation.faults), 0, count
        );
    }

    /// @return what is wrong with the node itself, once it is opened
    ///
    /// Requirements:
    /// - The children must be those of the node, by its hash (VerdictFaults_NotTheChildren).
    function openNode(Subtree memory tree, Children memory children) internal pure returns (Fault) {
        bytes32 hash = MerkleProofs.hashOf(children.left, children.right);
        require(hash == tree.node.hash, VerdictFaults_NotTheChildren(tree.node.hash, tree.first, tree.size));
        if (tree.size == 1) return Fault.Shape;
        bool follows = uint256(children.left.units) + children.right.units == tree.node.units
            && uint256(children.left.faults) + children.right.faults == tree.node.faults;
        return follows ? Fault.None : Fault.Sum;
    }

    /// @return what is wrong with a verdict, once it is opened
    ///
    /// Requirements:
    /// - The verdict (of `batch`) must be that of the node, by its hash (VerdictFaults_NotTheVerdict).
    /// @param said the batch that the verdict names
    function openVerdict(Subtree memory tree, uint64 batch, uint64 said, Verdict memory verdict)
        internal
        pure
        returns (Fault)
    {
        MerkleProofs.SumNode memory leaf = MerkleProofs.verdictLeaf(
            said, verdict.index, verdict.score, verdict.reason, verdict.units, verdict.faults
        );
        require(leaf.hash == tree.node.hash, VerdictFaults_NotTheVerdict(tree.node.hash, tree.first));
        if (tree.size != 1) return Fault.Shape;
        if (said != batch || verdict.index != tree.first) return Fault.Index;
        if (verdict.units != tree.node.units || verdict.faults != tree.node.faults) return Fault.Sum;
        if (
            uint256(verdict.units) + verdict.faults > 1 || verdict.score > MOST_SCORE
                || verdict.reason > MOST_REASON || verdict.reason == 0
        ) return Fault.Cap;
        return Fault.None;
    }

    /// @return the left or the right child of an opened node
    function descend(Subtree memory tree, Children memory children, bool right)
        internal
        pure
        returns (Subtree memory)
    {
        uint256 split = 1;
        while (split << 1 < tree.size) split <<= 1;
        return right
            ? Subtree(children.right, tree.first + split, tree.size - split)
            : Subtree(children.left, tree.first, split);
    }
}
