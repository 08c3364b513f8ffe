// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {BatchMarket} from "./BatchMarket.sol";
import {BountyEscrow} from "./BountyEscrow.sol";
import {Evidence} from "./Evidence.sol";
import {Ledger} from "./Ledger.sol";
import {Openings} from "./Openings.sol";
import {Rounds} from "./Rounds.sol";
import {IBatchMarket} from "./interfaces/IBatchMarket.sol";
import {ICourt} from "./interfaces/ICourt.sol";
import {IEvidence} from "./interfaces/IEvidence.sol";
import {IOpenings} from "./interfaces/IOpenings.sol";
import {IRounds} from "./interfaces/IRounds.sol";
import {MerkleProofs} from "./libraries/MerkleProofs.sol";
import {Outcomes} from "./libraries/Outcomes.sol";
import {Attestation, BountyTerms, Parameters, Verdict} from "./libraries/Types.sol";
import {VerdictFaults} from "./libraries/VerdictFaults.sol";

contract Court is ICourt {
    using SafeCast for uint256;

    BatchMarket public immutable market;
    BountyEscrow public immutable escrow;
    Ledger public immutable ledger;
    Rounds public immutable rounds;
    Openings public immutable openings;
    Evidence public immutable evidence;
    uint8 public immutable maxJuries;
    uint32 public immutable appealWindow;
    uint96 public immutable jurorFee;

    mapping(uint64 id => Dispute) private _disputes;
    mapping(uint64 id => Appeal[]) private _appeals;
    /// the two attestations of a conflict
    mapping(uint64 id => Attestation[2]) private _rivals;
    /// keccak256(batch, number of the attestation, index) => its dispute
    mapping(bytes32 key => uint64) private _disputeOf;
    /// disputed verdicts and outcomes that cost the miner its bond
    mapping(uint64 id => bool) private _accused;
    /// bonds of open disputes, in token base units
    uint256 private _bonds;
    uint64 public count;

    constructor(
        BatchMarket market_,
        BountyEscrow escrow_,
        Ledger ledger_,
        Rounds rounds_,
        Openings openings_,
        Evidence evidence_,
        Parameters memory parameters
    ) {
        _linked("market.court", market_.court(), address(this));
        _linked("market.escrow", address(market_.escrow()), address(escrow_));
        _linked("market.ledger", address(market_.ledger()), address(ledger_));
        _linked("market.rounds", address(market_.rounds()), address(rounds_));
        _linked("openings.court", openings_.court(), address(this));
        // Of one deployment, or jurors would be judged by one set and paid by another.
        bool same = keccak256(abi.encode(parameters)) == keccak256(abi.encode(market_.parameters()))
            && openings_.openingWindow() == parameters.openingWindow;
        require(same, Court_WrongDeployment("parameters", address(market_)));

        market = market_;
        escrow = escrow_;
        ledger = ledger_;
        rounds = rounds_;
        openings = openings_;
        evidence = evidence_;
        maxJuries = parameters.maxJuries;
        appealWindow = parameters.appealWindow;
        jurorFee = parameters.jurorFee;
    }

    function disputeLeaf(
        uint64 batch,
        Verdict calldata verdict,
        MerkleProofs.SumNode[] calldata verdictProof,
        bytes32 lineHash,
        bytes32[] calldata traceProof
    ) external returns (uint64 id) {
        IBatchMarket.Batch memory seen = market.get(batch);
        _requireVerdicts(seen.attestation);
        bytes32 vote =
            evidence.leaf(address(market), batch, seen, verdict, verdictProof, lineHash, traceProof);
        id = _begin(batch, seen, Kind.Leaf, verdict.index);
        _remember(id, verdict);
        _openFirstJury(id, verdict.index, vote, 0, seen.round);
        ledger.collect(msg.sender, _disputes[id].bond);
    }

    function disputeOutcome(uint64 batch, bytes32 identity) external returns (uint64 id) {
        IBatchMarket.Batch memory seen = _requireSame(batch, identity);
        bytes32 root = seen.attestation.verdictRoot;
        require(Outcomes.wholeBatch(root), Court_NoOutcome(root));
        id = _begin(batch, seen, root == Outcomes.MALFORMED ? Kind.Malformed : Kind.Unavailable, 0);
        if (root == Outcomes.MALFORMED) _accused[id] = true;
        _openFirstJury(id, 0, Outcomes.voteOf(root), 0, seen.round);
        ledger.collect(msg.sender, _disputes[id].bond);
    }

    function demandOpening(uint64 batch, bytes32 identity) external returns (uint64 id) {
        IBatchMarket.Batch memory seen = _requireSame(batch, identity);
        _requireVerdicts(seen.attestation);
        id = _begin(batch, seen, Kind.Opening, 0);
        openings.start(id, batch, msg.sender, seen.attestation, seen.count);
        ledger.collect(msg.sender, _disputes[id].bond);
    }

    function concludeOpening(uint64 id) external {
        _requirePhase(id, Phase.Opening);
        Dispute storage dispute = _disputes[id];
        IOpenings.Status status = openings.statusOf(id);
        if (status == IOpenings.Status.Opened) {
            Verdict memory verdict = openings.openedOf(id);
            uint64 round = market.get(dispute.batch).round;
            _remember(id, verdict);
            _openFirstJury(id, verdict.index, evidence.voteOf(dispute.batch, verdict), 0, round);
        } else {
            require(
                status == IOpenings.Status.Refused || status == IOpenings.Status.Abandoned,
                Court_OpeningNotOver(id)
            );
            _decide(id, dispute, status == IOpenings.Status.Refused ? Standing.Falls : Standing.Stands, 0, true);
        }
    }

    function proveFault(uint64 batch, IEvidence.Opened calldata opened)
        external
        returns (VerdictFaults.Fault fault)
    {
        IBatchMarket.Batch memory seen = market.get(batch);
        require(seen.attestedAt != 0 && !seen.closed, Court_NotAttested(batch));
        _requireVerdicts(seen.attestation);
        fault = evidence.fault(batch, seen.attestation, seen.count, opened);

        uint256 slashed = market.overturn(batch, true);
        (uint256 reward, uint256 wronged) = _shares(seen, slashed);
        emit FaultProven(batch, msg.sender, fault, slashed, reward, wronged);
        _credit(msg.sender, reward);
        _toBounty(seen.bounty, wronged);
    }

    function narrow(uint64 batch, IEvidence.Claim calldata leader, IEvidence.Claim calldata rival)
        external
        returns (uint64 id)
    {
        IBatchMarket.Batch memory seen = market.get(batch);
        market.beginConflict(batch);
        (bytes32 most,) = rounds.leaderOf(seen.round);
        bytes32 first = Outcomes.voteOf(leader.attestation);
        bytes32 second = Outcomes.voteOf(rival.attestation);
        require(first == most, Court_NotAVote(seen.round, first));
        require(rounds.votesFor(seen.round, second) != 0, Court_NotAVote(seen.round, second));
        (bytes32 vote, bytes32 rivalVote) = evidence.conflict(batch, seen.count, leader, rival);

        uint32 index = leader.verdict.index;
        id = _create(batch, seen, Kind.Conflict, index, 0);
        _remember(id, leader.verdict);
        _rivals[id][0] = leader.attestation;
        _rivals[id][1] = rival.attestation;
        _openFirstJury(id, index, vote, rivalVote, seen.round);
    }

    function tallyJury(uint64 id, Attestation calldata leader) external {
        _requirePhase(id, Phase.InJury);
        Dispute storage dispute = _disputes[id];
        uint64 jury = dispute.jury;
        IRounds.Phase phase = rounds.phaseOf(jury);
        require(
            phase == IRounds.Phase.Closed || phase == IRounds.Phase.Stalled, Court_JuryNotClosed(id, jury)
        );

        IRounds.Round memory seen = rounds.get(jury);
        (bytes32 vote, uint256 votes) = rounds.leaderOf(jury);
        if (votes > uint256(seen.seats) / 2) {
            bytes32 given = Outcomes.voteOf(leader);
            require(given == vote, Court_NotTheLeader(given, vote));
            dispute.minerWronged = _givesMore(id, dispute, leader);
            _decide(id, dispute, _standingOf(dispute, vote), vote, dispute.juries == maxJuries);
        } else if (phase == IRounds.Phase.Closed && dispute.juries < maxJuries) {
            _openJury(id, dispute, 2 * seen.size + 1, jury);
        } else {
            // An appeal that no jury could be drawn for was not lost.
            uint256 appeals = _appeals[id].length;
            if (phase == IRounds.Phase.Stalled && appeals != 0) _appeals[id][appeals - 1].against = Standing.None;
            _decide(id, dispute, dispute.standing, dispute.standingVote, true);
        }
    }

    function appeal(uint64 id, bytes32 named) external {
        _requirePhase(id, Phase.Appealable);
        Dispute storage dispute = _disputes[id];
        bytes32 identity = _decisionOf(dispute);
        require(identity == named, Court_AnotherDecision(id, identity, named));
        uint256 bond = uint256(dispute.bond) << dispute.juries;
        _appeals[id].push(Appeal(msg.sender, dispute.standing, bond.toUint88()));
        emit Appealed(id, msg.sender, dispute.standing, bond);
        _bonds += bond;
        dispute.decidedAt = 0;
        uint64 jury = dispute.jury;
        _openJury(id, dispute, 2 * rounds.get(jury).size + 1, jury);
        ledger.collect(msg.sender, bond);
    }

    function close(uint64 id) external {
        _requirePhase(id, Phase.Decided);
        Dispute storage dispute = _disputes[id];
        dispute.closed = true;
        uint64 batch = dispute.batch;
        IBatchMarket.Batch memory seen = market.get(batch);
        address[] memory jurors = _judge(dispute);
        uint256 insured = pool();

        market.endDispute(batch);
        uint256 slashed = _carryOut(id, dispute, seen);
        (uint256 lost, uint256 back) = _settleBonds(id, dispute, slashed != 0);

        uint256 fees = Math.min(jurors.length * uint256(jurorFee), lost + slashed + insured);
        if (jurors.length != 0) {
            uint256 each = fees / jurors.length;
            fees = each * jurors.length;
            _creditEach(jurors, each);
        }
        uint256 left = lost + slashed - Math.min(lost + slashed, fees);
        uint256 reward;
        uint256 wronged;
        if (slashed != 0) {
            (reward, wronged) = _shares(seen, Math.min(slashed, left));
            _credit(dispute.challenger, reward);
        } else if (dispute.standing == Standing.Stands) {
            wronged = left / 2;
        } else if (dispute.kind != Kind.Conflict && dispute.standing != Standing.None) {
            // Right, but nobody is convicted who could pay the jurors (the content came late, or can't be had, or another
            // dispute was quicker): the challenger gets its bond less what they took. The pool must not be for the asking.
            back = Math.min(dispute.bond, left);
            _credit(dispute.challenger, back);
        }
        emit DisputeClosed(id, batch, dispute.standing, slashed, fees, back + reward, wronged);
        // A frivolous dispute delayed the miner; a fallen attestation wronged the side that it gave too little.
        if (slashed == 0 || dispute.minerWronged) _credit(seen.miner, wronged);
        else _toBounty(seen.bounty, wronged);
    }

    function bondFor(uint64 batch) external view returns (uint256) {
        return _bondFor(rounds.get(market.get(batch).round).size);
    }

    function get(uint64 id) external view returns (Dispute memory) {
        require(id != 0 && id <= count, Court_UnknownDispute(id));
        return _disputes[id];
    }

    function appealsOf(uint64 id) external view returns (Appeal[] memory) {
        return _appeals[id];
    }

    function phaseOf(uint64 id) public view returns (Phase) {
        Dispute storage dispute = _disputes[id];
        if (dispute.batch == 0) return Phase.None;
        if (dispute.closed) return Phase.Closed;
        uint256 decidedAt = dispute.decidedAt;
        if (decidedAt == 0) return dispute.jury == 0 ? Phase.Opening : Phase.InJury;
        return !dispute.last && block.timestamp <= decidedAt + appealWindow ? Phase.Appealable : Phase.Decided;
    }

    function pool() public view returns (uint256) {
        return ledger.heldFor(address(this)) - _bonds;
    }

    function _begin(uint64 batch, IBatchMarket.Batch memory seen, Kind kind, uint32 index)
        private
        returns (uint64 id)
    {
        market.beginDispute(batch);
        uint256 bond = _bondFor(rounds.get(seen.round).size);
        id = _create(batch, seen, kind, index, bond);
        if (kind != Kind.Opening) {
            bytes32 key = keccak256(abi.encode(batch, seen.overturned, index));
            require(_disputeOf[key] == 0, Court_AlreadyDisputed(batch, index));
            _disputeOf[key] = id;
        }
        _bonds += bond;
    }

    function _create(uint64 batch, IBatchMarket.Batch memory seen, Kind kind, uint32 index, uint256 bond)
        private
        returns (uint64 id)
    {
        id = ++count;
        Dispute storage dispute = _disputes[id];
        dispute.challenger = msg.sender;
        dispute.batch = batch;
        dispute.index = index;
        // A conflict is nobody's accusation: it has no bond, but its appeals have.
        dispute.bond = (kind == Kind.Conflict ? _bondFor(rounds.get(seen.round).size) : bond).toUint96();
        dispute.kind = kind;
        dispute.attestation = seen.overturned;
        emit DisputeOpened(id, batch, msg.sender, kind, index, uint96(bond));
    }

    function _openFirstJury(uint64 id, uint32 index, bytes32 vote, bytes32 rivalVote, uint64 round) private {
        Dispute storage dispute = _disputes[id];
        dispute.index = index;
        dispute.vote = vote;
        if (rivalVote != 0) dispute.rivalVote = rivalVote;
        emit VerdictDisputed(id, index, vote, rivalVote);
        _openJury(id, dispute, 2 * rounds.get(round).size + 1, round);
    }

    /// @param previous the round before it: whoever sat in it, or before it, is left out
    function _openJury(uint64 id, Dispute storage dispute, uint8 size, uint64 previous) private {
        bytes32 subject = keccak256(
            abi.encode(block.chainid, address(this), id, dispute.batch, dispute.index, dispute.vote)
        );
        uint64 jury = rounds.open(subject, size, 1, previous, true);
        dispute.jury = jury;
        ++dispute.juries;
        emit JuryOpened(id, jury, size);
    }

    function _remember(uint64 id, Verdict memory verdict) private {
        _disputes[id].paid = verdict.units != 0;
        if (verdict.faults != 0) _accused[id] = true;
    }

    function _decide(uint64 id, Dispute storage dispute, Standing standing, bytes32 vote, bool last) private {
        dispute.standing = standing;
        dispute.standingVote = vote;
        dispute.decidedAt = uint32(block.timestamp);
        dispute.last = last;
        emit JuryDecided(id, dispute.jury, standing, vote);
    }

    /// Closes every jury against the last decision.
    /// @return jurors the coherent ones of all juries
    function _judge(Dispute storage dispute) private returns (address[] memory jurors) {
        uint64 jury = dispute.jury;
        uint256 number;
        address[][] memory found = new address[][](dispute.juries);
        for (uint256 i; i < found.length; ++i) {
            (found[i],) = rounds.judge(jury, dispute.standingVote);
            number += found[i].length;
            jury = rounds.get(jury).previous;
        }
        jurors = new address[](number);
        for (uint256 i; i < found.length; ++i) {
            for (uint256 j; j < found[i].length; ++j) {
                jurors[--number] = found[i][j];
            }
        }
    }

    /// Gives winners their bonds back; a challenger's only where signers were convicted, or no jury decided.
    /// @return lost the bonds of the losing side
    /// @return back what the challenger gets of its own
    function _settleBonds(uint64 id, Dispute storage dispute, bool convicted)
        private
        returns (uint256 lost, uint256 back)
    {
        Standing standing = dispute.standing;
        uint256 all;
        if (dispute.kind != Kind.Conflict) {
            all = dispute.bond;
            if (convicted || standing == Standing.None) back = all;
            else lost = all;
            _credit(dispute.challenger, back);
        }
        Appeal[] storage appeals = _appeals[id];
        for (uint256 i; i < appeals.length; ++i) {
            uint256 bond = appeals[i].bond;
            all += bond;
            if (appeals[i].against == standing) lost += bond;
            else _credit(appeals[i].appellant, bond);
        }
        _bonds -= all;
    }

    /// @return slashed what the signers of a fallen attestation lost
    function _carryOut(uint64 id, Dispute storage dispute, IBatchMarket.Batch memory seen)
        private
        returns (uint256 slashed)
    {
        uint64 batch = dispute.batch;
        // Another dispute was quicker: there is nothing left to take back.
        if (seen.closed || seen.overturned != dispute.attestation) return 0;
        Standing standing = dispute.standing;
        if (dispute.kind == Kind.Conflict) {
            if (standing == Standing.Stands) market.attest(batch, _rivals[id][0]);
            else if (standing == Standing.Rival) market.attest(batch, _rivals[id][1]);
        } else if (standing == Standing.Falls) {
            slashed = market.overturn(batch, dispute.kind != Kind.Unavailable);
        } else if (standing == Standing.Unavailable) {
            market.attest(batch, Attestation(Outcomes.UNAVAILABLE, 0, 0));
        }
    }

    /// @return more whether a jury's verdict gives the miner more than the disputed one
    function _givesMore(uint64 id, Dispute storage dispute, Attestation calldata verdict)
        private
        view
        returns (bool more)
    {
        bytes32 root = verdict.verdictRoot;
        if (root == Outcomes.MALFORMED || root == Outcomes.UNAVAILABLE) return false;
        if (dispute.paid || verdict.faults != 0) return false;
        return verdict.units != 0 || _accused[id];
    }

    function _standingOf(Dispute storage dispute, bytes32 vote) private view returns (Standing) {
        if (vote == dispute.vote) return Standing.Stands;
        Kind kind = dispute.kind;
        if (kind == Kind.Conflict) return vote == dispute.rivalVote ? Standing.Rival : Standing.Falls;
        if (vote != Outcomes.voteOf(Outcomes.UNAVAILABLE)) return Standing.Falls;
        // Whoever disputes "malformed" must see to it that the content can be had.
        return kind == Kind.Malformed ? Standing.Stands : Standing.Unavailable;
    }

    /// Twice what the first jury is paid: the doubled bonds of appeals then cover their larger juries.
    function _bondFor(uint256 size) private view returns (uint256) {
        return 2 * (2 * size + 1) * jurorFee;
    }

    function _credit(address account, uint256 amount) private {
        if (amount == 0) return;
        address[] memory accounts = new address[](1);
        accounts[0] = account;
        _creditEach(accounts, amount);
    }

    function _creditEach(address[] memory accounts, uint256 each) private {
        uint256[] memory amounts = new uint256[](accounts.length);
        for (uint256 i; i < amounts.length; ++i) {
            amounts[i] = each;
        }
        ledger.credit(accounts, amounts);
    }

    function _toBounty(uint64 bounty, uint256 amount) private {
        if (amount == 0) return;
        ledger.shift(address(escrow), amount);
        escrow.replenish(bounty, amount);
    }

    function _linked(string memory name, address linked, address expected) private pure {
        require(linked == expected, Court_WrongDeployment(name, linked));
    }

    function _requireVerdicts(Attestation memory attestation) private pure {
        bytes32 root = attestation.verdictRoot;
        require(!Outcomes.wholeBatch(root), Court_WholeBatch(root));
    }

    /// @return seen the batch, if it is the one that the caller means, with the attestation that it means
    function _requireSame(uint64 batch, bytes32 named) private view returns (IBatchMarket.Batch memory seen) {
        seen = market.get(batch);
        bytes32 identity = keccak256(abi.encode(seen.root, seen.count, seen.attestation));
        require(identity == named, Court_AnotherAttestation(batch, identity, named));
    }

    function _decisionOf(Dispute storage dispute) private view returns (bytes32) {
        IBatchMarket.Batch memory seen = market.get(dispute.batch);
        return keccak256(
            abi.encode(
                seen.root,
                seen.count,
                dispute.kind,
                dispute.index,
                dispute.vote,
                dispute.rivalVote,
                dispute.juries,
                dispute.standing,
                dispute.standingVote
            )
        );
    }

    function _requirePhase(uint64 id, Phase expected) private view {
        Phase phase = phaseOf(id);
        require(phase == expected, Court_WrongPhase(id, phase));
    }

    /// What the prover and the wronged side get of what the signers lost; the rest stays in the pool, at least a quarter.
    function _shares(IBatchMarket.Batch memory seen, uint256 amount)
        private
        view
        returns (uint256 reward, uint256 wronged)
    {
        BountyTerms memory terms = escrow.get(seen.bounty).terms;
        uint256 fees = uint256(terms.feePerTrace) * seen.count;
        // One seat's part of the fee: what honest checking of this batch would have paid.
        reward = Math.min(amount / 4, fees / rounds.get(seen.round).seats);
        wronged = Math.min(amount / 2, fees);
    }
}
