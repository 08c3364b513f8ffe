// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SortitionTree} from "../libraries/SortitionTree.sol";

/// One tree with its functions from outside, for tests; compiled as the contracts are.
contract SortitionTreeHarness {
    using SortitionTree for SortitionTree.Tree;

    SortitionTree.Tree private _tree;

    function add() external returns (uint256 leaf) {
        return _tree.add();
    }

    /// Appends `number` leaves, each with `weight`.
    function fill(uint256 number, uint256 weight) external {
        for (uint256 i; i < number; ++i) {
            _tree.set(_tree.add(), weight);
        }
    }

    function set(uint256 leaf, uint256 weight) external {
        _tree.set(leaf, weight);
    }

    function weightOf(uint256 leaf) external view returns (uint256) {
        return _tree.weightOf(leaf);
    }

    function total() external view returns (uint256) {
        return _tree.total();
    }

    function find(uint256 ticket) external view returns (uint256 leaf) {
        (leaf,,) = _tree.find(ticket);
    }

    function depth() external view returns (uint256) {
        return _tree.depth;
    }

    function leaves() external view returns (uint256) {
        return _tree.leaves;
    }
}
