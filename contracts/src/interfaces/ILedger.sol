// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Permit} from "../libraries/Types.sol";

/// Holds the market's tokens, all but what judges are paid (IScoreSheets). Double entry: every token belongs to an account's
/// withdrawable balance or is held for one of the modules (escrow, stake, market, court, royalties). Modules move entries;
/// only an account's own call moves tokens out. There is no owner.
interface ILedger {
    event Collected(address indexed module, address indexed from, uint256 amount, uint256 fromBalance);
    event Deposited(address indexed account, uint256 amount);
    event Credited(address indexed account, address indexed module, uint256 amount);
    event Shifted(address indexed from, address indexed to, uint256 amount);
    event Withdrawn(address indexed account, address indexed to, uint256 amount);

    error Ledger_NotModule(address caller);
    error Ledger_NoCode(address token);
    error Ledger_InvalidRecipient(address to);
    error Ledger_InexactTransfer(uint256 expected, uint256 received);
    error Ledger_InsufficientBalance(address account, uint256 balance, uint256 needed);
    error Ledger_InsufficientHolding(address module, uint256 held, uint256 needed);

    /// @return the withdrawable balance of `account`, in token base units
    function balanceOf(address account) external view returns (uint256);

    /// @return what is held for `module`, in token base units
    function heldFor(address module) external view returns (uint256);

    /// Puts tokens of the caller into its balance.
    ///
    /// Requirements:
    /// - Exactly `amount` must arrive (Ledger_InexactTransfer): tokens with a fee on transfer are refused.
    function deposit(uint256 amount) external;

    /// The same with an EIP-2612 signature. A permit that somebody front-ran is harmless: what counts is the allowance.
    function depositWithPermit(uint256 amount, Permit calldata permit) external;

    /// Sends `amount` of the caller's balance to `to`.
    ///
    /// Requirements:
    /// - `to` must be neither zero nor this contract (Ledger_InvalidRecipient).
    /// - The balance must cover `amount` (Ledger_InsufficientBalance).
    function withdraw(address to, uint256 amount) external;

    /// Takes `amount` from `from` into the calling module's holding: its balance first, its tokens for the rest.
    /// Modules pass their own caller as `from`.
    ///
    /// Requirements:
    /// - The caller must be a module (Ledger_NotModule).
    /// - Exactly the missing amount must arrive (Ledger_InexactTransfer).
    function collect(address from, uint256 amount) external;

    /// The same with an EIP-2612 signature.
    function collectWithPermit(address from, uint256 amount, Permit calldata permit) external;

    /// Moves parts of the calling module's holding into the balances of `accounts`.
    ///
    /// Requirements:
    /// - The caller must be a module (Ledger_NotModule).
    /// - Its holding must cover the sum (Ledger_InsufficientHolding).
    function credit(address[] calldata accounts, uint256[] calldata amounts) external;

    /// Moves a part of the calling module's holding to another module.
    ///
    /// Requirements:
    /// - Both must be modules (Ledger_NotModule).
    /// - The holding must cover `amount` (Ledger_InsufficientHolding).
    function shift(address to, uint256 amount) external;
}
