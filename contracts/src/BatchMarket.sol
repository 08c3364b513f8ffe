// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

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
import {Attestation, BountyTerms, ContentId, Parameters} from "./libraries/Types.sol";

contract BatchMarket is IBatchMarket {
    using SafeCast for uint256;

    uint256 private constant BPS = 10_000;

    Ledger public immutable ledger;
    BountyEscrow public immutable escrow;
    Rounds public immutable rounds;
    Assignments public immutable assignments;

    uint8 private immutable _committeeSize;
    uint8 private immutable _maxRounds;
    uint32 private immutable _challengeWindow;
    uint96 private immutable _bondPerTrace;
    uint16 private immutable _faultMultiple;
    uint32 private immutable _maxTraces;

    Parameters private _parameters;
    mapping(uint64 id => Batch) private _batches;
    mapping(uint64 id => uint64[]) private _roundsOf;
    uint64 public count;

    constructor(
        Ledger ledger_,
        BountyEscrow escrow_,
        Rounds rounds_,
        Assignments assignments_,
        Parameters memory parameters_
    ) {
        _validate(parameters_);
        _linked("ledger.market", ledger_.market(), address(this));
        _linked("ledger.escrow", ledger_.escrow(), address(escrow_));
        _linked("ledger.stake", ledger_.stake(), address(rounds_.stake()));
        _linked("escrow.market", escrow_.market(), address(this));
        _linked("escrow.ledger", address(escrow_.ledger()), address(ledger_));
        _linked("rounds.market", rounds_.market(), address(this));
        VerifierStake stake = VerifierStake(address(rounds_.stake()));
        _linked("stake.rounds", stake.rounds(), address(rounds_));
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
        _same(
            "absenceBps",
            rounds_.absencePenalty(),
            uint256(parameters_.seatStake) * parameters_.absenceBps / BPS
        );
        _same(
            "incoherenceBps",
            rounds_.incoherencePenalty(),
            uint256(parameters_.seatStake) * parameters_.incoherenceBps / BPS
        );

        ledger = ledger_;
        escrow = escrow_;
        rounds = rounds_;
        assignments = assignments_;
        _parameters = parameters_;
        _committeeSize = parameters_.committeeSize;
        _maxRounds = parameters_.maxRounds;
        _challengeWindow = parameters_.challengeWindow;
        _bondPerTrace = parameters_.bondPerTrace;
        _faultMultiple = parameters_.faultMultiple;
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
        require(
            traces != 0 && traces <= _maxTraces && traces % terms.groupSize == 0,
            BatchMarket_InvalidCount(traces, terms.groupSize, _maxTraces)
        );

        id = ++count;
        uint256 bond = _bond(terms, traces);
        assignments.take(bounty, msg.sender, traces / terms.groupSize, firstTask, seed);
        Batch storage batch = _batches[id];
        batch.miner = msg.sender;
        batch.bounty = bounty;
        batch.count = traces;
        batch.root = root;
        batch.bond = bond.toUint96();
        batch.firstTask = uint256(firstTask).toUint40();
        uint64 round = _openRound(id, batch, _committeeSize);
        emit BatchCommitted(id, bounty, msg.sender, root, traces, firstTask, bond, round, content);

        escrow.reserve(bounty, _worstCase(terms, traces));
        ledger.collect(msg.sender, bond);
    }

    function tally(uint64 id, Attestation calldata leader) external {
        Batch storage batch = _batches[id];
        _requirePhase(id, Phase.InRound);
        uint64 round = batch.round;
        require(rounds.phaseOf(round) == IRounds.Phase.Closed, BatchMarket_RoundNotClosed(id, round));

        (bytes32 vote, uint256 votes) = rounds.leaderOf(round);
        IRounds.Round memory seen = rounds.get(round);
        uint256 quorum = uint256(seen.seats) / 2 + 1;
        if (votes >= quorum) {
            bytes32 given = rounds.voteOf(leader);
            require(given == vote, BatchMarket_NotTheLeader(given, vote));
            batch.attestation = leader;
            batch.attestedAt = uint40(block.timestamp);
            emit BatchAttested(id, round, leader);
        } else if (batch.rounds < _maxRounds) {
            // Too few votes: the same question to other members. Conflicting votes: to more of them.
            _openRound(id, batch, seen.revealed < quorum ? seen.size : 2 * seen.size + 1);
        } else {
            _void(id, batch);
        }
    }

    function voidStalled(uint64 id) external {
        _requirePhase(id, Phase.InRound);
        Batch storage batch = _batches[id];
        uint64 round = batch.round;
        require(rounds.phaseOf(round) == IRounds.Phase.Stalled, BatchMarket_RoundNotStalled(id, round));
        _void(id, batch);
    }

    function settle(uint64 id) external {
        _requirePhase(id, Phase.Settleable);
        Batch storage batch = _batches[id];
        batch.closed = true;

        Attestation memory final_ = batch.attestation;
        (address[] memory accounts, uint256 coherent, uint256 seats, uint256 slashed) =
            _judge(id, keccak256(abi.encode(final_)));
        BountyTerms memory terms = escrow.get(batch.bounty).terms;
        uint256 share = uint256(terms.feePerTrace) * batch.count / seats;
        (uint256 toMiner, uint256 toBounty) = _pay(id, batch, terms, final_, share * coherent, slashed);

        uint256[] memory amounts = new uint256[](accounts.length);
        (accounts[0], amounts[0]) = (batch.miner, toMiner);
        for (uint256 i = 1; i < accounts.length; ++i) {
            amounts[i] = share;
        }
        ledger.credit(accounts, amounts);
        if (toBounty != 0) ledger.shift(address(escrow), toBounty);
        if (toBounty + slashed != 0) escrow.replenish(batch.bounty, toBounty + slashed);
    }

    function get(uint64 id) external view returns (Batch memory) {
        _requireKnown(id);
        return _batches[id];
    }

    function roundsOf(uint64 id) external view returns (uint64[] memory) {
        return _roundsOf[id];
    }

    function phaseOf(uint64 id) public view returns (Phase) {
        Batch storage batch = _batches[id];
        if (batch.miner == address(0)) return Phase.None;
        uint256 attestedAt = batch.attestedAt;
        if (batch.closed) return attestedAt == 0 ? Phase.Void : Phase.Settled;
        if (attestedAt == 0) return Phase.InRound;
        return block.timestamp <= attestedAt + _challengeWindow ? Phase.Challengeable : Phase.Settleable;
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

    function _openRound(uint64 id, Batch storage batch, uint8 size) private returns (uint64 round) {
        round = rounds.open(_subject(id, batch.root), size, batch.count);
        batch.round = round;
        ++batch.rounds;
        _roundsOf[id].push(round);
        emit BatchRoundOpened(id, round, size);
    }

    /// Ends the reserve of a settled batch.
    /// @return toMiner pay, and what is left of the bond
    /// @return toBounty the part of the bond that goes to the bounty
    function _pay(
        uint64 id,
        Batch storage batch,
        BountyTerms memory terms,
        Attestation memory final_,
        uint256 fees,
        uint256 slashed
    ) private returns (uint256 toMiner, uint256 toBounty) {
        uint256 bond = batch.bond;
        uint256 earned = uint256(terms.pricePerUnit) * final_.units;
        uint256 forfeited;
        uint256 spent;
        if (Outcomes.wholeBatch(final_.verdictRoot)) {
            // The poster pays nothing for a batch that nobody could check: the fees come out of the bond.
            forfeited = final_.verdictRoot == Outcomes.MALFORMED ? bond : fees;
            toBounty = forfeited - fees;
        } else {
            forfeited = Math.min(bond, uint256(final_.faults) * _faultMultiple * _bondPerTrace);
            toBounty = forfeited;
            spent = earned + fees;
        }
        toMiner = earned + bond - forfeited;
        emit BatchSettled(id, earned, fees, forfeited, slashed);
        escrow.release(batch.bounty, _worstCase(terms, batch.count), spent);
    }

    function _void(uint64 id, Batch storage batch) private {
        batch.closed = true;
        uint64 bounty = batch.bounty;
        (address[] memory accounts,,, uint256 slashed) = _judge(id, 0);
        emit BatchVoided(id, slashed);

        escrow.release(bounty, _worstCase(escrow.get(bounty).terms, batch.count), 0);
        uint256[] memory amounts = new uint256[](1);
        (accounts[0], amounts[0]) = (batch.miner, batch.bond);
        ledger.credit(accounts, amounts);
        if (slashed != 0) escrow.replenish(bounty, slashed);
    }

    /// Judges every round of a batch.
    /// @return accounts a free first place, then the coherent members of all rounds
    function _judge(uint64 id, bytes32 vote)
        private
        returns (address[] memory accounts, uint256 coherent, uint256 seats, uint256 slashed)
    {
        uint64[] memory ids = _roundsOf[id];
        for (uint256 i; i < ids.length; ++i) {
            seats += rounds.get(ids[i]).seats;
        }
        accounts = new address[](seats + 1);
        for (uint256 i; i < ids.length; ++i) {
            (address[] memory members, uint256 penalties) = rounds.judge(ids[i], vote, address(escrow));
            slashed += penalties;
            for (uint256 j; j < members.length; ++j) {
                accounts[++coherent] = members[j];
            }
        }
        assembly ("memory-safe") {
            mstore(accounts, add(coherent, 1))
        }
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

    function _validate(Parameters memory p) private pure {
        require(p.committeeSize != 0, BatchMarket_InvalidParameters("committeeSize"));
        // The largest committee, after maxRounds - 1 times 2k+1, must fit a uint8 and one settlement.
        require(
            p.maxRounds != 0 && p.maxRounds <= 5
                && (uint256(p.committeeSize) + 1) << (p.maxRounds - 1) <= type(uint8).max / 2,
            BatchMarket_InvalidParameters("maxRounds")
        );
        require(
            p.drawTimeout != 0 && p.commitWindow != 0 && p.revealWindow != 0,
            BatchMarket_InvalidParameters("windows")
        );
        require(
            p.unbondingDelay
                >= uint256(p.maxRounds) * (uint256(p.drawTimeout) + p.commitWindow + p.revealWindow)
                    + p.challengeWindow,
            BatchMarket_InvalidParameters("unbondingDelay")
        );
        require(p.absenceBps <= BPS, BatchMarket_InvalidParameters("absenceBps"));
        require(p.incoherenceBps <= BPS, BatchMarket_InvalidParameters("incoherenceBps"));
        require(p.bondPerTrace != 0, BatchMarket_InvalidParameters("bondPerTrace"));
        require(p.faultMultiple != 0, BatchMarket_InvalidParameters("faultMultiple"));
        require(p.maxTraces != 0, BatchMarket_InvalidParameters("maxTraces"));
    }
}
