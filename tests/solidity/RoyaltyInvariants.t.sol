// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {RoyaltyHandler} from "./support/RoyaltyHandler.sol";
import {Test} from "./support/Test.sol";

/// Whatever anybody does in any order
/// ├── paid in = collected + owed + passed on and not yet collected, for each checkpoint and in all
/// ├── no share collects twice, or more than its part of all that was kept
/// ├── no checkpoint pays another one's money; a list that does not add up pays nobody
/// └── at the end everybody collects, and what stays is less than a unit for each share
contract RoyaltyInvariantsTest is Test {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    RoyaltyHandler private handler;
    bytes4[] private actions;

    function setUp() external {
        handler = new RoyaltyHandler();
        actions = [
            handler.register.selector,
            handler.pay.selector,
            handler.pay.selector,
            handler.collect.selector,
            handler.collect.selector,
            handler.passOn.selector,
            handler.withdraw.selector,
            handler.meddle.selector
        ];
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(handler), actions);
    }

    function invariant_RoyaltiesAreConserved() external view {
        handler.checkRoyalties();
    }

    function afterInvariant() external {
        handler.checkRoyalties();
        handler.everybodyCollects();
    }

    function testHandlerReachesEveryAction() external {
        for (uint256 step; step < 400; ++step) {
            uint256 dice = uint256(keccak256(abi.encode("royalties", step)));
            (bool success, bytes memory answer) =
                address(handler).call(abi.encodeWithSelector(actions[dice % actions.length], dice >> 8));
            if (!success) {
                assembly ("memory-safe") {
                    revert(add(answer, 32), mload(answer))
                }
            }
            if (step % 20 == 0) handler.checkRoyalties();
        }
        handler.checkRoyalties();
        for (uint256 i; i < handler.ACTIONS(); ++i) {
            vm.assertTrue(handler.done(i) != 0, string.concat("action that never succeeds: ", vm.toString(i)));
        }
        handler.everybodyCollects();
    }
}
