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
/// ├── the same without a quorum in the last round: void
/// └── attestations that fall: convictions, and fresh committees that leave out everybody who sat
contract LimitsTest is Scenario {
    uint256 private constant TRANSACTION_GAS = 1 << 24;
    /// A test is one transaction, so what it touched before is warm, and slots written twice are cheap. For each seat that
    /// hides at most two slots of the seat, two of the verifier and one balance: 5 x (2,100 + 2,800) gas.
    uint256 private constant HIDDEN_PER_SEAT = 24_500;
    uint8 private size;
    uint8 private maxRounds;

    function _parameters() internal view override returns (Parameters memory p) {
        p = super._parameters();
        (p.committeeSize, p.maxRounds, p.maxJuries, p.minVerifiers) = (size, maxRounds, 1, size);
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

    function testOverturnedLargeRound() external {
        (size, maxRounds) = (126, 1);
        _begin();
        _verifiers(130, 4 * SEAT);
        uint64 batch = _commit(_bounty(100e6), miner, 8);
        _attest(batch, _verdict(8, 0));
        vm.prank(address(court));
        _measure("overturn", address(market), abi.encodeCall(IBatchMarket.overturn, (batch, true)), 126);
        _assertPhase(batch, IBatchMarket.Phase.Void);
        _checkBooks();
    }

    /// 14, 29 and 59 seats, then a fresh committee: 102 seats' members are left out of its draw.
    function testFreshCommitteeAfterLargeRounds() external {
        (size, maxRounds) = (14, 4);
        _begin();
        _verifiers(130, 4 * SEAT);
        uint64 batch = _commit(_bounty(100e6), miner, 8);
        for (uint256 i; i < 2; ++i) {
            uint64 split = market.get(batch).round;
            Attestation[] memory votes = _same(_verdict(8, 0), _draw(split).length);
            for (uint256 j; j <= votes.length / 2; ++j) {
                votes[j] = _verdict(uint32(j % 2), 1);
            }
            _vote(split, votes);
            vm.warp(rounds.endsAt(split) + 5 minutes + 1);
            market.tally(batch, votes[0]);
        }
        _attest(batch, _verdict(8, 0));
        vm.prank(address(court));
        _measure("overturn", address(market), abi.encodeCall(IBatchMarket.overturn, (batch, true)), 59);
        uint64 fresh = market.get(batch).round;
        _reach(rounds.get(fresh).drawPoint);
        _measure("fresh draw", address(rounds), abi.encodeCall(IRounds.draw, (fresh)), 102 + 59);
        vm.assertGe(rounds.get(fresh).seats, 28, "of those who are left");
        _checkBooks();
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
            vm.warp(rounds.endsAt(round) + 5 minutes + 1);
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
