// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRandomness} from "../../contracts/src/interfaces/IRandomness.sol";
import {IRounds} from "../../contracts/src/interfaces/IRounds.sol";
import {IVerifierStake} from "../../contracts/src/interfaces/IVerifierStake.sol";
import {Attestation} from "../../contracts/src/libraries/Types.sol";
import {Scenario} from "./support/Scenario.sol";
import {ScriptedRandomness} from "./support/ScriptedRandomness.sol";

/// The order of draws, for both kinds of tests below.
abstract contract Draws is Scenario {
    bytes32 internal constant SUBJECT = keccak256("subject");

    function _open() internal returns (uint64) {
        return _openWith(3, 0, false);
    }

    function _openWith(uint8 size, uint64 previous, bool fresh) internal returns (uint64) {
        vm.prank(address(market));
        return rounds.open(SUBJECT, size, 12, previous, fresh);
    }

    function _judge(uint64 round) internal {
        vm.prank(address(market));
        rounds.judge(round, 0);
    }

    function _drawDueError(uint64 round) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(IRounds.Rounds_DrawDue.selector, round);
    }

    /// Whatever changes a weight is refused for `reason`; what changes none is not.
    function _lotIsShut(uint64 drawn, bytes memory reason) internal {
        vm.startPrank(verifiers[0]);
        vm.expectRevert(reason);
        stake.stake(SEAT);
        vm.expectRevert(reason);
        stake.requestUnstake(1);
        vm.stopPrank();
        vm.startPrank(address(market));
        vm.expectRevert(reason);
        rounds.judge(drawn, 0);
        vm.expectRevert(reason);
        rounds.convict(drawn, ROOT);
        vm.stopPrank();
        vm.expectRevert(reason);
        rounds.settleDraws();
    }

    function _lotIsOpen(uint64 drawn) internal {
        _arm(verifiers[0], SEAT);
        vm.startPrank(verifiers[0]);
        stake.stake(SEAT);
        stake.requestUnstake(1);
        vm.stopPrank();
        vm.startPrank(address(market));
        rounds.convict(drawn, ROOT);
        rounds.judge(drawn, 0);
        vm.stopPrank();
        rounds.settleDraws();
    }

    function _in(address account, address[] memory list) internal pure returns (bool) {
        for (uint256 i; i < list.length; ++i) {
            if (list[i] == account) return true;
        }
        return false;
    }
}

/// draw, drawDue, settleDraws: one order for all draws
/// ├── a later round is not drawn before an earlier due one: that one is drawn first
/// ├── a draw that is scheduled again waits behind those whose point comes before its new one
/// ├── rounds that stalled or were judged are left out
/// ├── more than 16 due: the lot is shut        Rounds_DrawDue
/// └── no change of the lot after a value is known changes a committee
/// fresh rounds
/// ├── seat nobody who sat in the rounds before them
/// └── too few others: scheduled again
contract DrawsTest is Draws {
    /// everybody who sat in a chain of rounds
    address[] private sat;

    function setUp() external {
        _begin();
        _verifiers(6, 4 * SEAT);
    }

    function testALaterRoundDrawsTheEarlierFirst() external {
        uint64 first = _open();
        vm.roll(vm.getBlockNumber() + 1);
        uint64 second = _open();
        vm.roll(vm.getBlockNumber() + 1);
        uint64 third = _open();
        vm.assertEq(rounds.nextDraw(), first, "next");
        _reach(rounds.get(first).drawPoint);
        _reach(rounds.get(second).drawPoint);
        _reach(rounds.get(third).drawPoint);
        uint256 before = vm.snapshotState();
        rounds.draw(first);
        vm.assertEq(rounds.nextDraw(), second, "next");
        rounds.draw(second);
        bytes32 inOrder = keccak256(abi.encode(_members(first), _members(second)));
        vm.revertToState(before);

        vm.prank(stranger);
        rounds.draw(second);
        vm.assertEq(keccak256(abi.encode(_members(first), _members(second))), inOrder, "the same members");
        _assertRound(first, IRounds.Phase.Committing);
        _assertRound(third, IRounds.Phase.Drawable);
        vm.assertEq(rounds.nextDraw(), third, "no further than asked");
        vm.expectRevert(abi.encodeWithSelector(IRounds.Rounds_WrongPhase.selector, first, IRounds.Phase.Committing));
        rounds.draw(first);
        rounds.draw(third);
        vm.assertEq(rounds.nextDraw(), 0, "none");
    }

    /// Missed, the first is due at a later point: those whose point comes before it are drawn before it, and of the same
    /// point the one that was opened after it waits.
    function testScheduledAgainWaitsItsTurn() external {
        uint64 first = _open();
        vm.roll(uint256(rounds.get(first).drawPoint) + 256);
        uint64 second = _open();
        vm.roll(vm.getBlockNumber() + 1);
        rounds.draw(first);
        uint64 third = _open();
        uint64 point = rounds.get(first).drawPoint;
        vm.assertEq(point, rounds.get(third).drawPoint, "one point");
        vm.assertTrue(rounds.get(second).drawPoint < point, "an earlier one");
        vm.assertEq(rounds.nextDraw(), second, "the second is next");
        _reach(rounds.get(second).drawPoint);
        _reach(point);
        vm.assertEq(rounds.drawDue(1), 1, "one");
        _assertRound(second, IRounds.Phase.Committing);
        vm.assertEq(rounds.nextDraw(), first, "then the first");
        vm.assertEq(rounds.drawDue(1), 1, "one");
        _assertRound(first, IRounds.Phase.Committing);
        vm.assertEq(rounds.nextDraw(), third, "then the third");
        vm.assertEq(rounds.drawDue(9), 1, "and no more");
        vm.assertEq(rounds.drawDue(9), 0, "nothing is due");
    }

    /// All are missed at once: they keep their order, however often.
    function testMissedTogether() external {
        for (uint256 i; i < 4; ++i) {
            _open();
        }
        for (uint256 again; again < 3; ++again) {
            vm.roll(uint256(rounds.get(4).drawPoint) + 257);
            vm.assertEq(rounds.drawDue(3), 3, "three are scheduled again");
            vm.assertEq(rounds.nextDraw(), 4, "the fourth is not");
            vm.assertEq(rounds.drawDue(9), 1, "now it is");
            vm.assertEq(rounds.nextDraw(), 1, "in order");
        }
        _draw(4);
        for (uint64 i = 1; i < 4; ++i) {
            _assertRound(i, IRounds.Phase.Committing);
        }
    }

    /// A draw that waits for a later value holds up none whose value is there.
    function testTooFewVerifiersHoldUpNobody() external {
        uint64 large = _openWith(3, 0, false);
        vm.prank(address(court));
        uint64 jury = rounds.open(SUBJECT, 13, 1, 0, false);
        uint64 small = _open();
        _reach(rounds.get(small).drawPoint);
        rounds.draw(small);
        _assertRound(large, IRounds.Phase.Committing);
        _assertRound(jury, IRounds.Phase.AwaitingRandomness);
        _assertRound(small, IRounds.Phase.Committing);
        vm.assertEq(rounds.nextDraw(), jury, "waits for its new point");
        // Its new value is pending: nothing is due, the lot is open.
        _lotIsOpen(large);
        _staked("seventh", SEAT);
        _draw(jury);
        vm.assertEq(rounds.get(jury).seats, 7, "more than half of 13");
    }

    function testStalledAndJudgedAreLeftOut() external {
        uint64 stalled = _open();
        _skip(1 hours + 1);
        uint64 judged = _open();
        uint64 third = _open();
        _judge(judged);
        vm.assertEq(rounds.nextDraw(), judged, "the stalled one is left out; this one is in its turn");
        _reach(rounds.get(third).drawPoint);
        rounds.draw(third);
        vm.assertEq(rounds.get(stalled).seats + rounds.get(judged).seats, 0, "no members");
        _assertRound(stalled, IRounds.Phase.Stalled);
        _assertRound(judged, IRounds.Phase.Closed);
        vm.assertEq(stake.totalWeight(), 24 - 3, "three seats");
    }

    /// Sixteen draws are made on the way; the seventeenth is for whoever calls drawDue.
    function testMoreThanSixteenDue() external {
        uint64 drawn = _open();
        _draw(drawn);
        _verifiers(6, 9 * SEAT);
        for (uint256 i; i < 17; ++i) {
            _open();
        }
        _reach(rounds.get(18).drawPoint);
        _lotIsShut(drawn, _drawDueError(18));
        vm.assertEq(rounds.nextDraw(), 2, "nothing of it stayed");
        vm.assertEq(rounds.drawDue(1), 1, "one");
        _lotIsOpen(drawn);
        for (uint64 id = 2; id <= 18; ++id) {
            _assertRound(id, IRounds.Phase.Committing);
        }
    }

    /// One transaction settles a batch or makes the draws; nobody is held up for good.
    function testSettlementWaitsForTheDraws() external {
        uint64 batch = _commit(_bounty(10e6), miner, 8);
        _attest(batch, _verdict(8, 0));
        _skip(30 minutes + 1);
        for (uint256 i; i < 17; ++i) {
            _open();
        }
        _reach(rounds.get(18).drawPoint);
        vm.expectRevert(_drawDueError(18));
        market.settle(batch);
        rounds.drawDue(1);
        market.settle(batch);
    }

    /// Stalled rounds count among the sixteen, too; they cost a slot each, not a draw.
    function testManyStalledRounds() external {
        uint64 drawn = _open();
        _draw(drawn);
        for (uint256 i; i < 40; ++i) {
            _open();
        }
        _skip(1 hours + 1);
        _lotIsShut(drawn, _drawDueError(18));
        vm.assertEq(rounds.drawDue(24), 24, "left out");
        _lotIsOpen(drawn);
        vm.assertEq(rounds.nextDraw(), 0, "all left out");
    }

    /// From the moment a value is known, nobody's move changes who is drawn with it: not by new stake, by more, by less,
    /// by a settlement that frees seats or takes stake, by a conviction, nor by the order of calls.
    function testFuzz_NoMoveChangesADueCommittee(uint256 seed) external {
        uint64 batch = _commit(_bounty(10e6), miner, 8);
        _attest(batch, _verdict(8, 0));
        uint64 old = _open();
        _draw(old);
        _vote(old, _same(_verdict(9, 0), 2));
        _skip(30 minutes + 1);
        uint64 last = _openSome(seed);
        _reach(rounds.get(last).drawPoint);

        uint256 before = vm.snapshotState();
        rounds.drawDue(100);
        address[][] memory members = new address[][](last + 1);
        for (uint64 id = old + 1; id <= last; ++id) {
            members[id] = _members(id);
        }
        vm.revertToState(before);

        _move(uint256(keccak256(abi.encode(seed, "move"))), batch, old, last);
        rounds.drawDue(100);
        for (uint64 id = old + 1; id <= last; ++id) {
            vm.assertEq(_members(id), members[id], "the members that were due");
        }
    }

    /// Fresh rounds, committees and juries, seat nobody who sat in a round before them in the chain, whoever sat there
    /// twice; those others get their weight back.
    function testFuzz_FreshRoundsSeatNobodyAgain(uint256 seed) external {
        _verifiers(8, 2 * SEAT);
        uint64 round;
        for (uint256 step; step < 5; ++step) {
            round = _next(uint256(keccak256(abi.encode(seed, step))), round);
            if (rounds.get(round).drawnAt == 0) return;
        }
    }

    function testFreshCommitteeOfTheLast() external {
        uint64 first = _open();
        address[] memory members = _draw(first);
        uint64 second = _openWith(3, first, true);
        address[] memory others = _draw(second);
        for (uint256 i; i < 3; ++i) {
            vm.assertFalse(_in(others[i], members), "sat before");
        }
        // All six have sat: a third fresh committee waits, one that need not be fresh does not.
        uint64 third = _openWith(3, second, true);
        vm.assertEq(_draw(third).length, 0, "nobody is left");
        uint64 fourth = _openWith(3, second, false);
        vm.assertEq(_draw(fourth).length, 3, "the same people");
        // A chain of its own knows nothing of the others.
        vm.assertEq(_draw(_openWith(3, 0, true)).length, 3, "the same people");
        _verifiers(3, SEAT);
        others = _draw(third);
        for (uint256 i; i < 3; ++i) {
            vm.assertTrue(others[i] == verifiers[6] || others[i] == verifiers[7] || others[i] == verifiers[8], "new");
        }
    }

    /// @return last the last of 1 to 16 rounds, over one or several blocks
    function _openSome(uint256 seed) private returns (uint64 last) {
        uint256 number = 1 + seed % 16;
        for (uint256 i; i < number; ++i) {
            if ((seed >> (16 + i)) & 1 == 1) vm.roll(vm.getBlockNumber() + 1);
            last = _openWith(uint8(3 + (seed >> (32 + i)) % 2), 0, false);
        }
        for (uint64 id = 1; id <= last; ++id) {
            if (rounds.get(id).drawnAt == 0) _reach(rounds.get(id).drawPoint);
        }
    }

    function _move(uint256 dice, uint64 batch, uint64 old, uint64 last) private {
        address verifier = verifiers[(dice >> 8) % 6];
        uint256 move = dice % 9;
        if (move == 0) {
            _staked("newcomer", (1 + (dice >> 16) % 50) * SEAT);
        } else if (move == 1) {
            _arm(verifier, 50 * SEAT);
            vm.prank(verifier);
            stake.stake((1 + (dice >> 16) % 50) * SEAT);
        } else if (move == 2) {
            // It may have no free stake left once the draws are made; then it may not leave.
            vm.prank(verifier);
            try stake.requestUnstake(SEAT) {} catch {}
        } else if (move == 3) {
            market.settle(batch);
        } else if (move == 4) {
            _judge(old);
        } else if (move == 5) {
            bytes32 vote = rounds.voteOf(_verdict(9, 0));
            vm.prank(address(market));
            rounds.convict(old, vote);
        } else if (move == 6) {
            if (rounds.phaseOf(last) == IRounds.Phase.Drawable) rounds.draw(last);
        } else if (move == 7) {
            rounds.drawDue(1 + (dice >> 16) % 16);
        } else {
            rounds.settleDraws();
        }
    }

    /// Opens and draws the next round of a chain.
    function _next(uint256 dice, uint64 previous) private returns (uint64 round) {
        bool fresh = dice % 3 != 0;
        bool jury = (dice >> 8) % 2 == 0;
        uint8 size = uint8(3 + (dice >> 16) % 5);
        vm.prank(jury ? address(court) : address(market));
        round = rounds.open(SUBJECT, size, 12, previous, fresh);
        uint256 candidates = _candidates(fresh);
        address[] memory members = _draw(round);
        _lotAddsUp();
        if (candidates < (jury ? size / 2 + 1 : 3)) {
            vm.assertEq(members.length, 0, "too few others");
            return round;
        }
        vm.assertEq(members.length, candidates < size ? candidates : size, "as many as there are");
        for (uint256 i; i < members.length; ++i) {
            vm.assertFalse(fresh && _in(members[i], sat), "sat before");
        }
        for (uint256 i; i < members.length; ++i) {
            sat.push(members[i]);
        }
    }

    function _candidates(bool fresh) private view returns (uint256 number) {
        for (uint256 i; i < verifiers.length; ++i) {
            if (stake.weightOf(verifiers[i]) != 0 && !(fresh && _in(verifiers[i], sat))) ++number;
        }
    }

    function _lotAddsUp() private view {
        uint256 sum;
        uint256 eligible;
        for (uint256 i; i < verifiers.length; ++i) {
            IVerifierStake.Verifier memory seen = stake.get(verifiers[i]);
            vm.assertEq(stake.weightOf(verifiers[i]), seen.stake / SEAT - seen.openSeats, "weight");
            sum += stake.weightOf(verifiers[i]);
            if (stake.weightOf(verifiers[i]) != 0) ++eligible;
        }
        vm.assertEq(stake.totalWeight(), sum, "sum");
        vm.assertEq(stake.eligible(), eligible, "eligible");
    }
}

/// Randomness that is public before the source has it (Awaited)
/// ├── the lot is shut until it is delivered    Rounds_DrawDue
/// ├── no later round passes it                 Rounds_DrawDue
/// ├── stake that has unbonded can leave all the same
/// ├── delivered or missed: on it goes
/// └── never delivered: the round stalls, and holds up nobody
/// Assignments.open
/// └── Awaited                                  Assignments_NotReady
contract AwaitedTest is Draws {
    ScriptedRandomness private source;
    uint64 private drawn;

    function _source() internal override returns (IRandomness) {
        source = new ScriptedRandomness();
        return source;
    }

    function setUp() external {
        _begin();
        _verifiers(6, 4 * SEAT);
        drawn = _open();
        source.setStatus(1, IRandomness.Status.Ready);
        rounds.draw(drawn);
        source.setNext(2);
    }

    function testPendingShutsNothing() external {
        _open();
        _lotIsOpen(drawn);
    }

    function testAwaitedShutsTheLot() external {
        vm.prank(verifiers[1]);
        stake.requestUnstake(SEAT);
        _skip(1 days);
        uint64 round = _open();
        source.setStatus(2, IRandomness.Status.Awaited);
        _assertRound(round, IRounds.Phase.AwaitingRandomness);
        vm.expectRevert(
            abi.encodeWithSelector(IRounds.Rounds_WrongPhase.selector, round, IRounds.Phase.AwaitingRandomness)
        );
        rounds.draw(round);
        vm.assertEq(rounds.drawDue(9), 0, "not drawn without its value");
        _lotIsShut(drawn, _drawDueError(round));
        vm.assertEq(stake.claim(verifiers[1]), SEAT, "what had left the lot");

        source.setStatus(2, IRandomness.Status.Ready);
        uint256 before = vm.snapshotState();
        rounds.draw(round);
        address[] memory members = _members(round);
        vm.revertToState(before);
        _lotIsOpen(drawn);
        vm.assertEq(_members(round), members, "drawn before the lot changed");
    }

    function testNoLaterRoundPassesAnAwaitedOne() external {
        uint64 first = _open();
        source.setNext(3);
        uint64 second = _open();
        source.setStatus(2, IRandomness.Status.Awaited);
        source.setStatus(3, IRandomness.Status.Ready);
        _assertRound(second, IRounds.Phase.Drawable);
        vm.expectRevert(_drawDueError(first));
        rounds.draw(second);
        vm.assertEq(rounds.drawDue(9), 0, "nor so");
        _lotIsShut(drawn, _drawDueError(first));
        source.setNext(4);
        source.setStatus(2, IRandomness.Status.Missed);
        rounds.draw(second);
        _assertRound(second, IRounds.Phase.Committing);
        vm.assertEq(rounds.get(first).drawPoint, 4, "the first was scheduled again");
        _lotIsOpen(drawn);
    }

    /// Due ones before it are drawn, and it still shuts the lot.
    function testAwaitedBehindOthers() external {
        uint64 first = _open();
        source.setNext(3);
        uint64 second = _open();
        source.setStatus(2, IRandomness.Status.Ready);
        source.setStatus(3, IRandomness.Status.Awaited);
        _lotIsShut(drawn, _drawDueError(second));
        rounds.draw(first);
        _lotIsShut(drawn, _drawDueError(second));
    }

    function testNeverDelivered() external {
        uint64 first = _open();
        source.setStatus(2, IRandomness.Status.Awaited);
        _skip(30 minutes);
        source.setNext(3);
        uint64 second = _open();
        source.setStatus(3, IRandomness.Status.Ready);
        _skip(30 minutes);
        _lotIsShut(drawn, _drawDueError(first));
        _skip(1);
        _assertRound(first, IRounds.Phase.Stalled);
        _lotIsOpen(drawn);
        _assertRound(second, IRounds.Phase.Committing);
        // What comes too late makes no committee.
        source.setStatus(2, IRandomness.Status.Ready);
        vm.expectRevert(abi.encodeWithSelector(IRounds.Rounds_WrongPhase.selector, first, IRounds.Phase.Stalled));
        rounds.draw(first);
    }

    /// A newcomer that stakes while everybody but the chain knows the value does not get in.
    function testNewcomerWaits() external {
        uint64 round = _open();
        source.setStatus(2, IRandomness.Status.Awaited);
        address late = _actor("late");
        _arm(late, 100 * SEAT);
        vm.expectRevert(_drawDueError(round));
        vm.prank(late);
        stake.stake(100 * SEAT);
        source.setStatus(2, IRandomness.Status.Ready);
        vm.prank(late);
        stake.stake(100 * SEAT);
        vm.assertFalse(_in(late, _members(round)), "no member");
        vm.assertEq(_members(round).length, 3, "drawn before it");
    }

    function testAssignmentWaits() external {
        uint64 bounty = _bounty(1e6);
        vm.prank(miner);
        assignments.request(bounty);
        source.setStatus(2, IRandomness.Status.Awaited);
        vm.expectRevert(
            abi.encodeWithSelector(bytes4(keccak256("Assignments_NotReady(uint64,address,uint64)")), bounty, miner, 2)
        );
        assignments.open(bounty, miner);
        vm.assertEq(assignments.get(bounty, miner).point, 2, "as it was");
        source.setStatus(2, IRandomness.Status.Ready);
        assignments.open(bounty, miner);
    }
}
