// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRounds} from "../../contracts/src/interfaces/IRounds.sol";
import {Attestation, ContentId} from "../../contracts/src/libraries/Types.sol";
import {Scenario} from "./support/Scenario.sol";

/// commitVerdicts, by anybody
/// ├── before the draw                          Rounds_WrongPhase
/// ├── after the commits                        nothing
/// ├── not a place for each seat                Rounds_WrongLength
/// ├── another's signature, or one for another
/// │   commitment, round, subject, end of the
/// │   window, chain or contract                Rounds_BadSignature
/// ├── seats that committed, and empty places   left as they are
/// └── all seats at once: one hash of all
/// revealFor, by anybody
/// ├── before the reveals                       Rounds_WrongPhase
/// ├── after them, and revealed seats           nothing
/// ├── no such seat                             Rounds_NotYourSeat
/// ├── not committed                            Rounds_WrongSeatState
/// ├── other commitments than were brought      Rounds_WrongLength, Rounds_CommitmentMismatch
/// ├── another vote, secret or verdict file     Rounds_CommitmentMismatch
/// └── as for revealVerdict                     Rounds_SumsTooLarge, Rounds_NotAVerdict
/// revealVerdicts, by anybody: the same for all seats at once
contract CarriedTest is Scenario {
    bytes32 private constant SUBJECT = keccak256("subject");
    bytes32 private constant LAST = bytes32(uint256(1));
    uint32 private constant UNITS = 12;
    uint8 private constant SEATS = 3;
    uint64 private round;
    Attestation private truth = Attestation(keccak256("truth"), 5, 1);
    bytes32[] private none;

    function setUp() external {
        _begin();
        _verifiers(5, 2 * SEAT);
        round = _open();
        _draw(round);
    }

    function testAllAtOnce() external {
        IRounds.SignedCommitment[] memory votes = _all(truth);
        bytes32[] memory commitments = _listed(votes);
        vm.expectEmit(address(rounds));
        emit IRounds.VerdictsCommitted(round, commitments);
        vm.prank(stranger);
        vm.assertEq(rounds.commitVerdicts(round, votes), SEATS, "all");
        _phase(IRounds.Phase.Revealing);
        bytes32 common = keccak256(abi.encodePacked(commitments)) & ~LAST;
        for (uint8 seat; seat < SEATS; ++seat) {
            vm.assertEq(rounds.seatOf(round, seat).vote, common, "their hash");
            _state(seat, IRounds.SeatState.Committed);
        }
        (, uint256 leading) = rounds.leaderOf(round);
        vm.assertEq(leading, 0, "nobody revealed");

        ContentId[] memory places = new ContentId[](1);
        places[0] = _place();
        vm.expectEmit(address(rounds));
        emit IRounds.VerdictsRevealed(round, truth, places);
        vm.prank(stranger);
        rounds.revealVerdicts(round, truth, _secrets(), places);
        _phase(IRounds.Phase.Closed);
        for (uint8 seat; seat < SEATS; ++seat) {
            vm.assertEq(rounds.seatOf(round, seat).vote, rounds.voteOf(truth), "the vote");
            _state(seat, IRounds.SeatState.Revealed);
        }
        _leads(truth, SEATS);
        vm.assertEq(rounds.votesFor(round, rounds.voteOf(truth)), SEATS, "all of them");
        vm.assertEq(rounds.votesFor(round, common), 0, "no commitment is a vote");
        address[] memory members = _members(round);
        bytes32 vote_ = rounds.voteOf(truth);
        vm.prank(address(market));
        (address[] memory coherent, uint256 slashed) = rounds.judge(round, vote_);
        vm.assertEq(coherent, members, "all of them");
        vm.assertEq(slashed, 0, "nothing");
        vm.assertEq(stake.totalWeight(), 10, "all seats are closed");
    }

    function testConvictedTogether() external {
        _carryAll(truth);
        _revealAll(truth);
        bytes32 vote = rounds.voteOf(truth);
        vm.startPrank(address(market));
        vm.assertEq(rounds.convict(round, vote, true), SEATS * _part(_parameters().fraudBps), "every signer");
        vm.assertEq(rounds.payableSeats(round), 0, "nobody is paid");
        (address[] memory coherent, uint256 slashed) = rounds.judge(round, vote);
        vm.assertEq(coherent.length + slashed, 0, "nobody is left");
    }

    function testJudgedAgainstACommonVote() external {
        _carryAll(truth);
        _revealAll(truth);
        vm.prank(address(market));
        (address[] memory coherent, uint256 slashed) = rounds.judge(round, keccak256("another") | LAST);
        vm.assertEq(coherent.length, 0, "nobody agreed");
        vm.assertEq(slashed, SEATS * _part(_parameters().incoherenceBps), "all were wrong");
    }

    function testSilentAfterACommonCommit() external {
        _carryAll(truth);
        _skip(_parameters().revealWindow + 1);
        _phase(IRounds.Phase.Closed);
        vm.prank(address(market));
        (, uint256 slashed) = rounds.judge(round, 0);
        vm.assertEq(slashed, SEATS * _part(_parameters().lateBps), "committed, not revealed");
    }

    function testWrongSignatures() external {
        IRounds.SignedCommitment[] memory votes = _all(truth);
        address[] memory members = _members(round);
        (votes[1].r, votes[1].vs) = _sign(members[2], rounds.signedVoteOf(round, votes[1].commitment));
        _refused(votes, 1, members[2]);
        (votes[1].r, votes[1].vs) = (bytes32(0), bytes32(0));
        _refused(votes, 1, address(0));
        // The seats' order counts: a relay can't give one member's commitment to another.
        votes = _all(truth);
        (votes[0], votes[1]) = (votes[1], votes[0]);
        _refused(votes, 0, members[1]);
        // Signed for another commitment.
        votes = _all(truth);
        bytes32 signed = votes[2].commitment;
        votes[2].commitment ^= bytes32(uint256(2));
        address found = ecrecover(
            rounds.signedVoteOf(round, votes[2].commitment),
            uint256(votes[2].vs) >> 255 == 1 ? 28 : 27,
            votes[2].r,
            votes[2].vs & ~bytes32(uint256(1) << 255)
        );
        _refused(votes, 2, found);
        votes[2].commitment = signed | LAST;
        vm.assertEq(rounds.commitVerdicts(round, votes), SEATS, "the last bit does not count");
    }

    /// What is signed is this digest and no other: each part of it matters.
    function testReplay() external {
        IRounds.SignedCommitment[] memory votes = _all(truth);
        uint64 until = uint64(rounds.get(round).drawnAt + _parameters().commitWindow);
        bytes32 right = _digest(block.chainid, address(rounds), round, SUBJECT, votes[0].commitment, until);
        vm.assertEq(rounds.signedVoteOf(round, votes[0].commitment), right, "EIP-712");
        bytes32[6] memory wrong = [
            _digest(block.chainid + 1, address(rounds), round, SUBJECT, votes[0].commitment, until),
            _digest(block.chainid, address(market), round, SUBJECT, votes[0].commitment, until),
            _digest(block.chainid, address(rounds), round + 1, SUBJECT, votes[0].commitment, until),
            _digest(block.chainid, address(rounds), round, keccak256("other"), votes[0].commitment, until),
            _digest(block.chainid, address(rounds), round, SUBJECT, votes[1].commitment, until),
            _digest(block.chainid, address(rounds), round, SUBJECT, votes[0].commitment, until + 1)
        ];
        address member = rounds.seatOf(round, 0).verifier;
        for (uint256 i; i < wrong.length; ++i) {
            (votes[0].r, votes[0].vs) = _sign(member, wrong[i]);
            _fails(votes);
        }
        (votes[0].r, votes[0].vs) = _sign(member, right);
        // On another chain the contract itself asks for another signature.
        vm.chainId(block.chainid + 7);
        _fails(votes);
        vm.chainId(block.chainid - 7);
    }

    function testReplayInAnotherRound() external {
        IRounds.SignedCommitment[] memory votes = _all(truth);
        uint64 second = _open();
        _draw(second);
        IRounds.SignedCommitment[] memory others = new IRounds.SignedCommitment[](SEATS);
        for (uint8 seat; seat < SEATS; ++seat) {
            others[seat] = _signedVote(second, seat, truth);
            for (uint8 other; other < SEATS; ++other) {
                if (rounds.seatOf(second, seat).verifier != rounds.seatOf(round, other).verifier) continue;
                IRounds.SignedCommitment memory kept = others[seat];
                others[seat] = votes[other];
                try rounds.commitVerdicts(second, others) returns (uint256) {
                    vm.assertTrue(false, "a signature of another round was taken");
                } catch {}
                others[seat] = kept;
            }
        }
        vm.assertEq(rounds.commitVerdicts(second, others), SEATS, "its own");
    }

    function testTooSoonAndTooLate() external {
        IRounds.SignedCommitment[] memory votes = _all(truth);
        uint64 waiting = _open();
        vm.expectRevert(
            abi.encodeWithSelector(
                IRounds.Rounds_WrongPhase.selector, waiting, IRounds.Phase.AwaitingRandomness
            )
        );
        rounds.commitVerdicts(waiting, votes);
        vm.expectRevert(
            abi.encodeWithSelector(IRounds.Rounds_WrongPhase.selector, round, IRounds.Phase.Committing)
        );
        rounds.revealFor(round, 0, truth, _salt(round, 0), _place(), none);
        _skip(_parameters().commitWindow + 1);
        vm.assertEq(rounds.commitVerdicts(round, votes), 0, "signatures end with the window");
        _state(0, IRounds.SeatState.Drawn);
    }

    function testWrongLength() external {
        IRounds.SignedCommitment[] memory votes = new IRounds.SignedCommitment[](SEATS - 1);
        vm.expectRevert(abi.encodeWithSelector(IRounds.Rounds_WrongLength.selector, round, SEATS - 1, SEATS));
        rounds.commitVerdicts(round, votes);
        _carryAll(truth);
        ContentId[] memory places = new ContentId[](2);
        bytes32[] memory secrets = _secrets();
        vm.expectRevert(abi.encodeWithSelector(IRounds.Rounds_WrongLength.selector, round, 2, SEATS));
        rounds.revealVerdicts(round, truth, secrets, places);
        vm.expectRevert(abi.encodeWithSelector(IRounds.Rounds_WrongLength.selector, round, 2, SEATS));
        rounds.revealVerdicts(round, truth, new bytes32[](2), places);
        vm.expectRevert(abi.encodeWithSelector(IRounds.Rounds_WrongLength.selector, round, 0, SEATS));
        rounds.revealFor(round, 0, truth, _salt(round, 0), _place(), none);
    }

    /// A member that is quicker than the relay changes nothing for the others.
    function testAQuickerMember() external {
        IRounds.SignedCommitment[] memory votes = _all(truth);
        _commitAlone(1);
        vm.assertEq(rounds.commitVerdicts(round, votes), 2, "the others");
        _phase(IRounds.Phase.Revealing);
        vm.assertEq(rounds.commitVerdicts(round, votes), 0, "again: nothing");
        for (uint8 seat; seat < SEATS; ++seat) {
            vm.assertEq(rounds.seatOf(round, seat).vote, votes[seat].commitment, "each its own");
        }
        rounds.revealFor(round, 0, truth, _salt(round, 0), _place(), none);
        rounds.revealFor(round, 0, truth, _salt(round, 0), _place(), none);
        vm.assertEq(rounds.get(round).revealed, 1, "once");
        _revealAlone(2, none);
        rounds.revealFor(round, 1, truth, _salt(round, 1), _place(), none);
        rounds.revealFor(round, 1, truth, _salt(round, 1), _place(), none);
        _leads(truth, SEATS);
        _phase(IRounds.Phase.Closed);
    }

    /// A relay that leaves a member out costs it nothing: the window is still open.
    function testALeftOutMember() external {
        IRounds.SignedCommitment[] memory votes = _all(truth);
        delete votes[2];
        vm.assertEq(rounds.commitVerdicts(round, votes), 2, "two");
        _phase(IRounds.Phase.Committing);
        _state(2, IRounds.SeatState.Drawn);
        _commitAlone(2);
        _phase(IRounds.Phase.Revealing);
        vm.assertEq(rounds.commitVerdicts(round, new IRounds.SignedCommitment[](SEATS)), 0, "nothing");
    }

    /// A member reveals by itself where a relay brought all commitments, and the relay goes on with the rest.
    function testALeftOutReveal() external {
        bytes32[] memory commitments = _listed(_all(truth));
        _carryAll(truth);
        _revealAlone(1, commitments);
        _state(1, IRounds.SeatState.Revealed);
        _state(0, IRounds.SeatState.Committed);
        _revealAll(truth);
        _leads(truth, SEATS);
        vm.assertEq(rounds.get(round).revealed, SEATS, "each once");
        _phase(IRounds.Phase.Closed);
        _revealAll(truth);
        _revealAlone(0, commitments);
    }

    function testWrongOpenings() external {
        _carryAll(truth);
        bytes32[] memory commitments = _listed(_all(truth));
        bytes32[] memory secrets = _secrets();
        ContentId[] memory places = new ContentId[](1);
        places[0] = _place();
        Attestation memory lie = Attestation(keccak256("lie"), 5, 1);
        _mismatch();
        rounds.revealVerdicts(round, lie, secrets, places);
        _mismatch();
        rounds.revealFor(round, 0, lie, secrets[0], _place(), commitments);
        // Whoever carries a reveal can't say that the verdicts are elsewhere.
        places[0].codec = 0x70;
        _mismatch();
        rounds.revealVerdicts(round, truth, secrets, places);
        _mismatch();
        rounds.revealFor(round, 0, truth, secrets[0], places[0], commitments);
        // Nor open it with what a member shows in its own call.
        bytes32 shown = rounds.sealedSalt(secrets[0], _place());
        _mismatch();
        rounds.revealFor(round, 0, truth, shown, places[0], commitments);
        (secrets[0], secrets[1]) = (secrets[1], secrets[0]);
        places[0] = _place();
        _mismatch();
        rounds.revealVerdicts(round, truth, secrets, places);
        commitments[2] ^= bytes32(uint256(2));
        _mismatch();
        rounds.revealFor(round, 0, truth, _salt(round, 0), _place(), commitments);
        vm.expectRevert(abi.encodeWithSelector(IRounds.Rounds_NotYourSeat.selector, round, SEATS, address(this)));
        rounds.revealFor(round, SEATS, truth, _salt(round, 0), _place(), commitments);
        vm.assertEq(rounds.get(round).revealed, 0, "nothing was opened");
    }

    function testSumsAndOutcomes() external {
        Attestation[2] memory bad =
            [Attestation(keccak256("truth"), UNITS, 1), Attestation(keccak256("tracemarket.outcome.sound"), 0, 0)];
        bytes[2] memory errors = [
            abi.encodeWithSelector(IRounds.Rounds_SumsTooLarge.selector, UNITS + 1, UNITS),
            abi.encodeWithSelector(IRounds.Rounds_NotAVerdict.selector, bad[1].verdictRoot)
        ];
        for (uint256 i; i < 2; ++i) {
            bytes32[] memory commitments = _listed(_all(bad[i]));
            _carryAll(bad[i]);
            bytes32[] memory secrets = _secrets();
            ContentId[] memory places = new ContentId[](1);
            places[0] = _place();
            vm.expectRevert(errors[i]);
            rounds.revealVerdicts(round, bad[i], secrets, places);
            vm.expectRevert(errors[i]);
            rounds.revealFor(round, 0, bad[i], secrets[0], _place(), commitments);
            round = _open();
            _draw(round);
        }
    }

    /// Whoever brings the votes, the round ends as if every member had voted by itself.
    function testFuzz_WhoeverBringsThem(uint256 seed) external {
        Attestation[3] memory say;
        for (uint8 seat; seat < SEATS; ++seat) {
            say[seat] = _dice(seed, "vote", seat) % 3 == 0 ? Attestation(keccak256("lie"), 1, 0) : truth;
        }
        IRounds.SignedCommitment[] memory votes = new IRounds.SignedCommitment[](SEATS);
        uint256 committed;
        for (uint8 seat; seat < SEATS; ++seat) {
            uint256 way = _dice(seed, "commit", seat) % 8;
            if (way == 0) continue;
            ++committed;
            if (way < 6) {
                votes[seat] = _signedVote(round, seat, say[seat]);
                continue;
            }
            bytes32 commitment = _sealedCommitment(round, seat, say[seat]);
            vm.prank(rounds.seatOf(round, seat).verifier);
            rounds.commitVerdict(round, seat, commitment);
            if (way == 7) votes[seat] = _signedVote(round, seat, say[seat]);
        }
        rounds.commitVerdicts(round, votes);
        vm.assertEq(rounds.get(round).committed, committed, "as many as there are");
        if (committed != SEATS) _skip(_parameters().commitWindow + 1);
        bool common = committed == SEATS && _dice(seed, "commit", 0) % 8 < 6 && _dice(seed, "commit", 1) % 8 < 6
            && _dice(seed, "commit", 2) % 8 < 6;
        bytes32[] memory commitments = common ? _listed(votes) : none;
        uint256 revealed;
        uint256 lies;
        for (uint8 seat; seat < SEATS; ++seat) {
            if (_dice(seed, "commit", seat) % 8 == 0) continue;
            uint256 way = _dice(seed, "reveal", seat) % 4;
            if (way == 0) continue;
            ++revealed;
            if (say[seat].units == 1) ++lies;
            if (way == 1) {
                bytes32 salt = rounds.sealedSalt(_salt(round, seat), _place());
                vm.prank(rounds.seatOf(round, seat).verifier);
                rounds.revealFor(round, seat, say[seat], salt, _place(), commitments);
            } else {
                rounds.revealFor(round, seat, say[seat], _salt(round, seat), _place(), commitments);
            }
            vm.assertEq(rounds.seatOf(round, seat).vote, rounds.voteOf(say[seat]), "its vote");
        }
        vm.assertEq(rounds.get(round).revealed, revealed, "as many as there are");
        vm.assertEq(rounds.votesFor(round, rounds.voteOf(truth)), revealed - lies, "for the truth");
        if (common && lies == 0 && say[0].units + say[1].units + say[2].units == 15) {
            _revealAll(truth);
            revealed = SEATS;
        }
        if (revealed != committed) _skip(_parameters().revealWindow + 1);
        uint256 due = (SEATS - committed) * _part(_parameters().absenceBps) + (committed - revealed) * _part(_parameters().lateBps)
            + lies * _part(_parameters().incoherenceBps);
        bytes32 vote_ = rounds.voteOf(truth);
        vm.prank(address(market));
        (address[] memory coherent, uint256 slashed) = rounds.judge(round, vote_);
        vm.assertEq(coherent.length, revealed - lies, "who told the truth");
        vm.assertEq(slashed, due, "penalties");
        vm.assertEq(stake.get(verifiers[0]).openSeats, 0, "closed");
    }

    function _dice(uint256 seed, string memory what, uint256 seat) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, what, seat)));
    }

    function _part(uint256 bps) private pure returns (uint256) {
        return SEAT * bps / 10_000;
    }

    function _open() private returns (uint64) {
        vm.prank(address(market));
        return rounds.open(SUBJECT, SEATS, UNITS, 0, false);
    }

    function _all(Attestation memory vote) private view returns (IRounds.SignedCommitment[] memory votes) {
        votes = new IRounds.SignedCommitment[](SEATS);
        for (uint8 seat; seat < SEATS; ++seat) {
            votes[seat] = _signedVote(round, seat, vote);
        }
    }

    function _listed(IRounds.SignedCommitment[] memory votes) private pure returns (bytes32[] memory commitments) {
        commitments = new bytes32[](votes.length);
        for (uint256 i; i < votes.length; ++i) {
            commitments[i] = votes[i].commitment;
        }
    }

    function _secrets() private view returns (bytes32[] memory secrets) {
        secrets = new bytes32[](SEATS);
        for (uint8 seat; seat < SEATS; ++seat) {
            secrets[seat] = _salt(round, seat);
        }
    }

    function _carryAll(Attestation memory vote) private {
        IRounds.SignedCommitment[] memory votes = _all(vote);
        vm.prank(stranger);
        rounds.commitVerdicts(round, votes);
    }

    function _revealAll(Attestation memory vote) private {
        ContentId[] memory places = new ContentId[](SEATS);
        for (uint256 i; i < SEATS; ++i) {
            places[i] = _place();
        }
        bytes32[] memory secrets = _secrets();
        vm.prank(stranger);
        rounds.revealVerdicts(round, vote, secrets, places);
    }

    function _commitAlone(uint8 seat) private {
        bytes32 commitment = _sealedCommitment(round, seat, truth);
        vm.prank(rounds.seatOf(round, seat).verifier);
        rounds.commitVerdict(round, seat, commitment);
    }

    /// A member opens its own: it shows its salt, and no secret.
    function _revealAlone(uint8 seat, bytes32[] memory commitments) private {
        bytes32 salt = rounds.sealedSalt(_salt(round, seat), _place());
        vm.prank(rounds.seatOf(round, seat).verifier);
        rounds.revealFor(round, seat, truth, salt, _place(), commitments);
    }

    function _refused(IRounds.SignedCommitment[] memory votes, uint8 seat, address signer) private {
        address member = rounds.seatOf(round, seat).verifier;
        vm.expectRevert(
            abi.encodeWithSelector(IRounds.Rounds_BadSignature.selector, round, seat, member, signer)
        );
        rounds.commitVerdicts(round, votes);
    }

    function _fails(IRounds.SignedCommitment[] memory votes) private {
        try rounds.commitVerdicts(round, votes) returns (uint256) {
            vm.assertTrue(false, "a signature of something else was taken");
        } catch (bytes memory reason) {
            vm.assertEq(bytes32(bytes4(reason)), bytes32(IRounds.Rounds_BadSignature.selector), "refused");
        }
    }

    function _mismatch() private {
        vm.expectPartialRevert(IRounds.Rounds_CommitmentMismatch.selector);
    }

    function _digest(
        uint256 chain,
        address contract_,
        uint64 id,
        bytes32 subject,
        bytes32 commitment,
        uint64 until
    ) private pure returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256(
                    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
                ),
                keccak256("tracemarket rounds"),
                keccak256("1"),
                chain,
                contract_
            )
        );
        bytes32 vote = keccak256(
            abi.encode(
                keccak256("Vote(uint64 round,bytes32 subject,bytes32 commitment,uint64 until)"),
                id,
                subject,
                commitment,
                until
            )
        );
        return keccak256(abi.encodePacked("\x19\x01", domain, vote));
    }

    function _phase(IRounds.Phase expected) private view {
        vm.assertEq(uint256(rounds.phaseOf(round)), uint256(expected), "phase");
    }

    function _state(uint8 seat, IRounds.SeatState expected) private view {
        vm.assertEq(uint256(rounds.seatOf(round, seat).state), uint256(expected), "seat");
    }

    function _leads(Attestation memory vote, uint256 votes) private view {
        (bytes32 leader, uint256 number) = rounds.leaderOf(round);
        vm.assertEq(leader, rounds.voteOf(vote), "leader");
        vm.assertEq(number, votes, "votes");
    }
}
