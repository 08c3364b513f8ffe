// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAssignments} from "../../contracts/src/interfaces/IAssignments.sol";
import {IBatchMarket} from "../../contracts/src/interfaces/IBatchMarket.sol";
import {IBountyEscrow} from "../../contracts/src/interfaces/IBountyEscrow.sol";
import {ILedger} from "../../contracts/src/interfaces/ILedger.sol";
import {IVerifierStake} from "../../contracts/src/interfaces/IVerifierStake.sol";
import {Attestation, ContentId, Permit} from "../../contracts/src/libraries/Types.sol";
import {Scenario} from "./support/Scenario.sol";
import {
    BlockingToken,
    CallbackToken,
    FalseToken,
    FeeToken,
    LyingToken,
    PlainToken,
    RebasingToken,
    Reentrant,
    SilentToken
} from "./tokens/OddTokens.sol";

/// An odd ERC-20 behind the ledger
/// ├── fee on transfer                          refused on the way in, exact on the way out
/// ├── no return value, no permit               works
/// ├── false                                    refused, nothing is booked
/// ├── true, but nothing moved                  refused, nothing is booked
/// ├── blocklist                                its member can't withdraw to itself; nobody else is held up
/// ├── paused                                   no way in or out; batches go on to their end
/// ├── rebased down                             the last to withdraw find too little (a documented limit)
/// └── callbacks                                no call out of a transfer takes what is not the caller's
contract OddTokensTest is Scenario {
    error SafeERC20FailedOperation(address token);

    function testFeeOnTransferIsRefusedOnTheWayIn() external {
        FeeToken odd = new FeeToken();
        _beginWith(address(odd));
        odd.charge(true);
        _arm(miner, 1e9);
        bytes memory inexact =
            abi.encodeWithSelector(ILedger.Ledger_InexactTransfer.selector, 1e6, 1e6 - 1e3);
        Permit memory none;
        vm.startPrank(miner);
        vm.expectRevert(inexact);
        ledger.deposit(1e6);
        vm.expectRevert(inexact);
        ledger.depositWithPermit(1e6, none);
        vm.expectRevert(inexact);
        escrow.create(_terms(), 1e6);
        vm.expectRevert(
            abi.encodeWithSelector(ILedger.Ledger_InexactTransfer.selector, SEAT, SEAT - SEAT / 1_000)
        );
        stake.stake(SEAT);
        vm.stopPrank();
        vm.assertEq(_entries(), 0, "nothing was booked");
        vm.assertEq(escrow.count(), 0, "no bounty");
        vm.assertEq(stake.totalWeight(), 0, "no stake");
    }

    /// A fee that is switched on later takes from who withdraws, from nobody else; what is inside goes on.
    function testFeeSwitchedOnLater() external {
        FeeToken odd = new FeeToken();
        _beginStaked(address(odd));
        uint64 batch = _attested(_bounty(10e6));
        odd.charge(true);
        _settle(batch);
        uint256 earned = ledger.balanceOf(miner);
        vm.prank(miner);
        ledger.withdraw(miner, earned);
        vm.assertEq(token.balanceOf(miner), earned - earned / 1_000, "the token's fee is the receiver's");
        _checkBooks();
        // A bond out of the balance moves no token, so it still works.
        vm.assertEq(token.balanceOf(address(ledger)), _entries(), "no hole");
    }

    function testNoReturnValueAndNoPermit() external {
        _beginStaked(address(new SilentToken()));
        uint64 batch = _attested(_bounty(10e6));
        _settle(batch);
        uint256 earned = ledger.balanceOf(miner);
        vm.prank(miner);
        ledger.withdraw(miner, earned);
        vm.assertEq(token.balanceOf(miner), earned, "withdrawn");
        // Without the function, a permit is as good as none: the allowance decides.
        Permit memory none;
        vm.prank(miner);
        ledger.depositWithPermit(earned, none);
        vm.assertEq(ledger.balanceOf(miner), earned, "deposited");
        _checkBooks();
    }

    function testFalseIsRefused() external {
        FalseToken odd = new FalseToken();
        _beginWith(address(odd));
        _arm(miner, 1e9);
        vm.prank(miner);
        ledger.deposit(1e6);
        odd.refuse(true);
        bytes memory failed = abi.encodeWithSelector(SafeERC20FailedOperation.selector, address(odd));
        vm.startPrank(miner);
        vm.expectRevert(failed);
        ledger.deposit(1e6);
        vm.expectRevert(failed);
        stake.stake(SEAT);
        vm.expectRevert(failed);
        ledger.withdraw(miner, 1e6);
        vm.stopPrank();
        vm.assertEq(ledger.balanceOf(miner), 1e6, "the balance is not lost");
        vm.assertEq(_entries(), 1e6, "entries");
        odd.refuse(false);
        vm.prank(miner);
        ledger.withdraw(miner, 1e6);
    }

    function testTrueWithoutAMoveIsRefused() external {
        _beginWith(address(new LyingToken()));
        _arm(miner, 1e9);
        vm.expectRevert(abi.encodeWithSelector(ILedger.Ledger_InexactTransfer.selector, 1e6, 0));
        vm.prank(miner);
        ledger.deposit(1e6);
        vm.expectRevert(abi.encodeWithSelector(ILedger.Ledger_InexactTransfer.selector, SEAT, 0));
        vm.prank(miner);
        stake.stake(SEAT);
        vm.assertEq(_entries(), 0, "nothing was booked");
    }

    /// Miner, poster and a verifier are all on the list when the batch ends: everybody else is paid.
    function testBlockedPartiesHoldUpNobody() external {
        BlockingToken odd = new BlockingToken();
        _beginStaked(address(odd));
        uint64 bounty = _bounty(10e6);
        uint64 batch = _commit(bounty, miner, 8);
        address[] memory members = _draw(1);
        odd.setBlocked(miner, true);
        odd.setBlocked(poster, true);
        odd.setBlocked(members[0], true);
        _vote(1, _same(_verdict(8, 0), 3));
        market.tally(batch, _verdict(8, 0));
        _settle(batch);
        vm.assertEq(ledger.balanceOf(miner), 8 * uint256(PRICE) + 80_000, "booked");
        uint256 share = ledger.balanceOf(members[1]);
        vm.prank(members[1]);
        ledger.withdraw(members[1], share);
        vm.assertEq(token.balanceOf(members[1]), share, "paid");

        uint256 earned = ledger.balanceOf(miner);
        vm.expectRevert(abi.encodeWithSelector(BlockingToken.Blocked.selector, miner));
        vm.prank(miner);
        ledger.withdraw(miner, earned);
        // Its money is its own all the same: it can work on with it, or send it where the token lets it.
        vm.warp(escrow.get(bounty).terms.deadline + 1);
        escrow.refund(bounty);
        vm.prank(miner);
        ledger.withdraw(stranger, earned);
        vm.assertEq(token.balanceOf(stranger), earned, "to an account that is not listed");
        vm.prank(members[0]);
        stake.requestUnstake(SEAT);
        _checkBooks();
    }

    function testPausedTokenStopsNoBatch() external {
        BlockingToken odd = new BlockingToken();
        _beginStaked(address(odd));
        uint64 bounty = _bounty(10e6);
        uint64 batch = _commit(bounty, miner, 8);
        odd.setPaused(true);
        _attest(batch, _verdict(8, 0));
        _settle(batch);
        vm.warp(escrow.get(bounty).terms.deadline + 1);
        escrow.refund(bounty);
        vm.expectRevert(abi.encodeWithSelector(BlockingToken.Paused.selector));
        vm.prank(poster);
        ledger.withdraw(poster, 1);
        odd.setPaused(false);
        vm.prank(poster);
        ledger.withdraw(poster, 1);
        _checkBooks();
    }

    /// A documented limit: the ledger counts units, not shares. Tokens that shrink in place are missing at the end; the
    /// withdrawal fails whole, and what the token says is there can be withdrawn.
    function testRebasedDown() external {
        RebasingToken odd = new RebasingToken();
        _beginWith(address(odd));
        _arm(miner, 100);
        _arm(stranger, 100);
        vm.prank(miner);
        ledger.deposit(100);
        vm.prank(stranger);
        ledger.deposit(100);
        odd.rebase(address(ledger), 150);
        vm.prank(miner);
        ledger.withdraw(miner, 100);
        vm.expectRevert(abi.encodeWithSelector(PlainToken.InsufficientBalance.selector));
        vm.prank(stranger);
        ledger.withdraw(stranger, 100);
        vm.prank(stranger);
        ledger.withdraw(stranger, 50);
        vm.assertEq(ledger.balanceOf(stranger), 50, "still owed");
    }

    /// The sender of tokens answers its callback with calls into everything. Those that move tokens are shut; the others
    /// see finished books, so they do what they would do a moment later.
    function testReentrantDeposit() external {
        _beginWith(address(new CallbackToken()));
        Reentrant attacker = _attacker(100e6);
        attacker.execute(address(ledger), abi.encodeCall(ILedger.deposit, (10e6)));
        bytes[5] memory calls = [
            abi.encodeCall(ILedger.withdraw, (address(attacker), 10e6)),
            abi.encodeCall(ILedger.withdraw, (address(attacker), 15e6)),
            abi.encodeCall(ILedger.deposit, (1e6)),
            abi.encodeCall(ILedger.collect, (poster, 1)),
            abi.encodeCall(ILedger.shift, (address(market), 1))
        ];
        for (uint256 i; i < 5; ++i) {
            attacker.plan(address(ledger), calls[i]);
        }
        attacker.execute(address(ledger), abi.encodeCall(ILedger.deposit, (5e6)));
        vm.assertEq(attacker.attempts(), 5, "called back");
        _allFailed(attacker);
        vm.assertEq(ledger.balanceOf(address(attacker)), 15e6, "as without callbacks");
        _checkBooks();
    }

    function testReentrantWithdraw() external {
        _beginWith(address(new CallbackToken()));
        Reentrant attacker = _attacker(100e6);
        attacker.execute(address(ledger), abi.encodeCall(ILedger.deposit, (10e6)));
        attacker.plan(address(ledger), abi.encodeCall(ILedger.withdraw, (address(attacker), 10e6)));
        attacker.plan(address(ledger), abi.encodeCall(ILedger.deposit, (10e6)));
        attacker.execute(address(ledger), abi.encodeCall(ILedger.withdraw, (address(attacker), 10e6)));
        vm.assertEq(attacker.attempts(), 2, "called back");
        _allFailed(attacker);
        vm.assertEq(token.balanceOf(address(attacker)), 100e6, "its own, once");
        _checkBooks();
    }

    /// Stake and bounty in the making: what was not paid for yet can't be used to get anything out.
    function testReentrantStakeAndBounty() external {
        _beginWith(address(new CallbackToken()));
        _bounty(10e6);
        Reentrant attacker = _attacker(10 * SEAT);
        verifiers.push(address(attacker));
        attacker.plan(address(stake), abi.encodeCall(IVerifierStake.stake, (SEAT)));
        attacker.plan(address(stake), abi.encodeCall(IVerifierStake.claim, (address(attacker))));
        attacker.plan(address(escrow), abi.encodeCall(IBountyEscrow.refund, (2)));
        attacker.plan(address(escrow), abi.encodeCall(IBountyEscrow.fund, (1, escrow.identityOf(1), 1e6)));
        attacker.plan(address(market), abi.encodeCall(IBatchMarket.settle, (1)));
        attacker.execute(address(stake), abi.encodeCall(IVerifierStake.stake, (SEAT)));
        attacker.execute(address(escrow), abi.encodeCall(IBountyEscrow.create, (_terms(), 1e6)));
        vm.assertEq(attacker.attempts(), 10, "called back");
        _allFailed(attacker);
        _checkBooks();
    }

    /// A bond that is called for while the miner is being called back, and a transfer in the middle of a measured one.
    function testReentrantBatch() external {
        _beginStaked(address(new CallbackToken()));
        uint64 bounty = _bounty(10e6);
        Reentrant attacker = _attacker(1e6);
        attacker.execute(address(assignments), abi.encodeCall(IAssignments.request, (bounty)));
        _reach(assignments.get(bounty, address(attacker)).point);
        assignments.open(bounty, address(attacker));
        bytes32 seed = assignments.get(bounty, address(attacker)).seed;
        ContentId memory content = ContentId(ROOT, RAW);
        attacker.plan(
            address(market), abi.encodeCall(IBatchMarket.commitBatch, (bounty, ROOT, 8, 2, seed, content))
        );
        attacker.plan(address(market), abi.encodeCall(IBatchMarket.voidStalled, (1)));
        attacker.plan(address(market), abi.encodeCall(IBatchMarket.tally, (1, Attestation(0, 0, 0))));
        attacker.execute(
            address(market), abi.encodeCall(IBatchMarket.commitBatch, (bounty, ROOT, 8, 0, seed, content))
        );
        vm.assertEq(attacker.attempts(), 3, "called back");
        _allFailed(attacker);
        vm.assertEq(market.count(), 1, "one batch");
        _checkBooks();
    }

    /// Tokens that arrive beside a measured transfer make it inexact; it fails as a whole.
    function testTransferInsideATransfer() external {
        _beginWith(address(new CallbackToken()));
        Reentrant attacker = _attacker(1e6);
        attacker.plan(address(token), abi.encodeCall(PlainToken.transfer, (address(ledger), 1)));
        uint256 entries = _entries();
        vm.expectRevert(abi.encodeWithSelector(ILedger.Ledger_InexactTransfer.selector, 10, 11));
        attacker.execute(address(ledger), abi.encodeCall(ILedger.deposit, (10)));
        vm.assertEq(_entries(), entries, "nothing was booked");
    }

    function _beginWith(address odd) private {
        _begin();
        _deployWith(odd);
        environments.register(ENVIRONMENT);
    }

    /// The same with three verifiers.
    function _beginStaked(address odd) private {
        _beginWith(odd);
        _verifiers(3, 2 * SEAT);
    }

    function _attested(uint64 bounty) private returns (uint64 batch) {
        batch = _commit(bounty, miner, 8);
        _attest(batch, _verdict(8, 0));
    }

    function _attacker(uint256 amount) private returns (Reentrant attacker) {
        attacker = new Reentrant();
        _arm(address(attacker), amount);
        accounts.push(address(attacker));
    }

    function _allFailed(Reentrant attacker) private view {
        for (uint256 i; i < attacker.attempts(); ++i) {
            vm.assertFalse(attacker.succeeded(i), "a call out of a transfer went through");
        }
    }
}
