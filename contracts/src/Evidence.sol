// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchMarket} from "./interfaces/IBatchMarket.sol";
import {IEvidence} from "./interfaces/IEvidence.sol";
import {MerkleProofs} from "./libraries/MerkleProofs.sol";
import {Outcomes} from "./libraries/Outcomes.sol";
import {Attestation, Verdict} from "./libraries/Types.sol";
import {VerdictFaults} from "./libraries/VerdictFaults.sol";

contract Evidence is IEvidence {
    function leaf(
        address market,
        uint64 batch,
        IBatchMarket.Batch calldata seen,
        Verdict calldata verdict,
        MerkleProofs.SumNode[] calldata verdictProof,
        bytes32 lineHash,
        bytes32[] calldata traceProof
    ) external view returns (bytes32 vote) {
        uint32 index = verdict.index;
        bytes32 trace =
            MerkleProofs.traceLeaf(block.chainid, market, seen.bounty, seen.miner, index, lineHash);
        require(
            MerkleProofs.verifyTrace(trace, index, seen.count, traceProof, seen.root),
            Evidence_BadTraceProof(batch, index)
        );
        MerkleProofs.SumNode memory node = _prove(batch, seen.count, seen.attestation, verdict, verdictProof);
        return _voteOf(node);
    }

    function verdictVote(
        uint64 batch,
        Attestation calldata attestation,
        uint32 count,
        Verdict calldata verdict,
        MerkleProofs.SumNode[] calldata proof
    ) external pure returns (bytes32) {
        return _voteOf(_prove(batch, count, attestation, verdict, proof));
    }

    function fault(uint64 batch, Attestation calldata attestation, uint32 count, Opened calldata opened)
        external
        pure
        returns (VerdictFaults.Fault found)
    {
        VerdictFaults.Subtree memory tree = VerdictFaults.rootOf(attestation, count);
        for (uint256 i; i < opened.path.length; ++i) {
            found = VerdictFaults.openNode(tree, opened.path[i]);
            if (found != VerdictFaults.Fault.None) return found;
            if (i < opened.rights.length) tree = VerdictFaults.descend(tree, opened.path[i], opened.rights[i]);
        }
        if (opened.leaf) found = VerdictFaults.openVerdict(tree, batch, opened.batch, opened.verdict);
        require(found != VerdictFaults.Fault.None, Evidence_NoFault(batch));
    }

    function conflict(uint64 batch, uint32 count, Claim calldata a, Claim calldata b)
        external
        pure
        returns (bytes32 vote, bytes32 rivalVote)
    {
        uint32 index = a.verdict.index;
        MerkleProofs.SumNode memory one = _prove(batch, count, a.attestation, a.verdict, a.proof);
        MerkleProofs.SumNode memory other = _prove(batch, count, b.attestation, b.verdict, b.proof);
        require(b.verdict.index == index && one.hash != other.hash, Evidence_SameVerdict(index));
        require(
            MerkleProofs.sameBefore(index, count, a.proof, b.proof), Evidence_NotTheFirstDifference(index)
        );
        return (_voteOf(one), _voteOf(other));
    }

    function voteOf(uint64 batch, Verdict calldata verdict) external pure returns (bytes32) {
        return _voteOf(_leafOf(batch, verdict));
    }

    function _prove(
        uint64 batch,
        uint32 count,
        Attestation calldata attestation,
        Verdict calldata verdict,
        MerkleProofs.SumNode[] calldata proof
    ) private pure returns (MerkleProofs.SumNode memory node) {
        node = _leafOf(batch, verdict);
        require(
            MerkleProofs.verifyVerdict(node, verdict.index, count, proof, attestation),
            Evidence_BadVerdictProof(batch, verdict.index)
        );
    }

    function _leafOf(uint64 batch, Verdict calldata verdict) private pure returns (MerkleProofs.SumNode memory) {
        return MerkleProofs.verdictLeaf(
            batch, verdict.index, verdict.score, verdict.reason, verdict.units, verdict.faults
        );
    }

    function _voteOf(MerkleProofs.SumNode memory node) private pure returns (bytes32) {
        return Outcomes.voteOf(Attestation(node.hash, node.units, node.faults));
    }
}
