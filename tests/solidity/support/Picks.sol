// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchMarket} from "../../../contracts/src/interfaces/IBatchMarket.sol";
import {ICourt} from "../../../contracts/src/interfaces/ICourt.sol";
import {IRounds} from "../../../contracts/src/interfaces/IRounds.sol";
import {PublicSteps} from "./PublicSteps.sol";

/// What the handler's seeds choose from: the bounties, batches, disputes and rounds that an action is possible for now.
abstract contract Picks is PublicSteps {
    function _pickBounty(uint256 seed) internal view returns (uint64) {
        return uint64(1 + seed % escrow.count());
    }

    /// @return a bounty before its deadline; zero where there is none, and for one seed in four
    function _openBounty(uint256 seed) internal view returns (uint64) {
        uint64 number = escrow.count();
        for (uint64 i; i < number && seed % 4 != 0; ++i) {
            uint64 bounty = 1 + (uint64(seed % 1e9) + i) % number;
            if (_now() <= escrow.get(bounty).terms.deadline) return bounty;
        }
        return 0;
    }

    /// @return one in this phase, zero where there is none
    function _pickBatch(uint256 seed, IBatchMarket.Phase phase) internal view returns (uint64) {
        for (uint256 i; i < _liveBatches.length; ++i) {
            uint64 batch = _liveBatches[(seed % 1e9 + i) % _liveBatches.length];
            if (market.phaseOf(batch) == phase) return batch;
        }
        return 0;
    }

    /// @return batch an attested one that can be disputed; mostly one that deserves it
    /// @return story the story attested, plus one
    function _pickAttested(uint256 seed) internal view returns (uint64 batch, uint8 story) {
        for (uint256 i; i < _liveBatches.length; ++i) {
            uint64 candidate = _liveBatches[(seed % 1e9 + i) % _liveBatches.length];
            if (market.phaseOf(candidate) != IBatchMarket.Phase.Challengeable) continue;
            (batch, story) = (candidate, _storyOf[candidate][rounds.voteOf(market.get(candidate).attestation)]);
            if (story != uint8(Story.Truth) + 1 || seed % 3 == 0) return (batch, story);
        }
    }

    /// @return one that can be settled beside `batch`, zero where there is none
    function _anotherBatch(uint64 batch) internal view returns (uint64) {
        for (uint256 i; i < _liveBatches.length; ++i) {
            if (_liveBatches[i] != batch && market.phaseOf(_liveBatches[i]) == IBatchMarket.Phase.Settleable) {
                return _liveBatches[i];
            }
        }
        return 0;
    }

    function _pickDispute(uint256 seed, ICourt.Phase phase) internal view returns (uint64) {
        for (uint256 i; i < _liveDisputes.length; ++i) {
            uint64 dispute = _liveDisputes[(seed % 1e9 + i) % _liveDisputes.length];
            if (court.phaseOf(dispute) == phase) return dispute;
        }
        return 0;
    }

    function _pickRound(uint256 seed, function(IRounds.Phase) internal pure returns (bool) fits)
        internal
        view
        returns (uint64)
    {
        for (uint256 i; i < _liveRounds.length; ++i) {
            uint64 round = _liveRounds[(seed % 1e9 + i) % _liveRounds.length];
            if (fits(rounds.phaseOf(round))) return round;
        }
        return 0;
    }

    function _undrawn(IRounds.Phase phase) internal pure returns (bool) {
        return phase == IRounds.Phase.AwaitingRandomness || phase == IRounds.Phase.Drawable;
    }

    function _committing(IRounds.Phase phase) internal pure returns (bool) {
        return phase == IRounds.Phase.Committing;
    }

    function _revealing(IRounds.Phase phase) internal pure returns (bool) {
        return phase == IRounds.Phase.Revealing;
    }

    function _unfinished(IRounds.Phase phase) internal pure returns (bool) {
        return _undrawn(phase) || _drawn(phase);
    }
}
