// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Attestation, ContentId} from "../libraries/Types.sol";

/// One drawn committee's work on one subject: draw, commit, reveal. Knows nothing of batches or money.
///
/// Phases (computed by `phaseOf`, never stored):
/// None -> AwaitingRandomness -> Drawable -> Committing -> Revealing -> Closed
/// A draw whose randomness was missed is scheduled again by `draw`. A round that was not drawn within the draw timeout
/// is Stalled unless its draw succeeds after all; once it is judged without a draw it is Closed.
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
        /// the commitment, and once revealed keccak256(abi.encode(verdictRoot, units, faults))
        bytes32 vote;
    }

    struct Round {
        bytes32 subject;
        uint64 drawPoint;
        uint40 openedAt;
        uint40 drawnAt;
        uint40 allCommittedAt;
        uint32 maxUnits;
        uint8 size;
        uint8 seats;
        uint8 committed;
        uint8 revealed;
        bool judged;
    }

    event RoundOpened(uint64 indexed round, bytes32 indexed subject, uint8 size, uint64 drawPoint);
    event DrawRescheduled(uint64 indexed round, uint64 drawPoint);
    event RoundDrawn(uint64 indexed round, bytes32 randomness, address[] members);
    event VerdictCommitted(uint64 indexed round, address indexed verifier, uint8 seat, bytes32 commitment);
    event VerdictRevealed(
        uint64 indexed round, address indexed verifier, uint8 seat, Attestation attestation, ContentId verdicts
    );

    error Rounds_NotMarket(address caller);
    error Rounds_WrongPhase(uint64 round, Phase phase);
    error Rounds_NotYourSeat(uint64 round, uint8 seat, address verifier);
    error Rounds_WrongSeatState(uint64 round, uint8 seat, SeatState state);
    error Rounds_ZeroCommitment();
    error Rounds_CommitmentMismatch(bytes32 expected, bytes32 computed);
    error Rounds_SumsTooLarge(uint256 sum, uint32 maxUnits);
    error Rounds_AlreadyJudged(uint64 round);

    /// Opens a round on `subject`. Only the market.
    function open(bytes32 subject, uint8 size, uint32 maxUnits) external returns (uint64 round);

    /// Draws the committee, or schedules the draw again where its randomness was missed. Anybody may call it.
    ///
    /// Requirements:
    /// - The round must wait for its draw and its randomness be known or missed (Rounds_WrongPhase).
    /// - Enough verifiers must have a free seat (VerifierStake_NotEnoughVerifiers).
    function draw(uint64 round) external;

    /// A member's commitment: keccak256(abi.encode(chain id, this contract, round, subject, verifier, verdict root,
    /// units, faults, salt)).
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
    /// - The opening must match (Rounds_CommitmentMismatch); the sums must fit the batch (Rounds_SumsTooLarge).
    function revealVerdict(
        uint64 round,
        uint8 seat,
        Attestation calldata attestation,
        bytes32 salt,
        ContentId calldata verdicts
    ) external;

    /// Closes all seats of a round against the final vote (zero: none, the subject is void). Absent members lose the
    /// absence penalty, incoherent ones the incoherence penalty; saying "unavailable" of content that others could read
    /// costs as much as absence, and having read content that most could not costs nothing. Only the market.
    ///
    /// Requirements:
    /// - The caller must be the market (Rounds_NotMarket); a round is judged once (Rounds_AlreadyJudged).
    /// @return coherent the members whose vote is the final one
    /// @return slashed the sum of penalties, shifted to `beneficiary`
    function judge(uint64 round, bytes32 finalVote, address beneficiary)
        external
        returns (address[] memory coherent, uint256 slashed);

    function get(uint64 round) external view returns (Round memory);

    function seatOf(uint64 round, uint8 seat) external view returns (Seat memory);

    function phaseOf(uint64 round) external view returns (Phase);

    /// @return vote the vote with most seats among those revealed (the first of equals), zero where none
    /// @return votes its number of seats
    function leaderOf(uint64 round) external view returns (bytes32 vote, uint256 votes);

    /// @return the hash under which an attestation is counted
    function voteOf(Attestation calldata attestation) external pure returns (bytes32);

    /// @return the commitment the member would have to make
    function commitmentOf(uint64 round, address verifier, Attestation calldata attestation, bytes32 salt)
        external
        view
        returns (bytes32);

    function count() external view returns (uint64);
}
