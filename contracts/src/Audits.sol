// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";

import {BatchMarket} from "./BatchMarket.sol";
import {Evidence} from "./Evidence.sol";
import {IAudits} from "./interfaces/IAudits.sol";
import {IBatchMarket} from "./interfaces/IBatchMarket.sol";
import {IEvidence} from "./interfaces/IEvidence.sol";
import {MerkleProofs} from "./libraries/MerkleProofs.sol";
import {Outcomes} from "./libraries/Outcomes.sol";
import {Verdict} from "./libraries/Types.sol";

contract Audits is IAudits {
    BatchMarket public immutable market;
    Evidence public immutable evidence;

    mapping(bytes32 root => Planting) private _plantings;
    mapping(uint64 batch => Audit) private _audits;

    constructor(BatchMarket market_, Evidence evidence_) {
        market = market_;
        evidence = evidence_;
    }

    function plant(bytes32 root) external {
        require(root != 0, Audits_ZeroRoot());
        require(_plantings[root].planter == address(0), Audits_AlreadyPlanted(root));
        _plantings[root] = Planting(msg.sender, uint40(block.timestamp));
        emit Planted(root, msg.sender);
    }

    function open(
        uint64 batch,
        Verdict calldata planted,
        bytes32 salt,
        bytes32 root,
        bytes32[] calldata proof,
        Verdict calldata attested,
        MerkleProofs.SumNode[] calldata attestedProof
    ) external returns (bool missed) {
        require(_audits[batch].planter == address(0), Audits_AlreadyOpened(batch));
        IBatchMarket.Batch memory seen = market.get(batch);
        require(
            seen.attestedAt != 0 && !Outcomes.wholeBatch(seen.attestation.verdictRoot), Audits_NotAttested(batch)
        );
        _requirePlanted(batch, leafOf(seen.root, planted, salt), root, proof);
        // Another trace's verdict would make a committee that was right look as if it had missed the trap.
        require(
            attested.index == planted.index, IEvidence.Evidence_BadVerdictProof(batch, planted.index)
        );
        missed = evidence.verdictVote(batch, seen.attestation, seen.count, attested, attestedProof)
            != evidence.voteOf(batch, planted);

        _audits[batch] = Audit(msg.sender, planted.index, missed);
        emit AuditOpened(batch, msg.sender, planted.index, planted, missed);
    }

    function plantingOf(bytes32 root) external view returns (Planting memory) {
        return _plantings[root];
    }

    function auditOf(uint64 batch) external view returns (Audit memory) {
        return _audits[batch];
    }

    function leafOf(bytes32 batchRoot, Verdict calldata planted, bytes32 salt) public view returns (bytes32) {
        // Hashed twice: an inner node of the tree can't pass for a leaf.
        return keccak256(
            bytes.concat(keccak256(abi.encode(block.chainid, address(this), batchRoot, planted, salt)))
        );
    }

    function _requirePlanted(uint64 batch, bytes32 leaf, bytes32 root, bytes32[] calldata proof) private view {
        Planting memory planting = _plantings[root];
        require(
            planting.planter != address(0) && MerkleProof.verifyCalldata(proof, root, leaf),
            Audits_NotPlanted(root, leaf)
        );
        require(planting.planter == msg.sender, Audits_NotYours(root, planting.planter));
        uint256 committedAt = market.rounds().get(market.roundsOf(batch)[0]).openedAt;
        require(planting.plantedAt < committedAt, Audits_PlantedTooLate(planting.plantedAt, committedAt));
    }
}
