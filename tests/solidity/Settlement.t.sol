// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAssignments} from "../../contracts/src/interfaces/IAssignments.sol";
import {IBatchMarket} from "../../contracts/src/interfaces/IBatchMarket.sol";
import {IBountyEscrow} from "../../contracts/src/interfaces/IBountyEscrow.sol";
import {Attestation, BountyTerms, ContentId, Parameters} from "../../contracts/src/libraries/Types.sol";
import {Scenario} from "./support/Scenario.sol";

/// Where the money of a batch goes
/// ├── attested: units x price to the miner, fee shares to coherent members, the rest back
/// │   ├── faults: faultMultiple x bondPerTrace each from the bond to the bounty, at most the bond
/// │   ├── traces without a unit: wrongBps of their fee from the bond to the bounty, faults and all at most the bond
/// │   ├── absent member: its share back to the bounty, a penalty to the court's pool
/// │   ├── incoherent member: the same with its own penalty
/// │   ├── two rounds: one fee over the seats of both
/// │   └── convicted members: no seats any more, the others share the fee
/// ├── unavailable: the bounty pays nothing, fees come out of the bond
/// ├── malformed: the whole bond goes, fees first, the rest to the bounty
/// ├── void: everything back, absent members pay
/// └── in the end everybody withdraws everything
contract SettlementTest is Scenario {
    uint64 private bounty;
    uint256 private constant FUNDS = 10e6;

    function setUp() external {
        _begin();
        _verifiers(4, 3 * SEAT);
        bounty = _bounty(FUNDS);
    }

    function testHappyPathToTheLastUnit() external {
        uint64 batch = _commit(bounty, miner, 8);
        _attest(batch, _verdict(5, 0));
        address[] memory members = _members(1);
        uint256 share = 8 * uint256(FEE) / 3;
        vm.expectEmit(address(market));
        emit IBatchMarket.BatchSettled(batch, 5 * PRICE, 3 * share, 3 * FEE, 0);
        _settle(batch);

        vm.assertEq(ledger.balanceOf(miner), 5 * PRICE + 80_000 - 3 * FEE, "units and bond, less three fees");
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(ledger.balanceOf(members[i]), share, "fee");
        }
        _checkBounty(FUNDS - 5 * PRICE - 3 * share + 3 * FEE, 0);
        vm.assertEq(stake.totalWeight(), 12, "seats are free again");
        _checkBooks();
        _everybodyLeaves();
        vm.assertEq(token.balanceOf(miner), 5 * PRICE + 80_000 - 3 * FEE, "withdrawn");
        vm.assertEq(
            token.balanceOf(poster), FUNDS - 5 * PRICE - 3 * share + 3 * FEE, "refunded and withdrawn"
        );
    }

    function testFaultsForfeitBond() external {
        uint64 batch = _commit(bounty, miner, 40);
        _attest(batch, _verdict(10, 2));
        vm.expectEmit(address(market));
        emit IBatchMarket.BatchSettled(batch, 10 * PRICE, 40 * FEE, 290_000, 0);
        _settle(batch);
        // 2 faults of 10 x 10,000 each, and the checking of 30 traces.
        vm.assertEq(ledger.balanceOf(miner), 10 * PRICE + 400_000 - 290_000, "units, bond less two faults");
        _checkBounty(FUNDS - 10 * PRICE - 40 * FEE + 290_000, 0);
        _checkBooks();
        _everybodyLeaves();
    }

    function testFaultsTakeAtMostTheBond() external {
        uint64 batch = _commit(bounty, miner, 40);
        _attest(batch, _verdict(0, 40));
        vm.expectEmit(address(market));
        emit IBatchMarket.BatchSettled(batch, 0, 40 * FEE, 400_000, 0);
        _settle(batch);
        vm.assertEq(ledger.balanceOf(miner), 0, "all lost");
        _checkBounty(FUNDS - 40 * FEE + 400_000, 0);
        _checkBooks();
    }

    function testAbsentMember() external {
        uint64 batch = _commit(bounty, miner, 8);
        address[] memory members = _draw(1);
        _vote(1, _same(_verdict(8, 0), 2));
        market.tally(batch, _verdict(8, 0));
        uint256 share = 8 * uint256(FEE) / 3;
        vm.expectEmit(address(market));
        emit IBatchMarket.BatchSettled(batch, 8 * PRICE, 2 * share, 0, _absencePenalty());
        _settle(batch);
        vm.assertEq(ledger.balanceOf(members[2]), 0, "no work, no fee");
        vm.assertEq(stake.get(members[2]).stake, 3 * SEAT - _absencePenalty(), "penalty");
        vm.assertEq(ledger.balanceOf(members[0]), share, "no more than its share");
        _checkBounty(FUNDS - 8 * PRICE - 2 * share, 0);
        vm.assertEq(court.pool(), _absencePenalty(), "not the bounty's: a poster gains nothing by absence");
        _checkBooks();
        _everybodyLeaves();
    }

    function testIncoherentMember() external {
        uint64 batch = _commit(bounty, miner, 8);
        address[] memory members = _draw(1);
        Attestation[] memory votes = _same(_verdict(8, 0), 3);
        votes[0] = _verdict(8, 0);
        votes[0].verdictRoot = keccak256("the same sums over other verdicts");
        _vote(1, votes);
        market.tally(batch, votes[1]);
        _settle(batch);
        vm.assertEq(stake.get(members[0]).stake, 3 * SEAT - _incoherencePenalty(), "penalty");
        _checkBounty(FUNDS - 8 * PRICE - 2 * (8 * uint256(FEE) / 3), 0);
        vm.assertEq(court.pool(), _incoherencePenalty(), "pool");
        _checkBooks();
    }

    /// Round 1: two absent. Round 2: a quorum. The member that spoke in round 1 is paid like those of round 2.
    function testRedrawPaysBothRounds() external {
        uint64 batch = _commit(bounty, miner, 8);
        address[] memory first = _draw(1);
        _vote(1, _same(_verdict(8, 0), 1));
        market.tally(batch, _verdict(8, 0));
        address[] memory second = _draw(2);
        _vote(2, _same(_verdict(8, 0), 3));
        market.tally(batch, _verdict(8, 0));
        uint256 share = 8 * uint256(FEE) / 6;
        vm.expectEmit(address(market));
        emit IBatchMarket.BatchSettled(batch, 8 * PRICE, 4 * share, 0, 2 * _absencePenalty());
        _settle(batch);
        uint256 paid;
        for (uint256 i; i < verifiers.length; ++i) {
            uint256 shares;
            if (verifiers[i] == first[0]) ++shares;
            for (uint256 j; j < 3; ++j) {
                if (verifiers[i] == second[j]) ++shares;
            }
            vm.assertEq(ledger.balanceOf(verifiers[i]), shares * share, "a share a seat");
            paid += shares * share;
        }
        _checkBounty(FUNDS - 8 * PRICE - paid, 0);
        vm.assertEq(court.pool(), 2 * _absencePenalty(), "pool");
        _checkBooks();
        _everybodyLeaves();
    }

    /// Round 1 splits; round 2 is larger and agrees with one side of it.
    function testConflictIsPaidByTheWrongSide() external {
        _verifiers(8, 3 * SEAT);
        uint64 batch = _commit(bounty, miner, 8);
        address[] memory first = _draw(1);
        Attestation[] memory votes = new Attestation[](3);
        (votes[0], votes[1], votes[2]) = (_verdict(8, 0), _verdict(7, 1), Attestation(UNAVAILABLE, 0, 0));
        _vote(1, votes);
        vm.warp(rounds.endsAt(1) + 5 minutes + 1);
        market.tally(batch, votes[0]);
        _draw(2);
        _vote(2, _same(_verdict(7, 1), 7));
        market.tally(batch, _verdict(7, 1));
        uint256 slashed = _incoherencePenalty() + _absencePenalty();
        uint256 share = 8 * uint256(FEE) / 10;
        vm.expectEmit(address(market));
        emit IBatchMarket.BatchSettled(batch, 7 * PRICE, 8 * share, 80_000, slashed);
        _settle(batch);
        vm.assertEq(stake.get(first[0]).stake, 3 * SEAT - _incoherencePenalty(), "wrong");
        vm.assertEq(stake.get(first[1]).stake, 3 * SEAT, "right from the start");
        vm.assertEq(stake.get(first[2]).stake, 3 * SEAT - _absencePenalty(), "others could read it");
        _checkBooks();
        _everybodyLeaves();
    }

    function testUnavailable() external {
        uint64 batch = _commit(bounty, miner, 8);
        address[] memory members = _draw(1);
        Attestation[] memory votes = _same(Attestation(UNAVAILABLE, 0, 0), 3);
        votes[2] = _verdict(8, 0);
        _vote(1, votes);
        market.tally(batch, votes[0]);
        uint256 share = 8 * uint256(FEE) / 3;
        vm.expectEmit(address(market));
        emit IBatchMarket.BatchSettled(batch, 0, 2 * share, 2 * share, 0);
        _settle(batch);
        vm.assertEq(ledger.balanceOf(miner), 80_000 - 2 * share, "the miner pays the checking");
        vm.assertEq(ledger.balanceOf(members[0]), share, "fee");
        vm.assertEq(stake.get(members[2]).stake, 3 * SEAT, "who could read it is not proven wrong");
        vm.assertEq(ledger.balanceOf(members[2]), 0, "nor paid");
        _checkBounty(FUNDS, 0);
        _checkBooks();
        _everybodyLeaves();
    }

    function testMalformed() external {
        uint64 batch = _commit(bounty, miner, 8);
        _attest(batch, Attestation(MALFORMED, 0, 0));
        uint256 share = 8 * uint256(FEE) / 3;
        vm.expectEmit(address(market));
        emit IBatchMarket.BatchSettled(batch, 0, 3 * share, 80_000, 0);
        _settle(batch);
        vm.assertEq(ledger.balanceOf(miner), 0, "the whole bond is lost");
        _checkBounty(FUNDS + 80_000 - 3 * share, 0);
        _checkBooks();
        _everybodyLeaves();
    }

    /// Where the fee sets the bond, an unavailable batch costs all of it and the bond just covers it.
    function testUnavailableWithAFeeAboveTheBond() external {
        BountyTerms memory terms = _terms();
        terms.feePerTrace = 30_000;
        uint64 dear = _bountyWith(terms, FUNDS);
        uint64 batch = _commit(dear, miner, 12);
        _attest(batch, Attestation(UNAVAILABLE, 0, 0));
        _settle(batch);
        vm.assertEq(ledger.balanceOf(miner), 0, "12 x 30,000 in fees");
        vm.assertEq(escrow.get(dear).available, FUNDS, "the bounty paid nothing");
        _checkBooks();
    }

    /// The first committee's attestation falls. The second says the same, as if nothing had been proven: the convicted
    /// stay convicted and unpaid, and their seats take nothing from the others' fee.
    function testConvictedSeatsShareNothing() external {
        _verifiers(3, 3 * SEAT);
        uint64 batch = _commit(bounty, miner, 8);
        address[] memory first = _draw(1);
        Attestation[] memory votes = _same(_verdict(8, 0), 3);
        votes[2] = _verdict(5, 0);
        _vote(1, votes);
        market.tally(batch, votes[0]);
        vm.prank(address(court));
        market.overturn(batch, true);
        address[] memory second = _draw(2);
        _vote(2, _same(_verdict(8, 0), 3));
        market.tally(batch, votes[0]);
        uint256 share = 8 * uint256(FEE) / 4;
        vm.expectEmit(address(market));
        emit IBatchMarket.BatchSettled(batch, 8 * PRICE, 3 * share, 0, _incoherencePenalty());
        _settle(batch);
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(ledger.balanceOf(first[i]), 0, "nothing for a convicted member, nor for a wrong one");
            vm.assertEq(ledger.balanceOf(second[i]), share, "a quarter: four seats were not convicted");
        }
        uint256 lost = _fraudPenalty();
        vm.assertEq(stake.get(first[0]).stake, 3 * SEAT - lost, "once");
        vm.assertEq(stake.get(first[1]).stake, 3 * SEAT - lost, "once");
        vm.assertEq(stake.get(first[2]).stake, 3 * SEAT - _incoherencePenalty(), "judged with the others");
        _checkBounty(FUNDS - 8 * PRICE - 3 * share, 0);
        _checkBooks();
        _everybodyLeaves();
    }

    /// Garbage is checked at its miner's cost: a poster that buys nothing pays nothing.
    function testNothingFoundCostsThePosterNothing() external {
        uint64 batch = _commit(bounty, miner, 12);
        _attest(batch, _verdict(0, 0));
        _settle(batch);
        vm.assertEq(ledger.balanceOf(miner), 120_000 - 12 * FEE, "the miner pays the fee");
        _checkBounty(FUNDS, 0);
        _checkBooks();
        _everybodyLeaves();
    }

    /// In every round every signer falls: the batch is void, and no seat is judged twice.
    function testVoidWithoutPayableSeats() external {
        _verifiers(5, 3 * SEAT);
        uint64 batch = _commit(bounty, miner, 8);
        for (uint64 round = 1; round <= 3; ++round) {
            _attest(batch, _verdict(8, 0));
            vm.prank(address(court));
            market.overturn(batch, true);
            vm.assertEq(rounds.payableSeats(round), 0, "all convicted");
        }
        _assertPhase(batch, IBatchMarket.Phase.Void);
        vm.assertEq(ledger.balanceOf(miner), 80_000, "bond back");
        _checkBounty(FUNDS, 0);
        _checkBooks();
        _everybodyLeaves();
    }

    /// Were every seat convicted, nothing would divide by their number, and the fee would stay with the bounty.
    function testSettledWithoutPayableSeats() external {
        uint64 batch = _commit(bounty, miner, 8);
        _attest(batch, _verdict(8, 0));
        bytes32 vote = rounds.voteOf(_verdict(8, 0));
        vm.prank(address(market));
        rounds.convict(1, vote, true);
        vm.expectEmit(address(market));
        emit IBatchMarket.BatchSettled(batch, 8 * PRICE, 0, 0, 0);
        _settle(batch);
        _checkBounty(FUNDS - 8 * PRICE, 0);
        _checkBooks();
    }

    function testVoidMakesEverybodyWholeButTheAbsent() external {
        uint64 batch = _commit(bounty, miner, 8);
        for (uint64 round = 1; round <= 3; ++round) {
            _draw(round);
            _vote(round, _same(_verdict(8, 0), 1));
            market.tally(batch, _verdict(8, 0));
        }
        _assertPhase(batch, IBatchMarket.Phase.Void);
        vm.assertEq(ledger.balanceOf(miner), 80_000, "bond back");
        _checkBounty(FUNDS, 0);
        vm.assertEq(court.pool(), 6 * _absencePenalty(), "pool");
        _checkBooks();
        _everybodyLeaves();
    }

    /// A void batch in its second round: the first round's members are judged and free too.
    function testStalledSecondRound() external {
        uint64 batch = _commit(bounty, miner, 8);
        _draw(1);
        _vote(1, _same(_verdict(8, 0), 1));
        market.tally(batch, _verdict(8, 0));
        _skip(1 hours + 1);
        market.voidStalled(batch);
        _checkBounty(FUNDS, 0);
        vm.assertEq(court.pool(), 2 * _absencePenalty(), "pool");
        for (uint256 i; i < 4; ++i) {
            vm.assertEq(stake.get(verifiers[i]).openSeats, 0, "free");
        }
        _checkBooks();
        _everybodyLeaves();
    }

    /// The poster can take what is free while a batch is pending, and the rest when it has ended.
    function testRefundAroundAPendingBatch() external {
        vm.warp(escrow.get(bounty).terms.deadline - 10 minutes);
        uint64 batch = _commit(bounty, miner, 8);
        vm.warp(escrow.get(bounty).terms.deadline + 1);
        uint256 worst = 8 * uint256(PRICE + FEE);
        vm.assertEq(escrow.refund(bounty), FUNDS - worst, "what is free");
        vm.expectRevert(abi.encodeWithSelector(IBountyEscrow.BountyEscrow_NothingToRefund.selector, bounty));
        escrow.refund(bounty);
        // The deadline is for commits: the batch goes on and is paid.
        _attest(batch, _verdict(6, 0));
        _settle(batch);
        uint256 spent = 6 * uint256(PRICE) + 3 * (8 * uint256(FEE) / 3) - 2 * FEE;
        vm.assertEq(escrow.refund(bounty), worst - spent, "what came back");
        vm.assertEq(ledger.balanceOf(poster), FUNDS - spent, "all but what was earned");
        _checkBooks();
        _everybodyLeaves();
    }

    /// A miner that was paid needs no new tokens for the next bond.
    function testBondFromTheBalance() external {
        uint64 batch = _commit(bounty, miner, 8);
        _attest(batch, _verdict(8, 0));
        _settle(batch);
        uint256 earned = ledger.balanceOf(miner);
        IAssignments.Assignment memory next = assignments.get(bounty, miner);
        vm.startPrank(miner);
        token.approve(address(ledger), 0);
        market.commitBatch(bounty, ROOT, 8, next.nextTask, next.seed, ContentId(ROOT, RAW));
        vm.stopPrank();
        vm.assertEq(ledger.balanceOf(miner), earned - 80_000, "bond from the balance");
        _checkBooks();
    }

    /// Batches of one bounty don't touch each other's reserve.
    function testManyBatchesSettleInAnyOrder() external {
        for (uint64 i = 1; i <= 3; ++i) {
            _commit(bounty, miner, 4 * uint32(i));
            _attest(i, _verdict(uint32(2 * i), 1));
        }
        _skip(30 minutes + 1);
        market.settle(2);
        _checkBooks();
        market.settle(3);
        market.settle(1);
        _checkBooks();
        vm.assertEq(escrow.get(bounty).reserved, 0, "nothing reserved");
        _everybodyLeaves();
    }

    /// One actor in every role gains nothing it did not put in.
    function testOneActorInEveryRole() external {
        uint256 put = 5e6 + 80_000;
        for (uint256 i; i < 3; ++i) {
            vm.prank(verifiers[i]);
            stake.requestUnstake(3 * SEAT);
        }
        address only = verifiers[3];
        _staked("second", SEAT);
        _staked("third", SEAT);
        _arm(only, put);
        vm.prank(only);
        uint64 own = escrow.create(_terms(), 5e6);
        uint64 batch = _commit(own, only, 8);
        _attest(batch, _verdict(8, 0));
        _settle(batch);
        vm.warp(escrow.get(own).terms.deadline + 1);
        vm.prank(only);
        escrow.refund(own);
        // _commit minted the bond once more.
        vm.assertEq(
            ledger.balanceOf(only) + token.balanceOf(only),
            put + 80_000 - 2 * (8 * uint256(FEE) / 3),
            "less the others' fees"
        );
        _checkBooks();
    }

    /// What a run is made of, and what must come out of it.
    struct Plan {
        uint32 count;
        uint32 units;
        uint32 faults;
        uint96 price;
        uint96 fee;
        uint8 outcome;
        uint8 dissent;
        Attestation attestation;
        uint256 funds;
        uint256 bond;
        uint256 coherent;
        uint256 slashed;
        uint256 earned;
        uint256 forfeited;
    }

    /// Any count, price, fee, sums, outcome and minority: every token is accounted for, and the parts are as the rules
    /// say.
    function testFuzz_Settlement(
        uint32 count,
        uint32 units,
        uint32 faults,
        uint96 price,
        uint96 fee,
        uint8 outcome,
        uint8 dissent
    ) external {
        Plan memory plan;
        plan.count = GROUP * uint32(_bound(count, 1, 1_024));
        plan.units = uint32(_bound(units, 0, plan.count));
        plan.faults = uint32(_bound(faults, 0, plan.count - plan.units));
        // A batch may be worth 200e6 at most.
        plan.fee = uint96(_bound(fee, 1, 200e6 / plan.count - 1));
        plan.price = uint96(_bound(price, 1, 200e6 / plan.count - plan.fee));
        (plan.outcome, plan.dissent) = (outcome % 3, dissent % 4);
        _settlePlan(plan);
    }

    /// Seat 2 of the committee agrees (dissent 0), is absent (1), says something wrong (2) or "unavailable" (3).
    function _settlePlan(Plan memory plan) private {
        BountyTerms memory terms = _terms();
        (terms.pricePerUnit, terms.feePerTrace) = (plan.price, plan.fee);
        plan.funds = uint256(plan.count) * (uint256(plan.price) + plan.fee);
        uint64 own = _bountyWith(terms, plan.funds);
        uint64 batch = _commit(own, miner, plan.count);
        plan.bond = market.get(batch).bond;
        vm.assertGe(plan.bond, uint256(plan.count) * plan.fee, "the bond covers the fees");

        plan.attestation = _verdict(plan.units, plan.faults);
        if (plan.outcome == 1) plan.attestation = Attestation(UNAVAILABLE, 0, 0);
        if (plan.outcome == 2) plan.attestation = Attestation(MALFORMED, 0, 0);
        Attestation[] memory votes = _same(plan.attestation, 3);
        if (plan.dissent == 1) votes[2] = Attestation(0, 0, 0);
        if (plan.dissent == 2) votes[2] = Attestation(keccak256("wrong"), 0, 0);
        if (plan.dissent == 3) votes[2] = Attestation(UNAVAILABLE, 0, 0);
        _draw(1);
        _vote(1, votes);
        market.tally(batch, plan.attestation);
        _settle(batch);

        _expectations(plan);
        _checkBooks();
        vm.assertEq(ledger.balanceOf(miner), plan.earned + plan.bond - plan.forfeited, "miner");
        uint256 fees;
        for (uint256 i; i < 4; ++i) {
            fees += ledger.balanceOf(verifiers[i]);
        }
        vm.assertEq(fees, plan.coherent * _share(plan), "verifiers");
        vm.assertEq(
            escrow.get(own).available,
            plan.funds + plan.forfeited - plan.earned - fees,
            "bounty"
        );
        vm.assertEq(court.pool(), plan.slashed, "pool");
        vm.assertEq(escrow.get(own).reserved, 0, "nothing reserved");
        vm.assertEq(ledger.heldFor(address(market)), 0, "no bond left behind");
    }

    /// The rules once more, in their own words.
    function _expectations(Plan memory plan) private view {
        plan.coherent = plan.dissent == 0 || (plan.dissent == 3 && plan.outcome == 1) ? 3 : 2;
        if (plan.dissent == 1) plan.slashed = _absencePenalty();
        if (plan.dissent == 2 && plan.outcome != 1) plan.slashed = _incoherencePenalty();
        if (plan.dissent == 3 && plan.outcome != 1) plan.slashed = _absencePenalty();
        if (plan.outcome == 0) {
            plan.earned = uint256(plan.units) * plan.price;
            plan.forfeited = uint256(plan.faults) * 10 * 10_000 + uint256(plan.count - plan.units) * plan.fee;
            if (plan.forfeited > plan.bond) plan.forfeited = plan.bond;
        } else {
            plan.forfeited = plan.outcome == 1 ? plan.coherent * _share(plan) : plan.bond;
        }
    }

    function _share(Plan memory plan) private pure returns (uint256) {
        return uint256(plan.count) * plan.fee / 3;
    }

    function _checkBounty(uint256 available, uint256 reserved) private view {
        vm.assertEq(escrow.get(bounty).available, available, "available");
        vm.assertEq(escrow.get(bounty).reserved, reserved, "reserved");
    }

    /// After the deadline and the unbonding delay nothing holds anybody: but for the court's pool the ledger ends empty.
    function _everybodyLeaves() private {
        vm.warp(_now() + 7 days + 1);
        if (escrow.get(bounty).available != 0) escrow.refund(bounty);
        for (uint256 i; i < verifiers.length; ++i) {
            uint256 own = stake.get(verifiers[i]).stake;
            if (own == 0) continue;
            vm.prank(verifiers[i]);
            stake.requestUnstake(own);
        }
        _skip(1 days);
        for (uint256 i; i < verifiers.length; ++i) {
            if (stake.get(verifiers[i]).unbonding != 0) stake.claim(verifiers[i]);
        }
        for (uint256 i; i < accounts.length; ++i) {
            uint256 balance = ledger.balanceOf(accounts[i]);
            vm.prank(accounts[i]);
            ledger.withdraw(accounts[i], balance);
        }
        vm.assertEq(_entries(), court.pool(), "entries");
        vm.assertEq(token.balanceOf(address(ledger)), court.pool(), "tokens");
    }
}

/// The same with a quarter of the fee at the miner's cost
contract WrongBpsTest is Scenario {
    function _parameters() internal view override returns (Parameters memory p) {
        p = super._parameters();
        p.wrongBps = 2_500;
    }

    function testAPartOfTheFee() external {
        _begin();
        _verifiers(3, SEAT);
        uint64 bounty = _bounty(10e6);
        uint64 batch = _commit(bounty, miner, 8);
        _attest(batch, _verdict(5, 0));
        vm.expectEmit(address(market));
        // 3 x 3,000 / 4
        emit IBatchMarket.BatchSettled(batch, 5 * PRICE, 8 * FEE, 2_250, 0);
        _settle(batch);
        vm.assertEq(ledger.balanceOf(miner), 5 * PRICE + 80_000 - 2_250, "miner");
        vm.assertEq(escrow.get(bounty).available, 10e6 - 5 * PRICE - 8 * FEE + 2_250, "bounty");
        _checkBooks();
    }
}
