// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MerkleProofs} from "../libraries/MerkleProofs.sol";
import {Attestation, Verdict} from "../libraries/Types.sol";
import {VerdictFaults} from "../libraries/VerdictFaults.sol";
import {IBatchMarket} from "./IBatchMarket.sol";

/// What can be decided from Merkle proofs alone, without state or money.
interface IEvidence {
    /// A verdict of a batch's tree, with the way to the root.
    struct Claim {
        Attestation attestation;
        Verdict verdict;
        MerkleProofs.SumNode[] proof;
    }

    /// Nodes of a verdict tree, opened from the root on.
    struct Opened {
        /// the root's children first
        VerdictFaults.Children[] path;
        /// for each node of the path but the last whether it goes on to the right; for the last too where a verdict is opened
        bool[] rights;
        /// a verdict is opened at the end of the path
        bool leaf;
        /// the batch that this verdict names
        uint64 batch;
        Verdict verdict;
    }

    error Evidence_BadTraceProof(uint64 batch, uint32 index);
    error Evidence_BadVerdictProof(uint64 batch, uint32 index);
    error Evidence_NoFault(uint64 batch);
    error Evidence_SameVerdict(uint32 index);
    error Evidence_NotTheFirstDifference(uint32 index);

    /// @return vote a juror's vote for the verdict
    ///
    /// Requirements:
    /// - `lineHash` must be the trace's at the verdict's index (Evidence_BadTraceProof).
    /// - The verdict must be the attested one (Evidence_BadVerdictProof).
    function leaf(
        address market,
        uint64 batch,
        IBatchMarket.Batch calldata seen,
        Verdict calldata verdict,
        MerkleProofs.SumNode[] calldata verdictProof,
        bytes32 lineHash,
        bytes32[] calldata traceProof
    ) external view returns (bytes32 vote);

    /// @return vote a juror's vote for the verdict
    ///
    /// Requirements:
    /// - The verdict must be the attested one (Evidence_BadVerdictProof).
    function verdictVote(
        uint64 batch,
        Attestation calldata attestation,
        uint32 count,
        Verdict calldata verdict,
        MerkleProofs.SumNode[] calldata proof
    ) external pure returns (bytes32 vote);

    /// @return what is wrong with the attested tree of `batch`
    ///
    /// Requirements:
    /// - The nodes must be the tree's (VerdictFaults_NotTheChildren, VerdictFaults_NotTheVerdict).
    /// - Something must be wrong (Evidence_NoFault).
    function fault(uint64 batch, Attestation calldata attestation, uint32 count, Opened calldata opened)
        external
        pure
        returns (VerdictFaults.Fault);

    /// @return vote a juror's vote for the verdict of `a`
    /// @return rivalVote a juror's vote for the verdict of `b`
    ///
    /// Requirements:
    /// - Both must be proven (Evidence_BadVerdictProof), be about one index and differ (Evidence_SameVerdict).
    /// - No verdict before it may differ (Evidence_NotTheFirstDifference).
    function conflict(uint64 batch, uint32 count, Claim calldata a, Claim calldata b)
        external
        pure
        returns (bytes32 vote, bytes32 rivalVote);

    /// @return a juror's vote for a verdict of `batch`
    function voteOf(uint64 batch, Verdict calldata verdict) external pure returns (bytes32);
}
