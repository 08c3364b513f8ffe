// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchMarket} from "../../contracts/src/interfaces/IBatchMarket.sol";
import {ICourt} from "../../contracts/src/interfaces/ICourt.sol";
import {IEvidence} from "../../contracts/src/interfaces/IEvidence.sol";
import {Attestation, Verdict} from "../../contracts/src/libraries/Types.sol";
import {CourtScenario} from "./support/CourtScenario.sol";
import {VerdictTrees} from "./support/VerdictTrees.sol";

/// narrow: a committee of three saw three things
/// ├── refused: no conflict, not the leader, no vote, not proven, not the first difference, the same verdict
/// ├── a second round waits until the time to narrow is over, or the dispute is
/// ├── the leader or its rival wins: it becomes the attestation, the others are incoherent
/// │   └── which can be disputed in its turn: only who signed it is convicted
/// ├── neither, unavailable, no jury, no quorum: a larger committee; in the last round void
/// ├── once for each round
/// └── appeals cost twice the bond that a dispute would have
///
/// `best` says all eight are right; `worse` denies number 7; `worst` denies 6 and 7.
contract ConflictTest is CourtScenario {
    using VerdictTrees for VerdictTrees.Tree;

    uint64 private batch;
    address[] private members;

    function setUp() external {
        _openCourt(26);
        batch = _commitTraces(COUNT);
        members = _disagree(market.get(batch).round);
    }

    function testRefusesOtherPhases() external {
        uint64 other = _commitTraces(COUNT);
        IEvidence.Claim memory leader = _tree(other, 8).claimOf(7);
        IEvidence.Claim memory rival = _tree(other, 7).claimOf(7);
        bytes memory refused = abi.encodeWithSelector(IBatchMarket.BatchMarket_NoConflict.selector, other);
        vm.expectRevert(refused);
        court.narrow(other, leader, rival);
        // Two of three agree.
        uint64 round = market.get(other).round;
        _draw(round);
        Attestation[] memory votes = _same(leader.attestation, 3);
        votes[2] = rival.attestation;
        _vote(round, votes);
        vm.expectRevert(refused);
        court.narrow(other, leader, rival);
        market.tally(other, leader.attestation);
        vm.expectRevert(
            abi.encodeWithSelector(
                IBatchMarket.BatchMarket_WrongPhase.selector, other, IBatchMarket.Phase.Challengeable
            )
        );
        court.narrow(other, leader, rival);
    }

    /// One voice among absent ones is no conflict.
    function testRefusesAbsence() external {
        uint64 other = _commitTraces(COUNT);
        IEvidence.Claim memory leader = _tree(other, 8).claimOf(7);
        IEvidence.Claim memory rival = _tree(other, 7).claimOf(7);
        _draw(market.get(other).round);
        _vote(market.get(other).round, _same(leader.attestation, 1));
        vm.expectRevert(abi.encodeWithSelector(IBatchMarket.BatchMarket_NoConflict.selector, other));
        court.narrow(other, leader, rival);
    }

    function testRefusesOtherClaims() external {
        uint64 round = market.get(batch).round;
        IEvidence.Claim memory best = _tree(batch, 8).claimOf(7);
        IEvidence.Claim memory worse = _tree(batch, 7).claimOf(7);
        IEvidence.Claim memory worst = _tree(batch, 6).claimOf(7);
        bytes32 vote = rounds.voteOf(worse.attestation);
        vm.expectRevert(abi.encodeWithSelector(ICourt.Court_NotAVote.selector, round, vote));
        court.narrow(batch, worse, best);

        IEvidence.Claim memory foreign = _tree(batch, 1).claimOf(7);
        vote = rounds.voteOf(foreign.attestation);
        vm.expectRevert(abi.encodeWithSelector(ICourt.Court_NotAVote.selector, round, vote));
        court.narrow(batch, best, foreign);

        vm.expectRevert(abi.encodeWithSelector(IEvidence.Evidence_NotTheFirstDifference.selector, 7));
        court.narrow(batch, best, worst);

        vm.expectRevert(abi.encodeWithSelector(IEvidence.Evidence_SameVerdict.selector, 7));
        court.narrow(batch, best, best);
        IEvidence.Claim memory same = _tree(batch, 7).claimOf(5);
        vm.expectRevert(abi.encodeWithSelector(IEvidence.Evidence_SameVerdict.selector, 5));
        court.narrow(batch, _tree(batch, 8).claimOf(5), same);
        vm.expectRevert(abi.encodeWithSelector(IEvidence.Evidence_SameVerdict.selector, 7));
        court.narrow(batch, best, same);

        worse.verdict.score = 1;
        vm.expectRevert(abi.encodeWithSelector(IEvidence.Evidence_BadVerdictProof.selector, batch, 7));
        court.narrow(batch, best, worse);
        vm.assertEq(market.get(batch).disputes, 0, "nothing began");
    }

    function testTallyWaitsForTheNarrowing() external {
        uint256 until = rounds.endsAt(market.get(batch).round) + 5 minutes;
        vm.warp(until);
        vm.expectRevert(abi.encodeWithSelector(IBatchMarket.BatchMarket_NarrowFirst.selector, batch, until));
        market.tally(batch, _outcome(0));
        vm.warp(until + 1);
        uint256 state = vm.snapshotState();
        market.tally(batch, _outcome(0));
        vm.assertEq(rounds.get(market.get(batch).round).size, 7, "a larger committee");
        vm.revertToState(state);
        _narrow(7);
        vm.expectRevert(abi.encodeWithSelector(IBatchMarket.BatchMarket_DisputesOpen.selector, batch, 1));
        market.tally(batch, _outcome(0));
    }

    function testLeaderWins() external {
        uint64 id = _narrow(7);
        vm.assertEq(ledger.heldFor(address(court)), 0, "no bond");
        vm.assertEq(uint256(court.get(id).kind), uint256(ICourt.Kind.Conflict), "kind");
        address[] memory jurors = _juryVotes(id, _voteFor(batch, _tree(batch, 8).verdicts[7]));
        vm.assertEq(jurors.length, 7, "2k + 1");
        _assertNew(jurors, members);
        _assertStanding(id, ICourt.Standing.Stands);
        _close(id);
        _assertPhase(batch, IBatchMarket.Phase.Challengeable);
        vm.assertEq(market.get(batch).attestation.units, 8, "the leader's");
        _assertPaid(jurors, 0);
        _settle(batch);
        _checkMembers(0);
        vm.assertEq(court.pool(), 2 * _incoherencePenalty(), "what the others lost");
        vm.assertEq(_funds(), FUNDS - 8 * PRICE - SEAT_FEE, "one of three is paid");
        vm.assertEq(ledger.balanceOf(miner), 8 * PRICE + 80_000, "eight units");
        _checkCourt();
        _checkNoSeatsOpen();
    }

    function testRivalWins() external {
        uint64 id = _narrow(7);
        _juryVotes(id, _voteFor(batch, _tree(batch, 7).verdicts[7]));
        _assertStanding(id, ICourt.Standing.Rival);
        _close(id);
        vm.assertEq(market.get(batch).attestation.units, 7, "the rival's");
        _settle(batch);
        _checkMembers(1);
        _checkCourt();
        _checkNoSeatsOpen();
    }

    /// The other rival, whose first difference is number 6.
    function testOtherRivalWins() external {
        uint64 id = _narrow(6);
        vm.assertEq(court.get(id).index, 6, "first difference");
        _juryVotes(id, _voteFor(batch, _tree(batch, 6).verdicts[6]));
        _close(id);
        _settle(batch);
        _checkMembers(2);
        _checkCourt();
    }

    /// What won the narrowing was wrong elsewhere: only its one signer is convicted.
    function testWinnerFallsInItsTurn() external {
        uint64 id = _narrow(7);
        _juryVotes(id, _voteFor(batch, _tree(batch, 8).verdicts[7]));
        _close(id);
        id = _dispute(_tree(batch, 8), 0);
        _juryVotes(id, _voteFor(batch, Verdict(0, 0, 2, 0, 0)));
        _close(id);
        vm.assertEq(stake.get(members[0]).stake, 300e6 - _fraudPenalty(), "convicted");
        vm.assertEq(stake.get(members[1]).stake, 300e6, "not yet judged");
        vm.assertEq(ledger.balanceOf(challenger), BOND + SEAT_FEE, "bond and reward");
        vm.assertEq(court.pool(), _fraudPenalty() - 7 * JUROR_FEE - SEAT_FEE - FEES, "pool");
        address[] memory fresh = _draw(market.get(batch).round);
        _assertNew(fresh, members);
    }

    function testNeitherWins() external {
        uint64 id = _narrow(7);
        _juryVotes(id, _voteFor(batch, Verdict(7, 0, 4, 0, 1)));
        _assertStanding(id, ICourt.Standing.Falls);
        _close(id);
        _checkLargerCommittee();
    }

    function testUnavailable() external {
        uint64 id = _narrow(7);
        _juryVotes(id, _outcome(UNAVAILABLE));
        _close(id);
        _checkLargerCommittee();
    }

    function testNoJury() external {
        uint64 id = _narrow(7);
        _skip(1 hours + 1);
        court.tallyJury(id, _outcome(0));
        _close(id);
        _assertStanding(id, ICourt.Standing.None);
        _checkLargerCommittee();
    }

    function testNobodyVotes() external {
        uint64 id = _narrow(7);
        for (uint256 i; i < 2; ++i) {
            _draw(court.get(id).jury);
            _skip(10 minutes + 1);
            court.tallyJury(id, _outcome(0));
        }
        // Only one has not sat: no third jury.
        _skip(1 hours + 1);
        court.tallyJury(id, _outcome(0));
        _close(id);
        vm.assertEq(court.pool(), 22 * _absencePenalty(), "absent jurors pay");
        _checkLargerCommittee();
    }

    function testOncePerRound() external {
        uint64 id = _narrow(7);
        IEvidence.Claim memory leader = _tree(batch, 8).claimOf(6);
        IEvidence.Claim memory rival = _tree(batch, 6).claimOf(6);
        bytes memory refused = abi.encodeWithSelector(IBatchMarket.BatchMarket_NoConflict.selector, batch);
        vm.expectRevert(refused);
        court.narrow(batch, leader, rival);
        _juryVotes(id, _outcome(UNAVAILABLE));
        _close(id);
        vm.expectRevert(refused);
        court.narrow(batch, leader, rival);
        market.tally(batch, _outcome(0));
        // The larger committee disagrees too: that may be narrowed again.
        _disagree(market.get(batch).round);
        id = _narrow(7);
        vm.assertEq(rounds.get(court.get(id).jury).size, 15, "a jury of the larger committee's size");
    }

    /// Nobody narrows and nobody agrees: void, and nobody is proven wrong.
    function testConflictInTheLastRoundIsVoid() external {
        for (uint256 i; i < 2; ++i) {
            vm.warp(rounds.endsAt(market.get(batch).round) + 5 minutes + 1);
            market.tally(batch, _outcome(0));
            _disagree(market.get(batch).round);
        }
        uint64 id = _narrow(7);
        _skip(1 hours + 1);
        court.tallyJury(id, _outcome(0));
        _close(id);
        market.tally(batch, _outcome(0));
        _assertPhase(batch, IBatchMarket.Phase.Void);
        vm.assertEq(ledger.balanceOf(miner), 80_000, "the bond back");
        vm.assertEq(court.pool(), 0, "nobody is proven wrong");
        _checkCourt();
        _checkNoSeatsOpen();
    }

    function testAppeal() external {
        uint64 id = _narrow(7);
        address[] memory small = _juryVotes(id, _voteFor(batch, _tree(batch, 8).verdicts[7]));
        _appeal(id);
        vm.assertEq(ledger.heldFor(address(court)), 2 * BOND, "twice what a dispute would cost");
        _checkCourt();
        address[] memory larger = _juryVotes(id, _voteFor(batch, _tree(batch, 7).verdicts[7]));
        _close(id);
        vm.assertEq(ledger.balanceOf(appellant), 2 * BOND, "bond back");
        vm.assertEq(market.get(batch).attestation.units, 7, "the rival's");
        vm.assertEq(stake.get(small[0]).stake, 300e6 - _incoherencePenalty(), "the first jury was wrong");
        _assertPaid(larger, JUROR_FEE);
        vm.assertEq(court.pool(), 7 * _incoherencePenalty() - 15 * JUROR_FEE, "pool");
    }

    function testAppealLost() external {
        uint64 id = _narrow(7);
        Attestation memory right = _voteFor(batch, _tree(batch, 8).verdicts[7]);
        _juryVotes(id, right);
        _appeal(id);
        _juryVotes(id, right);
        _close(id);
        uint256 left = 2 * BOND - 22 * JUROR_FEE;
        vm.assertEq(ledger.balanceOf(appellant), 0, "bond lost");
        vm.assertEq(ledger.balanceOf(miner), left / 2, "the miner waited");
        vm.assertEq(court.pool(), left - left / 2, "pool");
    }

    function _tree(uint64 of_, uint256 units) private pure returns (VerdictTrees.Tree memory) {
        return VerdictTrees.plain(of_, units, COUNT);
    }

    /// Seats see `best`, `worse` and `worst` in turn, so that nobody has a quorum; `best` is the first of equals, or leads.
    function _disagree(uint64 round) private returns (address[] memory drawn) {
        drawn = _draw(round);
        Attestation[] memory votes = new Attestation[](drawn.length);
        for (uint256 i; i < votes.length; ++i) {
            votes[i] = _tree(batch, 8 - i % 3).attestationOf();
        }
        _vote(round, votes);
    }

    /// Narrows to number 7 (between `best` and `worse`) or 6 (between `best` and `worst`).
    function _narrow(uint256 index) private returns (uint64) {
        vm.prank(challenger);
        return court.narrow(batch, _tree(batch, 8).claimOf(index), _tree(batch, index).claimOf(index));
    }

    function _checkMembers(uint256 right) private view {
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(ledger.balanceOf(members[i]), i == right ? SEAT_FEE : 0, "member's fee");
            uint256 lost = i == right ? 0 : _incoherencePenalty();
            vm.assertEq(stake.get(members[i]).stake, 300e6 - lost, "member's stake");
        }
    }

    function _checkLargerCommittee() private {
        _assertPhase(batch, IBatchMarket.Phase.InRound);
        market.tally(batch, _outcome(0));
        uint64 round = market.get(batch).round;
        vm.assertEq(rounds.get(round).size, 7, "a larger committee");
        _attest(batch, _tree(batch, 8).attestationOf());
        _settle(batch);
        vm.assertEq(stake.get(members[1]).stake % 100e6, 100e6 - _incoherencePenalty(), "one loser");
        _checkCourt();
        _checkNoSeatsOpen();
    }
}
