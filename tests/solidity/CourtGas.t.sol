// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MerkleProofs} from "../../contracts/src/libraries/MerkleProofs.sol";
import {Attestation, BountyTerms, Verdict} from "../../contracts/src/libraries/Types.sol";
import {CourtScenario} from "./support/CourtScenario.sol";
import {TraceTrees} from "./support/VerdictTrees.sol";

/// What a dispute costs grows with the logarithm of the batch: one bound for each doubling. Trees are built as one way from
/// the first leaf up, with other nodes that nobody has to compute.
contract CourtGasTest is CourtScenario {
    struct Way {
        uint32 count;
        bytes32 root;
        Attestation attestation;
        Verdict verdict;
        MerkleProofs.SumNode[] verdictProof;
        bytes32[] traceProof;
    }

    /// two proof elements more, read and hashed
    uint256 private constant MOST_FOR_A_DOUBLING = 4_000;
    uint256 private constant MOST = 300_000;

    function setUp() external {
        _openCourt(30);
        BountyTerms memory terms = _terms();
        terms.pricePerUnit = 1_000;
        bounty = _bountyWith(terms, 100e6);
    }

    function testDisputeGrowsWithTheLogarithm() external {
        // The first one pays for what all of them touch.
        _cost(4);
        uint256 small = _cost(4);
        uint256 middle = _cost(8);
        uint256 large = _cost(12);
        emit Measured(16, small);
        emit Measured(256, middle);
        emit Measured(4_096, large);
        vm.assertLe(small, MOST, "16");
        vm.assertGe(middle, small, "more proof, more gas");
        vm.assertLe(middle - small, 4 * MOST_FOR_A_DOUBLING, "16 to 256: four doublings");
        vm.assertLe(large - middle, 4 * MOST_FOR_A_DOUBLING, "256 to 4,096: four doublings");
        // Linear growth would be sixteenfold here.
        vm.assertLe(large - middle, 2 * (middle - small), "no faster than before");
    }

    event Measured(uint256 traces, uint256 gas);

    function _cost(uint256 depth) private returns (uint256 gas) {
        Way memory way = _way(depth);
        uint64 batch = _commitRoot(way.root, way.count);
        _finish(way, batch);
        _attest(batch, way.attestation);
        _arm(challenger, BOND);
        vm.prank(challenger);
        gas = gasleft();
        court.disputeLeaf(batch, way.verdict, way.verdictProof, TraceTrees.lineOf(0), way.traceProof);
        gas -= gasleft();
    }

    function _way(uint256 depth) private view returns (Way memory way) {
        way.count = uint32(1 << depth);
        way.verdict = Verdict(0, 1_000_000, 1, 1, 0);
        way.verdictProof = new MerkleProofs.SumNode[](depth);
        way.traceProof = new bytes32[](depth);
        way.root = TraceTrees.leafOf(_origin(), 0);
        for (uint256 i; i < depth; ++i) {
            way.verdictProof[i] = MerkleProofs.SumNode(keccak256(abi.encode("verdicts", i)), uint32(1 << i), 0);
            way.traceProof[i] = keccak256(abi.encode("traces", i));
            way.root = MerkleProofs.join(way.root, way.traceProof[i]);
        }
    }

    function _finish(Way memory way, uint64 batch) private pure {
        MerkleProofs.SumNode memory node = MerkleProofs.verdictLeaf(batch, 0, 1_000_000, 1, 1, 0);
        for (uint256 i; i < way.verdictProof.length; ++i) {
            (, node) = MerkleProofs.joinSums(node, way.verdictProof[i]);
        }
        way.attestation = Attestation(node.hash, node.units, node.faults);
    }
}
