// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchMarket} from "../../contracts/src/interfaces/IBatchMarket.sol";
import {ICourt} from "../../contracts/src/interfaces/ICourt.sol";
import {IEvidence} from "../../contracts/src/interfaces/IEvidence.sol";
import {Attestation, Verdict} from "../../contracts/src/libraries/Types.sol";
import {VerdictFaults} from "../../contracts/src/libraries/VerdictFaults.sol";
import {CourtScenario} from "./support/CourtScenario.sol";
import {VerdictTrees} from "./support/VerdictTrees.sol";

/// Evidence.fault and Court.proveFault
/// ├── an honest tree of any size: no node of it, opened as anything, proves a fault
/// ├── any lie at any node of any tree: proven by opening that node, as the fault that it is
/// │   ├── Sum: an inner node, the root, a verdict's node
/// │   ├── Shape: a verdict for a node, a node for a verdict
/// │   ├── Index: a verdict twice, another batch's verdict
/// │   └── Cap: two units, unit and fault, score, reason
/// ├── nodes that are not the tree's: refused
/// └── the attestation falls at once, with the signers' loss shared out; once
contract VerdictFaultsTest is CourtScenario {
    using VerdictTrees for VerdictTrees.Tree;

    uint64 private constant BATCH = 7;
    uint256 private constant SLASHED = 450e6;

    function setUp() external {
        _openCourt(20);
    }

    function testHonestTreesHaveNoFault() external {
        for (uint256 size = 1; size <= 18; ++size) {
            VerdictTrees.Tree memory tree = VerdictTrees.random(BATCH, size, size);
            for (uint256 spot; spot < 2 * size - 1; ++spot) {
                _expectNoFault(tree, tree.openedAt(spot));
            }
        }
    }

    function testFuzz_HonestTreesHaveNoFault(uint256 seed, uint256 size, uint256 spot) external {
        size = _bound(size, 1, 70);
        spot = _bound(spot, 0, 2 * size - 2);
        VerdictTrees.Tree memory tree = VerdictTrees.random(BATCH, seed, size);
        _expectNoFault(tree, tree.openedAt(spot));
    }

    /// Opened as what it is not, with another path or other nodes, an honest tree shows no fault either.
    function testFuzz_HonestTreesCannotBeFramed(uint256 seed, uint256 size, uint256 spot, uint256 how)
        external
        view
    {
        size = _bound(size, 2, 70);
        spot = _bound(spot, 0, 2 * size - 2);
        VerdictTrees.Tree memory tree = VerdictTrees.random(BATCH, seed, size);
        IEvidence.Opened memory opened = tree.openedAt(spot);
        how = how % 6;
        if (how == 0) {
            (,,, uint256 below) = tree.wayTo(spot);
            opened = tree.openedAt(spot, below != 1);
        } else if (how == 1) {
            opened.batch += 1;
            opened.verdict.units += 2;
            opened.leaf = true;
        } else if (how == 2) {
            if (opened.rights.length != 0) opened.rights[seed % opened.rights.length] = !opened.rights[0];
        } else if (how == 3) {
            opened.rights = new bool[](0);
        } else if (how == 4) {
            if (opened.path.length != 0) opened.path[seed % opened.path.length].left.units += 1;
        } else {
            bool[] memory rights = new bool[](opened.rights.length + 3);
            for (uint256 i; i < opened.rights.length; ++i) {
                rights[i] = opened.rights[i];
            }
            opened.rights = rights;
        }
        Attestation memory attestation = tree.attestationOf();
        try evidence.fault(BATCH, attestation, uint32(size), opened) returns (VerdictFaults.Fault) {
            revert("an honest tree was framed");
        } catch (bytes memory reason) {
            bytes4 selector = bytes4(reason);
            bool known = selector == IEvidence.Evidence_NoFault.selector
                || selector == VerdictFaults.VerdictFaults_NotTheChildren.selector
                || selector == VerdictFaults.VerdictFaults_NotTheVerdict.selector;
            vm.assertTrue(known, "refused by name");
        }
    }

    /// Every node of every small tree lies once about its sums.
    function testWrongSums() external view {
        for (uint256 size = 1; size <= 12; ++size) {
            for (uint256 spot; spot < 2 * size - 1; ++spot) {
                _checkLie(size, size, spot, VerdictTrees.Lie.Units, VerdictFaults.Fault.Sum);
                _checkLie(size, size, spot, VerdictTrees.Lie.Faults, VerdictFaults.Fault.Sum);
            }
        }
    }

    function testWrongShapes() external view {
        for (uint256 size = 1; size <= 12; ++size) {
            for (uint256 spot; spot < 2 * size - 1; ++spot) {
                (,,, uint256 below) = VerdictTrees.random(BATCH, size, size).wayTo(spot);
                VerdictTrees.Lie lie =
                    below == 1 ? VerdictTrees.Lie.NodeForVerdict : VerdictTrees.Lie.VerdictForNode;
                _checkLie(size, size, spot, lie, VerdictFaults.Fault.Shape);
            }
        }
    }

    function testFuzz_AnyLieIsProven(uint256 seed, uint256 size, uint256 spot, uint256 kind) external view {
        size = _bound(size, 1, 70);
        spot = _bound(spot, 0, 2 * size - 2);
        kind = kind % 3;
        if (kind == 0) _checkLie(seed, size, spot, VerdictTrees.Lie.Units, VerdictFaults.Fault.Sum);
        else if (kind == 1) _checkLie(seed, size, spot, VerdictTrees.Lie.Faults, VerdictFaults.Fault.Sum);
        else _checkShape(seed, size, spot);
    }

    function testFuzz_BadVerdictIsProven(uint256 seed, uint256 size, uint256 index, uint256 kind) external view {
        size = _bound(size, 1, 70);
        index = _bound(index, 0, size - 1);
        kind = kind % 9;
        VerdictTrees.Tree memory tree = VerdictTrees.random(BATCH, seed, size);
        Verdict[] memory verdicts = tree.verdicts;
        uint64[] memory said = tree.said;
        VerdictFaults.Fault expected = VerdictFaults.Fault.Cap;
        if (kind == 0) (verdicts[index].units, verdicts[index].faults) = (2, 0);
        else if (kind == 1) (verdicts[index].units, verdicts[index].faults) = (0, 2);
        else if (kind == 2) (verdicts[index].units, verdicts[index].faults) = (1, 1);
        else if (kind == 3) verdicts[index].score = 1_000_001;
        else if (kind == 4) verdicts[index].reason = 0;
        else if (kind == 5) verdicts[index].reason = uint8(32 + seed % 224);
        else expected = VerdictFaults.Fault.Index;
        if (kind == 6) verdicts[index] = VerdictTrees.verdictOf(seed, index == 0 ? 1 : index - 1);
        if (kind == 7) said[index] = BATCH + 1;
        if (kind == 8) verdicts[index].index = type(uint32).max;
        tree = VerdictTrees.buildWith(BATCH, verdicts, said, VerdictTrees.Lie.None, 0);
        _checkFault(tree, tree.openedAt(tree.placeOf(index)), expected);
    }

    /// The same verdict in two places: the second of them is out of place.
    function testVerdictTwice() external view {
        VerdictTrees.Tree memory tree = VerdictTrees.plain(BATCH, 5, 9);
        Verdict[] memory verdicts = tree.verdicts;
        verdicts[8] = verdicts[0];
        tree = VerdictTrees.build(BATCH, verdicts);
        _checkFault(tree, tree.openedAt(tree.placeOf(8)), VerdictFaults.Fault.Index);
    }

    /// A root of more traces than the batch has: some node is out of shape.
    function testTreeOfAnotherSize() external view {
        VerdictTrees.Tree memory tree = VerdictTrees.plain(BATCH, 5, 9);
        IEvidence.Opened memory opened = tree.openedAt(tree.placeOf(0));
        VerdictFaults.Fault found = evidence.fault(BATCH, tree.attestationOf(), 8, opened);
        vm.assertEq(uint256(found), uint256(VerdictFaults.Fault.Shape), "a level too many");
        opened = tree.openedAt(tree.placeOf(8));
        found = evidence.fault(BATCH, tree.attestationOf(), 10, opened);
        vm.assertEq(uint256(found), uint256(VerdictFaults.Fault.Shape), "a level too few");
    }

    function testRefusesOtherNodes() external {
        VerdictTrees.Tree memory tree = VerdictTrees.plain(BATCH, 5, 9);
        IEvidence.Opened memory opened = tree.openedAt(tree.placeOf(4));
        opened.path[1].left.units += 1;
        Attestation memory attestation = tree.attestationOf();
        bytes32 hash = tree.nodes[1].hash;
        vm.expectRevert(
            abi.encodeWithSelector(VerdictFaults.VerdictFaults_NotTheChildren.selector, hash, 0, 8)
        );
        evidence.fault(BATCH, attestation, 9, opened);
        opened.path[1].left.units -= 1;
        opened.verdict.score += 1;
        hash = tree.nodes[tree.placeOf(4)].hash;
        vm.expectRevert(abi.encodeWithSelector(VerdictFaults.VerdictFaults_NotTheVerdict.selector, hash, 4));
        evidence.fault(BATCH, attestation, 9, opened);
        IEvidence.Opened memory nothing;
        vm.expectRevert(abi.encodeWithSelector(IEvidence.Evidence_NoFault.selector, BATCH));
        evidence.fault(BATCH, attestation, 9, nothing);
    }

    function testProveFault() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attestedLie();
        address[] memory signers = _members(1);
        IEvidence.Opened memory opened = tree.openedAt(0);
        vm.expectEmit(address(court));
        emit ICourt.FaultProven(batch, challenger, VerdictFaults.Fault.Sum, SLASHED, SEAT_FEE, FEES);
        vm.prank(challenger);
        court.proveFault(batch, opened);
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(stake.get(signers[i]).stake, 300e6 - _fraudPenalty(), "fraud penalty");
        }
        vm.assertEq(ledger.balanceOf(challenger), SEAT_FEE, "what checking would have paid, without a bond");
        vm.assertEq(_funds(), FUNDS + FEES, "the poster's fee made good");
        vm.assertEq(court.pool(), SLASHED - SEAT_FEE - FEES, "pool");
        _assertPhase(batch, IBatchMarket.Phase.InRound);
        _checkCourt();

        // Only once, and not before the next attestation.
        vm.expectRevert(abi.encodeWithSelector(ICourt.Court_NotAttested.selector, batch));
        court.proveFault(batch, opened);
        VerdictTrees.Tree memory right = VerdictTrees.plain(batch, 5, COUNT);
        _attest(batch, right.attestationOf());
        // The lie was in the sums alone: the same nodes prove nothing against the true ones.
        vm.assertEq(right.nodes[0].hash, tree.nodes[0].hash, "same hash");
        vm.expectRevert(abi.encodeWithSelector(IEvidence.Evidence_NoFault.selector, batch));
        court.proveFault(batch, opened);
        _settle(batch);
        vm.expectRevert(abi.encodeWithSelector(ICourt.Court_NotAttested.selector, batch));
        court.proveFault(batch, right.openedAt(0));
        _checkCourt();
        _checkNoSeatsOpen();
    }

    /// After the challenge window too, as long as nothing is paid.
    function testProveFaultUntilSettlement() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attestedLie();
        _skip(1 days);
        _assertPhase(batch, IBatchMarket.Phase.Settleable);
        court.proveFault(batch, tree.openedAt(0));
        _assertPhase(batch, IBatchMarket.Phase.InRound);
    }

    function testNoFaultInAnOutcome() external {
        uint64 batch = _commitTraces(COUNT);
        _attest(batch, _outcome(MALFORMED));
        IEvidence.Opened memory nothing;
        vm.expectRevert(abi.encodeWithSelector(ICourt.Court_WholeBatch.selector, MALFORMED));
        court.proveFault(batch, nothing);
    }

    /// The lie is found while a jury sits: signers are convicted once, the challenger of the verdict keeps its bond.
    function testProveFaultWhileADisputeIsOpen() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attestedSwap();
        uint64 id = _dispute(tree, 1);
        court.proveFault(batch, tree.openedAt(tree.placeOf(0)));
        uint256 pool = court.pool();
        vm.assertEq(pool, SLASHED - SEAT_FEE - FEES, "pool, without the open bond");
        _checkCourtWith(address(this));
        address[] memory jurors = _juryVotes(id, _voteFor(batch, Verdict(1, 0, 2, 0, 0)));
        _skip(20 minutes + 1);
        court.close(id);
        vm.assertEq(ledger.balanceOf(challenger), BOND - 7 * JUROR_FEE, "another was quicker: no reward, and the jurors' fees");
        _assertPaid(jurors, JUROR_FEE);
        vm.assertEq(court.pool(), pool, "the pool is as it was");
        vm.assertEq(market.get(batch).overturned, 1, "once");
        _checkCourtWith(address(this));
    }

    function testFaultInTheLastRoundIsVoid() external {
        uint64 batch = _commitTraces(COUNT);
        for (uint256 i; i < 3; ++i) {
            VerdictTrees.Tree memory tree = _lie(batch);
            _attest(batch, tree.attestationOf());
            vm.prank(challenger);
            court.proveFault(batch, tree.openedAt(0));
        }
        _assertPhase(batch, IBatchMarket.Phase.Void);
        vm.assertEq(ledger.balanceOf(miner), 80_000, "the bond back");
        vm.assertEq(ledger.balanceOf(challenger), 3 * SEAT_FEE, "three rewards");
        _checkCourt();
        _checkNoSeatsOpen();
    }

    function _lie(uint64 batch) private pure returns (VerdictTrees.Tree memory) {
        VerdictTrees.Tree memory honest = VerdictTrees.plain(batch, 5, COUNT);
        return VerdictTrees.buildWith(batch, honest.verdicts, honest.said, VerdictTrees.Lie.Units, 0);
    }

    /// A committee attests one unit more than its verdicts have.
    function _attestedLie() private returns (uint64 batch, VerdictTrees.Tree memory tree) {
        batch = _commitTraces(COUNT);
        tree = _lie(batch);
        _attest(batch, tree.attestationOf());
    }

    /// A committee attests a first verdict that is another's.
    function _attestedSwap() private returns (uint64 batch, VerdictTrees.Tree memory tree) {
        batch = _commitTraces(COUNT);
        Verdict[] memory verdicts = VerdictTrees.plain(batch, 8, COUNT).verdicts;
        verdicts[0].index = 2;
        tree = VerdictTrees.build(batch, verdicts);
        _attest(batch, tree.attestationOf());
    }

    function _checkCourtWith(address account) private {
        accounts.push(account);
        _checkCourt();
        accounts.pop();
    }

    function _checkShape(uint256 seed, uint256 size, uint256 spot) private view {
        (,,, uint256 below) = VerdictTrees.random(BATCH, seed, size).wayTo(spot);
        VerdictTrees.Lie lie = below == 1 ? VerdictTrees.Lie.NodeForVerdict : VerdictTrees.Lie.VerdictForNode;
        _checkLie(seed, size, spot, lie, VerdictFaults.Fault.Shape);
    }

    function _checkLie(
        uint256 seed,
        uint256 size,
        uint256 spot,
        VerdictTrees.Lie lie,
        VerdictFaults.Fault expected
    ) private view {
        VerdictTrees.Tree memory honest = VerdictTrees.random(BATCH, seed, size);
        VerdictTrees.Tree memory tree =
            VerdictTrees.buildWith(BATCH, honest.verdicts, honest.said, lie, spot);
        (,,, uint256 below) = tree.wayTo(spot);
        bool asVerdict = (below == 1) != (expected == VerdictFaults.Fault.Shape);
        _checkFault(tree, tree.openedAt(spot, asVerdict), expected);
    }

    function _checkFault(
        VerdictTrees.Tree memory tree,
        IEvidence.Opened memory opened,
        VerdictFaults.Fault expected
    ) private view {
        VerdictFaults.Fault found = evidence.fault(BATCH, tree.attestationOf(), uint32(tree.size), opened);
        vm.assertEq(uint256(found), uint256(expected), "fault");
    }

    function _expectNoFault(VerdictTrees.Tree memory tree, IEvidence.Opened memory opened) private {
        Attestation memory attestation = tree.attestationOf();
        uint32 size = uint32(tree.size);
        vm.expectRevert(abi.encodeWithSelector(IEvidence.Evidence_NoFault.selector, BATCH));
        evidence.fault(BATCH, attestation, size, opened);
    }
}
