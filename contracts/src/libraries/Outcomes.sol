// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Attestation} from "./Types.sol";

/// Verdict roots that speak of a whole batch. Their sums are zero.
library Outcomes {
    /// most members could not fetch the content
    bytes32 internal constant UNAVAILABLE = keccak256("tracemarket.outcome.unavailable");
    /// the content is not a batch file with the committed root and count
    bytes32 internal constant MALFORMED = keccak256("tracemarket.outcome.malformed");

    /// a juror's answer where an outcome is disputed: the content can be had and is a batch file
    bytes32 internal constant SOUND = keccak256("tracemarket.outcome.sound");

    function wholeBatch(bytes32 verdictRoot) internal pure returns (bool) {
        return verdictRoot == UNAVAILABLE || verdictRoot == MALFORMED || verdictRoot == SOUND;
    }

    /// The hash under which an attestation is counted. Its last bit is set: where a vote is stored, that bit tells it
    /// from a commitment.
    function voteOf(Attestation memory attestation) internal pure returns (bytes32) {
        return keccak256(abi.encode(attestation)) | bytes32(uint256(1));
    }

    /// The vote for an outcome.
    function voteOf(bytes32 outcome) internal pure returns (bytes32) {
        return voteOf(Attestation(outcome, 0, 0));
    }
}
