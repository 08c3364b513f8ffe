// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchMarket} from "../../../contracts/src/interfaces/IBatchMarket.sol";
import {IRounds} from "../../../contracts/src/interfaces/IRounds.sol";
import {IScoreSheets} from "../../../contracts/src/interfaces/IScoreSheets.sol";
import {SheetChecks} from "./SheetChecks.sol";

/// What the score sheets' seeds choose from, and what their batches, sheets and gold hold.
abstract contract SheetPicks is SheetChecks {
    function _anyBounty(uint256 seed) internal view returns (uint64) {
        return uint64(1 + seed % escrow.count());
    }

    /// @return one before its deadline, zero where there is none
    function _openBounty(uint256 seed) internal view returns (uint64) {
        for (uint64 i; i < escrow.count(); ++i) {
            uint64 bounty = _anyBounty(seed % 1e9 + i);
            if (_now() <= escrow.get(bounty).terms.deadline) return bounty;
        }
        return 0;
    }

    function _anySeat(uint64 batch, uint256 seed) internal view returns (uint8) {
        return uint8(_dice(seed, "seat") % rounds.get(market.roundsOf(batch)[0]).seats);
    }

    /// @return a batch in this phase whose newest round fits, zero where there is none
    function _pickBatch(uint256 seed, IBatchMarket.Phase phase, function(IRounds.Phase) internal pure returns (bool) fits)
        internal
        view
        returns (uint64)
    {
        uint64 number = market.count();
        for (uint64 i; i < number; ++i) {
            uint64 batch = 1 + (uint64(seed % 1e9) + i) % number;
            if (market.phaseOf(batch) == phase && fits(rounds.phaseOf(market.get(batch).round))) return batch;
        }
        return 0;
    }

    function _any(IRounds.Phase) internal pure returns (bool) {
        return true;
    }

    function _undrawn(IRounds.Phase phase) internal pure returns (bool) {
        return phase == IRounds.Phase.AwaitingRandomness || phase == IRounds.Phase.Drawable;
    }

    function _pickSheets(uint256 seed, IScoreSheets.Phase phase) internal view returns (uint64) {
        uint64 number = market.count();
        for (uint64 i; i < number; ++i) {
            uint64 batch = 1 + (uint64(seed % 1e9) + i) % number;
            if (sheets.phaseOf(batch) == phase) return batch;
        }
        return 0;
    }

    /// @return traces of the batch that is committed as this one: gold is planted before
    function _countOf(uint64 batch) internal pure returns (uint32) {
        return uint32(1 + _dice(batch, "count") % 16);
    }

    function _rootOf(uint64 batch) internal pure returns (bytes32) {
        return keccak256(abi.encode("root of a batch", batch));
    }

    function _goldOf(uint64 batch) internal pure returns (bytes memory sheet) {
        sheet = new bytes((_countOf(batch) + 1) / 2);
        for (uint256 i; i < sheet.length; ++i) {
            sheet[i] = bytes1(uint8((_dice(batch, i) % 5) << 4 | 15));
        }
    }

    function _dice(uint256 seed, string memory purpose) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, purpose)));
    }

    function _dice(uint256 seed, uint256 number) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, number)));
    }

    /// Grades near a common truth, at random, or the middle everywhere.
    function _sheetOf(uint64 batch, uint8 seat, uint32 count, uint256 mood) internal pure returns (bytes memory sheet) {
        sheet = new bytes((count + 1) / 2);
        for (uint256 t; t < count; ++t) {
            uint256 own = _dice(_dice(batch, "own"), 64 * t + seat);
            uint256 truth = _dice(_dice(batch, "truth"), t) % 5;
            uint256 given = mood == 2 ? 2 : mood < 5 ? own % 5 : truth;
            if (mood > 7 && own % 3 == 0) given = truth == 0 ? 1 : truth - 1;
            sheet[t / 2] |= bytes1(uint8(t % 2 == 0 ? given << 4 : given));
        }
    }
}
