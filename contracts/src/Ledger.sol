// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {ILedger} from "./interfaces/ILedger.sol";
import {Permit} from "./libraries/Types.sol";

contract Ledger is ILedger, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    IERC20 public immutable token;
    address public immutable escrow;
    address public immutable stake;
    address public immutable market;
    address public immutable court;
    address public immutable royalties;

    mapping(address account => uint256) public balanceOf;
    mapping(address module => uint256) public heldFor;

    modifier onlyModule() {
        _requireModule(msg.sender);
        _;
    }

    constructor(
        IERC20 token_,
        address escrow_,
        address stake_,
        address market_,
        address court_,
        address royalties_
    ) {
        require(address(token_).code.length != 0, Ledger_NoCode(address(token_)));
        token = token_;
        escrow = escrow_;
        stake = stake_;
        market = market_;
        court = court_;
        royalties = royalties_;
    }

    function deposit(uint256 amount) external nonReentrant {
        _deposit(amount);
    }

    function depositWithPermit(uint256 amount, Permit calldata permit) external nonReentrant {
        _permit(msg.sender, permit);
        _deposit(amount);
    }

    function withdraw(address to, uint256 amount) external nonReentrant {
        require(to != address(0) && to != address(this), Ledger_InvalidRecipient(to));
        uint256 balance = balanceOf[msg.sender];
        require(balance >= amount, Ledger_InsufficientBalance(msg.sender, balance, amount));

        balanceOf[msg.sender] = balance - amount;
        emit Withdrawn(msg.sender, to, amount);

        token.safeTransfer(to, amount);
    }

    function collect(address from, uint256 amount) external onlyModule nonReentrant {
        _collect(from, amount);
    }

    function collectWithPermit(address from, uint256 amount, Permit calldata permit)
        external
        onlyModule
        nonReentrant
    {
        _permit(from, permit);
        _collect(from, amount);
    }

    function credit(address[] calldata accounts, uint256[] calldata amounts) external onlyModule {
        uint256 sum;
        for (uint256 i; i < accounts.length; ++i) {
            uint256 amount = amounts[i];
            if (amount == 0) continue;
            address account = accounts[i];
            sum += amount;
            balanceOf[account] += amount;
            emit Credited(account, msg.sender, amount);
        }
        _spend(msg.sender, sum);
    }

    function shift(address to, uint256 amount) external onlyModule {
        _requireModule(to);
        _spend(msg.sender, amount);
        heldFor[to] += amount;
        emit Shifted(msg.sender, to, amount);
    }

    function _requireModule(address account) private view {
        require(
            account == escrow || account == stake || account == market || account == court || account == royalties,
            Ledger_NotModule(account)
        );
    }

    function _spend(address module, uint256 amount) private {
        uint256 held = heldFor[module];
        require(held >= amount, Ledger_InsufficientHolding(module, held, amount));
        heldFor[module] = held - amount;
    }

    function _deposit(uint256 amount) private {
        balanceOf[msg.sender] += amount;
        emit Deposited(msg.sender, amount);
        _receive(msg.sender, amount);
    }

    function _collect(address from, uint256 amount) private {
        uint256 balance = balanceOf[from];
        uint256 fromBalance = balance < amount ? balance : amount;
        balanceOf[from] = balance - fromBalance;
        heldFor[msg.sender] += amount;
        emit Collected(msg.sender, from, amount, fromBalance);
        if (amount != fromBalance) _receive(from, amount - fromBalance);
    }

    function _receive(address from, uint256 amount) private {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(from, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        require(received == amount, Ledger_InexactTransfer(amount, received));
    }

    /// A permit may have been used by somebody else already, or the token may not know permits: the transfer that
    /// follows decides.
    function _permit(address owner, Permit calldata permit) private {
        try IERC20Permit(address(token)).permit(
            owner, address(this), permit.value, permit.deadline, permit.v, permit.r, permit.s
        ) {} catch {}
    }
}
