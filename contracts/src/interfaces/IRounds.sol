// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Attestation, ContentId} from "../libraries/Types.sol";

/// One drawn committee's work on one subject: draw, commit, reveal. Knows nothing of batches, disputes or money: the
/// market opens rounds on batches, the court opens rounds (juries) on single traces.
///
/// Phases (computed by `phaseOf`, never stored):
/// None -> AwaitingRandomness -> Drawable -> Committing -> Revealing -> Closed
/// A draw whose randomness was missed, or that found too few verifiers, is scheduled again with a later point. A round
/// that was not drawn within the draw timeout is Stalled for good; once it is judged it is Closed.
///
/// Draws are made in one order, that of their points. From the moment a draw's randomness can be known until the draw is
/// made, nobody's stake and seats change: whatever would change them makes the due draws first. So no one can choose a
/// layout of the lot to fit a value that is already known.
interface IRounds {
    enum Phase {
        None,
        AwaitingRandomness,
        Drawable,
        Stalled,
        Committing,
        Revealing,
        Closed
    }

    enum SeatState {
        None,
        Drawn,
        Committed,
        Revealed
    }

    struct Seat {
        address verifier;
        SeatState state;
        /// the commitment with its last bit cleared (where a relay brought all of them: their common hash), and once
        /// revealed the vote (`voteOf`)
        bytes32 vote;
    }

    /// A member's commitment with its EIP-712 signature in the short form of EIP-2098.
    struct SignedCommitment {
        /// zero: none from this seat
        bytes32 commitment;
        bytes32 r;
        bytes32 vs;
    }

    struct Round {
        bytes32 subject;
        uint64 drawPoint;
        uint32 openedAt;
        uint32 drawnAt;
        uint32 allCommittedAt;
        uint32 maxUnits;
        uint8 size;
        uint8 seats;
        uint8 committed;
        uint8 revealed;
        bool judged;
        /// opened by the court
        bool jury;
        /// nobody who sat in `previous`, or in what came before it, may sit
        bool fresh;
        /// the round before this one in the same case, zero for the first
        uint64 previous;
    }

    event RoundOpened(uint64 indexed round, bytes32 indexed subject, uint8 size, uint64 drawPoint);
    event DrawRescheduled(uint64 indexed round, uint64 drawPoint);
    event RoundDrawn(uint64 indexed round, bytes32 randomness, address[] members);
    event VerdictCommitted(uint64 indexed round, address indexed verifier, uint8 seat, bytes32 commitment);
    event VerdictRevealed(
        uint64 indexed round, address indexed verifier, uint8 seat, Attestation attestation, ContentId verdicts
    );
    /// All seats' commitments at once, in order.
    event VerdictsCommitted(uint64 indexed round, bytes32[] commitments);
    /// The same vote of all seats. `verdicts`: one for all, or one for each seat.
    event VerdictsRevealed(uint64 indexed round, Attestation attestation, ContentId[] verdicts);
    event SignersConvicted(uint64 indexed round, bytes32 vote, uint256 slashed);

    error Rounds_NotOpener(address caller);
    error Rounds_NotAuthorized(address caller);
    error Rounds_WrongPhase(uint64 round, Phase phase);
    error Rounds_NotYourSeat(uint64 round, uint8 seat, address verifier);
    error Rounds_WrongSeatState(uint64 round, uint8 seat, SeatState state);
    error Rounds_ZeroCommitment();
    error Rounds_CommitmentMismatch(bytes32 expected, bytes32 computed);
    error Rounds_SumsTooLarge(uint256 sum, uint32 maxUnits);
    error Rounds_NotAVerdict(bytes32 verdictRoot);
    error Rounds_AlreadyJudged(uint64 round);
    error Rounds_WrongLength(uint64 round, uint256 given, uint256 seats);
    error Rounds_BadSignature(uint64 round, uint8 seat, address verifier, address signer);
    error Rounds_DrawDue(uint64 round);

    /// Opens a round on `subject`. Only the market and the court.
    ///
    /// Requirements:
    /// - The caller must be the market or the court (Rounds_NotOpener).
    function open(bytes32 subject, uint8 size, uint32 maxUnits, uint64 previous, bool fresh)
        external
        returns (uint64 round);

    /// Makes every due draw up to that of `round`, in order. A draw whose randomness was missed, or that finds fewer
    /// verifiers with a free seat than it needs, is scheduled again instead. Anybody may call it.
    ///
    /// Requirements:
    /// - The round must be Drawable (Rounds_WrongPhase).
    function draw(uint64 round) external;

    /// Makes up to `most` due draws, in order, and leaves out rounds that stalled. Anybody may call it.
    /// @return done how many were made, scheduled again or left out
    function drawDue(uint256 most) external returns (uint256 done);

    /// Makes the due draws before stake or seats change. Anybody may call it.
    ///
    /// Requirements:
    /// - No more than 16 draws may be due, and none of them wait for a value that is public but not on chain
    ///   (Rounds_DrawDue): deliver it, or call `drawDue`, first.
    function settleDraws() external;

    /// @return the round whose draw is next, zero where none is open
    function nextDraw() external view returns (uint64);

    /// A member's commitment: keccak256(abi.encode(chain id, this contract, round, subject, verifier, verdict root,
    /// units, faults, salt)). Its last bit does not count.
    ///
    /// Requirements:
    /// - The round must be Committing (Rounds_WrongPhase).
    /// - The seat must be the caller's (Rounds_NotYourSeat) and not have committed (Rounds_WrongSeatState).
    /// - The commitment must not be zero (Rounds_ZeroCommitment).
    function commitVerdict(uint64 round, uint8 seat, bytes32 commitment) external;

    /// Opens a commitment. `verdicts` says where the verdict file can be fetched; it is not voted on.
    ///
    /// Requirements:
    /// - The round must be Revealing (Rounds_WrongPhase).
    /// - The seat must be the caller's (Rounds_NotYourSeat) and have committed (Rounds_WrongSeatState).
    /// - The opening must match (Rounds_CommitmentMismatch); the sums must fit the subject (Rounds_SumsTooLarge).
    /// - Only a juror may answer that a disputed outcome is unfounded (Rounds_NotAVerdict).
    function revealVerdict(
        uint64 round,
        uint8 seat,
        Attestation calldata attestation,
        bytes32 salt,
        ContentId calldata verdicts
    ) external;

    /// Carries members' signed commitments, one place for each seat in order. Anybody may call it: a relay pays for all.
    /// A member signs `signedVoteOf(round, commitment)`; the signature is good until the commit window ends. A seat that has
    /// committed is left as it is, and a round whose commits are over too: a member that is quicker spoils nothing. Where
    /// all seats come in one call, one slot holds the hash of their commitments.
    ///
    /// Requirements:
    /// - The round must be drawn (Rounds_WrongPhase); there must be a place for each seat (Rounds_WrongLength).
    /// - What is taken must be signed by the seat's member (Rounds_BadSignature). A contract can't sign: it votes itself.
    /// @return taken how many commitments were new
    function commitVerdicts(uint64 round, SignedCommitment[] calldata votes) external returns (uint256 taken);

    /// Opens one seat's commitment, for anybody that has what opens it. The member gives its salt. For somebody else the salt
    /// must be `sealedSalt(secret, verdicts)`: it gives `secret` for `salt` and can't change where the verdicts are. A seat
    /// that was revealed is left as it is, and a closed round too.
    /// `commitments`: all seats' commitments where one call brought them, otherwise nothing.
    ///
    /// Requirements:
    /// - The round must be Revealing or Closed (Rounds_WrongPhase).
    /// - The seat must exist (Rounds_NotYourSeat) and have committed (Rounds_WrongSeatState).
    /// - The commitments must be those that were brought (Rounds_WrongLength), and the opening match
    ///   (Rounds_CommitmentMismatch).
    /// - As for `revealVerdict`: Rounds_SumsTooLarge, Rounds_NotAVerdict.
    function revealFor(
        uint64 round,
        uint8 seat,
        Attestation calldata attestation,
        bytes32 salt,
        ContentId calldata verdicts,
        bytes32[] calldata commitments
    ) external;

    /// Opens all seats of a round whose commitments one call brought, where all voted the same: one slot holds the vote.
    /// Anybody may call it, with the secrets in the order of seats and one place of verdicts for all or for each. Seats that
    /// were revealed are left as they are, and a closed round too.
    ///
    /// Requirements:
    /// - The round must be Revealing or Closed (Rounds_WrongPhase); there must be a secret for each seat and as many places
    ///   or one (Rounds_WrongLength).
    /// - They must open what was brought (Rounds_CommitmentMismatch).
    /// - As for `revealVerdict`: Rounds_SumsTooLarge, Rounds_NotAVerdict.
    function revealVerdicts(
        uint64 round,
        Attestation calldata attestation,
        bytes32[] calldata secrets,
        ContentId[] calldata verdicts
    ) external;

    /// Closes the seat of every member that revealed `vote`, and takes its fraud penalty, or where it is not `guilty` (it
    /// signed for content that a jury could not have) the absence penalty. Only the market.
    ///
    /// Requirements:
    /// - The caller must be the market (Rounds_NotAuthorized); the round must not be judged (Rounds_AlreadyJudged).
    /// @return slashed what was taken, shifted to the court
    function convict(uint64 round, bytes32 vote, bool guilty) external returns (uint256 slashed);

    /// Closes all seats of a round that are still open against the final vote (zero: there is none). Members that did not
    /// commit lose the absence penalty, those that did not reveal the lateness penalty, incoherent ones the incoherence
    /// penalty; saying "unavailable" of content that others could read costs as much as absence, and having read content
    /// that most could not costs nothing. Penalties go to the court. Only whoever opened the round.
    ///
    /// Requirements:
    /// - The caller must have opened the round (Rounds_NotAuthorized); a round is judged once (Rounds_AlreadyJudged).
    /// @return coherent the members whose vote is the final one
    /// @return slashed the sum of penalties
    function judge(uint64 round, bytes32 finalVote)
        external
        returns (address[] memory coherent, uint256 slashed);

    function get(uint64 round) external view returns (Round memory);

    function seatOf(uint64 round, uint8 seat) external view returns (Seat memory);

    function phaseOf(uint64 round) external view returns (Phase);

    /// @return vote the vote with most seats among those revealed (the first of equals), zero where none
    /// @return votes its number of seats
    function leaderOf(uint64 round) external view returns (bytes32 vote, uint256 votes);

    /// @return phase as of `phaseOf`
    /// @return vote as of `leaderOf`
    /// @return votes as of `leaderOf`
    /// @return revealed seats that revealed
    /// @return seats that were drawn
    function resultOf(uint64 round)
        external
        view
        returns (Phase phase, bytes32 vote, uint256 votes, uint256 revealed, uint256 seats);

    /// @return number of members that revealed `vote`
    function votesFor(uint64 round, bytes32 vote) external view returns (uint256 number);

    /// @return when the reveals of a drawn round end if no member is early
    function endsAt(uint64 round) external view returns (uint256);

    /// @return seats of the round whose members were not convicted
    function payableSeats(uint64 round) external view returns (uint256);

    /// @return the hash under which an attestation is counted; its last bit is set
    function voteOf(Attestation calldata attestation) external pure returns (bytes32);

    /// @return the commitment the member would have to make
    function commitmentOf(uint64 round, address verifier, Attestation calldata attestation, bytes32 salt)
        external
        view
        returns (bytes32);

    /// @return what a member signs for a relay: the EIP-712 digest of Vote(uint64 round,bytes32 subject,bytes32
    /// commitment,uint64 until), `until` being when the round's commits end and the commitment's last bit clear
    function signedVoteOf(uint64 round, bytes32 commitment) external view returns (bytes32);

    /// @return the salt of a commitment that somebody else may open: keccak256(abi.encode(secret, digest, codec)). Who
    /// does can't name another verdict file.
    function sealedSalt(bytes32 secret, ContentId calldata verdicts) external pure returns (bytes32);

    function count() external view returns (uint64);
}
