// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchMarket} from "../../contracts/src/interfaces/IBatchMarket.sol";
import {ICourt} from "../../contracts/src/interfaces/ICourt.sol";
import {IRounds} from "../../contracts/src/interfaces/IRounds.sol";
import {Attestation, Verdict} from "../../contracts/src/libraries/Types.sol";
import {CourtScenario} from "./support/CourtScenario.sol";
import {VerdictTrees} from "./support/VerdictTrees.sol";

/// Juries that do not simply decide, and disputes that meet
/// ├── "unavailable": the attestation becomes that, its signers lose as much as absent ones, the challenger pays the jurors
/// │   └── which a miner can bring about whose content nobody else kept (a limit that the docs must name)
/// ├── no quorum: a larger jury of others; after the last one everybody keeps their bonds
/// ├── no jury can be drawn: as without a quorum
/// │   └── but never because other batches took every free seat
/// ├── nobody votes at all: calls that anybody can make end it
/// ├── two disputes of one batch: the second after the fall convicts nobody again, nor does it touch another attestation;
/// │   it pays its jurors itself, and the pool nothing
/// └── a fall in the last round: void
contract CourtJuriesTest is CourtScenario {
    using VerdictTrees for VerdictTrees.Tree;

    uint256 private constant SLASHED = 450e6;
    uint256 private constant JURY = 7 * JUROR_FEE;

    function testUnavailable() external {
        _openCourt(10);
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        address[] memory signers = _members(1);
        uint64 id = _dispute(tree, 3);
        // The pool gets something, and gives nothing: a juror did not commit.
        uint64 jury = court.get(id).jury;
        address[] memory jurors = _draw(jury);
        Attestation[] memory votes = _same(_outcome(UNAVAILABLE), 7);
        votes[6] = Attestation(0, 0, 0);
        _vote(jury, votes);
        court.tallyJury(id, votes[0]);
        _assertStanding(id, ICourt.Standing.Unavailable);
        _skip(20 minutes + 1);
        uint256 paid = 6 * JUROR_FEE;
        vm.expectEmit(address(court));
        emit ICourt.DisputeClosed(id, batch, ICourt.Standing.Unavailable, 0, paid, BOND - paid, 0);
        court.close(id);
        vm.assertEq(ledger.balanceOf(challenger), BOND - paid, "the challenger pays the jurors");
        vm.assertEq(court.pool(), 4 * _absencePenalty(), "the pool pays nothing, and gets what the signers lose");
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(stake.get(signers[i]).stake, 300e6 - _absencePenalty(), "signed, and kept nothing");
            vm.assertEq(stake.get(signers[i]).openSeats, 0, "its seat is closed");
        }
        vm.assertEq(rounds.payableSeats(1), 0, "and no longer payable");
        vm.assertEq(ledger.balanceOf(jurors[0]), JUROR_FEE, "juror's pay");
        vm.assertEq(market.get(batch).attestation.verdictRoot, UNAVAILABLE, "replaced");
        vm.assertEq(market.get(batch).attestedAt, _now(), "the challenge window starts again");
        _assertPhase(batch, IBatchMarket.Phase.Challengeable);
        _checkCourt();
        _settle(batch);
        vm.assertEq(ledger.balanceOf(miner), 80_000, "no unit, the bond back: nobody was paid for checking");
        vm.assertEq(_funds(), FUNDS, "the bounty pays nothing");
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(stake.get(signers[i]).stake, 300e6 - _absencePenalty(), "and loses nothing more");
        }
        _checkCourt();
        _checkNoSeatsOpen();
    }

    /// A miner whose lies were found takes its content away before a jury sees it: its bond is spared, and the committee that
    /// found them goes unpaid. So whoever checked must keep the content until the batch is settled.
    function testWithdrawnContentSparesTheMinersBond() external {
        _openCourt(10);
        uint64 batch = _commitTraces(COUNT);
        Verdict[] memory verdicts = VerdictTrees.plain(batch, 4, COUNT).verdicts;
        verdicts[7].faults = 1;
        VerdictTrees.Tree memory tree = VerdictTrees.build(batch, verdicts);
        _attest(batch, tree.attestationOf());
        address[] memory signers = _members(1);
        uint64 id = _disputeBy(miner, tree, 0);
        _juryVotes(id, _outcome(UNAVAILABLE));
        _close(id);
        vm.assertEq(ledger.balanceOf(miner), BOND - JURY, "the dispute cost the jurors' fees");
        _settle(batch);
        vm.assertEq(ledger.balanceOf(miner), BOND - JURY + 80_000, "one fault would have cost all of the bond");
        _assertPaid(signers, 0);
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(stake.get(signers[i]).stake, 300e6 - _absencePenalty(), "who kept nothing loses a little");
        }
        vm.assertEq(court.pool(), 3 * _absencePenalty(), "to the pool");
        _checkCourt();
    }

    /// Jurors who could not have the content are paid by whoever called them, also where the pool is empty.
    function testUnavailableWithoutAPool() external {
        _openCourt(10);
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 id = _dispute(tree, 3);
        address[] memory jurors = _juryVotes(id, _outcome(UNAVAILABLE));
        _close(id);
        _assertPaid(jurors, JUROR_FEE);
        vm.assertEq(ledger.balanceOf(challenger), BOND - JURY, "the challenger pays them");
        vm.assertEq(court.pool(), 3 * _absencePenalty(), "what the signers lost pays no juror");
        _settle(batch);
        _checkCourt();
    }

    /// Jurors are paid from their own dispute's bond, and never from another's.
    function testOpenBondsAreNotShared() external {
        _openCourt(20);
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 first = _dispute(tree, 0);
        uint64 second = _dispute(tree, 1);
        _juryVotes(first, _outcome(UNAVAILABLE));
        _close(first);
        vm.assertEq(ledger.balanceOf(challenger), BOND - JURY, "paid from the first bond");
        uint256 pool = 3 * _absencePenalty();
        vm.assertEq(ledger.heldFor(address(court)), pool + BOND, "the other bond is untouched");
        vm.assertEq(court.pool(), pool, "and not the pool's");
        _juryVotes(second, _voteFor(batch, tree.verdicts[1]));
        _close(second);
        uint256 left = BOND - JURY;
        vm.assertEq(court.pool(), pool + left - left / 2, "pool");
        vm.assertEq(ledger.balanceOf(miner), left / 2, "the miner waited");
    }

    function testNoQuorumInAnyJury() external {
        _openCourt(56);
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        address[] memory signers = _members(1);
        uint64 id = _dispute(tree, 3);
        address[] memory small = _juryDisagrees(id);
        vm.assertEq(small.length, 7, "7");
        _assertDispute(id, ICourt.Phase.InJury);
        address[] memory larger = _juryDisagrees(id);
        vm.assertEq(larger.length, 15, "15");
        _assertDispute(id, ICourt.Phase.InJury);
        address[] memory largest = _juryDisagrees(id);
        vm.assertEq(largest.length, 31, "31");
        _assertNew(larger, small);
        _assertNew(largest, small);
        _assertNew(largest, larger);
        _assertNew(largest, signers);

        _assertDispute(id, ICourt.Phase.Decided);
        _assertStanding(id, ICourt.Standing.None);
        _close(id);
        vm.assertEq(ledger.balanceOf(challenger), BOND, "bond back");
        _assertPaid(small, 0);
        _assertPaid(largest, 0);
        for (uint256 i; i < verifiers.length; ++i) {
            vm.assertEq(stake.get(verifiers[i]).stake, 300e6, "nobody is proven wrong");
        }
        vm.assertEq(court.pool(), 0, "pool");
        _settle(batch);
        vm.assertEq(ledger.balanceOf(miner), 8 * PRICE + 80_000, "as attested");
        _checkCourt();
        _checkNoSeatsOpen();
    }

    /// The larger jury's decision counts; jurors of both who agree with it are paid.
    function testLargerJuryDecides() external {
        _openCourt(25);
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 id = _dispute(tree, 3);
        uint64 jury = court.get(id).jury;
        address[] memory small = _draw(jury);
        Attestation memory right = _voteFor(batch, tree.verdicts[3]);
        Attestation[] memory votes = _same(right, 7);
        for (uint256 i = 3; i < 7; ++i) {
            votes[i] = Attestation(keccak256(abi.encode(i)), 1, 0);
        }
        _vote(jury, votes);
        court.tallyJury(id, right);
        _assertDispute(id, ICourt.Phase.InJury);
        address[] memory larger = _juryVotes(id, right);
        _close(id);
        uint256 fees = 18 * JUROR_FEE;
        for (uint256 i; i < 7; ++i) {
            vm.assertEq(ledger.balanceOf(small[i]), i < 3 ? JUROR_FEE : 0, "the coherent of the small jury");
            vm.assertEq(
                stake.get(small[i]).stake, i < 3 ? 300e6 : 300e6 - _incoherencePenalty(), "the others pay"
            );
        }
        _assertPaid(larger, JUROR_FEE);
        vm.assertEq(ledger.balanceOf(miner), 0, "nothing is left of the bond");
        vm.assertEq(court.pool(), BOND + 4 * _incoherencePenalty() - fees, "the pool made good what lacked");
        _checkCourt();
    }

    function testStalledJury() external {
        _openCourt(6);
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 id = _dispute(tree, 3);
        uint64 jury = court.get(id).jury;
        _reach(rounds.get(jury).drawPoint);
        vm.assertEq(rounds.drawDue(10), 1, "three others are too few for a jury of seven: drawn again later");
        vm.expectRevert(abi.encodeWithSelector(ICourt.Court_JuryNotClosed.selector, id, jury));
        court.tallyJury(id, _outcome(0));
        _skip(1 hours);
        vm.expectRevert(abi.encodeWithSelector(ICourt.Court_JuryNotClosed.selector, id, jury));
        court.tallyJury(id, _outcome(0));
        _skip(1);
        _assertRound(jury, IRounds.Phase.Stalled);
        court.tallyJury(id, _outcome(0));
        _assertDispute(id, ICourt.Phase.Decided);
        _close(id);
        vm.assertEq(ledger.balanceOf(challenger), BOND, "bond back");
        vm.assertEq(ledger.balanceOf(miner), 0, "nothing for the miner");
        market.settle(batch);
        _checkCourt();
        _checkNoSeatsOpen();
    }

    /// Four of seven are enough for a jury where there are no more.
    function testSmallestJury() external {
        _openCourt(7);
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 id = _dispute(tree, 3);
        address[] memory jurors = _juryVotes(id, _voteFor(batch, Verdict(3, 0, 2, 0, 0)));
        vm.assertEq(jurors.length, 4, "all there are");
        _close(id);
        vm.assertEq(court.pool(), SLASHED - 4 * JUROR_FEE - SEAT_FEE - FEES, "pool");
    }

    /// Other batches hold every free seat: the jury is drawn from all stake all the same, and the lie falls.
    function testTakenSeatsStarveNoJury() external {
        _openCourt(7);
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        address[] memory signers = _members(1);
        for (uint256 i; i < 6; ++i) {
            _commitTraces(GROUP);
        }
        uint64 id = _dispute(tree, 3);
        uint64 jury = court.get(id).jury;
        _reach(rounds.get(jury).drawPoint);
        rounds.drawDue(100);
        vm.assertEq(stake.eligible(), 0, "no free seat");
        vm.assertEq(rounds.get(jury).seats, 4, "and a jury of all who did not sign");
        address[] memory jurors = _juryVotes(id, _voteFor(batch, Verdict(3, 0, 2, 0, 0)));
        _assertNew(jurors, signers);
        _close(id);
        _assertStanding(id, ICourt.Standing.Falls);
        _assertPhase(batch, IBatchMarket.Phase.InRound);
        // Two of their three seats are busy elsewhere and stay covered: of 150 each signer loses 100.
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(stake.get(signers[i]).stake, 200e6, "what is behind the other seats");
            vm.assertEq(stake.get(signers[i]).openSeats, 2, "of the other batches");
        }
        vm.assertEq(court.pool(), 300e6 - 4 * JUROR_FEE - SEAT_FEE - FEES, "pool");
        _checkCourt();
    }

    function testNobodyVotesAtAll() external {
        _openCourt(56);
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 id = _dispute(tree, 3);
        uint256 jurors;
        for (uint256 i; i < 3; ++i) {
            uint64 jury = court.get(id).jury;
            jurors += _draw(jury).length;
            vm.expectRevert(abi.encodeWithSelector(ICourt.Court_JuryNotClosed.selector, id, jury));
            court.tallyJury(id, _outcome(0));
            _skip(10 minutes + 1);
            court.tallyJury(id, _outcome(0));
        }
        _assertDispute(id, ICourt.Phase.Decided);
        _close(id);
        vm.assertEq(jurors, 53, "three juries");
        vm.assertEq(court.pool(), 53 * _absencePenalty(), "all of them pay for absence");
        vm.assertEq(ledger.balanceOf(challenger), BOND, "bond back");
        market.settle(batch);
        _checkCourt();
        _checkNoSeatsOpen();
    }

    /// Both verdicts are false: one conviction; jurors of the second are paid from its own bond, and the pool stays as it is.
    function testTwoTrueDisputes() external {
        _openCourt(20);
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 first = _dispute(tree, 3);
        uint64 second = _disputeBy(stranger, tree, 5);
        vm.assertEq(market.get(batch).disputes, 2, "two");
        address[] memory jurors = _juryVotes(first, _voteFor(batch, Verdict(3, 0, 2, 0, 0)));
        address[] memory others = _juryVotes(second, _voteFor(batch, Verdict(5, 0, 2, 0, 0)));
        _close(first);
        uint256 pool = SLASHED - JURY - SEAT_FEE - FEES;
        vm.assertEq(court.pool(), pool, "pool");

        // The fresh committee is counted while the old dispute goes on; that one can't touch what it attests.
        Attestation memory right = VerdictTrees.plain(batch, 6, COUNT).attestationOf();
        _committeeVotes(batch, right);
        market.tally(batch, right);
        _assertPhase(batch, IBatchMarket.Phase.Challengeable);

        vm.expectEmit(address(court));
        emit ICourt.DisputeClosed(second, batch, ICourt.Standing.Falls, 0, JURY, BOND - JURY, 0);
        _close(second);
        _assertPhase(batch, IBatchMarket.Phase.Challengeable);
        for (uint256 i; i < verifiers.length; ++i) {
            vm.assertGe(stake.get(verifiers[i]).stake, 150e6, "convicted once");
        }
        // Whoever sat in both juries is paid twice.
        uint256 fees;
        for (uint256 i; i < verifiers.length; ++i) {
            fees += ledger.balanceOf(verifiers[i]);
        }
        vm.assertEq(fees, 2 * JURY, "both juries are paid in full");
        vm.assertEq(court.pool(), pool, "the pool is as it was");
        vm.assertEq(ledger.balanceOf(stranger), BOND - JURY, "no reward, and the jurors' fees");
        vm.assertEq(jurors.length + others.length, 14, "two juries");
        vm.assertEq(market.get(batch).overturned, 1, "once");
        _settle(batch);
        _checkCourt();
        _checkNoSeatsOpen();
    }

    /// The frivolous one loses its bond although the attestation fell for another reason.
    function testFrivolousDisputeBesideATrueOne() external {
        _openCourt(20);
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 first = _dispute(tree, 3);
        uint64 second = _disputeBy(stranger, tree, 5);
        _juryVotes(first, _voteFor(batch, Verdict(3, 0, 2, 0, 0)));
        _juryVotes(second, _voteFor(batch, tree.verdicts[5]));
        _close(first);
        uint256 pool = court.pool();
        _close(second);
        uint256 left = BOND - JURY;
        vm.assertEq(ledger.balanceOf(stranger), 0, "bond lost");
        vm.assertEq(ledger.balanceOf(miner), left / 2, "the miner's half");
        vm.assertEq(court.pool(), pool + left - left / 2, "the pool's half");
        vm.assertEq(ledger.balanceOf(challenger), BOND + SEAT_FEE, "the true one's reward");
    }

    /// Frivolous first: the true one still falls the attestation.
    function testTrueDisputeAfterAFrivolousOne() external {
        _openCourt(20);
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 first = _dispute(tree, 3);
        uint64 second = _disputeBy(stranger, tree, 5);
        _juryVotes(first, _voteFor(batch, tree.verdicts[3]));
        _juryVotes(second, _voteFor(batch, Verdict(5, 0, 2, 0, 0)));
        _close(first);
        _assertPhase(batch, IBatchMarket.Phase.Challengeable);
        _close(second);
        _assertPhase(batch, IBatchMarket.Phase.InRound);
        vm.assertEq(ledger.balanceOf(stranger), BOND + SEAT_FEE, "reward");
    }

    /// "Unavailable" came first: the fall has lost its object.
    function testFallAfterUnavailable() external {
        _openCourt(20);
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        address[] memory signers = _members(1);
        uint64 first = _dispute(tree, 3);
        uint64 second = _disputeBy(stranger, tree, 5);
        _juryVotes(first, _outcome(UNAVAILABLE));
        _juryVotes(second, _voteFor(batch, Verdict(5, 0, 2, 0, 0)));
        _close(first);
        _close(second);
        vm.assertEq(market.get(batch).attestation.verdictRoot, UNAVAILABLE, "not overturned");
        vm.assertEq(stake.get(signers[0]).stake, 300e6 - _absencePenalty(), "nobody is convicted of the lie");
        vm.assertEq(ledger.balanceOf(stranger), BOND - JURY, "bond back, less the jurors' fees");
        vm.assertEq(court.pool(), 3 * _absencePenalty(), "the pool paid nothing");
        _settle(batch);
        _checkCourt();
        _checkNoSeatsOpen();
    }

    /// The fresh committee's conflict is narrowed while an old dispute is open: that spares the new attestation.
    function testOldDisputeSparesTheNextAttestation() external {
        _openCourt(20);
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 first = _dispute(tree, 3);
        uint64 second = _disputeBy(stranger, tree, 5);
        _juryVotes(first, _voteFor(batch, Verdict(3, 0, 2, 0, 0)));
        _juryVotes(second, _voteFor(batch, Verdict(5, 0, 2, 0, 0)));
        _close(first);
        VerdictTrees.Tree[] memory trees = new VerdictTrees.Tree[](3);
        uint64 round = market.get(batch).round;
        address[] memory members = _draw(round);
        Attestation[] memory votes = new Attestation[](3);
        for (uint256 i; i < 3; ++i) {
            trees[i] = VerdictTrees.plain(batch, 3 - i, COUNT);
            votes[i] = trees[i].attestationOf();
        }
        _vote(round, votes);
        uint64 third = court.narrow(batch, trees[0].claimOf(2), trees[1].claimOf(2));
        _juryVotes(third, _voteFor(batch, trees[0].verdicts[2]));
        _close(third);
        _assertPhase(batch, IBatchMarket.Phase.Challengeable);
        _close(second);
        _assertPhase(batch, IBatchMarket.Phase.Challengeable);
        vm.assertEq(market.get(batch).attestation.units, 3, "the new attestation stays");
        vm.assertEq(stake.get(members[0]).openSeats, 1, "its signer is not convicted");
        _settle(batch);
        _checkCourt();
        _checkNoSeatsOpen();
    }

    /// The same verdict of the next attestation may be disputed: it is another attestation.
    function testSameVerdictOfTheNextAttestation() external {
        _openCourt(20);
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 id = _dispute(tree, 3);
        _juryVotes(id, _voteFor(batch, Verdict(3, 0, 2, 0, 0)));
        _close(id);
        _attest(batch, tree.attestationOf());
        address[] memory signers = _members(market.get(batch).round);
        id = _dispute(tree, 3);
        _juryVotes(id, _voteFor(batch, Verdict(3, 0, 2, 0, 0)));
        _close(id);
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(stake.get(signers[i]).stake, 150e6, "convicted too");
        }
        vm.assertEq(market.get(batch).overturned, 2, "twice");
    }

    function testFallInTheLastRoundIsVoid() external {
        _openCourt(24);
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        for (uint256 i; i < 3; ++i) {
            uint64 id = _dispute(tree, 3);
            _juryVotes(id, _voteFor(batch, Verdict(3, 0, 2, 0, 0)));
            _close(id);
            if (i < 2) _attest(batch, tree.attestationOf());
        }
        _assertPhase(batch, IBatchMarket.Phase.Void);
        vm.assertEq(ledger.balanceOf(miner), 80_000, "the bond back");
        vm.assertEq(_funds(), FUNDS + 3 * FEES, "nothing spent, and three times the fee made good");
        vm.assertEq(court.pool(), 3 * (SLASHED - JURY - SEAT_FEE - FEES), "pool");
        _checkCourt();
        _checkNoSeatsOpen();
    }

    /// The fresh committee can't be drawn: void by time, while another dispute is still open; that one closes all the same.
    function testVoidWhileADisputeIsOpen() external {
        _openCourt(20);
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 first = _dispute(tree, 3);
        uint64 second = _dispute(tree, 5);
        _juryVotes(first, _voteFor(batch, Verdict(3, 0, 2, 0, 0)));
        _juryVotes(second, _voteFor(batch, Verdict(5, 0, 2, 0, 0)));
        _close(first);
        _skip(1 hours + 1);
        market.voidStalled(batch);
        _assertPhase(batch, IBatchMarket.Phase.Void);
        _close(second);
        vm.assertEq(market.get(batch).disputes, 0, "none open");
        vm.assertEq(ledger.balanceOf(challenger), 2 * BOND - JURY + SEAT_FEE, "bonds less one jury, and one reward");
        _checkNoSeatsOpen();
    }
}
