// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAssignments} from "../../../contracts/src/interfaces/IAssignments.sol";
import {IBatchMarket} from "../../../contracts/src/interfaces/IBatchMarket.sol";
import {IBountyEscrow} from "../../../contracts/src/interfaces/IBountyEscrow.sol";
import {ICourt} from "../../../contracts/src/interfaces/ICourt.sol";
import {IRounds} from "../../../contracts/src/interfaces/IRounds.sol";
import {IScoreSheets} from "../../../contracts/src/interfaces/IScoreSheets.sol";
import {Attestation, BountyTerms, ContentId, Parameters} from "../../../contracts/src/libraries/Types.sol";
import {SheetAction} from "./SheetActions.sol";
import {SheetPicks} from "./SheetPicks.sol";

/// Judges, posters and planters of a small market in any order: each action picks by its seed among what is possible, and
/// must not revert. What committees vote is played as far as the sheets' fate depends on it; disputes are played in
/// MarketHandler, but for one that opens a batch again.
contract SheetHandler is SheetPicks {
    uint256 public constant ACTIONS = uint256(type(SheetAction).max) + 1;
    uint256 private constant VERIFIERS = 24;
    bytes32 private constant GOLD_SALT = keccak256("gold salt");
    bytes32 private constant SOUND = keccak256("tracemarket.outcome.sound");

    struct Gold {
        address planter;
        /// which batch of the market it is for, in the order of their commits
        uint64 batch;
        uint256 plantedAt;
    }

    address[] private posters;
    address[] private miners;
    address[] private planters;
    Gold[] private _planted;

    constructor() {
        _begin();
        posters = [poster, _actor("second poster")];
        miners = [miner, _actor("second miner")];
        planters = [trainer, stranger];
        accounts.push(posters[1]);
        accounts.push(miners[1]);
        _verifiers(VERIFIERS, 20 * SEAT);
        for (uint256 i; i < accounts.length; ++i) {
            vm.startPrank(accounts[i]);
            token.approve(address(ledger), type(uint256).max);
            token.approve(address(sheets), type(uint256).max);
            vm.stopPrank();
        }
        // Something to begin with, so that short runs get somewhere.
        uint64 bounty = _createBounty(1);
        _openPot(bounty, 1);
        _fundPot(bounty, poster, 1e6);
    }

    /// Longer windows for sheets than the scenarios have, so that much happens at a time.
    function _parameters() internal view override returns (Parameters memory p) {
        p = super._parameters();
        p.drawTimeout = 6 hours;
        p.commitWindow = 4 hours;
        p.unbondingDelay = 4 days;
    }

    // Posters

    function createBounty(uint256 seed) external observed {
        if (_openBounty(seed) != 0 && seed % 4 != 0) return;
        uint64 bounty = _createBounty(seed);
        if (seed % 3 == 0) return;
        _openPot(bounty, seed);
        _fundPot(bounty, escrow.get(bounty).poster, 200_000 + _dice(seed, "pot") % 800_000);
    }

    function _createBounty(uint256 seed) private returns (uint64) {
        BountyTerms memory terms = _terms();
        terms.groupSize = 1;
        terms.deadline = uint64(_now() + 6 hours + _dice(seed, "deadline") % 1 days);
        address by = posters[seed % posters.length];
        token.mint(by, 200e6);
        ++done[SheetAction.CreateBounty];
        vm.prank(by);
        return escrow.create(terms, 200e6);
    }

    function openPot(uint256 seed) external observed {
        uint64 bounty = _anyBounty(seed);
        if (sheets.potOf(bounty).perTrace == 0) _openPot(bounty, seed);
    }

    function _openPot(uint64 bounty, uint256 seed) private apart {
        vm.prank(escrow.get(bounty).poster);
        sheets.openPot(bounty, uint96(1 + _dice(seed, "rate") % 2_000));
        ++done[SheetAction.OpenPot];
    }

    function fundPot(uint256 seed) external observed {
        uint64 bounty = _anyBounty(seed);
        if (sheets.potOf(bounty).perTrace == 0) return;
        // Some pots are too small for all of their sheets.
        uint256 amount = 1 + _dice(seed, "amount") % (seed % 3 == 0 ? 200 : 200_000);
        _fundPot(bounty, accounts[_dice(seed, "by") % accounts.length], amount);
    }

    function _fundPot(uint64 bounty, address by, uint256 amount) private {
        token.mint(by, amount);
        bytes32 identity = escrow.identityOf(bounty);
        vm.prank(by);
        sheets.fund(bounty, identity, amount);
        putIn += amount;
        _funded[bounty] += amount;
        ++done[SheetAction.FundPot];
    }

    function refund(uint256 seed) external observed {
        for (uint64 i; i < escrow.count(); ++i) {
            uint64 bounty = _anyBounty(seed % 1e9 + i);
            IBountyEscrow.Bounty memory seen = escrow.get(bounty);
            IScoreSheets.Pot memory pot = sheets.potOf(bounty);
            if (seen.reserved != 0 || pot.open != 0 || pot.available == 0) continue;
            if (_now() <= seen.terms.deadline && seed % 4 != 0) continue;
            if (_now() <= seen.terms.deadline) vm.warp(seen.terms.deadline + 1);
            return _refund(bounty);
        }
    }

    // Batches

    function commitBatch(uint256 seed) external observed {
        uint64 bounty = _openBounty(seed);
        if (bounty == 0) return;
        uint64 batch = market.count() + 1;
        uint32 count = _countOf(batch);
        IBountyEscrow.Bounty memory seen = escrow.get(bounty);
        if (seen.available < uint256(count) * (PRICE + FEE) || stake.eligible() < 3) return;
        address by = miners[_dice(seed, "by") % miners.length];
        if (assignments.get(bounty, by).point == 0) _enrol(bounty, by);
        if (assignments.get(bounty, by).seed == 0) return;
        token.mint(by, market.bondFor(bounty, count));
        IAssignments.Assignment memory next = assignments.get(bounty, by);
        bytes32 root = _rootOf(batch);
        vm.prank(by);
        market.commitBatch(bounty, root, count, next.nextTask, next.seed, ContentId(root, RAW));
        ++done[SheetAction.CommitBatch];
    }

    function draw(uint256 seed) external observed {
        uint64 batch = _pickBatch(seed, IBatchMarket.Phase.InRound, _undrawn);
        if (batch != 0) _drawRound(market.get(batch).round);
    }

    function _drawRound(uint64 round) private returns (bool drawn) {
        // Draws are made in order, and one before it may have been put off.
        for (uint256 i; i < 8 && !drawn; ++i) {
            _reach(rounds.get(round).drawPoint);
            _makeDraws();
            drawn = rounds.get(round).drawnAt != 0;
        }
        if (drawn) ++done[SheetAction.Draw];
    }

    /// A round's whole vote, drawn before where it must be: for verdicts, for an outcome, divided, or by too few.
    function vote(uint256 seed) external observed {
        uint64 batch = _pickBatch(seed, IBatchMarket.Phase.InRound, _any);
        if (batch == 0) return;
        uint64 round = market.get(batch).round;
        if (rounds.phaseOf(round) == IRounds.Phase.Stalled) {
            _makeDraws();
            market.voidStalled(batch);
            ++done[SheetAction.VoidBatch];
            return;
        }
        // Sheets come first, mostly.
        bool early = sheets.phaseOf(batch) != IScoreSheets.Phase.Closed;
        if (early && seed % 8 != 0) return;
        if (rounds.get(round).drawnAt == 0 && !_drawRound(round)) return;
        // Its time may have passed without a vote.
        if (rounds.phaseOf(round) == IRounds.Phase.Committing) {
            _cast(round, _votesOf(batch, round, _dice(seed, "mood") % 16));
        }
        (, uint256 most) = rounds.leaderOf(round);
        // Where the votes differ, somebody could have narrowed them.
        uint256 until = rounds.endsAt(round) + _parameters().openingWindow;
        if (2 * most <= rounds.get(round).seats && _now() <= until) vm.warp(until + 1);
        _makeDraws();
        vm.prank(stranger);
        market.tally(batch, _leaderOf(round));
        IBatchMarket.Phase phase = market.phaseOf(batch);
        ++done[phase == IBatchMarket.Phase.InRound
            ? SheetAction.Redraw
            : phase == IBatchMarket.Phase.Void ? SheetAction.VoidBatch : SheetAction.Attest];
    }

    /// As `_vote`, in a round that was drawn a while ago. A vote with a zero root is an absent member.
    function _cast(uint64 round, Attestation[] memory votes) private {
        for (uint8 seat; seat < votes.length; ++seat) {
            if (votes[seat].verdictRoot != 0) _commitVote(round, seat, votes[seat]);
        }
        if (rounds.phaseOf(round) == IRounds.Phase.Committing) {
            vm.warp(uint256(rounds.get(round).drawnAt) + _parameters().commitWindow + 1);
        }
        for (uint8 seat; seat < votes.length; ++seat) {
            if (votes[seat].verdictRoot != 0) _revealVote(round, seat, votes[seat]);
        }
    }

    function _votesOf(uint64 batch, uint64 round, uint256 mood) private returns (Attestation[] memory votes) {
        uint8 seats = rounds.get(round).seats;
        uint32 units = uint32(_dice(batch, "units") % (market.get(batch).count + 1));
        Attestation memory said = mood == 0 || mood == 1
            ? Attestation(UNAVAILABLE, 0, 0)
            : mood == 2 ? Attestation(MALFORMED, 0, 0) : _verdict(units, 0);
        votes = _same(said, seats);
        _say(said);
        for (uint256 i; i < seats && mood > 13; ++i) {
            // Each its own, or one alone.
            if (mood == 14) votes[i] = Attestation(keccak256(abi.encode("split", i)), 0, 0);
            else if (i != 0) votes[i] = Attestation(0, 0, 0);
            _say(votes[i]);
        }
    }

    function _say(Attestation memory said) private {
        _said[rounds.voteOf(said)] = said;
    }

    /// A jury finds that an outcome is none: the batch goes to other members, its sheets stay those of the first.
    function overturn(uint256 seed) external observed {
        uint64 batch = _pickBatch(seed, IBatchMarket.Phase.Challengeable, _any);
        if (batch == 0) return;
        bytes32 root = market.get(batch).attestation.verdictRoot;
        if ((root != UNAVAILABLE && root != MALFORMED) || market.get(batch).disputes != 0) return;
        uint256 bond = court.bondFor(batch);
        token.mint(miner, bond);
        bytes32 identity = _attestationOf(batch);
        vm.prank(miner);
        uint64 dispute = court.disputeOutcome(batch, identity);
        uint64 jury = court.get(dispute).jury;
        bool drawn = _drawRound(jury);
        vm.assertTrue(drawn, "there are jurors for everybody");
        Attestation memory sound = Attestation(SOUND, 0, 0);
        _vote(jury, _same(sound, rounds.get(jury).seats));
        _makeDraws();
        court.tallyJury(dispute, sound);
        _skip(_parameters().appealWindow + 1);
        _makeDraws();
        court.close(dispute);
        ++done[SheetAction.Overturn];
    }

    function settle(uint256 seed) external observed {
        uint64 batch = _pickBatch(seed, IBatchMarket.Phase.Settleable, _any);
        if (batch == 0 && _pickBatch(seed, IBatchMarket.Phase.Challengeable, _any) != 0) {
            _skip(_parameters().challengeWindow + 1);
            batch = _pickBatch(seed, IBatchMarket.Phase.Settleable, _any);
        }
        if (batch == 0) return;
        _makeDraws();
        market.settle(batch);
        ++done[SheetAction.SettleBatch];
    }

    // Judges

    function commitSheet(uint256 seed) external observed {
        uint64 batch = _pickSheets(seed, IScoreSheets.Phase.Committing);
        if (batch != 0) _commitSheet(batch, _anySeat(batch, seed), seed);
    }

    function revealSheet(uint256 seed) external observed {
        uint64 batch = _pickSheets(seed, IScoreSheets.Phase.Revealing);
        if (batch != 0) _revealSheet(batch, _anySeat(batch, seed));
    }

    /// What is left of a batch's sheets, by all or by some of its members.
    function grade(uint256 seed) external observed {
        uint64 batch = _pickSheets(seed, IScoreSheets.Phase.Committing);
        if (batch == 0) return;
        seed %= 1e18;
        uint64 first = market.roundsOf(batch)[0];
        bool lazy = _dice(seed, "lazy") % 4 == 0;
        uint8 seats = rounds.get(first).seats;
        for (uint8 seat; seat < seats; ++seat) {
            if (!lazy || _dice(seed + seat, "lazy") % 3 != 0) _commitSheet(batch, seat, seed + seat);
        }
        _observe();
        if (sheets.phaseOf(batch) == IScoreSheets.Phase.Committing) _skip(_parameters().commitWindow / 3 + 1);
        _observe();
        for (uint8 seat; seat < seats; ++seat) {
            if (!lazy || _dice(seed + seat, "silent") % 4 != 0) _revealSheet(batch, seat);
        }
    }

    function _commitSheet(uint64 batch, uint8 seat, uint256 seed) private apart {
        if (_kept[batch][seat].stage != Stage.Blank) return;
        if (sheets.phaseOf(batch) != IScoreSheets.Phase.Committing) return;
        address judge = rounds.seatOf(market.roundsOf(batch)[0], seat).verifier;
        bytes32 commitment = _makeSheet(batch, seat, judge, _dice(seed, "mood") % 10);
        uint256 before = sheets.potOf(market.get(batch).bounty).available;
        bool begins = sheets.panelOf(batch).seats == 0;
        vm.prank(judge);
        sheets.commitSheet(batch, seat, commitment);
        if (begins) _begins(batch, before);
        ++done[SheetAction.CommitSheet];
    }

    /// @return commitment of a sheet that can be shown; of one off the grid; or the first seat's, copied
    function _makeSheet(uint64 batch, uint8 seat, address judge, uint256 mood) private returns (bytes32 commitment) {
        Kept storage kept = _kept[batch][seat];
        kept.stage = Stage.Committed;
        kept.salt = keccak256(abi.encode("sheet salt", batch, seat));
        kept.sheet = _sheetOf(batch, seat, market.get(batch).count, mood);
        if (mood == 0) {
            kept.broken = true;
            kept.sheet[0] = hex"50";
        }
        commitment = sheets.commitmentOf(batch, judge, kept.sheet, kept.salt);
        if (mood == 1 && seat != 0 && _kept[batch][0].stage != Stage.Blank) {
            kept.broken = true;
            return sheets.sheetOf(batch, 0);
        }
    }

    /// @param before what the pot had
    function _begins(uint64 batch, uint256 before) private {
        uint64 bounty = market.get(batch).bounty;
        uint256 seats = rounds.get(market.roundsOf(batch)[0]).seats;
        uint256 wanted = uint256(sheets.potOf(bounty).perTrace) * market.get(batch).count;
        _setAside[batch] = wanted < before / seats ? wanted : before / seats;
        _begun.push(batch);
        vm.assertEq(before - sheets.potOf(bounty).available, _setAside[batch] * seats, "set aside from this pot");
    }

    function _revealSheet(uint64 batch, uint8 seat) private apart {
        Kept storage kept = _kept[batch][seat];
        if (kept.stage != Stage.Committed || sheets.phaseOf(batch) != IScoreSheets.Phase.Revealing) return;
        address judge = rounds.seatOf(market.roundsOf(batch)[0], seat).verifier;
        bytes memory call = abi.encodeCall(IScoreSheets.revealSheet, (batch, seat, kept.sheet, kept.salt));
        if (kept.broken) {
            _refused(judge, call);
            ++done[SheetAction.RefuseSheet];
            return;
        }
        vm.prank(judge);
        sheets.revealSheet(batch, seat, kept.sheet, kept.salt);
        kept.stage = Stage.Shown;
        ++done[SheetAction.RevealSheet];
    }

    // Everybody

    function pay(uint256 seed) external observed {
        for (uint256 i; i < _begun.length; ++i) {
            uint64 batch = _begun[(seed % 1e9 + i) % _begun.length];
            (, bool verdicts) = _over(batch);
            if (verdicts) return _pay(batch);
        }
    }

    function release(uint256 seed) external observed {
        for (uint256 i; i < _begun.length; ++i) {
            uint64 batch = _begun[(seed % 1e9 + i) % _begun.length];
            (bool over, bool verdicts) = _over(batch);
            if (over && !verdicts) return _release(batch);
        }
    }

    function withdraw(uint256 seed) external observed {
        for (uint256 i; i < accounts.length; ++i) {
            address by = accounts[(seed % 1e9 + i) % accounts.length];
            if (sheets.balanceOf(by) == 0) continue;
            return _withdraw(by, accounts[_dice(seed, "to") % accounts.length]);
        }
    }

    function plantGold(uint256 seed) external observed {
        // For one of the next batches; sometimes too late, for the last one.
        uint64 batch = market.count() + uint64(_dice(seed, "batch") % 4 + 1) / 2;
        Gold memory gold = Gold(planters[seed % planters.length], batch, _now());
        if (batch == 0) return;
        bytes32 commitment = sheets.goldOf(_rootOf(gold.batch), gold.planter, _goldOf(gold.batch), GOLD_SALT);
        if (sheets.plantingOf(commitment).planter != address(0)) return;
        _plant(gold, commitment);
        if (seed % 4 != 0) _skip(1 minutes);
    }

    function _plant(Gold memory gold, bytes32 commitment) private apart {
        vm.prank(gold.planter);
        sheets.plantGold(commitment);
        _planted.push(gold);
        ++done[SheetAction.PlantGold];
    }

    function openGold(uint256 seed) external observed {
        for (uint256 i; i < _planted.length; ++i) {
            uint256 place = (seed % 1e9 + i) % _planted.length;
            Gold memory gold = _planted[place];
            if (gold.batch > market.count()) continue;
            if (market.phaseOf(gold.batch) != IBatchMarket.Phase.Settled) continue;
            _openGold(gold);
            _planted[place] = _planted[_planted.length - 1];
            _planted.pop();
            return;
        }
    }

    /// What was planted before the commit opens once; what was planted after it never does.
    function _openGold(Gold memory gold) private apart {
        bytes memory sheet = _goldOf(gold.batch);
        bytes memory call = abi.encodeCall(IScoreSheets.openGold, (gold.batch, sheet, GOLD_SALT));
        if (gold.plantedAt < rounds.get(market.roundsOf(gold.batch)[0]).openedAt) {
            vm.prank(gold.planter);
            sheets.openGold(gold.batch, sheet, GOLD_SALT);
            ++done[SheetAction.OpenGold];
        } else {
            ++done[SheetAction.GoldTooLate];
        }
        _refused(gold.planter, call);
    }

    function donate(uint256 seed) external observed {
        uint256 amount = _dice(seed, "amount") % 1_000;
        token.mint(address(sheets), amount);
        donated += amount;
        ++done[SheetAction.DonateToSheets];
    }

    /// What nobody may do now, tried by somebody: each must be refused.
    function meddle(uint256 seed) external observed {
        address by = accounts[_dice(seed, "by") % accounts.length];
        uint64 bounty = _anyBounty(seed);
        _meddleWithPot(by, bounty);
        if (market.count() == 0) return;
        uint64 batch = 1 + uint64(_dice(seed, "batch") % market.count());
        _meddleWithSheets(by, batch, seed);
        _meddleWithPay(by, batch);
        ++done[SheetAction.MeddleWithSheets];
    }

    function _meddleWithPot(address by, uint64 bounty) private apart {
        IScoreSheets.Pot memory pot = sheets.potOf(bounty);
        IBountyEscrow.Bounty memory seen = escrow.get(bounty);
        if (by != seen.poster || pot.perTrace != 0) _refused(by, abi.encodeCall(IScoreSheets.openPot, (bounty, 1)));
        if (pot.perTrace == 0) _refused(by, abi.encodeCall(IScoreSheets.fund, (bounty, escrow.identityOf(bounty), 1)));
        // Nobody has so many tokens.
        else _refused(by, abi.encodeCall(IScoreSheets.fund, (bounty, escrow.identityOf(bounty), 1 << 127)));
        if (_now() <= seen.terms.deadline || seen.reserved != 0 || pot.open != 0) {
            _refused(by, abi.encodeCall(IScoreSheets.refund, (bounty)));
        }
        _refused(by, abi.encodeCall(IScoreSheets.withdraw, (address(sheets))));
        if (sheets.balanceOf(by) == 0) _refused(by, abi.encodeCall(IScoreSheets.withdraw, (by)));
    }

    function _meddleWithSheets(address by, uint64 batch, uint256 seed) private apart {
        IScoreSheets.Phase phase = sheets.phaseOf(batch);
        uint64 first = market.roundsOf(batch)[0];
        if (rounds.get(first).drawnAt == 0) {
            _refused(by, abi.encodeCall(IScoreSheets.commitSheet, (batch, 0, GOLD_SALT)));
            return;
        }
        uint8 seat = _anySeat(batch, seed);
        Kept storage kept = _kept[batch][seat];
        address judge = rounds.seatOf(first, seat).verifier;
        bytes memory commit = abi.encodeCall(IScoreSheets.commitSheet, (batch, seat, GOLD_SALT));
        if (by != judge) _refused(by, commit);
        if (phase != IScoreSheets.Phase.Committing || kept.stage != Stage.Blank) _refused(judge, commit);
        bytes memory reveal = abi.encodeCall(IScoreSheets.revealSheet, (batch, seat, kept.sheet, kept.salt));
        if (by != judge) _refused(by, reveal);
        if (phase != IScoreSheets.Phase.Revealing || kept.stage != Stage.Committed) _refused(judge, reveal);
        // Another sheet than the one committed.
        bytes memory other = new bytes((market.get(batch).count + 1) / 2);
        if (keccak256(other) == keccak256(kept.sheet)) return;
        _refused(judge, abi.encodeCall(IScoreSheets.revealSheet, (batch, seat, other, kept.salt)));
    }

    function _meddleWithPay(address by, uint64 batch) private apart {
        (bool over, bool verdicts) = _over(batch);
        IScoreSheets.Panel memory panel = sheets.panelOf(batch);
        bytes[] memory given = _shown(batch);
        bool open = panel.seats != 0 && !panel.closed;
        if (!open || !verdicts) _refused(by, abi.encodeCall(IScoreSheets.pay, (batch, given)));
        if (!open || !over || verdicts) _refused(by, abi.encodeCall(IScoreSheets.release, (batch)));
        if (!open || panel.revealed == 0) return;
        // With somebody's sheet left out, and with another one in its place.
        _refused(by, abi.encodeCall(IScoreSheets.pay, (batch, new bytes[](0))));
        for (uint256 i; i < given.length; ++i) {
            if (given[i].length != 0) given[i][0] ^= 0x10;
        }
        _refused(by, abi.encodeCall(IScoreSheets.pay, (batch, given)));
    }

    function pass(uint256 seed) external observed {
        vm.roll(vm.getBlockNumber() + 1 + _dice(seed, "blocks") % 5);
        _skip(seed % 32 == 0 ? 1 days : _dice(seed, "time") % 15 minutes);
    }

    function _refused(address by, bytes memory data) private {
        vm.prank(by);
        (bool success,) = address(sheets).call(data);
        vm.assertFalse(success, "a call that must be refused went through");
    }
}
