// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {IBatchMarket} from "../../../contracts/src/interfaces/IBatchMarket.sol";
import {ICourt} from "../../../contracts/src/interfaces/ICourt.sol";
import {IOpenings} from "../../../contracts/src/interfaces/IOpenings.sol";
import {IRounds} from "../../../contracts/src/interfaces/IRounds.sol";
import {Attestation} from "../../../contracts/src/libraries/Types.sol";
import {Action} from "./Actions.sol";
import {MarketChecks} from "./MarketChecks.sol";

/// The steps that move batches and disputes on and that anybody may make, each with its reckoning; made by a stranger.
/// They are enough to end everything.
abstract contract PublicSteps is MarketChecks {
    /// What the close of a dispute must move, by the rules of ICourt.
    struct Bill {
        /// the pool, with the jurors' fines
        uint256 insured;
        uint256 slashed;
        /// the challenger's own bond, the appeals that lost, and those that won
        uint256 own;
        uint256 lost;
        uint256 won;
        uint256 fees;
        uint256 toChallenger;
        uint256 wronged;
    }

    function _mayTally(uint64 batch) internal view returns (bool) {
        IBatchMarket.Batch memory seen = market.get(batch);
        if (market.phaseOf(batch) != IBatchMarket.Phase.InRound) return false;
        // Disputes of an attestation before this round may go on; one about its votes decides it.
        if (seen.disputes != 0 && _narrowed[seen.round]) return false;
        if (rounds.phaseOf(seen.round) != IRounds.Phase.Closed) return false;
        if (!_inConflict(seen.round) || _narrowed[seen.round]) return true;
        return _now() > rounds.endsAt(seen.round) + _parameters().openingWindow;
    }

    function _tally(uint64 batch) internal {
        IBatchMarket.Batch memory seen = market.get(batch);
        (, uint256 votes) = rounds.leaderOf(seen.round);
        bool quorum = votes > rounds.get(seen.round).seats / 2;
        bool conflict = _inConflict(seen.round);
        Attestation memory leader = _leader(seen.round);
        bool ends = !quorum && seen.rounds == _parameters().maxRounds;
        _makeRoom();
        if (ends) _expectBatchJudged(batch, 0);
        vm.recordLogs();
        vm.prank(stranger);
        market.tally(batch, leader);
        _reckon(address(market));
        if (ends) _closeBatch(batch, Action.VoidByVotes);
        else ++done[quorum ? Action.Attest : conflict ? Action.RedrawConflict : Action.Redraw];
        _observe(false);
    }

    function _voidStalled(uint64 batch) internal {
        _makeRoom();
        _expectBatchJudged(batch, 0);
        vm.recordLogs();
        vm.prank(stranger);
        market.voidStalled(batch);
        _reckon(address(market));
        _closeBatch(batch, Action.VoidStalled);
        _observe(false);
    }

    function _settleBatch(uint64 batch) internal {
        _makeRoom();
        _expectSettled(batch);
        vm.recordLogs();
        vm.prank(stranger);
        market.settle(batch);
        _reckon(address(market));
        _closeBatch(batch, Action.Settle);
        _observe(false);
    }

    function _expectSettled(uint64 batch) internal {
        _expectBatchJudged(batch, rounds.voteOf(market.get(batch).attestation));
    }

    function _closeBatch(uint64 batch, Action action) internal {
        _finalBatch[batch] = _stateOfBatch(batch);
        ++done[action];
    }

    function _concludeOpening(uint64 dispute) internal {
        IOpenings.Status status = openings.statusOf(dispute);
        vm.prank(stranger);
        court.concludeOpening(dispute);
        if (status == IOpenings.Status.Opened) ++done[Action.OpeningToJury];
        else ++done[status == IOpenings.Status.Refused ? Action.OpeningRefused : Action.OpeningAbandoned];
        _observe(false);
    }

    function _mayTallyJury(uint64 dispute) internal view returns (bool) {
        if (court.phaseOf(dispute) != ICourt.Phase.InJury) return false;
        IRounds.Phase phase = rounds.phaseOf(court.get(dispute).jury);
        return phase == IRounds.Phase.Closed || phase == IRounds.Phase.Stalled;
    }

    function _tallyJury(uint64 dispute) internal {
        uint64 jury = court.get(dispute).jury;
        Attestation memory leader = _leader(jury);
        (, uint256 votes) = rounds.leaderOf(jury);
        bool quorum = votes > rounds.get(jury).seats / 2;
        vm.prank(stranger);
        court.tallyJury(dispute, leader);
        if (quorum) ++done[Action.JuryDecides];
        else ++done[court.get(dispute).jury != jury ? Action.JuryGrows : Action.JuryGivesUp];
        bool given = quorum && leader.verdictRoot != MALFORMED && leader.verdictRoot != UNAVAILABLE;
        if (court.get(dispute).minerWronged && quorum) vm.assertTrue(given, "whom a missing verdict wrongs");
        _observe(false);
    }

    function _closeDispute(uint64 id) internal {
        _makeRoom();
        ICourt.Dispute memory dispute = court.get(id);
        IBatchMarket.Batch memory seen = market.get(dispute.batch);
        bool carried = !seen.closed && seen.overturned == dispute.attestation;
        bool falls = carried && dispute.kind != ICourt.Kind.Conflict && dispute.standing == ICourt.Standing.Falls;
        uint64 jury = dispute.jury;
        for (uint256 i; i < dispute.juries; ++i) {
            _expectJudged(jury, dispute.standingVote);
            jury = rounds.get(jury).previous;
        }
        bool guilty = falls && dispute.kind != ICourt.Kind.Unavailable;
        // Nor do signers go free whose content a jury could not have.
        bool lost = carried && dispute.standing == ICourt.Standing.Unavailable;
        if (guilty || lost) _expectConvicted(seen.round, rounds.voteOf(seen.attestation), guilty);
        bool voids = falls && seen.rounds == _parameters().maxRounds;
        if (voids) _expectBatchJudged(dispute.batch, 0);
        uint256[3] memory before =
            [ledger.balanceOf(dispute.challenger), ledger.balanceOf(seen.miner), court.pool()];
        vm.recordLogs();
        vm.prank(stranger);
        court.close(id);
        _checkBill(id, dispute, seen, before, _reckon(address(court)), voids);
        if (voids) _closeBatch(dispute.batch, Action.VoidByCourt);
        _finalDispute[id] = _stateOfDispute(id);
        if (guilty) ++done[Action.Convict];
        if (guilty && dispute.minerWronged) ++done[Action.MinerWronged];
        _countAppeals(id, dispute.standing);
        if (!carried) ++done[Action.CloseLate];
        else ++done[Action(uint256(Action.CloseUndecided) + uint256(dispute.standing))];
        _observe(false);
    }

    function _countAppeals(uint64 id, ICourt.Standing standing) private {
        ICourt.Appeal[] memory appeals = court.appealsOf(id);
        for (uint256 i; i < appeals.length; ++i) {
            ++done[appeals[i].against == standing ? Action.AppealLost : Action.AppealWon];
        }
    }

    /// @param before balances of challenger and miner, and the pool
    /// @param taken all penalties of the call
    function _checkBill(
        uint64 id,
        ICourt.Dispute memory dispute,
        IBatchMarket.Batch memory seen,
        uint256[3] memory before,
        uint256 taken,
        bool voids
    ) private {
        Bill memory bill = _billOf(id, dispute, seen, before[2]);
        uint256 got = ledger.balanceOf(dispute.challenger) - before[0];
        vm.assertEq(got, bill.toChallenger, "what the challenger gets");
        bool toMiner = bill.slashed == 0 || dispute.minerWronged;
        got = ledger.balanceOf(seen.miner) - before[1];
        vm.assertEq(got, (voids ? seen.bond : 0) + (toMiner ? bill.wronged : 0), "what the miner gets");
        uint256 others = bill.won;
        ICourt.Appeal[] memory appeals = court.appealsOf(id);
        for (uint256 i; i < appeals.length; ++i) {
            bool own = appeals[i].appellant == dispute.challenger && appeals[i].against != dispute.standing;
            if (own) others -= appeals[i].bond;
        }
        uint256 all = before[2] + taken + bill.own + bill.lost + bill.won;
        vm.assertEq(
            court.pool() + bill.fees + bill.toChallenger + others + bill.wronged, all, "the rest is the pool's"
        );
        bool charged = bill.slashed == 0 && dispute.standing != ICourt.Standing.None && bill.own != 0;
        if (charged && dispute.standing != ICourt.Standing.Stands) ++done[Action.ChallengerCharged];
    }

    function _billOf(uint64 id, ICourt.Dispute memory dispute, IBatchMarket.Batch memory seen, uint256 pool)
        private
        view
        returns (Bill memory bill)
    {
        uint256 jurors;
        uint64 jury = dispute.jury;
        uint256 paid;
        bill.insured = pool;
        for (uint256 i; i < dispute.juries; ++i) {
            bill.insured += _lostIn(jury, false);
            for (uint8 seat; seat < _seated[jury].length; ++seat) {
                paid += _paid[jury][seat];
                if (dispute.standingVote != 0 && rounds.seatOf(jury, seat).vote == dispute.standingVote) ++jurors;
            }
            jury = rounds.get(jury).previous;
        }
        // A dispute of an attestation that fell before convicts nobody, and what signers lose whose content a jury could
        // not have is the pool's.
        bool carried = !seen.closed && seen.overturned == dispute.attestation;
        if (carried && _guilty[seen.round]) bill.slashed = _lostIn(seen.round, true);
        ICourt.Appeal[] memory appeals = court.appealsOf(id);
        for (uint256 i; i < appeals.length; ++i) {
            bool lost = appeals[i].against == dispute.standing;
            if (lost) bill.lost += appeals[i].bond;
            else bill.won += appeals[i].bond;
            if (!lost && appeals[i].appellant == dispute.challenger) bill.toChallenger += appeals[i].bond;
        }
        bool conflict = dispute.kind == ICourt.Kind.Conflict;
        if (!conflict) bill.own = dispute.bond;
        bool whole = bill.slashed != 0 || dispute.standing == ICourt.Standing.None;
        uint256 paying = bill.lost + bill.slashed + (whole ? 0 : bill.own);
        bill.fees = Math.min(jurors * _parameters().jurorFee, paying + bill.insured);
        if (jurors != 0) bill.fees -= bill.fees % jurors;
        vm.assertEq(paid, bill.fees, "coherent jurors are paid, as far as there is money");
        uint256 left = paying - Math.min(paying, bill.fees);
        if (whole) bill.toChallenger += bill.own;
        if (bill.slashed != 0) {
            left = Math.min(left, bill.slashed);
            bill.toChallenger += Math.min(left / 4, _seatPay(seen));
            bill.wronged = Math.min(left / 2, _feeOf(seen));
        } else if (dispute.standing == ICourt.Standing.Stands) {
            bill.wronged = left / 2;
        } else if (!whole && !conflict) {
            bill.toChallenger += Math.min(bill.own, left);
        }
    }

    function _seatPay(IBatchMarket.Batch memory seen) internal view returns (uint256) {
        uint256 seats = rounds.get(seen.round).seats;
        return seats == 0 ? 0 : _feeOf(seen) / seats;
    }

    function _feeOf(IBatchMarket.Batch memory seen) internal view returns (uint256) {
        return uint256(escrow.get(seen.bounty).terms.feePerTrace) * seen.count;
    }

    /// Sixteen draws are made on the way by whatever changes seats; where more may be due somebody makes them before.
    function _makeRoom() internal {
        uint256 waiting;
        for (uint256 i; i < _liveRounds.length; ++i) {
            if (!_drawn(_roundPhase[_liveRounds[i]]) && _roundPhase[_liveRounds[i]] != IRounds.Phase.Closed) ++waiting;
        }
        if (waiting <= 12) return;
        rounds.drawDue(100);
        ++done[Action.DrawDue];
        _observe(false);
    }

    /// @return more reveals than half of the seats, and no vote with as many
    function _inConflict(uint64 round) internal view returns (bool) {
        (, uint256 votes) = rounds.leaderOf(round);
        IRounds.Round memory seen = rounds.get(round);
        uint256 quorum = uint256(seen.seats) / 2 + 1;
        return votes < quorum && seen.revealed >= quorum;
    }

    /// Ends every dispute and batch by calls that anybody can make, then has everybody leave. Nothing stays behind but
    /// the insurance pool. Draws are made in some runs, and nobody makes them in others.
    function everybodyLeaves() external {
        checkAllFinal();
        bool draws = token.balanceOf(address(ledger)) % 2 == 0;
        for (uint256 i; _liveBatches.length + _liveDisputes.length != 0; ++i) {
            vm.assertTrue(i < 150, "everything ends");
            vm.roll(vm.getBlockNumber() + 3);
            _pass(1 hours + 1);
            if (draws) {
                rounds.drawDue(100);
                _observe(false);
            }
            uint64[] memory open = _liveDisputes;
            for (uint256 j; j < open.length; ++j) _endDispute(open[j]);
            open = _liveBatches;
            for (uint256 j; j < open.length; ++j) _endBatch(open[j]);
        }
        checkAllFinal();
        vm.assertEq(_liveRounds.length, 0, "every round is judged");
        _leave();
    }

    function _endDispute(uint64 dispute) private {
        ICourt.Phase phase = court.phaseOf(dispute);
        if (phase == ICourt.Phase.Opening) {
            IOpenings.Status status = openings.statusOf(dispute);
            if (status != IOpenings.Status.Asked && status != IOpenings.Status.Answered) _concludeOpening(dispute);
        }
        if (_mayTallyJury(dispute)) _tallyJury(dispute);
        if (court.phaseOf(dispute) == ICourt.Phase.Decided) _closeDispute(dispute);
    }

    function _endBatch(uint64 batch) private {
        IBatchMarket.Phase phase = market.phaseOf(batch);
        if (phase == IBatchMarket.Phase.Settleable) _settleBatch(batch);
        if (phase != IBatchMarket.Phase.InRound) return;
        if (rounds.phaseOf(market.get(batch).round) == IRounds.Phase.Stalled) _voidStalled(batch);
        else if (_mayTally(batch)) _tally(batch);
    }

    function _leave() private {
        for (uint64 bounty = 1; bounty <= escrow.count(); ++bounty) {
            if (_now() <= escrow.get(bounty).terms.deadline) vm.warp(escrow.get(bounty).terms.deadline + 1);
            vm.assertEq(escrow.get(bounty).reserved, 0, "nothing reserved");
            if (escrow.get(bounty).available != 0) escrow.refund(bounty);
        }
        for (uint256 i; i < verifiers.length; ++i) {
            vm.assertEq(stake.get(verifiers[i]).openSeats, 0, "no seat open");
            uint256 own = stake.get(verifiers[i]).stake;
            if (own == 0) continue;
            vm.prank(verifiers[i]);
            stake.requestUnstake(own);
        }
        _skip(_parameters().unbondingDelay);
        for (uint256 i; i < accounts.length; ++i) {
            if (stake.get(accounts[i]).unbonding != 0) stake.claim(accounts[i]);
            uint256 balance = ledger.balanceOf(accounts[i]);
            vm.prank(accounts[i]);
            ledger.withdraw(accounts[i], balance);
        }
        vm.assertEq(_entries(), court.pool(), "nothing is left but the insurance pool");
        vm.assertEq(ledger.heldFor(address(court)), court.pool(), "no bond left");
        vm.assertEq(token.balanceOf(address(ledger)), _entries() + donated, "and gifts");
    }
}
