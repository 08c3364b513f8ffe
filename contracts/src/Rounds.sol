// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {Draws} from "./Draws.sol";
import {IRandomness} from "./interfaces/IRandomness.sol";
import {IVerifierStake} from "./interfaces/IVerifierStake.sol";
import {Outcomes} from "./libraries/Outcomes.sol";
import {Attestation, ContentId, Parameters} from "./libraries/Types.sol";

contract Rounds is Draws, Multicall, EIP712 {
    uint256 private constant BPS = 10_000;
    bytes32 private constant REVEALED = bytes32(uint256(1));
    bytes32 private constant VOTE_TYPE =
        keccak256("Vote(uint64 round,bytes32 subject,bytes32 commitment,uint64 until)");

    uint256 public immutable absencePenalty;
    uint256 public immutable latePenalty;
    uint256 public immutable incoherencePenalty;
    uint256 public immutable fraudPenalty;

    /// a commitment (last bit clear), then the vote (last bit set)
    mapping(uint64 id => mapping(uint256 seat => bytes32)) private _votes;
    /// where one call brought all commitments: their hash (last bit clear), then, where one call opened them all, the vote
    /// of all seats (last bit set); seats that were opened alone are in `_votes`
    mapping(uint64 id => bytes32) private _common;
    mapping(uint64 id => bytes32) private _convicted;

    constructor(
        IVerifierStake stake_,
        IRandomness randomness_,
        address market_,
        address court_,
        Parameters memory parameters
    ) EIP712("tracemarket rounds", "1") Draws(stake_, randomness_, market_, court_, parameters) {
        uint256 seatStake = parameters.seatStake;
        absencePenalty = seatStake * parameters.absenceBps / BPS;
        latePenalty = seatStake * parameters.lateBps / BPS;
        incoherencePenalty = seatStake * parameters.incoherenceBps / BPS;
        fraudPenalty = seatStake * parameters.fraudBps / BPS;
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
        _requireOpens(_voteAt(id, seat), commitmentOf(id, msg.sender, attestation, salt));
        _requireVerdict(_rounds[id], attestation);
        _reveal(id, seat, Outcomes.voteOf(attestation));
        emit VerdictRevealed(id, msg.sender, seat, attestation, verdicts);
    }

    function commitVerdicts(uint64 id, SignedCommitment[] calldata votes) external returns (uint256 taken) {
        if (!_whileIn(id, Phase.Committing)) return 0;
        Round storage round = _rounds[id];
        uint256 seats = round.seats;
        require(votes.length == seats, Rounds_WrongLength(id, votes.length, seats));
        bool none = round.committed == 0;
        bytes32[] memory commitments = new bytes32[](seats);
        for (uint256 seat; seat < seats; ++seat) {
            bytes32 commitment = votes[seat].commitment & ~REVEALED;
            if (commitment == 0 || (!none && _votes[id][seat] != 0)) continue;
            commitments[seat] = commitment;
            ++taken;
        }
        if (taken == 0) return 0;
        address[] memory members = _requireSigned(id, round, votes, commitments);
        if (taken == seats) {
            _common[id] = _commonOf(commitments);
            emit VerdictsCommitted(id, commitments);
        } else {
            for (uint256 seat; seat < seats; ++seat) {
                bytes32 commitment = commitments[seat];
                if (commitment == 0) continue;
                _votes[id][seat] = commitment;
                emit VerdictCommitted(id, members[seat], uint8(seat), commitment);
            }
        }
        uint256 committed = round.committed + taken;
        round.committed = uint8(committed);
        if (committed == seats) round.allCommittedAt = uint32(block.timestamp);
    }

    function revealFor(
        uint64 id,
        uint8 seat,
        Attestation calldata attestation,
        bytes32 salt,
        ContentId calldata verdicts,
        bytes32[] calldata commitments
    ) external {
        if (!_whileIn(id, Phase.Revealing)) return;
        Round storage round = _rounds[id];
        require(seat < round.seats, Rounds_NotYourSeat(id, seat, msg.sender));
        bytes32 expected = _voteAt(id, seat);
        SeatState state = _stateOf(expected);
        if (state == SeatState.Revealed) return;
        require(state == SeatState.Committed, Rounds_WrongSeatState(id, seat, state));
        if (_common[id] != 0) {
            require(commitments.length == round.seats, Rounds_WrongLength(id, commitments.length, round.seats));
            _requireOpens(expected, _commonOf(commitments));
            expected = commitments[seat];
        }
        address member = stake.ownerOf(_memberAt(id, seat));
        bytes32 given = msg.sender == member ? salt : sealedSalt(salt, verdicts);
        _requireOpens(expected, commitmentOf(id, member, attestation, given));
        _requireVerdict(round, attestation);
        _reveal(id, seat, Outcomes.voteOf(attestation));
        emit VerdictRevealed(id, member, seat, attestation, verdicts);
    }

    function revealVerdicts(
        uint64 id,
        Attestation calldata attestation,
        bytes32[] calldata secrets,
        ContentId[] calldata verdicts
    ) external {
        if (!_whileIn(id, Phase.Revealing)) return;
        Round storage round = _rounds[id];
        uint256 seats = round.seats;
        require(secrets.length == seats, Rounds_WrongLength(id, secrets.length, seats));
        require(
            verdicts.length == seats || verdicts.length == 1, Rounds_WrongLength(id, verdicts.length, seats)
        );
        _requireVerdict(round, attestation);
        address[] memory members = _membersOf(id, seats);
        _requireOpens(_common[id], _commonOf(_sealed(id, members, attestation, secrets, verdicts)));
        bytes32 vote = Outcomes.voteOf(attestation);
        if (round.revealed == 0) {
            _common[id] = vote;
            round.revealed = uint8(seats);
            emit VerdictsRevealed(id, attestation, verdicts);
            return;
        }
        for (uint256 seat; seat < seats; ++seat) {
            if (_votes[id][seat] != 0) continue;
            _reveal(id, seat, vote);
            ContentId calldata content = verdicts[verdicts.length == 1 ? 0 : seat];
            emit VerdictRevealed(id, members[seat], uint8(seat), attestation, content);
        }
    }

    function convict(uint64 id, bytes32 vote, bool guilty) external returns (uint256 slashed) {
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
            if (_voteAt(id, i) != vote) continue;
            members[signers] = _memberAt(id, i);
            penalties[signers++] = guilty ? fraudPenalty : absencePenalty;
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

        (uint32[] memory members, uint256[] memory penalties, uint32[] memory agreeing) =
            _weigh(id, round.seats, finalVote);
        coherent = stake.ownersOf(agreeing);
        slashed = _close(members, penalties, members.length, round.jury);
    }

    function get(uint64 id) external view returns (Round memory) {
        return _rounds[id];
    }

    function seatOf(uint64 id, uint8 seat) external view returns (Seat memory found) {
        if (seat >= _rounds[id].seats) return found;
        found.verifier = stake.ownerOf(_memberAt(id, seat));
        found.vote = _voteAt(id, seat);
        found.state = _stateOf(found.vote);
    }

    function leaderOf(uint64 id) public view returns (bytes32 vote, uint256 votes) {
        uint256 seats = _rounds[id].seats;
        bytes32 common = _common[id];
        if (common & REVEALED != 0) return (common, seats);
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

    function resultOf(uint64 id)
        external
        view
        returns (Phase phase, bytes32 vote, uint256 votes, uint256 revealed, uint256 seats)
    {
        phase = phaseOf(id);
        (vote, votes) = leaderOf(id);
        (revealed, seats) = (_rounds[id].revealed, _rounds[id].seats);
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

    function signedVoteOf(uint64 id, bytes32 commitment) external view returns (bytes32) {
        Round storage round = _rounds[id];
        return _signedVoteOf(
            id, round.subject, commitment & ~REVEALED, uint256(round.drawnAt) + commitWindow
        );
    }

    function sealedSalt(bytes32 secret, ContentId calldata verdicts) public pure returns (bytes32) {
        return keccak256(abi.encode(secret, verdicts));
    }

    function voteOf(Attestation calldata attestation) external pure returns (bytes32) {
        return Outcomes.voteOf(attestation);
    }

    function commitmentOf(uint64 id, address verifier, Attestation calldata attestation, bytes32 salt)
        public
        view
        returns (bytes32)
    {
        return _commitmentOf(id, _rounds[id].subject, verifier, attestation, salt);
    }

    function _commitmentOf(
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

    /// @return members those whose seats are still open
    /// @return penalties what each of them loses
    /// @return agreeing those of them whose vote is the final one
    function _weigh(uint64 id, uint256 seats, bytes32 finalVote)
        private
        view
        returns (uint32[] memory members, uint256[] memory penalties, uint32[] memory agreeing)
    {
        uint32[] memory leaves = _leavesOf(id, seats);
        penalties = new uint256[](seats);
        // What is usual: one vote of all, and it stands.
        if (finalVote != 0 && _common[id] == finalVote && _convicted[id] == 0) return (leaves, penalties, leaves);
        members = new uint32[](seats);
        agreeing = new uint32[](seats);
        bytes32[] memory votes = _votesOf(id, seats);
        bytes32 convicted = _convicted[id];
        uint256 open_;
        uint256 same;
        for (uint256 i; i < seats; ++i) {
            bytes32 vote = votes[i];
            if (convicted != 0 && vote == convicted) continue;
            members[open_] = leaves[i];
            if (vote == 0) penalties[open_] = absencePenalty;
            else if (vote & REVEALED == 0) penalties[open_] = latePenalty;
            else if (vote == finalVote) agreeing[same++] = leaves[i];
            else penalties[open_] = _incoherence(vote, finalVote);
            ++open_;
        }
        assembly ("memory-safe") {
            mstore(members, open_)
            mstore(penalties, open_)
            mstore(agreeing, same)
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
            if (_voteAt(id, i) == vote) ++number;
        }
    }

    /// Changes a seat's vote from committed to revealed.
    function _reveal(uint64 id, uint256 seat, bytes32 vote) private {
        _votes[id][seat] = vote;
        ++_rounds[id].revealed;
    }

    /// A seat's commitment or vote; where a relay brought all commitments, their common hash instead of the commitment.
    function _voteAt(uint64 id, uint256 seat) private view returns (bytes32) {
        bytes32 common = _common[id];
        if (common & REVEALED != 0) return common;
        bytes32 vote = _votes[id][seat];
        return vote == 0 ? common : vote;
    }

    /// The same of all seats.
    function _votesOf(uint64 id, uint256 seats) private view returns (bytes32[] memory votes) {
        votes = new bytes32[](seats);
        bytes32 common = _common[id];
        bool same = common & REVEALED != 0;
        for (uint256 i; i < seats; ++i) {
            bytes32 vote = same ? common : _votes[id][i];
            votes[i] = vote == 0 ? common : vote;
        }
    }

    function _stateOf(bytes32 vote) private pure returns (SeatState) {
        if (vote == 0) return SeatState.Drawn;
        return vote & REVEALED == 0 ? SeatState.Committed : SeatState.Revealed;
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

    /// @return now_ whether the round is in the phase; false where that is over
    function _whileIn(uint64 id, Phase expected) private view returns (bool now_) {
        Phase phase = phaseOf(id);
        require(phase >= expected, Rounds_WrongPhase(id, phase));
        return phase == expected;
    }

    function _requireVerdict(Round storage round, Attestation calldata attestation) private view {
        uint256 sum = uint256(attestation.units) + attestation.faults;
        uint32 maxUnits = Outcomes.wholeBatch(attestation.verdictRoot) ? 0 : round.maxUnits;
        require(sum <= maxUnits, Rounds_SumsTooLarge(sum, maxUnits));
        require(
            round.jury || attestation.verdictRoot != Outcomes.SOUND,
            Rounds_NotAVerdict(attestation.verdictRoot)
        );
    }

    /// @return members of the round; the commitments that are not zero are signed by theirs
    function _requireSigned(
        uint64 id,
        Round storage round,
        SignedCommitment[] calldata votes,
        bytes32[] memory commitments
    ) private view returns (address[] memory members) {
        members = _membersOf(id, commitments.length);
        bytes32 subject = round.subject;
        uint256 until = uint256(round.drawnAt) + commitWindow;
        for (uint256 seat; seat < commitments.length; ++seat) {
            if (commitments[seat] == 0) continue;
            bytes32 digest = _signedVoteOf(id, subject, commitments[seat], until);
            (address signer,,) = ECDSA.tryRecover(digest, votes[seat].r, votes[seat].vs);
            require(signer == members[seat], Rounds_BadSignature(id, uint8(seat), members[seat], signer));
        }
    }

    function _signedVoteOf(uint64 id, bytes32 subject, bytes32 commitment, uint256 until)
        private
        view
        returns (bytes32)
    {
        return _hashTypedDataV4(keccak256(abi.encode(VOTE_TYPE, id, subject, commitment, until)));
    }

    /// The commitments that these secrets open, as they are kept.
    function _sealed(
        uint64 id,
        address[] memory members,
        Attestation calldata attestation,
        bytes32[] calldata secrets,
        ContentId[] calldata verdicts
    ) private view returns (bytes32[] memory commitments) {
        commitments = new bytes32[](members.length);
        bytes32 subject = _rounds[id].subject;
        for (uint256 seat; seat < members.length; ++seat) {
            bytes32 salt = sealedSalt(secrets[seat], verdicts[verdicts.length == 1 ? 0 : seat]);
            commitments[seat] = _commitmentOf(id, subject, members[seat], attestation, salt) & ~REVEALED;
        }
    }

    function _commonOf(bytes32[] memory commitments) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(commitments)) & ~REVEALED;
    }

    function _requireOpens(bytes32 expected, bytes32 computed) private pure {
        computed &= ~REVEALED;
        require(expected == computed, Rounds_CommitmentMismatch(expected, computed));
    }

    function _requireSeat(uint64 id, uint8 seat, SeatState expected) private view {
        require(
            seat < _rounds[id].seats && stake.ownerOf(_memberAt(id, seat)) == msg.sender,
            Rounds_NotYourSeat(id, seat, msg.sender)
        );
        SeatState state = _stateOf(_voteAt(id, seat));
        require(state == expected, Rounds_WrongSeatState(id, seat, state));
    }
}
