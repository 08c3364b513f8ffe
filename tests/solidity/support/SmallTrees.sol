// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MerkleProofs} from "../../../contracts/src/libraries/MerkleProofs.sol";
import {VerdictFaults} from "../../../contracts/src/libraries/VerdictFaults.sol";

/// Both trees of a batch from all of their leaves, top down as RFC 9162 defines them. For a few leaves only.
library SmallTrees {
    function sumRoot(MerkleProofs.SumNode[] memory leaves, uint256 first, uint256 size)
        internal
        pure
        returns (MerkleProofs.SumNode memory node)
    {
        if (size == 1) return leaves[first];
        VerdictFaults.Children memory children = childrenOf(leaves, first, size);
        (, node) = MerkleProofs.joinSums(children.left, children.right);
    }

    function childrenOf(MerkleProofs.SumNode[] memory leaves, uint256 first, uint256 size)
        internal
        pure
        returns (VerdictFaults.Children memory)
    {
        uint256 left = split(size);
        return VerdictFaults.Children(sumRoot(leaves, first, left), sumRoot(leaves, first + left, size - left));
    }

    /// @return siblings from the leaf up
    function sumProof(MerkleProofs.SumNode[] memory leaves, uint256 index)
        internal
        pure
        returns (MerkleProofs.SumNode[] memory siblings)
    {
        siblings = new MerkleProofs.SumNode[](depthOf(leaves.length, index));
        (uint256 first, uint256 size) = (0, leaves.length);
        for (uint256 level = siblings.length; level != 0; --level) {
            uint256 left = split(size);
            if (index < first + left) {
                siblings[level - 1] = sumRoot(leaves, first + left, size - left);
                size = left;
            } else {
                siblings[level - 1] = sumRoot(leaves, first, left);
                (first, size) = (first + left, size - left);
            }
        }
    }

    function plainRoot(bytes32[] memory leaves, uint256 first, uint256 size) internal pure returns (bytes32) {
        if (size == 1) return leaves[first];
        uint256 left = split(size);
        return MerkleProofs.join(plainRoot(leaves, first, left), plainRoot(leaves, first + left, size - left));
    }

    /// @return siblings from the leaf up
    function plainProof(bytes32[] memory leaves, uint256 index) internal pure returns (bytes32[] memory siblings) {
        siblings = new bytes32[](depthOf(leaves.length, index));
        (uint256 first, uint256 size) = (0, leaves.length);
        for (uint256 level = siblings.length; level != 0; --level) {
            uint256 left = split(size);
            if (index < first + left) {
                siblings[level - 1] = plainRoot(leaves, first + left, size - left);
                size = left;
            } else {
                siblings[level - 1] = plainRoot(leaves, first, left);
                (first, size) = (first + left, size - left);
            }
        }
    }

    /// @return levels between the root and a leaf
    function depthOf(uint256 size, uint256 index) internal pure returns (uint256 levels) {
        for (; size != 1; ++levels) {
            uint256 left = split(size);
            if (index < left) size = left;
            else (index, size) = (index - left, size - left);
        }
    }

    /// @return left the largest power of two below `size`
    function split(uint256 size) internal pure returns (uint256 left) {
        left = 1;
        while (left << 1 < size) left <<= 1;
    }
}
