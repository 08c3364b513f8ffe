// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRandomness} from "../../contracts/src/interfaces/IRandomness.sol";
import {IRounds} from "../../contracts/src/interfaces/IRounds.sol";
import {IVerifierStake} from "../../contracts/src/interfaces/IVerifierStake.sol";
import {Attestation, ContentId} from "../../contracts/src/libraries/Types.sol";
import {Scenario} from "./support/Scenario.sol";
import {Vm} from "./support/Vm.sol";

/// open, judge
/// ├── not the market                           Rounds_NotMarket
/// └── judged before                            Rounds_AlreadyJudged
/// draw, by anybody
/// ├── no such round, drawn, randomness pending Rounds_WrongPhase
/// ├── too few verifiers                        VerifierStake_NotEnoughVerifiers
/// ├── randomness missed: scheduled again
/// └── in time or stalled: a committee
/// commitVerdict
/// ├── before the draw, after the window        Rounds_WrongPhase
/// ├── another's seat, no such seat             Rounds_NotYourSeat
/// ├── twice                                    Rounds_WrongSeatState
/// ├── nothing                                  Rounds_ZeroCommitment
/// └── the last one begins the reveals
/// revealVerdict
/// ├── before all committed or the window ended,
/// │   after the reveal window                  Rounds_WrongPhase
/// ├── another's seat                           Rounds_NotYourSeat
/// ├── not committed, revealed before           Rounds_WrongSeatState
/// ├── anything differs from the commitment     Rounds_CommitmentMismatch
/// ├── sums over the batch, or any sums of a
/// │   whole-batch outcome                      Rounds_SumsTooLarge
/// └── the last one closes the round
contract RoundsTest is Scenario {
    bytes32 private constant SUBJECT = keccak256("subject");
    uint32 private constant UNITS = 12;
    uint64 private round;

    function setUp() external {
        _begin();
        _verifiers(5, 2 * SEAT);
        round = _open();
    }

    function testMarketOnly() external {
        bytes memory reason = abi.encodeWithSelector(IRounds.Rounds_NotMarket.selector, stranger);
        vm.startPrank(stranger);
        vm.expectRevert(reason);
        rounds.open(SUBJECT, 3, UNITS);
        vm.expectRevert(reason);
        rounds.judge(round, 0, address(escrow));
        vm.stopPrank();
    }

    function testOpen() external {
        uint64 point = randomness.nextPoint();
        vm.expectEmit(address(rounds));
        emit IRounds.RoundOpened(2, SUBJECT, 7, point);
        vm.prank(address(market));
        vm.assertEq(rounds.open(SUBJECT, 7, UNITS), 2, "id");
        IRounds.Round memory seen = rounds.get(2);
        vm.assertEq(seen.subject, SUBJECT, "subject");
        vm.assertEq(seen.size, 7, "size");
        vm.assertEq(seen.maxUnits, UNITS, "units");
        vm.assertEq(seen.drawPoint, point, "point");
        vm.assertEq(rounds.count(), 2, "count");
        _assertRound(3, IRounds.Phase.None);
    }

    function testPhasesOfAFullRound() external {
        _assertRound(round, IRounds.Phase.AwaitingRandomness);
        _reach(rounds.get(round).drawPoint);
        _assertRound(round, IRounds.Phase.Drawable);
        rounds.draw(round);
        _assertRound(round, IRounds.Phase.Committing);
        for (uint8 seat; seat < 3; ++seat) {
            _assertRound(round, IRounds.Phase.Committing);
            _commitVote(round, seat, _verdict(1, 0));
        }
        // Nobody has to wait for a window that everybody used.
        _assertRound(round, IRounds.Phase.Revealing);
        for (uint8 seat; seat < 3; ++seat) {
            _assertRound(round, IRounds.Phase.Revealing);
            _revealVote(round, seat, _verdict(1, 0));
        }
        _assertRound(round, IRounds.Phase.Closed);
        (bytes32 vote, uint256 votes) = rounds.leaderOf(round);
        vm.assertEq(vote, rounds.voteOf(_verdict(1, 0)), "leader");
        vm.assertEq(votes, 3, "votes");
    }

    function testPhasesByTheClock() external {
        _draw(round);
        uint256 drawnAt = _now();
        _commitVote(round, 0, _verdict(1, 0));
        vm.warp(drawnAt + 10 minutes);
        _assertRound(round, IRounds.Phase.Committing);
        vm.warp(drawnAt + 10 minutes + 1);
        _assertRound(round, IRounds.Phase.Revealing);
        vm.warp(drawnAt + 20 minutes);
        _assertRound(round, IRounds.Phase.Revealing);
        vm.warp(drawnAt + 20 minutes + 1);
        _assertRound(round, IRounds.Phase.Closed);
        (bytes32 vote, uint256 votes) = rounds.leaderOf(round);
        vm.assertEq(vote, bytes32(0), "no vote");
        vm.assertEq(votes, 0, "no votes");
    }

    function testNobodyCommits() external {
        _draw(round);
        _skip(10 minutes + 1);
        _assertRound(round, IRounds.Phase.Closed);
    }

    function testRevealWindowStartsAtTheLastCommit() external {
        _draw(round);
        _skip(5 minutes);
        for (uint8 seat; seat < 3; ++seat) {
            _commitVote(round, seat, _verdict(1, 0));
        }
        _skip(10 minutes);
        _assertRound(round, IRounds.Phase.Revealing);
        _skip(1);
        _assertRound(round, IRounds.Phase.Closed);
    }

    function testDraw() external {
        uint64 point = rounds.get(round).drawPoint;
        _reach(point);
        bytes32 value = keccak256(abi.encode(randomness.valueAt(point), round, SUBJECT));
        // The rounds contract asks for exactly this draw; take it on a snapshot to know the members.
        uint256 before = vm.snapshotState();
        vm.prank(address(rounds));
        address[] memory expected = stake.draw(value, 3, 3);
        vm.revertToState(before);

        vm.expectEmit(address(rounds));
        emit IRounds.RoundDrawn(round, value, expected);
        vm.prank(stranger);
        rounds.draw(round);
        vm.assertEq(_members(round), expected, "members");
        for (uint8 seat; seat < 3; ++seat) {
            vm.assertEq(uint256(rounds.seatOf(round, seat).state), uint256(IRounds.SeatState.Drawn), "state");
            vm.assertEq(stake.get(expected[seat]).openSeats, 1, "locked");
        }
        vm.assertEq(rounds.seatOf(round, 3).verifier, address(0), "no fourth seat");
    }

    /// Two rounds of one block, and two subjects, get different committees' randomness.
    function testDrawsAreApart() external {
        uint64 second = _open();
        uint64 point = rounds.get(round).drawPoint;
        vm.assertEq(rounds.get(second).drawPoint, point, "the same block");
        _reach(point);
        vm.recordLogs();
        rounds.draw(round);
        rounds.draw(second);
        bytes32[2] memory values;
        uint256 found;
        bytes32 topic = IRounds.RoundDrawn.selector;
        for (uint256 i; i < 2; ++i) {
            values[i] = keccak256(abi.encode(randomness.valueAt(point), i + 1, SUBJECT));
        }
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] != topic) continue;
            (bytes32 value,) = abi.decode(logs[i].data, (bytes32, address[]));
            vm.assertEq(value, values[found++], "value");
        }
        vm.assertEq(found, 2, "two draws");
        vm.assertTrue(values[0] != values[1], "different");
    }

    function testDrawErrors() external {
        _wrongPhase(round, IRounds.Phase.AwaitingRandomness);
        rounds.draw(round);
        vm.roll(rounds.get(round).drawPoint);
        _wrongPhase(round, IRounds.Phase.AwaitingRandomness);
        rounds.draw(round);
        _draw(round);
        _wrongPhase(round, IRounds.Phase.Committing);
        rounds.draw(round);
        _wrongPhase(9, IRounds.Phase.None);
        rounds.draw(9);
    }

    function testDrawWaitsForVerifiers() external {
        for (uint256 i; i < 3; ++i) {
            vm.prank(verifiers[i]);
            stake.requestUnstake(2 * SEAT);
        }
        _reach(rounds.get(round).drawPoint);
        vm.expectRevert(abi.encodeWithSelector(IVerifierStake.VerifierStake_NotEnoughVerifiers.selector, 2, 3));
        rounds.draw(round);
        _assertRound(round, IRounds.Phase.Drawable);
        _staked("late verifier", SEAT);
        rounds.draw(round);
        _assertRound(round, IRounds.Phase.Committing);
    }

    function testMissedRandomnessIsScheduledAgain() external {
        uint64 missed = rounds.get(round).drawPoint;
        vm.roll(uint256(missed) + 257);
        vm.assertEq(uint256(randomness.statusOf(missed)), uint256(IRandomness.Status.Missed), "missed");
        uint64 point = randomness.nextPoint();
        vm.expectEmit(address(rounds));
        emit IRounds.DrawRescheduled(round, point);
        rounds.draw(round);
        _assertRound(round, IRounds.Phase.AwaitingRandomness);
        vm.assertEq(rounds.get(round).seats, 0, "no members from a missed value");
        _draw(round);
        _assertRound(round, IRounds.Phase.Committing);
    }

    function testStalled() external {
        uint256 opened = rounds.get(round).openedAt;
        vm.warp(opened + 1 hours);
        _assertRound(round, IRounds.Phase.AwaitingRandomness);
        vm.warp(opened + 1 hours + 1);
        _assertRound(round, IRounds.Phase.Stalled);
        _wrongPhase(round, IRounds.Phase.Stalled);
        rounds.draw(round);
        // Late is better than never, also after a missed point.
        vm.roll(uint256(rounds.get(round).drawPoint) + 257);
        rounds.draw(round);
        _assertRound(round, IRounds.Phase.Stalled);
        _draw(round);
        _assertRound(round, IRounds.Phase.Committing);
    }

    function testCommitErrors() external {
        bytes32 commitment = keccak256("commitment");
        _wrongPhase(round, IRounds.Phase.AwaitingRandomness);
        rounds.commitVerdict(round, 0, commitment);

        address[] memory members = _draw(round);
        vm.expectRevert(abi.encodeWithSelector(IRounds.Rounds_NotYourSeat.selector, round, 1, members[0]));
        vm.prank(members[0]);
        rounds.commitVerdict(round, 1, commitment);
        vm.expectRevert(abi.encodeWithSelector(IRounds.Rounds_NotYourSeat.selector, round, 3, members[0]));
        vm.prank(members[0]);
        rounds.commitVerdict(round, 3, commitment);
        _expect(IRounds.Rounds_ZeroCommitment.selector);
        vm.prank(members[0]);
        rounds.commitVerdict(round, 0, 0);

        vm.expectEmit(address(rounds));
        emit IRounds.VerdictCommitted(round, members[0], 0, commitment);
        vm.prank(members[0]);
        rounds.commitVerdict(round, 0, commitment);
        vm.expectRevert(
            abi.encodeWithSelector(
                IRounds.Rounds_WrongSeatState.selector, round, 0, IRounds.SeatState.Committed
            )
        );
        vm.prank(members[0]);
        rounds.commitVerdict(round, 0, keccak256("changed its mind"));

        _skip(10 minutes + 1);
        _wrongPhase(round, IRounds.Phase.Revealing);
        vm.prank(members[1]);
        rounds.commitVerdict(round, 1, commitment);
    }

    function testReveal() external {
        address[] memory members = _draw(round);
        Attestation memory vote = _verdict(5, 2);
        for (uint8 seat; seat < 3; ++seat) {
            _commitVote(round, seat, vote);
        }
        vm.expectEmit(address(rounds));
        emit IRounds.VerdictRevealed(round, members[1], 1, vote, ContentId(keccak256("verdicts"), RAW));
        _revealVote(round, 1, vote);
        IRounds.Seat memory seat1 = rounds.seatOf(round, 1);
        vm.assertEq(uint256(seat1.state), uint256(IRounds.SeatState.Revealed), "state");
        vm.assertEq(seat1.vote, keccak256(abi.encode(vote.verdictRoot, vote.units, vote.faults)), "vote");
    }

    function testRevealErrors() external {
        address[] memory members = _draw(round);
        Attestation memory vote = _verdict(5, 2);
        ContentId memory none;
        _commitVote(round, 0, vote);
        _wrongPhase(round, IRounds.Phase.Committing);
        vm.prank(members[0]);
        rounds.revealVerdict(round, 0, vote, _salt(round, 0), none);
        _commitVote(round, 1, vote);
        _skip(10 minutes + 1);

        vm.expectRevert(abi.encodeWithSelector(IRounds.Rounds_NotYourSeat.selector, round, 0, members[1]));
        vm.prank(members[1]);
        rounds.revealVerdict(round, 0, vote, _salt(round, 0), none);
        vm.expectRevert(
            abi.encodeWithSelector(IRounds.Rounds_WrongSeatState.selector, round, 2, IRounds.SeatState.Drawn)
        );
        vm.prank(members[2]);
        rounds.revealVerdict(round, 2, vote, _salt(round, 2), none);

        _mismatch(vote, keccak256("another salt"));
        _mismatch(_verdict(5, 3), _salt(round, 0));
        _mismatch(Attestation(vote.verdictRoot, 6, 2), _salt(round, 0));
        _mismatch(Attestation(keccak256("another root"), 5, 2), _salt(round, 0));

        _revealVote(round, 0, vote);
        vm.expectRevert(
            abi.encodeWithSelector(
                IRounds.Rounds_WrongSeatState.selector, round, 0, IRounds.SeatState.Revealed
            )
        );
        vm.prank(members[0]);
        rounds.revealVerdict(round, 0, vote, _salt(round, 0), none);
        _skip(10 minutes);
        _wrongPhase(round, IRounds.Phase.Closed);
        vm.prank(members[1]);
        rounds.revealVerdict(round, 1, vote, _salt(round, 1), none);
    }

    /// Another's commitment is worthless: it binds the verifier.
    function testCopiedCommitmentCannotBeOpened() external {
        address[] memory members = _draw(round);
        Attestation memory vote = _verdict(5, 2);
        bytes32 copied = rounds.commitmentOf(round, members[0], vote, _salt(round, 0));
        _commitVote(round, 0, vote);
        vm.prank(members[1]);
        rounds.commitVerdict(round, 1, copied);
        _commitVote(round, 2, vote);
        bytes32 computed = rounds.commitmentOf(round, members[1], vote, _salt(round, 0));
        vm.expectRevert(abi.encodeWithSelector(IRounds.Rounds_CommitmentMismatch.selector, copied, computed));
        vm.prank(members[1]);
        rounds.revealVerdict(round, 1, vote, _salt(round, 0), ContentId(0, 0));
    }

    function testSumsMustFitTheBatch() external {
        Attestation[4] memory bad = [
            _verdict(UNITS, 1),
            _verdict(type(uint32).max, type(uint32).max),
            Attestation(UNAVAILABLE, 1, 0),
            Attestation(MALFORMED, 0, 1)
        ];
        uint256[4] memory sums = [uint256(UNITS) + 1, 2 * uint256(type(uint32).max), 1, 1];
        uint32[4] memory limits = [UNITS, UNITS, 0, 0];
        for (uint256 i; i < 4; ++i) {
            uint256 before = vm.snapshotState();
            address[] memory members = _draw(round);
            for (uint8 seat; seat < 3; ++seat) {
                _commitVote(round, seat, bad[i]);
            }
            vm.expectRevert(abi.encodeWithSelector(IRounds.Rounds_SumsTooLarge.selector, sums[i], limits[i]));
            vm.prank(members[0]);
            rounds.revealVerdict(round, 0, bad[i], _salt(round, 0), ContentId(0, 0));
            vm.revertToState(before);
        }
        _draw(round);
        _vote(round, _same(_verdict(UNITS - 1, 1), 3));
        _assertRound(round, IRounds.Phase.Closed);
    }

    function testLeaderIsTheFirstOfEquals() external {
        _draw(round);
        Attestation[] memory votes = new Attestation[](3);
        (votes[0], votes[1], votes[2]) = (_verdict(1, 0), _verdict(2, 0), _verdict(3, 0));
        _vote(round, votes);
        (bytes32 vote, uint256 number) = rounds.leaderOf(round);
        vm.assertEq(vote, rounds.voteOf(votes[0]), "first");
        vm.assertEq(number, 1, "one each");
    }

    /// What is committed and not revealed is no vote, even where its commitment looks like one.
    function testUnrevealedIsNoVote() external {
        address[] memory members = _draw(round);
        bytes32 vote = rounds.voteOf(_verdict(1, 0));
        for (uint8 seat; seat < 2; ++seat) {
            vm.prank(members[seat]);
            rounds.commitVerdict(round, seat, vote);
        }
        _commitVote(round, 2, _verdict(7, 0));
        _revealVote(round, 2, _verdict(7, 0));
        (bytes32 leader, uint256 votes) = rounds.leaderOf(round);
        vm.assertEq(leader, rounds.voteOf(_verdict(7, 0)), "the only one");
        vm.assertEq(votes, 1, "votes");
    }

    /// Every kind of member against every kind of end: who is paid, who loses what.
    function testPenalties() external {
        bytes32 verdict = rounds.voteOf(_verdict(1, 0));
        bytes32 unavailable = rounds.voteOf(Attestation(UNAVAILABLE, 0, 0));
        bytes32 malformed = rounds.voteOf(Attestation(MALFORMED, 0, 0));
        uint256 absent = _absencePenalty();
        uint256 wrong = _incoherencePenalty();
        // Members: the verdict, another one, unavailable, malformed, absent.
        _checkPenalties(verdict, [uint256(0), wrong, absent, wrong, absent], 0);
        _checkPenalties(unavailable, [uint256(0), 0, 0, 0, absent], 2);
        _checkPenalties(malformed, [wrong, wrong, absent, 0, absent], 3);
        _checkPenalties(bytes32(0), [uint256(0), 0, 0, 0, absent], type(uint256).max);
        _checkPenalties(keccak256("a vote of a later round"), [wrong, wrong, absent, wrong, absent], type(uint256).max);
    }

    function testJudgeOnce() external {
        _draw(round);
        _vote(round, _same(_verdict(1, 0), 3));
        bytes32 vote = rounds.voteOf(_verdict(1, 0));
        vm.startPrank(address(market));
        rounds.judge(round, vote, address(escrow));
        vm.expectRevert(abi.encodeWithSelector(IRounds.Rounds_AlreadyJudged.selector, round));
        rounds.judge(round, vote, address(escrow));
        vm.stopPrank();
        vm.assertEq(stake.totalWeight(), 10, "all seats closed, once");
    }

    /// A member that committed and kept silent is as absent as one that never came.
    function testSilenceAfterCommitIsAbsence() external {
        address[] memory members = _draw(round);
        for (uint8 seat; seat < 3; ++seat) {
            _commitVote(round, seat, _verdict(1, 0));
        }
        _revealVote(round, 0, _verdict(1, 0));
        _revealVote(round, 1, _verdict(1, 0));
        _skip(10 minutes + 1);
        bytes32 vote = rounds.voteOf(_verdict(1, 0));
        vm.prank(address(market));
        (address[] memory coherent, uint256 slashed) = rounds.judge(round, vote, address(escrow));
        vm.assertEq(coherent.length, 2, "coherent");
        vm.assertEq(slashed, _absencePenalty(), "slashed");
        vm.assertEq(stake.get(members[2]).stake, 2 * SEAT - _absencePenalty(), "of the silent one");
    }

    function _open() private returns (uint64) {
        vm.prank(address(market));
        return rounds.open(SUBJECT, 3, UNITS);
    }

    function _wrongPhase(uint64 id, IRounds.Phase phase) private {
        vm.expectRevert(abi.encodeWithSelector(IRounds.Rounds_WrongPhase.selector, id, phase));
    }

    function _mismatch(Attestation memory vote, bytes32 salt) private {
        address member = rounds.seatOf(round, 0).verifier;
        bytes32 computed = rounds.commitmentOf(round, member, vote, salt);
        vm.expectRevert(
            abi.encodeWithSelector(
                IRounds.Rounds_CommitmentMismatch.selector, rounds.seatOf(round, 0).vote, computed
            )
        );
        vm.prank(member);
        rounds.revealVerdict(round, 0, vote, salt, ContentId(0, 0));
    }

    function _checkPenalties(bytes32 finalVote, uint256[5] memory penalties, uint256 paid) private {
        uint256 before = vm.snapshotState();
        vm.prank(address(market));
        uint64 id = rounds.open(SUBJECT, 5, UNITS);
        address[] memory members = _draw(id);
        Attestation[] memory votes = new Attestation[](4);
        (votes[0], votes[1]) = (_verdict(1, 0), _verdict(2, 0));
        (votes[2], votes[3]) = (Attestation(UNAVAILABLE, 0, 0), Attestation(MALFORMED, 0, 0));
        _vote(id, votes);

        vm.prank(address(market));
        (address[] memory coherent, uint256 slashed) = rounds.judge(id, finalVote, address(escrow));
        uint256 sum;
        for (uint256 i; i < 5; ++i) {
            vm.assertEq(stake.get(members[i]).stake, 2 * SEAT - penalties[i], "penalty");
            sum += penalties[i];
        }
        vm.assertEq(slashed, sum, "slashed");
        vm.assertEq(ledger.heldFor(address(escrow)), sum, "shifted");
        vm.assertEq(coherent.length, paid < 5 ? 1 : 0, "number of coherent members");
        if (paid < 5) vm.assertEq(coherent[0], members[paid], "coherent member");
        vm.revertToState(before);
    }
}
