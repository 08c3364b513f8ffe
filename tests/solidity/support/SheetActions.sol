// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// What the score sheets' handler does, as it counts it. deep.py reads the names from here.
enum SheetAction {
    CreateBounty,
    OpenPot,
    FundPot,
    RefundPot,
    CommitBatch,
    Draw,
    CommitSheet,
    RevealSheet,
    RefuseSheet,
    Attest,
    Redraw,
    VoidBatch,
    Overturn,
    SettleBatch,
    PayAll,
    PaySome,
    PayNobody,
    PayAfterLaterRounds,
    Release,
    WithdrawPay,
    PlantGold,
    OpenGold,
    GoldTooLate,
    DonateToSheets,
    MeddleWithSheets
}
