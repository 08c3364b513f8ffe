// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAssignments} from "./interfaces/IAssignments.sol";
import {IBountyEscrow} from "./interfaces/IBountyEscrow.sol";
import {IRandomness} from "./interfaces/IRandomness.sol";

contract Assignments is IAssignments {
    IBountyEscrow public immutable escrow;
    IRandomness public immutable randomness;
    address public immutable market;

    mapping(uint64 bounty => mapping(address miner => Assignment)) private _assignments;

    constructor(IBountyEscrow escrow_, IRandomness randomness_, address market_) {
        escrow = escrow_;
        randomness = randomness_;
        market = market_;
    }

    function request(uint64 bounty) external {
        escrow.get(bounty); // reverts where there is no such bounty
        Assignment storage assignment = _assignments[bounty][msg.sender];
        require(assignment.point == 0, Assignments_AlreadyRequested(bounty, msg.sender, assignment.point));
        _schedule(assignment, bounty, msg.sender);
    }

    function open(uint64 bounty, address miner) external {
        Assignment storage assignment = _assignments[bounty][miner];
        uint64 point = assignment.point;
        require(point != 0, Assignments_NotRequested(bounty, miner));
        require(assignment.seed == 0, Assignments_AlreadyOpen(bounty, miner));
        IRandomness.Status status = randomness.statusOf(point);
        require(
            status == IRandomness.Status.Ready || status == IRandomness.Status.Missed,
            Assignments_NotReady(bounty, miner, point)
        );

        if (status == IRandomness.Status.Missed) {
            _schedule(assignment, bounty, miner);
        } else {
            bytes32 seed = keccak256(abi.encode(randomness.valueAt(point), bounty, miner));
            assignment.seed = seed;
            emit AssignmentOpened(bounty, miner, seed);
        }
    }

    function take(uint64 bounty, address miner, uint64 tasks, uint64 firstTask, bytes32 seed) external {
        require(msg.sender == market, Assignments_NotMarket(msg.sender));
        Assignment storage assignment = _assignments[bounty][miner];
        require(assignment.seed != 0, Assignments_NotOpen(bounty, miner));
        require(assignment.seed == seed, Assignments_OtherSeed(seed, assignment.seed));
        require(assignment.nextTask == firstTask, Assignments_OtherTask(firstTask, assignment.nextTask));
        assignment.nextTask = firstTask + tasks;
    }

    function get(uint64 bounty, address miner) external view returns (Assignment memory) {
        return _assignments[bounty][miner];
    }

    function _schedule(Assignment storage assignment, uint64 bounty, address miner) private {
        uint64 point = randomness.nextPoint();
        assignment.point = point;
        emit AssignmentRequested(bounty, miner, point);
    }
}
