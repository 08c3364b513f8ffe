// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Attestation} from "./Types.sol";

/// Leaves and inclusion proofs of the two trees behind a batch, its traces (plain) and their verdicts (Merkle-sum), and of
/// the shares in a checkpoint's royalties (Merkle-sum, without faults). All have the shape of RFC 9162, section 2.1.1 (split at the largest power of two below the size); proofs are checked as
/// in its section 2.1.3.2, siblings from the leaf up. Positions are bound, pairs are not sorted.
///
/// A root does not fix its tree's size, and another size can have the same path to a leaf: take `size` from the chain
/// (a batch's count), never from whoever brings the proof.
library MerkleProofs {
    /// A node of a verdict tree with the sums below it.
    struct SumNode {
        bytes32 hash;
        uint32 units;
        uint32 faults;
    }

    bytes1 private constant TRACE = 0x00;
    bytes1 private constant NODE = 0x01;
    bytes1 private constant VERDICT = 0x02;
    bytes1 private constant SUM_NODE = 0x03;
    bytes1 private constant DATASET = 0x04;
    bytes1 private constant SHARE = 0x05;

    /// @param lineHash keccak256 of the trace's line in the batch file, without its newline
    function traceLeaf(
        uint256 chainId,
        address market,
        uint64 bounty,
        address miner,
        uint256 index,
        bytes32 lineHash
    ) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(TRACE, abi.encode(chainId, market, bounty, miner, index, lineHash)));
    }

    /// @param score in millionths
    function verdictLeaf(uint64 batch, uint256 index, uint32 score, uint8 reason, uint32 units, uint32 faults)
        internal
        pure
        returns (SumNode memory)
    {
        bytes32 hash =
            keccak256(abi.encodePacked(VERDICT, abi.encode(batch, index, score, reason, units, faults)));
        return SumNode(hash, units, faults);
    }

    /// @param weight of the batch in training, in millionths
    function datasetLeaf(
        uint256 chainId,
        address market,
        uint64 batch,
        bytes32 verdictRoot,
        uint32 units,
        uint32 weight
    ) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(DATASET, abi.encode(chainId, market, batch, verdictRoot, units, weight)));
    }

    /// @param share of `account`, in billionths
    function shareLeaf(address account, uint32 share) internal pure returns (SumNode memory) {
        return SumNode(keccak256(abi.encodePacked(SHARE, abi.encode(account, share))), share, 0);
    }

    function join(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(NODE, left, right));
    }

    /// @return the hash of the parent of two nodes of a verdict tree, whatever their sums
    function hashOf(SumNode memory left, SumNode memory right) internal pure returns (bytes32) {
        return keccak256(
            abi.encodePacked(
                SUM_NODE, left.hash, left.units, left.faults, right.hash, right.units, right.faults
            )
        );
    }

    /// @return fits false where a sum does not fit its 32 bits; the node is then empty
    /// @return node the parent of two nodes of a verdict tree
    function joinSums(SumNode memory left, SumNode memory right)
        internal
        pure
        returns (bool fits, SumNode memory node)
    {
        uint256 units = uint256(left.units) + right.units;
        uint256 faults = uint256(left.faults) + right.faults;
        if (units > type(uint32).max || faults > type(uint32).max) return (false, node);
        fits = true;
        node.hash = hashOf(left, right);
        node.units = uint32(units);
        node.faults = uint32(faults);
    }

    /// @return whether `leaf` is number `index` of the `size` leaves under `root`
    function verifyTrace(bytes32 leaf, uint256 index, uint256 size, bytes32[] memory proof, bytes32 root)
        internal
        pure
        returns (bool)
    {
        if (index >= size) return false;
        uint256 last = size - 1;
        bytes32 node = leaf;
        for (uint256 i; i < proof.length; ++i) {
            if (last == 0) return false;
            bool right;
            (right, index, last) = _climb(index, last);
            node = right ? join(proof[i], node) : join(node, proof[i]);
        }
        return last == 0 && node == root;
    }

    /// @return whether `leaf` is number `index` of the `size` verdicts behind `attestation`, root and sums
    function verifyVerdict(
        SumNode memory leaf,
        uint256 index,
        uint256 size,
        SumNode[] memory proof,
        Attestation memory attestation
    ) internal pure returns (bool) {
        if (index >= size) return false;
        uint256 last = size - 1;
        SumNode memory node = leaf;
        for (uint256 i; i < proof.length; ++i) {
            if (last == 0) return false;
            bool right;
            bool fits;
            (right, index, last) = _climb(index, last);
            (fits, node) = right ? joinSums(proof[i], node) : joinSums(node, proof[i]);
            if (!fits) return false;
        }
        return last == 0 && node.hash == attestation.verdictRoot && node.units == attestation.units
            && node.faults == attestation.faults;
    }

    /// @return whether two proofs of number `index` of `size` verdicts agree on all verdicts before it
    function sameBefore(uint256 index, uint256 size, SumNode[] memory a, SumNode[] memory b)
        internal
        pure
        returns (bool)
    {
        uint256 last = size - 1;
        for (uint256 i; i < a.length; ++i) {
            bool right;
            (right, index, last) = _climb(index, last);
            if (!right) continue;
            if (a[i].hash != b[i].hash || a[i].units != b[i].units || a[i].faults != b[i].faults) return false;
        }
        return true;
    }

    /// One level of RFC 9162, 2.1.3.2, step 4.
    /// @return right whether the node is a right child
    function _climb(uint256 index, uint256 last) private pure returns (bool right, uint256, uint256) {
        right = index & 1 == 1 || index == last;
        // A last node without a sibling moves up unchanged.
        if (right) {
            while (index & 1 == 0 && index != 0) {
                index >>= 1;
                last >>= 1;
            }
        }
        return (right, index >> 1, last >> 1);
    }
}
