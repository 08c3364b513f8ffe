// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IVerifierStake} from "../../contracts/src/interfaces/IVerifierStake.sol";
import {Parameters, Permit} from "../../contracts/src/libraries/Types.sol";
import {Scenario} from "./support/Scenario.sol";

/// constructor
/// └── no stake for a seat                      VerifierStake_InvalidParameters
/// stake, stakeWithPermit
/// ├── nothing                                  VerifierStake_ZeroAmount
/// ├── too little for a seat                    VerifierStake_BelowSeatStake
/// ├── more seats than the lot can count        VerifierStake_TooManySeats
/// ├── draws are due that can't be made         Rounds_DrawDue (Draws.t.sol)
/// └── weight is whole seats, less the open ones
/// requestUnstake
/// ├── nothing                                  VerifierStake_ZeroAmount
/// ├── more than is free of open seats          VerifierStake_InsufficientFreeStake
/// ├── draws are due that can't be made         Rounds_DrawDue (Draws.t.sol)
/// └── out of the lot at once; a second request restarts the clock
/// claim, by anybody
/// ├── nothing asked for                        VerifierStake_NothingUnbonding
/// └── before its time                          VerifierStake_StillUnbonding
/// draw
/// ├── not rounds                               VerifierStake_NotRounds
/// ├── too few verifiers, or too few that are not excluded: nobody, and nothing changes
/// ├── different members by weight, none of the excluded, a seat of each locked
/// ├── jurors by all their stake, also where every seat is busy; nothing is locked
/// └── a seat more or less moves few of them
/// closeSeats
/// ├── not rounds                               VerifierStake_NotRounds
/// ├── a penalty takes free stake, then what is unbonding, and never what other open seats stand on
/// ├── a juror's takes those too, last; seats that are no longer covered close all the same
/// └── penalties go to the beneficiary, at most what there is; weight follows what is left
contract VerifierStakeTest is Scenario {
    function setUp() external {
        _begin();
    }

    function testConstructor() external {
        Parameters memory parameters = _parameters();
        parameters.seatStake = 0;
        _expect(IVerifierStake.VerifierStake_InvalidParameters.selector);
        this.create("VerifierStake.sol:VerifierStake", abi.encode(ledger, rounds, parameters));
    }

    function testStake() external {
        address verifier = _actor("verifier");
        _arm(verifier, 10 * SEAT);
        vm.assertEq(stake.weightOf(verifier), 0, "unknown");
        vm.expectEmit(address(stake));
        emit IVerifierStake.Staked(verifier, SEAT);
        vm.prank(verifier);
        stake.stake(SEAT);
        verifiers.push(verifier);
        _check(verifier, SEAT, 0, 1);
        vm.assertEq(stake.eligible(), 1, "eligible");

        // Parts of a seat count for nothing until they are whole.
        vm.prank(verifier);
        stake.stake(SEAT - 1);
        _check(verifier, 2 * SEAT - 1, 0, 1);
        vm.prank(verifier);
        stake.stake(1);
        _check(verifier, 2 * SEAT, 0, 2);
        vm.assertEq(stake.get(verifier).leaf, 1, "one leaf for good");
        vm.assertEq(stake.eligible(), 1, "still one verifier");
        accounts.push(verifier);
        _checkBooks();
    }

    function testStakeErrors() external {
        address verifier = _actor("verifier");
        _arm(verifier, SEAT);
        _expect(IVerifierStake.VerifierStake_ZeroAmount.selector);
        vm.prank(verifier);
        stake.stake(0);
        vm.expectRevert(
            abi.encodeWithSelector(IVerifierStake.VerifierStake_BelowSeatStake.selector, SEAT - 1, SEAT)
        );
        vm.prank(verifier);
        stake.stake(SEAT - 1);
        Permit memory permit;
        vm.expectRevert(abi.encodeWithSelector(IVerifierStake.VerifierStake_BelowSeatStake.selector, 1, SEAT));
        vm.prank(verifier);
        stake.stakeWithPermit(1, permit);
        vm.assertEq(stake.totalWeight(), 0, "nothing staked");
    }

    function testStakeWithPermit() external {
        address verifier = _actor("verifier");
        token.mint(verifier, SEAT);
        Permit memory permit = _permitOf(verifier, "verifier", SEAT);
        token.permit(verifier, address(ledger), permit.value, permit.deadline, permit.v, permit.r, permit.s);
        vm.prank(verifier);
        stake.stakeWithPermit(SEAT, permit);
        _check(verifier, SEAT, 0, 1);
    }

    function testUnstake() external {
        address verifier = _staked("verifier", 3 * SEAT);
        uint256 due = _now() + 1 days;
        vm.expectEmit(address(stake));
        emit IVerifierStake.UnstakeRequested(verifier, SEAT + 1, due);
        vm.prank(verifier);
        stake.requestUnstake(SEAT + 1);
        _check(verifier, 2 * SEAT - 1, SEAT + 1, 1);
        _checkBooks();

        vm.warp(due - 1);
        vm.expectRevert(
            abi.encodeWithSelector(IVerifierStake.VerifierStake_StillUnbonding.selector, due, due - 1)
        );
        stake.claim(verifier);
        vm.warp(due);
        vm.expectEmit(address(stake));
        emit IVerifierStake.Unstaked(verifier, SEAT + 1);
        vm.prank(stranger);
        vm.assertEq(stake.claim(verifier), SEAT + 1, "amount");
        vm.assertEq(ledger.balanceOf(verifier), SEAT + 1, "to the verifier, whoever calls");
        _check(verifier, 2 * SEAT - 1, 0, 1);

        // The rest of a seat, and the seat, leave too; the last one makes it ineligible.
        vm.prank(verifier);
        stake.requestUnstake(2 * SEAT - 1);
        vm.assertEq(stake.eligible(), 0, "out of the lot");
        _skip(1 days);
        stake.claim(verifier);
        vm.assertEq(ledger.heldFor(address(stake)), 0, "all gone");
        _checkBooks();
    }

    function testSecondRequestRestartsTheClock() external {
        address verifier = _staked("verifier", 3 * SEAT);
        vm.prank(verifier);
        stake.requestUnstake(SEAT);
        _skip(1 days - 1);
        vm.prank(verifier);
        stake.requestUnstake(1);
        _skip(1);
        vm.expectRevert(
            abi.encodeWithSelector(
                IVerifierStake.VerifierStake_StillUnbonding.selector, _now() + 1 days - 1, _now()
            )
        );
        stake.claim(verifier);
        _skip(1 days - 1);
        vm.assertEq(stake.claim(verifier), SEAT + 1, "both");
    }

    function testUnstakeErrors() external {
        address verifier = _staked("verifier", 2 * SEAT);
        _expect(IVerifierStake.VerifierStake_ZeroAmount.selector);
        vm.prank(verifier);
        stake.requestUnstake(0);
        vm.expectRevert(
            abi.encodeWithSelector(
                IVerifierStake.VerifierStake_InsufficientFreeStake.selector, 2 * SEAT, 2 * SEAT + 1
            )
        );
        vm.prank(verifier);
        stake.requestUnstake(2 * SEAT + 1);
        vm.expectRevert(
            abi.encodeWithSelector(IVerifierStake.VerifierStake_InsufficientFreeStake.selector, 0, 1)
        );
        vm.prank(stranger);
        stake.requestUnstake(1);
        vm.expectRevert(
            abi.encodeWithSelector(
                IVerifierStake.VerifierStake_InsufficientFreeStake.selector, 2 * SEAT, uint256(1) << 96
            )
        );
        vm.prank(verifier);
        stake.requestUnstake(uint256(1) << 96);
        vm.expectRevert(abi.encodeWithSelector(IVerifierStake.VerifierStake_NothingUnbonding.selector, verifier));
        stake.claim(verifier);
    }

    function testOpenSeatsLockTheirStake() external {
        address verifier = _staked("verifier", 2 * SEAT + 5);
        uint32[] memory members = _drawAs(keccak256("r"), 1, 1);
        vm.assertEq(stake.ownerOf(members[0]), verifier, "the only one");
        _check(verifier, 2 * SEAT + 5, 0, 1);
        vm.expectRevert(
            abi.encodeWithSelector(
                IVerifierStake.VerifierStake_InsufficientFreeStake.selector, SEAT + 5, SEAT + 6
            )
        );
        vm.prank(verifier);
        stake.requestUnstake(SEAT + 6);
        vm.prank(verifier);
        stake.requestUnstake(SEAT + 5);
        _check(verifier, SEAT, SEAT + 5, 0);
        vm.assertEq(stake.eligible(), 0, "no free seat");
        // What was claimed is out of a penalty's reach.
        _skip(1 days);
        stake.claim(verifier);
        vm.expectEmit(address(stake));
        emit IVerifierStake.SeatClosed(verifier, SEAT);
        vm.assertEq(_closeAs(members, SEAT), SEAT, "all of the seat");
        _check(verifier, 0, 0, 0);
        _checkHeld(0, SEAT);
    }

    function testDrawErrors() external {
        _verifiers(2, SEAT);
        vm.expectRevert(abi.encodeWithSelector(IVerifierStake.VerifierStake_NotRounds.selector, stranger));
        vm.prank(stranger);
        stake.draw(0, 1, 1, new uint32[](0), false);
        vm.assertEq(_drawAs(0, 3, 3).length, 0, "two are too few");
        vm.assertEq(stake.totalWeight(), 2, "nothing is locked");
        vm.assertEq(stake.eligible(), 2, "nor counted");
        // One verifier with many seats is still one verifier.
        _staked("whale", 50 * SEAT);
        vm.assertEq(_drawAs(0, 3, 3).length, 3, "three");
        vm.assertEq(_drawAs(0, 3, 3).length, 0, "the whale alone");
        vm.assertEq(stake.totalWeight(), 49, "as it was");
    }

    /// Excluded verifiers count for nothing: not among those there must be, not as members. Afterwards they weigh what
    /// they weighed, also where one is named twice or has no free seat.
    function testFuzz_NoneOfTheExcludedIsDrawn(bytes32 randomness_, uint256 mask, uint256 seats, uint256 size)
        external
    {
        for (uint256 i; i < 9; ++i) {
            _staked(string.concat("verifier ", vm.toString(i)), (1 + uint256(keccak256(abi.encode(seats, i))) % 4) * SEAT);
        }
        // Some have open seats, and those of one seat no free one.
        _drawAs(keccak256(abi.encode(randomness_)), seats % 4, 0);
        uint32[] memory excluded = new uint32[](2 * 9);
        uint256 listed;
        uint256 candidates;
        uint256[] memory before = new uint256[](9);
        for (uint32 i; i < 9; ++i) {
            before[i] = stake.weightOf(verifiers[i]);
            if (mask >> i & 1 == 0) {
                if (before[i] != 0) ++candidates;
                continue;
            }
            excluded[listed++] = i;
            if (mask >> (9 + i) & 1 == 1) excluded[listed++] = i;
        }
        assembly ("memory-safe") {
            mstore(excluded, listed)
        }
        size = _bound(size, 1, 9);
        uint256 least = (size + 1) / 2;
        vm.prank(address(rounds));
        (uint32[] memory members,) = stake.draw(randomness_, size, least, excluded, false);
        uint256 expected = candidates < least ? 0 : candidates < size ? candidates : size;
        vm.assertEq(members.length, expected, "as many as there are");
        for (uint256 i; i < members.length; ++i) {
            vm.assertTrue(mask >> members[i] & 1 == 0, "an excluded member");
            --before[members[i]];
        }
        for (uint256 i; i < 9; ++i) {
            vm.assertEq(stake.weightOf(verifiers[i]), before[i], "weight");
        }
        _checkLot();
    }

    function testDrawTakesAllWhereMoreAreAskedFor() external {
        _verifiers(4, SEAT);
        vm.assertEq(_drawAs(0, 9, 3).length, 4, "all there are");
        vm.assertEq(stake.totalWeight(), 0, "every seat open");
        vm.assertEq(stake.eligible(), 0, "nobody left");
    }

    /// Without replacement whatever the randomness and the stakes: members differ, and each loses one free seat.
    function testFuzz_DrawIsWithoutReplacement(bytes32 randomness_, uint256 seats, uint256 size) external {
        size = _bound(size, 1, 9);
        uint256 total;
        for (uint256 i; i < 9; ++i) {
            // One in three has a single seat, the others up to a thousand.
            uint256 own = 1 + (uint256(keccak256(abi.encode(seats, i))) % 3) * (seats % 500);
            _staked(string.concat("verifier ", vm.toString(i)), own * SEAT);
            total += own;
        }
        uint256[] memory before = new uint256[](9);
        for (uint256 i; i < 9; ++i) {
            before[i] = stake.weightOf(verifiers[i]);
        }
        uint32[] memory members = _drawAs(randomness_, size, size);
        vm.assertEq(members.length, size, "size");
        vm.assertEq(stake.totalWeight(), total - size, "a seat of each is locked");
        for (uint256 i; i < 9; ++i) {
            uint256 times;
            for (uint256 j; j < size; ++j) {
                if (stake.ownerOf(members[j]) == verifiers[i]) ++times;
            }
            vm.assertLe(times, 1, "drawn twice");
            vm.assertEq(stake.get(verifiers[i]).openSeats, times, "open seats");
            vm.assertEq(stake.weightOf(verifiers[i]), before[i] - times, "weight");
        }
    }

    /// 1,000 first seats over stakes of 1..8 seats: Pearson's statistic with 7 degrees of freedom stays under its 99.9%
    /// point, 24.3. The randomness is fixed, so the outcome is too.
    function testDrawFollowsStake() external {
        for (uint256 i; i < 8; ++i) {
            _staked(string.concat("verifier ", vm.toString(i)), (i + 1) * SEAT);
        }
        uint256[] memory hits = new uint256[](8);
        for (uint256 i; i < 1_000; ++i) {
            uint32[] memory members = _drawAs(keccak256(abi.encode(i)), 1, 1);
            ++hits[members[0]];
            _closeAs(members, 0);
        }
        uint256 statistic;
        for (uint256 i; i < 8; ++i) {
            uint256 expected = 1_000 * (i + 1) * 1_000 / 36;
            uint256 gap = hits[i] * 1_000 > expected ? hits[i] * 1_000 - expected : expected - hits[i] * 1_000;
            statistic += gap * gap / expected;
        }
        vm.assertLe(statistic, 24_300, "chi square, thousandths");
    }

    /// Whoever could change the lot once a value is known must not get a new committee for every change it tries. (It
    /// can't: the draw comes first. This is the second line.) A seat more on a hundred moves a ticket by at most one seat,
    /// over a border between twenty verifiers of five one time in ten.
    function testLateStakeDoesNotDealAnew() external {
        _verifiers(20, 5 * SEAT);
        uint256 moved;
        for (uint256 i; i < 100; ++i) {
            uint256 before = vm.snapshotState();
            uint32[] memory members = _drawAs(bytes32(i), 3, 3);
            vm.revertToState(before);
            before = vm.snapshotState();
            _staked("late verifier", SEAT);
            if (keccak256(abi.encode(_drawAs(bytes32(i), 3, 3))) != keccak256(abi.encode(members))) ++moved;
            vm.revertToState(before);
        }
        vm.assertLe(moved, 50, "committees moved by one seat of stake");
    }

    function testCloseSeats() external {
        address verifier = _staked("verifier", 2 * SEAT);
        uint32[] memory members = _drawAs(0, 1, 1);
        vm.expectRevert(abi.encodeWithSelector(IVerifierStake.VerifierStake_NotRounds.selector, stranger));
        vm.prank(stranger);
        stake.closeSeats(members, new uint256[](1), address(escrow), false);

        vm.assertEq(_closeAs(members, 1), 1, "slashed");
        // One unit short of two seats.
        _check(verifier, 2 * SEAT - 1, 0, 1);
        _checkHeld(2 * SEAT - 1, 1);
        members = _drawAs(0, 1, 1);
        vm.assertEq(_closeAs(members, 0), 0, "no penalty");
        _check(verifier, 2 * SEAT - 1, 0, 1);
    }

    /// A penalty above the seat's stake: first all that no other seat stands on, then what is unbonding.
    function testPenaltyReachesFreeAndUnbondingStake() external {
        address verifier = _staked("verifier", 4 * SEAT);
        uint32[] memory members = _drawAs(0, 1, 1);
        _drawAs(0, 1, 1);
        vm.prank(verifier);
        stake.requestUnstake(SEAT + 10);
        _check(verifier, 3 * SEAT - 10, SEAT + 10, 0);
        // Of its stake one seat must stay behind the other seat: 2 SEAT - 10 can go, the rest comes from what is leaving.
        vm.expectEmit(address(stake));
        emit IVerifierStake.SeatClosed(verifier, 2 * SEAT + 5);
        vm.assertEq(_closeAs(members, 2 * SEAT + 5), 2 * SEAT + 5, "slashed in full");
        _check(verifier, SEAT, SEAT - 5, 0);
        vm.assertEq(stake.get(verifier).openSeats, 1, "the other seat is covered");
        _checkHeld(2 * SEAT - 5, 2 * SEAT + 5);
        _skip(1 days);
        vm.assertEq(stake.claim(verifier), SEAT - 5, "what is left of it");
    }

    /// Who has less than the penalty loses all of that, and no seat of another round.
    function testPenaltyTakesAtMostWhatThereIs() external {
        address verifier = _staked("verifier", 2 * SEAT + 7);
        uint32[] memory members = _drawAs(0, 1, 1);
        _drawAs(0, 1, 1);
        vm.prank(verifier);
        stake.requestUnstake(7);
        vm.expectEmit(address(stake));
        emit IVerifierStake.SeatClosed(verifier, SEAT + 7);
        vm.assertEq(_closeAs(members, 9 * SEAT), SEAT + 7, "all that is not behind the other seat");
        _check(verifier, SEAT, 0, 0);
        vm.assertEq(_closeAs(members, 9 * SEAT), SEAT, "the other seat in its turn");
        _check(verifier, 0, 0, 0);
        _checkHeld(0, 2 * SEAT + 7);
        vm.expectRevert(abi.encodeWithSelector(IVerifierStake.VerifierStake_NothingUnbonding.selector, verifier));
        stake.claim(verifier);
    }

    /// Stake, a split of it between free and unbonding, any number of open seats and any penalty: the sum that is taken
    /// is the penalty or all there is, and every other open seat stays covered.
    function testFuzz_PenaltyIsCapped(uint256 own, uint256 leaving, uint256 open, uint256 penalty) external {
        own = _bound(own, SEAT, 6 * SEAT);
        open = _bound(open, 1, own / SEAT);
        leaving = _bound(leaving, 0, own - open * SEAT);
        penalty = _bound(penalty, 0, 8 * SEAT);
        address verifier = _staked("verifier", own);
        uint32[] memory members;
        for (uint256 i; i < open; ++i) {
            members = _drawAs(bytes32(i), 1, 1);
        }
        if (leaving != 0) {
            vm.prank(verifier);
            stake.requestUnstake(leaving);
        }
        uint256 most = own - (open - 1) * SEAT;
        uint256 expected = penalty < most ? penalty : most;
        vm.assertEq(_closeAs(members, penalty), expected, "taken");
        IVerifierStake.Verifier memory seen = stake.get(verifier);
        vm.assertEq(uint256(seen.stake) + seen.unbonding, own - expected, "the rest is its own");
        vm.assertTrue(
            seen.unbonding == leaving || seen.stake == (open - 1) * SEAT, "what is leaving goes after the free stake"
        );
        _checkLot();
    }

    /// Jurors come from all whole seats of stake, busy or free, and none of the excluded. Nothing is locked, and both lots
    /// weigh what they weighed.
    function testFuzz_JurorsAreDrawnFromAllStake(bytes32 randomness_, uint256 mask, uint256 seats, uint256 size)
        external
    {
        for (uint256 i; i < 9; ++i) {
            _staked(string.concat("verifier ", vm.toString(i)), (1 + uint256(keccak256(abi.encode(seats, i))) % 4) * SEAT);
        }
        for (uint256 i; i < seats % 4; ++i) {
            _drawAs(keccak256(abi.encode(randomness_, i)), 5, 0);
        }
        (uint32[] memory excluded, uint256 candidates) = _excludedOf(mask);
        uint256[] memory open = new uint256[](9);
        for (uint256 i; i < 9; ++i) {
            open[i] = stake.get(verifiers[i]).openSeats;
        }
        size = _bound(size, 1, 12);
        uint256 eligible = stake.eligible();
        vm.prank(address(rounds));
        (uint32[] memory jurors,) = stake.draw(randomness_, size, size / 2 + 1, excluded, true);
        if (candidates > size) candidates = size;
        vm.assertEq(jurors.length, candidates < size / 2 + 1 ? 0 : candidates, "as many as there are, busy or not");
        uint256 met;
        for (uint256 i; i < jurors.length; ++i) {
            vm.assertTrue(mask >> jurors[i] & 1 == 0, "an excluded juror");
            vm.assertTrue(met >> jurors[i] & 1 == 0, "drawn twice");
            met |= 1 << jurors[i];
        }
        for (uint256 i; i < 9; ++i) {
            vm.assertEq(stake.get(verifiers[i]).openSeats, open[i], "no seat is locked");
        }
        vm.assertEq(stake.eligible(), eligible, "eligible");
        vm.assertEq(stake.stakers(), 9, "stakers");
        _checkLot();
        // The weights of the jury lot are back: everybody can be drawn.
        vm.assertEq(_jurorsAs(randomness_, 9).length, 9, "all nine");
        _checkLot();
    }

    /// The only seat is busy: no committee, and a juror nevertheless.
    function testBusyVerifierIsAJuror() external {
        address verifier = _staked("verifier", SEAT);
        uint32[] memory members = _drawAs(0, 1, 1);
        vm.assertEq(stake.eligible(), 0, "no free seat");
        vm.assertEq(_drawAs(0, 1, 1).length, 0, "no committee");
        uint32[] memory jurors = _jurorsAs(0, 1);
        vm.assertEq(jurors.length, 1, "a juror");
        vm.assertEq(stake.ownerOf(jurors[0]), verifier, "the busy one");
        vm.assertEq(stake.get(verifier).openSeats, 1, "one open seat, the committee's");
        _closeJurors(jurors, 0);
        vm.assertEq(stake.get(verifier).openSeats, 1, "which a jury's end leaves open");
        _closeAs(members, 0);
        _check(verifier, SEAT, 0, 1);
    }

    /// The lot of juries follows stake: 1,000 first jurors over stakes of 1..8 seats, of which most are busy.
    function testJuryDrawFollowsAllStake() external {
        for (uint256 i; i < 8; ++i) {
            _staked(string.concat("verifier ", vm.toString(i)), (i + 1) * SEAT);
        }
        for (uint256 i; i < 4; ++i) {
            _drawAs(bytes32(i), 8, 1);
        }
        vm.assertLe(stake.totalWeight(), 10, "26 of 36 seats are busy");
        uint256[] memory hits = new uint256[](8);
        for (uint256 i; i < 1_000; ++i) {
            ++hits[_jurorsAs(keccak256(abi.encode(i)), 1)[0]];
        }
        uint256 statistic;
        for (uint256 i; i < 8; ++i) {
            uint256 expected = 1_000 * (i + 1) * 1_000 / 36;
            uint256 gap = hits[i] * 1_000 > expected ? hits[i] * 1_000 - expected : expected - hits[i] * 1_000;
            statistic += gap * gap / expected;
        }
        vm.assertLe(statistic, 24_300, "chi square, thousandths");
    }

    /// Who leaves altogether is in neither lot; who comes back is in both.
    function testStakersFollowStake() external {
        address verifier = _staked("verifier", 2 * SEAT);
        _staked("other", SEAT);
        vm.assertEq(stake.stakers(), 2, "two");
        vm.prank(verifier);
        stake.requestUnstake(SEAT + 1);
        vm.assertEq(stake.stakers(), 1, "less than a seat is no stake");
        vm.assertEq(_jurorsAs(0, 2).length, 0, "two can't be drawn");
        _arm(verifier, SEAT);
        vm.prank(verifier);
        stake.stake(SEAT);
        vm.assertEq(stake.stakers(), 2, "two again");
        vm.assertEq(_jurorsAs(0, 2).length, 2, "both");
    }

    /// A juror's penalty takes free stake, then what is unbonding, then what open seats stand on.
    function testFuzz_PenaltyOfAJuror(uint256 own, uint256 leaving, uint256 open, uint256 penalty) external {
        own = _bound(own, SEAT, 6 * SEAT);
        open = _bound(open, 0, own / SEAT);
        uint256 locked = open * SEAT;
        // Something must be left to be drawn by.
        leaving = _bound(leaving, 0, own - (open == 0 ? SEAT : locked));
        penalty = _bound(penalty, 0, 8 * SEAT);
        address verifier = _staked("verifier", own);
        uint32[] memory members;
        for (uint256 i; i < open; ++i) {
            members = _drawAs(bytes32(i), 1, 1);
        }
        if (leaving != 0) {
            vm.prank(verifier);
            stake.requestUnstake(leaving);
        }
        uint32[] memory jurors = _jurorsAs(0, 1);
        vm.assertEq(_closeJurors(jurors, penalty), penalty < own ? penalty : own, "taken");
        IVerifierStake.Verifier memory seen = stake.get(verifier);
        // What is left goes in the opposite order: to the seats first, then to what is unbonding.
        uint256 left = penalty < own ? own - penalty : 0;
        uint256 behind = left < locked ? left : locked;
        uint256 unbonding = left - behind < leaving ? left - behind : leaving;
        vm.assertEq(seen.unbonding, unbonding, "unbonding goes second");
        vm.assertEq(seen.stake, left - unbonding, "what is behind seats goes last");
        vm.assertEq(seen.openSeats, open, "no seat is closed");
        _checkWeights();
        if (seen.stake < locked) {
            vm.expectRevert(
                abi.encodeWithSelector(IVerifierStake.VerifierStake_InsufficientFreeStake.selector, 0, 1)
            );
            vm.prank(verifier);
            stake.requestUnstake(1);
        }
        // Every seat closes, covered or not, and the lots follow.
        for (uint256 i; i < open; ++i) {
            _closeAs(members, penalty / 2);
            _checkWeights();
        }
        seen = stake.get(verifier);
        vm.assertEq(seen.openSeats, 0, "all closed");
        if (seen.stake != 0) {
            vm.prank(verifier);
            stake.requestUnstake(seen.stake);
            _checkWeights();
        }
    }

    /// Three busy seats, and as a juror it lost most of what is behind them.
    function testUncoveredSeats() external {
        address verifier = _staked("verifier", 3 * SEAT);
        uint32[] memory members;
        for (uint256 i; i < 3; ++i) {
            members = _drawAs(0, 1, 1);
        }
        vm.assertEq(_closeJurors(_jurorsAs(0, 1), SEAT + 10), SEAT + 10, "from behind its seats");
        _check(verifier, 2 * SEAT - 10, 0, 0);
        vm.assertEq(_closeAs(members, SEAT), 0, "two seats' stake is not even there: nothing can be taken");
        _check(verifier, 2 * SEAT - 10, 0, 0);
        vm.assertEq(_closeAs(members, SEAT), SEAT - 10, "all beyond the last seat");
        _check(verifier, SEAT, 0, 0);
        vm.assertEq(_closeAs(members, 0), 0, "no penalty");
        _check(verifier, SEAT, 0, 1);
        vm.assertEq(stake.stakers(), 1, "a juror again");
        _checkWeights();
    }

    /// A verifier whose stake fell under a seat is out of the lot, not in debt: it can top up or leave.
    function testSlashedBelowASeat() external {
        address verifier = _staked("verifier", SEAT);
        _closeAs(_drawAs(0, 1, 1), 30e6);
        _check(verifier, SEAT - 30e6, 0, 0);
        vm.assertEq(stake.eligible(), 0, "out of the lot");
        _arm(verifier, 30e6);
        vm.expectRevert(
            abi.encodeWithSelector(IVerifierStake.VerifierStake_BelowSeatStake.selector, SEAT - 1, SEAT)
        );
        vm.prank(verifier);
        stake.stake(30e6 - 1);
        vm.prank(verifier);
        stake.stake(30e6);
        _check(verifier, SEAT, 0, 1);
        vm.prank(verifier);
        stake.requestUnstake(SEAT);
        _skip(1 days);
        vm.assertEq(stake.claim(verifier), SEAT, "all of it");
    }

    /// Stake, leave, draw and close in any order: weights, sums and the count of eligible verifiers follow.
    function testFuzz_LotFollowsStake(uint256 seed) external {
        _verifiers(5, SEAT);
        for (uint256 step; step < 30; ++step) {
            uint256 dice = uint256(keccak256(abi.encode(seed, step)));
            address verifier = verifiers[dice % 5];
            IVerifierStake.Verifier memory seen = stake.get(verifier);
            uint256 free = seen.stake - uint256(seen.openSeats) * SEAT;
            uint256 action = (dice >> 16) % 4;
            if (action == 0) {
                _arm(verifier, SEAT + dice % (2 * SEAT));
                vm.prank(verifier);
                stake.stake(SEAT + dice % (2 * SEAT));
            } else if (action == 1 && free != 0) {
                vm.prank(verifier);
                stake.requestUnstake(1 + (dice >> 32) % free);
            } else if (action == 2 && stake.eligible() != 0) {
                _drawAs(bytes32(dice), 1 + (dice >> 32) % 3, 1);
            } else if (action == 3 && seen.openSeats != 0) {
                uint32[] memory one = new uint32[](1);
                one[0] = seen.leaf - 1;
                _closeAs(one, (dice >> 32) % (2 * SEAT));
            }
            _checkLot();
        }
    }

    /// The lot counts 2^32 - 1 seats at most. No stake may bring it so near that closing a seat would overflow it, or
    /// settlements would stop for as long as somebody pleases.
    function testTheLotNeverOverflows() external {
        Parameters memory parameters = _parameters();
        parameters.seatStake = 1;
        stake = IVerifierStake(vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1));
        address own = create("Ledger.sol:Ledger", abi.encode(token, escrow, stake, market, court, royalties));
        create("VerifierStake.sol:VerifierStake", abi.encode(own, rounds, parameters));
        address verifier = _actor("verifier");
        token.mint(verifier, uint256(1) << 40);
        token.mint(stranger, uint256(1) << 40);
        vm.prank(verifier);
        token.approve(own, type(uint256).max);
        vm.prank(stranger);
        token.approve(own, type(uint256).max);

        vm.prank(verifier);
        stake.stake(1);
        uint32[] memory members = _drawAs(0, 1, 1);
        // The open seat is not in the sum, yet it will be again.
        vm.expectRevert(
            abi.encodeWithSelector(IVerifierStake.VerifierStake_TooManySeats.selector, uint256(1) << 32)
        );
        vm.prank(stranger);
        stake.stake(type(uint32).max);
        vm.prank(stranger);
        stake.stake(type(uint32).max - 1);
        vm.prank(address(rounds));
        stake.closeSeats(members, new uint256[](1), address(escrow), false);
        vm.assertEq(stake.totalWeight(), type(uint32).max, "full, and closed all the same");
    }

    function _drawAs(bytes32 randomness_, uint256 size, uint256 least) private returns (uint32[] memory members) {
        vm.prank(address(rounds));
        address[] memory owners;
        (members, owners) = stake.draw(randomness_, size, least, new uint32[](0), false);
        for (uint256 i; i < members.length; ++i) {
            vm.assertEq(owners[i], stake.ownerOf(members[i]), "its account");
        }
    }

    /// @return excluded those that the mask names, some of them twice
    /// @return candidates the number of the others
    function _excludedOf(uint256 mask) private pure returns (uint32[] memory excluded, uint256 candidates) {
        excluded = new uint32[](2 * 9);
        uint256 listed;
        for (uint32 i; i < 9; ++i) {
            if (mask >> i & 1 == 0) {
                ++candidates;
                continue;
            }
            excluded[listed++] = i;
            if (mask >> (9 + i) & 1 == 1) excluded[listed++] = i;
        }
        assembly ("memory-safe") {
            mstore(excluded, listed)
        }
    }

    function _jurorsAs(bytes32 randomness_, uint256 size) private returns (uint32[] memory jurors) {
        vm.prank(address(rounds));
        (jurors,) = stake.draw(randomness_, size, size, new uint32[](0), true);
    }

    function _closeJurors(uint32[] memory jurors, uint256 penalty) private returns (uint256) {
        uint256[] memory penalties = new uint256[](jurors.length);
        for (uint256 i; i < jurors.length; ++i) {
            penalties[i] = penalty;
        }
        vm.prank(address(rounds));
        return stake.closeSeats(jurors, penalties, address(escrow), true);
    }

    function _closeAs(uint32[] memory members, uint256 penalty) private returns (uint256) {
        uint256[] memory penalties = new uint256[](members.length);
        for (uint256 i; i < members.length; ++i) {
            penalties[i] = penalty;
        }
        vm.prank(address(rounds));
        return stake.closeSeats(members, penalties, address(escrow), false);
    }

    function _check(address verifier, uint256 own, uint256 unbonding, uint256 weight) private view {
        IVerifierStake.Verifier memory seen = stake.get(verifier);
        vm.assertEq(seen.stake, own, "stake");
        vm.assertEq(seen.unbonding, unbonding, "unbonding");
        vm.assertEq(stake.weightOf(verifier), weight, "weight");
    }

    function _checkHeld(uint256 staked, uint256 slashed) private view {
        vm.assertEq(ledger.heldFor(address(stake)), staked, "held for stake");
        vm.assertEq(ledger.heldFor(address(escrow)), slashed, "shifted to the beneficiary");
    }

    function _checkLot() private view {
        for (uint256 i; i < verifiers.length; ++i) {
            IVerifierStake.Verifier memory seen = stake.get(verifiers[i]);
            vm.assertGe(seen.stake, uint256(seen.openSeats) * SEAT, "open seats are covered");
        }
        _checkWeights();
    }

    /// As _checkLot, also where a juror's penalty took what open seats stood on.
    function _checkWeights() private view {
        uint256 sum;
        uint256 eligible;
        uint256 stakers;
        uint256 held;
        for (uint256 i; i < verifiers.length; ++i) {
            IVerifierStake.Verifier memory seen = stake.get(verifiers[i]);
            uint256 weight = stake.weightOf(verifiers[i]);
            uint256 all = seen.stake / SEAT;
            vm.assertEq(weight, all > seen.openSeats ? all - seen.openSeats : 0, "weight");
            sum += weight;
            if (weight != 0) ++eligible;
            if (all != 0) ++stakers;
            held += uint256(seen.stake) + seen.unbonding;
        }
        vm.assertEq(stake.totalWeight(), sum, "sum of the lot");
        vm.assertEq(stake.eligible(), eligible, "eligible");
        vm.assertEq(stake.stakers(), stakers, "stakers");
        vm.assertEq(ledger.heldFor(address(stake)), held, "held");
    }
}
