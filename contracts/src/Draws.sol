// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRandomness} from "./interfaces/IRandomness.sol";
import {IRounds} from "./interfaces/IRounds.sol";
import {IVerifierStake} from "./interfaces/IVerifierStake.sol";
import {Parameters} from "./libraries/Types.sol";

/// The first half of Rounds: rounds are opened, and their committees drawn in order.
abstract contract Draws is IRounds {
    /// draws that whoever changes stake or seats makes for others at most
    uint256 private constant MOST_DRAWS = 16;

    IVerifierStake public immutable stake;
    IRandomness public immutable randomness;
    address public immutable market;
    address public immutable court;

    uint8 public immutable committeeSize;
    uint32 public immutable drawTimeout;
    uint32 public immutable commitWindow;
    uint32 public immutable revealWindow;

    mapping(uint64 id => Round) internal _rounds;
    /// eight leaves of the lot in a word
    mapping(uint64 id => mapping(uint256 word => uint256)) private _members;
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

    function nextDraw() public view returns (uint64 id) {
        (id,) = _head();
    }

    function _settleDraws() internal {
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
        (uint32[] memory members, address[] memory owners) =
            stake.draw(value, round.size, least, _excluded(round), round.jury);
        if (members.length == 0) return false;

        round.drawnAt = uint32(block.timestamp);
        round.seats = uint8(members.length);
        uint256 word;
        for (uint256 i; i < members.length; ++i) {
            word |= uint256(members[i]) << ((i & 7) << 5);
            if (i & 7 == 7 || i == members.length - 1) {
                _members[id][i >> 3] = word;
                word = 0;
            }
        }
        emit RoundDrawn(id, value, owners);
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

    /// The accounts that sit in a round.
    function _membersOf(uint64 id, uint256 seats) internal view returns (address[] memory) {
        return stake.ownersOf(_leavesOf(id, seats));
    }

    /// Their leaves in the lot.
    function _leavesOf(uint64 id, uint256 seats) internal view returns (uint32[] memory leaves) {
        leaves = new uint32[](seats);
        uint256 word;
        for (uint256 i; i < seats; ++i) {
            word = i & 7 == 0 ? _members[id][i >> 3] : word >> 32;
            leaves[i] = uint32(word);
        }
    }

    function _memberAt(uint64 id, uint256 seat) internal view returns (uint32) {
        return uint32(_members[id][seat >> 3] >> ((seat & 7) << 5));
    }

    function _stalled(Round storage round) private view returns (bool) {
        return block.timestamp > uint256(round.openedAt) + drawTimeout;
    }
}
