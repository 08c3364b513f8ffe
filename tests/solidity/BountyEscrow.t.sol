// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBountyEscrow} from "../../contracts/src/interfaces/IBountyEscrow.sol";
import {BountyTerms, PayRule, Permit, Tier} from "../../contracts/src/libraries/Types.sol";
import {Scenario} from "./support/Scenario.sol";

/// create, createWithPermit
/// ├── environment not registered               BountyEscrow_UnknownEnvironment
/// ├── deadline now or before                   BountyEscrow_DeadlinePassed
/// ├── deadline more than 366 days ahead        BountyEscrow_DeadlineTooFar
/// ├── no price                                 BountyEscrow_ZeroPrice
/// ├── group of 0, or of 1 under Informative    BountyEscrow_InvalidGroupSize
/// ├── tier A or B without a trainer            BountyEscrow_TrainerMissing
/// ├── no money                                 BountyEscrow_ZeroAmount
/// └── numbered from 1, terms as given, money available
/// fund, fundWithPermit, by anybody
/// ├── no such bounty                           BountyEscrow_UnknownBounty
/// ├── another one than the payer names         BountyEscrow_AnotherBounty
/// ├── after its deadline                       BountyEscrow_DeadlinePassed
/// └── nothing                                  BountyEscrow_ZeroAmount
/// refund, by anybody, to the poster
/// ├── up to the deadline's second              BountyEscrow_DeadlineNotPassed
/// ├── all reserved, or refunded before         BountyEscrow_NothingToRefund
/// └── again, when a pending batch gave back
/// reserve, release, replenish
/// ├── not the market (replenish: nor the court) BountyEscrow_NotMarket
/// ├── reserve after the deadline               BountyEscrow_DeadlinePassed
/// └── more than is available                   BountyEscrow_InsufficientFunds
contract BountyEscrowTest is Scenario {
    function setUp() external {
        _begin();
    }

    function testCreate() external {
        BountyTerms memory terms = _terms();
        _arm(poster, 1e6);
        vm.expectEmit(address(escrow));
        emit IBountyEscrow.BountyCreated(1, poster, ENVIRONMENT, terms);
        vm.expectEmit(address(escrow));
        emit IBountyEscrow.BountyFunded(1, poster, 1e6);
        vm.prank(poster);
        vm.assertEq(escrow.create(terms, 1e6), 1, "first id");

        IBountyEscrow.Bounty memory seen = escrow.get(1);
        vm.assertEq(seen.poster, poster, "poster");
        vm.assertEq(seen.available, 1e6, "available");
        vm.assertEq(seen.reserved, 0, "reserved");
        vm.assertEq(keccak256(abi.encode(seen.terms)), keccak256(abi.encode(terms)), "terms");
        vm.assertEq(_bounty(1), 2, "second id");
        _checkBooks();
    }

    function testCreateErrors() external {
        BountyTerms memory terms = _terms();
        terms.environment = keccak256("unknown");
        _createReverts(
            terms, abi.encodeWithSelector(IBountyEscrow.BountyEscrow_UnknownEnvironment.selector, terms.environment)
        );
        terms = _terms();
        terms.deadline = uint64(_now());
        _createReverts(
            terms, abi.encodeWithSelector(IBountyEscrow.BountyEscrow_DeadlinePassed.selector, _now(), _now())
        );
        for (uint256 i; i < 2; ++i) {
            terms = _terms();
            terms.deadline = i == 0 ? uint64(_now() + 366 days + 1) : type(uint64).max;
            _createReverts(
                terms,
                abi.encodeWithSelector(
                    IBountyEscrow.BountyEscrow_DeadlineTooFar.selector, terms.deadline, _now() + 366 days
                )
            );
        }
        terms = _terms();
        terms.pricePerUnit = 0;
        _createReverts(terms, abi.encodeWithSelector(IBountyEscrow.BountyEscrow_ZeroPrice.selector));
        terms = _terms();
        terms.groupSize = 0;
        _createReverts(terms, abi.encodeWithSelector(IBountyEscrow.BountyEscrow_InvalidGroupSize.selector, 0));
        terms.payRule = PayRule.Informative;
        terms.groupSize = 1;
        _createReverts(terms, abi.encodeWithSelector(IBountyEscrow.BountyEscrow_InvalidGroupSize.selector, 1));
        terms = _terms();
        terms.trainer = address(0);
        _createReverts(terms, abi.encodeWithSelector(IBountyEscrow.BountyEscrow_TrainerMissing.selector, 1));
        terms.tier = Tier.Replayable;
        _createReverts(terms, abi.encodeWithSelector(IBountyEscrow.BountyEscrow_TrainerMissing.selector, 0));
        _expect(IBountyEscrow.BountyEscrow_ZeroAmount.selector);
        vm.prank(poster);
        escrow.create(_terms(), 0);
        vm.assertEq(escrow.count(), 0, "none was made");
    }

    /// What is just allowed.
    function testCreateEdges() external {
        BountyTerms memory terms = _terms();
        terms.tier = Tier.Opaque;
        terms.trainer = address(0);
        terms.groupSize = 1;
        terms.pricePerUnit = 1;
        terms.feePerTrace = 0;
        terms.deadline = uint64(_now() + 1);
        _bountyWith(terms, 1);
        terms.payRule = PayRule.Informative;
        terms.groupSize = 2;
        terms.deadline = uint64(_now() + 366 days);
        _bountyWith(terms, 1);
    }

    function testCreateWithPermitThatSomebodyUsedFirst() external {
        token.mint(poster, 10e6);
        Permit memory permit = _permitOf(poster, "poster", 10e6);
        vm.prank(stranger);
        token.permit(poster, address(ledger), permit.value, permit.deadline, permit.v, permit.r, permit.s);
        vm.prank(poster);
        uint64 bounty = escrow.createWithPermit(_terms(), 4e6, permit);
        vm.assertEq(escrow.get(bounty).available, 4e6, "available");
        _checkBooks();
    }

    function testFundWithPermit() external {
        uint64 bounty = _bounty(1e6);
        token.mint(stranger, 5e6);
        Permit memory permit = _permitOf(stranger, "stranger", 5e6);
        bytes32 identity = escrow.identityOf(bounty);
        vm.expectEmit(address(escrow));
        emit IBountyEscrow.BountyFunded(bounty, stranger, 5e6);
        vm.prank(stranger);
        escrow.fundWithPermit(bounty, identity, 5e6, permit);
        vm.assertEq(escrow.get(bounty).available, 6e6, "available");
        _checkBooks();
    }

    function testFundFromTheBalance() external {
        uint64 bounty = _bounty(1e6);
        _arm(stranger, 3e6);
        vm.prank(stranger);
        ledger.deposit(2e6);
        bytes32 identity = escrow.identityOf(bounty);
        vm.prank(stranger);
        escrow.fund(bounty, identity, 3e6);
        vm.assertEq(ledger.balanceOf(stranger), 0, "balance went first");
        vm.assertEq(token.balanceOf(stranger), 0, "tokens for the rest");
        _checkBooks();
    }

    function testFundErrors() external {
        uint64 bounty = _bounty(1e6);
        uint64 deadline = escrow.get(bounty).terms.deadline;
        bytes32 identity = escrow.identityOf(bounty);
        vm.expectRevert(abi.encodeWithSelector(IBountyEscrow.BountyEscrow_UnknownBounty.selector, 2));
        escrow.fund(2, identity, 1);
        vm.expectRevert(abi.encodeWithSelector(IBountyEscrow.BountyEscrow_UnknownBounty.selector, 2));
        escrow.identityOf(2);
        vm.expectRevert(abi.encodeWithSelector(IBountyEscrow.BountyEscrow_UnknownBounty.selector, 0));
        escrow.get(0);
        _expect(IBountyEscrow.BountyEscrow_ZeroAmount.selector);
        escrow.fund(bounty, identity, 0);
        _arm(stranger, 2);
        vm.warp(deadline);
        vm.prank(stranger);
        escrow.fund(bounty, identity, 1);
        vm.warp(uint256(deadline) + 1);
        bytes memory reason =
            abi.encodeWithSelector(IBountyEscrow.BountyEscrow_DeadlinePassed.selector, deadline, deadline + 1);
        vm.expectRevert(reason);
        vm.prank(stranger);
        escrow.fund(bounty, identity, 1);
        Permit memory permit;
        vm.expectRevert(reason);
        vm.prank(stranger);
        escrow.fundWithPermit(bounty, identity, 1, permit);
    }

    /// A chain that is reorganised gives numbers anew: the same payment, sent again, goes to no other bounty.
    function testFundNamesTheBounty() external {
        uint256 before = vm.snapshotState();
        uint64 bounty = _bounty(1e6);
        bytes32 named = escrow.identityOf(bounty);
        vm.assertEq(named, keccak256(abi.encode(poster, _terms())), "poster and terms");
        bytes32 environment = keccak256("another environment");
        for (uint256 what; what < 9; ++what) {
            vm.revertToState(before);
            environments.register(environment);
            BountyTerms memory terms = _terms();
            if (what == 1) terms.environment = environment;
            if (what == 2) terms.trainer = miner;
            if (what == 3) --terms.deadline;
            if (what == 4) ++terms.groupSize;
            if (what == 5) terms.tier = terms.tier == Tier.Replayable ? Tier.Scorable : Tier.Replayable;
            if (what == 6) terms.payRule = terms.payRule == PayRule.Correct ? PayRule.Informative : PayRule.Correct;
            if (what == 7) ++terms.pricePerUnit;
            if (what == 8) ++terms.feePerTrace;
            address by = what == 0 ? miner : poster;
            _arm(by, 1e6);
            vm.prank(by);
            vm.assertEq(escrow.create(terms, 1e6), bounty, "the same number");
            _refuseToFund(bounty, named);
        }
        // As it was, with other money in it: the payment is good.
        vm.revertToState(before);
        _bounty(2e6);
        _arm(stranger, 1);
        vm.prank(stranger);
        escrow.fund(bounty, named, 1);
        vm.assertEq(escrow.get(bounty).available, 2e6 + 1, "paid");
    }

    function _refuseToFund(uint64 bounty, bytes32 named) private {
        _arm(stranger, 10);
        Permit memory permit = _permitOf(stranger, "stranger", 10);
        bytes memory reason = abi.encodeWithSelector(
            IBountyEscrow.BountyEscrow_AnotherBounty.selector, bounty, escrow.identityOf(bounty), named
        );
        vm.expectRevert(reason);
        vm.prank(stranger);
        escrow.fund(bounty, named, 10);
        vm.expectRevert(reason);
        vm.prank(stranger);
        escrow.fundWithPermit(bounty, named, 10, permit);
        vm.assertEq(escrow.get(bounty).available, 1e6, "nothing came in");
        vm.assertEq(token.balanceOf(stranger), 10, "nothing was taken");
    }

    function testRefund() external {
        uint64 bounty = _bounty(1e6);
        uint64 deadline = escrow.get(bounty).terms.deadline;
        vm.warp(deadline);
        vm.expectRevert(
            abi.encodeWithSelector(IBountyEscrow.BountyEscrow_DeadlineNotPassed.selector, deadline, deadline)
        );
        escrow.refund(bounty);
        vm.warp(uint256(deadline) + 1);
        vm.expectEmit(address(escrow));
        emit IBountyEscrow.BountyRefunded(bounty, poster, 1e6);
        vm.prank(stranger);
        vm.assertEq(escrow.refund(bounty), 1e6, "amount");
        vm.assertEq(ledger.balanceOf(poster), 1e6, "to the poster, whoever calls");
        vm.expectRevert(abi.encodeWithSelector(IBountyEscrow.BountyEscrow_NothingToRefund.selector, bounty));
        escrow.refund(bounty);
        _checkBooks();
    }

    function testRefundWithAPendingReserve() external {
        uint64 bounty = _bounty(1e6);
        vm.prank(address(market));
        escrow.reserve(bounty, 3e5);
        vm.warp(escrow.get(bounty).terms.deadline + 1);
        vm.assertEq(escrow.refund(bounty), 7e5, "what is free");
        vm.prank(address(market));
        escrow.release(bounty, 2e5, 5e4);
        vm.assertEq(escrow.refund(bounty), 15e4, "what came back");
        vm.assertEq(escrow.get(bounty).reserved, 1e5, "still reserved");
        vm.expectRevert(abi.encodeWithSelector(IBountyEscrow.BountyEscrow_NothingToRefund.selector, bounty));
        escrow.refund(bounty);
        vm.assertEq(ledger.heldFor(address(market)), 5e4, "spent");
    }

    function testReserveReleaseReplenish() external {
        uint64 bounty = _bounty(1e6);
        vm.startPrank(address(market));
        vm.expectEmit(address(escrow));
        emit IBountyEscrow.BountyReserved(bounty, 1e6);
        escrow.reserve(bounty, 1e6);
        vm.expectRevert(
            abi.encodeWithSelector(IBountyEscrow.BountyEscrow_InsufficientFunds.selector, bounty, 0, 1)
        );
        escrow.reserve(bounty, 1);
        vm.expectEmit(address(escrow));
        emit IBountyEscrow.BountyReleased(bounty, 1e6, 4e5);
        escrow.release(bounty, 1e6, 4e5);
        ledger.shift(address(escrow), 1e5);
        vm.expectEmit(address(escrow));
        emit IBountyEscrow.BountyReplenished(bounty, 1e5);
        escrow.replenish(bounty, 1e5);
        vm.stopPrank();
        vm.assertEq(escrow.get(bounty).available, 7e5, "available");
        vm.assertEq(ledger.heldFor(address(escrow)), 7e5, "held");
    }

    function testReserveErrors() external {
        uint64 bounty = _bounty(1e6);
        uint64 deadline = escrow.get(bounty).terms.deadline;
        vm.startPrank(address(market));
        // Far more than fits the packed field: no wrap-around.
        vm.expectRevert(
            abi.encodeWithSelector(
                IBountyEscrow.BountyEscrow_InsufficientFunds.selector, bounty, 1e6, type(uint256).max
            )
        );
        escrow.reserve(bounty, type(uint256).max);
        vm.expectRevert(
            abi.encodeWithSelector(
                IBountyEscrow.BountyEscrow_InsufficientFunds.selector, bounty, 1e6, uint256(1) << 128
            )
        );
        escrow.reserve(bounty, uint256(1) << 128);
        vm.expectRevert(abi.encodeWithSelector(IBountyEscrow.BountyEscrow_UnknownBounty.selector, 9));
        escrow.reserve(9, 1);
        vm.warp(uint256(deadline) + 1);
        vm.expectRevert(
            abi.encodeWithSelector(IBountyEscrow.BountyEscrow_DeadlinePassed.selector, deadline, deadline + 1)
        );
        escrow.reserve(bounty, 1);
        vm.stopPrank();
    }

    function testMarketOnly() external {
        uint64 bounty = _bounty(1e6);
        bytes memory reason = abi.encodeWithSelector(IBountyEscrow.BountyEscrow_NotMarket.selector, poster);
        vm.startPrank(poster);
        vm.expectRevert(reason);
        escrow.reserve(bounty, 1);
        vm.expectRevert(reason);
        escrow.release(bounty, 0, 0);
        vm.expectRevert(reason);
        escrow.replenish(bounty, 1);
        vm.stopPrank();
    }

    /// The court gives back what a fallen attestation took from a bounty; it can do nothing else to one.
    function testCourtReplenishes() external {
        uint64 bounty = _bounty(1e6);
        _arm(stranger, 5);
        vm.startPrank(address(court));
        ledger.collect(stranger, 5);
        ledger.shift(address(escrow), 5);
        escrow.replenish(bounty, 5);
        bytes memory reason = abi.encodeWithSelector(IBountyEscrow.BountyEscrow_NotMarket.selector, court);
        vm.expectRevert(reason);
        escrow.reserve(bounty, 1);
        vm.expectRevert(reason);
        escrow.release(bounty, 0, 0);
        vm.stopPrank();
        vm.assertEq(escrow.get(bounty).available, 1e6 + 5, "available");
        _checkBooks();
    }

    function _createReverts(BountyTerms memory terms, bytes memory reason) private {
        vm.expectRevert(reason);
        vm.prank(poster);
        escrow.create(terms, 1e6);
    }
}
