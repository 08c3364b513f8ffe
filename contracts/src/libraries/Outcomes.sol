// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Attestation} from "./Types.sol";

/// Verdict roots that speak of a whole batch. Their sums are zero.
library Outcomes {
    /// most members could not fetch the content
    bytes32 internal constant UNAVAILABLE = keccak256("tracemarket.outcome.unavailable");
    /// the content is not a batch file with the committed root and count
    bytes32 internal constant MALFORMED = keccak256("tracemarket.outcome.malformed");

    function wholeBatch(bytes32 verdictRoot) internal pure returns (bool) {
        return verdictRoot == UNAVAILABLE || verdictRoot == MALFORMED;
    }

    /// The vote for such an outcome, hashed as any attestation is.
    function voteOf(bytes32 outcome) internal pure returns (bytes32) {
        return keccak256(abi.encode(Attestation(outcome, 0, 0)));
    }
}
