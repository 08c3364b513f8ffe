// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// Score sheets for environments without a right answer (docs/decisions/017). The members of a batch's first committee
/// each grade every trace with a judge of their own; from the sheets that all of them can read here, every trace's median
/// grade follows, and with it one verdict tree, on which the committee then votes as on any other. Rounds and court know
/// nothing of it.
///
/// Phases of a batch's sheets (computed by `phaseOf`, never stored), inside the commit window of its first round:
/// None (not drawn) -> Committing (a third of the window) -> Revealing (a third) -> Closed (the last third is for votes)
/// Committing ends early once every member has committed, Revealing once everybody who committed has revealed.
///
/// Bounties pay judges from a pot of their own, and only for a sheet that agrees with the median of all sheets (within a
/// grade, on at least two thirds of the traces): who withholds a sheet, or grades at random, judges for nothing. This is the
/// second contract beside the ledger that holds tokens; there is no owner.
///
/// Gold sheets tell how good a judge is: whoever knows the right grades of a batch beforehand (it is its own, mined under
/// another address) commits to them here, and opens them once it is settled. Which planters count, and what weight follows,
/// is for an environment's spec to say.
interface IScoreSheets {
    enum Phase {
        None,
        Committing,
        Revealing,
        Closed
    }

    struct Panel {
        /// token base units kept for each sheet of the batch
        uint96 perSheet;
        uint8 seats;
        uint8 committed;
        uint8 revealed;
        /// when the last member committed, zero before
        uint40 allCommittedAt;
        bool closed;
    }

    struct Pot {
        /// token base units for one trace on one sheet, zero where the bounty pays no judges
        uint96 perTrace;
        uint128 available;
        /// batches whose sheets were begun and not paid or released
        uint32 open;
    }

    struct Planting {
        address planter;
        uint40 plantedAt;
    }

    event PotOpened(uint64 indexed bounty, uint96 perTrace);
    event PotFunded(uint64 indexed bounty, address indexed from, uint256 amount);
    event PotRefunded(uint64 indexed bounty, address indexed poster, uint256 amount);
    event SheetCommitted(uint64 indexed batch, address indexed verifier, uint8 seat, bytes32 commitment);
    event SheetRevealed(uint64 indexed batch, address indexed verifier, uint8 seat, bytes sheet);
    event JudgesPaid(uint64 indexed batch, uint256 perSheet, uint256 paidSheets);
    event SheetsReleased(uint64 indexed batch, uint256 amount);
    event EarningsWithdrawn(address indexed account, address indexed to, uint256 amount);
    event GoldPlanted(bytes32 indexed commitment, address indexed planter);
    event GoldOpened(uint64 indexed batch, address indexed planter, bytes sheet);

    error ScoreSheets_NotPoster(uint64 bounty, address caller);
    error ScoreSheets_PotOpen(uint64 bounty);
    error ScoreSheets_NoPot(uint64 bounty);
    error ScoreSheets_AnotherBounty(uint64 bounty, bytes32 identity, bytes32 named);
    error ScoreSheets_ZeroAmount();
    error ScoreSheets_InexactTransfer(uint256 expected, uint256 received);
    error ScoreSheets_DeadlineNotPassed(uint64 deadline, uint256 time);
    error ScoreSheets_BatchesOpen(uint64 bounty, uint32 open);
    error ScoreSheets_WrongPhase(uint64 batch, Phase phase);
    error ScoreSheets_NotYourSeat(uint64 batch, uint8 seat, address caller);
    error ScoreSheets_AlreadyCommitted(uint64 batch, uint8 seat);
    error ScoreSheets_ZeroCommitment();
    error ScoreSheets_CommitmentMismatch(bytes32 expected, bytes32 computed);
    error ScoreSheets_BadSheet(uint64 batch, uint8 seat);
    error ScoreSheets_NotSettled(uint64 batch);
    error ScoreSheets_NotOver(uint64 batch);
    error ScoreSheets_AlreadyClosed(uint64 batch);
    error ScoreSheets_NotTheSheet(uint64 batch, uint8 seat);
    error ScoreSheets_InvalidRecipient(address to);
    error ScoreSheets_AlreadyPlanted(bytes32 commitment);
    error ScoreSheets_NotPlanted(bytes32 commitment);
    error ScoreSheets_PlantedTooLate(uint256 plantedAt, uint256 committedAt);

    /// Says once what a bounty pays for one trace on one sheet.
    ///
    /// Requirements:
    /// - Only the bounty's poster (ScoreSheets_NotPoster), once (ScoreSheets_PotOpen).
    /// - `perTrace` must not be zero (ScoreSheets_ZeroAmount).
    function openPot(uint64 bounty, uint96 perTrace) external;

    /// Puts tokens into a bounty's pot; anybody may. They must be approved for this contract.
    ///
    /// Requirements:
    /// - The bounty must be the one that the payer means, by IBountyEscrow.identityOf (ScoreSheets_AnotherBounty).
    /// - The pot must be open (ScoreSheets_NoPot) and the amount not zero (ScoreSheets_ZeroAmount).
    /// - Exactly `amount` must arrive (ScoreSheets_InexactTransfer).
    function fund(uint64 bounty, bytes32 identity, uint256 amount) external;

    /// Gives the poster what is left in a pot.
    ///
    /// Requirements:
    /// - The bounty's deadline must have passed (ScoreSheets_DeadlineNotPassed), every batch with sheets be paid or released
    ///   (ScoreSheets_BatchesOpen), and something be left (ScoreSheets_ZeroAmount).
    function refund(uint64 bounty) external returns (uint256 amount);

    /// A member's commitment to its sheet (`commitmentOf`). The first one sets aside what the pot has for the batch.
    ///
    /// Requirements:
    /// - The sheets must be Committing (ScoreSheets_WrongPhase).
    /// - The seat must be the caller's in the batch's first round (ScoreSheets_NotYourSeat) and not have committed
    ///   (ScoreSheets_AlreadyCommitted); the commitment must not be zero (ScoreSheets_ZeroCommitment).
    function commitSheet(uint64 batch, uint8 seat, bytes32 commitment) external;

    /// Opens a commitment; the sheet stands in the event for everybody to read.
    ///
    /// Requirements:
    /// - The sheets must be Revealing (ScoreSheets_WrongPhase), the seat be the caller's (ScoreSheets_NotYourSeat).
    /// - The opening must match (ScoreSheets_CommitmentMismatch), and what it opens be a sheet: a grade from 0 to 4 for
    ///   each trace, two in a byte (ScoreSheets_BadSheet).
    function revealSheet(uint64 batch, uint8 seat, bytes calldata sheet, bytes32 salt) external;

    /// Pays the judges of a settled batch. `sheets` holds each seat's sheet, empty where it revealed none; they stand in
    /// the events. What incoherent and missing sheets don't get goes back to the pot. Anybody may call it.
    ///
    /// Requirements:
    /// - The batch must be settled with verdicts (ScoreSheets_NotSettled), its sheets be begun and not closed
    ///   (ScoreSheets_AlreadyClosed).
    /// - Every sheet must be the one that its seat revealed (ScoreSheets_NotTheSheet).
    /// @return paidSheets how many sheets agreed with the median
    function pay(uint64 batch, bytes[] calldata sheets) external returns (uint256 paidSheets);

    /// Puts what was kept for a batch that ended without verdicts back into its pot. Anybody may call it.
    ///
    /// Requirements:
    /// - The batch must be void, or settled with an outcome (ScoreSheets_NotOver), its sheets begun and not closed
    ///   (ScoreSheets_AlreadyClosed).
    function release(uint64 batch) external;

    /// Sends what the caller earned.
    ///
    /// Requirements:
    /// - `to` must be neither zero nor this contract (ScoreSheets_InvalidRecipient), the balance not zero
    ///   (ScoreSheets_ZeroAmount).
    function withdraw(address to) external returns (uint256 amount);

    /// Commits to the right grades of a batch that is still to come (`goldOf`).
    ///
    /// Requirements:
    /// - The commitment must not be zero (ScoreSheets_ZeroCommitment) nor have been used (ScoreSheets_AlreadyPlanted).
    function plantGold(bytes32 commitment) external;

    /// Opens a gold sheet, once its batch is settled. A half byte over 4 says that the planter knows no right grade.
    ///
    /// Requirements:
    /// - The batch must be settled (ScoreSheets_NotSettled), the sheet as long as one of it (ScoreSheets_BadSheet).
    /// - The caller must have planted it (ScoreSheets_NotPlanted), at least a second before the batch was committed
    ///   (ScoreSheets_PlantedTooLate). It opens once.
    function openGold(uint64 batch, bytes calldata sheet, bytes32 salt) external;

    function phaseOf(uint64 batch) external view returns (Phase);

    function panelOf(uint64 batch) external view returns (Panel memory);

    function potOf(uint64 bounty) external view returns (Pot memory);

    function plantingOf(bytes32 commitment) external view returns (Planting memory);

    /// A seat's commitment, then the hash of its sheet once that is revealed; zero before
    function sheetOf(uint64 batch, uint8 seat) external view returns (bytes32);

    /// What an account can withdraw, in token base units
    function balanceOf(address account) external view returns (uint256);

    /// A commitment: keccak256(abi.encode(chain id, this contract, batch, batch root, verifier, keccak256(sheet), salt))
    function commitmentOf(uint64 batch, address verifier, bytes calldata sheet, bytes32 salt)
        external
        view
        returns (bytes32);

    /// A planting: keccak256(abi.encode(chain id, this contract, batch root, planter, keccak256(sheet), salt))
    function goldOf(bytes32 batchRoot, address planter, bytes calldata sheet, bytes32 salt)
        external
        view
        returns (bytes32);
}
