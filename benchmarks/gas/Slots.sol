// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// One storage slot for each trace, as cheap as it gets: no mapping, no length, no event.
contract Slots {
    /// What is stored comes as calldata, as a trace's hash would.
    function store(uint256 first, bytes32[] calldata values) external {
        for (uint256 i; i < values.length; ++i) {
            bytes32 value = values[i];
            assembly {
                sstore(add(first, i), value)
            }
        }
    }

    /// The slots alone: what is stored comes from nowhere and says nothing.
    function fill(uint256 first, uint256 number) external {
        for (uint256 i; i < number; ++i) {
            assembly {
                sstore(add(first, i), not(i))
            }
        }
    }
}
