// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRandomness} from "./interfaces/IRandomness.sol";
import {IRounds} from "./interfaces/IRounds.sol";
import {IVerifierStake} from "./interfaces/IVerifierStake.sol";
import {Outcomes} from "./libraries/Outcomes.sol";
import {Attestation, ContentId, Parameters} from "./libraries/Types.sol";

contract Rounds is IRounds {
    IVerifierStake public immutable stake;
    IRandomness public immutable randomness;
    address public immutable market;

    uint8 public immutable committeeSize;
    uint32 public immutable drawTimeout;
    uint32 public immutable commitWindow;
    uint32 public immutable revealWindow;
    uint256 public immutable absencePenalty;
    uint256 public immutable incoherencePenalty;

    mapping(uint64 id => Round) private _rounds;
    mapping(uint64 id => mapping(uint8 seat => Seat)) private _seats;
    uint64 public count;

    modifier onlyMarket() {
        require(msg.sender == market, Rounds_NotMarket(msg.sender));
        _;
    }

    constructor(IVerifierStake stake_, IRandomness randomness_, address market_, Parameters memory parameters) {
        stake = stake_;
        randomness = randomness_;
        market = market_;
        committeeSize = parameters.committeeSize;
        drawTimeout = parameters.drawTimeout;
        commitWindow = parameters.commitWindow;
        revealWindow = parameters.revealWindow;
        absencePenalty = (uint256(parameters.seatStake) * parameters.absenceBps) / 10_000;
        incoherencePenalty = (uint256(parameters.seatStake) * parameters.incoherenceBps) / 10_000;
    }

    function open(bytes32 subject, uint8 size, uint32 maxUnits) external onlyMarket returns (uint64 id) {
        id = ++count;
        Round storage round = _rounds[id];
        round.subject = subject;
        round.size = size;
        round.maxUnits = maxUnits;
        round.openedAt = uint40(block.timestamp);
        round.drawPoint = randomness.nextPoint();
        emit RoundOpened(id, subject, size, round.drawPoint);
    }

    function draw(uint64 id) external {
        Round storage round = _rounds[id];
        Phase phase = phaseOf(id);
        IRandomness.Status status = randomness.statusOf(round.drawPoint);
        require(
            (phase == Phase.Drawable || phase == Phase.Stalled) && status != IRandomness.Status.Pending,
            Rounds_WrongPhase(id, phase)
        );
        if (status == IRandomness.Status.Missed) {
            round.drawPoint = randomness.nextPoint();
            emit DrawRescheduled(id, round.drawPoint);
            return;
        }

        bytes32 value = keccak256(abi.encode(randomness.valueAt(round.drawPoint), id, round.subject));
        address[] memory members = stake.draw(value, round.size, committeeSize);
        round.drawnAt = uint40(block.timestamp);
        round.seats = uint8(members.length);
        for (uint8 i; i < members.length; ++i) {
            Seat storage seat = _seats[id][i];
            seat.verifier = members[i];
            seat.state = SeatState.Drawn;
        }
        emit RoundDrawn(id, value, members);
    }

    function commitVerdict(uint64 id, uint8 seatIndex, bytes32 commitment) external {
        _requirePhase(id, Phase.Committing);
        Seat storage seat = _requireSeat(id, seatIndex, SeatState.Drawn);
        require(commitment != 0, Rounds_ZeroCommitment());

        seat.state = SeatState.Committed;
        seat.vote = commitment;
        Round storage round = _rounds[id];
        if (++round.committed == round.seats) round.allCommittedAt = uint40(block.timestamp);
        emit VerdictCommitted(id, msg.sender, seatIndex, commitment);
    }

    function revealVerdict(
        uint64 id,
        uint8 seatIndex,
        Attestation calldata attestation,
        bytes32 salt,
        ContentId calldata verdicts
    ) external {
        _requirePhase(id, Phase.Revealing);
        Seat storage seat = _requireSeat(id, seatIndex, SeatState.Committed);
        Round storage round = _rounds[id];
        bytes32 computed = _commitment(id, round.subject, msg.sender, attestation, salt);
        require(seat.vote == computed, Rounds_CommitmentMismatch(seat.vote, computed));
        uint256 sum = uint256(attestation.units) + attestation.faults;
        uint32 maxUnits = Outcomes.wholeBatch(attestation.verdictRoot) ? 0 : round.maxUnits;
        require(sum <= maxUnits, Rounds_SumsTooLarge(sum, maxUnits));

        seat.state = SeatState.Revealed;
        seat.vote = voteOf(attestation);
        ++round.revealed;
        emit VerdictRevealed(id, msg.sender, seatIndex, attestation, verdicts);
    }

    function judge(uint64 id, bytes32 finalVote, address beneficiary)
        external
        onlyMarket
        returns (address[] memory coherent, uint256 slashed)
    {
        Round storage round = _rounds[id];
        require(!round.judged, Rounds_AlreadyJudged(id));
        round.judged = true;

        uint256 seats = round.seats;
        address[] memory members = new address[](seats);
        uint256[] memory penalties = new uint256[](seats);
        coherent = new address[](seats);
        uint256 agreeing;
        for (uint8 i; i < seats; ++i) {
            Seat memory seat = _seats[id][i];
            members[i] = seat.verifier;
            if (seat.state != SeatState.Revealed) penalties[i] = absencePenalty;
            else if (finalVote != 0 && seat.vote == finalVote) coherent[agreeing++] = seat.verifier;
            else penalties[i] = _incoherence(seat.vote, finalVote);
        }
        assembly ("memory-safe") {
            mstore(coherent, agreeing)
        }
        slashed = stake.closeSeats(members, penalties, beneficiary);
    }

    function get(uint64 id) external view returns (Round memory) {
        return _rounds[id];
    }

    function seatOf(uint64 id, uint8 seat) external view returns (Seat memory) {
        return _seats[id][seat];
    }

    function phaseOf(uint64 id) public view returns (Phase) {
        Round storage round = _rounds[id];
        if (round.openedAt == 0) return Phase.None;
        if (round.drawnAt == 0) {
            // Its subject is void: a draw now would open seats that nothing ever closes.
            if (round.judged) return Phase.Closed;
            if (block.timestamp > uint256(round.openedAt) + drawTimeout) return Phase.Stalled;
            return randomness.statusOf(round.drawPoint) == IRandomness.Status.Pending
                ? Phase.AwaitingRandomness
                : Phase.Drawable;
        }

        uint256 revealsFrom = round.allCommittedAt;
        if (revealsFrom == 0) {
            revealsFrom = uint256(round.drawnAt) + commitWindow;
            if (block.timestamp <= revealsFrom) return Phase.Committing;
        }
        if (round.revealed == round.committed || block.timestamp > revealsFrom + revealWindow) return Phase.Closed;
        return Phase.Revealing;
    }

    function leaderOf(uint64 id) external view returns (bytes32 vote, uint256 votes) {
        uint256 seats = _rounds[id].seats;
        bytes32[] memory cast = new bytes32[](seats);
        for (uint8 i; i < seats; ++i) {
            Seat storage seat = _seats[id][i];
            if (seat.state == SeatState.Revealed) cast[i] = seat.vote;
        }
        for (uint256 i; i < seats; ++i) {
            if (cast[i] == 0) continue;
            uint256 same;
            for (uint256 j = i; j < seats; ++j) {
                if (cast[j] == cast[i]) ++same;
            }
            if (same > votes) (vote, votes) = (cast[i], same);
        }
    }

    function voteOf(Attestation calldata attestation) public pure returns (bytes32) {
        return keccak256(abi.encode(attestation));
    }

    function commitmentOf(uint64 id, address verifier, Attestation calldata attestation, bytes32 salt)
        external
        view
        returns (bytes32)
    {
        return _commitment(id, _rounds[id].subject, verifier, attestation, salt);
    }

    function _incoherence(bytes32 vote, bytes32 finalVote) private view returns (uint256) {
        bytes32 unavailable = Outcomes.voteOf(Outcomes.UNAVAILABLE);
        // No result, or content that most could not read while this member could: nobody is proven wrong.
        if (finalVote == 0 || finalVote == unavailable) return 0;
        return vote == unavailable ? absencePenalty : incoherencePenalty;
    }

    function _commitment(
        uint64 id,
        bytes32 subject,
        address verifier,
        Attestation calldata attestation,
        bytes32 salt
    ) private view returns (bytes32) {
        return keccak256(
            abi.encode(
                block.chainid,
                address(this),
                id,
                subject,
                verifier,
                attestation.verdictRoot,
                attestation.units,
                attestation.faults,
                salt
            )
        );
    }

    function _requirePhase(uint64 id, Phase expected) private view {
        Phase phase = phaseOf(id);
        require(phase == expected, Rounds_WrongPhase(id, phase));
    }

    function _requireSeat(uint64 id, uint8 index, SeatState expected) private view returns (Seat storage seat) {
        seat = _seats[id][index];
        require(seat.verifier == msg.sender, Rounds_NotYourSeat(id, index, msg.sender));
        require(seat.state == expected, Rounds_WrongSeatState(id, index, seat.state));
    }
}
