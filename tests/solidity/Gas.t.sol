// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAssignments} from "../../contracts/src/interfaces/IAssignments.sol";
import {BountyTerms, ContentId} from "../../contracts/src/libraries/Types.sol";
import {Scenario} from "./support/Scenario.sol";

/// A batch costs the same gas whatever its number of traces, from commit to settlement
contract GasTest is Scenario {
    function setUp() external {
        _begin();
        _verifiers(5, 3 * SEAT);
    }

    /// What differs is the bytes of larger numbers in calldata and storage.
    function testGasDoesNotGrowWithTheBatch() external {
        BountyTerms memory terms = _terms();
        terms.pricePerUnit = 40_000;
        uint64 bounty = _bountyWith(terms, 1_000e6);
        _enrol(bounty, miner);
        _arm(miner, 1_000e6);
        uint256 before = vm.snapshotState();
        uint256 small = _life(bounty, 8);
        vm.revertToState(before);
        uint256 large = _life(bounty, 4_096);
        vm.assertLe(large, small + 1_000, "gas of 4,096 traces against 8");
    }

    /// @return gas of the four calls that move a batch, with everything warm
    function _life(uint64 bounty, uint32 count) private returns (uint256 gas) {
        IAssignments.Assignment memory next = assignments.get(bounty, miner);
        vm.prank(miner);
        uint256 start = gasleft();
        market.commitBatch(bounty, ROOT, count, next.nextTask, next.seed, ContentId(ROOT, RAW));
        gas = start - gasleft();
        _reach(rounds.get(1).drawPoint);
        start = gasleft();
        rounds.draw(1);
        gas += start - gasleft();
        _vote(1, _same(_verdict(count / 2, 1), 3));
        start = gasleft();
        market.tally(1, _verdict(count / 2, 1));
        gas += start - gasleft();
        _skip(30 minutes + 1);
        start = gasleft();
        market.settle(1);
        gas += start - gasleft();
    }
}
