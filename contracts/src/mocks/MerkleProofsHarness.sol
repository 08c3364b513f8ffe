// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MerkleProofs} from "../libraries/MerkleProofs.sol";
import {Attestation} from "../libraries/Types.sol";

/// The library's functions from outside, for tests; compiled as the contracts are.
contract MerkleProofsHarness {
    function traceLeaf(
        uint256 chainId,
        address market,
        uint64 bounty,
        address miner,
        uint256 index,
        bytes32 lineHash
    ) external pure returns (bytes32) {
        return MerkleProofs.traceLeaf(chainId, market, bounty, miner, index, lineHash);
    }

    function verdictLeaf(uint64 batch, uint256 index, uint32 score, uint8 reason, uint32 units, uint32 faults)
        external
        pure
        returns (MerkleProofs.SumNode memory)
    {
        return MerkleProofs.verdictLeaf(batch, index, score, reason, units, faults);
    }

    function datasetLeaf(
        uint256 chainId,
        address market,
        uint64 batch,
        bytes32 verdictRoot,
        uint32 units,
        uint32 weight
    ) external pure returns (bytes32) {
        return MerkleProofs.datasetLeaf(chainId, market, batch, verdictRoot, units, weight);
    }

    function join(bytes32 left, bytes32 right) external pure returns (bytes32) {
        return MerkleProofs.join(left, right);
    }

    function joinSums(MerkleProofs.SumNode memory left, MerkleProofs.SumNode memory right)
        external
        pure
        returns (bool fits, MerkleProofs.SumNode memory node)
    {
        return MerkleProofs.joinSums(left, right);
    }

    function verifyTrace(bytes32 leaf, uint256 index, uint256 size, bytes32[] memory proof, bytes32 root)
        external
        pure
        returns (bool)
    {
        return MerkleProofs.verifyTrace(leaf, index, size, proof, root);
    }

    function verifyVerdict(
        MerkleProofs.SumNode memory leaf,
        uint256 index,
        uint256 size,
        MerkleProofs.SumNode[] memory proof,
        Attestation memory attestation
    ) external pure returns (bool) {
        return MerkleProofs.verifyVerdict(leaf, index, size, proof, attestation);
    }
}
