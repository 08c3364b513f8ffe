// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchMarket} from "../interfaces/IBatchMarket.sol";
import {Parameters} from "./Types.sol";

/// What parameters a market may be deployed with. Checked once, when it is built.
library ParameterRules {
    uint256 private constant BPS = 10_000;

    /// @return seconds that a dispute can take from its opening to its end: an opening move by move, then every jury with
    /// its appeal
    function longestDispute(Parameters memory p) internal pure returns (uint256) {
        uint256 levels;
        while (uint256(1) << levels < p.maxTraces) ++levels;
        return (2 * levels + 2) * p.openingWindow
            + uint256(p.maxJuries)
                * (uint256(p.drawTimeout) + p.commitWindow + p.revealWindow + p.appealWindow);
    }

    /// @return token base units that a majority of a first committee is sure to lose for a false attestation: what lies
    /// behind its seats. No batch may be worth more.
    function leastLoss(Parameters memory p) internal pure returns (uint256) {
        uint256 each = uint256(p.seatStake) * (p.fraudBps < BPS ? p.fraudBps : BPS) / BPS;
        return (uint256(p.committeeSize) / 2 + 1) * each;
    }

    function validate(Parameters memory p) internal pure {
        _require(p.committeeSize != 0, "committeeSize");
        _require(p.maxRounds != 0 && p.maxRounds <= 5, "maxRounds");
        // The largest jury, 2k+1 seats of the largest committee doubled again and again, must fit a uint8.
        _require(
            p.maxJuries != 0 && p.maxJuries <= 4
                && (uint256(p.committeeSize) + 1) << (p.maxRounds - 1 + p.maxJuries) <= 256,
            "maxJuries"
        );
        _require(p.minVerifiers >= p.committeeSize, "minVerifiers");
        _require(
            p.drawTimeout != 0 && p.commitWindow != 0 && p.revealWindow != 0 && p.challengeWindow != 0
                && p.appealWindow != 0 && p.openingWindow != 0,
            "windows"
        );
        // A signer's stake must still be within reach when the last dispute about its vote ends.
        _require(
            p.unbondingDelay
                >= uint256(p.drawTimeout) + p.commitWindow + p.revealWindow + p.challengeWindow
                    + longestDispute(p),
            "unbondingDelay"
        );
        _require(p.seatStake != 0, "seatStake");
        _require(p.absenceBps <= BPS, "absenceBps");
        _require(p.incoherenceBps <= BPS, "incoherenceBps");
        // Who sees that it loses must not come off cheaper by withholding its reveal.
        _require(
            p.lateBps >= p.absenceBps && p.lateBps >= p.incoherenceBps && p.lateBps <= BPS, "lateBps"
        );
        _require(p.fraudBps >= p.incoherenceBps && p.fraudBps <= 10 * BPS, "fraudBps");
        _require(p.bondPerTrace != 0, "bondPerTrace");
        _require(p.faultMultiple != 0, "faultMultiple");
        _require(p.wrongBps <= BPS, "wrongBps");
        _require(p.minFeePerTrace != 0, "minFeePerTrace");
        _require(p.jurorFee != 0, "jurorFee");
        _require(p.maxTraces != 0, "maxTraces");
    }

    function _require(bool holds, string memory name) private pure {
        require(holds, IBatchMarket.BatchMarket_InvalidParameters(name));
    }
}
