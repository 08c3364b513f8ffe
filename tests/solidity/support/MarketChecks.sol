// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchMarket} from "../../../contracts/src/interfaces/IBatchMarket.sol";
import {IRounds} from "../../../contracts/src/interfaces/IRounds.sol";
import {IVerifierStake} from "../../../contracts/src/interfaces/IVerifierStake.sol";
import {Attestation, BountyTerms} from "../../../contracts/src/libraries/Types.sol";
import {Scenario} from "./Scenario.sol";

/// What must hold of a market at any time, and the ghost books to hold it against.
abstract contract MarketChecks is Scenario {
    /// what the ghost books say: tokens made, sent to the ledger by calls, sent back, and given away to it
    uint256 public minted;
    uint256 public paidIn;
    uint256 public paidOut;
    uint256 public donated;
    /// closed batches as they were when they closed
    mapping(uint64 batch => bytes32) public finalState;
    /// what members voted, so that a round's leader can be named
    mapping(uint64 round => mapping(uint8 seat => Attestation)) internal _votes;

    function checkBooks() external view {
        _checkBooks();
        vm.assertEq(ledger.tracked(), paidIn - paidOut, "tracked = paid in - paid out");
        vm.assertEq(token.balanceOf(address(ledger)), ledger.tracked() + donated, "tokens = tracked + given away");
        uint256 outside;
        for (uint256 i; i < accounts.length; ++i) {
            outside += token.balanceOf(accounts[i]);
        }
        vm.assertEq(outside + paidIn + donated, minted + paidOut, "no token made or lost");
    }

    function checkSeats() external view {
        uint256 sum;
        uint256 eligible;
        for (uint256 i; i < verifiers.length; ++i) {
            IVerifierStake.Verifier memory seen = stake.get(verifiers[i]);
            vm.assertGe(seen.stake, uint256(seen.openSeats) * SEAT, "locked stake covers open seats");
            vm.assertEq(seen.openSeats, _seatsOf(verifiers[i]), "open seats are those of unjudged rounds");
            uint256 weight = stake.weightOf(verifiers[i]);
            vm.assertEq(weight, seen.stake / SEAT - seen.openSeats, "weight");
            sum += weight;
            if (weight != 0) ++eligible;
        }
        vm.assertEq(stake.totalWeight(), sum, "sum of the lot");
        vm.assertEq(stake.eligible(), eligible, "eligible");
    }

    function checkFinal() external view {
        for (uint64 batch = 1; batch <= market.count(); ++batch) {
            bool closed = market.get(batch).closed;
            vm.assertEq(closed, finalState[batch] != 0, "closed by an action that closes");
            if (closed) vm.assertEq(_stateOf(batch), finalState[batch], "final");
        }
    }

    function checkReserves() external view {
        for (uint64 bounty = 1; bounty <= escrow.count(); ++bounty) {
            BountyTerms memory terms = escrow.get(bounty).terms;
            uint256 worst;
            for (uint64 batch = 1; batch <= market.count(); ++batch) {
                IBatchMarket.Batch memory seen = market.get(batch);
                if (seen.bounty != bounty || seen.closed) continue;
                worst += uint256(seen.count) * (uint256(terms.pricePerUnit) + terms.feePerTrace);
            }
            vm.assertEq(escrow.get(bounty).reserved, worst, "reserved = worst case of open batches");
        }
    }

    /// Ends every batch by calls that anybody can make, then has everybody leave. Nothing may stay behind.
    function everybodyLeaves() external {
        for (uint64 batch = 1; batch <= market.count(); ++batch) {
            _end(batch);
        }
        for (uint64 bounty = 1; bounty <= escrow.count(); ++bounty) {
            if (_now() <= escrow.get(bounty).terms.deadline) vm.warp(escrow.get(bounty).terms.deadline + 1);
            vm.assertEq(escrow.get(bounty).reserved, 0, "nothing reserved");
            if (escrow.get(bounty).available != 0) escrow.refund(bounty);
        }
        for (uint256 i; i < verifiers.length; ++i) {
            uint256 own = stake.get(verifiers[i]).stake;
            vm.prank(verifiers[i]);
            if (own != 0) stake.requestUnstake(own);
            else stake.get(verifiers[i]);
        }
        _skip(1 days);
        for (uint256 i; i < accounts.length; ++i) {
            if (stake.get(accounts[i]).unbonding != 0) stake.claim(accounts[i]);
            uint256 balance = ledger.balanceOf(accounts[i]);
            vm.prank(accounts[i]);
            ledger.withdraw(accounts[i], balance);
        }
        vm.assertEq(ledger.tracked(), 0, "nothing tracked");
        vm.assertEq(token.balanceOf(address(ledger)), donated, "nothing but gifts");
    }

    function _end(uint64 batch) private {
        while (market.phaseOf(batch) == IBatchMarket.Phase.InRound) {
            uint64 round = market.get(batch).round;
            if (rounds.get(round).drawnAt == 0) {
                _skip(1 hours + 1);
                market.voidStalled(batch);
                return;
            }
            if (rounds.phaseOf(round) != IRounds.Phase.Closed) _skip(20 minutes + 1);
            market.tally(batch, _leader(round));
        }
        if (market.phaseOf(batch) == IBatchMarket.Phase.Challengeable) _skip(30 minutes + 1);
        if (market.phaseOf(batch) == IBatchMarket.Phase.Settleable) market.settle(batch);
    }

    function _leader(uint64 round) internal view returns (Attestation memory) {
        (bytes32 vote,) = rounds.leaderOf(round);
        for (uint8 seat; seat < rounds.get(round).seats; ++seat) {
            if (vote != 0 && rounds.voteOf(_votes[round][seat]) == vote) return _votes[round][seat];
        }
        return Attestation(0, 0, 0);
    }

    function _stateOf(uint64 batch) internal view returns (bytes32 state) {
        state = keccak256(abi.encode(market.get(batch), market.phaseOf(batch)));
        uint64[] memory ids = market.roundsOf(batch);
        for (uint256 i; i < ids.length; ++i) {
            state = keccak256(abi.encode(state, rounds.get(ids[i]), rounds.phaseOf(ids[i])));
            for (uint8 seat; seat < rounds.get(ids[i]).seats; ++seat) {
                state = keccak256(abi.encode(state, rounds.seatOf(ids[i], seat)));
            }
        }
    }

    function _seatsOf(address verifier) private view returns (uint256 seats) {
        for (uint64 round = 1; round <= rounds.count(); ++round) {
            IRounds.Round memory seen = rounds.get(round);
            if (seen.judged) continue;
            for (uint8 seat; seat < seen.seats; ++seat) {
                if (rounds.seatOf(round, seat).verifier == verifier) ++seats;
            }
        }
    }
}
