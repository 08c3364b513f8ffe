// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MerkleProofs} from "../../contracts/src/libraries/MerkleProofs.sol";
import {MerkleProofsHarness} from "../../contracts/src/mocks/MerkleProofsHarness.sol";
import {Attestation} from "../../contracts/src/libraries/Types.sol";
import {Test} from "./support/Test.sol";

/// verifyTrace / verifyVerdict
/// ├── an own tree of any size up to 70: every leaf proves
/// ├── one bit of leaf, index, root, a sum or a proof element turned: nothing proves
/// ├── an element missing, added or twice: nothing proves
/// ├── another size: proves exactly where the path to the leaf is the same
/// ├── an inner node in a leaf's place: does not prove
/// └── sums that overflow 32 bits: do not prove
///
/// Trees and proofs are built here by the recursive definition of RFC 9162, 2.1.1 and 2.1.3.1, so that the loop under
/// test is compared with something else than itself.
contract MerkleProofsTest is Test {
    MerkleProofsHarness private proofs;

    function setUp() external {
        proofs = MerkleProofsHarness(create("MerkleProofsHarness.sol:MerkleProofsHarness", ""));
    }

    function testEveryLeafProvesInEverySmallTree() external view {
        for (uint256 size = 1; size <= 20; ++size) {
            for (uint256 index; index < size; ++index) {
                _checkTrace(1, index, size);
                _checkVerdict(1, index, size);
            }
        }
    }

    function testFuzz_EveryLeafProves(uint256 seed, uint256 size, uint256 index) external view {
        size = _bound(size, 1, 70);
        index = _bound(index, 0, size - 1);
        _checkTrace(seed, index, size);
        _checkVerdict(seed, index, size);
    }

    function testFuzz_TraceBitTurned(uint256 seed, uint256 size, uint256 index, uint256 place, uint256 bit)
        external
        view
    {
        size = _bound(size, 1, 40);
        index = _bound(index, 0, size - 1);
        bytes32[] memory proof = _tracePath(seed, index, 0, size);
        bytes32 leaf = _leaf(seed, index);
        bytes32 root = _traceRoot(seed, 0, size);
        bytes32 flip = bytes32(1 << (bit % 256));
        uint256 wrongIndex = index;

        place = place % (3 + proof.length);
        if (place == 0) leaf ^= flip;
        else if (place == 1) root ^= flip;
        else if (place == 2) wrongIndex ^= uint256(flip);
        else proof[place - 3] ^= flip;
        vm.assertFalse(proofs.verifyTrace(leaf, wrongIndex, size, proof, root), "a turned bit proves");
    }

    function testFuzz_VerdictBitTurned(uint256 seed, uint256 size, uint256 index, uint256 place, uint256 bit)
        external
        view
    {
        size = _bound(size, 1, 40);
        index = _bound(index, 0, size - 1);
        MerkleProofs.SumNode[] memory proof = _sumPath(seed, index, 0, size);
        MerkleProofs.SumNode memory leaf = _sumLeaf(seed, index);
        Attestation memory attestation = _attestation(_sumRoot(seed, 0, size));
        uint256 wrongIndex = index;

        place = place % (3 + proof.length);
        if (place == 0) _turn(leaf, bit);
        else if (place == 1) attestation = _attestation(_turn(_sumRoot(seed, 0, size), bit));
        else if (place == 2) wrongIndex ^= 1 << (bit % 256);
        else _turn(proof[place - 3], bit);
        vm.assertFalse(proofs.verifyVerdict(leaf, wrongIndex, size, proof, attestation), "a turned bit proves");
    }

    function testFuzz_WrongLengths(uint256 seed, uint256 size, uint256 index, uint256 place) external view {
        size = _bound(size, 2, 40);
        index = _bound(index, 0, size - 1);
        bytes32 root = _traceRoot(seed, 0, size);
        bytes32[] memory proof = _tracePath(seed, index, 0, size);
        place = place % proof.length;

        bytes32[] memory shorter = new bytes32[](proof.length - 1);
        bytes32[] memory longer = new bytes32[](proof.length + 1);
        for (uint256 i; i < longer.length; ++i) {
            if (i < proof.length && i != place) shorter[i < place ? i : i - 1] = proof[i];
            longer[i] = proof[i <= place ? i : i - 1];
        }
        vm.assertFalse(proofs.verifyTrace(_leaf(seed, index), index, size, shorter, root), "an element missing");
        vm.assertFalse(proofs.verifyTrace(_leaf(seed, index), index, size, longer, root), "an element twice");
    }

    /// RFC 9162 roots don't fix the size. What must hold: another size proves only where the way down is the same.
    function testFuzz_OtherSize(uint256 seed, uint256 size, uint256 index, uint256 other) external view {
        size = _bound(size, 1, 40);
        index = _bound(index, 0, size - 1);
        other = _bound(other, 0, 80);
        bool same = index < other && _sides(index, size) == _sides(index, other);
        vm.assertEq(
            proofs.verifyTrace(
                _leaf(seed, index), index, other, _tracePath(seed, index, 0, size), _traceRoot(seed, 0, size)
            ),
            same,
            "another size"
        );
    }

    function testNoLeafOutsideTheTree() external view {
        bytes32[] memory none = new bytes32[](0);
        vm.assertTrue(proofs.verifyTrace(_leaf(1, 0), 0, 1, none, _leaf(1, 0)), "one leaf is the root");
        vm.assertFalse(proofs.verifyTrace(_leaf(1, 0), 0, 0, none, _leaf(1, 0)), "an empty tree");
        vm.assertFalse(proofs.verifyTrace(_leaf(1, 0), 1, 1, none, _leaf(1, 0)), "index = size");
        vm.assertFalse(
            proofs.verifyTrace(_leaf(1, 0), type(uint256).max, type(uint256).max, none, _leaf(1, 0)), "the end"
        );
    }

    /// Leaves, nodes, verdicts, sum nodes and dataset leaves begin with different bytes, so an inner node can't pass for a
    /// leaf: a preimage of one is never one of the other. Shown on the encodings themselves.
    function testDomainsAreApart() external view {
        bytes32 one = keccak256("1");
        bytes32 two = keccak256("2");
        vm.assertEq(proofs.join(one, two), keccak256(abi.encodePacked(hex"01", one, two)), "node");
        (bool fits, MerkleProofs.SumNode memory node) =
            proofs.joinSums(MerkleProofs.SumNode(one, 1, 2), MerkleProofs.SumNode(two, 3, 4));
        vm.assertTrue(fits, "fits");
        bytes memory packed = abi.encodePacked(hex"03", one, uint32(1), uint32(2), two, uint32(3), uint32(4));
        vm.assertEq(packed.length, 81, "1 + 32 + 4 + 4 + 32 + 4 + 4 bytes");
        vm.assertEq(node.hash, keccak256(packed), "sum node");
        vm.assertEq(node.units, 4, "units");
        vm.assertEq(node.faults, 6, "faults");
        // An inner node given as the last of three "leaves" one level up must not prove at a leaf's place.
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = _leaf(1, 2);
        bytes32 root = _traceRoot(1, 0, 3);
        vm.assertTrue(proofs.verifyTrace(proofs.join(_leaf(1, 0), _leaf(1, 1)), 0, 2, proof, root), "as size 2");
        vm.assertFalse(proofs.verifyTrace(proofs.join(_leaf(1, 0), _leaf(1, 1)), 0, 3, proof, root), "as size 3");
    }

    function testOverflowingSumsDoNotProve() external view {
        MerkleProofs.SumNode memory full = MerkleProofs.SumNode(keccak256("full"), type(uint32).max, 0);
        MerkleProofs.SumNode memory one = MerkleProofs.SumNode(keccak256("one"), 1, 0);
        MerkleProofs.SumNode memory fault = MerkleProofs.SumNode(keccak256("fault"), 0, type(uint32).max);
        (bool fits, MerkleProofs.SumNode memory node) = proofs.joinSums(full, one);
        vm.assertFalse(fits, "2^32 units");
        vm.assertEq(node.hash, bytes32(0), "no node");
        (fits, node) = proofs.joinSums(fault, MerkleProofs.SumNode(keccak256("one"), 0, 1));
        vm.assertFalse(fits, "2^32 faults");
        (fits, node) = proofs.joinSums(full, fault);
        vm.assertTrue(fits, "2^32 - 1 of each");

        // The wrapped sums with their honest hash must not prove either.
        MerkleProofs.SumNode[] memory proof = new MerkleProofs.SumNode[](1);
        proof[0] = one;
        bytes32 hash = keccak256(
            abi.encodePacked(hex"03", full.hash, full.units, full.faults, one.hash, one.units, one.faults)
        );
        vm.assertFalse(proofs.verifyVerdict(full, 0, 2, proof, Attestation(hash, 0, 0)), "wrapped");
    }

    function _checkTrace(uint256 seed, uint256 index, uint256 size) private view {
        vm.assertTrue(
            proofs.verifyTrace(
                _leaf(seed, index), index, size, _tracePath(seed, index, 0, size), _traceRoot(seed, 0, size)
            ),
            "a trace proves"
        );
    }

    function _checkVerdict(uint256 seed, uint256 index, uint256 size) private view {
        Attestation memory attestation = _attestation(_sumRoot(seed, 0, size));
        uint256 units;
        for (uint256 i; i < size; ++i) {
            units += _sumLeaf(seed, i).units;
        }
        vm.assertEq(attestation.units, units, "the root's sum");
        vm.assertTrue(
            proofs.verifyVerdict(
                _sumLeaf(seed, index), index, size, _sumPath(seed, index, 0, size), attestation
            ),
            "a verdict proves"
        );
    }

    function _leaf(uint256 seed, uint256 index) private pure returns (bytes32) {
        return keccak256(abi.encode("leaf", seed, index));
    }

    function _sumLeaf(uint256 seed, uint256 index) private pure returns (MerkleProofs.SumNode memory) {
        uint32 units = uint32(uint256(_leaf(seed, index)) & 1);
        return MerkleProofs.SumNode(_leaf(seed, index), units, 1 - units);
    }

    function _attestation(MerkleProofs.SumNode memory node) private pure returns (Attestation memory) {
        return Attestation(node.hash, node.units, node.faults);
    }

    /// Turns one of the node's 320 bits.
    function _turn(MerkleProofs.SumNode memory node, uint256 bit)
        private
        pure
        returns (MerkleProofs.SumNode memory)
    {
        bit = bit % 320;
        if (bit < 256) node.hash ^= bytes32(1 << bit);
        else if (bit < 288) node.units ^= uint32(1 << (bit - 256));
        else node.faults ^= uint32(1 << (bit - 288));
        return node;
    }

    /// @return split the largest power of two below `size`
    function _split(uint256 size) private pure returns (uint256 split) {
        split = 1;
        while (split * 2 < size) split *= 2;
    }

    function _traceRoot(uint256 seed, uint256 from, uint256 size) private pure returns (bytes32) {
        if (size == 1) return _leaf(seed, from);
        uint256 split = _split(size);
        return keccak256(
            abi.encodePacked(
                hex"01", _traceRoot(seed, from, split), _traceRoot(seed, from + split, size - split)
            )
        );
    }

    function _tracePath(uint256 seed, uint256 index, uint256 from, uint256 size)
        private
        pure
        returns (bytes32[] memory)
    {
        if (size == 1) return new bytes32[](0);
        uint256 split = _split(size);
        bytes32[] memory below = index < split
            ? _tracePath(seed, index, from, split)
            : _tracePath(seed, index - split, from + split, size - split);
        bytes32[] memory path = new bytes32[](below.length + 1);
        for (uint256 i; i < below.length; ++i) {
            path[i] = below[i];
        }
        path[below.length] = index < split
            ? _traceRoot(seed, from + split, size - split)
            : _traceRoot(seed, from, split);
        return path;
    }

    function _sumRoot(uint256 seed, uint256 from, uint256 size)
        private
        pure
        returns (MerkleProofs.SumNode memory)
    {
        if (size == 1) return _sumLeaf(seed, from);
        uint256 split = _split(size);
        MerkleProofs.SumNode memory left = _sumRoot(seed, from, split);
        MerkleProofs.SumNode memory right = _sumRoot(seed, from + split, size - split);
        bytes memory packed =
            abi.encodePacked(hex"03", left.hash, left.units, left.faults, right.hash, right.units, right.faults);
        return MerkleProofs.SumNode(keccak256(packed), left.units + right.units, left.faults + right.faults);
    }

    function _sumPath(uint256 seed, uint256 index, uint256 from, uint256 size)
        private
        pure
        returns (MerkleProofs.SumNode[] memory)
    {
        if (size == 1) return new MerkleProofs.SumNode[](0);
        uint256 split = _split(size);
        MerkleProofs.SumNode[] memory below = index < split
            ? _sumPath(seed, index, from, split)
            : _sumPath(seed, index - split, from + split, size - split);
        MerkleProofs.SumNode[] memory path = new MerkleProofs.SumNode[](below.length + 1);
        for (uint256 i; i < below.length; ++i) {
            path[i] = below[i];
        }
        path[below.length] = index < split
            ? _sumRoot(seed, from + split, size - split)
            : _sumRoot(seed, from, split);
        return path;
    }

    /// @return sides the way from the root to a leaf, a bit a level under a leading one
    function _sides(uint256 index, uint256 size) private pure returns (uint256 sides) {
        sides = 1;
        while (size > 1) {
            uint256 split = _split(size);
            if (index < split) (sides, size) = (sides << 1, split);
            else (sides, index, size) = ((sides << 1) | 1, index - split, size - split);
        }
    }
}
