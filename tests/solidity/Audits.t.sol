// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAudits} from "../../contracts/src/interfaces/IAudits.sol";
import {IEvidence} from "../../contracts/src/interfaces/IEvidence.sol";
import {MerkleProofs} from "../../contracts/src/libraries/MerkleProofs.sol";
import {Verdict} from "../../contracts/src/libraries/Types.sol";
import {CourtScenario} from "./support/CourtScenario.sol";
import {TraceTrees, VerdictTrees} from "./support/VerdictTrees.sol";

/// Planted batches
/// ├── plant: any root but zero, once
/// ├── open: passed or missed, by a committee that did not know
/// │   ├── one of many plantings under one root
/// │   └── a missed one is disputed and falls
/// └── refused: not planted, another's, planted too late, not attested, an outcome, twice, another verdict than the attested one
///     of the trap
contract AuditsTest is CourtScenario {
    using VerdictTrees for VerdictTrees.Tree;

    bytes32 private constant SALT = keccak256("salt");
    uint32 private constant TRAP = 5;
    bytes32[] private none;
    bytes32 private leaf;

    function setUp() external {
        _openCourt(10);
        leaf = audits.leafOf(TraceTrees.rootOf(_origin(), 0, COUNT), _trap(), SALT);
    }

    function testPlant() external {
        bytes32 root = keccak256("root");
        vm.expectEmit(address(audits));
        emit IAudits.Planted(root, poster);
        _plant(root);
        vm.assertEq(audits.plantingOf(root).planter, poster, "planter");
        vm.assertEq(audits.plantingOf(root).plantedAt, _now(), "time");
        vm.expectRevert(abi.encodeWithSelector(IAudits.Audits_AlreadyPlanted.selector, root));
        audits.plant(root);
        vm.expectRevert(abi.encodeWithSelector(IAudits.Audits_ZeroRoot.selector));
        audits.plant(0);
    }

    function testLeaf() external view {
        bytes32 inner = keccak256(abi.encode(block.chainid, address(audits), _root(), _trap(), SALT));
        vm.assertEq(leaf, keccak256(abi.encodePacked(inner)), "leaf");
    }

    function testPassed() external {
        uint64 batch = _planted(leaf);
        VerdictTrees.Tree memory tree = _attestWith(batch, 5);
        vm.expectEmit(address(audits));
        emit IAudits.AuditOpened(batch, poster, TRAP, _trap(), false);
        vm.assertFalse(_open(batch, tree, leaf, none), "seen");
        IAudits.Audit memory audit = audits.auditOf(batch);
        vm.assertEq(audit.planter, poster, "planter");
        vm.assertEq(audit.index, TRAP, "index");
        vm.assertFalse(audit.missed, "passed");
    }

    function testPassedAfterSettlement() external {
        uint64 batch = _planted(leaf);
        VerdictTrees.Tree memory tree = _attestWith(batch, 5);
        _settle(batch);
        vm.assertFalse(_open(batch, tree, leaf, none), "seen");
    }

    /// The committee calls all eight right without looking; the planter disputes what it knows to be wrong.
    function testMissed() external {
        uint64 batch = _planted(leaf);
        VerdictTrees.Tree memory tree = _attestWith(batch, 8);
        vm.assertTrue(_open(batch, tree, leaf, none), "missed");
        vm.assertTrue(audits.auditOf(batch).missed, "recorded");
        vm.assertFalse(market.get(batch).closed, "a record moves nothing");

        uint64 id = _disputeBy(poster, tree, TRAP);
        _juryVotes(id, _voteFor(batch, _trap()));
        _close(id);
        vm.assertEq(_funds(), FUNDS + FEES, "the signers' loss pays the bounty its fees back");
        vm.assertEq(ledger.balanceOf(poster), BOND + SEAT_FEE, "bond and reward");
    }

    /// Another trace's verdict does not show that the trap was missed.
    function testNotTheVerdictOfAnotherTrace() external {
        uint64 batch = _planted(leaf);
        VerdictTrees.Tree memory tree = _attestWith(batch, 5);
        MerkleProofs.SumNode[] memory proof = tree.proofOf(2);
        vm.prank(poster);
        vm.expectRevert(abi.encodeWithSelector(IEvidence.Evidence_BadVerdictProof.selector, batch, TRAP));
        audits.open(batch, _trap(), SALT, leaf, none, tree.verdicts[2], proof);
        vm.assertEq(audits.auditOf(batch).planter, address(0), "not opened");
    }

    function testManyUnderOneRoot() external {
        bytes32[] memory leaves = new bytes32[](4);
        leaves[0] = audits.leafOf(keccak256("another batch"), _trap(), SALT);
        leaves[1] = leaf;
        leaves[2] = audits.leafOf(_root(), _trap(), keccak256("another salt"));
        leaves[3] = audits.leafOf(keccak256("a third batch"), _trap(), SALT);
        bytes32 left = _pair(leaves[0], leaves[1]);
        bytes32 right = _pair(leaves[2], leaves[3]);
        bytes32 root = _pair(left, right);
        uint64 batch = _planted(root);
        VerdictTrees.Tree memory tree = _attestWith(batch, 5);
        bytes32[] memory proof = new bytes32[](2);
        (proof[0], proof[1]) = (leaves[0], left);
        _expectNotPlanted(root);
        this.openAs(poster, batch, tree, root, proof);
        (proof[0], proof[1]) = (leaves[0], right);
        vm.assertFalse(_open(batch, tree, root, proof), "seen");
    }

    function testNotPlanted() external {
        uint64 batch = _commitTraces(COUNT);
        VerdictTrees.Tree memory tree = _attestWith(batch, 5);
        _expectNotPlanted(leaf);
        this.openAs(poster, batch, tree, leaf, none);
    }

    function testNotYours() external {
        uint64 batch = _planted(leaf);
        VerdictTrees.Tree memory tree = _attestWith(batch, 5);
        vm.expectRevert(abi.encodeWithSelector(IAudits.Audits_NotYours.selector, leaf, poster));
        this.openAs(stranger, batch, tree, leaf, none);
    }

    function testPlantedTooLate() external {
        _plant(leaf);
        uint64 batch = _commitTraces(COUNT);
        uint256 time = _now();
        VerdictTrees.Tree memory tree = _attestWith(batch, 5);
        vm.expectRevert(abi.encodeWithSelector(IAudits.Audits_PlantedTooLate.selector, time, time));
        this.openAs(poster, batch, tree, leaf, none);
    }

    function testNotAttested() external {
        uint64 batch = _planted(leaf);
        VerdictTrees.Tree memory tree = VerdictTrees.plain(batch, 5, COUNT);
        vm.expectRevert(abi.encodeWithSelector(IAudits.Audits_NotAttested.selector, batch));
        this.openAs(poster, batch, tree, leaf, none);
        _attest(batch, _outcome(UNAVAILABLE));
        vm.expectRevert(abi.encodeWithSelector(IAudits.Audits_NotAttested.selector, batch));
        this.openAs(poster, batch, tree, leaf, none);
    }

    function testOnlyOnce() external {
        uint64 batch = _planted(leaf);
        VerdictTrees.Tree memory tree = _attestWith(batch, 5);
        _open(batch, tree, leaf, none);
        vm.expectRevert(abi.encodeWithSelector(IAudits.Audits_AlreadyOpened.selector, batch));
        this.openAs(poster, batch, tree, leaf, none);
    }

    function testNotTheAttestedVerdict() external {
        uint64 batch = _planted(leaf);
        _attestWith(batch, 8);
        VerdictTrees.Tree memory other = VerdictTrees.plain(batch, 5, COUNT);
        vm.expectRevert(abi.encodeWithSelector(IEvidence.Evidence_BadVerdictProof.selector, batch, TRAP));
        this.openAs(poster, batch, other, leaf, none);
    }

    function openAs(
        address account,
        uint64 batch,
        VerdictTrees.Tree memory tree,
        bytes32 root,
        bytes32[] memory proof
    ) external returns (bool) {
        MerkleProofs.SumNode[] memory way = tree.proofOf(TRAP);
        vm.prank(account);
        return audits.open(batch, _trap(), SALT, root, proof, tree.verdicts[TRAP], way);
    }

    function _open(uint64 batch, VerdictTrees.Tree memory tree, bytes32 root, bytes32[] memory proof)
        private
        returns (bool)
    {
        MerkleProofs.SumNode[] memory way = tree.proofOf(TRAP);
        vm.prank(poster);
        return audits.open(batch, _trap(), SALT, root, proof, tree.verdicts[TRAP], way);
    }

    function _plant(bytes32 root) private {
        vm.prank(poster);
        audits.plant(root);
    }

    function _planted(bytes32 root) private returns (uint64) {
        _plant(root);
        _skip(1);
        return _commitTraces(COUNT);
    }

    function _attestWith(uint64 batch, uint256 units) private returns (VerdictTrees.Tree memory tree) {
        tree = VerdictTrees.plain(batch, units, COUNT);
        _attest(batch, tree.attestationOf());
    }

    function _root() private view returns (bytes32) {
        return TraceTrees.rootOf(_origin(), 0, COUNT);
    }

    /// Number 5 is wrong.
    function _trap() private pure returns (Verdict memory) {
        return Verdict(TRAP, 0, 2, 0, 0);
    }

    function _expectNotPlanted(bytes32 root) private {
        vm.expectRevert(abi.encodeWithSelector(IAudits.Audits_NotPlanted.selector, root, leaf));
    }

    function _pair(bytes32 a, bytes32 b) private pure returns (bytes32) {
        return a < b ? keccak256(abi.encodePacked(a, b)) : keccak256(abi.encodePacked(b, a));
    }
}
