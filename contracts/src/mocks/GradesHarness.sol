// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Grades} from "../libraries/Grades.sol";

/// The library's functions, for tests.
contract GradesHarness {
    function valid(bytes memory sheet, uint256 count) external pure returns (bool) {
        return Grades.valid(sheet, count);
    }

    function agreements(bytes[] memory sheets, uint256 count) external pure returns (uint256[] memory) {
        return Grades.agreements(sheets, count);
    }
}
