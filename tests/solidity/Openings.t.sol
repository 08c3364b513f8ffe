// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchMarket} from "../../contracts/src/interfaces/IBatchMarket.sol";
import {ICourt} from "../../contracts/src/interfaces/ICourt.sol";
import {IOpenings} from "../../contracts/src/interfaces/IOpenings.sol";
import {BountyTerms, Verdict} from "../../contracts/src/libraries/Types.sol";
import {VerdictFaults} from "../../contracts/src/libraries/VerdictFaults.sol";
import {CourtScenario} from "./support/CourtScenario.sol";
import {VerdictTrees} from "./support/VerdictTrees.sol";

/// demandOpening, the game of an opening, concludeOpening
/// ├── the whole way to a verdict of a tree of 1, 2, 5 and 64, which a jury then judges
/// ├── nobody answers: the attestation falls
/// ├── the challenger does not go on: its bond is lost
/// ├── a move shows a fault: the attestation falls
/// ├── moves count until the last second of their window
/// └── only the challenger asks, only the court starts
contract OpeningsTest is CourtScenario {
    using VerdictTrees for VerdictTrees.Tree;

    uint256 private constant SLASHED = 450e6;
    uint256 private constant WINDOW = 5 minutes;

    function setUp() external {
        _openCourt(12);
    }

    function testOpensAVerdictOfOne() external {
        _checkGame(1, 0, 0);
    }

    function testOpensVerdictsOfTwo() external {
        _checkGame(2, 0, 1);
        _checkGame(2, 1, 1);
    }

    function testOpensVerdictsOfFive() external {
        _checkGame(5, 3, 3);
        _checkGame(5, 4, 1);
    }

    function testOpensAVerdictOf64() external {
        _checkGame(64, 37, 6);
    }

    function testOpenedVerdictFalls() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        address[] memory signers = _members(1);
        uint64 id = _demand(batch);
        _assertDispute(id, ICourt.Phase.Opening);
        _checkCourt();
        _play(id, tree, 3);
        court.concludeOpening(id);
        _assertDispute(id, ICourt.Phase.InJury);
        vm.assertEq(court.get(id).index, 3, "the verdict that was opened");
        address[] memory jurors = _juryVotes(id, _voteFor(batch, Verdict(3, 0, 2, 0, 0)));
        _assertNew(jurors, signers);
        _close(id);
        _assertPaid(jurors, JUROR_FEE);
        vm.assertEq(ledger.balanceOf(challenger), BOND + SEAT_FEE, "bond and reward");
        vm.assertEq(_funds(), FUNDS + FEES, "bounty");
        vm.assertEq(court.pool(), SLASHED - 7 * JUROR_FEE - SEAT_FEE - FEES, "pool");
    }

    function testOpenedVerdictThatTheMinerWasDenied() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(7);
        uint64 id = _demand(batch);
        _play(id, tree, 7);
        court.concludeOpening(id);
        _juryVotes(id, _voteFor(batch, Verdict(7, 1_000_000, 1, 1, 0)));
        _close(id);
        vm.assertEq(ledger.balanceOf(miner), FEES, "the miner was wronged");
    }

    function testOpenedVerdictStands() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 id = _demand(batch);
        _play(id, tree, 3);
        court.concludeOpening(id);
        _juryVotes(id, _voteFor(batch, tree.verdicts[3]));
        _close(id);
        vm.assertEq(ledger.balanceOf(challenger), 0, "bond lost");
        vm.assertEq(ledger.balanceOf(miner), (BOND - 7 * JUROR_FEE) / 2, "the miner waited");
    }

    /// Nobody opens the root: the tree is withheld, the attestation falls without a jury.
    function testNobodyAnswers() external {
        (uint64 batch,) = _attested(8);
        address[] memory signers = _members(1);
        uint64 id = _demand(batch);
        vm.expectRevert(abi.encodeWithSelector(ICourt.Court_OpeningNotOver.selector, id));
        court.concludeOpening(id);
        _skip(WINDOW);
        vm.expectRevert(abi.encodeWithSelector(ICourt.Court_OpeningNotOver.selector, id));
        court.concludeOpening(id);
        _skip(1);
        _assertStatus(id, IOpenings.Status.Refused);
        court.concludeOpening(id);
        _assertDispute(id, ICourt.Phase.Decided);
        _close(id);
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(stake.get(signers[i]).stake, 300e6 - _fraudPenalty(), "fraud penalty");
        }
        vm.assertEq(ledger.balanceOf(challenger), BOND + SEAT_FEE, "bond and reward");
        vm.assertEq(_funds(), FUNDS + FEES, "bounty");
        vm.assertEq(court.pool(), SLASHED - SEAT_FEE - FEES, "no jury, no jurors' fees");
        _assertPhase(batch, IBatchMarket.Phase.InRound);
    }

    function testNobodyAnswersLater() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 id = _demand(batch);
        openings.answer(id, tree.childrenAt(0));
        _ask(id, true);
        _skip(WINDOW + 1);
        _assertStatus(id, IOpenings.Status.Refused);
        VerdictFaults.Children memory late = tree.childrenAt(8);
        vm.expectRevert(_wrongStatus(id, IOpenings.Status.Refused));
        openings.answer(id, late);
        court.concludeOpening(id);
        _close(id);
        _assertStanding(id, ICourt.Standing.Falls);
    }

    function testChallengerDoesNotGoOn() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 id = _demand(batch);
        openings.answer(id, tree.childrenAt(0));
        _skip(WINDOW);
        vm.expectRevert(abi.encodeWithSelector(ICourt.Court_OpeningNotOver.selector, id));
        court.concludeOpening(id);
        _skip(1);
        _assertStatus(id, IOpenings.Status.Abandoned);
        vm.expectRevert(_wrongStatus(id, IOpenings.Status.Abandoned));
        vm.prank(challenger);
        openings.ask(id, true);
        court.concludeOpening(id);
        _close(id);
        vm.assertEq(ledger.balanceOf(challenger), 0, "bond lost");
        vm.assertEq(ledger.balanceOf(miner), BOND / 2, "half of it the miner's");
        vm.assertEq(court.pool(), BOND - BOND / 2, "half of it the pool's");
        _skip(30 minutes);
        market.settle(batch);
        _checkCourt();
        _checkNoSeatsOpen();
    }

    /// Each move has its whole window, and its last second counts.
    function testMovesAtTheLastSecond() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 id = _demand(batch);
        (, uint256 deadline) = openings.nodeOf(id);
        vm.assertEq(deadline, _now() + WINDOW, "deadline");
        _skip(WINDOW);
        openings.answer(id, tree.childrenAt(0));
        _skip(WINDOW);
        _ask(id, false);
        _skip(WINDOW);
        openings.answer(id, tree.childrenAt(1));
        _skip(WINDOW);
        _ask(id, false);
        _skip(WINDOW);
        openings.answer(id, tree.childrenAt(2));
        _skip(WINDOW);
        _ask(id, false);
        _skip(WINDOW);
        openings.answerVerdict(id, batch, tree.verdicts[0]);
        _assertStatus(id, IOpenings.Status.Opened);
        _skip(30 days);
        _assertStatus(id, IOpenings.Status.Opened);
        court.concludeOpening(id);
        _assertDispute(id, ICourt.Phase.InJury);
    }

    function testOnlyTheChallengerAsks() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 id = _demand(batch);
        vm.expectRevert(_wrongStatus(id, IOpenings.Status.Asked));
        vm.prank(challenger);
        openings.ask(id, true);
        openings.answer(id, tree.childrenAt(0));
        vm.expectRevert(abi.encodeWithSelector(IOpenings.Openings_NotChallenger.selector, id, stranger));
        vm.prank(stranger);
        openings.ask(id, true);
        VerdictFaults.Children memory children = tree.childrenAt(0);
        vm.expectRevert(_wrongStatus(id, IOpenings.Status.Answered));
        openings.answer(id, children);
    }

    function testOnlyTheCourtStarts() external {
        vm.expectRevert(abi.encodeWithSelector(IOpenings.Openings_NotCourt.selector, address(this)));
        openings.start(1, 1, address(this), _verdict(1, 0), 8);
        vm.expectRevert(_wrongStatus(1, IOpenings.Status.None));
        openings.ask(1, true);
    }

    function testAnswersMustBeTheTrees() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 id = _demand(batch);
        bytes32 hash = tree.nodes[0].hash;
        VerdictFaults.Children memory children = VerdictTrees.plain(batch, 7, COUNT).childrenAt(0);
        vm.expectRevert(
            abi.encodeWithSelector(VerdictFaults.VerdictFaults_NotTheChildren.selector, hash, 0, COUNT)
        );
        openings.answer(id, children);
        vm.expectRevert(abi.encodeWithSelector(VerdictFaults.VerdictFaults_NotTheVerdict.selector, hash, 0));
        openings.answerVerdict(id, batch, tree.verdicts[0]);
    }

    function testAnswerShowsAWrongSum() external {
        uint64 batch = _commitTraces(COUNT);
        VerdictTrees.Tree memory tree = VerdictTrees.plain(batch, 5, COUNT);
        tree = VerdictTrees.buildWith(batch, tree.verdicts, tree.said, VerdictTrees.Lie.Units, 1);
        _attest(batch, tree.attestationOf());
        uint64 id = _demand(batch);
        openings.answer(id, tree.childrenAt(0));
        _ask(id, false);
        VerdictFaults.Children memory children = tree.childrenAt(1);
        vm.expectEmit(address(openings));
        emit IOpenings.NodeAnswered(id, children, VerdictFaults.Fault.Sum);
        openings.answer(id, children);
        _checkRefused(id);
    }

    function testAnswerShowsAVerdictInANodesPlace() external {
        uint64 batch = _commitTraces(COUNT);
        VerdictTrees.Tree memory tree = VerdictTrees.plain(batch, 5, COUNT);
        tree = VerdictTrees.buildWith(batch, tree.verdicts, tree.said, VerdictTrees.Lie.VerdictForNode, 8);
        _attest(batch, tree.attestationOf());
        uint64 id = _demand(batch);
        openings.answer(id, tree.childrenAt(0));
        _ask(id, true);
        openings.answerVerdict(id, batch, tree.instead);
        _checkRefused(id);
    }

    function testAnswerShowsNodesInAVerdictsPlace() external {
        uint64 batch = _commitTraces(COUNT);
        VerdictTrees.Tree memory tree = VerdictTrees.plain(batch, 5, COUNT);
        uint256 spot = tree.placeOf(6);
        tree = VerdictTrees.buildWith(batch, tree.verdicts, tree.said, VerdictTrees.Lie.NodeForVerdict, spot);
        _attest(batch, tree.attestationOf());
        uint64 id = _demand(batch);
        _walk(id, tree, 6);
        openings.answer(id, tree.childrenAt(spot));
        _checkRefused(id);
    }

    function testAnswerShowsAnotherBatchsVerdict() external {
        uint64 batch = _commitTraces(COUNT);
        VerdictTrees.Tree memory tree = VerdictTrees.plain(batch, 5, COUNT);
        tree.said[0] = batch + 1;
        tree = VerdictTrees.buildWith(batch, tree.verdicts, tree.said, VerdictTrees.Lie.None, 0);
        _attest(batch, tree.attestationOf());
        uint64 id = _demand(batch);
        _walk(id, tree, 0);
        openings.answerVerdict(id, batch + 1, tree.verdicts[0]);
        _checkRefused(id);
    }

    /// The attestation falls by another hand while it is being opened: the opening goes on for the bond alone.
    function testOpeningAfterAFall() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        uint64 id = _demand(batch);
        _play(id, tree, 2);
        uint64 other = _disputeBy(stranger, tree, 3);
        _juryVotes(other, _voteFor(batch, Verdict(3, 0, 2, 0, 0)));
        _close(other);
        _draw(market.get(batch).round);
        court.concludeOpening(id);
        // Twelve verifiers: three signed, three sit in the fresh committee; whoever was a juror may be one again.
        _juryVotes(id, _voteFor(batch, tree.verdicts[2]));
        _close(id);
        vm.assertEq(ledger.balanceOf(challenger), 0, "the opened verdict was right: bond lost");
        vm.assertEq(market.get(batch).disputes, 0, "nothing is left open");
    }

    function _checkRefused(uint64 id) private {
        _assertStatus(id, IOpenings.Status.Refused);
        court.concludeOpening(id);
        _close(id);
        _assertStanding(id, ICourt.Standing.Falls);
        vm.assertEq(ledger.balanceOf(challenger), BOND + SEAT_FEE, "bond and reward");
        vm.assertEq(court.pool(), SLASHED - SEAT_FEE - FEES, "pool");
    }

    /// @param moves how many nodes are opened on the way
    function _checkGame(uint32 count, uint32 index, uint256 moves) private {
        uint64 batch = _commitSingle(count);
        VerdictTrees.Tree memory tree = VerdictTrees.random(batch, count, count);
        _attest(batch, tree.attestationOf());
        uint64 id = _demand(batch);
        vm.assertEq(_play(id, tree, index), moves, "moves");
        Verdict memory opened = openings.openedOf(id);
        vm.assertEq(keccak256(abi.encode(opened)), keccak256(abi.encode(tree.verdicts[index])), "verdict");
        court.concludeOpening(id);
        vm.assertEq(court.get(id).vote, rounds.voteOf(_voteFor(batch, opened)), "what the jury is asked");
        vm.assertEq(court.get(id).index, index, "of which trace");
        _skip(1 hours + 1);
        court.tallyJury(id, _outcome(0));
        court.close(id);
        market.settle(batch);
        _checkNoSeatsOpen();
    }

    /// A batch for a bounty that takes any number of traces.
    function _commitSingle(uint32 count) private returns (uint64) {
        if (escrow.get(bounty).terms.groupSize != 1) {
            BountyTerms memory terms = _terms();
            terms.groupSize = 1;
            bounty = _bountyWith(terms, FUNDS);
        }
        return _commitTraces(count);
    }

    function _demand(uint64 batch) private returns (uint64) {
        _arm(challenger, court.bondFor(batch));
        bytes32 identity = _attestationOf(batch);
        vm.prank(challenger);
        return court.demandOpening(batch, identity);
    }

    function _ask(uint64 id, bool right) private {
        vm.prank(challenger);
        openings.ask(id, right);
    }

    /// Opens every node on the way to a verdict, and goes there.
    function _walk(uint64 id, VerdictTrees.Tree memory tree, uint256 index) private returns (uint256 moves) {
        (uint256[] memory spots, bool[] memory rights,,) = tree.wayTo(tree.placeOf(index));
        for (; moves < rights.length; ++moves) {
            openings.answer(id, tree.childrenAt(spots[moves]));
            _ask(id, rights[moves]);
        }
    }

    function _play(uint64 id, VerdictTrees.Tree memory tree, uint256 index) private returns (uint256 moves) {
        moves = _walk(id, tree, index);
        openings.answerVerdict(id, tree.batch, tree.verdicts[index]);
    }

    function _assertStatus(uint64 id, IOpenings.Status expected) private view {
        vm.assertEq(uint256(openings.statusOf(id)), uint256(expected), "status of the opening");
    }

    function _wrongStatus(uint64 id, IOpenings.Status status) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IOpenings.Openings_WrongStatus.selector, id, status);
    }
}
