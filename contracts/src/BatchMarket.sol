// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Assignments} from "./Assignments.sol";
import {BountyEscrow} from "./BountyEscrow.sol";
import {Ledger} from "./Ledger.sol";
import {Rounds} from "./Rounds.sol";
import {VerifierStake} from "./VerifierStake.sol";
import {IBatchMarket} from "./interfaces/IBatchMarket.sol";
import {IRounds} from "./interfaces/IRounds.sol";
import {Codecs} from "./libraries/Codecs.sol";
import {Outcomes} from "./libraries/Outcomes.sol";
import {ParameterRules} from "./libraries/ParameterRules.sol";
import {Attestation, BountyTerms, ContentId, Parameters} from "./libraries/Types.sol";

contract BatchMarket is IBatchMarket, Multicall {
    using SafeCast for uint256;

    /// Four slots; the bond follows from the terms.
    struct Stored {
        address miner;
        uint64 bounty;
        uint32 count;
        bytes32 root;
        uint64 round;
        uint40 firstTask;
        uint32 attestedAt;
        uint32 units;
        uint32 faults;
        uint16 disputes;
        uint8 rounds;
        /// rounds opened when a conflict was narrowed
        uint8 narrowed;
        uint8 overturned;
        bool closed;
        bytes32 verdictRoot;
    }

    uint256 private constant BPS = 10_000;

    Ledger public immutable ledger;
    BountyEscrow public immutable escrow;
    Rounds public immutable rounds;
    Assignments public immutable assignments;
    address public immutable court;

    VerifierStake private immutable _stake;
    uint8 private immutable _committeeSize;
    uint8 private immutable _maxRounds;
    uint32 private immutable _challengeWindow;
    uint96 private immutable _bondPerTrace;
    uint16 private immutable _faultMultiple;
    uint16 private immutable _wrongBps;
    uint32 private immutable _minVerifiers;
    uint96 private immutable _minFee;
    uint32 private immutable _openingWindow;
    /// token base units that a lying majority of a first committee is sure to lose
    uint256 private immutable _maxValue;
    uint32 private immutable _maxTraces;

    Parameters private _parameters;
    mapping(uint64 id => Stored) private _batches;
    uint64 public count;

    modifier onlyCourt() {
        require(msg.sender == court, BatchMarket_NotCourt(msg.sender));
        _;
    }

    constructor(
        Ledger ledger_,
        BountyEscrow escrow_,
        Rounds rounds_,
        Assignments assignments_,
        address court_,
        Parameters memory parameters_
    ) {
        ParameterRules.validate(parameters_);
        _linked("ledger.market", ledger_.market(), address(this));
        _linked("ledger.escrow", ledger_.escrow(), address(escrow_));
        _linked("ledger.stake", ledger_.stake(), address(rounds_.stake()));
        _linked("ledger.court", ledger_.court(), court_);
        _linked("escrow.market", escrow_.market(), address(this));
        _linked("escrow.ledger", address(escrow_.ledger()), address(ledger_));
        _linked("escrow.court", escrow_.court(), court_);
        _linked("rounds.market", rounds_.market(), address(this));
        _linked("rounds.court", rounds_.court(), court_);
        VerifierStake stake = VerifierStake(address(rounds_.stake()));
        _linked("stake.rounds", address(stake.rounds()), address(rounds_));
        _linked("stake.ledger", address(stake.ledger()), address(ledger_));
        _linked("assignments.market", assignments_.market(), address(this));
        _linked("assignments.escrow", address(assignments_.escrow()), address(escrow_));
        // The parts were given their parameters on their own; what this contract publishes must be what they do.
        _same("committeeSize", rounds_.committeeSize(), parameters_.committeeSize);
        _same("drawTimeout", rounds_.drawTimeout(), parameters_.drawTimeout);
        _same("commitWindow", rounds_.commitWindow(), parameters_.commitWindow);
        _same("revealWindow", rounds_.revealWindow(), parameters_.revealWindow);
        _same("unbondingDelay", stake.unbondingDelay(), parameters_.unbondingDelay);
        _same("seatStake", stake.seatStake(), parameters_.seatStake);
        uint256 seatStake = parameters_.seatStake;
        _same("absenceBps", rounds_.absencePenalty(), seatStake * parameters_.absenceBps / BPS);
        _same("lateBps", rounds_.latePenalty(), seatStake * parameters_.lateBps / BPS);
        _same("incoherenceBps", rounds_.incoherencePenalty(), seatStake * parameters_.incoherenceBps / BPS);
        _same("fraudBps", rounds_.fraudPenalty(), seatStake * parameters_.fraudBps / BPS);

        ledger = ledger_;
        escrow = escrow_;
        rounds = rounds_;
        assignments = assignments_;
        court = court_;
        _parameters = parameters_;
        _stake = stake;
        _committeeSize = parameters_.committeeSize;
        _maxRounds = parameters_.maxRounds;
        _challengeWindow = parameters_.challengeWindow;
        _bondPerTrace = parameters_.bondPerTrace;
        _faultMultiple = parameters_.faultMultiple;
        _wrongBps = parameters_.wrongBps;
        _minVerifiers = parameters_.minVerifiers;
        _minFee = parameters_.minFeePerTrace;
        _openingWindow = parameters_.openingWindow;
        _maxValue = ParameterRules.leastLoss(parameters_);
        _maxTraces = parameters_.maxTraces;
    }

    function commitBatch(
        uint64 bounty,
        bytes32 root,
        uint32 traces,
        uint64 firstTask,
        bytes32 seed,
        ContentId calldata content
    ) external returns (uint64 id) {
        require(root != 0, BatchMarket_ZeroRoot());
        require(Codecs.known(content.codec), BatchMarket_InvalidCodec(content.codec));
        BountyTerms memory terms = escrow.get(bounty).terms;
        uint256 value = _requireSellable(terms, traces);

        id = ++count;
        uint256 bond = _bond(terms, traces);
        assignments.take(bounty, msg.sender, traces / terms.groupSize, firstTask, seed);
        Stored storage batch = _batches[id];
        batch.miner = msg.sender;
        batch.bounty = bounty;
        batch.count = traces;
        batch.root = root;
        batch.firstTask = uint256(firstTask).toUint40();
        _openRound(id, batch, _committeeSize, false);
        emit BatchCommitted(id, bounty, msg.sender, root, traces, firstTask, bond, batch.round, content);

        escrow.reserve(bounty, value);
        ledger.collect(msg.sender, bond);
    }

    function tally(uint64 id, Attestation calldata leader) external {
        _requirePhase(id, Phase.InRound);
        Stored storage batch = _batches[id];
        // Disputes about an attestation before this round may go on; one about this round's votes decides it.
        require(
            batch.disputes == 0 || batch.narrowed != batch.rounds, BatchMarket_DisputesOpen(id, batch.disputes)
        );
        uint64 round = batch.round;
        (IRounds.Phase phase, bytes32 vote, uint256 votes, uint256 revealed, uint256 seats) =
            rounds.resultOf(round);
        require(phase == IRounds.Phase.Closed, BatchMarket_RoundNotClosed(id, round));
        uint256 quorum = seats / 2 + 1;
        if (votes >= quorum) {
            bytes32 given = Outcomes.voteOf(leader);
            require(given == vote, BatchMarket_NotTheLeader(given, vote));
            _attest(id, batch, leader);
            return;
        }
        bool conflict = revealed >= quorum;
        if (conflict && batch.narrowed != batch.rounds) {
            uint256 until = rounds.endsAt(round) + _openingWindow;
            require(block.timestamp > until, BatchMarket_NarrowFirst(id, until));
        }
        if (batch.rounds < _maxRounds) {
            // Too few votes: the same question to other members. Conflicting votes: to more of them.
            uint8 size = rounds.get(round).size;
            _openRound(id, batch, conflict ? 2 * size + 1 : size, batch.overturned != 0);
        } else {
            _void(id, batch);
        }
    }

    function voidStalled(uint64 id) external {
        _requirePhase(id, Phase.InRound);
        Stored storage batch = _batches[id];
        uint64 round = batch.round;
        require(rounds.phaseOf(round) == IRounds.Phase.Stalled, BatchMarket_RoundNotStalled(id, round));
        _void(id, batch);
    }

    function settle(uint64 id) external {
        _requirePhase(id, Phase.Settleable);
        Stored storage batch = _batches[id];
        batch.closed = true;

        Attestation memory final_ = _attestation(batch);
        (address[] memory accounts, uint256 coherent, uint256 seats, uint256 slashed) =
            _judge(batch, Outcomes.voteOf(final_));
        BountyTerms memory terms = escrow.get(batch.bounty).terms;
        // Every seat may have been convicted.
        uint256 share = seats == 0 ? 0 : uint256(terms.feePerTrace) * batch.count / seats;
        (uint256 toMiner, uint256 toBounty) = _pay(id, batch, terms, final_, share * coherent, slashed);

        uint256[] memory amounts = new uint256[](accounts.length);
        (accounts[0], amounts[0]) = (batch.miner, toMiner);
        for (uint256 i = 1; i < accounts.length; ++i) {
            amounts[i] = share;
        }
        ledger.credit(accounts, amounts);
        if (toBounty != 0) {
            ledger.shift(address(escrow), toBounty);
            escrow.replenish(batch.bounty, toBounty);
        }
    }

    function beginDispute(uint64 id) external onlyCourt {
        _requirePhase(id, Phase.Challengeable);
        ++_batches[id].disputes;
    }

    function beginConflict(uint64 id) external onlyCourt {
        _requirePhase(id, Phase.InRound);
        Stored storage batch = _batches[id];
        (IRounds.Phase phase,, uint256 votes, uint256 revealed, uint256 seats) = rounds.resultOf(batch.round);
        uint256 quorum = seats / 2 + 1;
        require(
            phase == IRounds.Phase.Closed && votes < quorum && revealed >= quorum
                && batch.narrowed != batch.rounds,
            BatchMarket_NoConflict(id)
        );
        batch.narrowed = batch.rounds;
        ++batch.disputes;
    }

    function endDispute(uint64 id) external onlyCourt {
        --_batches[id].disputes;
    }

    function overturn(uint64 id, bool guilty) external onlyCourt returns (uint256 slashed) {
        Stored storage batch = _batches[id];
        Attestation memory fallen = _attestation(batch);
        uint64 round = batch.round;
        if (guilty) slashed = rounds.convict(round, Outcomes.voteOf(fallen), true);
        batch.attestedAt = 0;
        batch.verdictRoot = 0;
        (batch.units, batch.faults) = (0, 0);
        ++batch.overturned;
        emit BatchOverturned(id, round, fallen, slashed);
        if (batch.rounds < _maxRounds) _openRound(id, batch, rounds.get(round).size, true);
        else _void(id, batch);
    }

    function attest(uint64 id, Attestation calldata attestation) external onlyCourt {
        Stored storage batch = _batches[id];
        if (batch.attestedAt != 0) {
            // Disputes of the attestation before it have lost their object; who signed it did not keep the content.
            ++batch.overturned;
            rounds.convict(batch.round, Outcomes.voteOf(_attestation(batch)), false);
        }
        _attest(id, batch, attestation);
    }

    function get(uint64 id) external view returns (Batch memory) {
        _requireKnown(id);
        Stored storage batch = _batches[id];
        return Batch({
            miner: batch.miner,
            bounty: batch.bounty,
            count: batch.count,
            root: batch.root,
            bond: uint96(_bond(escrow.get(batch.bounty).terms, batch.count)),
            round: batch.round,
            attestedAt: batch.attestedAt,
            rounds: batch.rounds,
            closed: batch.closed,
            firstTask: batch.firstTask,
            attestation: _attestation(batch),
            disputes: batch.disputes,
            overturned: batch.overturned
        });
    }

    function roundsOf(uint64 id) external view returns (uint64[] memory ids) {
        uint64 round = _batches[id].round;
        uint256 number = _batches[id].rounds;
        ids = new uint64[](number);
        for (; number != 0; round = rounds.get(round).previous) {
            ids[--number] = round;
        }
    }

    function phaseOf(uint64 id) public view returns (Phase) {
        Stored storage batch = _batches[id];
        if (batch.miner == address(0)) return Phase.None;
        uint256 attestedAt = batch.attestedAt;
        if (batch.closed) return attestedAt == 0 ? Phase.Void : Phase.Settled;
        if (attestedAt == 0) return Phase.InRound;
        if (block.timestamp <= attestedAt + _challengeWindow) return Phase.Challengeable;
        return batch.disputes == 0 ? Phase.Settleable : Phase.Disputed;
    }

    function bondFor(uint64 bounty, uint32 traces) external view returns (uint256) {
        return _bond(escrow.get(bounty).terms, traces);
    }

    function subjectOf(uint64 id) external view returns (bytes32) {
        _requireKnown(id);
        return _subject(id, _batches[id].root);
    }

    function parameters() external view returns (Parameters memory) {
        return _parameters;
    }

    /// @return value the most that the batch can cost, in token base units
    function _requireSellable(BountyTerms memory terms, uint32 traces) private view returns (uint256 value) {
        require(
            traces != 0 && traces <= _maxTraces && traces % terms.groupSize == 0,
            BatchMarket_InvalidCount(traces, terms.groupSize, _maxTraces)
        );
        require(terms.feePerTrace >= _minFee, BatchMarket_FeeTooLow(terms.feePerTrace, _minFee));
        value = _worstCase(terms, traces);
        // What a false attestation can take: the bounty's money, or by a false "malformed" the miner's bond.
        uint256 atRisk = Math.max(value, _bond(terms, traces));
        require(atRisk <= _maxValue, BatchMarket_BatchTooDear(atRisk, _maxValue));
        uint256 eligible = _stake.eligible();
        require(eligible >= _minVerifiers, BatchMarket_TooFewVerifiers(eligible, _minVerifiers));
    }

    function _openRound(uint64 id, Stored storage batch, uint8 size, bool fresh) private {
        uint64 round = rounds.open(_subject(id, batch.root), size, batch.count, batch.round, fresh);
        batch.round = round;
        ++batch.rounds;
        emit BatchRoundOpened(id, round, size);
    }

    function _attest(uint64 id, Stored storage batch, Attestation memory attestation) private {
        batch.attestedAt = uint32(block.timestamp);
        batch.verdictRoot = attestation.verdictRoot;
        (batch.units, batch.faults) = (attestation.units, attestation.faults);
        emit BatchAttested(id, batch.round, attestation);
    }

    /// Ends the reserve of a settled batch.
    /// @return toMiner pay, and what is left of the bond
    /// @return toBounty the part of the bond that goes to the bounty
    function _pay(
        uint64 id,
        Stored storage batch,
        BountyTerms memory terms,
        Attestation memory final_,
        uint256 fees,
        uint256 slashed
    ) private returns (uint256 toMiner, uint256 toBounty) {
        uint256 bond = _bond(terms, batch.count);
        uint256 earned = uint256(terms.pricePerUnit) * final_.units;
        uint256 forfeited;
        uint256 spent;
        if (Outcomes.wholeBatch(final_.verdictRoot)) {
            // The poster pays nothing for a batch that nobody could check: the fees come out of the bond.
            forfeited = final_.verdictRoot == Outcomes.MALFORMED ? bond : fees;
            toBounty = forfeited - fees;
        } else {
            // What earned nothing is checked at its miner's cost, or garbage would feed on the poster's fees.
            uint256 wrong = uint256(batch.count - final_.units) * terms.feePerTrace * _wrongBps / BPS;
            forfeited = Math.min(bond, uint256(final_.faults) * _faultMultiple * _bondPerTrace + wrong);
            toBounty = forfeited;
            spent = earned + fees;
        }
        toMiner = earned + bond - forfeited;
        emit BatchSettled(id, earned, fees, forfeited, slashed);
        escrow.release(batch.bounty, _worstCase(terms, batch.count), spent);
    }

    function _void(uint64 id, Stored storage batch) private {
        batch.closed = true;
        uint64 bounty = batch.bounty;
        (,,, uint256 slashed) = _judge(batch, 0);
        emit BatchVoided(id, slashed);

        BountyTerms memory terms = escrow.get(bounty).terms;
        escrow.release(bounty, _worstCase(terms, batch.count), 0);
        address[] memory accounts = new address[](1);
        uint256[] memory amounts = new uint256[](1);
        (accounts[0], amounts[0]) = (batch.miner, _bond(terms, batch.count));
        ledger.credit(accounts, amounts);
    }

    /// Judges every round of a batch, the newest first.
    /// @return accounts a free first place, then the coherent members of all rounds
    function _judge(Stored storage batch, bytes32 vote)
        private
        returns (address[] memory accounts, uint256 coherent, uint256 seats, uint256 slashed)
    {
        uint64[] memory ids = new uint64[](batch.rounds);
        ids[0] = batch.round;
        for (uint256 i; i < ids.length; ++i) {
            if (i != 0) ids[i] = rounds.get(ids[i - 1]).previous;
            seats += rounds.payableSeats(ids[i]);
        }
        accounts = new address[](seats + 1);
        for (uint256 i; i < ids.length; ++i) {
            (address[] memory members, uint256 penalties) = rounds.judge(ids[i], vote);
            slashed += penalties;
            for (uint256 j; j < members.length; ++j) {
                accounts[++coherent] = members[j];
            }
        }
        assembly ("memory-safe") {
            mstore(accounts, add(coherent, 1))
        }
    }

    function _attestation(Stored storage batch) private view returns (Attestation memory) {
        return Attestation(batch.verdictRoot, batch.units, batch.faults);
    }

    function _bond(BountyTerms memory terms, uint256 traces) private view returns (uint256) {
        return traces * Math.max(_bondPerTrace, terms.feePerTrace);
    }

    function _worstCase(BountyTerms memory terms, uint256 traces) private pure returns (uint256) {
        return traces * (uint256(terms.pricePerUnit) + terms.feePerTrace);
    }

    function _subject(uint64 id, bytes32 root) private view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), id, root));
    }

    function _requireKnown(uint64 id) private view {
        require(id != 0 && id <= count, BatchMarket_UnknownBatch(id));
    }

    function _requirePhase(uint64 id, Phase expected) private view {
        Phase phase = phaseOf(id);
        require(phase == expected, BatchMarket_WrongPhase(id, phase));
    }

    function _linked(string memory name, address linked, address expected) private pure {
        require(linked == expected, BatchMarket_WrongDeployment(name, linked));
    }

    function _same(string memory name, uint256 linked, uint256 expected) private pure {
        require(linked == expected, BatchMarket_InvalidParameters(name));
    }
}
