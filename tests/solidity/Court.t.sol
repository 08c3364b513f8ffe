// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchMarket} from "../../contracts/src/interfaces/IBatchMarket.sol";
import {ICourt} from "../../contracts/src/interfaces/ICourt.sol";
import {IEvidence} from "../../contracts/src/interfaces/IEvidence.sol";
import {MerkleProofs} from "../../contracts/src/libraries/MerkleProofs.sol";
import {Attestation, Verdict} from "../../contracts/src/libraries/Types.sol";
import {CourtScenario} from "./support/CourtScenario.sol";
import {TraceTrees, VerdictTrees} from "./support/VerdictTrees.sol";

/// disputeLeaf: one verdict before a jury
/// ├── refused: wrong trace, wrong verdict, settled batch, an outcome, a second time
/// ├── falls: signers lose the fraud penalty; jurors, challenger and the wronged side are paid, the rest is the pool's
/// │   ├── the miner got too little: it is the miner's
/// │   ├── neither side got too little: the bounty's, which paid for the checking
/// │   ├── a fresh committee attests; convicted seats do not dilute its fee
/// │   └── in the last round: void
/// ├── stands: the bond pays the jurors, half of the rest is the miner's
/// ├── unavailable: the attestation becomes "unavailable", signers lose as absent ones
/// ├── no quorum in any jury, or no jury at all: everybody keeps their bonds
/// ├── two at once: the second after the fall convicts nobody again
/// └── nobody votes at all: calls that anybody can make end it
contract CourtTest is CourtScenario {
    using VerdictTrees for VerdictTrees.Tree;

    /// what a fallen attestation's three signers lose
    uint256 private constant SLASHED = 450e6;
    uint256 private constant JURY = 7 * JUROR_FEE;

    function setUp() external {
        _openCourt(12);
    }

    function testRefusesWhatIsNotTheTrace() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        bytes32[] memory proof = TraceTrees.proofOf(_origin(), 3, COUNT);
        bytes memory refused = abi.encodeWithSelector(IEvidence.Evidence_BadTraceProof.selector, batch, 3);
        vm.expectRevert(refused);
        court.disputeLeaf(batch, tree.verdicts[3], tree.proofOf(3), TraceTrees.lineOf(4), proof);
        refused = abi.encodeWithSelector(IEvidence.Evidence_BadTraceProof.selector, batch, 2);
        vm.expectRevert(refused);
        court.disputeLeaf(batch, tree.verdicts[2], tree.proofOf(2), TraceTrees.lineOf(3), proof);
    }

    function testRefusesWhatIsNotTheVerdict() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        bytes32[] memory proof = TraceTrees.proofOf(_origin(), 3, COUNT);
        Verdict memory other = VerdictTrees.plain(batch, 0, COUNT).verdicts[3];
        bytes memory refused = abi.encodeWithSelector(IEvidence.Evidence_BadVerdictProof.selector, batch, 3);
        vm.expectRevert(refused);
        court.disputeLeaf(batch, other, tree.proofOf(3), TraceTrees.lineOf(3), proof);
    }

    function testRefusesOtherPhases() external {
        uint64 batch = _commitTraces(COUNT);
        VerdictTrees.Tree memory tree = VerdictTrees.plain(batch, 8, COUNT);
        bytes32[] memory proof = TraceTrees.proofOf(_origin(), 3, COUNT);
        bytes memory refused = abi.encodeWithSelector(
            IBatchMarket.BatchMarket_WrongPhase.selector, batch, IBatchMarket.Phase.InRound
        );
        vm.expectRevert(abi.encodeWithSelector(IEvidence.Evidence_BadVerdictProof.selector, batch, 3));
        court.disputeLeaf(batch, tree.verdicts[3], tree.proofOf(3), TraceTrees.lineOf(3), proof);
        bytes32 identity = _attestationOf(batch);
        vm.expectRevert(refused);
        court.demandOpening(batch, identity);

        _attest(batch, tree.attestationOf());
        uint256 end = _now() + 30 minutes;
        vm.warp(end + 1);
        refused = abi.encodeWithSelector(
            IBatchMarket.BatchMarket_WrongPhase.selector, batch, IBatchMarket.Phase.Settleable
        );
        vm.expectRevert(refused);
        court.disputeLeaf(batch, tree.verdicts[3], tree.proofOf(3), TraceTrees.lineOf(3), proof);
        vm.warp(end);
        _dispute(tree, 3);
    }

    function testRefusesAnOutcome() external {
        uint64 batch = _commitTraces(COUNT);
        _attest(batch, _outcome(UNAVAILABLE));
        VerdictTrees.Tree memory tree = VerdictTrees.plain(batch, 8, COUNT);
        bytes memory refused = abi.encodeWithSelector(ICourt.Court_WholeBatch.selector, UNAVAILABLE);
        MerkleProofs.SumNode[] memory proof = tree.proofOf(0);
        vm.expectRevert(refused);
        court.disputeLeaf(batch, tree.verdicts[0], proof, TraceTrees.lineOf(0), new bytes32[](3));
        bytes32 identity = _attestationOf(batch);
        vm.expectRevert(refused);
        court.demandOpening(batch, identity);
    }

    function testOneDisputeForAVerdict() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        _dispute(tree, 3);
        bytes32[] memory proof = TraceTrees.proofOf(_origin(), 3, COUNT);
        MerkleProofs.SumNode[] memory verdictProof = tree.proofOf(3);
        vm.expectRevert(abi.encodeWithSelector(ICourt.Court_AlreadyDisputed.selector, batch, 3));
        court.disputeLeaf(batch, tree.verdicts[3], verdictProof, TraceTrees.lineOf(3), proof);
        _dispute(tree, 4);
    }

    /// What jurors' commitments are bound to: layout as in tests/vectors/protocol.json (Vectors.t.sol).
    function testSubjectOfAJury() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 id = _dispute(tree, 3);
        bytes32 vote = evidence.voteOf(batch, tree.verdicts[3]);
        vm.assertEq(
            rounds.get(court.get(id).jury).subject,
            keccak256(abi.encode(block.chainid, address(court), id, batch, uint32(3), vote)),
            "subject"
        );
    }

    function testUnknownDispute() external {
        vm.expectRevert(abi.encodeWithSelector(ICourt.Court_UnknownDispute.selector, 1));
        court.get(1);
        vm.expectRevert(_wrongPhase(1, ICourt.Phase.None));
        court.close(1);
    }

    /// All eight are said to be right; number 3 is wrong.
    function testFalls() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        address[] memory signers = _members(1);
        uint64 id = _dispute(tree, 3);
        vm.assertEq(token.balanceOf(challenger), 0, "bond paid");
        _checkCourt();
        address[] memory jurors = _juryVotes(id, _voteFor(batch, Verdict(3, 0, 2, 0, 0)));
        vm.assertEq(jurors.length, 7, "a jury of 2k + 1");
        _assertNew(jurors, signers);
        _assertDispute(id, ICourt.Phase.Appealable);
        _skip(20 minutes + 1);
        vm.expectEmit(address(court));
        emit ICourt.DisputeClosed(id, batch, ICourt.Standing.Falls, SLASHED, JURY, BOND + SEAT_FEE, FEES);
        court.close(id);

        for (uint256 i; i < 3; ++i) {
            vm.assertEq(stake.get(signers[i]).stake, 300e6 - _fraudPenalty(), "fraud penalty");
            vm.assertEq(stake.get(signers[i]).openSeats, 0, "convicted: seat closed");
        }
        _assertPaid(jurors, JUROR_FEE);
        vm.assertEq(ledger.balanceOf(challenger), BOND + SEAT_FEE, "bond and one seat's pay");
        vm.assertEq(_funds(), FUNDS + FEES, "the poster's fee made good");
        vm.assertEq(ledger.balanceOf(miner), 0, "the miner was not wronged");
        vm.assertEq(court.pool(), SLASHED - JURY - SEAT_FEE - FEES, "rest is the pool's");
        _assertPhase(batch, IBatchMarket.Phase.InRound);
        _checkCourt();
    }

    /// A fresh committee comes to the right verdicts, and is paid as if the first had not sat.
    function testFreshCommitteeSettlesAfterAFall() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        address[] memory signers = _members(1);
        uint64 id = _dispute(tree, 7);
        _juryVotes(id, _voteFor(batch, Verdict(7, 0, 2, 0, 0)));
        _close(id);
        uint256 pool = court.pool();
        uint256 funds = _funds();

        uint64 round = market.get(batch).round;
        address[] memory fresh = _draw(round);
        vm.assertEq(fresh.length, 3, "as large as the first");
        _assertNew(fresh, signers);
        uint256[] memory before = new uint256[](3);
        for (uint256 i; i < 3; ++i) {
            before[i] = ledger.balanceOf(fresh[i]);
        }
        Attestation memory right = VerdictTrees.plain(batch, 7, COUNT).attestationOf();
        _vote(round, _same(right, 3));
        market.tally(batch, right);
        _settle(batch);

        for (uint256 i; i < 3; ++i) {
            vm.assertEq(ledger.balanceOf(fresh[i]) - before[i], SEAT_FEE, "a third of the fee, not a sixth");
            vm.assertEq(ledger.balanceOf(signers[i]), 0, "convicted: no fee");
        }
        vm.assertEq(ledger.balanceOf(miner), 7 * PRICE + 80_000 - FEE, "seven units, bond less one wrong trace's fee");
        vm.assertEq(_funds(), funds - 7 * PRICE - 3 * SEAT_FEE + FEE, "bounty");
        vm.assertEq(court.pool(), pool, "no more penalties");
        _checkCourt();
        _checkNoSeatsOpen();
    }

    /// Convicted signers of the same verdicts as the final ones get nothing either.
    function testConvictedAreNotPaidForTheSameVote() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        address[] memory signers = _members(1);
        uint64 id = _dispute(tree, 3);
        _juryVotes(id, _voteFor(batch, Verdict(3, 0, 2, 0, 0)));
        _close(id);
        _attest(batch, tree.attestationOf());
        _settle(batch);
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(ledger.balanceOf(signers[i]), 0, "convicted");
            vm.assertEq(stake.get(signers[i]).stake, 300e6 - _fraudPenalty(), "convicted once");
        }
        _checkCourt();
        _checkNoSeatsOpen();
    }

    /// Number 7 is said to be wrong and is right.
    function testFallsForTheMiner() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(7);
        uint64 id = _dispute(tree, 7);
        _juryVotes(id, _voteFor(batch, Verdict(7, 1_000_000, 1, 1, 0)));
        _close(id);
        vm.assertEq(ledger.balanceOf(miner), FEES, "the miner was wronged");
        vm.assertEq(_funds(), FUNDS, "the bounty was not");
        vm.assertEq(court.pool(), SLASHED - JURY - SEAT_FEE - FEES, "pool");
    }

    /// Said to be a proven lie, is merely wrong: the miner would have lost its bond.
    function testFallsForTheMinerWhereTheFaultWasFalse() external {
        (uint64 batch, VerdictTrees.Tree memory tree, Verdict memory truth) = _oneOdd(0, 3, 1);
        uint64 id = _dispute(tree, 0);
        truth.faults = 0;
        _juryVotes(id, _voteFor(batch, truth));
        _close(id);
        vm.assertEq(ledger.balanceOf(miner), FEES, "the miner was wronged");
        vm.assertEq(_funds(), FUNDS, "the bounty was not");
    }

    /// A proven lie that the committee passed over as merely wrong.
    function testFallsForTheBountyWhereAFaultWasMissed() external {
        (uint64 batch, VerdictTrees.Tree memory tree, Verdict memory truth) = _oneOdd(0, 3, 0);
        uint64 id = _dispute(tree, 0);
        truth.faults = 1;
        _juryVotes(id, _voteFor(batch, truth));
        _close(id);
        vm.assertEq(ledger.balanceOf(miner), 0, "the miner was not wronged");
        vm.assertEq(_funds(), FUNDS + FEES, "the bounty was");
    }

    /// Wrong either way, for another reason: the miner gets nothing more by it.
    function testFallsForTheBountyWhereOnlyTheReasonWasWrong() external {
        (uint64 batch, VerdictTrees.Tree memory tree, Verdict memory truth) = _oneOdd(0, 3, 0);
        uint64 id = _dispute(tree, 0);
        truth.reason = 4;
        _juryVotes(id, _voteFor(batch, truth));
        _close(id);
        vm.assertEq(ledger.balanceOf(miner), 0, "the miner would have earned no more");
        vm.assertEq(_funds(), FUNDS + FEES, "the bounty paid for the checking");
    }

    /// Right either way, with another score.
    function testFallsForTheBountyWhereOnlyTheScoreWasWrong() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 id = _dispute(tree, 0);
        _juryVotes(id, _voteFor(batch, Verdict(0, 900_000, 1, 1, 0)));
        _close(id);
        vm.assertEq(ledger.balanceOf(miner), 0, "the miner would have earned no more");
        vm.assertEq(_funds(), FUNDS + FEES, "the bounty paid for the checking");
    }

    function testStands() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 id = _dispute(tree, 3);
        address[] memory jurors = _juryVotes(id, _voteFor(batch, tree.verdicts[3]));
        _skip(20 minutes + 1);
        uint256 left = BOND - JURY;
        vm.expectEmit(address(court));
        emit ICourt.DisputeClosed(id, batch, ICourt.Standing.Stands, 0, JURY, 0, left / 2);
        court.close(id);
        _assertPaid(jurors, JUROR_FEE);
        vm.assertEq(ledger.balanceOf(challenger), 0, "bond lost");
        vm.assertEq(ledger.balanceOf(miner), left / 2, "the miner waited");
        vm.assertEq(court.pool(), left - left / 2, "pool");
        _checkCourt();
        _settle(batch);
        vm.assertEq(ledger.balanceOf(miner), left / 2 + 8 * PRICE + 80_000, "paid as attested");
        _checkCourt();
        _checkNoSeatsOpen();
    }

    /// A batch waits for its disputes, and not a second more.
    function testSettlesOnlyAfterTheDispute() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 id = _dispute(tree, 3);
        _skip(30 minutes + 1);
        _assertPhase(batch, IBatchMarket.Phase.Disputed);
        vm.expectRevert(
            abi.encodeWithSelector(
                IBatchMarket.BatchMarket_WrongPhase.selector, batch, IBatchMarket.Phase.Disputed
            )
        );
        market.settle(batch);
        _juryVotes(id, _voteFor(batch, tree.verdicts[3]));
        _close(id);
        _assertPhase(batch, IBatchMarket.Phase.Settleable);
        market.settle(batch);
        _checkCourt();
    }

    /// Jurors who vote otherwise than the final jury, or not at all, pay like members; what they lose is the pool's.
    function testJurorsAreJudged() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 id = _dispute(tree, 3);
        uint64 jury = court.get(id).jury;
        address[] memory jurors = _draw(jury);
        Attestation memory right = _voteFor(batch, tree.verdicts[3]);
        Attestation[] memory votes = _same(right, 7);
        votes[0] = _voteFor(batch, Verdict(3, 0, 2, 0, 0));
        votes[1] = Attestation(0, 0, 0);
        votes[2] = _outcome(UNAVAILABLE);
        _vote(jury, votes);
        _skip(10 minutes + 1);
        court.tallyJury(id, right);
        _close(id);
        vm.assertEq(stake.get(jurors[0]).stake, 300e6 - _incoherencePenalty(), "another verdict");
        vm.assertEq(stake.get(jurors[1]).stake, 300e6 - _absencePenalty(), "absent");
        vm.assertEq(stake.get(jurors[2]).stake, 300e6 - _absencePenalty(), "said it was unavailable");
        for (uint256 i; i < 7; ++i) {
            vm.assertEq(ledger.balanceOf(jurors[i]), i < 3 ? 0 : JUROR_FEE, "the coherent are paid");
        }
        uint256 left = BOND - 4 * JUROR_FEE;
        uint256 penalties = _incoherencePenalty() + 2 * _absencePenalty();
        vm.assertEq(ledger.balanceOf(miner), left / 2, "half of the rest of the bond, none of the penalties");
        vm.assertEq(court.pool(), left - left / 2 + penalties, "pool");
    }

    /// A batch with one verdict of `reason` and `faults`, while all others are right.
    /// @return batch its number
    /// @return tree what the committee attested
    /// @return truth a copy of that verdict, to be changed
    function _oneOdd(uint32 index, uint8 reason, uint32 faults)
        private
        returns (uint64 batch, VerdictTrees.Tree memory tree, Verdict memory truth)
    {
        batch = _commitTraces(COUNT);
        Verdict[] memory verdicts = VerdictTrees.plain(batch, 8, COUNT).verdicts;
        verdicts[index] = Verdict(index, 0, reason, 0, faults);
        tree = VerdictTrees.build(batch, verdicts);
        _attest(batch, tree.attestationOf());
        truth = Verdict(index, 0, reason, 0, faults);
    }
}
