// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchMarket} from "../../contracts/src/interfaces/IBatchMarket.sol";
import {IRounds} from "../../contracts/src/interfaces/IRounds.sol";
import {Attestation, Parameters} from "../../contracts/src/libraries/Types.sol";
import {Scenario} from "./support/Scenario.sol";

/// The largest committees that the parameters allow fit a transaction (2^24 gas since EIP-7825): else money would stay
/// where it is for good
/// ├── one round of 126 seats
/// ├── 14, 29, 59 and 119 seats: the most of all
/// ├── 6, 13, 27, 55 and 111 seats
/// └── the same without a quorum in the last round: void
contract LimitsTest is Scenario {
    uint256 private constant TRANSACTION_GAS = 1 << 24;
    /// A test is one transaction, so what it touched before is warm, and slots written twice are cheap. For each seat that
    /// hides at most two slots of the seat, two of the verifier and one balance: 5 x (2,100 + 2,800) gas.
    uint256 private constant HIDDEN_PER_SEAT = 24_500;
    uint8 private size;
    uint8 private maxRounds;

    function _parameters() internal view override returns (Parameters memory p) {
        p = super._parameters();
        (p.committeeSize, p.maxRounds) = (size, maxRounds);
    }

    function testOneLargeRound() external {
        _run(126, 1, true);
    }

    function testFourLargeRounds() external {
        _run(14, 4, true);
    }

    function testFiveRounds() external {
        _run(6, 5, true);
    }

    function testFourLargeRoundsVoid() external {
        _run(14, 4, false);
    }

    function _run(uint8 size_, uint8 maxRounds_, bool quorum) private {
        (size, maxRounds) = (size_, maxRounds_);
        _begin();
        _verifiers(130, 4 * SEAT);
        uint64 batch = _commit(_bounty(100e6), miner, 8);
        uint256 allSeats;
        for (uint256 i = 1; i <= maxRounds; ++i) {
            uint64 round = market.get(batch).round;
            _reach(rounds.get(round).drawPoint);
            _measure("draw", address(rounds), abi.encodeCall(IRounds.draw, (round)), rounds.get(round).size);
            uint256 seats = rounds.get(round).seats;
            vm.assertEq(seats, rounds.get(round).size, "a full committee");
            allSeats += seats;
            Attestation[] memory votes = _same(_verdict(8, 0), seats);
            if (i < maxRounds || !quorum) {
                for (uint256 j; j <= seats / 2; ++j) {
                    votes[j] = _verdict(uint32(j % 2), 1);
                }
            }
            _vote(round, votes);
            _measure("tally", address(market), abi.encodeCall(IBatchMarket.tally, (batch, votes[0])), allSeats);
        }
        if (quorum) {
            _skip(30 minutes + 1);
            _measure("settle", address(market), abi.encodeCall(IBatchMarket.settle, (batch)), allSeats);
        }
        _assertPhase(batch, quorum ? IBatchMarket.Phase.Settled : IBatchMarket.Phase.Void);
        _checkBooks();
    }

    function _measure(string memory what, address target, bytes memory data, uint256 seats) private {
        uint256 before = gasleft();
        (bool success,) = target.call(data);
        uint256 used = before - gasleft();
        vm.assertTrue(success, what);
        vm.assertLe(used + seats * HIDDEN_PER_SEAT, TRANSACTION_GAS, string.concat(what, " fits a transaction"));
    }
}
