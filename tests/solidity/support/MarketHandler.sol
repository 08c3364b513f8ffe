// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {IAssignments} from "../../../contracts/src/interfaces/IAssignments.sol";
import {IBatchMarket} from "../../../contracts/src/interfaces/IBatchMarket.sol";
import {IBountyEscrow} from "../../../contracts/src/interfaces/IBountyEscrow.sol";
import {ICourt} from "../../../contracts/src/interfaces/ICourt.sol";
import {IEvidence} from "../../../contracts/src/interfaces/IEvidence.sol";
import {ILedger} from "../../../contracts/src/interfaces/ILedger.sol";
import {IOpenings} from "../../../contracts/src/interfaces/IOpenings.sol";
import {IRandomness} from "../../../contracts/src/interfaces/IRandomness.sol";
import {IRounds} from "../../../contracts/src/interfaces/IRounds.sol";
import {IVerifierStake} from "../../../contracts/src/interfaces/IVerifierStake.sol";
import {MerkleProofs} from "../../../contracts/src/libraries/MerkleProofs.sol";
import {ParameterRules} from "../../../contracts/src/libraries/ParameterRules.sol";
import {Attestation, BountyTerms, ContentId, Parameters, Verdict} from "../../../contracts/src/libraries/Types.sol";
import {VerdictFaults} from "../../../contracts/src/libraries/VerdictFaults.sol";
import {Action} from "./Actions.sol";
import {Picks} from "./Picks.sol";
import {SmallTrees} from "./SmallTrees.sol";

/// Plays every role of a small market, one action a call, each chosen by a seed from what is possible now (and nothing
/// where nothing is). No action may revert. `done` counts the actions that did something.
contract MarketHandler is Picks {
    uint256 public constant ACTIONS = uint256(type(Action).max) + 1;
    uint256 internal constant POSTERS = 2;
    uint256 internal constant MINERS = 3;
    /// a committee, its jury and more than half of the appeal's: 3 + 7 + 8, and some more
    uint256 internal constant VERIFIERS = 22;

    address[] private posters;
    address[] private miners;
    /// who disputes, proves and appeals; neither miners nor verifiers, so that what they get is easily told
    address[] private challengers;
    /// what the lines of a batch's traces follow from
    mapping(uint64 batch => bytes32) private _salts;
    mapping(uint64 batch => bool) private _planted;
    /// batch, number of its attestation, index => it was disputed
    mapping(bytes32 key => bool) private _disputed;
    /// stories of the disputed vote, and of its rival, plus one
    mapping(uint64 dispute => uint8) private _storyDisputed;
    mapping(uint64 dispute => uint8) private _storyRival;

    constructor() {
        _begin();
        posters = [poster, _actor("second poster")];
        miners = [miner, _actor("second miner"), _actor("third miner")];
        challengers = [trainer, _actor("challenger"), _actor("second challenger")];
        accounts.push(posters[1]);
        accounts.push(miners[1]);
        accounts.push(miners[2]);
        accounts.push(challengers[1]);
        accounts.push(challengers[2]);
        for (uint256 i; i < VERIFIERS; ++i) {
            verifiers.push(_actor(string.concat("verifier ", vm.toString(i))));
            accounts.push(verifiers[i]);
            _verifierNumber[verifiers[i]] = i + 1;
        }
        for (uint256 i; i < accounts.length; ++i) {
            vm.prank(accounts[i]);
            token.approve(address(ledger), type(uint256).max);
        }
        // Something to begin with, so that short runs get somewhere. Half a seat more: one penalty costs no seat.
        for (uint256 i; i < VERIFIERS; ++i) {
            _stakeMore(verifiers[i], (2 + i % 3) * SEAT + SEAT / 2);
        }
        createBounty(1);
        for (uint256 i = 1; i < 40; i += 4) {
            request(i);
        }
    }

    /// Longer windows than the scenarios have, so that much happens at a time.
    function _parameters() internal view override returns (Parameters memory p) {
        p = super._parameters();
        p.drawTimeout = 3 hours;
        p.commitWindow = 1 hours;
        p.revealWindow = 1 hours;
        p.challengeWindow = 6 hours;
        p.appealWindow = 2 hours;
        p.openingWindow = 1 hours;
        p.unbondingDelay = 2 days;
        p.maxTraces = 16;
    }

    // Posters

    function createBounty(uint256 seed) public observed {
        if (_openBounty(_dice(seed, "open")) == 0) _createBounty(seed);
    }

    function _createBounty(uint256 seed) private {
        BountyTerms memory terms = _terms();
        terms.pricePerUnit = uint96(1 + _dice(seed, "price") % 100_000);
        terms.feePerTrace = uint96(1 + _dice(seed, "fee") % 20_000);
        terms.groupSize = uint16(1 + _dice(seed, "group") % 4);
        terms.deadline = uint64(_now() + 1 hours + _dice(seed, "deadline") % 3 days);
        address by = posters[seed % POSTERS];
        uint256 amount = 1 + _dice(seed, "amount") % 20e6;
        if (_dice(seed, "dear") % 4 == 0) {
            // One trace can be sold at a time, two can't.
            terms.pricePerUnit = uint96(SEAT + _dice(seed, "price") % (SEAT / 2));
            terms.groupSize = 1;
            amount = 5 * SEAT + 50 * amount;
        }
        _provide(by, amount);
        uint256 before = token.balanceOf(by);
        vm.prank(by);
        escrow.create(terms, amount);
        paidIn += before - token.balanceOf(by);
        ++done[Action.CreateBounty];
    }

    function fundBounty(uint256 seed) external observed {
        uint64 bounty = _pickBounty(seed);
        if (_now() > escrow.get(bounty).terms.deadline) return;
        address by = accounts[_dice(seed, "by") % accounts.length];
        uint256 amount = 1 + _dice(seed, "amount") % 5e6;
        _provide(by, amount);
        uint256 before = token.balanceOf(by);
        bytes32 identity = escrow.identityOf(bounty);
        vm.prank(by);
        escrow.fund(bounty, identity, amount);
        paidIn += before - token.balanceOf(by);
        ++done[Action.FundBounty];
    }

    function refund(uint256 seed) external observed {
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

    function request(uint256 seed) public observed {
        uint64 bounty = _openBounty(seed);
        address by = miners[_dice(seed, "by") % MINERS];
        if (bounty == 0 || assignments.get(bounty, by).point != 0) return;
        vm.prank(by);
        assignments.request(bounty);
        ++done[Action.Request];
    }

    function openAssignment(uint256 seed) public observed {
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

    /// The whole way to a batch, as far as it wasn't gone before.
    function commitBatch(uint256 seed) external observed {
        seed = seed % 1e18 * 4 + 1;
        uint64 bounty = _openBounty(seed);
        if (bounty == 0) {
            _createBounty(seed);
            bounty = escrow.count();
        }
        IBountyEscrow.Bounty memory seen = escrow.get(bounty);
        uint32 count = seen.terms.groupSize * uint32(1 + _dice(seed, "count") % (1 + _dice(seed, "large") % 4));
        uint256 worst = uint256(count) * (uint256(seen.terms.pricePerUnit) + seen.terms.feePerTrace);
        address by = miners[_dice(seed, "by") % MINERS];
        if (seen.available < worst || stake.eligible() < 3 || !_enrolled(bounty, by, seed)) return;
        if (_now() + 1 > seen.terms.deadline) return;
        if (worst > ParameterRules.leastLoss(_parameters())) {
            _tooDear(bounty, by, count);
            count = 1;
        }
        uint64 batch = market.count() + 1;
        _countOf[batch] = count;
        _salts[batch] = keccak256(abi.encode(seed, batch));
        bytes32 root = SmallTrees.plainRoot(_tracesOf(bounty, by, _salts[batch], count), 0, count);
        if (_dice(seed, "planted") % 3 == 0) _plant(batch, root);
        _commitBatch(bounty, by, root, count);
    }

    /// @return whether the miner has a seed, which it asks for where it must
    function _enrolled(uint64 bounty, address by, uint256 seed) private returns (bool) {
        if (assignments.get(bounty, by).point == 0) {
            vm.prank(by);
            assignments.request(bounty);
            ++done[Action.Request];
        }
        if (assignments.get(bounty, by).seed == 0) {
            _reachOrMiss(assignments.get(bounty, by).point, seed);
            assignments.open(bounty, by);
            if (assignments.get(bounty, by).seed != 0) ++done[Action.OpenAssignment];
        }
        return assignments.get(bounty, by).seed != 0;
    }

    /// The bounty has the money, but the lie would pay.
    function _tooDear(uint64 bounty, address by, uint32 count) private {
        IAssignments.Assignment memory next = assignments.get(bounty, by);
        _provide(by, market.bondFor(bounty, count));
        ContentId memory content = ContentId(ROOT, RAW);
        _refused(
            by,
            address(market),
            abi.encodeCall(IBatchMarket.commitBatch, (bounty, ROOT, count, next.nextTask, next.seed, content))
        );
        ++done[Action.TooDear];
    }

    function _commitBatch(uint64 bounty, address by, bytes32 root, uint32 count) private {
        IAssignments.Assignment memory next = assignments.get(bounty, by);
        _provide(by, market.bondFor(bounty, count));
        uint256 before = token.balanceOf(by);
        vm.prank(by);
        market.commitBatch(bounty, root, count, next.nextTask, next.seed, ContentId(root, RAW));
        paidIn += before - token.balanceOf(by);
        ++done[Action.CommitBatch];
    }

    // Rounds

    function draw(uint256 seed) external observed {
        uint64 round = _pickRound(seed, _undrawn);
        if (round != 0) _draw(round, seed);
    }

    function drawDue(uint256 seed) external observed {
        uint64 round = _pickRound(seed, _undrawn);
        if (round == 0) return;
        _reachOrMiss(rounds.get(round).drawPoint, seed);
        if (seed % 2 == 0) {
            if (rounds.drawDue(1 + seed % 4) != 0) ++done[Action.DrawDue];
            return;
        }
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(IRounds.drawDue, (2));
        calls[1] = abi.encodeCall(IRounds.drawDue, (100));
        _multicall(address(rounds), calls);
        ++done[Action.DrawDue];
    }

    function commitVerdict(uint256 seed) external observed {
        uint64 round = _pickRound(seed, _committing);
        if (round != 0) _commitSeat(round, uint8(_dice(seed, "seat") % rounds.get(round).seats), seed);
    }

    function revealVerdict(uint256 seed) external observed {
        uint64 round = _pickRound(seed, _revealing);
        if (round != 0) _revealSeat(round, uint8(_dice(seed, "seat") % rounds.get(round).seats));
    }

    /// What is left of a round, by all who are not lazy, and its count.
    function finishRound(uint256 seed) public observed {
        uint64 round = _pickRound(seed, _unfinished);
        if (round != 0) _finish(round, seed % 1e18);
    }

    function _finish(uint64 round, uint256 seed) private {
        if (rounds.get(round).drawnAt == 0) _draw(round, seed);
        uint8 seats = rounds.get(round).seats;
        if (seats == 0) return;
        bool lazy = _dice(seed, "lazy") % 4 == 0;
        if (_dice(seed, "relay") % 8 == 0) _carryCommits(round, seed);
        for (uint8 seat; seat < seats; ++seat) {
            if (!lazy || _dice(seed + seat, "lazy") % 3 != 0) _commitSeat(round, seat, seed + seat);
        }
        if (rounds.phaseOf(round) == IRounds.Phase.Committing) _pass(_parameters().commitWindow + 1);
        if (!lazy && _dice(seed, "together") % 4 != 0) _carryReveals(round);
        for (uint8 seat; seat < seats; ++seat) {
            if (!lazy || _dice(seed + seat, "silent") % 6 != 0) _revealSeat(round, seat);
        }
        if (rounds.phaseOf(round) == IRounds.Phase.Revealing) _pass(_parameters().revealWindow + 1);
        ++done[Action.FinishRound];
        _observe(false);
        if (_disputeOf[round] == 0) {
            if (_mayTally(_batchOf[round])) _tally(_batchOf[round]);
        } else if (_mayTallyJury(_disputeOf[round])) {
            _tallyJury(_disputeOf[round]);
        }
    }

    function tally(uint256 seed) external observed {
        for (uint256 i; i < _liveBatches.length; ++i) {
            uint64 batch = _liveBatches[(seed % 1e9 + i) % _liveBatches.length];
            if (_mayTally(batch)) return _tally(batch);
        }
    }

    function voidStalled(uint256 seed) external observed {
        for (uint256 i; i < _liveBatches.length; ++i) {
            uint64 batch = _liveBatches[(seed % 1e9 + i) % _liveBatches.length];
            if (market.phaseOf(batch) != IBatchMarket.Phase.InRound) continue;
            if (rounds.phaseOf(market.get(batch).round) == IRounds.Phase.Stalled) return _voidStalled(batch);
        }
    }

    function settle(uint256 seed) external observed {
        uint64 batch = _pickBatch(seed, IBatchMarket.Phase.Settleable);
        if (batch == 0 && seed % 4 == 0 && _pickBatch(seed, IBatchMarket.Phase.Challengeable) != 0) {
            _pass(_parameters().challengeWindow + 1);
            batch = _pickBatch(seed, IBatchMarket.Phase.Settleable);
        }
        if (batch != 0) _settleBatch(batch);
    }

    /// Two batches in one call.
    function settleMany(uint256 seed) external observed {
        uint64 batch = _pickBatch(seed, IBatchMarket.Phase.Settleable);
        uint64 other = _anotherBatch(batch);
        if (other == 0 && seed % 2 == 0 && _pickBatch(seed, IBatchMarket.Phase.Challengeable) != 0) {
            _pass(_parameters().challengeWindow + 1);
            batch = _pickBatch(seed, IBatchMarket.Phase.Settleable);
            other = _anotherBatch(batch);
        }
        if (batch == 0 || other == 0) return;
        _makeRoom();
        _expectSettled(batch);
        _expectSettled(other);
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(IBatchMarket.settle, (batch));
        calls[1] = abi.encodeCall(IBatchMarket.settle, (other));
        vm.recordLogs();
        _multicall(address(market), calls);
        _reckon(address(market));
        _closeBatch(batch, Action.Settle);
        _closeBatch(other, Action.SettleMany);
    }

    // Disputes

    /// A verdict that is false, where the attestation has one; else a true one.
    function disputeLeaf(uint256 seed) public observed {
        (uint64 batch, uint8 story) = _pickAttested(seed);
        if (story == 0 || market.phaseOf(batch) != IBatchMarket.Phase.Challengeable) return;
        Story told = Story(story - 1);
        if (told > Story.LieB) return;
        uint32 index = uint32(_dice(seed, "index") % _countOf[batch]);
        for (uint256 i; i < _countOf[batch] && _dice(seed, "true") % 4 != 0; ++i) {
            if (_lies(batch, told, index)) break;
            index = (index + 1) % _countOf[batch];
        }
        if (!_notYet(batch, index)) return;
        bool founded = _lies(batch, told, index);
        address by = _challenger(batch, seed);
        uint256 before = token.balanceOf(by);
        _disputeLeaf(batch, told, index, by);
        paidIn += before - token.balanceOf(by);
        _storyDisputed[court.count()] = story;
        ++done[founded ? Action.DisputeTrue : Action.DisputeFrivolous];
    }

    function _disputeLeaf(uint64 batch, Story story, uint32 index, address by) private {
        IBatchMarket.Batch memory seen = market.get(batch);
        MerkleProofs.SumNode[] memory proof = SmallTrees.sumProof(_leavesOf(batch, story), index);
        bytes32[] memory traces = _tracesOf(seen.bounty, seen.miner, _salts[batch], seen.count);
        bytes32[] memory traceProof = SmallTrees.plainProof(traces, index);
        vm.prank(by);
        court.disputeLeaf(
            batch, _verdictOf(batch, story, index), proof, _lineOf(_salts[batch], index), traceProof
        );
    }

    function disputeOutcome(uint256 seed) public observed {
        (uint64 batch,) = _pickAttested(seed);
        if (batch == 0 || market.phaseOf(batch) != IBatchMarket.Phase.Challengeable) return;
        bytes32 root = market.get(batch).attestation.verdictRoot;
        if ((root != UNAVAILABLE && root != MALFORMED) || !_notYet(batch, 0)) return;
        // Outcomes that are true are left in peace mostly.
        if (root == _outcomeOf(batch) && seed % 4 != 0) return;
        address by = _challenger(batch, seed);
        uint256 before = token.balanceOf(by);
        bytes32 identity = _attestationOf(batch);
        vm.prank(by);
        court.disputeOutcome(batch, identity);
        paidIn += before - token.balanceOf(by);
        ++done[Action.DisputeOutcome];
    }

    function demandOpening(uint256 seed) public observed {
        (uint64 batch, uint8 story) = _pickAttested(seed);
        if (batch == 0 || market.phaseOf(batch) != IBatchMarket.Phase.Challengeable) return;
        bytes32 root = market.get(batch).attestation.verdictRoot;
        if (root == UNAVAILABLE || root == MALFORMED) return;
        address by = _challenger(batch, seed);
        uint256 before = token.balanceOf(by);
        bytes32 identity = _attestationOf(batch);
        vm.prank(by);
        court.demandOpening(batch, identity);
        paidIn += before - token.balanceOf(by);
        _storyDisputed[court.count()] = story;
        ++done[Action.DemandOpening];
    }

    /// Whatever kind fits.
    function disputeAny(uint256 seed) external {
        uint256 dice = _dice(seed, "kind") % 4;
        if (dice == 0) demandOpening(seed);
        else if (dice == 1) disputeOutcome(seed);
        else disputeLeaf(seed);
    }

    /// Some moves of an opening.
    function moveOpening(uint256 seed) external observed {
        for (uint256 i; i <= seed % 12; ++i) {
            uint64 dispute = _pickDispute(seed, ICourt.Phase.Opening);
            if (dispute == 0) return;
            _move(dispute, _dice(seed, i));
            _observe(false);
        }
    }

    /// An answer by somebody who has the tree, a question or, now and then, none in time, or the end.
    function _move(uint64 dispute, uint256 seed) private {
        IOpenings.Status status = openings.statusOf(dispute);
        if (status == IOpenings.Status.Asked) {
            if (_storyDisputed[dispute] != 0) _answer(dispute, Story(_storyDisputed[dispute] - 1));
        } else if (status == IOpenings.Status.Answered && _dice(seed, "tired") % 12 == 0) {
            _pass(_parameters().openingWindow + 1);
        } else if (status == IOpenings.Status.Answered) {
            vm.prank(court.get(dispute).challenger);
            openings.ask(dispute, _dice(seed, "side") % 2 == 0);
            ++done[Action.AskOpening];
        } else {
            _concludeOpening(dispute);
        }
    }

    function _answer(uint64 dispute, Story story) private {
        uint64 batch = court.get(dispute).batch;
        MerkleProofs.SumNode[] memory leaves = _leavesOf(batch, story);
        (VerdictFaults.Subtree memory tree,) = openings.nodeOf(dispute);
        bool leaf = (tree.size == 1) != (story == Story.BadShape);
        if (leaf) {
            uint32 index = uint32(tree.first);
            openings.answerVerdict(dispute, _saidOf(batch, story, index), _verdictOf(batch, story, index));
            ++done[Action.AnswerVerdict];
        } else {
            openings.answer(
                dispute,
                tree.size == 1
                    ? VerdictFaults.Children(leaves[0], leaves[0])
                    : SmallTrees.childrenOf(leaves, tree.first, tree.size)
            );
            ++done[Action.AnswerOpening];
        }
    }

    function proveFault(uint256 seed) external observed {
        for (uint256 i; i < _liveBatches.length; ++i) {
            uint64 batch = _liveBatches[(seed % 1e9 + i) % _liveBatches.length];
            IBatchMarket.Batch memory seen = market.get(batch);
            if (seen.attestedAt == 0) continue;
            uint8 story = _storyOf[batch][rounds.voteOf(seen.attestation)];
            if (story < uint8(Story.BadSum) + 1) continue;
            _proveFault(batch, Story(story - 1), challengers[seed % challengers.length]);
            return;
        }
    }

    function _proveFault(uint64 batch, Story story, address by) private {
        _makeRoom();
        IBatchMarket.Batch memory seen = market.get(batch);
        bool voids = seen.rounds == _parameters().maxRounds;
        IEvidence.Opened memory opened = _faultOf(batch, story);
        uint256 before = ledger.balanceOf(by);
        uint256 pool = court.pool();
        _expectConvicted(seen.round, rounds.voteOf(seen.attestation), true);
        if (voids) _expectBatchJudged(batch, 0);
        vm.recordLogs();
        vm.prank(by);
        court.proveFault(batch, opened);
        uint256 taken = _reckon(address(court));
        uint256 slashed = _lostIn(seen.round, true);
        uint256 reward = Math.min(slashed / 4, _seatPay(seen));
        vm.assertEq(ledger.balanceOf(by) - before, reward, "what a prover gets");
        uint256 wronged = Math.min(slashed / 2, _feeOf(seen));
        vm.assertEq(court.pool() + reward + wronged, pool + taken, "the rest is the pool's");
        if (voids) _closeBatch(batch, Action.VoidByCourt);
        ++done[Action.Convict];
        ++done[Action.ProveFault];
    }

    function narrow(uint256 seed) external observed {
        for (uint256 i; i < _liveBatches.length; ++i) {
            uint64 batch = _liveBatches[(seed % 1e9 + i) % _liveBatches.length];
            if (market.phaseOf(batch) != IBatchMarket.Phase.InRound) continue;
            uint64 round = market.get(batch).round;
            if (rounds.phaseOf(round) != IRounds.Phase.Closed || _narrowed[round] || !_inConflict(round)) continue;
            if (_narrow(batch, round, seed)) return;
        }
    }

    /// @return whether two of the round's votes have trees to compare
    function _narrow(uint64 batch, uint64 round, uint256 seed) private returns (bool) {
        (bytes32 most,) = rounds.leaderOf(round);
        uint8 story = _storyOf[batch][most];
        if (story == 0 || story > uint8(Story.LieB) + 1) return false;
        for (uint8 seat; seat < _seated[round].length; ++seat) {
            bytes32 vote = rounds.seatOf(round, seat).vote;
            uint8 rival = _storyOf[batch][vote];
            if (vote == most || rival == 0 || rival > uint8(Story.LieB) + 1) continue;
            uint32 index = _firstDifference(batch, Story(story - 1), Story(rival - 1));
            IEvidence.Claim memory first = _claimOf(batch, Story(story - 1), index);
            IEvidence.Claim memory second = _claimOf(batch, Story(rival - 1), index);
            vm.prank(challengers[seed % challengers.length]);
            court.narrow(batch, first, second);
            _narrowed[round] = true;
            (_storyDisputed[court.count()], _storyRival[court.count()]) = (story, rival);
            ++done[Action.Narrow];
            return true;
        }
        return false;
    }

    function tallyJury(uint256 seed) external observed {
        for (uint256 i; i < _liveDisputes.length; ++i) {
            uint64 dispute = _liveDisputes[(seed % 1e9 + i) % _liveDisputes.length];
            if (_mayTallyJury(dispute)) return _tallyJury(dispute);
        }
    }

    function appeal(uint256 seed) external observed {
        uint64 dispute = _pickDispute(seed, ICourt.Phase.Appealable);
        if (dispute != 0) _appeal(dispute, seed);
    }

    function _appeal(uint64 dispute, uint256 seed) private {
        address by = challengers[_dice(seed, "by") % challengers.length];
        _provide(by, 100e6);
        uint256 before = token.balanceOf(by);
        bytes32 decision = _decisionOf(dispute);
        vm.prank(by);
        court.appeal(dispute, decision);
        paidIn += before - token.balanceOf(by);
        ++done[Action.Appeal];
    }

    function close(uint256 seed) external observed {
        uint64 dispute = _pickDispute(seed, ICourt.Phase.Decided);
        if (dispute == 0 && seed % 2 == 0 && _pickDispute(seed, ICourt.Phase.Appealable) != 0) {
            _pass(_parameters().appealWindow + 1);
            dispute = _pickDispute(seed, ICourt.Phase.Decided);
        }
        if (dispute != 0) _closeDispute(dispute);
    }

    /// One step of a dispute, whatever it waits for.
    function plead(uint256 seed) external observed {
        if (_liveDisputes.length == 0) return;
        uint64 dispute = _liveDisputes[seed % _liveDisputes.length];
        ICourt.Phase phase = court.phaseOf(dispute);
        if (phase == ICourt.Phase.Opening) {
            _move(dispute, seed);
        } else if (phase == ICourt.Phase.InJury) {
            uint64 jury = court.get(dispute).jury;
            if (_unfinished(rounds.phaseOf(jury))) _finish(jury, seed % 1e18);
            else if (_mayTallyJury(dispute)) _tallyJury(dispute);
        } else if (phase == ICourt.Phase.Appealable) {
            if (_dice(seed, "appeal") % 2 == 0) _appeal(dispute, seed);
            else _pass(_parameters().appealWindow + 1);
        } else {
            _closeDispute(dispute);
        }
    }

    // Audits

    function _plant(uint64 batch, bytes32 root) private {
        bytes32 leaf = audits.leafOf(root, _verdictOf(batch, Story.Truth, _spot(batch)), _salts[batch]);
        vm.prank(posters[0]);
        audits.plant(leaf);
        _planted[batch] = true;
        _observe(false);
        _pass(1);
        ++done[Action.Plant];
    }

    function openAudit(uint256 seed) external observed {
        for (uint64 i; i < market.count(); ++i) {
            uint64 batch = 1 + (uint64(seed % 1e9) + i) % market.count();
            if (!_planted[batch]) continue;
            IBatchMarket.Batch memory seen = market.get(batch);
            uint8 story = _storyOf[batch][rounds.voteOf(seen.attestation)];
            if (seen.attestedAt == 0 || story == 0 || story > uint8(Story.LieB) + 1) continue;
            bool missed = _openAudit(batch, Story(story - 1), seen.root);
            vm.assertEq(missed, _lies(batch, Story(story - 1), _spot(batch)), "the trap was missed by a lie");
            ++done[missed ? Action.AuditMissed : Action.AuditPassed];
            _planted[batch] = false;
            return;
        }
    }

    function _openAudit(uint64 batch, Story story, bytes32 root) private returns (bool) {
        uint32 index = _spot(batch);
        Verdict memory planted = _verdictOf(batch, Story.Truth, index);
        bytes32 leaf = audits.leafOf(root, planted, _salts[batch]);
        MerkleProofs.SumNode[] memory proof = SmallTrees.sumProof(_leavesOf(batch, story), index);
        vm.prank(posters[0]);
        return audits.open(
            batch, planted, _salts[batch], leaf, new bytes32[](0), _verdictOf(batch, story, index), proof
        );
    }

    // Verifiers

    function stakeMore(uint256 seed) external observed {
        address by = verifiers[seed % verifiers.length];
        // Mostly who has no free seat, so that a lot remains to draw from.
        for (uint256 i; i < verifiers.length && stake.weightOf(by) != 0 && seed % 3 != 0; ++i) {
            by = verifiers[(seed % verifiers.length + i) % verifiers.length];
        }
        _stakeMore(by, SEAT + _dice(seed, "amount") % (2 * SEAT));
    }

    /// A draw's value is known and nobody has made it: whoever changes the lot makes it first.
    function stakeWhileDue(uint256 seed) external observed {
        uint64 round = _pickRound(seed, _undrawn);
        if (round == 0) return;
        _makeRoom();
        if (rounds.get(round).drawnAt != 0) return;
        _reachOrMiss(rounds.get(round).drawPoint, seed);
        _stakeMore(verifiers[_dice(seed, "by") % verifiers.length], SEAT);
        ++done[Action.StakeWhileDue];
    }

    function requestUnstake(uint256 seed) external observed {
        address by = verifiers[seed % verifiers.length];
        _makeRoom();
        rounds.settleDraws();
        _observe(false);
        IVerifierStake.Verifier memory seen = stake.get(by);
        uint256 free = _free(seen);
        // Mostly parts, so that a lot remains to draw from; all of what is behind no seat where that is little.
        if (free == 0 || (stake.eligible() <= 16 && free >= SEAT && seed % 5 != 0)) return;
        uint256 amount = free < SEAT && seed % 2 == 0 ? free : 1 + _dice(seed, "amount") % free;
        vm.prank(by);
        stake.requestUnstake(amount);
        _own[by].stake -= amount;
        _own[by].unbonding += amount;
        _noDrawDue();
        ++done[Action.RequestUnstake];
    }

    function claim(uint256 seed) external observed {
        for (uint256 i; i < verifiers.length; ++i) {
            address by = verifiers[(seed % verifiers.length + i) % verifiers.length];
            IVerifierStake.Verifier memory seen = stake.get(by);
            if (seen.unbonding == 0) continue;
            // Two days end much else, so only now and then.
            if (seen.claimableAt > _now() && seed % 6 == 0) _pass(seen.claimableAt - _now());
            if (seen.claimableAt > _now()) continue;
            stake.claim(by);
            _own[by].unbonding -= seen.unbonding;
            ++done[Action.Claim];
            return;
        }
    }

    // Everybody

    function deposit(uint256 seed) external observed {
        address by = accounts[seed % accounts.length];
        uint256 amount = _dice(seed, "amount") % 1e6;
        _provide(by, amount);
        vm.prank(by);
        ledger.deposit(amount);
        paidIn += amount;
        ++done[Action.Deposit];
    }

    function withdraw(uint256 seed) external observed {
        address by = accounts[seed % accounts.length];
        uint256 balance = ledger.balanceOf(by);
        if (balance == 0) return;
        uint256 amount = 1 + _dice(seed, "amount") % balance;
        vm.prank(by);
        ledger.withdraw(by, amount);
        paidOut += amount;
        ++done[Action.Withdraw];
    }

    function donate(uint256 seed) external observed {
        address by = accounts[seed % accounts.length];
        uint256 amount = _dice(seed, "amount") % 1_000;
        _provide(by, amount);
        vm.prank(by);
        token.transfer(address(ledger), amount);
        donated += amount;
        ++done[Action.Donate];
    }

    /// What nobody may do, tried by somebody: each must be refused.
    function meddle(uint256 seed) external observed {
        address by = accounts[_dice(seed, "by") % accounts.length];
        _meddleWithFunds(by, seed);
        if (rounds.count() == 0) return;
        _meddleWithRounds(by, 1 + uint64(_dice(seed, "round") % rounds.count()));
        _meddleWithBatches(by, 1 + uint64(_dice(seed, "batch") % market.count()), seed);
        if (court.count() != 0) _meddleWithDisputes(by, 1 + uint64(_dice(seed, "dispute") % court.count()));
        ++done[Action.Meddle];
    }

    function _meddleWithFunds(address by, uint256 seed) private {
        IVerifierStake.Verifier memory seen = stake.get(by);
        // Due draws may take free stake, never give any.
        uint256 free = _free(seen);
        _refused(by, address(stake), abi.encodeCall(IVerifierStake.requestUnstake, (free + 1 + seed % SEAT)));
        if (seen.claimableAt > _now()) _refused(by, address(stake), abi.encodeCall(IVerifierStake.claim, (by)));
        uint256 more = ledger.balanceOf(by) + 1 + seed % 1e6;
        _refused(by, address(ledger), abi.encodeCall(ILedger.withdraw, (by, more)));
        _refused(by, address(ledger), abi.encodeCall(ILedger.shift, (address(court), 1)));
        uint64 bounty = _pickBounty(seed);
        _refused(by, address(escrow), abi.encodeCall(IBountyEscrow.replenish, (bounty, 1)));
        if (_now() <= escrow.get(bounty).terms.deadline) {
            _refused(by, address(escrow), abi.encodeCall(IBountyEscrow.refund, (bounty)));
        }
    }

    function _meddleWithRounds(address by, uint64 round) private {
        IRounds.Round memory seen = rounds.get(round);
        if (seen.judged || seen.drawnAt != 0 || rounds.phaseOf(round) == IRounds.Phase.Stalled) {
            _refused(by, address(rounds), abi.encodeCall(IRounds.draw, (round)));
        }
        _refused(by, address(rounds), abi.encodeCall(IRounds.judge, (round, bytes32(0))));
        _refused(by, address(rounds), abi.encodeCall(IRounds.convict, (round, bytes32(uint256(1)), true)));
        // Not even its owner judges a round twice, or another's.
        address owner = seen.jury ? address(court) : address(market);
        if (seen.judged) {
            _refused(owner, address(rounds), abi.encodeCall(IRounds.judge, (round, bytes32(0))));
            _refused(address(market), address(rounds), abi.encodeCall(IRounds.convict, (round, bytes32(uint256(1)), true)));
        } else if (_convicted[round] != 0) {
            _refused(address(market), address(rounds), abi.encodeCall(IRounds.convict, (round, bytes32(uint256(1)), true)));
        }
        address other = seen.jury ? address(market) : address(court);
        _refused(other, address(rounds), abi.encodeCall(IRounds.judge, (round, bytes32(0))));
    }

    function _meddleWithBatches(address by, uint64 batch, uint256 seed) private {
        IBatchMarket.Phase phase = market.phaseOf(batch);
        if (phase != IBatchMarket.Phase.Settleable) {
            _refused(by, address(market), abi.encodeCall(IBatchMarket.settle, (batch)));
        }
        if (phase != IBatchMarket.Phase.InRound || !_mayTally(batch)) {
            Attestation memory other = _verdict(uint32(seed % 5), 0);
            _refused(by, address(market), abi.encodeCall(IBatchMarket.tally, (batch, other)));
        }
        if (
            phase != IBatchMarket.Phase.InRound
                || rounds.phaseOf(market.get(batch).round) != IRounds.Phase.Stalled
        ) _refused(by, address(market), abi.encodeCall(IBatchMarket.voidStalled, (batch)));
        if (phase != IBatchMarket.Phase.Challengeable) {
            _refused(by, address(court), abi.encodeCall(ICourt.disputeOutcome, (batch, _attestationOf(batch))));
            _refused(by, address(court), abi.encodeCall(ICourt.demandOpening, (batch, _attestationOf(batch))));
        }
        _refused(by, address(market), abi.encodeCall(IBatchMarket.overturn, (batch, true)));
        _refused(by, address(market), abi.encodeCall(IBatchMarket.endDispute, (batch)));
    }

    function _meddleWithDisputes(address by, uint64 dispute) private {
        ICourt.Phase phase = court.phaseOf(dispute);
        Attestation memory none;
        if (phase != ICourt.Phase.Decided) _refused(by, address(court), abi.encodeCall(ICourt.close, (dispute)));
        if (!_mayTallyJury(dispute)) {
            _refused(by, address(court), abi.encodeCall(ICourt.tallyJury, (dispute, none)));
        }
        if (phase != ICourt.Phase.Appealable) {
            _refused(by, address(court), abi.encodeCall(ICourt.appeal, (dispute, _decisionOf(dispute))));
        }
        if (phase != ICourt.Phase.Opening) {
            _refused(by, address(court), abi.encodeCall(ICourt.concludeOpening, (dispute)));
        }
        if (by != court.get(dispute).challenger) {
            _refused(by, address(openings), abi.encodeCall(IOpenings.ask, (dispute, true)));
        }
    }

    function pass(uint256 seed) external {
        vm.roll(vm.getBlockNumber() + 1 + _dice(seed, "blocks") % 5);
        _pass(seed % 32 == 0 ? 1 days : _dice(seed, "time") % 50 minutes);
    }

    function _stakeMore(address by, uint256 amount) private {
        _makeRoom();
        _provide(by, amount);
        uint256 before = token.balanceOf(by);
        vm.prank(by);
        stake.stake(amount);
        paidIn += before - token.balanceOf(by);
        _own[by].stake += amount;
        _noDrawDue();
        ++done[Action.Stake];
    }

    /// Once the lot has changed no value that is known is left to draw from it.
    function _noDrawDue() private view {
        for (uint256 i; i < _liveRounds.length; ++i) {
            vm.assertTrue(rounds.phaseOf(_liveRounds[i]) != IRounds.Phase.Drawable, "due draws are made first");
        }
    }

    /// Reaches the round's point, or misses it, and draws.
    function _draw(uint64 round, uint256 seed) private {
        _reachOrMiss(rounds.get(round).drawPoint, seed);
        if (rounds.phaseOf(round) != IRounds.Phase.Drawable) return;
        IRounds.Round memory seen = rounds.get(round);
        bool missed = randomness.statusOf(seen.drawPoint) == IRandomness.Status.Missed;
        // Draws before it may take free seats, but no stake.
        bool told = seen.jury || rounds.nextDraw() == round;
        uint256 candidates = _candidates(round);
        rounds.draw(round);
        uint256 least = seen.jury ? seen.size / 2 + 1 : _parameters().committeeSize;
        uint256 seats = missed || candidates < least ? 0 : Math.min(seen.size, candidates);
        if (told) vm.assertEq(rounds.get(round).seats, seats, "who can be drawn is drawn, busy jurors too");
        bool busy;
        for (uint8 seat; seen.jury && seat < seats; ++seat) {
            if (stake.weightOf(rounds.seatOf(round, seat).verifier) == 0) busy = true;
        }
        if (busy) ++done[Action.BusyJuror];
        ++done[rounds.get(round).drawnAt != 0 ? Action.Draw : Action.Reschedule];
        _observe(false);
    }

    /// @return stake behind no open seat
    function _free(IVerifierStake.Verifier memory seen) private pure returns (uint256) {
        uint256 locked = uint256(seen.openSeats) * SEAT;
        return seen.stake > locked ? seen.stake - locked : 0;
    }

    /// A relay brings what members signed: all of them, or some; what is missing they commit themselves.
    function _carryCommits(uint64 round, uint256 seed) private {
        if (rounds.phaseOf(round) != IRounds.Phase.Committing) return;
        bool juror = _disputeOf[round] != 0;
        IRounds.SignedCommitment[] memory given = new IRounds.SignedCommitment[](rounds.get(round).seats);
        bool whole = _dice(seed, "whole") % 2 == 0;
        for (uint8 seat; seat < given.length; ++seat) {
            if (!whole && _dice(seed + seat, "carried") % 2 == 0) continue;
            if (rounds.seatOf(round, seat).state != IRounds.SeatState.Drawn) continue;
            Attestation memory vote = juror
                ? _jurorVote(round, seed + seat)
                : _memberVote(_batchOf[round], round, seat, seed + seat);
            _votes[round][seat] = vote;
            _sealedVote[round][seat] = true;
            given[seat] = _signedVote(round, seat, vote);
        }
        uint256 taken = rounds.commitVerdicts(round, given);
        if (taken == given.length) {
            _broughtTogether[round] = true;
            for (uint256 i; i < given.length; ++i) {
                _brought[round].push(given[i].commitment);
            }
        }
        if (taken != 0) ++done[Action.CarryCommits];
        _observeRound(false, round);
    }

    /// All of a round that one call brought, where they say the same.
    function _carryReveals(uint64 round) private {
        if (!_broughtTogether[round] || rounds.phaseOf(round) != IRounds.Phase.Revealing) return;
        uint8 seats = rounds.get(round).seats;
        bytes32[] memory secrets = new bytes32[](seats);
        bytes32 first = rounds.voteOf(_votes[round][0]);
        for (uint8 seat; seat < seats; ++seat) {
            if (rounds.voteOf(_votes[round][seat]) != first) return;
            secrets[seat] = _salt(round, seat);
        }
        ContentId[] memory places = new ContentId[](1);
        places[0] = _place();
        rounds.revealVerdicts(round, _votes[round][0], secrets, places);
        ++done[Action.CarryReveals];
        _observeRound(false, round);
    }

    function _commitSeat(uint64 round, uint8 seat, uint256 seed) private {
        if (rounds.phaseOf(round) != IRounds.Phase.Committing) return;
        if (rounds.seatOf(round, seat).state != IRounds.SeatState.Drawn) return;
        bool juror = _disputeOf[round] != 0;
        Attestation memory vote =
            juror ? _jurorVote(round, seed) : _memberVote(_batchOf[round], round, seat, seed);
        _votes[round][seat] = vote;
        _commitVote(round, seat, vote);
        ++done[juror ? Action.JurorCommit : Action.CommitVerdict];
        _observeRound(false, round);
    }

    function _revealSeat(uint64 round, uint8 seat) private {
        if (rounds.phaseOf(round) != IRounds.Phase.Revealing) return;
        if (rounds.seatOf(round, seat).state != IRounds.SeatState.Committed) return;
        if (_sealedVote[round][seat]) {
            rounds.revealFor(round, seat, _votes[round][seat], _salt(round, seat), _place(), _brought[round]);
            ++done[Action.RevealFor];
        } else {
            _revealVote(round, seat, _votes[round][seat]);
        }
        ++done[_disputeOf[round] != 0 ? Action.JurorReveal : Action.RevealVerdict];
        _observeRound(false, round);
    }

    /// Juries have moods too: honest, for what is disputed, for its rival, without the content, or divided.
    function _jurorVote(uint64 jury, uint256 seed) private view returns (Attestation memory) {
        uint64 id = _disputeOf[jury];
        ICourt.Dispute memory dispute = court.get(id);
        bytes32 truth = _outcomeOf(dispute.batch);
        uint256 mood = _dice(jury, "mood") % 10;
        uint256 dice = _dice(seed, "juror");
        if (mood == 9 || dice % 10 == 0) mood = (dice >> 8) % 9;
        // Small juries are bought sooner: something is left for an appeal to win.
        if (dispute.juries == 1 && _storyRival[id] == 0 && (mood == 4 || mood == 5)) mood = 6;
        if (dispute.kind == ICourt.Kind.Malformed || dispute.kind == ICourt.Kind.Unavailable) {
            bytes32 disputed = dispute.kind == ICourt.Kind.Malformed ? MALFORMED : UNAVAILABLE;
            if (mood == 6 || mood == 7) return Attestation(disputed, 0, 0);
            if (mood == 8) return Attestation(disputed == MALFORMED ? UNAVAILABLE : MALFORMED, 0, 0);
            return Attestation(truth == 0 ? SOUND : truth, 0, 0);
        }
        if (mood == 8 || (mood < 6 && truth == UNAVAILABLE)) return Attestation(UNAVAILABLE, 0, 0);
        Story story = Story.Truth;
        if (mood == 6 && _storyDisputed[id] != 0) story = Story(_storyDisputed[id] - 1);
        if (mood == 7) story = Story.LieB;
        if (_storyRival[id] != 0 && mood > 3 && mood != 6) story = Story(_storyRival[id] - 1);
        return _leafVote(dispute.batch, story, dispute.index);
    }

    /// Lets a point's block pass; one time in sixteen the whole reach of its hash.
    function _reachOrMiss(uint64 point, uint256 seed) private {
        if (randomness.statusOf(point) == IRandomness.Status.Missed) return;
        if (_dice(seed, "miss") % 16 == 0) {
            if (vm.getBlockNumber() <= uint256(point) + 256) vm.roll(uint256(point) + 257);
        } else {
            _reach(point);
        }
        _observe(true);
    }

    function _multicall(address target, bytes[] memory calls) private {
        vm.prank(stranger);
        (bool success,) = target.call(abi.encodeWithSignature("multicall(bytes[])", calls));
        vm.assertTrue(success, "calls in one");
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

    /// Somebody with the bond for a dispute of `batch`.
    function _challenger(uint64 batch, uint256 seed) private returns (address by) {
        by = challengers[_dice(seed, "by") % challengers.length];
        _provide(by, court.bondFor(batch));
    }

    /// @return whether this verdict of this attestation was not disputed yet; it is now
    function _notYet(uint64 batch, uint32 index) private returns (bool) {
        bytes32 key = keccak256(abi.encode(batch, market.get(batch).overturned, index));
        if (_disputed[key]) return false;
        _disputed[key] = true;
        return true;
    }
}
