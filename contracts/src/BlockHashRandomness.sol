// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRandomness} from "./interfaces/IRandomness.sol";

/// Randomness from the hash of a fixed later block. A point is a block number; its value can be read during the 256
/// blocks after it. Whoever builds that block chooses among as many hashes as it cares to compute
/// (docs/ASSUMPTIONS.md).
contract BlockHashRandomness is IRandomness {
    uint256 private constant REACH = 256;

    /// blocks between asking and the block whose hash counts
    uint64 public immutable delay;

    constructor(uint64 delay_) {
        require(delay_ != 0, Randomness_InvalidDelay(delay_));
        delay = delay_;
    }

    function nextPoint() external view returns (uint64) {
        return uint64(block.number) + delay;
    }

    function statusOf(uint64 point) public view returns (Status) {
        if (block.number <= point) return Status.Pending;
        if (block.number > point + REACH) return Status.Missed;
        return Status.Ready;
    }

    function valueAt(uint64 point) external view returns (bytes32) {
        Status status = statusOf(point);
        require(status == Status.Ready, Randomness_NotReady(point, status));
        return keccak256(abi.encode(blockhash(point)));
    }
}
