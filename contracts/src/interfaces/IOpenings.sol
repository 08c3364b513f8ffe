// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Attestation, Verdict} from "../libraries/Types.sol";
import {VerdictFaults} from "../libraries/VerdictFaults.sol";

/// Opening a withheld verdict tree, move by move. Anybody who knows the tree opens the node that is asked for; the
/// challenger says on which side to go on; at the end a verdict lies open. Each move has its own time; the side that does
/// not move loses. A move that shows a fault of the tree (see VerdictFaults) ends it too.
///
/// Statuses: None -> Asked -> Answered -> Asked ... -> Opened | Refused (nobody answered, or a fault showed) | Abandoned (the
/// challenger did not go on)
interface IOpenings {
    enum Status {
        None,
        Asked,
        Answered,
        Opened,
        Refused,
        Abandoned
    }

    event NodeAnswered(uint64 indexed dispute, VerdictFaults.Children children, VerdictFaults.Fault fault);
    event NodeAsked(uint64 indexed dispute, uint256 first, uint256 size, bytes32 hash);
    event VerdictOpened(uint64 indexed dispute, Verdict verdict, VerdictFaults.Fault fault);

    error Openings_NotCourt(address caller);
    error Openings_NotChallenger(uint64 dispute, address caller);
    error Openings_WrongStatus(uint64 dispute, Status status);

    /// Asks for the root. Only the court.
    function start(uint64 dispute, uint64 batch, address challenger, Attestation calldata attestation, uint32 count)
        external;

    /// Opens the node that is asked for to its children.
    ///
    /// Requirements:
    /// - The opening must be Asked (Openings_WrongStatus).
    /// - The children must be those of the node (VerdictFaults_NotTheChildren).
    function answer(uint64 dispute, VerdictFaults.Children calldata children) external;

    /// Opens the node that is asked for to its verdict.
    ///
    /// Requirements:
    /// - The opening must be Asked (Openings_WrongStatus).
    /// - The verdict, of the batch `said`, must be that of the node (VerdictFaults_NotTheVerdict).
    function answerVerdict(uint64 dispute, uint64 said, Verdict calldata verdict) external;

    /// Goes on to the left or the right child.
    ///
    /// Requirements:
    /// - The opening must be Answered (Openings_WrongStatus), the caller its challenger (Openings_NotChallenger).
    function ask(uint64 dispute, bool right) external;

    function statusOf(uint64 dispute) external view returns (Status);

    /// @return the node that is asked for, or whose children lie open
    /// @return deadline last second of the present move
    function nodeOf(uint64 dispute) external view returns (VerdictFaults.Subtree memory, uint256 deadline);

    /// @return the children that lie open, where the opening is Answered
    function childrenOf(uint64 dispute) external view returns (VerdictFaults.Children memory);

    /// @return the verdict that was opened
    function openedOf(uint64 dispute) external view returns (Verdict memory);
}
