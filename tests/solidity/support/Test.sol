// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Vm} from "./Vm.sol";

/// What every test contract has: cheat codes, the clock, and contracts deployed from their production bytecode.
abstract contract Test {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    error DeploymentFailed(string artifact);

    /// Deploys `artifact` ("File.sol:Contract") as the build made it; a constructor's error comes through.
    function create(string memory artifact, bytes memory arguments) public returns (address deployed) {
        bytes memory code = abi.encodePacked(vm.getCode(artifact), arguments);
        assembly ("memory-safe") {
            deployed := create(0, add(code, 32), mload(code))
            if iszero(deployed) {
                returndatacopy(mload(0x40), 0, returndatasize())
                if returndatasize() { revert(mload(0x40), returndatasize()) }
            }
        }
        require(deployed != address(0), DeploymentFailed(artifact));
    }

    /// @return the seconds now; block.timestamp may be cached by the compiler across warps
    function _now() internal view returns (uint256) {
        return vm.getBlockTimestamp();
    }

    function _skip(uint256 time) internal {
        vm.warp(_now() + time);
    }

    /// @return `value` folded into [low, high]
    function _bound(uint256 value, uint256 low, uint256 high) internal pure returns (uint256) {
        if (value >= low && value <= high) return value;
        return low + value % (high - low + 1);
    }

    mapping(address account => uint256) private _keys;

    /// @return r and vs of a signature by one of the actors, in the short form of EIP-2098
    function _sign(address account, bytes32 digest) internal view returns (bytes32 r, bytes32 vs) {
        uint8 v;
        (v, r, vs) = vm.sign(_keys[account], digest);
        if (v == 28) vs |= bytes32(uint256(1) << 255);
    }

    function _actor(string memory name) internal returns (address account) {
        account = vm.addr(_key(name));
        _keys[account] = _key(name);
        vm.label(account, name);
    }

    function _key(string memory name) internal pure returns (uint256) {
        return uint256(keccak256(bytes(name)));
    }

    function _expect(bytes4 selector) internal {
        vm.expectRevert(abi.encodeWithSelector(selector));
    }
}
