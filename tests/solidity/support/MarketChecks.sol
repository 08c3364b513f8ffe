// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {IBatchMarket} from "../../../contracts/src/interfaces/IBatchMarket.sol";
import {ICourt} from "../../../contracts/src/interfaces/ICourt.sol";
import {ILedger} from "../../../contracts/src/interfaces/ILedger.sol";
import {IOpenings} from "../../../contracts/src/interfaces/IOpenings.sol";
import {IRounds} from "../../../contracts/src/interfaces/IRounds.sol";
import {IVerifierStake} from "../../../contracts/src/interfaces/IVerifierStake.sol";
import {ParameterRules} from "../../../contracts/src/libraries/ParameterRules.sol";
import {Attestation, BountyTerms} from "../../../contracts/src/libraries/Types.sol";
import {Action} from "./Actions.sol";
import {Arrows} from "./Arrows.sol";
import {Stories} from "./Stories.sol";
import {Vm} from "./Vm.sol";

/// What must hold of a market at any time, and the ghost books to hold it against.
abstract contract MarketChecks is Stories {
    /// slot of `VerifierStake._all.nodes`
    uint256 private constant ALL_NODES = 5;

    struct Expected {
        uint64 round;
        uint8 seat;
        /// what the round is judged against; zero where there is no result
        bytes32 final_;
    }

    /// What is a verifier's: staked - claimed - penalties.
    struct Own {
        uint256 stake;
        uint256 unbonding;
        /// a juror's fine once took stake behind its seats
        bool short;
    }

    /// what the ghost books say: tokens made, sent to the ledger by calls, sent back, and given away to it
    uint256 public minted;
    uint256 public paidIn;
    uint256 public paidOut;
    uint256 public donated;
    /// how often each action did something
    mapping(Action action => uint256) public done;
    mapping(address verifier => Own) internal _own;
    /// number of an address among the verifiers, plus one
    mapping(address verifier => uint256) internal _verifierNumber;

    /// what is not final yet
    uint64[] internal _liveBatches;
    uint64[] internal _liveRounds;
    uint64[] internal _liveDisputes;
    uint64 private _knownBatches;
    uint64 private _knownRounds;
    uint64 private _knownDisputes;
    /// phases after the last call or passing of time
    mapping(uint64 batch => IBatchMarket.Phase) internal _batchPhase;
    mapping(uint64 round => IRounds.Phase) internal _roundPhase;
    mapping(uint64 dispute => ICourt.Phase) internal _disputePhase;
    mapping(uint64 dispute => IOpenings.Status) internal _openingStatus;
    /// closed things as they were when they closed
    mapping(uint64 batch => bytes32) internal _finalBatch;
    mapping(uint64 dispute => bytes32) internal _finalDispute;
    mapping(uint64 round => bytes32) internal _finalRound;
    mapping(uint64 round => bool) internal _judged;

    mapping(uint64 round => address[]) internal _seated;
    /// whose round it is: a batch's or a dispute's
    mapping(uint64 round => uint64) internal _batchOf;
    mapping(uint64 round => uint64) internal _disputeOf;
    mapping(uint64 dispute => uint64) private _batchDisputed;
    /// number of a batch's disputes that are not closed
    mapping(uint64 batch => uint256) private _disputesOf;
    /// what members vote, so that a round's leader can be named and revealed
    mapping(uint64 round => mapping(uint8 seat => Attestation)) internal _votes;
    /// votes that a relay carried, and the commitments that it brought in one call
    mapping(uint64 round => mapping(uint8 seat => bool)) internal _sealedVote;
    mapping(uint64 round => bool) internal _broughtTogether;
    mapping(uint64 round => bytes32[]) internal _brought;
    mapping(uint64 round => bytes32) internal _convicted;
    /// whether signers fell with a false attestation, and not with content that a jury could not have
    mapping(uint64 round => bool) internal _guilty;
    mapping(uint64 round => bool) internal _narrowed;

    /// what seats were paid, and what they lost
    mapping(uint64 round => mapping(uint8 seat => uint256)) internal _paid;
    mapping(uint64 round => mapping(uint8 seat => uint256)) internal _lost;
    /// seats that the next call must close, in this order
    Expected[] private _closing;
    uint256 private _pool;
    uint256 private _jurorsPaid;
    /// number of times that everything was looked at: once or more in a call
    uint256 public steps;

    // After every call of the handler

    function checkBooks() external view {
        _checkBooks();
        vm.assertEq(_entries(), paidIn - paidOut, "entries = paid in - paid out");
        vm.assertEq(token.balanceOf(address(ledger)), _entries() + donated, "tokens = entries + given away");
        uint256 outside;
        for (uint256 i; i < accounts.length; ++i) {
            outside += token.balanceOf(accounts[i]);
        }
        vm.assertEq(outside + paidIn + donated, minted + paidOut, "no token made or lost");
    }

    function checkSeats() external view {
        uint256[] memory open = new uint256[](verifiers.length);
        for (uint256 i; i < _liveRounds.length; ++i) {
            uint64 round = _liveRounds[i];
            // Jurors keep no seat open.
            if (_disputeOf[round] != 0) continue;
            address[] storage members = _seated[round];
            bytes32 convicted = _convicted[round];
            for (uint8 seat; seat < members.length; ++seat) {
                // A convicted seat was closed when its attestation fell.
                if (convicted != 0 && rounds.seatOf(round, seat).vote == convicted) continue;
                ++open[_verifierNumber[members[seat]] - 1];
            }
        }
        uint256 sum;
        uint256 eligible;
        uint256 stakers;
        for (uint256 i; i < verifiers.length; ++i) {
            IVerifierStake.Verifier memory seen = stake.get(verifiers[i]);
            Own storage own = _own[verifiers[i]];
            _same(seen.openSeats, open[i], "open seats are a committee's, in rounds that are not judged");
            _same(seen.stake, own.stake, "stake = in - out - penalties");
            _same(seen.unbonding, own.unbonding, "unbonding = asked for - claimed - penalties");
            bool covered = seen.stake >= uint256(seen.openSeats) * SEAT;
            _that(covered || own.short, "stake covers open seats but where a juror was fined");
            uint256 whole = seen.stake / SEAT;
            uint256 weight = stake.weightOf(verifiers[i]);
            _same(weight, whole > seen.openSeats ? whole - seen.openSeats : 0, "weight among committees");
            if (seen.leaf != 0) _same(_juryWeight(seen.leaf - 1), whole, "weight among juries");
            sum += weight;
            if (weight != 0) ++eligible;
            if (whole != 0) ++stakers;
        }
        _same(stake.totalWeight(), sum, "sum of the lot");
        _same(stake.eligible(), eligible, "eligible");
        _same(stake.stakers(), stakers, "stakers");
    }

    /// Nothing tells a weight among juries but VerifierStake's storage: eight in a word of the tree `_all`.
    function _juryWeight(uint256 leaf) private view returns (uint256) {
        bytes32 word = vm.load(address(stake), keccak256(abi.encode(leaf >> 3, ALL_NODES)));
        return uint256(word) >> ((leaf & 7) << 5) & type(uint32).max;
    }

    function checkReserves() external view {
        uint256 most = ParameterRules.leastLoss(_parameters());
        uint256[] memory worst = new uint256[](escrow.count() + 1);
        for (uint256 i; i < _liveBatches.length; ++i) {
            IBatchMarket.Batch memory seen = market.get(_liveBatches[i]);
            BountyTerms memory terms = escrow.get(seen.bounty).terms;
            uint256 cost = uint256(seen.count) * (uint256(terms.pricePerUnit) + terms.feePerTrace);
            _that(cost <= most, "no batch costs more than a lie about it");
            _that(seen.bond <= most, "no bond is more than a lie costs");
            bool disputed = _disputesOf[_liveBatches[i]] != 0;
            _that((seen.disputes != 0) == disputed, "a batch knows whether disputes are open");
            worst[seen.bounty] += cost;
        }
        for (uint64 bounty = 1; bounty < worst.length; ++bounty) {
            _same(escrow.get(bounty).reserved, worst[bounty], "reserved = worst case of open batches");
        }
    }

    /// One closed thing of each kind, another one after each call.
    function checkFinal() external view {
        if (_knownBatches != 0) _checkBatch(uint64(1 + steps % _knownBatches));
        if (_knownRounds != 0) _checkRound(uint64(1 + steps % _knownRounds));
        if (_knownDisputes != 0) _checkDispute(uint64(1 + steps % _knownDisputes));
    }

    /// All of them.
    function checkAllFinal() public view {
        for (uint64 batch = 1; batch <= _knownBatches; ++batch) _checkBatch(batch);
        for (uint64 round = 1; round <= _knownRounds; ++round) _checkRound(round);
        for (uint64 dispute = 1; dispute <= _knownDisputes; ++dispute) _checkDispute(dispute);
    }

    function _checkBatch(uint64 batch) private view {
        bytes32 was = _finalBatch[batch];
        vm.assertEq(market.get(batch).closed, was != 0, "closed by an action that closes");
        if (was != 0) vm.assertEq(_stateOfBatch(batch), was, "a closed batch is final");
    }

    function _checkRound(uint64 round) private view {
        bytes32 was = _finalRound[round];
        if (was != 0) vm.assertEq(_stateOfRound(round), was, "a closed round is final");
        vm.assertEq(rounds.get(round).judged, _judged[round], "a round stays judged");
    }

    function _checkDispute(uint64 dispute) private view {
        bytes32 was = _finalDispute[dispute];
        ICourt.Dispute memory seen = court.get(dispute);
        vm.assertEq(seen.batch, _batchDisputed[dispute], "a dispute stays one of its batch");
        vm.assertEq(seen.closed, was != 0, "closed by an action that closes");
        if (was != 0) vm.assertEq(_stateOfDispute(dispute), was, "a closed dispute is final");
    }

    function _stateOfBatch(uint64 batch) internal view returns (bytes32) {
        IBatchMarket.Batch memory seen = market.get(batch);
        // Disputes that lost their object may end later.
        seen.disputes = 0;
        return keccak256(abi.encode(seen, market.phaseOf(batch), market.roundsOf(batch)));
    }

    function _stateOfRound(uint64 round) internal view returns (bytes32 state) {
        IRounds.Round memory seen = rounds.get(round);
        seen.judged = false;
        state = keccak256(abi.encode(seen, rounds.phaseOf(round)));
        for (uint8 seat; seat < seen.seats; ++seat) {
            state = keccak256(abi.encode(state, rounds.seatOf(round, seat)));
        }
    }

    function _stateOfDispute(uint64 dispute) internal view returns (bytes32) {
        return keccak256(
            abi.encode(
                court.get(dispute),
                court.appealsOf(dispute),
                court.phaseOf(dispute),
                openings.statusOf(dispute),
                openings.openedOf(dispute)
            )
        );
    }

    // After every step: what each thing became

    modifier observed() {
        _;
        _observe(false);
    }

    function _pass(uint256 time) internal {
        _skip(time);
        _observe(true);
    }

    /// Compares the phase of everything that isn't final with the one before. Between two looks lies either one call or
    /// time alone.
    function _observe(bool time) internal {
        ++steps;
        _observeDisputes(time);
        _observeBatches(time);
        _observeRounds(time);
        uint256 pool = court.pool();
        vm.assertGe(pool + _jurorsPaid, _pool, "the pool pays jurors only");
        (_pool, _jurorsPaid) = (pool, 0);
    }

    function _observeBatches(bool time) private {
        while (_knownBatches < market.count()) _liveBatches.push(++_knownBatches);
        for (uint256 i; i < _liveBatches.length;) {
            uint64 batch = _liveBatches[i];
            IBatchMarket.Phase phase = market.phaseOf(batch);
            IBatchMarket.Phase was = _batchPhase[batch];
            if (phase != was) {
                _allow(Arrows.batch(time, was, phase), "batch", batch, uint256(was), uint256(phase));
                _batchPhase[batch] = phase;
            }
            bool disputed = _disputesOf[batch] != 0;
            bool waits = phase == IBatchMarket.Phase.Disputed;
            bool free = phase == IBatchMarket.Phase.Settleable || phase == IBatchMarket.Phase.Settled;
            _that(!(disputed ? free : waits), "a batch is settled once no dispute is open, and no later");
            if (phase == IBatchMarket.Phase.Settled || phase == IBatchMarket.Phase.Void) {
                vm.assertTrue(_finalBatch[batch] != 0, "a batch is closed by an action that closes");
                _remove(_liveBatches, i);
            } else {
                ++i;
            }
        }
    }

    function _observeDisputes(bool time) private {
        while (_knownDisputes < court.count()) {
            _liveDisputes.push(++_knownDisputes);
            uint64 batch = court.get(_knownDisputes).batch;
            _batchDisputed[_knownDisputes] = batch;
            ++_disputesOf[batch];
        }
        for (uint256 i; i < _liveDisputes.length;) {
            uint64 dispute = _liveDisputes[i];
            ICourt.Phase phase = court.phaseOf(dispute);
            ICourt.Phase was = _disputePhase[dispute];
            if (phase != was) {
                _allow(Arrows.dispute(time, was, phase), "dispute", dispute, uint256(was), uint256(phase));
                _disputePhase[dispute] = phase;
            }
            IOpenings.Status status = openings.statusOf(dispute);
            IOpenings.Status had = _openingStatus[dispute];
            if (status != had) {
                _allow(Arrows.opening(time, had, status), "opening", dispute, uint256(had), uint256(status));
                _openingStatus[dispute] = status;
            }
            if (phase == ICourt.Phase.Closed) {
                vm.assertTrue(_finalDispute[dispute] != 0, "a dispute is closed by an action that closes");
                --_disputesOf[_batchDisputed[dispute]];
                _remove(_liveDisputes, i);
            } else {
                ++i;
            }
        }
    }

    function _observeRounds(bool time) private {
        while (_knownRounds < rounds.count()) {
            _liveRounds.push(++_knownRounds);
            _link(_knownRounds);
        }
        for (uint256 i; i < _liveRounds.length;) {
            uint64 round = _liveRounds[i];
            // That nothing leaves Closed, and that no other round is judged, `checkFinal` sees.
            bool closed = _roundPhase[round] == IRounds.Phase.Closed || _observeRound(time, round);
            if (closed && _judged[round]) _remove(_liveRounds, i);
            else ++i;
        }
    }

    /// @return closed whether it is now
    function _observeRound(bool time, uint64 round) internal returns (bool closed) {
        IRounds.Phase phase = rounds.phaseOf(round);
        IRounds.Phase was = _roundPhase[round];
        closed = phase == IRounds.Phase.Closed;
        if (phase == was) return closed;
        _allow(Arrows.round(time, was, phase), "round", round, uint256(was), uint256(phase));
        _roundPhase[round] = phase;
        if (_drawn(phase) && _seated[round].length == 0) _seat(round);
        if (closed) _finalRound[round] = _stateOfRound(round);
    }

    function _drawn(IRounds.Phase phase) internal pure returns (bool) {
        return phase == IRounds.Phase.Committing || phase == IRounds.Phase.Revealing;
    }

    /// Names the members of a drawn round. They are different, and where it must be fresh none of them sat before.
    function _seat(uint64 round) private {
        address[] memory members = _members(round);
        IRounds.Round memory seen = rounds.get(round);
        vm.assertGe(members.length, seen.jury ? seen.size / 2 + 1 : 3, "enough members");
        vm.assertLe(members.length, seen.size, "not too many members");
        for (uint256 i; i < members.length; ++i) {
            for (uint256 j; j < i; ++j) {
                vm.assertTrue(members[i] != members[j], "a member sits once in a round");
            }
        }
        _seated[round] = members;
        if (!seen.fresh) return;
        for (uint64 before = seen.previous; before != 0; before = rounds.get(before).previous) {
            for (uint8 seat; seat < _seated[before].length; ++seat) {
                for (uint256 i; i < members.length; ++i) {
                    vm.assertTrue(members[i] != _seated[before][seat], "nobody sits in a fresh round again");
                }
            }
        }
    }

    function _link(uint64 round) private {
        if (rounds.get(round).jury) {
            for (uint256 i; i < _liveDisputes.length; ++i) {
                if (court.get(_liveDisputes[i]).jury == round) _disputeOf[round] = _liveDisputes[i];
            }
            vm.assertTrue(_disputeOf[round] != 0, "a jury has a dispute");
            vm.assertTrue(rounds.get(round).fresh, "every jury is fresh");
        } else {
            for (uint256 i; i < _liveBatches.length; ++i) {
                if (market.get(_liveBatches[i]).round == round) _batchOf[round] = _liveBatches[i];
            }
            vm.assertTrue(_batchOf[round] != 0, "a committee has a batch");
            bool overturned = market.get(_batchOf[round]).overturned != 0;
            vm.assertEq(rounds.get(round).fresh, overturned, "committees are fresh once the batch was overturned");
        }
    }

    function _allow(bool allowed, string memory what, uint64 id, uint256 from, uint256 to) private pure {
        if (allowed) return;
        vm.assertTrue(
            false,
            string.concat(
                what, " ", vm.toString(id), " went from phase ", vm.toString(from), " to ", vm.toString(to)
            )
        );
    }

    /// Cheat codes are calls; so only what fails is asserted, where many things are compared.
    function _same(uint256 left, uint256 right, string memory what) private pure {
        if (left != right) vm.assertEq(left, right, what);
    }

    function _that(bool holds, string memory what) private pure {
        if (!holds) vm.assertTrue(false, what);
    }

    function _remove(uint64[] storage list, uint256 place) private {
        list[place] = list[list.length - 1];
        list.pop();
    }

    // Around a call that closes seats: who must lose, who may be paid

    /// Seats of a round that revealed `vote` and fall with it.
    /// @param guilty whether they lose as liars, or as absent ones
    function _expectConvicted(uint64 round, bytes32 vote, bool guilty) internal {
        vm.assertEq(_convicted[round], bytes32(0), "a round is convicted once");
        (_convicted[round], _guilty[round]) = (vote, guilty);
        for (uint8 seat; seat < _seated[round].length; ++seat) {
            if (rounds.seatOf(round, seat).vote == vote) _closing.push(Expected(round, seat, 0));
        }
    }

    function _expectJudged(uint64 round, bytes32 final_) internal {
        _judged[round] = true;
        bytes32 convicted = _convicted[round];
        for (uint8 seat; seat < _seated[round].length; ++seat) {
            if (convicted != 0 && rounds.seatOf(round, seat).vote == convicted) continue;
            _closing.push(Expected(round, seat, final_));
        }
    }

    function _expectBatchJudged(uint64 batch, bytes32 final_) internal {
        for (uint64 round = market.get(batch).round; round != 0; round = rounds.get(round).previous) {
            _expectJudged(round, final_);
        }
    }

    /// Reads what the call did: exactly the expected seats were closed, in this order; only coherent ones were paid, by
    /// `payer`; whoever was paid for a round lost nothing for it.
    /// @return slashed the sum of penalties
    function _reckon(address payer) internal returns (uint256 slashed) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        uint256 closed;
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] != IVerifierStake.SeatClosed.selector) continue;
            vm.assertTrue(closed < _closing.length, "no more seats are closed than expected");
            uint256 penalty = abi.decode(logs[i].data, (uint256));
            _bookPenalty(closed++, address(uint160(uint256(logs[i].topics[1]))), penalty);
            slashed += penalty;
        }
        vm.assertEq(closed, _closing.length, "all expected seats are closed");
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] != ILedger.Credited.selector) continue;
            address account = address(uint160(uint256(logs[i].topics[1])));
            // In the handler verifiers do nothing else that is paid for.
            if (_verifierNumber[account] == 0) continue;
            vm.assertEq(address(uint160(uint256(logs[i].topics[2]))), payer, "paid by whoever judges");
            _bookPay(account, abi.decode(logs[i].data, (uint256)));
        }
        for (uint256 i; i < _closing.length; ++i) {
            uint256 paid = _paid[_closing[i].round][_closing[i].seat];
            bool both = paid != 0 && _lost[_closing[i].round][_closing[i].seat] != 0;
            vm.assertFalse(both, "nobody is paid and slashed for one round");
            if (payer == address(court)) _jurorsPaid += paid;
        }
        delete _closing;
    }

    /// Takes a penalty from a verifier's own books as it must be taken: from stake behind no seat, then from what is
    /// unbonding, and a juror's last from stake behind seats. The contracts must have taken as much.
    function _bookPenalty(uint256 place, address verifier, uint256 penalty) private {
        Expected memory seat = _closing[place];
        vm.assertEq(verifier, _seated[seat.round][seat.seat], "the expected seat is closed");
        Own storage own = _own[verifier];
        uint256 due = _dueOf(seat);
        uint256 locked = _openAfter(place, verifier) * SEAT;
        uint256 part = Math.min(due, own.stake > locked ? own.stake - locked : 0);
        uint256 taken = part;
        own.stake -= part;
        part = Math.min(due - taken, own.unbonding);
        taken += part;
        own.unbonding -= part;
        if (_disputeOf[seat.round] != 0 && taken < due) {
            part = Math.min(due - taken, own.stake);
            taken += part;
            own.stake -= part;
            if (part != 0) own.short = true;
            if (part != 0) ++done[Action.FinedBehindSeats];
        }
        vm.assertEq(penalty, taken, "a penalty takes what is due as far as it reaches");
        _lost[seat.round][seat.seat] = penalty;
    }

    /// @return open seats of `verifier` once the seat at `place` is closed. Draws come before any seat is closed, so
    /// they are those after the call and those that the call closes later.
    function _openAfter(uint256 place, address verifier) private view returns (uint256 open) {
        open = stake.get(verifier).openSeats;
        for (uint256 i = place + 1; i < _closing.length; ++i) {
            Expected storage later = _closing[i];
            if (_disputeOf[later.round] == 0 && _seated[later.round][later.seat] == verifier) ++open;
        }
    }

    /// Books a payment to the first coherent seat that has none yet.
    function _bookPay(address account, uint256 amount) private {
        for (uint256 i; i < _closing.length; ++i) {
            Expected memory seat = _closing[i];
            if (_seated[seat.round][seat.seat] != account || _paid[seat.round][seat.seat] != 0) continue;
            if (seat.final_ == 0 || rounds.seatOf(seat.round, seat.seat).vote != seat.final_) continue;
            _paid[seat.round][seat.seat] = amount;
            return;
        }
        vm.assertTrue(false, "somebody was paid for no seat");
    }

    function _dueOf(Expected memory seat) private view returns (uint256) {
        bytes32 vote = rounds.seatOf(seat.round, seat.seat).vote;
        if (vote == 0) return _absencePenalty();
        if (uint256(vote) & 1 == 0) return _latePenalty();
        if (vote == _convicted[seat.round]) return _guilty[seat.round] ? _fraudPenalty() : _absencePenalty();
        bytes32 unavailable = rounds.voteOf(Attestation(UNAVAILABLE, 0, 0));
        if (vote == seat.final_ || seat.final_ == 0 || seat.final_ == unavailable) return 0;
        return vote == unavailable ? _absencePenalty() : _incoherencePenalty();
    }

    function _leader(uint64 round) internal view returns (Attestation memory) {
        (bytes32 vote,) = rounds.leaderOf(round);
        for (uint8 seat; seat < _seated[round].length; ++seat) {
            if (vote != 0 && rounds.voteOf(_votes[round][seat]) == vote) return _votes[round][seat];
        }
        return Attestation(0, 0, 0);
    }

    /// @return lost what the seats of a round lost: those that fell with it, or the others
    function _lostIn(uint64 round, bool convicted) internal view returns (uint256 lost) {
        bytes32 vote = _convicted[round];
        for (uint8 seat; seat < _seated[round].length; ++seat) {
            bool fell = vote != 0 && rounds.seatOf(round, seat).vote == vote;
            if (fell == convicted) lost += _lost[round][seat];
        }
    }

    /// @return number of those who can be drawn: juries from whoever has a whole seat of stake, busy or not
    function _candidates(uint64 round) internal view returns (uint256 number) {
        IRounds.Round memory seen = rounds.get(round);
        bool[] memory sat = new bool[](verifiers.length);
        for (uint64 before = seen.previous; seen.fresh && before != 0; before = rounds.get(before).previous) {
            for (uint256 i; i < _seated[before].length; ++i) sat[_verifierNumber[_seated[before][i]] - 1] = true;
        }
        for (uint256 i; i < sat.length; ++i) {
            if (sat[i]) continue;
            if (seen.jury ? stake.get(verifiers[i]).stake >= SEAT : stake.weightOf(verifiers[i]) != 0) ++number;
        }
    }
}
