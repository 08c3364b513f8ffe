// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MerkleProofs} from "../../contracts/src/libraries/MerkleProofs.sol";
import {MerkleProofsHarness} from "../../contracts/src/mocks/MerkleProofsHarness.sol";
import {Attestation} from "../../contracts/src/libraries/Types.sol";
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
