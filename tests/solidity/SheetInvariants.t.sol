// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SheetAction} from "./support/SheetActions.sol";
import {SheetHandler} from "./support/SheetHandler.sol";
import {Test} from "./support/Test.sol";

/// Whatever anybody does in any order
/// ├── money: for each pot funded = left + set aside + paid + refunded; tokens = what is owed + gifts
/// ├── once: a closed sheet's money went to its judge or back to the pot, never both, never twice
/// ├── apart: no call to the sheets moves stake, seats or the ledger's money
/// ├── final: phases go forward; shown sheets and closed panels never change
/// ├── refused: what nobody may do now is refused, whoever tries
/// └── exit: at the end of every run strangers end, pay, release and refund everything, and everybody withdraws
contract SheetInvariantsTest is Test {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    /// The checks cost more than the calls, so deep runs make them every so many steps, and whenever a run ends.
    uint256 private constant DEEP_STRIDE = 8;

    SheetHandler private handler;
    bytes4[] private actions;
    bool private deep;

    function setUp() external {
        deep = vm.envOr("TRACEMARKET_DEEP_RUNS", 0) != 0;
        handler = new SheetHandler();
        actions = [
            handler.createBounty.selector,
            handler.openPot.selector,
            handler.fundPot.selector,
            handler.fundPot.selector,
            handler.refund.selector,
            handler.commitBatch.selector,
            handler.commitBatch.selector,
            handler.commitBatch.selector,
            handler.draw.selector,
            handler.draw.selector,
            handler.draw.selector,
            handler.commitSheet.selector,
            handler.commitSheet.selector,
            handler.revealSheet.selector,
            handler.revealSheet.selector,
            handler.grade.selector,
            handler.grade.selector,
            handler.grade.selector,
            handler.vote.selector,
            handler.vote.selector,
            handler.overturn.selector,
            handler.settle.selector,
            handler.pay.selector,
            handler.release.selector,
            handler.withdraw.selector,
            handler.plantGold.selector,
            handler.plantGold.selector,
            handler.openGold.selector,
            handler.donate.selector,
            handler.meddle.selector,
            handler.pass.selector
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

    function invariant_SheetsHold() external view {
        if (!deep || handler.steps() % DEEP_STRIDE == 0) _check();
    }

    function afterInvariant() external {
        if (deep) _record();
        _check();
        handler.everybodyLeaves();
    }

    function testHandlerReachesEveryAction() external {
        for (uint256 step; step < 1_500; ++step) {
            uint256 dice = uint256(keccak256(abi.encode("sheets", step)));
            (bool success, bytes memory answer) =
                address(handler).call(abi.encodeWithSelector(actions[dice % actions.length], dice >> 8));
            if (!success) {
                assembly ("memory-safe") {
                    revert(add(answer, 32), mload(answer))
                }
            }
            if (step % 20 == 0) _check();
        }
        string memory rare;
        for (uint256 i; i < handler.ACTIONS(); ++i) {
            if (handler.done(SheetAction(i)) == 0) rare = string.concat(rare, " ", vm.toString(i));
        }
        _check();
        handler.everybodyLeaves();
        vm.assertTrue(bytes(rare).length == 0, string.concat("actions that never succeed:", rare));
    }

    /// What this run's actions did, for deep.py.
    function _record() private {
        string memory counts;
        for (uint256 i; i < handler.ACTIONS(); ++i) {
            counts = string.concat(counts, i == 0 ? "" : " ", vm.toString(handler.done(SheetAction(i))));
        }
        string memory seed = vm.toString(vm.envOr("TRACEMARKET_DEEP_SEED", 0));
        vm.writeLine(string.concat("build/deep/", seed, ".txt"), counts);
    }

    function _check() private view {
        handler.checkMoney();
        handler.checkSheets();
    }
}
