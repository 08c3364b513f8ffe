// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SortitionTree} from "../../contracts/src/libraries/SortitionTree.sol";
import {SortitionTreeHarness} from "../../contracts/src/mocks/SortitionTreeHarness.sol";
import {Test} from "./support/Test.sol";

/// The tree against a plain array
/// ├── empty: no sum
/// ├── grows past 8, 64, 512 and 4096 leaves: weights, sum and intervals stay
/// ├── any sequence of add and set: same weights, same sum, same owner of every ticket
/// ├── the sum has 32 bits: the last unit fits, one more is refused and changes nothing
/// └── tickets at random fall on leaves in proportion to their weights
contract SortitionTreeTest is Test {
    SortitionTreeHarness private tree;
    uint256[] private model;

    function setUp() external {
        tree = SortitionTreeHarness(create("SortitionTreeHarness.sol:SortitionTreeHarness", ""));
    }

    function testEmpty() external {
        vm.assertEq(tree.total(), 0, "no leaf, no sum");
        vm.assertEq(tree.add(), 0, "first leaf");
        vm.assertEq(tree.total(), 0, "no weight yet");
        vm.assertEq(tree.depth(), 1, "one level");
    }

    function testGrowsPastEveryPowerOfEight() external {
        uint256 sum;
        uint256[5] memory depths = [uint256(1), 1, 2, 3, 4];
        uint256[5] memory sizes = [uint256(1), 8, 64, 512, 4096];
        for (uint256 i; i < 5; ++i) {
            // Up to exactly full, then one more.
            tree.fill(sizes[i] - tree.leaves(), 3);
            sum = 3 * sizes[i];
            vm.assertEq(tree.total(), sum, "full level");
            vm.assertEq(tree.depth(), depths[i], "depth of a full level");
            _checkEnds(sizes[i], 3);
            if (i == 0) continue;
            uint256 leaf = tree.add();
            vm.assertEq(leaf, sizes[i], "next leaf");
            vm.assertEq(tree.depth(), depths[i] + 1, "one level more");
            vm.assertEq(tree.total(), sum, "growth keeps the sum");
            vm.assertEq(tree.find(sum - 1), leaf - 1, "growth keeps the intervals");
            tree.set(leaf, 3);
            vm.assertEq(tree.total(), sum + 3, "the new leaf counts");
            _checkEnds(sizes[i] + 1, 3);
            tree.set(0, 10);
            vm.assertEq(tree.total(), sum + 10, "an old leaf changes under the new root");
            vm.assertEq(tree.find(9), 0, "wider interval");
            vm.assertEq(tree.find(10), 1, "shifted interval");
            tree.set(0, 3);
        }
    }

    function testFuzz_AgainstAnArray(uint256 seed) external {
        uint256 steps = 40 + seed % 60;
        for (uint256 step; step < steps; ++step) {
            uint256 dice = uint256(keccak256(abi.encode(seed, step)));
            if (model.length == 0 || dice % 3 == 0) {
                vm.assertEq(tree.add(), model.length, "leaf");
                model.push(0);
            }
            uint256 leaf = (dice >> 8) % model.length;
            uint256 weight = (dice >> 40) % 5 == 0 ? 0 : (dice >> 64) % 1_000;
            tree.set(leaf, weight);
            model[leaf] = weight;
            _checkSum();
        }
        for (uint256 i; i < model.length; ++i) {
            vm.assertEq(tree.weightOf(i), model[i], "weight");
        }
        for (uint256 i; i < 16; ++i) {
            _checkTicket(uint256(keccak256(abi.encode(seed, "ticket", i))));
        }
    }

    /// Every ticket of a small tree with empty leaves in it.
    function testEveryTicket() external {
        uint256[12] memory weights = [uint256(0), 4, 0, 1, 7, 0, 0, 2, 0, 0, 5, 0];
        for (uint256 i; i < 12; ++i) {
            tree.set(tree.add(), weights[i]);
            model.push(weights[i]);
        }
        uint256[] memory hits = new uint256[](12);
        for (uint256 ticket; ticket < 19; ++ticket) {
            _checkTicket(ticket);
            ++hits[tree.find(ticket)];
        }
        for (uint256 i; i < 12; ++i) {
            vm.assertEq(hits[i], weights[i], "as many tickets as weight");
        }
    }

    function testSumHas32Bits() external {
        tree.fill(3, 1);
        tree.set(0, type(uint32).max - 2);
        vm.assertEq(tree.total(), type(uint32).max, "the largest sum");
        vm.assertEq(tree.find(type(uint32).max - 1), 2, "its last ticket");
        vm.expectRevert(
            abi.encodeWithSelector(SortitionTree.SortitionTree_SumTooLarge.selector, uint256(1) << 32)
        );
        tree.set(1, 2);
        vm.assertEq(tree.weightOf(1), 1, "unchanged");
        tree.set(0, 0);
        tree.set(1, type(uint32).max - 1);
        vm.assertEq(tree.total(), type(uint32).max, "a large leaf elsewhere");
    }

    function testSettingTheSameWeightChangesNothing() external {
        tree.fill(9, 5);
        tree.set(8, 5);
        vm.assertEq(tree.total(), 45, "sum");
    }

    /// 4,000 tickets on 20 leaves of weights 1..20. Pearson's statistic has 19 degrees of freedom; 43.8 is its 99.9%
    /// point. The tickets are fixed, so the outcome is too.
    function testTicketsFallInProportion() external {
        uint256 draws = 4_000;
        uint256 sum;
        for (uint256 i = 1; i <= 20; ++i) {
            tree.set(tree.add(), i);
            sum += i;
        }
        uint256[] memory hits = new uint256[](20);
        for (uint256 i; i < draws; ++i) {
            ++hits[tree.find(uint256(keccak256(abi.encode("draw", i))) % sum)];
        }
        // Sum of (hits - expected)^2 / expected with expected = draws * weight / sum, in thousandths.
        uint256 statistic;
        for (uint256 i; i < 20; ++i) {
            uint256 expected = draws * (i + 1) * 1_000 / sum;
            uint256 seen = hits[i] * 1_000;
            uint256 gap = seen > expected ? seen - expected : expected - seen;
            statistic += gap * gap / expected;
        }
        vm.assertLe(statistic, 43_800, "chi square, thousandths");
    }

    function _checkEnds(uint256 leaves, uint256 weight) private view {
        uint256 sum = leaves * weight;
        vm.assertEq(tree.find(0), 0, "first ticket");
        vm.assertEq(tree.find(sum - 1), leaves - 1, "last ticket");
        vm.assertEq(tree.find(sum / 2), sum / 2 / weight, "ticket in the middle");
        vm.assertEq(tree.weightOf(leaves - 1), weight, "last weight");
    }

    function _checkSum() private view {
        uint256 sum;
        for (uint256 i; i < model.length; ++i) {
            sum += model[i];
        }
        vm.assertEq(tree.total(), sum, "sum");
    }

    function _checkTicket(uint256 dice) private view {
        uint256 sum = tree.total();
        if (sum == 0) return;
        uint256 ticket = dice % sum;
        uint256 leaf;
        uint256 rest = ticket;
        while (rest >= model[leaf]) rest -= model[leaf++];
        vm.assertEq(tree.find(ticket), leaf, "owner of the ticket");
    }
}
