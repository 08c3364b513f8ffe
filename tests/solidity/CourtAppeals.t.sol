// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchMarket} from "../../contracts/src/interfaces/IBatchMarket.sol";
import {ICourt} from "../../contracts/src/interfaces/ICourt.sol";
import {Attestation, Verdict} from "../../contracts/src/libraries/Types.sol";
import {CourtScenario} from "./support/CourtScenario.sol";
import {VerdictTrees} from "./support/VerdictTrees.sol";

/// appeal: a larger jury of others, for twice the bond
/// ├── until the last second of the window, and not after it; not of the last jury's decision
/// ├── another decision, or one about another batch, than the appellant names: refused
/// ├── the decision remains: the appellant's bond is lost
/// ├── reversal: the appellant keeps it, the first jury is incoherent
/// ├── double reversal: the first appellant loses, the second does not
/// ├── no quorum on appeal: a larger jury; after the last one the decision before remains
/// ├── no jury can be drawn: the decision remains, the appellant keeps its bond
/// └── nobody votes: the decision before remains
contract CourtAppealsTest is CourtScenario {
    using VerdictTrees for VerdictTrees.Tree;

    uint256 private constant SLASHED = 450e6;

    uint64 private batch;
    uint64 private id;
    Attestation private attested;
    Attestation private truth;
    bytes32 private decision;

    function setUp() external {
        _openCourt(56);
        VerdictTrees.Tree memory tree;
        (batch, tree) = _attested(8);
        attested = _voteFor(batch, tree.verdicts[3]);
        truth = _voteFor(batch, Verdict(3, 0, 2, 0, 0));
        id = _dispute(tree, 3);
    }

    function testWindow() external {
        _juryVotes(id, truth);
        uint256 end = _now() + 20 minutes;
        vm.warp(end);
        _assertDispute(id, ICourt.Phase.Appealable);
        vm.expectRevert(_wrongPhase(id, ICourt.Phase.Appealable));
        court.close(id);
        uint256 state = vm.snapshotState();
        _appeal(id);
        _assertDispute(id, ICourt.Phase.InJury);
        vm.revertToState(state);
        vm.warp(end + 1);
        _assertDispute(id, ICourt.Phase.Decided);
        decision = _decisionOf(id);
        vm.expectRevert(_wrongPhase(id, ICourt.Phase.Decided));
        court.appeal(id, decision);
        court.close(id);
        _assertDispute(id, ICourt.Phase.Closed);
        vm.expectRevert(_wrongPhase(id, ICourt.Phase.Closed));
        court.close(id);
        decision = _decisionOf(id);
        vm.expectRevert(_wrongPhase(id, ICourt.Phase.Closed));
        court.appeal(id, decision);
    }

    /// A chain that is reorganised gives numbers anew, and juries vote once more. An appellant's bond stands behind nothing
    /// else than what it looked at.
    function testNamesTheDecision() external {
        uint256 before = vm.snapshotState();
        _juryVotes(id, truth);
        bytes32 meant = _decisionOf(id);
        vm.revertToState(before);
        _juryVotes(id, attested);
        _refuseAppeal(meant);
        // The same decision of a larger jury takes a larger bond.
        _appeal(id);
        _juryVotes(id, truth);
        _refuseAppeal(meant);
    }

    function _refuseAppeal(bytes32 named) private {
        bytes32 found = _decisionOf(id);
        _arm(appellant, 8 * BOND);
        uint256 tokens = token.balanceOf(appellant);
        vm.expectRevert(abi.encodeWithSelector(ICourt.Court_AnotherDecision.selector, id, found, named));
        vm.prank(appellant);
        court.appeal(id, named);
        vm.assertEq(token.balanceOf(appellant), tokens, "no bond");
    }

    function testWrongPhases() external {
        decision = _decisionOf(id);
        vm.expectRevert(_wrongPhase(id, ICourt.Phase.InJury));
        court.appeal(id, decision);
        vm.expectRevert(_wrongPhase(id, ICourt.Phase.InJury));
        court.close(id);
        vm.expectRevert(_wrongPhase(id, ICourt.Phase.InJury));
        court.concludeOpening(id);
        _juryVotes(id, truth);
        vm.expectRevert(_wrongPhase(id, ICourt.Phase.Appealable));
        court.tallyJury(id, truth);
    }

    /// The vote given must be the jury's.
    function testTallyNeedsTheLeader() external {
        uint64 jury = court.get(id).jury;
        uint256 seats = _draw(jury).length;
        _vote(jury, _same(truth, seats));
        bytes32 given = rounds.voteOf(attested);
        bytes32 leader = rounds.voteOf(truth);
        vm.expectRevert(abi.encodeWithSelector(ICourt.Court_NotTheLeader.selector, given, leader));
        court.tallyJury(id, attested);
    }

    /// The signers' side appeals a fall; a larger jury sees it fall again.
    function testAppealAgainstAFallIsLost() external {
        address[] memory small = _juryVotes(id, truth);
        uint256 held = ledger.heldFor(address(court));
        _appeal(id);
        vm.assertEq(ledger.heldFor(address(court)) - held, 2 * BOND, "twice the bond");
        _checkCourt();
        address[] memory larger = _juryVotes(id, truth);
        vm.assertEq(larger.length, 15, "twice the jury and one more");
        _assertNew(larger, small);
        _assertNew(larger, _members(1));
        _close(id);
        uint256 fees = 22 * JUROR_FEE;
        vm.assertEq(ledger.balanceOf(appellant), 0, "bond lost");
        vm.assertEq(ledger.balanceOf(challenger), BOND + SEAT_FEE, "bond and reward");
        _assertPaid(small, JUROR_FEE);
        _assertPaid(larger, JUROR_FEE);
        vm.assertEq(_funds(), FUNDS + FEES, "bounty");
        vm.assertEq(court.pool(), SLASHED + 2 * BOND - fees - SEAT_FEE - FEES, "pool");
    }

    /// The challenger's side appeals a decision that the verdict stands, and loses again.
    function testAppealAgainstAStandingVerdictIsLost() external {
        _juryVotes(id, attested);
        _appeal(id);
        _juryVotes(id, attested);
        _close(id);
        uint256 left = 3 * BOND - 22 * JUROR_FEE;
        vm.assertEq(ledger.balanceOf(appellant) + ledger.balanceOf(challenger), 0, "both bonds lost");
        vm.assertEq(ledger.balanceOf(miner), left / 2, "the miner's half");
        vm.assertEq(court.pool(), left - left / 2, "the pool's half");
        _assertPhase(batch, IBatchMarket.Phase.Challengeable);
    }

    /// A bought first jury said that it stands.
    function testReversalToAFall() external {
        address[] memory small = _juryVotes(id, attested);
        _appeal(id);
        address[] memory larger = _juryVotes(id, truth);
        _close(id);
        for (uint256 i; i < 7; ++i) {
            vm.assertEq(stake.get(small[i]).stake, 300e6 - _incoherencePenalty(), "the first jury was wrong");
        }
        _assertPaid(small, 0);
        _assertPaid(larger, JUROR_FEE);
        vm.assertEq(ledger.balanceOf(appellant), 2 * BOND, "bond back");
        vm.assertEq(ledger.balanceOf(challenger), BOND + SEAT_FEE, "bond and reward");
        uint256 gained = SLASHED + 7 * _incoherencePenalty();
        vm.assertEq(court.pool(), gained - 15 * JUROR_FEE - SEAT_FEE - FEES, "pool");
        _assertPhase(batch, IBatchMarket.Phase.InRound);
    }

    /// A bought first jury said that it falls.
    function testReversalToStanding() external {
        address[] memory signers = _members(1);
        _juryVotes(id, truth);
        _appeal(id);
        _juryVotes(id, attested);
        _close(id);
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(stake.get(signers[i]).stake, 300e6, "nobody is convicted");
        }
        vm.assertEq(ledger.balanceOf(appellant), 2 * BOND, "bond back");
        vm.assertEq(ledger.balanceOf(challenger), 0, "bond lost");
        // The bond of 7 does not cover 15 jurors: the pool adds 0.5 from what the first jury lost.
        vm.assertEq(court.pool(), 7 * _incoherencePenalty() + BOND - 15 * JUROR_FEE, "pool");
        vm.assertEq(ledger.balanceOf(miner), 0, "nothing is left");
    }

    /// Falls, stands, falls: whoever appealed the first fall loses, whoever appealed the second decision does not.
    function testDoubleReversal() external {
        address[] memory small = _juryVotes(id, truth);
        _appeal(id);
        address[] memory larger = _juryVotes(id, attested);
        _arm(stranger, 4 * BOND);
        decision = _decisionOf(id);
        vm.prank(stranger);
        court.appeal(id, decision);
        _checkCourt();
        address[] memory largest = _juryVotes(id, truth);
        vm.assertEq(largest.length, 31, "the last jury");
        _assertDispute(id, ICourt.Phase.Decided);
        decision = _decisionOf(id);
        vm.expectRevert(_wrongPhase(id, ICourt.Phase.Decided));
        court.appeal(id, decision);
        _close(id);
        vm.assertEq(ledger.balanceOf(appellant), 0, "the first appeal is lost");
        vm.assertEq(ledger.balanceOf(stranger), 4 * BOND, "the second is won");
        vm.assertEq(ledger.balanceOf(challenger), BOND + SEAT_FEE, "bond and reward");
        _assertPaid(small, JUROR_FEE);
        _assertPaid(larger, 0);
        _assertPaid(largest, JUROR_FEE);
        uint256 gained = SLASHED + 2 * BOND + 15 * _incoherencePenalty();
        vm.assertEq(court.pool(), gained - 38 * JUROR_FEE - SEAT_FEE - FEES, "pool");
    }

    function testDoubleReversalToStanding() external {
        _juryVotes(id, attested);
        _appeal(id);
        _juryVotes(id, truth);
        _arm(stranger, 4 * BOND);
        decision = _decisionOf(id);
        vm.prank(stranger);
        court.appeal(id, decision);
        _juryVotes(id, attested);
        _close(id);
        vm.assertEq(ledger.balanceOf(appellant), 0, "the first appeal is lost");
        vm.assertEq(ledger.balanceOf(stranger), 4 * BOND, "the second is won");
        vm.assertEq(ledger.balanceOf(challenger), 0, "bond lost");
        uint256 left = 3 * BOND - 38 * JUROR_FEE;
        vm.assertEq(ledger.balanceOf(miner), left / 2, "the miner's half");
        vm.assertEq(court.pool(), 15 * _incoherencePenalty() + left - left / 2, "pool");
    }

    /// Two juries see different falsehoods in it: the decision remains, but not the first jury's vote.
    function testFallsForAnotherReason() external {
        address[] memory small = _juryVotes(id, truth);
        _appeal(id);
        Attestation memory lie = _voteFor(batch, Verdict(3, 0, 4, 0, 1));
        _juryVotes(id, lie);
        _close(id);
        vm.assertEq(ledger.balanceOf(appellant), 0, "it fell all the same");
        vm.assertEq(stake.get(small[0]).stake, 300e6 - _incoherencePenalty(), "another verdict than the final one");
    }

    function testUnavailableOnAppeal() external {
        _juryVotes(id, truth);
        _appeal(id);
        _juryVotes(id, _outcome(UNAVAILABLE));
        _close(id);
        _assertStanding(id, ICourt.Standing.Unavailable);
        vm.assertEq(ledger.balanceOf(appellant), 2 * BOND, "the fall did not remain");
        // The challenger's bond of 7 is shared by 15 jurors; ten base units do not divide.
        _assertPaid(_members(court.get(id).jury), BOND / 15);
        vm.assertEq(ledger.balanceOf(challenger), BOND % 15, "what the jurors left");
        vm.assertEq(court.pool(), 3 * _absencePenalty(), "jurors who read it lose nothing, only the signers do");
        vm.assertEq(market.get(batch).attestation.verdictRoot, UNAVAILABLE, "replaced");
    }

    /// No quorum on appeal, nor in the last jury: the first decision remains and the appeal is lost.
    function testNoQuorumOnAppeal() external {
        address[] memory small = _juryVotes(id, truth);
        _appeal(id);
        _juryDisagrees(id);
        _assertDispute(id, ICourt.Phase.InJury);
        address[] memory largest = _juryDisagrees(id);
        vm.assertEq(largest.length, 31, "the last jury");
        _assertDispute(id, ICourt.Phase.Decided);
        _close(id);
        _assertStanding(id, ICourt.Standing.Falls);
        _assertPaid(small, JUROR_FEE);
        _assertPaid(largest, 0);
        vm.assertEq(ledger.balanceOf(appellant), 0, "lost");
        vm.assertEq(ledger.balanceOf(challenger), BOND + SEAT_FEE, "bond and reward");
        uint256 gained = SLASHED + 2 * BOND + 46 * _incoherencePenalty();
        vm.assertEq(court.pool(), gained - 7 * JUROR_FEE - SEAT_FEE - FEES, "pool");
    }

    function testNobodyVotesOnAppeal() external {
        _juryVotes(id, attested);
        _appeal(id);
        for (uint256 i; i < 2; ++i) {
            _draw(court.get(id).jury);
            _skip(10 minutes + 1);
            court.tallyJury(id, _outcome(0));
        }
        _assertDispute(id, ICourt.Phase.Decided);
        _close(id);
        _assertStanding(id, ICourt.Standing.Stands);
        vm.assertEq(ledger.balanceOf(appellant), 0, "lost");
        _settle(batch);
        _checkCourt();
        _checkNoSeatsOpen();
    }

    /// Nobody is left for a jury of 15: the appellant could not be heard and keeps its bond.
    function testStalledAppeal() external {
        _juryVotes(id, attested);
        for (uint256 i; i < verifiers.length; ++i) {
            uint256 free = stake.get(verifiers[i]).stake - stake.get(verifiers[i]).openSeats * uint256(SEAT);
            vm.prank(verifiers[i]);
            stake.requestUnstake(free);
        }
        _appeal(id);
        _skip(1 hours + 1);
        court.tallyJury(id, _outcome(0));
        _assertDispute(id, ICourt.Phase.Decided);
        _close(id);
        _assertStanding(id, ICourt.Standing.Stands);
        vm.assertEq(ledger.balanceOf(appellant), 2 * BOND, "not heard: bond back");
        uint256 left = BOND - 7 * JUROR_FEE;
        vm.assertEq(ledger.balanceOf(miner), left / 2, "the challenger's bond is lost");
        market.settle(batch);
        _checkCourt();
        _checkNoSeatsOpen();
    }
}
