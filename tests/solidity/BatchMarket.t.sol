// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAssignments} from "../../contracts/src/interfaces/IAssignments.sol";
import {IBatchMarket} from "../../contracts/src/interfaces/IBatchMarket.sol";
import {IBountyEscrow} from "../../contracts/src/interfaces/IBountyEscrow.sol";
import {IRounds} from "../../contracts/src/interfaces/IRounds.sol";
import {Attestation, BountyTerms, ContentId} from "../../contracts/src/libraries/Types.sol";
import {Scenario} from "./support/Scenario.sol";

/// commitBatch
/// ├── zero root                                BatchMarket_ZeroRoot
/// ├── codec not raw or dag-pb                  BatchMarket_InvalidCodec
/// ├── no such bounty                           BountyEscrow_UnknownBounty
/// ├── none, too many, or a broken group        BatchMarket_InvalidCount
/// ├── a bounty that pays checkers too little   BatchMarket_FeeTooLow
/// ├── worth more than liars would lose         BatchMarket_BatchTooDear
/// ├── too few verifiers with a free seat       BatchMarket_TooFewVerifiers
/// ├── assignment not open, other seed or task  Assignments_NotOpen, _OtherSeed, _OtherTask
/// ├── after the deadline                       BountyEscrow_DeadlinePassed
/// ├── the worst case is not available          BountyEscrow_InsufficientFunds
/// └── reserve, bond and round 1 of the batch
/// tally, by anybody
/// ├── no such batch, attested, closed          BatchMarket_WrongPhase
/// ├── round not closed                         BatchMarket_RoundNotClosed
/// ├── quorum, but another attestation given    BatchMarket_NotTheLeader
/// ├── quorum: attested
/// ├── too few votes: a round of the same size
/// ├── conflict, and time to narrow it          BatchMarket_NarrowFirst
/// ├── conflict that is being narrowed          BatchMarket_DisputesOpen
/// ├── conflict after that: a round of 2k+1
/// └── after the last round: void
/// voidStalled, by anybody
/// ├── not InRound                              BatchMarket_WrongPhase
/// ├── drawn, or still time                     BatchMarket_RoundNotStalled
/// └── void, and never drawn after that
/// settle, by anybody (money: Settlement.t.sol)
/// └── before its time, again, void, disputed   BatchMarket_WrongPhase
/// beginDispute, beginConflict, endDispute, overturn, attest (in a case: Court.t.sol)
/// ├── not the court                            BatchMarket_NotCourt
/// ├── not Challengeable                        BatchMarket_WrongPhase
/// ├── no conflict, or narrowed before          BatchMarket_NoConflict
/// └── overturned: signers convicted, a fresh committee of the same size, or void
contract BatchMarketTest is Scenario {
    uint64 private bounty;

    function setUp() external {
        _begin();
        _verifiers(8, 2 * SEAT);
        bounty = _bounty(100e6);
    }

    function testCommitBatch() external {
        _enrol(bounty, miner);
        bytes32 seed = assignments.get(bounty, miner).seed;
        uint256 bond = market.bondFor(bounty, 8);
        vm.assertEq(bond, 8 * 10_000, "bond per trace");
        _arm(miner, bond);
        ContentId memory content = ContentId(keccak256("content"), RAW);
        vm.expectEmit(address(market));
        emit IBatchMarket.BatchRoundOpened(1, 1, 3);
        vm.expectEmit(address(market));
        emit IBatchMarket.BatchCommitted(1, bounty, miner, ROOT, 8, 0, bond, 1, content);
        vm.prank(miner);
        vm.assertEq(market.commitBatch(bounty, ROOT, 8, 0, seed, content), 1, "first id");

        IBatchMarket.Batch memory seen = market.get(1);
        vm.assertEq(seen.miner, miner, "miner");
        vm.assertEq(seen.bounty, bounty, "bounty");
        vm.assertEq(seen.count, 8, "count");
        vm.assertEq(seen.root, ROOT, "root");
        vm.assertEq(seen.bond, bond, "bond");
        vm.assertEq(seen.firstTask, 0, "first task");
        vm.assertEq(seen.rounds, 1, "rounds");
        _assertPhase(1, IBatchMarket.Phase.InRound);
        vm.assertEq(escrow.get(bounty).reserved, 8 * (PRICE + FEE), "worst case");
        vm.assertEq(assignments.get(bounty, miner).nextTask, 2, "two groups taken");
        vm.assertEq(rounds.get(1).subject, market.subjectOf(1), "the round's subject");
        vm.assertEq(
            market.subjectOf(1),
            keccak256(abi.encode(block.chainid, address(market), uint64(1), ROOT)),
            "subject's layout (tests/vectors)"
        );
        vm.assertEq(rounds.get(1).maxUnits, 8, "units it may find");
        _checkBooks();

        // The next one takes the next tasks.
        vm.assertEq(_commit(bounty, miner, 4), 2, "second id");
        vm.assertEq(market.get(2).firstTask, 2, "next task");
        _checkBooks();
    }

    /// A fee over bondPerTrace raises the bond: it must cover the fees of a batch that nobody can check.
    function testBondCoversTheFee() external {
        BountyTerms memory terms = _terms();
        terms.feePerTrace = 30_000;
        uint64 dear = _bountyWith(terms, 100e6);
        vm.assertEq(market.bondFor(dear, 8), 8 * 30_000, "fee");
        vm.assertEq(market.get(_commit(dear, miner, 8)).bond, 8 * 30_000, "bond");
    }

    function testCommitErrors() external {
        _enrol(bounty, miner);
        _arm(miner, 1e9);
        ContentId memory content = ContentId(keccak256("content"), RAW);
        bytes32 seed = assignments.get(bounty, miner).seed;
        _commitReverts(abi.encodeWithSelector(IBatchMarket.BatchMarket_ZeroRoot.selector), bounty, 0, 4, 0, seed);
        _commitReverts(
            abi.encodeWithSelector(IBountyEscrow.BountyEscrow_UnknownBounty.selector, 9), 9, ROOT, 4, 0, seed
        );
        uint32[4] memory counts = [uint32(0), 5, 4_100, type(uint32).max];
        for (uint256 i; i < 4; ++i) {
            _commitReverts(
                abi.encodeWithSelector(IBatchMarket.BatchMarket_InvalidCount.selector, counts[i], GROUP, 4_096),
                bounty,
                ROOT,
                counts[i],
                0,
                seed
            );
        }
        _commitReverts(
            abi.encodeWithSelector(IAssignments.Assignments_OtherSeed.selector, ROOT, seed), bounty, ROOT, 4, 0, ROOT
        );
        _commitReverts(
            abi.encodeWithSelector(IAssignments.Assignments_OtherTask.selector, 1, 0), bounty, ROOT, 4, 1, seed
        );
        _commitReverts(
            abi.encodeWithSelector(
                IBountyEscrow.BountyEscrow_InsufficientFunds.selector, bounty, 100e6, 3_772 * uint256(PRICE + FEE)
            ),
            bounty,
            ROOT,
            3_772,
            0,
            seed
        );
        content.codec = 0x12;
        vm.expectRevert(abi.encodeWithSelector(IBatchMarket.BatchMarket_InvalidCodec.selector, 0x12));
        vm.prank(miner);
        market.commitBatch(bounty, ROOT, 4, 0, seed, content);
        content.codec = 0x70;
        vm.expectRevert(
            abi.encodeWithSelector(IAssignments.Assignments_NotOpen.selector, bounty, stranger)
        );
        vm.prank(stranger);
        market.commitBatch(bounty, ROOT, 4, 0, seed, content);
        uint64 deadline = escrow.get(bounty).terms.deadline;
        vm.warp(uint256(deadline) + 1);
        _commitReverts(
            abi.encodeWithSelector(IBountyEscrow.BountyEscrow_DeadlinePassed.selector, deadline, deadline + 1),
            bounty,
            ROOT,
            4,
            0,
            seed
        );
        vm.assertEq(market.count(), 0, "none was made");
        vm.warp(deadline);
        vm.prank(miner);
        market.commitBatch(bounty, ROOT, 4, 0, seed, content);
    }

    function testUnknownBatch() external {
        for (uint64 id; id < 2; ++id) {
            bytes memory unknown = abi.encodeWithSelector(IBatchMarket.BatchMarket_UnknownBatch.selector, id);
            vm.expectRevert(unknown);
            market.get(id);
            vm.expectRevert(unknown);
            market.subjectOf(id);
            _assertPhase(id, IBatchMarket.Phase.None);
            _allRefuse(id, IBatchMarket.Phase.None);
        }
    }

    function testTallyWaitsForTheRound() external {
        uint64 batch = _commit(bounty, miner, 4);
        uint64 round = market.get(batch).round;
        bytes memory notClosed =
            abi.encodeWithSelector(IBatchMarket.BatchMarket_RoundNotClosed.selector, batch, round);
        Attestation memory vote = _verdict(4, 0);
        vm.expectRevert(notClosed);
        market.tally(batch, vote);
        _draw(round);
        vm.expectRevert(notClosed);
        market.tally(batch, vote);
        for (uint8 seat; seat < 3; ++seat) {
            _commitVote(round, seat, vote);
        }
        // Two of three have revealed: a quorum, but the third may still speak.
        _revealVote(round, 0, vote);
        _revealVote(round, 1, vote);
        vm.expectRevert(notClosed);
        market.tally(batch, vote);
        _skip(10 minutes + 1);
        market.tally(batch, vote);
    }

    function testQuorumNeedsItsAttestation() external {
        uint64 batch = _commit(bounty, miner, 4);
        uint64 round = market.get(batch).round;
        _draw(round);
        Attestation[] memory votes = _same(_verdict(3, 1), 3);
        votes[1] = _verdict(4, 0);
        _vote(round, votes);
        bytes32 leader = rounds.voteOf(votes[0]);
        // Whoever calls can't turn the vote: not to the minority's, and not a bit of the majority's.
        Attestation[4] memory others =
            [votes[1], _verdict(3, 0), Attestation(votes[0].verdictRoot, 4, 1), Attestation(0, 0, 0)];
        for (uint256 i; i < 4; ++i) {
            bytes32 given = rounds.voteOf(others[i]);
            vm.expectRevert(
                abi.encodeWithSelector(IBatchMarket.BatchMarket_NotTheLeader.selector, given, leader)
            );
            vm.prank(stranger);
            market.tally(batch, others[i]);
        }
        vm.expectEmit(address(market));
        emit IBatchMarket.BatchAttested(batch, round, votes[0]);
        vm.prank(stranger);
        market.tally(batch, votes[0]);
        vm.assertEq(rounds.voteOf(market.get(batch).attestation), leader, "attestation");
        _assertPhase(batch, IBatchMarket.Phase.Challengeable);
    }

    function testTooFewVotesAskTheSameNumberAgain() external {
        uint64 batch = _commit(bounty, miner, 4);
        Attestation[] memory votes = _same(_verdict(4, 0), 1);
        _draw(market.get(batch).round);
        _vote(1, votes);
        vm.expectEmit(address(market));
        emit IBatchMarket.BatchRoundOpened(batch, 2, 3);
        // The argument means nothing where there is no quorum: whatever a caller gives can't stop or steer it.
        vm.prank(stranger);
        market.tally(batch, _verdict(0, 4));
        vm.assertEq(market.get(batch).round, 2, "second round");
        vm.assertEq(rounds.get(2).size, 3, "of the same size");
        vm.assertEq(rounds.get(2).subject, market.subjectOf(batch), "same subject");
        _assertPhase(batch, IBatchMarket.Phase.InRound);
        // Nobody at all in the second: the same size once more.
        _draw(2);
        _skip(10 minutes + 1);
        market.tally(batch, _verdict(0, 0));
        vm.assertEq(rounds.get(3).size, 3, "of the same size");
        uint64[] memory all = market.roundsOf(batch);
        vm.assertEq(all.length, 3, "rounds");
        vm.assertEq(all[0] + all[1] + all[2], 6, "1, 2, 3");
    }

    function testConflictAsksMore() external {
        uint64 batch = _commit(bounty, miner, 4);
        Attestation[] memory votes = new Attestation[](2);
        (votes[0], votes[1]) = (_verdict(4, 0), _verdict(3, 0));
        _draw(1);
        _vote(1, votes);
        // Until the round's last second and five minutes more, the court may narrow it; whoever calls.
        uint256 until = rounds.get(1).drawnAt + 20 minutes + 5 minutes;
        bytes memory first = abi.encodeWithSelector(IBatchMarket.BatchMarket_NarrowFirst.selector, batch, until);
        vm.expectRevert(first);
        market.tally(batch, votes[0]);
        vm.warp(until);
        vm.expectRevert(first);
        market.tally(batch, votes[0]);
        vm.warp(until + 1);
        market.tally(batch, votes[0]);
        vm.assertEq(rounds.get(2).size, 7, "2k + 1");
        address[] memory members = _draw(2);
        vm.assertEq(members.length, 7, "seven of eight");
        // Three against three against nobody: no quorum of seven.
        votes = _same(_verdict(4, 0), 6);
        (votes[3], votes[4], votes[5]) = (_verdict(3, 0), _verdict(3, 0), _verdict(3, 0));
        _vote(2, votes);
        vm.expectRevert(
            abi.encodeWithSelector(IBatchMarket.BatchMarket_NarrowFirst.selector, batch, rounds.endsAt(2) + 5 minutes)
        );
        market.tally(batch, votes[0]);
        vm.warp(rounds.endsAt(2) + 5 minutes + 1);
        market.tally(batch, votes[0]);
        vm.assertEq(rounds.get(3).size, 15, "2k + 1 again");
    }

    /// A quorum is counted over the seats that were drawn: a committee as large as the lot allows is not stuck.
    function testLargerCommitteeThanThereAreVerifiers() external {
        for (uint256 i = 4; i < 8; ++i) {
            vm.prank(verifiers[i]);
            stake.requestUnstake(2 * SEAT);
        }
        uint64 batch = _commit(bounty, miner, 4);
        Attestation[] memory votes = _same(_verdict(4, 0), 3);
        (votes[1], votes[2]) = (_verdict(3, 0), _verdict(2, 0));
        _draw(1);
        _vote(1, votes);
        vm.warp(rounds.endsAt(1) + 5 minutes + 1);
        market.tally(batch, votes[0]);
        vm.assertEq(rounds.get(2).size, 7, "seven wanted");
        vm.assertEq(_draw(2).length, 4, "four there are");
        _vote(2, _same(_verdict(4, 0), 2));
        _assertRound(2, IRounds.Phase.Closed);
        market.tally(batch, _verdict(4, 0));
        // Two of four are no majority.
        vm.assertEq(market.get(batch).round, 3, "another round");
    }

    function testVoidAfterTheLastRound() external {
        uint64 batch = _commit(bounty, miner, 4);
        for (uint64 round = 1; round <= 3; ++round) {
            _assertPhase(batch, IBatchMarket.Phase.InRound);
            _draw(round);
            _skip(10 minutes + 1);
            if (round == 3) {
                vm.expectEmit(address(market));
                emit IBatchMarket.BatchVoided(batch, 9 * _absencePenalty());
            }
            vm.prank(stranger);
            market.tally(batch, _verdict(4, 0));
        }
        _assertPhase(batch, IBatchMarket.Phase.Void);
        _allRefuse(batch, IBatchMarket.Phase.Void);
        for (uint256 i; i < 8; ++i) {
            vm.assertEq(stake.get(verifiers[i]).openSeats, 0, "all seats are closed");
        }
        _checkBooks();
    }

    function testVoidStalled() external {
        uint64 batch = _commit(bounty, miner, 4);
        bytes memory notStalled =
            abi.encodeWithSelector(IBatchMarket.BatchMarket_RoundNotStalled.selector, batch, 1);
        vm.expectRevert(notStalled);
        market.voidStalled(batch);
        _skip(1 hours);
        vm.expectRevert(notStalled);
        market.voidStalled(batch);
        _skip(1);
        vm.expectEmit(address(market));
        emit IBatchMarket.BatchVoided(batch, 0);
        vm.prank(stranger);
        market.voidStalled(batch);
        _assertPhase(batch, IBatchMarket.Phase.Void);
        _allRefuse(batch, IBatchMarket.Phase.Void);
        vm.assertEq(ledger.balanceOf(miner), 40_000, "bond back");
        vm.assertEq(escrow.get(bounty).available, 100e6, "all of it");
        _checkBooks();
    }

    /// A draw for a void batch would lock seats that nothing ever opens again: known randomness or missed, it is refused.
    function testNoDrawForAVoidBatch() external {
        uint64 batch = _commit(bounty, miner, 4);
        uint64 point = rounds.get(1).drawPoint;
        _reach(point);
        _skip(1 hours + 1);
        market.voidStalled(batch);
        bytes memory closed =
            abi.encodeWithSelector(IRounds.Rounds_WrongPhase.selector, 1, IRounds.Phase.Closed);
        vm.expectRevert(closed);
        rounds.draw(1);
        vm.roll(uint256(point) + 257);
        vm.expectRevert(closed);
        rounds.draw(1);
        vm.assertEq(stake.totalWeight(), 16, "every seat is free");
    }

    /// A drawn committee can't be voided away by the clock.
    function testDrawnIsNotStalled() external {
        uint64 batch = _commit(bounty, miner, 4);
        _draw(1);
        _skip(30 days);
        vm.expectRevert(abi.encodeWithSelector(IBatchMarket.BatchMarket_RoundNotStalled.selector, batch, 1));
        market.voidStalled(batch);
        market.tally(batch, _verdict(4, 0));
    }

    function testPhasesToSettled() external {
        uint64 batch = _commit(bounty, miner, 4);
        _assertPhase(batch, IBatchMarket.Phase.InRound);
        _refuse(batch, IBatchMarket.Phase.InRound);
        market.settle(batch);
        _attest(batch, _verdict(4, 0));
        uint256 attestedAt = _now();
        vm.warp(attestedAt + 30 minutes);
        _allRefuse(batch, IBatchMarket.Phase.Challengeable);
        vm.warp(attestedAt + 30 minutes + 1);
        _assertPhase(batch, IBatchMarket.Phase.Settleable);
        _refuse(batch, IBatchMarket.Phase.Settleable);
        market.tally(batch, _verdict(4, 0));
        vm.prank(stranger);
        market.settle(batch);
        _allRefuse(batch, IBatchMarket.Phase.Settled);
        _skip(365 days);
        _allRefuse(batch, IBatchMarket.Phase.Settled);
    }

    /// Nothing that happens to other batches moves a final one.
    function testFinalNeverChanges() external {
        uint64 batch = _commit(bounty, miner, 4);
        _attest(batch, _verdict(3, 1));
        _settle(batch);
        bytes32 before = keccak256(abi.encode(market.get(batch), rounds.get(1), rounds.seatOf(1, 0)));
        uint64 second = _commit(bounty, miner, 8);
        _attest(second, _verdict(8, 0));
        _settle(second);
        vm.assertEq(
            keccak256(abi.encode(market.get(batch), rounds.get(1), rounds.seatOf(1, 0))), before, "as it was"
        );
    }

    /// A bounty may offer less, and be filled up, and yet no batch is taken: nobody would check it.
    function testFeeTooLow() external {
        BountyTerms memory terms = _terms();
        terms.feePerTrace = 0;
        uint64 free = _bountyWith(terms, 10e6);
        _enrol(free, miner);
        bytes32 seed = assignments.get(free, miner).seed;
        _commitReverts(
            abi.encodeWithSelector(IBatchMarket.BatchMarket_FeeTooLow.selector, 0, 1), free, ROOT, 4, 0, seed
        );
        terms.feePerTrace = 1;
        _commit(_bountyWith(terms, 10e6), miner, 4);
    }

    /// Two of three members stand to lose the stake of two seats, 200e6: to the unit, no batch is worth more.
    function testBatchTooDear() external {
        BountyTerms memory terms = _terms();
        (terms.pricePerUnit, terms.feePerTrace) = (50e6 - FEE, FEE);
        _commit(_bountyWith(terms, 300e6), miner, 4);
        ++terms.pricePerUnit;
        uint64 dear = _bountyWith(terms, 300e6);
        _enrol(dear, miner);
        bytes32 seed = assignments.get(dear, miner).seed;
        _commitReverts(
            abi.encodeWithSelector(IBatchMarket.BatchMarket_BatchTooDear.selector, 200e6 + 4, 200e6),
            dear,
            ROOT,
            4,
            0,
            seed
        );
        // The fee counts like the price.
        (terms.pricePerUnit, terms.feePerTrace) = (1, 50e6);
        dear = _bountyWith(terms, 300e6);
        _enrol(dear, miner);
        seed = assignments.get(dear, miner).seed;
        _commitReverts(
            abi.encodeWithSelector(IBatchMarket.BatchMarket_BatchTooDear.selector, 200e6 + 4, 200e6),
            dear,
            ROOT,
            4,
            0,
            seed
        );
    }

    function testTooFewVerifiers() external {
        _enrol(bounty, miner);
        _arm(miner, 1e9);
        bytes32 seed = assignments.get(bounty, miner).seed;
        for (uint256 i; i < 6; ++i) {
            vm.prank(verifiers[i]);
            stake.requestUnstake(SEAT + 1);
        }
        _commitReverts(
            abi.encodeWithSelector(IBatchMarket.BatchMarket_TooFewVerifiers.selector, 2, 3), bounty, ROOT, 4, 0, seed
        );
        _staked("ninth", SEAT);
        _commit(bounty, miner, 4);
    }

    function testCourtOnly() external {
        uint64 batch = _commit(bounty, miner, 4);
        _attest(batch, _verdict(4, 0));
        address[3] memory others = [stranger, address(rounds), address(escrow)];
        for (uint256 i; i < 3; ++i) {
            bytes memory reason = abi.encodeWithSelector(IBatchMarket.BatchMarket_NotCourt.selector, others[i]);
            vm.startPrank(others[i]);
            vm.expectRevert(reason);
            market.beginDispute(batch);
            vm.expectRevert(reason);
            market.beginConflict(batch);
            vm.expectRevert(reason);
            market.endDispute(batch);
            vm.expectRevert(reason);
            market.overturn(batch, true);
            vm.expectRevert(reason);
            market.attest(batch, _verdict(0, 0));
            vm.stopPrank();
        }
    }

    /// Disputes can begin in the challenge window only, and then hold settlement up until the last one ends.
    function testDisputed() external {
        uint64 batch = _commit(bounty, miner, 4);
        vm.startPrank(address(court));
        _refuse(batch, IBatchMarket.Phase.InRound);
        market.beginDispute(batch);
        vm.stopPrank();
        _attest(batch, _verdict(4, 0));
        vm.startPrank(address(court));
        market.beginDispute(batch);
        market.beginDispute(batch);
        vm.stopPrank();
        _assertPhase(batch, IBatchMarket.Phase.Challengeable);
        vm.assertEq(market.get(batch).disputes, 2, "disputes");
        _skip(30 minutes + 1);
        _allRefuse(batch, IBatchMarket.Phase.Disputed);
        vm.startPrank(address(court));
        _refuse(batch, IBatchMarket.Phase.Disputed);
        market.beginDispute(batch);
        market.endDispute(batch);
        _assertPhase(batch, IBatchMarket.Phase.Disputed);
        market.endDispute(batch);
        vm.stopPrank();
        _assertPhase(batch, IBatchMarket.Phase.Settleable);
        market.settle(batch);
    }

    /// The court may narrow a conflict once a round. While it does no round is opened; after it there is no more waiting.
    function testNarrowing() external {
        uint64 batch = _commit(bounty, miner, 4);
        bytes memory none = abi.encodeWithSelector(IBatchMarket.BatchMarket_NoConflict.selector, batch);
        vm.expectRevert(none);
        vm.prank(address(court));
        market.beginConflict(batch);
        Attestation[] memory votes = new Attestation[](2);
        (votes[0], votes[1]) = (_verdict(4, 0), _verdict(3, 0));
        _draw(1);
        _vote(1, votes);
        vm.prank(address(court));
        market.beginConflict(batch);
        bytes memory open = abi.encodeWithSelector(IBatchMarket.BatchMarket_DisputesOpen.selector, batch, 1);
        vm.expectRevert(open);
        market.tally(batch, votes[0]);
        vm.warp(rounds.endsAt(1) + 5 minutes + 1);
        vm.expectRevert(open);
        market.tally(batch, votes[0]);
        vm.startPrank(address(court));
        market.endDispute(batch);
        vm.expectRevert(none);
        market.beginConflict(batch);
        vm.stopPrank();
        market.tally(batch, votes[0]);
        // The next round has a conflict of its own, and that is narrowed at once.
        _draw(2);
        votes = _same(_verdict(4, 0), 6);
        (votes[3], votes[4], votes[5]) = (_verdict(3, 0), _verdict(3, 0), _verdict(3, 0));
        _vote(2, votes);
        vm.startPrank(address(court));
        market.beginConflict(batch);
        market.endDispute(batch);
        vm.stopPrank();
        vm.assertTrue(_now() <= rounds.endsAt(2) + 5 minutes, "still time to narrow");
        market.tally(batch, votes[0]);
        vm.assertEq(rounds.get(3).size, 15, "narrowed in vain");
    }

    /// A quorum leaves nothing to narrow, nor do too few votes.
    function testNoConflictToNarrow() external {
        bytes memory none = abi.encodeWithSelector(IBatchMarket.BatchMarket_NoConflict.selector, 1);
        _commit(bounty, miner, 4);
        _draw(1);
        uint256 before = vm.snapshotState();
        _vote(1, _same(_verdict(4, 0), 2));
        vm.expectRevert(none);
        vm.prank(address(court));
        market.beginConflict(1);
        vm.revertToState(before);
        _vote(1, _same(_verdict(4, 0), 1));
        vm.expectRevert(none);
        vm.prank(address(court));
        market.beginConflict(1);
        market.tally(1, _verdict(4, 0));
    }

    function testOverturned() external {
        uint64 batch = _commit(bounty, miner, 4);
        Attestation memory lie = _verdict(4, 0);
        _attest(batch, lie);
        address[] memory liars = _members(1);
        vm.expectEmit(address(market));
        emit IBatchMarket.BatchOverturned(batch, 1, lie, 3 * _fraudPenalty());
        vm.expectEmit(address(market));
        emit IBatchMarket.BatchRoundOpened(batch, 2, 3);
        vm.prank(address(court));
        vm.assertEq(market.overturn(batch, true), 3 * _fraudPenalty(), "slashed");
        _assertPhase(batch, IBatchMarket.Phase.InRound);
        vm.assertEq(market.get(batch).overturned, 1, "counted");
        vm.assertEq(market.get(batch).attestedAt, 0, "not attested");
        vm.assertTrue(rounds.get(2).fresh, "a fresh committee");
        address[] memory others = _draw(2);
        for (uint256 i; i < 3; ++i) {
            for (uint256 j; j < 3; ++j) {
                vm.assertTrue(others[i] != liars[j], "sat before");
            }
        }
        _vote(2, _same(_verdict(1, 0), 3));
        market.tally(batch, _verdict(1, 0));
        // Nobody is guilty of what could not be fetched.
        vm.prank(address(court));
        vm.assertEq(market.overturn(batch, false), 0, "no conviction");
        vm.assertEq(stake.get(others[0]).stake, 2 * SEAT, "nothing lost");
        // The third round is the last: too few others are left for it, and it stalls.
        _draw(3);
        _assertRound(3, IRounds.Phase.AwaitingRandomness);
        _skip(1 hours + 1);
        market.voidStalled(batch);
        _assertPhase(batch, IBatchMarket.Phase.Void);
        for (uint256 i; i < 8; ++i) {
            vm.assertEq(stake.get(verifiers[i]).openSeats, 0, "all seats are closed");
        }
        _checkBooks();
    }

    function testOverturnedInTheLastRound() external {
        _verifiers(4, 2 * SEAT);
        uint64 batch = _commit(bounty, miner, 4);
        for (uint32 i; i < 3; ++i) {
            _attest(batch, _verdict(i, 0));
            vm.prank(address(court));
            market.overturn(batch, true);
        }
        _allRefuse(batch, IBatchMarket.Phase.Void);
        vm.assertEq(court.pool(), 9 * _fraudPenalty(), "every signer");
        vm.assertEq(ledger.balanceOf(miner), 40_000, "bond back");
        vm.assertEq(escrow.get(bounty).available, 100e6, "all of it");
        _checkBooks();
    }

    function _allRefuse(uint64 batch, IBatchMarket.Phase phase) private {
        _assertPhase(batch, phase);
        _refuse(batch, phase);
        market.tally(batch, Attestation(0, 0, 0));
        _refuse(batch, phase);
        market.voidStalled(batch);
        _refuse(batch, phase);
        market.settle(batch);
    }

    function _refuse(uint64 batch, IBatchMarket.Phase phase) private {
        vm.expectRevert(abi.encodeWithSelector(IBatchMarket.BatchMarket_WrongPhase.selector, batch, phase));
    }

    function _commitReverts(
        bytes memory reason,
        uint64 ofBounty,
        bytes32 root,
        uint32 count,
        uint64 firstTask,
        bytes32 seed
    ) private {
        vm.expectRevert(reason);
        vm.prank(miner);
        market.commitBatch(ofBounty, root, count, firstTask, seed, ContentId(keccak256("content"), RAW));
    }
}
