// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {BatchMarket} from "./BatchMarket.sol";
import {BountyEscrow} from "./BountyEscrow.sol";
import {Rounds} from "./Rounds.sol";
import {IBatchMarket} from "./interfaces/IBatchMarket.sol";
import {IBountyEscrow} from "./interfaces/IBountyEscrow.sol";
import {IRounds} from "./interfaces/IRounds.sol";
import {IScoreSheets} from "./interfaces/IScoreSheets.sol";
import {Grades} from "./libraries/Grades.sol";
import {Outcomes} from "./libraries/Outcomes.sol";

contract ScoreSheets is IScoreSheets, ReentrancyGuardTransient {
    using SafeCast for uint256;
    using SafeERC20 for IERC20;

    BatchMarket public immutable market;
    Rounds public immutable rounds;
    BountyEscrow public immutable escrow;
    IERC20 public immutable token;
    /// seconds of one phase: a third of the commit window
    uint256 public immutable phaseSeconds;

    mapping(uint64 bounty => Pot) private _pots;
    mapping(uint64 batch => Panel) private _panels;
    mapping(uint64 batch => mapping(uint256 seat => bytes32)) private _sheets;
    /// bit i is set once seat i has revealed
    mapping(uint64 batch => uint256) private _revealed;
    mapping(bytes32 commitment => Planting) private _plantings;
    mapping(address account => uint256) public balanceOf;

    constructor(BatchMarket market_) {
        market = market_;
        rounds = market_.rounds();
        escrow = market_.escrow();
        token = market_.ledger().token();
        phaseSeconds = uint256(rounds.commitWindow()) / 3;
    }

    function openPot(uint64 bounty, uint96 perTrace) external {
        require(escrow.get(bounty).poster == msg.sender, ScoreSheets_NotPoster(bounty, msg.sender));
        require(perTrace != 0, ScoreSheets_ZeroAmount());
        require(_pots[bounty].perTrace == 0, ScoreSheets_PotOpen(bounty));
        _pots[bounty].perTrace = perTrace;
        emit PotOpened(bounty, perTrace);
    }

    function fund(uint64 bounty, bytes32 identity, uint256 amount) external nonReentrant {
        bytes32 found = escrow.identityOf(bounty);
        require(found == identity, ScoreSheets_AnotherBounty(bounty, found, identity));
        Pot storage pot = _pots[bounty];
        require(pot.perTrace != 0, ScoreSheets_NoPot(bounty));
        require(amount != 0, ScoreSheets_ZeroAmount());
        pot.available += amount.toUint128();
        emit PotFunded(bounty, msg.sender, amount);

        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        require(received == amount, ScoreSheets_InexactTransfer(amount, received));
    }

    function refund(uint64 bounty) external returns (uint256 amount) {
        IBountyEscrow.Bounty memory seen = escrow.get(bounty);
        uint64 deadline = seen.terms.deadline;
        require(block.timestamp > deadline, ScoreSheets_DeadlineNotPassed(deadline, block.timestamp));
        Pot storage pot = _pots[bounty];
        // Sheets of a batch that is still judged may be begun after the deadline: what it needs is kept.
        require(pot.open == 0 && seen.reserved == 0, ScoreSheets_BatchesOpen(bounty, pot.open));
        amount = pot.available;
        require(amount != 0, ScoreSheets_ZeroAmount());
        pot.available = 0;
        balanceOf[seen.poster] += amount;
        emit PotRefunded(bounty, seen.poster, amount);
    }

    function commitSheet(uint64 batch, uint8 seat, bytes32 commitment) external {
        (uint64 round, IBatchMarket.Batch memory seen) = _firstRound(batch);
        _requirePhase(batch, round, Phase.Committing);
        _requireSeat(batch, round, seat);
        require(commitment != 0, ScoreSheets_ZeroCommitment());
        require(_sheets[batch][seat] == 0, ScoreSheets_AlreadyCommitted(batch, seat));

        _sheets[batch][seat] = commitment;
        Panel storage panel = _panels[batch];
        if (panel.seats == 0) _begin(panel, seen, rounds.get(round).seats);
        if (++panel.committed == panel.seats) panel.allCommittedAt = uint40(block.timestamp);
        emit SheetCommitted(batch, msg.sender, seat, commitment);
    }

    function revealSheet(uint64 batch, uint8 seat, bytes calldata sheet, bytes32 salt) external {
        (uint64 round, IBatchMarket.Batch memory seen) = _firstRound(batch);
        _requirePhase(batch, round, Phase.Revealing);
        _requireSeat(batch, round, seat);
        bytes32 expected = _sheets[batch][seat];
        bytes32 computed = _commitment(batch, seen.root, msg.sender, sheet, salt);
        require(expected == computed, ScoreSheets_CommitmentMismatch(expected, computed));
        require(Grades.valid(sheet, seen.count), ScoreSheets_BadSheet(batch, seat));

        _sheets[batch][seat] = keccak256(sheet);
        _revealed[batch] |= 1 << seat;
        ++_panels[batch].revealed;
        emit SheetRevealed(batch, msg.sender, seat, sheet);
    }

    function pay(uint64 batch, bytes[] calldata sheets) external returns (uint256 paidSheets) {
        IBatchMarket.Batch memory seen = market.get(batch);
        require(
            market.phaseOf(batch) == IBatchMarket.Phase.Settled
                && !Outcomes.wholeBatch(seen.attestation.verdictRoot),
            ScoreSheets_NotSettled(batch)
        );
        Panel storage panel = _close(batch);
        (bytes[] memory given, uint8[] memory seats) = _given(batch, panel.seats, sheets);
        uint256[] memory agreeing = Grades.agreements(given, seen.count);

        uint256 each = panel.perSheet;
        uint64 round = market.roundsOf(batch)[0];
        for (uint256 i; i < agreeing.length; ++i) {
            // Two thirds is the least: grades at random agree on three traces of five at best.
            if (3 * agreeing[i] < 2 * uint256(seen.count)) continue;
            ++paidSheets;
            balanceOf[rounds.seatOf(round, seats[i]).verifier] += each;
        }
        _pots[seen.bounty].available += (each * (panel.seats - paidSheets)).toUint128();
        emit JudgesPaid(batch, each, paidSheets);
    }

    function release(uint64 batch) external {
        IBatchMarket.Batch memory seen = market.get(batch);
        IBatchMarket.Phase phase = market.phaseOf(batch);
        require(
            phase == IBatchMarket.Phase.Void
                || (phase == IBatchMarket.Phase.Settled && Outcomes.wholeBatch(seen.attestation.verdictRoot)),
            ScoreSheets_NotOver(batch)
        );
        Panel storage panel = _close(batch);
        uint256 kept = uint256(panel.perSheet) * panel.seats;
        _pots[seen.bounty].available += kept.toUint128();
        emit SheetsReleased(batch, kept);
    }

    function withdraw(address to) external nonReentrant returns (uint256 amount) {
        require(to != address(0) && to != address(this), ScoreSheets_InvalidRecipient(to));
        amount = balanceOf[msg.sender];
        require(amount != 0, ScoreSheets_ZeroAmount());
        balanceOf[msg.sender] = 0;
        emit EarningsWithdrawn(msg.sender, to, amount);
        token.safeTransfer(to, amount);
    }

    function plantGold(bytes32 commitment) external {
        require(commitment != 0, ScoreSheets_ZeroCommitment());
        require(_plantings[commitment].planter == address(0), ScoreSheets_AlreadyPlanted(commitment));
        _plantings[commitment] = Planting(msg.sender, uint40(block.timestamp));
        emit GoldPlanted(commitment, msg.sender);
    }

    function openGold(uint64 batch, bytes calldata sheet, bytes32 salt) external {
        IBatchMarket.Batch memory seen = market.get(batch);
        require(market.phaseOf(batch) == IBatchMarket.Phase.Settled, ScoreSheets_NotSettled(batch));
        require(sheet.length == Grades.lengthFor(seen.count), ScoreSheets_BadSheet(batch, 0));
        bytes32 commitment = goldOf(seen.root, msg.sender, sheet, salt);
        Planting memory planting = _plantings[commitment];
        // An opened one keeps its time but no planter's second opening: the time is what is cleared.
        require(planting.planter == msg.sender && planting.plantedAt != 0, ScoreSheets_NotPlanted(commitment));
        uint256 committedAt = rounds.get(market.roundsOf(batch)[0]).openedAt;
        require(
            planting.plantedAt < committedAt, ScoreSheets_PlantedTooLate(planting.plantedAt, committedAt)
        );
        _plantings[commitment].plantedAt = 0;
        emit GoldOpened(batch, msg.sender, sheet);
    }

    function phaseOf(uint64 batch) external view returns (Phase) {
        if (market.phaseOf(batch) == IBatchMarket.Phase.None) return Phase.None;
        return _phaseOf(batch, market.roundsOf(batch)[0]);
    }

    function panelOf(uint64 batch) external view returns (Panel memory) {
        return _panels[batch];
    }

    function potOf(uint64 bounty) external view returns (Pot memory) {
        return _pots[bounty];
    }

    function plantingOf(bytes32 commitment) external view returns (Planting memory) {
        return _plantings[commitment];
    }

    function sheetOf(uint64 batch, uint8 seat) external view returns (bytes32) {
        return _sheets[batch][seat];
    }

    function commitmentOf(uint64 batch, address verifier, bytes calldata sheet, bytes32 salt)
        external
        view
        returns (bytes32)
    {
        return _commitment(batch, market.get(batch).root, verifier, sheet, salt);
    }

    function goldOf(bytes32 batchRoot, address planter, bytes calldata sheet, bytes32 salt)
        public
        view
        returns (bytes32)
    {
        return keccak256(abi.encode(block.chainid, address(this), batchRoot, planter, keccak256(sheet), salt));
    }

    /// Sets aside what the pot has for a sheet of every seat.
    function _begin(Panel storage panel, IBatchMarket.Batch memory seen, uint8 seats) private {
        Pot storage pot = _pots[seen.bounty];
        panel.seats = seats;
        uint256 wanted = uint256(pot.perTrace) * seen.count;
        uint256 each = Math.min(wanted, pot.available / seats);
        panel.perSheet = each.toUint96();
        pot.available -= (each * seats).toUint128();
        ++pot.open;
    }

    function _close(uint64 batch) private returns (Panel storage panel) {
        panel = _panels[batch];
        require(panel.seats != 0 && !panel.closed, ScoreSheets_AlreadyClosed(batch));
        panel.closed = true;
        --_pots[market.get(batch).bounty].open;
    }

    /// The sheets that were revealed, each proven to be its seat's.
    function _given(uint64 batch, uint256 seats, bytes[] calldata sheets)
        private
        view
        returns (bytes[] memory given, uint8[] memory places)
    {
        uint256 revealed = _revealed[batch];
        given = new bytes[](seats);
        places = new uint8[](seats);
        uint256 found;
        for (uint8 seat; seat < seats; ++seat) {
            if (revealed >> seat & 1 == 0) continue;
            require(
                seat < sheets.length && keccak256(sheets[seat]) == _sheets[batch][seat],
                ScoreSheets_NotTheSheet(batch, seat)
            );
            given[found] = sheets[seat];
            places[found++] = seat;
        }
        assembly ("memory-safe") {
            mstore(given, found)
            mstore(places, found)
        }
    }

    /// The batch's first round: later ones vote on the verdicts that follow from its sheets.
    function _firstRound(uint64 batch) private view returns (uint64 round, IBatchMarket.Batch memory seen) {
        seen = market.get(batch);
        round = seen.rounds == 1 ? seen.round : market.roundsOf(batch)[0];
    }

    function _phaseOf(uint64 batch, uint64 round) private view returns (Phase) {
        uint256 drawnAt = rounds.get(round).drawnAt;
        if (drawnAt == 0) return Phase.None;
        if (rounds.phaseOf(round) != IRounds.Phase.Committing) return Phase.Closed;
        Panel storage panel = _panels[batch];
        bool all = panel.allCommittedAt != 0;
        if (!all && block.timestamp <= drawnAt + phaseSeconds) return Phase.Committing;
        if (panel.revealed == panel.committed || block.timestamp > drawnAt + 2 * phaseSeconds) {
            return Phase.Closed;
        }
        return Phase.Revealing;
    }

    function _requirePhase(uint64 batch, uint64 round, Phase expected) private view {
        Phase phase = _phaseOf(batch, round);
        require(phase == expected, ScoreSheets_WrongPhase(batch, phase));
    }

    function _requireSeat(uint64 batch, uint64 round, uint8 seat) private view {
        require(
            rounds.seatOf(round, seat).verifier == msg.sender, ScoreSheets_NotYourSeat(batch, seat, msg.sender)
        );
    }

    function _commitment(uint64 batch, bytes32 root, address verifier, bytes calldata sheet, bytes32 salt)
        private
        view
        returns (bytes32)
    {
        return keccak256(
            abi.encode(block.chainid, address(this), batch, root, verifier, keccak256(sheet), salt)
        );
    }
}
