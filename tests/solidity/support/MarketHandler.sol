// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAssignments} from "../../../contracts/src/interfaces/IAssignments.sol";
import {IBatchMarket} from "../../../contracts/src/interfaces/IBatchMarket.sol";
import {IBountyEscrow} from "../../../contracts/src/interfaces/IBountyEscrow.sol";
import {ILedger} from "../../../contracts/src/interfaces/ILedger.sol";
import {IRandomness} from "../../../contracts/src/interfaces/IRandomness.sol";
import {IRounds} from "../../../contracts/src/interfaces/IRounds.sol";
import {IVerifierStake} from "../../../contracts/src/interfaces/IVerifierStake.sol";
import {Attestation, BountyTerms, ContentId} from "../../../contracts/src/libraries/Types.sol";
import {MarketChecks} from "./MarketChecks.sol";

/// Plays every role of a small market, one action a call, each chosen by a seed from what is possible now (and nothing
/// where nothing is). No action may revert. `done` counts the actions that did something.
contract MarketHandler is MarketChecks {
    enum Action {
        CreateBounty,
        FundBounty,
        Refund,
        Request,
        OpenAssignment,
        CommitBatch,
        Draw,
        Reschedule,
        CommitVerdict,
        RevealVerdict,
        FinishRound,
        Attest,
        Redraw,
        VoidByVotes,
        VoidStalled,
        Settle,
        Stake,
        RequestUnstake,
        Claim,
        Deposit,
        Withdraw,
        Donate,
        Meddle
    }

    uint256 public constant ACTIONS = uint256(type(Action).max) + 1;
    uint256 internal constant POSTERS = 2;
    uint256 internal constant MINERS = 3;

    mapping(Action action => uint256) public done;
    address[] private posters;
    address[] private miners;

    constructor() {
        _begin();
        posters = [poster, _actor("second poster")];
        miners = [miner, _actor("second miner"), _actor("third miner")];
        accounts.push(posters[1]);
        accounts.push(miners[1]);
        accounts.push(miners[2]);
        for (uint256 i; i < 6; ++i) {
            verifiers.push(_actor(string.concat("verifier ", vm.toString(i))));
            accounts.push(verifiers[i]);
        }
        for (uint256 i; i < accounts.length; ++i) {
            vm.prank(accounts[i]);
            token.approve(address(ledger), type(uint256).max);
        }
        // Something to begin with, so that short runs get somewhere.
        for (uint256 i; i < 6; ++i) {
            _stakeMore(verifiers[i], (1 + i % 3) * SEAT);
        }
        createBounty(0);
        for (uint256 i = 1; i < 40; i += 4) {
            request(i);
        }
    }

    // Posters

    function createBounty(uint256 seed) public {
        if (_openBounty(_dice(seed, "open")) != 0) return;
        BountyTerms memory terms = _terms();
        terms.pricePerUnit = uint96(1 + _dice(seed, "price") % 100_000);
        terms.feePerTrace = uint96(_dice(seed, "fee") % 20_000);
        terms.groupSize = uint16(1 + _dice(seed, "group") % 4);
        terms.deadline = uint64(_now() + 1 hours + _dice(seed, "deadline") % 3 days);
        address by = posters[seed % POSTERS];
        uint256 amount = 1 + _dice(seed, "amount") % 20e6;
        _provide(by, amount);
        uint256 before = token.balanceOf(by);
        vm.prank(by);
        escrow.create(terms, amount);
        paidIn += before - token.balanceOf(by);
        ++done[Action.CreateBounty];
    }

    function fundBounty(uint256 seed) external {
        uint64 bounty = _pickBounty(seed);
        if (_now() > escrow.get(bounty).terms.deadline) return;
        address by = accounts[_dice(seed, "by") % accounts.length];
        uint256 amount = 1 + _dice(seed, "amount") % 5e6;
        _provide(by, amount);
        uint256 before = token.balanceOf(by);
        vm.prank(by);
        escrow.fund(bounty, amount);
        paidIn += before - token.balanceOf(by);
        ++done[Action.FundBounty];
    }

    function refund(uint256 seed) external {
        for (uint64 i; i < escrow.count(); ++i) {
            uint64 bounty = _pickBounty(seed % 1e9 + i);
            IBountyEscrow.Bounty memory seen = escrow.get(bounty);
            if (_now() <= seen.terms.deadline || seen.available == 0) continue;
            escrow.refund(bounty);
            ++done[Action.Refund];
            return;
        }
    }

    // Miners

    function request(uint256 seed) public {
        uint64 bounty = _openBounty(seed);
        address by = miners[_dice(seed, "by") % MINERS];
        if (bounty == 0 || assignments.get(bounty, by).point != 0) return;
        vm.prank(by);
        assignments.request(bounty);
        ++done[Action.Request];
    }

    function openAssignment(uint256 seed) external {
        uint64 bounty = _openBounty(seed);
        if (bounty == 0) return;
        for (uint256 i; i < MINERS; ++i) {
            address by = miners[(_dice(seed, "by") % MINERS + i) % MINERS];
            IAssignments.Assignment memory seen = assignments.get(bounty, by);
            if (seen.point == 0 || seen.seed != 0) continue;
            _reachOrMiss(seen.point, seed);
            assignments.open(bounty, by);
            if (assignments.get(bounty, by).seed != 0) ++done[Action.OpenAssignment];
            return;
        }
    }

    function commitBatch(uint256 seed) external {
        uint64 bounty = _openBounty(seed);
        if (bounty == 0) return;
        IBountyEscrow.Bounty memory seen = escrow.get(bounty);
        uint32 count = seen.terms.groupSize * uint32(1 + _dice(seed, "count") % 4);
        uint256 worst = uint256(count) * (uint256(seen.terms.pricePerUnit) + seen.terms.feePerTrace);
        if (_now() > seen.terms.deadline || seen.available < worst) return;
        address by = miners[_dice(seed, "by") % MINERS];
        for (uint256 i; i < MINERS && assignments.get(bounty, by).seed == 0; ++i) {
            by = miners[i];
        }
        IAssignments.Assignment memory next = assignments.get(bounty, by);
        if (next.seed == 0) return;
        _provide(by, market.bondFor(bounty, count));
        uint256 before = token.balanceOf(by);
        bytes32 root = keccak256(abi.encode(seed));
        vm.prank(by);
        market.commitBatch(bounty, root, count, next.nextTask, next.seed, ContentId(root, RAW));
        paidIn += before - token.balanceOf(by);
        ++done[Action.CommitBatch];
    }

    // Rounds

    function draw(uint256 seed) public {
        uint64 batch = _pickBatch(seed, IBatchMarket.Phase.InRound);
        if (batch == 0) return;
        uint64 round = market.get(batch).round;
        if (rounds.get(round).drawnAt != 0 || stake.eligible() < 3) return;
        _reachOrMiss(rounds.get(round).drawPoint, seed);
        rounds.draw(round);
        if (rounds.get(round).drawnAt != 0) ++done[Action.Draw];
        else ++done[Action.Reschedule];
    }

    function commitVerdict(uint256 seed) external {
        uint64 batch = _pickBatch(seed, IBatchMarket.Phase.InRound);
        if (batch != 0) _commitSeat(batch, uint8(_dice(seed, "seat") % 3), seed);
    }

    function revealVerdict(uint256 seed) external {
        uint64 batch = _pickBatch(seed, IBatchMarket.Phase.InRound);
        if (batch != 0) _revealSeat(market.get(batch).round, uint8(_dice(seed, "seat") % 3));
    }

    /// What is left of a round, by all who are not lazy, and its count.
    function finishRound(uint256 seed) external {
        seed %= 1e18;
        uint64 batch = _pickBatch(seed, IBatchMarket.Phase.InRound);
        if (batch == 0) return;
        uint64 round = market.get(batch).round;
        uint8 seats = rounds.get(round).seats;
        if (seats == 0) return;
        for (uint8 seat; seat < seats; ++seat) {
            if (_dice(seed + seat, "lazy") % 8 != 0) _commitSeat(batch, seat, seed + seat);
        }
        if (rounds.phaseOf(round) == IRounds.Phase.Committing) _skip(10 minutes + 1);
        for (uint8 seat; seat < seats; ++seat) {
            if (_dice(seed + seat, "silent") % 12 != 0) _revealSeat(round, seat);
        }
        if (rounds.phaseOf(round) == IRounds.Phase.Revealing) _skip(10 minutes + 1);
        ++done[Action.FinishRound];
        tally(seed);
    }

    function tally(uint256 seed) public {
        uint64 batch = _pickBatch(seed, IBatchMarket.Phase.InRound);
        if (batch == 0) return;
        uint64 round = market.get(batch).round;
        if (rounds.phaseOf(round) != IRounds.Phase.Closed) return;
        market.tally(batch, _leader(round));
        IBatchMarket.Phase phase = market.phaseOf(batch);
        if (phase == IBatchMarket.Phase.InRound) ++done[Action.Redraw];
        else if (phase == IBatchMarket.Phase.Void) _closed(batch, Action.VoidByVotes);
        else ++done[Action.Attest];
    }

    function voidStalled(uint256 seed) external {
        uint64 batch = _pickBatch(seed, IBatchMarket.Phase.InRound);
        if (batch == 0 || rounds.phaseOf(market.get(batch).round) != IRounds.Phase.Stalled) return;
        market.voidStalled(batch);
        _closed(batch, Action.VoidStalled);
    }

    function settle(uint256 seed) public {
        uint64 batch = _pickBatch(seed, IBatchMarket.Phase.Settleable);
        if (batch == 0) return;
        market.settle(batch);
        _closed(batch, Action.Settle);
    }

    // Verifiers

    function stakeMore(uint256 seed) external {
        _stakeMore(verifiers[seed % verifiers.length], SEAT + _dice(seed, "amount") % (2 * SEAT));
    }

    function requestUnstake(uint256 seed) external {
        address by = verifiers[seed % verifiers.length];
        IVerifierStake.Verifier memory seen = stake.get(by);
        uint256 free = seen.stake - uint256(seen.openSeats) * SEAT;
        // Mostly parts, so that a lot remains to draw from.
        if (free == 0 || (stake.eligible() <= 4 && seed % 5 != 0)) return;
        uint256 amount = 1 + _dice(seed, "amount") % free;
        vm.prank(by);
        stake.requestUnstake(amount);
        ++done[Action.RequestUnstake];
    }

    function claim(uint256 seed) external {
        for (uint256 i; i < verifiers.length; ++i) {
            address by = verifiers[(seed % verifiers.length + i) % verifiers.length];
            IVerifierStake.Verifier memory seen = stake.get(by);
            if (seen.unbonding == 0 || seen.claimableAt > _now()) continue;
            stake.claim(by);
            ++done[Action.Claim];
            return;
        }
    }

    // Everybody

    function deposit(uint256 seed) external {
        address by = accounts[seed % accounts.length];
        uint256 amount = _dice(seed, "amount") % 1e6;
        _provide(by, amount);
        vm.prank(by);
        ledger.deposit(amount);
        paidIn += amount;
        ++done[Action.Deposit];
    }

    function withdraw(uint256 seed) external {
        address by = accounts[seed % accounts.length];
        uint256 balance = ledger.balanceOf(by);
        if (balance == 0) return;
        uint256 amount = 1 + _dice(seed, "amount") % balance;
        vm.prank(by);
        ledger.withdraw(by, amount);
        paidOut += amount;
        ++done[Action.Withdraw];
    }

    function donate(uint256 seed) external {
        address by = accounts[seed % accounts.length];
        uint256 amount = _dice(seed, "amount") % 1_000;
        _provide(by, amount);
        vm.prank(by);
        token.transfer(address(ledger), amount);
        donated += amount;
        ++done[Action.Donate];
    }

    /// What nobody may do, tried by somebody: each must be refused.
    function meddle(uint256 seed) external {
        address by = accounts[_dice(seed, "by") % accounts.length];
        IVerifierStake.Verifier memory seen = stake.get(by);
        uint256 free = seen.stake - uint256(seen.openSeats) * SEAT;
        _refused(by, address(stake), abi.encodeCall(IVerifierStake.requestUnstake, (free + 1 + seed % SEAT)));
        if (seen.claimableAt > _now()) _refused(by, address(stake), abi.encodeCall(IVerifierStake.claim, (by)));
        uint256 more = ledger.balanceOf(by) + 1 + seed % 1e6;
        _refused(by, address(ledger), abi.encodeCall(ILedger.withdraw, (by, more)));
        uint64 bounty = _pickBounty(seed);
        if (_now() <= escrow.get(bounty).terms.deadline) {
            _refused(by, address(escrow), abi.encodeCall(IBountyEscrow.refund, (bounty)));
        }
        uint64 number = market.count();
        if (number == 0) return;
        uint64 round = 1 + uint64(_dice(seed, "round") % rounds.count());
        if (rounds.get(round).judged || rounds.get(round).drawnAt != 0) {
            _refused(by, address(rounds), abi.encodeCall(IRounds.draw, (round)));
        }
        uint64 batch = 1 + uint64(_dice(seed, "batch") % number);
        IBatchMarket.Phase phase = market.phaseOf(batch);
        if (phase != IBatchMarket.Phase.Settleable) {
            _refused(by, address(market), abi.encodeCall(IBatchMarket.settle, (batch)));
        }
        if (phase != IBatchMarket.Phase.InRound) {
            Attestation memory other = _verdict(uint32(seed % 5), 0);
            _refused(by, address(market), abi.encodeCall(IBatchMarket.tally, (batch, other)));
            _refused(by, address(market), abi.encodeCall(IBatchMarket.voidStalled, (batch)));
        }
        ++done[Action.Meddle];
    }

    function pass(uint256 seed) external {
        _skip(seed % 20 == 0 ? 1 days : _dice(seed, "time") % 50 minutes);
        vm.roll(vm.getBlockNumber() + 1 + _dice(seed, "blocks") % 5);
    }

    function _stakeMore(address by, uint256 amount) private {
        _provide(by, amount);
        uint256 before = token.balanceOf(by);
        vm.prank(by);
        stake.stake(amount);
        paidIn += before - token.balanceOf(by);
        ++done[Action.Stake];
    }

    function _commitSeat(uint64 batch, uint8 seat, uint256 seed) private {
        uint64 round = market.get(batch).round;
        if (rounds.phaseOf(round) != IRounds.Phase.Committing) return;
        if (rounds.seatOf(round, seat).state != IRounds.SeatState.Drawn) return;
        Attestation memory vote = _truth(batch);
        uint256 dice = _dice(seed, "vote") % 16;
        if (dice == 0) vote = Attestation(UNAVAILABLE, 0, 0);
        if (dice == 1) vote = Attestation(MALFORMED, 0, 0);
        if (dice == 2 || dice == 3) vote = Attestation(keccak256(abi.encode(seed)), 0, 0);
        _votes[round][seat] = vote;
        _commitVote(round, seat, vote);
        ++done[Action.CommitVerdict];
    }

    function _revealSeat(uint64 round, uint8 seat) private {
        if (rounds.phaseOf(round) != IRounds.Phase.Revealing) return;
        if (rounds.seatOf(round, seat).state != IRounds.SeatState.Committed) return;
        _revealVote(round, seat, _votes[round][seat]);
        ++done[Action.RevealVerdict];
    }

    /// What honest members find in a batch.
    function _truth(uint64 batch) private view returns (Attestation memory) {
        uint256 dice = _dice(batch, "truth");
        if (dice % 10 == 0) return Attestation(UNAVAILABLE, 0, 0);
        if (dice % 10 == 1) return Attestation(MALFORMED, 0, 0);
        uint32 count = market.get(batch).count;
        uint32 units = uint32((dice >> 8) % (count + 1));
        return _verdict(units, uint32((dice >> 40) % (count - units + 1)));
    }

    function _closed(uint64 batch, Action action) private {
        finalState[batch] = _stateOf(batch);
        ++done[action];
    }

    /// Lets a point's block pass; one time in sixteen the whole reach of its hash.
    function _reachOrMiss(uint64 point, uint256 seed) private {
        if (randomness.statusOf(point) == IRandomness.Status.Missed) return;
        if (_dice(seed, "miss") % 16 == 0) {
            if (vm.getBlockNumber() <= uint256(point) + 256) vm.roll(uint256(point) + 257);
        } else {
            _reach(point);
        }
    }

    function _refused(address by, address target, bytes memory data) private {
        vm.prank(by);
        (bool success,) = target.call(data);
        vm.assertFalse(success, "a call that must be refused went through");
    }

    function _provide(address account, uint256 amount) private {
        token.mint(account, amount);
        minted += amount;
    }

    function _pickBounty(uint256 seed) private view returns (uint64) {
        return uint64(1 + seed % escrow.count());
    }

    /// @return a bounty before its deadline; zero where there is none, and for one seed in four
    function _openBounty(uint256 seed) private view returns (uint64) {
        uint64 number = escrow.count();
        for (uint64 i; i < number && seed % 4 != 0; ++i) {
            uint64 bounty = 1 + (uint64(seed % 1e9) + i) % number;
            if (_now() <= escrow.get(bounty).terms.deadline) return bounty;
        }
        return 0;
    }

    /// @return one in this phase, zero where there is none
    function _pickBatch(uint256 seed, IBatchMarket.Phase phase) private view returns (uint64) {
        uint64 number = market.count();
        for (uint64 i; i < number; ++i) {
            uint64 batch = 1 + (uint64(seed % 1e9) + i) % number;
            if (market.phaseOf(batch) == phase) return batch;
        }
        return 0;
    }

    function _dice(uint256 seed, string memory purpose) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, purpose)));
    }
}
