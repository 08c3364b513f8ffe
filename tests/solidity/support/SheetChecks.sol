// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchMarket} from "../../../contracts/src/interfaces/IBatchMarket.sol";
import {IRounds} from "../../../contracts/src/interfaces/IRounds.sol";
import {IScoreSheets} from "../../../contracts/src/interfaces/IScoreSheets.sol";
import {Attestation} from "../../../contracts/src/libraries/Types.sol";
import {Scenario} from "./Scenario.sol";
import {SheetAction} from "./SheetActions.sol";

/// What must hold of score sheets and their pots at any time, the ghost books to hold it against, and the way out.
abstract contract SheetChecks is Scenario {
    enum Stage {
        Blank,
        Committed,
        Shown
    }

    /// A member's sheet as its maker has it.
    struct Kept {
        Stage stage;
        bytes32 salt;
        bytes sheet;
        /// another's commitment, or off the grid: it can never be shown
        bool broken;
    }

    /// how often each action did something
    mapping(SheetAction action => uint256) public done;

    /// the ghost books: tokens sent in by `fund`, taken out by `withdraw`, and given away to the contract
    uint256 public putIn;
    uint256 public takenOut;
    uint256 public donated;
    mapping(uint64 bounty => uint256) internal _funded;
    mapping(uint64 bounty => uint256) internal _refunded;
    mapping(uint64 bounty => uint256) internal _paidFrom;
    mapping(address account => uint256) internal _earned;
    mapping(address account => uint256) internal _withdrawn;

    mapping(uint64 batch => mapping(uint8 seat => Kept)) internal _kept;
    /// what the first commitment set aside for each sheet
    mapping(uint64 batch => uint256) internal _setAside;
    /// batches whose sheets were begun and not paid or released
    uint64[] internal _begun;
    /// how often a sheet's money went to its judge, and how often back to the pot
    mapping(uint64 batch => mapping(uint8 seat => uint256)) internal _timesPaid;
    mapping(uint64 batch => mapping(uint8 seat => uint256)) internal _timesReturned;

    /// what was voted, by its hash
    mapping(bytes32 vote => Attestation) internal _said;
    mapping(uint64 batch => IScoreSheets.Phase) private _phaseSeen;
    /// sheets as they were when their time was over, and panels when they were paid or released
    mapping(uint64 batch => bytes32) private _closedSheets;
    mapping(uint64 batch => bytes32) internal _closedPanel;
    /// number of times that everything was looked at
    uint256 public steps;

    modifier observed() {
        _;
        _observe();
    }

    /// A call to the sheets moves no stake, no seat and no money of the ledger: nobody can be penalised for a sheet.
    modifier apart() {
        bytes32 before = _market();
        _;
        vm.assertEq(_market(), before, "sheets leave the market alone");
    }

    function _market() private view returns (bytes32 state) {
        state = keccak256(
            abi.encode(
                token.balanceOf(address(ledger)),
                ledger.heldFor(address(stake)),
                ledger.heldFor(address(escrow)),
                ledger.heldFor(address(market)),
                ledger.heldFor(address(court)),
                stake.totalWeight(),
                rounds.count()
            )
        );
    }

    // After every call of the handler

    /// Every token is some pot's, set aside for a sheet, or somebody's.
    function checkMoney() external view {
        uint256[] memory aside = new uint256[](escrow.count() + 1);
        uint256[] memory open = new uint256[](escrow.count() + 1);
        for (uint256 i; i < _begun.length; ++i) {
            IScoreSheets.Panel memory panel = sheets.panelOf(_begun[i]);
            uint64 bounty = market.get(_begun[i]).bounty;
            vm.assertEq(panel.perSheet, _setAside[_begun[i]], "what is set aside stays");
            aside[bounty] += uint256(panel.perSheet) * panel.seats;
            ++open[bounty];
        }
        uint256 owed;
        for (uint64 bounty = 1; bounty < aside.length; ++bounty) {
            IScoreSheets.Pot memory pot = sheets.potOf(bounty);
            vm.assertEq(pot.open, open[bounty], "open = begun and not closed");
            vm.assertEq(
                uint256(pot.available) + aside[bounty] + _paidFrom[bounty] + _refunded[bounty],
                _funded[bounty],
                "funded = left + set aside + paid + refunded, for each pot"
            );
            owed += uint256(pot.available) + aside[bounty];
        }
        for (uint256 i; i < accounts.length; ++i) {
            uint256 balance = sheets.balanceOf(accounts[i]);
            vm.assertEq(balance + _withdrawn[accounts[i]], _earned[accounts[i]], "everybody has what it earned");
            owed += balance;
        }
        vm.assertEq(owed, putIn - takenOut, "pots + set aside + balances = put in - taken out");
        vm.assertEq(token.balanceOf(address(sheets)), owed + donated, "tokens = what is owed + gifts");
    }

    /// One batch after each call, in turn.
    function checkSheets() external view {
        uint64 number = market.count();
        if (number != 0) _checkBatch(uint64(1 + steps % number));
    }

    function checkAllSheets() public view {
        for (uint64 batch = 1; batch <= market.count(); ++batch) _checkBatch(batch);
    }

    function _checkBatch(uint64 batch) private view {
        IScoreSheets.Panel memory panel = sheets.panelOf(batch);
        uint8 committed;
        uint8 shown;
        for (uint8 seat; seat < panel.seats; ++seat) {
            Kept storage kept = _kept[batch][seat];
            if (kept.stage != Stage.Blank) ++committed;
            if (kept.stage == Stage.Shown) {
                ++shown;
                vm.assertEq(sheets.sheetOf(batch, seat), keccak256(kept.sheet), "a shown sheet stays");
            }
            uint256 moves = _timesPaid[batch][seat] + _timesReturned[batch][seat];
            vm.assertEq(moves, panel.closed ? 1 : 0, "a sheet's money goes once: to its judge or back");
            if (kept.stage != Stage.Shown) vm.assertEq(_timesPaid[batch][seat], 0, "no sheet, no pay");
        }
        vm.assertEq(panel.committed, committed, "committed");
        vm.assertEq(panel.revealed, shown, "shown");
        bytes32 was = _closedSheets[batch];
        if (was != 0) vm.assertEq(_stateOfSheets(batch), was, "sheets are final once their time is over");
        was = _closedPanel[batch];
        vm.assertEq(panel.closed, was != 0, "closed by pay or release");
        if (was != 0) vm.assertEq(_stateOfPanel(batch), was, "a closed panel is final");
    }

    function _stateOfSheets(uint64 batch) private view returns (bytes32 state) {
        IScoreSheets.Panel memory panel = sheets.panelOf(batch);
        panel.closed = false;
        state = keccak256(abi.encode(panel));
        for (uint8 seat; seat < panel.seats; ++seat) {
            state = keccak256(abi.encode(state, sheets.sheetOf(batch, seat)));
        }
    }

    function _stateOfPanel(uint64 batch) internal view returns (bytes32) {
        return keccak256(abi.encode(_stateOfSheets(batch), sheets.panelOf(batch)));
    }

    /// The phases of a batch's sheets only ever go forward.
    function _observe() internal {
        ++steps;
        for (uint64 batch = 1; batch <= market.count(); ++batch) {
            // What is closed, `checkSheets` compares.
            if (_closedSheets[batch] != 0) continue;
            IScoreSheets.Phase phase = sheets.phaseOf(batch);
            if (phase == _phaseSeen[batch]) continue;
            vm.assertTrue(phase > _phaseSeen[batch], "sheets' phases go forward");
            _phaseSeen[batch] = phase;
            if (phase == IScoreSheets.Phase.Closed) _closedSheets[batch] = _stateOfSheets(batch);
        }
    }

    // Pay and release, with their reckoning; anybody may make them

    /// What was shown of a batch, as whoever reads the events has it.
    function _shown(uint64 batch) internal view returns (bytes[] memory given) {
        given = new bytes[](sheets.panelOf(batch).seats);
        for (uint8 seat; seat < given.length; ++seat) {
            if (_kept[batch][seat].stage == Stage.Shown) given[seat] = _kept[batch][seat].sheet;
        }
    }

    function _pay(uint64 batch) internal apart {
        IBatchMarket.Batch memory seen = market.get(batch);
        bytes[] memory given = _shown(batch);
        bool[] memory agrees = _agreeing(batch, seen.count);
        uint64 first = market.roundsOf(batch)[0];
        uint256 each = _setAside[batch];
        uint256 left = sheets.potOf(seen.bounty).available;
        uint256 expected;
        for (uint8 seat; seat < given.length; ++seat) {
            if (agrees[seat]) {
                ++expected;
                ++_timesPaid[batch][seat];
                _earned[rounds.seatOf(first, seat).verifier] += each;
                _paidFrom[seen.bounty] += each;
            } else {
                ++_timesReturned[batch][seat];
            }
        }
        vm.prank(stranger);
        vm.assertEq(sheets.pay(batch, given), expected, "sheets near the median are paid");
        vm.assertEq(
            sheets.potOf(seen.bounty).available, left + each * (given.length - expected), "the others' pay goes back"
        );
        _closePanel(batch);
        ++done[expected == 0
            ? SheetAction.PayNobody
            : expected == given.length ? SheetAction.PayAll : SheetAction.PaySome];
        if (seen.rounds != 1) ++done[SheetAction.PayAfterLaterRounds];
    }

    function _release(uint64 batch) internal apart {
        uint8 seats = sheets.panelOf(batch).seats;
        uint64 bounty = market.get(batch).bounty;
        uint256 left = sheets.potOf(bounty).available;
        for (uint8 seat; seat < seats; ++seat) ++_timesReturned[batch][seat];
        vm.prank(stranger);
        sheets.release(batch);
        vm.assertEq(sheets.potOf(bounty).available, left + _setAside[batch] * seats, "all goes back");
        _closePanel(batch);
        ++done[SheetAction.Release];
    }

    function _closePanel(uint64 batch) private {
        _closedPanel[batch] = _stateOfPanel(batch);
        for (uint256 i; i < _begun.length; ++i) {
            if (_begun[i] != batch) continue;
            _begun[i] = _begun[_begun.length - 1];
            _begun.pop();
            return;
        }
        vm.assertTrue(false, "only what was begun is closed");
    }

    /// Whether each seat's sheet is within a grade of the lower median of what was shown, on two thirds of the traces:
    /// one trace after the other, counting.
    function _agreeing(uint64 batch, uint256 count) private view returns (bool[] memory agrees) {
        bytes[] memory given = _shown(batch);
        uint256[] memory near = new uint256[](given.length);
        uint256 shown;
        for (uint256 i; i < given.length; ++i) {
            if (given[i].length != 0) ++shown;
        }
        for (uint256 t; t < count; ++t) {
            uint256 median;
            for (uint256 below; ; ++median) {
                for (uint256 i; i < given.length; ++i) {
                    if (given[i].length != 0 && _gradeAt(given[i], t) == median) ++below;
                }
                if (2 * below >= shown) break;
            }
            for (uint256 i; i < given.length; ++i) {
                if (given[i].length == 0) continue;
                uint256 grade = _gradeAt(given[i], t);
                if ((grade > median ? grade - median : median - grade) <= 1) ++near[i];
            }
        }
        agrees = new bool[](given.length);
        for (uint256 i; i < given.length; ++i) {
            agrees[i] = given[i].length != 0 && 3 * near[i] >= 2 * count;
        }
    }

    function _gradeAt(bytes memory sheet, uint256 t) internal pure returns (uint256) {
        uint8 pair = uint8(sheet[t / 2]);
        return t % 2 == 0 ? pair >> 4 : pair & 15;
    }

    function _over(uint64 batch) internal view returns (bool over, bool verdicts) {
        IBatchMarket.Phase phase = market.phaseOf(batch);
        bytes32 root = market.get(batch).attestation.verdictRoot;
        verdicts = phase == IBatchMarket.Phase.Settled && root != UNAVAILABLE && root != MALFORMED;
        over = phase == IBatchMarket.Phase.Settled || phase == IBatchMarket.Phase.Void;
    }

    // The way out

    /// Windows pass; a stranger ends every batch, pays or releases its sheets and refunds every pot; then everybody takes out
    /// what is its own. No judge and no poster needs to do anything for another's money.
    function everybodyLeaves() external {
        checkAllSheets();
        bool left = true;
        for (uint256 i; left; ++i) {
            vm.assertTrue(i < 60, "everything ends");
            vm.roll(vm.getBlockNumber() + 300);
            _skip(7 hours);
            _observe();
            left = _endBatches();
        }
        while (_begun.length != 0) {
            uint64 batch = _begun[_begun.length - 1];
            (bool over, bool verdicts) = _over(batch);
            vm.assertTrue(over, "a batch that began sheets ends");
            if (verdicts) _pay(batch);
            else _release(batch);
        }
        checkAllSheets();
        for (uint64 bounty = 1; bounty <= escrow.count(); ++bounty) {
            if (_now() <= escrow.get(bounty).terms.deadline) vm.warp(escrow.get(bounty).terms.deadline + 1);
            if (sheets.potOf(bounty).available != 0) _refund(bounty);
        }
        for (uint256 i; i < accounts.length; ++i) {
            if (sheets.balanceOf(accounts[i]) != 0) _withdraw(accounts[i], accounts[i]);
        }
        vm.assertEq(putIn, takenOut, "all that was put in is out");
        vm.assertEq(token.balanceOf(address(sheets)), donated, "gifts stay");
    }

    /// @return left whether some batch is still on its way, after a stranger did what can be done
    function _endBatches() private returns (bool left) {
        for (uint64 batch = 1; batch <= market.count(); ++batch) {
            IBatchMarket.Phase phase = market.phaseOf(batch);
            if (phase == IBatchMarket.Phase.Settled || phase == IBatchMarket.Phase.Void) continue;
            left = true;
            _makeDraws();
            vm.startPrank(stranger);
            if (phase == IBatchMarket.Phase.Settleable) market.settle(batch);
            if (phase == IBatchMarket.Phase.InRound) {
                uint64 round = market.get(batch).round;
                IRounds.Phase in_ = rounds.phaseOf(round);
                if (in_ == IRounds.Phase.Stalled) market.voidStalled(batch);
                else if (in_ == IRounds.Phase.Closed) market.tally(batch, _leaderOf(round));
            }
            vm.stopPrank();
        }
    }

    /// Sixteen draws are made on the way by whatever closes seats; where more may be due somebody makes them before.
    function _makeDraws() internal {
        rounds.drawDue(100);
    }

    /// @return the vote that leads in a round, as whoever reads the reveals has it
    function _leaderOf(uint64 round) internal view returns (Attestation memory) {
        (bytes32 vote,) = rounds.leaderOf(round);
        return _said[vote];
    }

    function _refund(uint64 bounty) internal apart {
        uint256 left = sheets.potOf(bounty).available;
        vm.prank(stranger);
        vm.assertEq(sheets.refund(bounty), left, "all that is left");
        _refunded[bounty] += left;
        _earned[escrow.get(bounty).poster] += left;
        ++done[SheetAction.RefundPot];
    }

    function _withdraw(address by, address to) internal apart {
        uint256 balance = sheets.balanceOf(by);
        uint256 before = token.balanceOf(to);
        vm.prank(by);
        vm.assertEq(sheets.withdraw(to), balance, "all of it");
        vm.assertEq(token.balanceOf(to), before + balance, "arrives");
        takenOut += balance;
        _withdrawn[by] += balance;
        ++done[SheetAction.WithdrawPay];
    }
}
