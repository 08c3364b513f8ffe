// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IOpenings} from "./interfaces/IOpenings.sol";
import {MerkleProofs} from "./libraries/MerkleProofs.sol";
import {Attestation, Parameters, Verdict} from "./libraries/Types.sol";
import {VerdictFaults} from "./libraries/VerdictFaults.sol";

contract Openings is IOpenings {
    struct Game {
        address challenger;
        uint64 batch;
        uint32 deadline;
        bytes32 hash;
        uint32 units;
        uint32 faults;
        uint32 first;
        uint32 size;
        Status status;
        VerdictFaults.Children children;
        Verdict verdict;
    }

    address public immutable court;
    uint32 public immutable openingWindow;

    mapping(uint64 dispute => Game) private _games;

    constructor(address court_, Parameters memory parameters) {
        court = court_;
        openingWindow = parameters.openingWindow;
    }

    function start(uint64 dispute, uint64 batch, address challenger, Attestation calldata attestation, uint32 count)
        external
    {
        require(msg.sender == court, Openings_NotCourt(msg.sender));
        Game storage game = _games[dispute];
        game.challenger = challenger;
        game.batch = batch;
        _ask(dispute, game, VerdictFaults.rootOf(attestation, count));
    }

    function answer(uint64 dispute, VerdictFaults.Children calldata children) external {
        Game storage game = _requireStatus(dispute, Status.Asked);
        VerdictFaults.Fault fault = VerdictFaults.openNode(_treeOf(game), children);
        if (fault == VerdictFaults.Fault.None) {
            game.status = Status.Answered;
            game.children = children;
            game.deadline = uint32(block.timestamp + openingWindow);
        } else {
            game.status = Status.Refused;
        }
        emit NodeAnswered(dispute, children, fault);
    }

    function answerVerdict(uint64 dispute, uint64 said, Verdict calldata verdict) external {
        Game storage game = _requireStatus(dispute, Status.Asked);
        VerdictFaults.Fault fault = VerdictFaults.openVerdict(_treeOf(game), game.batch, said, verdict);
        if (fault == VerdictFaults.Fault.None) {
            game.status = Status.Opened;
            game.verdict = verdict;
        } else {
            game.status = Status.Refused;
        }
        emit VerdictOpened(dispute, verdict, fault);
    }

    function ask(uint64 dispute, bool right) external {
        Game storage game = _requireStatus(dispute, Status.Answered);
        require(msg.sender == game.challenger, Openings_NotChallenger(dispute, msg.sender));
        _ask(dispute, game, VerdictFaults.descend(_treeOf(game), game.children, right));
    }

    function statusOf(uint64 dispute) public view returns (Status status) {
        Game storage game = _games[dispute];
        status = game.status;
        if (block.timestamp > game.deadline) {
            if (status == Status.Asked) return Status.Refused;
            if (status == Status.Answered) return Status.Abandoned;
        }
    }

    function nodeOf(uint64 dispute) external view returns (VerdictFaults.Subtree memory, uint256 deadline) {
        Game storage game = _games[dispute];
        return (_treeOf(game), game.deadline);
    }

    function childrenOf(uint64 dispute) external view returns (VerdictFaults.Children memory) {
        return _games[dispute].children;
    }

    function openedOf(uint64 dispute) external view returns (Verdict memory) {
        return _games[dispute].verdict;
    }

    function _ask(uint64 dispute, Game storage game, VerdictFaults.Subtree memory tree) private {
        game.status = Status.Asked;
        game.hash = tree.node.hash;
        (game.units, game.faults) = (tree.node.units, tree.node.faults);
        (game.first, game.size) = (uint32(tree.first), uint32(tree.size));
        game.deadline = uint32(block.timestamp + openingWindow);
        emit NodeAsked(dispute, tree.first, tree.size, tree.node.hash);
    }

    function _treeOf(Game storage game) private view returns (VerdictFaults.Subtree memory) {
        return VerdictFaults.Subtree(
            MerkleProofs.SumNode(game.hash, game.units, game.faults), game.first, game.size
        );
    }

    function _requireStatus(uint64 dispute, Status expected) private view returns (Game storage game) {
        Status status = statusOf(dispute);
        require(status == expected, Openings_WrongStatus(dispute, status));
        game = _games[dispute];
    }
}
