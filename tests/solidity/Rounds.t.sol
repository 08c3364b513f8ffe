// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRandomness} from "../../contracts/src/interfaces/IRandomness.sol";
import {IRounds} from "../../contracts/src/interfaces/IRounds.sol";
import {IVerifierStake} from "../../contracts/src/interfaces/IVerifierStake.sol";
import {Attestation, ContentId} from "../../contracts/src/libraries/Types.sol";
import {Scenario} from "./support/Scenario.sol";
import {Vm} from "./support/Vm.sol";

/// open
/// ├── not the market, not the court            Rounds_NotOpener
/// └── numbered from 1; a jury where the court opened it
/// draw, by anybody (order, fresh rounds: Draws.t.sol)
/// ├── no such round, drawn, randomness pending,
/// │   stalled, judged                          Rounds_WrongPhase
/// ├── randomness missed, or too few verifiers: scheduled again
/// └── otherwise a committee
/// commitVerdict
/// ├── before the draw, after the window        Rounds_WrongPhase
/// ├── another's seat, no such seat             Rounds_NotYourSeat
/// ├── twice                                    Rounds_WrongSeatState
/// ├── nothing, or nothing but the last bit     Rounds_ZeroCommitment
/// └── stored with the last bit cleared; the last one begins the reveals
/// revealVerdict
/// ├── before all committed or the window ended,
/// │   after the reveal window                  Rounds_WrongPhase
/// ├── another's seat                           Rounds_NotYourSeat
/// ├── not committed, revealed before           Rounds_WrongSeatState
/// ├── anything differs from the commitment     Rounds_CommitmentMismatch
/// ├── sums over the batch, or any sums of a
/// │   whole-batch outcome                      Rounds_SumsTooLarge
/// ├── "sound" by who is no juror               Rounds_NotAVerdict
/// └── stored with the last bit set; the last one closes the round
/// convict
/// ├── not the market                           Rounds_NotAuthorized
/// ├── judged or convicted before               Rounds_AlreadyJudged
/// └── signers lose the fraud penalty, or if not guilty that of absence, and their seat; the others are judged later
/// judge
/// ├── not who opened it                        Rounds_NotAuthorized
/// ├── judged before                            Rounds_AlreadyJudged
/// └── absent < late; penalties go to the court
/// multicall: several seats in one transaction, each as its caller
contract RoundsTest is Scenario {
    bytes32 private constant SUBJECT = keccak256("subject");
    uint32 private constant UNITS = 12;
    bytes32 private constant SOUND = keccak256("tracemarket.outcome.sound");
    uint64 private round;
    uint8[5] private acts;

    function setUp() external {
        _begin();
        _verifiers(5, 2 * SEAT);
        round = _open();
    }

    function testOpenersOnly() external {
        address[3] memory others = [stranger, address(stake), address(escrow)];
        for (uint256 i; i < 3; ++i) {
            vm.startPrank(others[i]);
            vm.expectRevert(abi.encodeWithSelector(IRounds.Rounds_NotOpener.selector, others[i]));
            rounds.open(SUBJECT, 3, UNITS, 0, false);
            bytes memory reason = abi.encodeWithSelector(IRounds.Rounds_NotAuthorized.selector, others[i]);
            vm.expectRevert(reason);
            rounds.judge(round, 0);
            vm.expectRevert(reason);
            rounds.convict(round, 0, true);
            vm.stopPrank();
        }
    }

    /// Each judges its own: the market its committees, the court its juries. Only the market convicts.
    function testEachJudgesItsOwn() external {
        vm.prank(address(court));
        uint64 jury = rounds.open(SUBJECT, 3, UNITS, round, false);
        bytes memory reason = abi.encodeWithSelector(IRounds.Rounds_NotAuthorized.selector, court);
        vm.startPrank(address(court));
        vm.expectRevert(reason);
        rounds.judge(round, 0);
        vm.expectRevert(reason);
        rounds.convict(jury, 0, true);
        rounds.judge(jury, 0);
        vm.stopPrank();
        vm.startPrank(address(market));
        vm.expectRevert(abi.encodeWithSelector(IRounds.Rounds_NotAuthorized.selector, market));
        rounds.judge(jury, 0);
        rounds.judge(round, 0);
        vm.stopPrank();
    }

    function testOpen() external {
        uint64 point = randomness.nextPoint();
        vm.expectEmit(address(rounds));
        emit IRounds.RoundOpened(2, SUBJECT, 7, point);
        vm.prank(address(market));
        vm.assertEq(rounds.open(SUBJECT, 7, UNITS, 0, false), 2, "id");
        IRounds.Round memory seen = rounds.get(2);
        vm.assertFalse(seen.jury || seen.fresh, "a committee like the first");
        vm.assertEq(seen.previous, 0, "the first of its case");
        vm.assertEq(seen.subject, SUBJECT, "subject");
        vm.assertEq(seen.size, 7, "size");
        vm.assertEq(seen.maxUnits, UNITS, "units");
        vm.assertEq(seen.drawPoint, point, "point");
        vm.assertEq(rounds.count(), 2, "count");
        vm.prank(address(court));
        vm.assertEq(rounds.open(SUBJECT, 9, 1, 2, true), 3, "id");
        seen = rounds.get(3);
        vm.assertTrue(seen.jury && seen.fresh, "a jury of others");
        vm.assertEq(seen.previous, 2, "after");
        _assertRound(4, IRounds.Phase.None);
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
        (uint32[] memory leaves,) = stake.draw(value, 3, 3, new uint32[](0), false);
        address[] memory expected = new address[](3);
        for (uint256 i; i < 3; ++i) {
            expected[i] = stake.ownerOf(leaves[i]);
        }
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
        uint64 missed = rounds.get(round).drawPoint;
        _reach(missed);
        uint64 point = randomness.nextPoint();
        vm.expectEmit(address(rounds));
        emit IRounds.DrawRescheduled(round, point);
        rounds.draw(round);
        _assertRound(round, IRounds.Phase.AwaitingRandomness);
        vm.assertTrue(point > missed, "a value that nobody knows yet");
        vm.assertEq(stake.totalWeight(), 4, "nothing is locked");
        // Whoever comes now does so before the value is known.
        _staked("late verifier", SEAT);
        _draw(round);
        _assertRound(round, IRounds.Phase.Committing);
        vm.assertEq(stake.totalWeight(), 2, "a seat of each");
    }

    /// A larger committee makes do with fewer, down to a first committee's size; a jury with more than half of its own.
    function testHowFewAreEnough() external {
        vm.prank(address(market));
        uint64 large = rounds.open(SUBJECT, 7, UNITS, 0, false);
        vm.startPrank(address(court));
        uint64 ten = rounds.open(SUBJECT, 10, 1, 0, false);
        uint64 eight = rounds.open(SUBJECT, 8, 1, 0, false);
        uint64 single = rounds.open(SUBJECT, 1, 1, 0, false);
        vm.stopPrank();
        _reach(rounds.get(single).drawPoint);
        rounds.draw(large);
        vm.assertEq(rounds.get(large).seats, 5, "all there are, of seven");
        vm.assertEq(stake.eligible(), 2, "with a seat left");
        rounds.draw(single);
        _assertRound(ten, IRounds.Phase.AwaitingRandomness);
        vm.assertEq(rounds.get(eight).seats, 5, "busy or not: more than half of eight, and no more than half of ten");
        vm.assertEq(rounds.get(single).seats, 1, "a jury may be smaller than a committee");
        vm.assertEq(stake.eligible(), 2, "jurors lock no seat");
        _verifiers(1, SEAT);
        _reach(rounds.get(ten).drawPoint);
        rounds.draw(ten);
        vm.assertEq(rounds.get(ten).seats, 6, "more than half of ten");
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
        // For good: no value that comes later, or is missed, makes a committee of it.
        _reach(rounds.get(round).drawPoint);
        _wrongPhase(round, IRounds.Phase.Stalled);
        rounds.draw(round);
        vm.assertEq(rounds.drawDue(9), 1, "left out");
        vm.assertEq(rounds.nextDraw(), 0, "no draw to come");
        vm.roll(uint256(rounds.get(round).drawPoint) + 257);
        _wrongPhase(round, IRounds.Phase.Stalled);
        rounds.draw(round);
        vm.assertEq(rounds.get(round).seats, 0, "no committee");
        vm.assertEq(stake.totalWeight(), 10, "no seat is locked");
        vm.prank(address(market));
        rounds.judge(round, 0);
        _assertRound(round, IRounds.Phase.Closed);
        _wrongPhase(round, IRounds.Phase.Closed);
        rounds.draw(round);
    }

    /// Being scheduled again does not begin the timeout anew.
    function testStalledCountsFromTheOpening() external {
        uint256 opened = rounds.get(round).openedAt;
        vm.roll(uint256(rounds.get(round).drawPoint) + 257);
        vm.warp(opened + 1 hours);
        rounds.draw(round);
        _assertRound(round, IRounds.Phase.AwaitingRandomness);
        vm.warp(opened + 1 hours + 1);
        _assertRound(round, IRounds.Phase.Stalled);
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
        _expect(IRounds.Rounds_ZeroCommitment.selector);
        vm.prank(members[0]);
        rounds.commitVerdict(round, 0, bytes32(uint256(1)));

        bytes32 stored = commitment & ~bytes32(uint256(1));
        vm.expectEmit(address(rounds));
        emit IRounds.VerdictCommitted(round, members[0], 0, stored);
        vm.prank(members[0]);
        rounds.commitVerdict(round, 0, commitment);
        vm.assertEq(rounds.seatOf(round, 0).vote, stored, "last bit cleared");
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
        bytes32 hash = keccak256(abi.encode(vote.verdictRoot, vote.units, vote.faults));
        vm.assertEq(seat1.vote, hash | bytes32(uint256(1)), "vote, last bit set");
        vm.assertEq(rounds.votesFor(round, seat1.vote), 1, "counted");
        vm.assertEq(seat1.vote, rounds.voteOf(vote), "as voteOf says");
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
        bytes32 copied = rounds.commitmentOf(round, members[0], vote, _salt(round, 0)) & ~bytes32(uint256(1));
        _commitVote(round, 0, vote);
        vm.prank(members[1]);
        rounds.commitVerdict(round, 1, copied);
        _commitVote(round, 2, vote);
        bytes32 computed = rounds.commitmentOf(round, members[1], vote, _salt(round, 0)) & ~bytes32(uint256(1));
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
        rounds.judge(round, vote);
        vm.expectRevert(abi.encodeWithSelector(IRounds.Rounds_AlreadyJudged.selector, round));
        rounds.judge(round, vote);
        vm.stopPrank();
        vm.assertEq(stake.totalWeight(), 10, "all seats closed, once");
    }

    /// A withheld reveal is a choice: it costs more than absence, whatever the end.
    function testSilenceAfterCommitIsLate() external {
        bytes32[3] memory ends =
            [rounds.voteOf(_verdict(1, 0)), rounds.voteOf(Attestation(UNAVAILABLE, 0, 0)), bytes32(0)];
        for (uint256 i; i < 3; ++i) {
            uint256 before = vm.snapshotState();
            address[] memory members = _draw(round);
            for (uint8 seat; seat < 2; ++seat) {
                _commitVote(round, seat, _verdict(1, 0));
            }
            _skip(10 minutes + 1);
            _revealVote(round, 0, _verdict(1, 0));
            _skip(10 minutes + 1);
            vm.prank(address(market));
            (address[] memory coherent, uint256 slashed) = rounds.judge(round, ends[i]);
            vm.assertEq(coherent.length, i == 0 ? 1 : 0, "coherent");
            vm.assertEq(slashed, _latePenalty() + _absencePenalty(), "slashed");
            vm.assertEq(stake.get(members[0]).stake, 2 * SEAT, "of the first nothing");
            vm.assertEq(stake.get(members[1]).stake, 2 * SEAT - _latePenalty(), "of the silent one");
            vm.assertEq(stake.get(members[2]).stake, 2 * SEAT - _absencePenalty(), "of the absent one");
            vm.assertTrue(_latePenalty() > _absencePenalty(), "more");
            vm.revertToState(before);
        }
    }

    /// Only a juror is asked whether content is sound.
    function testSoundIsAJurorsAnswer() external {
        Attestation memory sound = Attestation(SOUND, 0, 0);
        vm.prank(address(court));
        uint64 jury = rounds.open(SUBJECT, 3, 1, 0, false);
        address[] memory members = _draw(round);
        for (uint8 seat; seat < 3; ++seat) {
            _commitVote(round, seat, sound);
        }
        vm.expectRevert(abi.encodeWithSelector(IRounds.Rounds_NotAVerdict.selector, SOUND));
        vm.prank(members[0]);
        rounds.revealVerdict(round, 0, sound, _salt(round, 0), ContentId(0, 0));
        _draw(jury);
        _vote(jury, _same(sound, 3));
        (bytes32 vote, uint256 votes) = rounds.leaderOf(jury);
        vm.assertEq(vote, rounds.voteOf(sound), "sound");
        vm.assertEq(votes, 3, "all of them");
    }

    function testConvict() external {
        (Attestation memory lie, address[] memory members) = _lie();
        bytes32 vote = rounds.voteOf(lie);
        vm.assertEq(rounds.payableSeats(round), 3, "before");
        vm.expectEmit(address(stake));
        emit IVerifierStake.SeatClosed(members[0], 150e6);
        vm.expectEmit(address(rounds));
        emit IRounds.SignersConvicted(round, vote, 300e6);
        vm.prank(address(market));
        vm.assertEq(rounds.convict(round, vote, true), 300e6, "a seat and a half of each");
        vm.assertEq(rounds.payableSeats(round), 1, "after");
        vm.assertEq(court.pool(), 300e6, "to the court");
        for (uint256 i; i < 2; ++i) {
            vm.assertEq(stake.get(members[i]).stake, 50e6, "what is left");
            vm.assertEq(stake.get(members[i]).openSeats, 0, "seat closed");
            vm.assertEq(stake.weightOf(members[i]), 0, "out of the lot");
        }
        vm.assertEq(stake.get(members[2]).openSeats, 1, "the third is judged later");
        vm.assertEq(stake.get(members[2]).stake, 2 * SEAT, "and lost nothing");

        vm.startPrank(address(market));
        bytes memory once = abi.encodeWithSelector(IRounds.Rounds_AlreadyJudged.selector, round);
        vm.expectRevert(once);
        rounds.convict(round, vote, true);
        (address[] memory coherent, uint256 slashed) = rounds.judge(round, rounds.voteOf(_verdict(2, 0)));
        vm.expectRevert(once);
        rounds.convict(round, vote, true);
        vm.stopPrank();
        vm.assertEq(coherent.length, 1, "who told the truth");
        vm.assertEq(coherent[0], members[2], "is paid");
        vm.assertEq(slashed, 0, "nobody pays twice");
        vm.assertEq(stake.get(members[2]).openSeats, 0, "closed");
        _checkBooks();
    }

    /// Who signed for content that a jury could not have: as for absence, and the seats close as well.
    function testConvictOfLostContent() external {
        (Attestation memory lie, address[] memory members) = _lie();
        bytes32 vote = rounds.voteOf(lie);
        vm.expectEmit(address(stake));
        emit IVerifierStake.SeatClosed(members[0], _absencePenalty());
        vm.expectEmit(address(rounds));
        emit IRounds.SignersConvicted(round, vote, 2 * _absencePenalty());
        vm.startPrank(address(market));
        vm.assertEq(rounds.convict(round, vote, false), 2 * _absencePenalty(), "as if absent");
        vm.assertEq(rounds.payableSeats(round), 1, "not payable");
        vm.assertEq(court.pool(), 2 * _absencePenalty(), "to the court");
        for (uint256 i; i < 2; ++i) {
            vm.assertEq(stake.get(members[i]).stake, 2 * SEAT - _absencePenalty(), "what is left");
            vm.assertEq(stake.get(members[i]).openSeats, 0, "seat closed");
            vm.assertEq(stake.weightOf(members[i]), 1, "a whole seat is left to draw");
        }
        vm.assertEq(stake.get(members[2]).openSeats, 1, "the third is judged later");

        // No greater conviction after it, and no pay where the vote is the final one after all.
        vm.expectRevert(abi.encodeWithSelector(IRounds.Rounds_AlreadyJudged.selector, round));
        rounds.convict(round, vote, true);
        (address[] memory coherent, uint256 slashed) = rounds.judge(round, vote);
        vm.stopPrank();
        vm.assertEq(coherent.length, 0, "nobody is paid");
        vm.assertEq(slashed, _incoherencePenalty(), "the third disagreed");
        vm.assertEq(stake.get(members[0]).stake, 2 * SEAT - _absencePenalty(), "nobody pays twice");
        _checkBooks();
    }

    function testNoConvictionOfAJudgedRound() external {
        (Attestation memory lie,) = _lie();
        bytes32 vote = rounds.voteOf(lie);
        vm.startPrank(address(market));
        rounds.judge(round, vote);
        vm.expectRevert(abi.encodeWithSelector(IRounds.Rounds_AlreadyJudged.selector, round));
        rounds.convict(round, vote, true);
        vm.stopPrank();
    }

    /// What a signer moved out of the lot is within reach until it is claimed; what its other seats stand on is not.
    function testConvictionReachesUnbondingStakeButNoOtherSeat() external {
        (Attestation memory lie, address[] memory members) = _lie();
        vm.prank(address(market));
        uint64 other = rounds.open(keccak256("other subject"), 5, UNITS, 0, false);
        _draw(other);
        _arm(members[0], 30e6);
        vm.startPrank(members[0]);
        stake.stake(30e6);
        stake.requestUnstake(30e6);
        vm.stopPrank();
        bytes32 vote = rounds.voteOf(lie);
        vm.prank(address(market));
        vm.assertEq(rounds.convict(round, vote, true), SEAT + 30e6 + SEAT, "all that can go");
        for (uint256 i; i < 2; ++i) {
            vm.assertEq(stake.get(members[i]).stake, SEAT, "the other seat is covered");
            vm.assertEq(stake.get(members[i]).openSeats, 1, "and open");
            vm.assertEq(stake.get(members[i]).unbonding, 0, "nothing leaves");
        }
        // The other round goes on as if nothing had happened, with penalties of its own.
        _vote(other, new Attestation[](0));
        vm.prank(address(market));
        (, uint256 slashed) = rounds.judge(other, 0);
        vm.assertEq(slashed, 5 * _absencePenalty(), "every one of them can pay");
        _checkBooks();
    }

    /// Whatever members did and whatever the end: who signed what fell loses the fraud penalty and is paid nothing, who is
    /// paid loses nothing, the others lose what they lose without a conviction, and no seat stays open.
    function testFuzz_NobodyIsConvictedAndPaid(uint256 seed, uint8 end) external {
        end %= 3;
        vm.startPrank(address(market));
        uint64 id = rounds.open(SUBJECT, 5, UNITS, 0, false);
        rounds.judge(round, 0);
        vm.stopPrank();
        address[] memory members = _draw(id);
        _act(id, seed);
        vm.startPrank(address(market));
        rounds.convict(id, rounds.voteOf(_verdict(0, 0)), true);
        uint256 remaining = rounds.payableSeats(id);
        (address[] memory coherent,) = rounds.judge(id, end == 2 ? bytes32(0) : rounds.voteOf(_verdict(end, 0)));
        vm.stopPrank();
        uint256 lost;
        for (uint256 i; i < 5; ++i) {
            (uint256 penalty, bool paid) = _fate(acts[i], end);
            vm.assertEq(2 * SEAT - stake.get(members[i]).stake, penalty, "penalty");
            vm.assertEq(_in(members[i], coherent), paid, "paid");
            vm.assertFalse(paid && penalty != 0, "one or the other");
            vm.assertEq(stake.get(members[i]).openSeats, 0, "closed");
            if (acts[i] != 0) --remaining;
            lost += penalty;
        }
        vm.assertEq(remaining, 0, "payable seats are those of the others");
        vm.assertEq(court.pool(), lost, "to the court");
        _checkBooks();
    }

    function testMulticall() external {
        uint64 second = _open();
        _reach(rounds.get(second).drawPoint);
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(IRounds.draw, (round));
        calls[1] = abi.encodeCall(IRounds.draw, (second));
        _multicall(stranger, calls, "");
        (uint8 seat, uint8 other) = (0, 0);
        while (rounds.seatOf(second, other).verifier != rounds.seatOf(round, seat).verifier) {
            if (++other == 3) (seat, other) = (seat + 1, 0);
        }
        address member = rounds.seatOf(round, seat).verifier;
        calls[0] = abi.encodeCall(IRounds.commitVerdict, (round, seat, ROOT));
        calls[1] = abi.encodeCall(IRounds.commitVerdict, (second, other, ROOT));
        // Whoever calls is whoever commits, and one wrong call undoes all.
        _multicall(stranger, calls, abi.encodeWithSelector(IRounds.Rounds_NotYourSeat.selector, round, seat, stranger));
        _multicall(member, calls, "");
        vm.assertEq(rounds.get(round).committed + rounds.get(second).committed, 2, "both");
        (calls[0], calls[1]) = (abi.encodeCall(IRounds.settleDraws, ()), calls[0]);
        _multicall(
            member,
            calls,
            abi.encodeWithSelector(IRounds.Rounds_WrongSeatState.selector, round, seat, IRounds.SeatState.Committed)
        );
    }

    /// Members 0 to 4 each sign what will fall (0), say otherwise (1), are absent (2) or late (3).
    function _act(uint64 id, uint256 seed) private {
        for (uint8 seat; seat < 5; ++seat) {
            acts[seat] = uint8(uint256(keccak256(abi.encode(seed, seat))) % 4);
            if (acts[seat] != 2) _commitVote(id, seat, _verdict(acts[seat], 0));
        }
        if (rounds.phaseOf(id) == IRounds.Phase.Committing) _skip(10 minutes + 1);
        for (uint8 seat; seat < 5; ++seat) {
            if (acts[seat] < 2) _revealVote(id, seat, _verdict(acts[seat], 0));
        }
        _skip(10 minutes + 1);
    }

    /// The rules once more. End 0: what fell is final after all; 1: what the others said; 2: nothing.
    function _fate(uint8 act, uint8 end) private view returns (uint256 penalty, bool paid) {
        if (act == 0) return (_fraudPenalty(), false);
        if (act == 2) return (_absencePenalty(), false);
        if (act == 3) return (_latePenalty(), false);
        return (end == 0 ? _incoherencePenalty() : 0, end == 1);
    }

    function _in(address account, address[] memory list) private pure returns (bool) {
        for (uint256 i; i < list.length; ++i) {
            if (list[i] == account) return true;
        }
        return false;
    }

    /// Two of three members say the same wrong thing.
    function _lie() private returns (Attestation memory lie, address[] memory members) {
        lie = _verdict(9, 0);
        members = _draw(round);
        Attestation[] memory votes = _same(lie, 3);
        votes[2] = _verdict(2, 0);
        _vote(round, votes);
    }

    function _multicall(address caller, bytes[] memory calls, bytes memory reason) private {
        vm.prank(caller);
        (bool success, bytes memory result) =
            address(rounds).call(abi.encodeWithSignature("multicall(bytes[])", calls));
        vm.assertEq(success, reason.length == 0, "multicall");
        if (!success) vm.assertEq(keccak256(result), keccak256(reason), "reason");
    }

    function _open() private returns (uint64) {
        vm.prank(address(market));
        return rounds.open(SUBJECT, 3, UNITS, 0, false);
    }

    function _wrongPhase(uint64 id, IRounds.Phase phase) private {
        vm.expectRevert(abi.encodeWithSelector(IRounds.Rounds_WrongPhase.selector, id, phase));
    }

    function _mismatch(Attestation memory vote, bytes32 salt) private {
        address member = rounds.seatOf(round, 0).verifier;
        bytes32 computed = rounds.commitmentOf(round, member, vote, salt) & ~bytes32(uint256(1));
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
        uint64 id = rounds.open(SUBJECT, 5, UNITS, 0, false);
        address[] memory members = _draw(id);
        Attestation[] memory votes = new Attestation[](4);
        (votes[0], votes[1]) = (_verdict(1, 0), _verdict(2, 0));
        (votes[2], votes[3]) = (Attestation(UNAVAILABLE, 0, 0), Attestation(MALFORMED, 0, 0));
        _vote(id, votes);

        vm.prank(address(market));
        (address[] memory coherent, uint256 slashed) = rounds.judge(id, finalVote);
        uint256 sum;
        for (uint256 i; i < 5; ++i) {
            vm.assertEq(stake.get(members[i]).stake, 2 * SEAT - penalties[i], "penalty");
            sum += penalties[i];
        }
        vm.assertEq(slashed, sum, "slashed");
        vm.assertEq(ledger.heldFor(address(court)), sum, "shifted to the court");
        vm.assertEq(court.pool(), sum, "into its pool");
        vm.assertEq(coherent.length, paid < 5 ? 1 : 0, "number of coherent members");
        if (paid < 5) vm.assertEq(coherent[0], members[paid], "coherent member");
        vm.revertToState(before);
    }
}
