// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRandomness} from "../../../contracts/src/interfaces/IRandomness.sol";

/// Randomness that does as a test says: the next point, and what became of each.
contract ScriptedRandomness is IRandomness {
    uint64 public nextPoint = 1;
    mapping(uint64 point => Status) public statusOf;

    function setNext(uint64 point) external {
        nextPoint = point;
    }

    function setStatus(uint64 point, Status status) external {
        statusOf[point] = status;
    }

    function valueAt(uint64 point) external view returns (bytes32) {
        Status status = statusOf[point];
        require(status == Status.Ready, Randomness_NotReady(point, status));
        return keccak256(abi.encode("scripted", point));
    }
}
