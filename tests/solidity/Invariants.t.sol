// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Action} from "./support/Actions.sol";
import {MarketHandler} from "./support/MarketHandler.sol";
import {Test} from "./support/Test.sol";

/// Whatever anybody does in any order
/// ├── books: holdings are what modules owe; entries = paid in - paid out; the tokens are there
/// ├── reserves: what is reserved is the worst case of the open batches, and less than a lie about them costs
/// ├── seats: open seats are those of unjudged committees, covered but where a juror was fined; stake and lots follow
/// ├── draws: juries are drawn of all who did not sit before, whatever seats are taken
/// ├── final: closed batches, disputes and rounds never change
/// ├── arrows: nothing takes a step that README.md does not draw
/// ├── pay: only coherent seats are paid, and none is paid and slashed; a dispute's bill is exact
/// ├── refused: what nobody may do now is refused, whoever tries
/// └── exit: at the end of every run permissionless calls end everything, and everybody leaves; the pool stays
contract InvariantsTest is Test {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    /// The checks cost more than the calls, so deep runs make them every so many steps, and whenever a run ends.
    uint256 private constant DEEP_STRIDE = 8;

    MarketHandler private handler;
    bytes4[] private actions;
    bool private deep;

    function setUp() external {
        deep = vm.envOr("TRACEMARKET_DEEP_RUNS", 0) != 0;
        handler = new MarketHandler();
        actions = [
            handler.createBounty.selector,
            handler.fundBounty.selector,
            handler.refund.selector,
            handler.request.selector,
            handler.openAssignment.selector,
            handler.commitBatch.selector,
            handler.commitBatch.selector,
            handler.commitBatch.selector,
            handler.draw.selector,
            handler.drawDue.selector,
            handler.commitVerdict.selector,
            handler.revealVerdict.selector,
            handler.finishRound.selector,
            handler.finishRound.selector,
            handler.finishRound.selector,
            handler.finishRound.selector,
            handler.finishRound.selector,
            handler.tally.selector,
            handler.tally.selector,
            handler.voidStalled.selector,
            handler.settle.selector,
            handler.settleMany.selector,
            handler.disputeAny.selector,
            handler.disputeAny.selector,
            handler.disputeLeaf.selector,
            handler.disputeOutcome.selector,
            handler.demandOpening.selector,
            handler.moveOpening.selector,
            handler.moveOpening.selector,
            handler.moveOpening.selector,
            handler.proveFault.selector,
            handler.narrow.selector,
            handler.narrow.selector,
            handler.tallyJury.selector,
            handler.appeal.selector,
            handler.close.selector,
            handler.plead.selector,
            handler.plead.selector,
            handler.plead.selector,
            handler.plead.selector,
            handler.plead.selector,
            handler.plead.selector,
            handler.openAudit.selector,
            handler.stakeMore.selector,
            handler.stakeWhileDue.selector,
            handler.requestUnstake.selector,
            handler.claim.selector,
            handler.deposit.selector,
            handler.withdraw.selector,
            handler.donate.selector,
            handler.meddle.selector,
            handler.pass.selector,
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

    function invariant_BooksHold() external view {
        if (!deep || handler.steps() % DEEP_STRIDE == 0) _check();
    }

    function afterInvariant() external {
        if (deep) _record();
        _check();
        handler.everybodyLeaves();
    }

    /// The invariants are worth what the handler reaches: a long walk from a fixed seed does every action, and
    /// everybody can leave after it.
    function testHandlerReachesEveryAction() external {
        for (uint256 step; step < 4_000; ++step) {
            uint256 dice = uint256(keccak256(abi.encode("walk", step)));
            (bool success, bytes memory answer) =
                address(handler).call(abi.encodeWithSelector(actions[dice % actions.length], dice >> 8));
            if (!success) {
                assembly ("memory-safe") {
                    revert(add(answer, 32), mload(answer))
                }
            }
            if (step % 50 == 0) _check();
        }
        string memory rare;
        for (uint256 i; i < handler.ACTIONS(); ++i) {
            if (handler.done(Action(i)) == 0) rare = string.concat(rare, " ", vm.toString(i));
        }
        _check();
        handler.everybodyLeaves();
        vm.assertTrue(bytes(rare).length == 0, string.concat("actions that never succeed:", rare));
    }

    /// What this run's actions did: deep.py adds the runs up, which share no storage.
    function _record() private {
        string memory counts;
        for (uint256 i; i < handler.ACTIONS(); ++i) {
            counts = string.concat(counts, i == 0 ? "" : " ", vm.toString(handler.done(Action(i))));
        }
        string memory seed = vm.toString(vm.envOr("TRACEMARKET_DEEP_SEED", 0));
        vm.writeLine(string.concat("build/deep/", seed, ".txt"), counts);
    }

    function _check() private view {
        handler.checkBooks();
        handler.checkReserves();
        handler.checkSeats();
        handler.checkFinal();
    }
}
