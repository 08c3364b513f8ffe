// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAssignments} from "../../contracts/src/interfaces/IAssignments.sol";
import {IBountyEscrow} from "../../contracts/src/interfaces/IBountyEscrow.sol";
import {Scenario} from "./support/Scenario.sol";

/// request
/// ├── unknown bounty                           BountyEscrow_UnknownBounty
/// ├── enrolled already                         Assignments_AlreadyRequested
/// └── a later point of the randomness is fixed
/// open, by anybody
/// ├── not enrolled                             Assignments_NotRequested
/// ├── opened before                            Assignments_AlreadyOpen
/// ├── randomness not known yet                 Assignments_NotReady
/// ├── known: the seed binds the value, the bounty and the miner
/// └── missed: scheduled again, and opens then
/// take
/// ├── not the market                           Assignments_NotMarket
/// ├── seed not fixed                           Assignments_NotOpen
/// ├── another seed                             Assignments_OtherSeed
/// ├── another task                             Assignments_OtherTask
/// └── tasks 0, 1, 2, ... without a gap
contract AssignmentsTest is Scenario {
    uint64 private bounty;

    function setUp() external {
        _begin();
        bounty = _bounty(1e6);
    }

    function testRequest() external {
        uint64 point = randomness.nextPoint();
        vm.expectEmit(address(assignments));
        emit IAssignments.AssignmentRequested(bounty, miner, point);
        vm.prank(miner);
        assignments.request(bounty);
        IAssignments.Assignment memory seen = assignments.get(bounty, miner);
        vm.assertEq(seen.point, point, "point");
        vm.assertEq(seen.seed, bytes32(0), "no seed yet");

        vm.expectRevert(
            abi.encodeWithSelector(IAssignments.Assignments_AlreadyRequested.selector, bounty, miner, point)
        );
        vm.prank(miner);
        assignments.request(bounty);
    }

    function testRequestOfNoBounty() external {
        for (uint64 id; id < 4; ++id) {
            if (id == bounty) continue;
            vm.expectRevert(abi.encodeWithSelector(IBountyEscrow.BountyEscrow_UnknownBounty.selector, id));
            assignments.request(id);
        }
    }

    function testOpenBindsValueBountyAndMiner() external {
        uint64 second = _bounty(1e6);
        vm.prank(miner);
        assignments.request(bounty);
        vm.prank(stranger);
        assignments.request(bounty);
        vm.prank(miner);
        assignments.request(second);
        uint64 point = assignments.get(bounty, miner).point;
        _reach(point);
        bytes32 seed = keccak256(abi.encode(randomness.valueAt(point), bounty, miner));

        vm.expectEmit(address(assignments));
        emit IAssignments.AssignmentOpened(bounty, miner, seed);
        vm.prank(stranger);
        assignments.open(bounty, miner);
        assignments.open(bounty, stranger);
        assignments.open(second, miner);
        vm.assertEq(assignments.get(bounty, miner).seed, seed, "seed");
        vm.assertTrue(assignments.get(bounty, stranger).seed != seed, "another miner, another seed");
        vm.assertTrue(assignments.get(second, miner).seed != seed, "another bounty, another seed");
    }

    function testOpenErrors() external {
        vm.expectRevert(abi.encodeWithSelector(IAssignments.Assignments_NotRequested.selector, bounty, miner));
        assignments.open(bounty, miner);

        vm.prank(miner);
        assignments.request(bounty);
        uint64 point = assignments.get(bounty, miner).point;
        bytes memory notReady =
            abi.encodeWithSelector(IAssignments.Assignments_NotReady.selector, bounty, miner, point);
        vm.expectRevert(notReady);
        assignments.open(bounty, miner);
        vm.roll(point);
        vm.expectRevert(notReady);
        assignments.open(bounty, miner);

        _reach(point);
        assignments.open(bounty, miner);
        vm.expectRevert(abi.encodeWithSelector(IAssignments.Assignments_AlreadyOpen.selector, bounty, miner));
        assignments.open(bounty, miner);
        vm.roll(uint256(point) + 1_000);
        vm.expectRevert(abi.encodeWithSelector(IAssignments.Assignments_AlreadyOpen.selector, bounty, miner));
        assignments.open(bounty, miner);
    }

    function testMissedRandomnessIsScheduledAgain() external {
        vm.prank(miner);
        assignments.request(bounty);
        uint64 missed = assignments.get(bounty, miner).point;
        vm.roll(uint256(missed) + 257);
        uint64 point = randomness.nextPoint();
        vm.expectEmit(address(assignments));
        emit IAssignments.AssignmentRequested(bounty, miner, point);
        assignments.open(bounty, miner);
        vm.assertEq(assignments.get(bounty, miner).seed, bytes32(0), "no seed from a missed value");
        vm.assertEq(assignments.get(bounty, miner).point, point, "later point");
        _reach(point);
        assignments.open(bounty, miner);
        vm.assertTrue(assignments.get(bounty, miner).seed != 0, "open after all");
    }

    function testTakeIsTheMarketsOnly() external {
        _enrol(bounty, miner);
        bytes32 seed = assignments.get(bounty, miner).seed;
        vm.expectRevert(abi.encodeWithSelector(IAssignments.Assignments_NotMarket.selector, miner));
        vm.prank(miner);
        assignments.take(bounty, miner, 1, 0, seed);
    }

    function testTakeErrors() external {
        _takeReverts(abi.encodeWithSelector(IAssignments.Assignments_NotOpen.selector, bounty, miner), 0, 0);
        vm.prank(miner);
        assignments.request(bounty);
        _takeReverts(abi.encodeWithSelector(IAssignments.Assignments_NotOpen.selector, bounty, miner), 0, 0);
        _reach(assignments.get(bounty, miner).point);
        assignments.open(bounty, miner);
        bytes32 seed = assignments.get(bounty, miner).seed;
        _takeReverts(
            abi.encodeWithSelector(IAssignments.Assignments_OtherSeed.selector, bytes32(uint256(7)), seed),
            0,
            bytes32(uint256(7))
        );
        _takeReverts(abi.encodeWithSelector(IAssignments.Assignments_OtherTask.selector, 1, 0), 1, seed);
    }

    function testTasksWithoutAGap() external {
        _enrol(bounty, miner);
        bytes32 seed = assignments.get(bounty, miner).seed;
        uint64 next;
        for (uint64 tasks = 1; tasks < 6; ++tasks) {
            vm.prank(address(market));
            assignments.take(bounty, miner, tasks, next, seed);
            next += tasks;
            vm.assertEq(assignments.get(bounty, miner).nextTask, next, "next task");
        }
        // A second process that still believes in an older state is stopped.
        _takeReverts(abi.encodeWithSelector(IAssignments.Assignments_OtherTask.selector, 10, next), 10, seed);
    }

    function _takeReverts(bytes memory reason, uint64 firstTask, bytes32 seed) private {
        vm.expectRevert(reason);
        vm.prank(address(market));
        assignments.take(bounty, miner, 1, firstTask, seed);
    }
}
