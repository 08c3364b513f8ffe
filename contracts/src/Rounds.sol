// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";

import {IRandomness} from "./interfaces/IRandomness.sol";
import {IRounds} from "./interfaces/IRounds.sol";
import {IVerifierStake} from "./interfaces/IVerifierStake.sol";
import {Outcomes} from "./libraries/Outcomes.sol";
import {Attestation, ContentId, Parameters} from "./libraries/Types.sol";

contract Rounds is IRounds, Multicall {
    uint256 private constant BPS = 10_000;
    /// draws that whoever changes stake or seats makes for others at most
    uint256 private constant MOST_DRAWS = 16;
    bytes32 private constant REVEALED = bytes32(uint256(1));

    IVerifierStake public immutable stake;
    IRandomness public immutable randomness;
    address public immutable market;
    address public immutable court;

    uint8 public immutable committeeSize;
    uint32 public immutable drawTimeout;
    uint32 public immutable commitWindow;
    uint32 public immutable revealWindow;
    uint256 public immutable absencePenalty;
    uint256 public immutable latePenalty;
    uint256 public immutable incoherencePenalty;
    uint256 public immutable fraudPenalty;

    mapping(uint64 id => Round) private _rounds;
    /// eight leaves of the lot in a word
    mapping(uint64 id => mapping(uint256 word => uint256)) private _members;
    /// a commitment (last bit clear), then the vote (last bit set)
    mapping(uint64 id => mapping(uint256 seat => bytes32)) private _votes;
    mapping(uint64 id => bytes32) private _convicted;
    uint64 public count;
    /// first round whose first draw is still to come
    uint64 private _next = 1;
    uint64 private _nextAgain;
    uint64 private _againCount;
    /// rounds whose draw was scheduled again, oldest first
    mapping(uint64 place => uint64) private _again;

    constructor(
        IVerifierStake stake_,
        IRandomness randomness_,
        address market_,
        address court_,
        Parameters memory parameters
    ) {
        stake = stake_;
        randomness = randomness_;
        market = market_;
        court = court_;
        committeeSize = parameters.committeeSize;
        drawTimeout = parameters.drawTimeout;
        commitWindow = parameters.commitWindow;
        revealWindow = parameters.revealWindow;
        uint256 seatStake = parameters.seatStake;
        absencePenalty = seatStake * parameters.absenceBps / BPS;
        latePenalty = seatStake * parameters.lateBps / BPS;
        incoherencePenalty = seatStake * parameters.incoherenceBps / BPS;
        fraudPenalty = seatStake * parameters.fraudBps / BPS;
    }

    function open(bytes32 subject, uint8 size, uint32 maxUnits, uint64 previous, bool fresh)
        external
        returns (uint64 id)
    {
        bool jury = msg.sender == court;
        require(jury || msg.sender == market, Rounds_NotOpener(msg.sender));
        id = ++count;
        Round storage round = _rounds[id];
        round.subject = subject;
        round.size = size;
        round.maxUnits = maxUnits;
        round.openedAt = uint32(block.timestamp);
        round.jury = jury;
        round.fresh = fresh;
        uint64 point = randomness.nextPoint();
        round.drawPoint = point;
        if (previous != 0) round.previous = previous;
        emit RoundOpened(id, subject, size, point);
    }

    function draw(uint64 id) external {
        Phase phase = phaseOf(id);
        require(phase == Phase.Drawable, Rounds_WrongPhase(id, phase));
        uint64 handled;
        while (handled != id) {
            handled = _handleNext();
            require(handled != 0, Rounds_DrawDue(nextDraw()));
        }
    }

    function drawDue(uint256 most) external returns (uint256 done) {
        while (done < most && _handleNext() != 0) ++done;
    }

    function settleDraws() external {
        _settleDraws();
    }

    function commitVerdict(uint64 id, uint8 seat, bytes32 commitment) external {
        _requirePhase(id, Phase.Committing);
        _requireSeat(id, seat, SeatState.Drawn);
        commitment &= ~REVEALED;
        require(commitment != 0, Rounds_ZeroCommitment());

        _votes[id][seat] = commitment;
        Round storage round = _rounds[id];
        if (++round.committed == round.seats) round.allCommittedAt = uint32(block.timestamp);
        emit VerdictCommitted(id, msg.sender, seat, commitment);
    }

    function revealVerdict(
        uint64 id,
        uint8 seat,
        Attestation calldata attestation,
        bytes32 salt,
        ContentId calldata verdicts
    ) external {
        _requirePhase(id, Phase.Revealing);
        _requireSeat(id, seat, SeatState.Committed);
        Round storage round = _rounds[id];
        bytes32 computed = commitmentOf(id, msg.sender, attestation, salt) & ~REVEALED;
        bytes32 expected = _votes[id][seat];
        require(expected == computed, Rounds_CommitmentMismatch(expected, computed));
        uint256 sum = uint256(attestation.units) + attestation.faults;
        uint32 maxUnits = Outcomes.wholeBatch(attestation.verdictRoot) ? 0 : round.maxUnits;
        require(sum <= maxUnits, Rounds_SumsTooLarge(sum, maxUnits));
        require(
            round.jury || attestation.verdictRoot != Outcomes.SOUND,
            Rounds_NotAVerdict(attestation.verdictRoot)
        );

        _votes[id][seat] = Outcomes.voteOf(attestation);
        ++round.revealed;
        emit VerdictRevealed(id, msg.sender, seat, attestation, verdicts);
    }

    function convict(uint64 id, bytes32 vote) external returns (uint256 slashed) {
        require(msg.sender == market, Rounds_NotAuthorized(msg.sender));
        Round storage round = _rounds[id];
        require(!round.judged && _convicted[id] == 0, Rounds_AlreadyJudged(id));
        _settleDraws();
        _convicted[id] = vote;

        uint256 seats = round.seats;
        uint32[] memory members = new uint32[](seats);
        uint256[] memory penalties = new uint256[](seats);
        uint256 signers;
        for (uint256 i; i < seats; ++i) {
            if (_votes[id][i] != vote) continue;
            members[signers] = _memberAt(id, i);
            penalties[signers++] = fraudPenalty;
        }
        slashed = _close(members, penalties, signers, false);
        emit SignersConvicted(id, vote, slashed);
    }

    function judge(uint64 id, bytes32 finalVote)
        external
        returns (address[] memory coherent, uint256 slashed)
    {
        Round storage round = _rounds[id];
        require(msg.sender == (round.jury ? court : market), Rounds_NotAuthorized(msg.sender));
        require(!round.judged, Rounds_AlreadyJudged(id));
        _settleDraws();
        round.judged = true;

        uint256 seats = round.seats;
        uint32[] memory members = new uint32[](seats);
        uint256[] memory penalties = new uint256[](seats);
        coherent = new address[](seats);
        bytes32 convicted = _convicted[id];
        uint256 open_;
        uint256 agreeing;
        for (uint256 i; i < seats; ++i) {
            bytes32 vote = _votes[id][i];
            if (convicted != 0 && vote == convicted) continue;
            uint32 leaf = _memberAt(id, i);
            members[open_] = leaf;
            if (vote == 0) penalties[open_] = absencePenalty;
            else if (vote & REVEALED == 0) penalties[open_] = latePenalty;
            else if (vote == finalVote) coherent[agreeing++] = stake.ownerOf(leaf);
            else penalties[open_] = _incoherence(vote, finalVote);
            ++open_;
        }
        assembly ("memory-safe") {
            mstore(coherent, agreeing)
        }
        slashed = _close(members, penalties, open_, round.jury);
    }

    function get(uint64 id) external view returns (Round memory) {
        return _rounds[id];
    }

    function seatOf(uint64 id, uint8 seat) external view returns (Seat memory found) {
        if (seat >= _rounds[id].seats) return found;
        found.verifier = stake.ownerOf(_memberAt(id, seat));
        found.vote = _votes[id][seat];
        found.state = _stateOf(found.vote);
    }

    function phaseOf(uint64 id) public view returns (Phase) {
        Round storage round = _rounds[id];
        if (round.openedAt == 0) return Phase.None;
        if (round.drawnAt == 0) {
            // Its subject is void: a draw now would open seats that nothing ever closes.
            if (round.judged) return Phase.Closed;
            if (_stalled(round)) return Phase.Stalled;
            IRandomness.Status status = randomness.statusOf(round.drawPoint);
            return status == IRandomness.Status.Pending || status == IRandomness.Status.Awaited
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
        for (uint256 i; i < seats; ++i) {
            cast[i] = _votes[id][i];
        }
        for (uint256 i; i < seats; ++i) {
            if (cast[i] & REVEALED == 0) continue;
            uint256 same;
            for (uint256 j = i; j < seats; ++j) {
                if (cast[j] == cast[i]) ++same;
            }
            if (same > votes) (vote, votes) = (cast[i], same);
        }
    }

    function votesFor(uint64 id, bytes32 vote) external view returns (uint256 number) {
        return _votesFor(id, vote);
    }

    function payableSeats(uint64 id) external view returns (uint256) {
        bytes32 convicted = _convicted[id];
        uint256 seats = _rounds[id].seats;
        return convicted == 0 ? seats : seats - _votesFor(id, convicted);
    }

    function endsAt(uint64 id) external view returns (uint256) {
        return uint256(_rounds[id].drawnAt) + commitWindow + revealWindow;
    }

    function nextDraw() public view returns (uint64 id) {
        (id,) = _head();
    }

    function voteOf(Attestation calldata attestation) external pure returns (bytes32) {
        return Outcomes.voteOf(attestation);
    }

    function commitmentOf(uint64 id, address verifier, Attestation calldata attestation, bytes32 salt)
        public
        view
        returns (bytes32)
    {
        return keccak256(
            abi.encode(
                block.chainid,
                address(this),
                id,
                _rounds[id].subject,
                verifier,
                attestation.verdictRoot,
                attestation.units,
                attestation.faults,
                salt
            )
        );
    }

    function _settleDraws() private {
        for (uint256 i; i < MOST_DRAWS; ++i) {
            if (_handleNext() == 0) break;
        }
        uint64 head = nextDraw();
        if (head == 0) return;
        Round storage round = _rounds[head];
        require(
            !_stalled(round) && randomness.statusOf(round.drawPoint) == IRandomness.Status.Pending,
            Rounds_DrawDue(head)
        );
    }

    /// Handles the round whose draw is next, if its time has come.
    /// @return id that round, zero where nothing is due
    function _handleNext() private returns (uint64 id) {
        bool again;
        (id, again) = _head();
        if (id == 0) return 0;
        Round storage round = _rounds[id];
        if (!round.judged && !_stalled(round)) {
            uint64 point = round.drawPoint;
            IRandomness.Status status = randomness.statusOf(point);
            if (status == IRandomness.Status.Pending || status == IRandomness.Status.Awaited) return 0;
            if (status == IRandomness.Status.Missed || !_draw(id, round, point)) {
                point = randomness.nextPoint();
                round.drawPoint = point;
                _again[_againCount++] = id;
                emit DrawRescheduled(id, point);
            }
        }
        if (again) ++_nextAgain;
        else _next = id + 1;
    }

    /// The round whose draw is next, in the order of points; of equal points the one that was opened later waits.
    function _head() private view returns (uint64 id, bool again) {
        uint64 first = _next <= count ? _next : 0;
        if (_nextAgain == _againCount) return (first, false);
        uint64 other = _again[_nextAgain];
        if (first == 0 || _rounds[other].drawPoint <= _rounds[first].drawPoint) return (other, true);
        return (first, false);
    }

    function _draw(uint64 id, Round storage round, uint64 point) private returns (bool) {
        bytes32 value = keccak256(abi.encode(randomness.valueAt(point), id, round.subject));
        uint256 least = round.jury ? round.size / 2 + 1 : committeeSize;
        uint32[] memory members = stake.draw(value, round.size, least, _excluded(round), round.jury);
        if (members.length == 0) return false;

        round.drawnAt = uint32(block.timestamp);
        round.seats = uint8(members.length);
        address[] memory accounts = new address[](members.length);
        uint256 word;
        for (uint256 i; i < members.length; ++i) {
            word |= uint256(members[i]) << ((i & 7) << 5);
            if (i & 7 == 7 || i == members.length - 1) {
                _members[id][i >> 3] = word;
                word = 0;
            }
            accounts[i] = stake.ownerOf(members[i]);
        }
        emit RoundDrawn(id, value, accounts);
        return true;
    }

    /// Everybody who sat in the rounds before this one, where it must be fresh.
    function _excluded(Round storage round) private view returns (uint32[] memory leaves) {
        if (!round.fresh) return leaves;
        uint256 number;
        for (uint64 id = round.previous; id != 0; id = _rounds[id].previous) {
            number += _rounds[id].seats;
        }
        leaves = new uint32[](number);
        number = 0;
        for (uint64 id = round.previous; id != 0; id = _rounds[id].previous) {
            uint256 seats = _rounds[id].seats;
            for (uint256 i; i < seats; ++i) {
                leaves[number++] = _memberAt(id, i);
            }
        }
    }

    function _close(uint32[] memory members, uint256[] memory penalties, uint256 length, bool jury)
        private
        returns (uint256)
    {
        if (length == 0) return 0;
        assembly ("memory-safe") {
            mstore(members, length)
            mstore(penalties, length)
        }
        return stake.closeSeats(members, penalties, court, jury);
    }

    function _votesFor(uint64 id, bytes32 vote) private view returns (uint256 number) {
        uint256 seats = _rounds[id].seats;
        for (uint256 i; i < seats; ++i) {
            if (_votes[id][i] == vote) ++number;
        }
    }

    function _memberAt(uint64 id, uint256 seat) private view returns (uint32) {
        return uint32(_members[id][seat >> 3] >> ((seat & 7) << 5));
    }

    function _stateOf(bytes32 vote) private pure returns (SeatState) {
        if (vote == 0) return SeatState.Drawn;
        return vote & REVEALED == 0 ? SeatState.Committed : SeatState.Revealed;
    }

    function _stalled(Round storage round) private view returns (bool) {
        return block.timestamp > uint256(round.openedAt) + drawTimeout;
    }

    function _incoherence(bytes32 vote, bytes32 finalVote) private view returns (uint256) {
        bytes32 unavailable = Outcomes.voteOf(Outcomes.UNAVAILABLE);
        // No result, or content that most could not read while this member could: nobody is proven wrong.
        if (finalVote == 0 || finalVote == unavailable) return 0;
        return vote == unavailable ? absencePenalty : incoherencePenalty;
    }

    function _requirePhase(uint64 id, Phase expected) private view {
        Phase phase = phaseOf(id);
        require(phase == expected, Rounds_WrongPhase(id, phase));
    }

    function _requireSeat(uint64 id, uint8 seat, SeatState expected) private view {
        require(
            seat < _rounds[id].seats && stake.ownerOf(_memberAt(id, seat)) == msg.sender,
            Rounds_NotYourSeat(id, seat, msg.sender)
        );
        SeatState state = _stateOf(_votes[id][seat]);
        require(state == expected, Rounds_WrongSeatState(id, seat, state));
    }
}
