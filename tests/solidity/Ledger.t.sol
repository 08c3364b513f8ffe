// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ILedger} from "../../contracts/src/interfaces/ILedger.sol";
import {Permit} from "../../contracts/src/libraries/Types.sol";
import {Scenario} from "./support/Scenario.sol";

/// constructor
/// └── token without code                       Ledger_NoCode
/// deposit, depositWithPermit
/// ├── with allowance: balance grows
/// ├── with a permit, used before or not, or worthless next to an allowance: the same
/// ├── neither                                  ERC20InsufficientAllowance of the token
/// └── another amount arrives                   Ledger_InexactTransfer (OddTokens.t.sol)
/// withdraw
/// ├── to nobody, to the ledger                 Ledger_InvalidRecipient
/// ├── more than the balance                    Ledger_InsufficientBalance
/// └── all or a part, to anybody
/// collect, collectWithPermit
/// ├── not a module                             Ledger_NotModule
/// ├── balance covers it: no token moves
/// ├── balance covers a part: tokens for the rest
/// └── from tokens
/// credit, shift
/// ├── not a module, or to none                 Ledger_NotModule
/// ├── more than is held                        Ledger_InsufficientHolding
/// └── moved
contract LedgerTest is Scenario {
    error ERC20InsufficientAllowance(address spender, uint256 allowance, uint256 needed);

    function setUp() external {
        _begin();
    }

    function testTokenNeedsCode() external {
        vm.expectRevert(abi.encodeWithSelector(ILedger.Ledger_NoCode.selector, stranger));
        this.create("Ledger.sol:Ledger", abi.encode(stranger, escrow, stake, market, court, royalties));
    }

    function testDepositAndWithdraw() external {
        _arm(miner, 100);
        vm.expectEmit(address(ledger));
        emit ILedger.Deposited(miner, 100);
        vm.prank(miner);
        ledger.deposit(100);
        _checkState(miner, 100, 100);
        vm.assertEq(token.balanceOf(address(ledger)), 100, "tokens came");

        vm.expectEmit(address(ledger));
        emit ILedger.Withdrawn(miner, stranger, 40);
        vm.prank(miner);
        ledger.withdraw(stranger, 40);
        _checkState(miner, 60, 60);
        vm.assertEq(token.balanceOf(stranger), 40, "tokens went");
        vm.prank(miner);
        ledger.withdraw(miner, 60);
        _checkState(miner, 0, 0);
        vm.assertEq(token.balanceOf(address(ledger)), 0, "none left");
    }

    function testWithdrawErrors() external {
        _arm(miner, 100);
        vm.prank(miner);
        ledger.deposit(100);
        // Tokens that the ledger sends itself would stay for good, owed to nobody.
        address[2] memory nowhere = [address(0), address(ledger)];
        for (uint256 i; i < 2; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ILedger.Ledger_InvalidRecipient.selector, nowhere[i]));
            vm.prank(miner);
            ledger.withdraw(nowhere[i], 1);
        }
        _checkState(miner, 100, 100);
        vm.expectRevert(abi.encodeWithSelector(ILedger.Ledger_InsufficientBalance.selector, miner, 100, 101));
        vm.prank(miner);
        ledger.withdraw(miner, 101);
        // Nobody else's balance helps.
        vm.expectRevert(abi.encodeWithSelector(ILedger.Ledger_InsufficientBalance.selector, stranger, 0, 1));
        vm.prank(stranger);
        ledger.withdraw(stranger, 1);
    }

    function testDepositWithoutAllowance() external {
        token.mint(miner, 100);
        vm.expectRevert(abi.encodeWithSelector(ERC20InsufficientAllowance.selector, address(ledger), 0, 100));
        vm.prank(miner);
        ledger.deposit(100);
        _checkState(miner, 0, 0);
    }

    function testDepositWithPermit() external {
        token.mint(miner, 100);
        Permit memory permit = _permitOf(miner, "miner", 100);
        vm.prank(miner);
        ledger.depositWithPermit(100, permit);
        _checkState(miner, 100, 100);
    }

    /// Who sees the signature can use it first; the deposit still goes through on the allowance it left.
    function testFrontRunPermitIsHarmless() external {
        token.mint(miner, 100);
        Permit memory permit = _permitOf(miner, "miner", 100);
        vm.prank(stranger);
        token.permit(miner, address(ledger), permit.value, permit.deadline, permit.v, permit.r, permit.s);
        vm.prank(miner);
        ledger.depositWithPermit(100, permit);
        _checkState(miner, 100, 100);
    }

    /// A permit of somebody else, even a valid one in favour of the ledger, never takes that person's tokens.
    function testOthersPermitTakesNothing() external {
        token.mint(miner, 100);
        Permit memory permit = _permitOf(miner, "miner", 100);
        vm.expectRevert(abi.encodeWithSelector(ERC20InsufficientAllowance.selector, address(ledger), 0, 100));
        vm.prank(stranger);
        ledger.depositWithPermit(100, permit);
        vm.prank(stranger);
        token.permit(miner, address(ledger), permit.value, permit.deadline, permit.v, permit.r, permit.s);
        vm.expectRevert(abi.encodeWithSelector(ERC20InsufficientAllowance.selector, address(ledger), 0, 100));
        vm.prank(stranger);
        ledger.depositWithPermit(100, permit);
        vm.assertEq(token.balanceOf(miner), 100, "untouched");
    }

    function testWorthlessPermitBesideAnAllowance() external {
        _arm(miner, 100);
        vm.prank(miner);
        ledger.depositWithPermit(100, Permit(100, 0, 27, bytes32(0), bytes32(0)));
        _checkState(miner, 100, 100);
    }

    function testCollectTakesBalanceFirst() external {
        _arm(miner, 100);
        vm.prank(miner);
        ledger.deposit(60);

        vm.expectEmit(address(ledger));
        emit ILedger.Collected(address(market), miner, 50, 50);
        vm.prank(address(market));
        ledger.collect(miner, 50);
        _checkState(miner, 10, 60);
        vm.assertEq(ledger.heldFor(address(market)), 50, "held");
        vm.assertEq(token.balanceOf(miner), 40, "no token moved");

        vm.expectEmit(address(ledger));
        emit ILedger.Collected(address(stake), miner, 30, 10);
        vm.prank(address(stake));
        ledger.collect(miner, 30);
        _checkState(miner, 0, 80);
        vm.assertEq(ledger.heldFor(address(stake)), 30, "held");
        vm.assertEq(token.balanceOf(miner), 20, "tokens for the rest");

        vm.prank(address(escrow));
        ledger.collect(miner, 20);
        _checkState(miner, 0, 100);
        vm.assertEq(token.balanceOf(address(ledger)), 100, "all tokens are here");
    }

    function testCollectWithPermit() external {
        token.mint(miner, 100);
        Permit memory permit = _permitOf(miner, "miner", 70);
        vm.prank(address(market));
        ledger.collectWithPermit(miner, 70, permit);
        vm.assertEq(ledger.heldFor(address(market)), 70, "held");
    }

    function testModulesOnly() external {
        address[] memory to = new address[](1);
        uint256[] memory amounts = new uint256[](1);
        Permit memory permit;
        bytes memory reason = abi.encodeWithSelector(ILedger.Ledger_NotModule.selector, stranger);
        vm.startPrank(stranger);
        vm.expectRevert(reason);
        ledger.collect(miner, 1);
        vm.expectRevert(reason);
        ledger.collectWithPermit(miner, 1, permit);
        vm.expectRevert(reason);
        ledger.credit(to, amounts);
        vm.expectRevert(reason);
        ledger.shift(address(market), 0);
        vm.stopPrank();
        // Rounds and the assignments hold no money, so they are no modules.
        vm.expectRevert(abi.encodeWithSelector(ILedger.Ledger_NotModule.selector, address(rounds)));
        vm.prank(address(rounds));
        ledger.credit(to, amounts);
        // Nor can a module shift to anything else.
        vm.expectRevert(reason);
        vm.prank(address(market));
        ledger.shift(stranger, 0);
    }

    function testCreditAndShift() external {
        _fill(address(market), 100);
        vm.expectEmit(address(ledger));
        emit ILedger.Shifted(address(market), address(escrow), 40);
        vm.prank(address(market));
        ledger.shift(address(escrow), 40);
        vm.assertEq(ledger.heldFor(address(market)), 60, "from");
        vm.assertEq(ledger.heldFor(address(escrow)), 40, "to");

        // The same account twice, and an empty part.
        address[] memory to = new address[](3);
        uint256[] memory amounts = new uint256[](3);
        (to[0], to[1], to[2]) = (miner, trainer, miner);
        (amounts[0], amounts[1], amounts[2]) = (10, 0, 30);
        vm.expectEmit(address(ledger));
        emit ILedger.Credited(miner, address(market), 10);
        vm.prank(address(market));
        ledger.credit(to, amounts);
        _checkState(miner, 40, 100);
        vm.assertEq(ledger.heldFor(address(market)), 20, "less");
    }

    /// Every module holds for itself and can hand to every other one, the court and the royalties among them.
    function testTheFiveModules() external {
        address[5] memory modules =
            [address(escrow), address(stake), address(market), address(court), address(royalties)];
        for (uint256 i; i < 5; ++i) {
            _fill(modules[i], 10);
            address next = modules[(i + 1) % 5];
            uint256 held = ledger.heldFor(next);
            vm.prank(modules[i]);
            ledger.shift(next, 4);
            vm.assertEq(ledger.heldFor(next), held + 4, "shifted");
            address[] memory to = new address[](1);
            uint256[] memory amounts = new uint256[](1);
            (to[0], amounts[0]) = (miner, 6);
            vm.prank(modules[i]);
            ledger.credit(to, amounts);
        }
        vm.assertEq(ledger.balanceOf(miner), 30, "credited by all");
        vm.assertEq(_entries(), 50, "entries");
    }

    function testHoldingsAreApart() external {
        _fill(address(market), 100);
        address[] memory to = new address[](2);
        uint256[] memory amounts = new uint256[](2);
        (to[0], to[1], amounts[0], amounts[1]) = (miner, stranger, 60, 41);
        vm.expectRevert(
            abi.encodeWithSelector(ILedger.Ledger_InsufficientHolding.selector, address(market), 100, 101)
        );
        vm.prank(address(market));
        ledger.credit(to, amounts);
        vm.expectRevert(
            abi.encodeWithSelector(ILedger.Ledger_InsufficientHolding.selector, address(market), 100, 101)
        );
        vm.prank(address(market));
        ledger.shift(address(escrow), 101);
        vm.expectRevert(
            abi.encodeWithSelector(ILedger.Ledger_InsufficientHolding.selector, address(stake), 0, 1)
        );
        vm.prank(address(stake));
        ledger.shift(address(escrow), 1);
    }

    /// Tokens that are sent without a call belong to nobody, and disturb nobody.
    function testDonationIsNobodys() external {
        _arm(miner, 100);
        vm.prank(miner);
        token.transfer(address(ledger), 30);
        vm.prank(miner);
        ledger.deposit(70);
        _checkState(miner, 70, 70);
        vm.assertEq(token.balanceOf(address(ledger)), 100, "tokens");
    }

    function _fill(address module, uint256 amount) private {
        _arm(poster, amount);
        vm.prank(module);
        ledger.collect(poster, amount);
    }

    function _checkState(address account, uint256 balance, uint256 entries) private view {
        vm.assertEq(ledger.balanceOf(account), balance, "balance");
        vm.assertEq(_entries(), entries, "entries");
    }
}
