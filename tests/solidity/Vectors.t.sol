// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";

import {IEvidence} from "../../contracts/src/interfaces/IEvidence.sol";
import {MerkleProofs} from "../../contracts/src/libraries/MerkleProofs.sol";
import {MerkleProofsHarness} from "../../contracts/src/mocks/MerkleProofsHarness.sol";
import {Outcomes} from "../../contracts/src/libraries/Outcomes.sol";
import {Attestation, Verdict as Given} from "../../contracts/src/libraries/Types.sol";
import {VerdictFaults} from "../../contracts/src/libraries/VerdictFaults.sol";
import {Deployment} from "./support/Deployment.sol";

/// tests/vectors/protocol.json, which Python wrote and checks too: both sides agree to the byte. Structs have their
/// fields in alphabetical order, as vm.parseJson wants them.
contract VectorsTest is Deployment {
    struct TraceLeaf {
        uint64 bounty;
        uint256 chainId;
        uint256 index;
        bytes32 leaf;
        string line;
        bytes32 lineHash;
        address market;
        address miner;
    }

    struct Inclusion {
        uint256 index;
        bytes32 leaf;
        bytes32[] proof;
        bytes32 root;
        uint256 size;
    }

    struct Verdict {
        uint64 batch;
        uint32 faults;
        uint256 index;
        bytes32 leaf;
        uint8 reason;
        uint32 score;
        uint32 units;
    }

    struct VerdictProof {
        uint64 batch;
        uint32 faults;
        uint256 index;
        bytes32 leaf;
        uint32[] proofFaults;
        bytes32[] proofHashes;
        uint32[] proofUnits;
        bytes32 root;
        uint32 rootFaults;
        uint32 rootUnits;
        uint256 size;
        uint32 units;
    }

    struct TaskSeed {
        bytes32 assignmentSeed;
        uint64 bounty;
        bytes32 environment;
        address miner;
        bytes32 seed;
        uint256 taskIndex;
    }

    struct Subject {
        uint64 batch;
        bytes32 batchRoot;
        uint256 chainId;
        address market;
        bytes32 subject;
    }

    struct Commitment {
        uint256 chainId;
        bytes32 commitment;
        uint32 faults;
        uint64 round;
        address rounds;
        bytes32 salt;
        bytes32 subject;
        uint32 units;
        bytes32 verdictRoot;
        address verifier;
        bytes32 vote;
    }

    struct DatasetRoot {
        uint64[] batches;
        uint256 chainId;
        bytes32[] leaves;
        address market;
        bytes32 root;
        uint32[] units;
        bytes32[] verdictRoots;
        uint32[] weights;
    }

    struct Outcome {
        string name;
        bytes32 root;
    }

    struct JurorOutcome {
        string name;
        bytes32 root;
        bytes32 vote;
    }

    struct JurySubject {
        uint64 batch;
        uint256 chainId;
        address court;
        uint64 dispute;
        uint32 index;
        bytes32 subject;
        bytes32 vote;
    }

    struct JurorVote {
        uint64 batch;
        uint32 faults;
        uint32 index;
        uint8 reason;
        uint32 score;
        uint32 units;
        bytes32 verdictRoot;
        bytes32 vote;
    }

    struct OpenedPath {
        uint64 batch;
        uint32 count;
        uint32 faults;
        uint32 index;
        uint32[] leftFaults;
        bytes32[] leftHashes;
        uint32[] leftUnits;
        uint8 reason;
        uint32[] rightFaults;
        bytes32[] rightHashes;
        uint32[] rightUnits;
        uint8[] rights;
        bytes32 root;
        uint32 rootFaults;
        uint32 rootUnits;
        uint32 score;
        uint32 units;
    }

    struct AuditLeaf {
        address audits;
        bytes32 batchRoot;
        uint256 chainId;
        uint32 faults;
        uint32 index;
        bytes32 leaf;
        uint8 reason;
        bytes32 salt;
        uint32 score;
        uint32 units;
    }

    struct Planting {
        bytes32 leaf;
        bytes32[] proof;
        bytes32 root;
    }

    MerkleProofsHarness private proofs;
    string private json;

    function setUp() external {
        proofs = MerkleProofsHarness(create("MerkleProofsHarness.sol:MerkleProofsHarness", ""));
        json = vm.readFile("tests/vectors/protocol.json");
    }

    function testTraceLeaves() external view {
        TraceLeaf[] memory rows = abi.decode(vm.parseJson(json, ".traceLeaves"), (TraceLeaf[]));
        vm.assertGe(rows.length, 10, "vectors");
        for (uint256 i; i < rows.length; ++i) {
            TraceLeaf memory row = rows[i];
            vm.assertEq(keccak256(bytes(row.line)), row.lineHash, "line hash");
            vm.assertEq(
                proofs.traceLeaf(row.chainId, row.market, row.bounty, row.miner, row.index, row.lineHash),
                row.leaf,
                "trace leaf"
            );
        }
    }

    function testInclusionProofs() external view {
        Inclusion[] memory rows = abi.decode(vm.parseJson(json, ".merkle"), (Inclusion[]));
        vm.assertGe(rows.length, 50, "vectors");
        for (uint256 i; i < rows.length; ++i) {
            Inclusion memory row = rows[i];
            vm.assertTrue(_proves(row), "a vector proves");
            bytes32 flip = bytes32(1 << (uint256(row.leaf) % 256));
            row.leaf ^= flip;
            vm.assertFalse(_proves(row), "leaf");
            row.leaf ^= flip;
            row.root ^= flip;
            vm.assertFalse(_proves(row), "root");
            row.root ^= flip;
            for (uint256 j; j < row.proof.length; ++j) {
                row.proof[j] ^= flip;
                vm.assertFalse(_proves(row), "proof element");
                row.proof[j] ^= flip;
            }
            for (uint256 bit; bit < 8; ++bit) {
                row.index ^= 1 << bit;
                vm.assertFalse(_proves(row), "index");
                row.index ^= 1 << bit;
            }
        }
    }

    function testVerdictLeaves() external view {
        Verdict[] memory rows = abi.decode(vm.parseJson(json, ".verdicts"), (Verdict[]));
        vm.assertGe(rows.length, 13, "vectors");
        for (uint256 i; i < rows.length; ++i) {
            Verdict memory row = rows[i];
            MerkleProofs.SumNode memory leaf =
                proofs.verdictLeaf(row.batch, row.index, row.score, row.reason, row.units, row.faults);
            vm.assertEq(leaf.hash, row.leaf, "verdict leaf");
            vm.assertEq(leaf.units, row.units, "units");
            vm.assertEq(leaf.faults, row.faults, "faults");
        }
    }

    function testVerdictProofs() external view {
        VerdictProof[] memory rows = abi.decode(vm.parseJson(json, ".verdictProofs"), (VerdictProof[]));
        vm.assertGe(rows.length, 50, "vectors");
        for (uint256 i; i < rows.length; ++i) {
            VerdictProof memory row = rows[i];
            vm.assertTrue(_provesSums(row), "a vector proves");
            uint32 flip = uint32(1 << (uint256(row.leaf) % 32));
            row.units ^= flip;
            vm.assertFalse(_provesSums(row), "leaf units");
            row.units ^= flip;
            row.faults ^= flip;
            vm.assertFalse(_provesSums(row), "leaf faults");
            row.faults ^= flip;
            row.rootUnits ^= flip;
            vm.assertFalse(_provesSums(row), "root units");
            row.rootUnits ^= flip;
            row.rootFaults ^= flip;
            vm.assertFalse(_provesSums(row), "root faults");
            row.rootFaults ^= flip;
            for (uint256 j; j < row.proofHashes.length; ++j) {
                row.proofHashes[j] ^= bytes32(uint256(flip));
                vm.assertFalse(_provesSums(row), "proof hash");
                row.proofHashes[j] ^= bytes32(uint256(flip));
                row.proofUnits[j] ^= flip;
                vm.assertFalse(_provesSums(row), "proof units");
                row.proofUnits[j] ^= flip;
                row.proofFaults[j] ^= flip;
                vm.assertFalse(_provesSums(row), "proof faults");
                row.proofFaults[j] ^= flip;
            }
        }
    }

    /// Off-chain only, so the layout is written out once more here.
    function testTaskSeeds() external view {
        TaskSeed[] memory rows = abi.decode(vm.parseJson(json, ".taskSeeds"), (TaskSeed[]));
        vm.assertGe(rows.length, 6, "vectors");
        for (uint256 i; i < rows.length; ++i) {
            TaskSeed memory row = rows[i];
            vm.assertEq(
                keccak256(
                    abi.encode(row.environment, row.bounty, row.miner, row.assignmentSeed, row.taskIndex)
                ),
                row.seed,
                "task seed"
            );
        }
    }

    /// What BatchMarket.subjectOf returns is compared with the same expression in BatchMarket.t.sol.
    function testSubjects() external view {
        Subject[] memory rows = abi.decode(vm.parseJson(json, ".subjects"), (Subject[]));
        vm.assertGe(rows.length, 5, "vectors");
        for (uint256 i; i < rows.length; ++i) {
            Subject memory row = rows[i];
            vm.assertEq(
                keccak256(abi.encode(row.chainId, row.market, row.batch, row.batchRoot)), row.subject, "subject"
            );
        }
    }

    function testCommitmentsAndVotes() external {
        _deploy();
        Commitment[] memory rows = abi.decode(vm.parseJson(json, ".commitments"), (Commitment[]));
        vm.assertGe(rows.length, 10, "vectors");
        for (uint256 i; i < rows.length; ++i) {
            Commitment memory row = rows[i];
            vm.assertEq(_commitment(row), row.commitment, "commitment");
            Attestation memory attestation = Attestation(row.verdictRoot, row.units, row.faults);
            vm.assertEq(rounds.voteOf(attestation), row.vote, "vote");
            // The contract's own: the same expression with its address, chain and the round's subject.
            vm.prank(address(market));
            row.round = rounds.open(row.subject, 3, 1, 0, false);
            (row.chainId, row.rounds) = (block.chainid, address(rounds));
            vm.assertEq(
                rounds.commitmentOf(row.round, row.verifier, attestation, row.salt), _commitment(row), "commitmentOf"
            );
        }
    }

    function testDatasetRoots() external view {
        DatasetRoot[] memory rows = abi.decode(vm.parseJson(json, ".datasetRoots"), (DatasetRoot[]));
        vm.assertGe(rows.length, 5, "vectors");
        for (uint256 i; i < rows.length; ++i) {
            DatasetRoot memory row = rows[i];
            bytes32[] memory leaves = new bytes32[](row.batches.length);
            for (uint256 j; j < leaves.length; ++j) {
                leaves[j] = proofs.datasetLeaf(
                    row.chainId, row.market, row.batches[j], row.verdictRoots[j], row.units[j], row.weights[j]
                );
                vm.assertEq(leaves[j], row.leaves[j], "dataset leaf");
            }
            vm.assertEq(leaves.length == 0 ? bytes32(0) : _root(leaves, 0, leaves.length), row.root, "dataset root");
        }
    }

    function testOutcomes() external view {
        Outcome[] memory rows = abi.decode(vm.parseJson(json, ".outcomes"), (Outcome[]));
        vm.assertEq(rows.length, 2, "vectors");
        for (uint256 i; i < rows.length; ++i) {
            vm.assertEq(keccak256(bytes(rows[i].name)), rows[i].root, "reserved root");
        }
    }

    function testJurorOutcomes() external view {
        JurorOutcome[] memory rows = abi.decode(vm.parseJson(json, ".jurorOutcomes"), (JurorOutcome[]));
        bytes32[3] memory known = [Outcomes.UNAVAILABLE, Outcomes.MALFORMED, Outcomes.SOUND];
        vm.assertEq(rows.length, 3, "vectors");
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(rows[i].root, known[i], rows[i].name);
            vm.assertEq(keccak256(bytes(rows[i].name)), rows[i].root, "root");
            vm.assertEq(Outcomes.voteOf(rows[i].root), rows[i].vote, "vote");
        }
    }

    /// What a jury's round is opened with is compared with the same expression in Court.t.sol.
    function testJurySubjects() external view {
        JurySubject[] memory rows = abi.decode(vm.parseJson(json, ".jurySubjects"), (JurySubject[]));
        vm.assertGe(rows.length, 8, "vectors");
        for (uint256 i; i < rows.length; ++i) {
            JurySubject memory row = rows[i];
            vm.assertEq(
                keccak256(abi.encode(row.chainId, row.court, row.dispute, row.batch, row.index, row.vote)),
                row.subject,
                "jury's subject"
            );
        }
    }

    function testJurorVotes() external {
        _deploy();
        JurorVote[] memory rows = abi.decode(vm.parseJson(json, ".jurorVotes"), (JurorVote[]));
        vm.assertGe(rows.length, 14, "vectors");
        for (uint256 i; i < rows.length; ++i) {
            JurorVote memory row = rows[i];
            Given memory given = Given(row.index, row.score, row.reason, row.units, row.faults);
            vm.assertEq(evidence.voteOf(row.batch, given), row.vote, "what the dispute holds");
            vm.assertEq(
                Outcomes.voteOf(Attestation(row.verdictRoot, row.units, row.faults)), row.vote, "what a juror reveals"
            );
        }
    }

    /// Every node of the way, and then the verdict, without a fault; with one unit more at any place the tree is another.
    function testOpenedPaths() external {
        _deploy();
        OpenedPath[] memory rows = abi.decode(vm.parseJson(json, ".openedPaths"), (OpenedPath[]));
        vm.assertGe(rows.length, 80, "vectors");
        for (uint256 i; i < rows.length; ++i) {
            OpenedPath memory row = rows[i];
            IEvidence.Opened memory opened = _opened(row);
            Attestation memory top = Attestation(row.root, row.rootUnits, row.rootFaults);
            bytes memory none = abi.encodeWithSelector(IEvidence.Evidence_NoFault.selector, row.batch);
            vm.expectRevert(none);
            evidence.fault(row.batch, top, row.count, opened);

            // The same way in a root that promises one unit more: its first node shows the lie.
            ++top.units;
            VerdictFaults.Fault found = evidence.fault(row.batch, top, row.count, opened);
            vm.assertTrue(found == VerdictFaults.Fault.Sum, "one unit too many");
            --top.units;
            _checkOtherVerdict(row, top, opened);
        }
    }

    function testAuditLeaves() external {
        _deploy();
        AuditLeaf[] memory rows = abi.decode(vm.parseJson(json, ".auditLeaves"), (AuditLeaf[]));
        vm.assertGe(rows.length, 6, "vectors");
        for (uint256 i; i < rows.length; ++i) {
            AuditLeaf memory row = rows[i];
            vm.assertEq(_auditLeaf(row), row.leaf, "leaf");
            // The contract's own: the same expression with its address and chain.
            (row.chainId, row.audits) = (block.chainid, address(audits));
            Given memory planted = Given(row.index, row.score, row.reason, row.units, row.faults);
            vm.assertEq(audits.leafOf(row.batchRoot, planted, row.salt), _auditLeaf(row), "leafOf");
        }
    }

    /// With OpenZeppelin's verification, which Audits calls.
    function testPlantings() external view {
        Planting[] memory rows = abi.decode(vm.parseJson(json, ".plantings"), (Planting[]));
        vm.assertGe(rows.length, 80, "vectors");
        for (uint256 i; i < rows.length; ++i) {
            Planting memory row = rows[i];
            vm.assertTrue(this.plants(row.proof, row.root, row.leaf), "a vector proves");
            vm.assertFalse(this.plants(row.proof, row.root, ~row.leaf), "leaf");
            if (row.proof.length == 0) continue;
            row.proof[row.proof.length - 1] ^= bytes32(uint256(1));
            vm.assertFalse(this.plants(row.proof, row.root, row.leaf), "proof element");
        }
    }

    function plants(bytes32[] calldata proof, bytes32 root, bytes32 leaf) external pure returns (bool) {
        return MerkleProof.verifyCalldata(proof, root, leaf);
    }

    /// At the end of the way is this verdict and no other.
    function _checkOtherVerdict(OpenedPath memory row, Attestation memory top, IEvidence.Opened memory opened) private {
        bytes32 leaf =
            proofs.verdictLeaf(row.batch, row.index, row.score, row.reason, row.units, row.faults).hash;
        ++opened.verdict.score;
        vm.expectRevert(abi.encodeWithSelector(VerdictFaults.VerdictFaults_NotTheVerdict.selector, leaf, row.index));
        evidence.fault(row.batch, top, row.count, opened);
    }

    function _opened(OpenedPath memory row) private pure returns (IEvidence.Opened memory opened) {
        uint256 levels = row.rights.length;
        opened.path = new VerdictFaults.Children[](levels);
        opened.rights = new bool[](levels);
        for (uint256 i; i < levels; ++i) {
            opened.rights[i] = row.rights[i] == 1;
            opened.path[i] = VerdictFaults.Children(
                MerkleProofs.SumNode(row.leftHashes[i], row.leftUnits[i], row.leftFaults[i]),
                MerkleProofs.SumNode(row.rightHashes[i], row.rightUnits[i], row.rightFaults[i])
            );
        }
        opened.leaf = true;
        opened.batch = row.batch;
        opened.verdict = Given(row.index, row.score, row.reason, row.units, row.faults);
    }

    function _auditLeaf(AuditLeaf memory row) private pure returns (bytes32) {
        Given memory planted = Given(row.index, row.score, row.reason, row.units, row.faults);
        bytes32 inner = keccak256(abi.encode(row.chainId, row.audits, row.batchRoot, planted, row.salt));
        return keccak256(abi.encode(inner));
    }

    function _proves(Inclusion memory row) private view returns (bool) {
        return proofs.verifyTrace(row.leaf, row.index, row.size, row.proof, row.root);
    }

    function _provesSums(VerdictProof memory row) private view returns (bool) {
        MerkleProofs.SumNode[] memory proof = new MerkleProofs.SumNode[](row.proofHashes.length);
        for (uint256 i; i < proof.length; ++i) {
            proof[i] = MerkleProofs.SumNode(row.proofHashes[i], row.proofUnits[i], row.proofFaults[i]);
        }
        return proofs.verifyVerdict(
            MerkleProofs.SumNode(row.leaf, row.units, row.faults),
            row.index,
            row.size,
            proof,
            Attestation(row.root, row.rootUnits, row.rootFaults)
        );
    }

    function _commitment(Commitment memory row) private pure returns (bytes32) {
        return keccak256(
            abi.encode(
                row.chainId,
                row.rounds,
                row.round,
                row.subject,
                row.verifier,
                row.verdictRoot,
                row.units,
                row.faults,
                row.salt
            )
        );
    }

    function _root(bytes32[] memory leaves, uint256 from, uint256 size) private view returns (bytes32) {
        if (size == 1) return leaves[from];
        uint256 split = 1;
        while (split * 2 < size) split *= 2;
        return proofs.join(_root(leaves, from, split), _root(leaves, from + split, size - split));
    }
}
