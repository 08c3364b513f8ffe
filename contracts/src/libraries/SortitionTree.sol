// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// Sum tree for a weighted draw: eight children a node, their sums packed as uint32 into one slot, so that 32,768 leaves
/// need five slots a path. It grows by a level when the leaves are full.
library SortitionTree {
    uint256 private constant MASK = type(uint32).max;

    struct Tree {
        uint8 depth;
        uint32 leaves;
        /// (level << 32 | index) => eight packed sums; level 0 packs the leaves themselves
        mapping(uint256 key => uint256) nodes;
    }

    error SortitionTree_SumTooLarge(uint256 sum);

    /// Appends a leaf of weight zero.
    function add(Tree storage tree) internal returns (uint256 leaf) {
        leaf = tree.leaves++;
        uint256 depth = tree.depth;
        if (depth == 0) {
            tree.depth = 1;
        } else if (leaf >> (3 * depth) != 0) {
            tree.nodes[depth << 32] = total(tree);
            tree.depth = uint8(depth + 1);
        }
    }

    /// Sets a leaf's weight and every sum above it.
    function set(Tree storage tree, uint256 leaf, uint256 weight) internal {
        uint256 old = weightOf(tree, leaf);
        if (old == weight) return;
        uint256 sum = total(tree) - old + weight;
        // One bound on the total bounds every packed sum.
        require(sum <= MASK, SortitionTree_SumTooLarge(sum));

        uint256 depth = tree.depth;
        uint256 index = leaf;
        for (uint256 level; level < depth; ++level) {
            uint256 shift = (index & 7) << 5;
            index >>= 3;
            uint256 key = (level << 32) | index;
            uint256 node = tree.nodes[key];
            uint256 child = ((node >> shift) & MASK) - old + weight;
            tree.nodes[key] = (node & ~(MASK << shift)) | (child << shift);
        }
    }

    /// Takes one from a leaf that has one.
    /// @return weight what is left
    function decrease(Tree storage tree, uint256 leaf) internal returns (uint256 weight) {
        uint256 depth = tree.depth;
        uint256 index = leaf;
        unchecked {
            for (uint256 level; level < depth; ++level) {
                uint256 shift = (index & 7) << 5;
                index >>= 3;
                uint256 key = (level << 32) | index;
                uint256 node = tree.nodes[key] - (1 << shift);
                tree.nodes[key] = node;
                if (level == 0) weight = (node >> shift) & MASK;
            }
        }
    }

    /// Adds one to a leaf that has one. The tree's total must be below 2^32 - 1: whoever calls it answers for that.
    /// @return had whether it had one; where not, nothing is changed
    function increase(Tree storage tree, uint256 leaf) internal returns (bool had) {
        uint256 depth = tree.depth;
        uint256 index = leaf;
        unchecked {
            for (uint256 level; level < depth; ++level) {
                uint256 shift = (index & 7) << 5;
                index >>= 3;
                uint256 key = (level << 32) | index;
                uint256 node = tree.nodes[key];
                if (level == 0 && (node >> shift) & MASK == 0) return false;
                tree.nodes[key] = node + (1 << shift);
            }
        }
        return true;
    }

    function weightOf(Tree storage tree, uint256 leaf) internal view returns (uint256) {
        return (tree.nodes[leaf >> 3] >> ((leaf & 7) << 5)) & MASK;
    }

    function total(Tree storage tree) internal view returns (uint256 sum) {
        uint256 depth = tree.depth;
        if (depth == 0) return 0;
        for (uint256 node = tree.nodes[(depth - 1) << 32]; node != 0; node >>= 32) {
            sum += node & MASK;
        }
    }

    /// @return index the leaf in whose interval `ticket` falls, 0 <= ticket < total
    /// @return start where that interval starts
    /// @return weight its length
    function find(Tree storage tree, uint256 ticket)
        internal
        view
        returns (uint256 index, uint256 start, uint256 weight)
    {
        start = ticket;
        unchecked {
            for (uint256 level = tree.depth; level != 0;) {
                --level;
                uint256 node = tree.nodes[(level << 32) | index];
                index <<= 3;
                weight = node & MASK;
                while (ticket >= weight) {
                    ticket -= weight;
                    node >>= 32;
                    weight = node & MASK;
                    ++index;
                }
            }
            start -= ticket;
        }
    }
}
