// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IBountyEscrow} from "./interfaces/IBountyEscrow.sol";
import {IEnvironmentRegistry} from "./interfaces/IEnvironmentRegistry.sol";
import {ILedger} from "./interfaces/ILedger.sol";
import {BountyTerms, PayRule, Permit, Tier} from "./libraries/Types.sol";

contract BountyEscrow is IBountyEscrow {
    using SafeCast for uint256;

    /// A refund must come within a lifetime.
    uint256 private constant LONGEST = 366 days;

    ILedger public immutable ledger;
    IEnvironmentRegistry public immutable environments;
    address public immutable market;
    address public immutable court;

    mapping(uint64 id => Bounty) private _bounties;
    uint64 public count;

    modifier onlyMarket() {
        require(msg.sender == market, BountyEscrow_NotMarket(msg.sender));
        _;
    }

    constructor(ILedger ledger_, IEnvironmentRegistry environments_, address market_, address court_) {
        ledger = ledger_;
        environments = environments_;
        market = market_;
        court = court_;
    }

    function create(BountyTerms calldata terms, uint256 amount) external returns (uint64 bounty) {
        bounty = _create(terms, amount);
        ledger.collect(msg.sender, amount);
    }

    function createWithPermit(BountyTerms calldata terms, uint256 amount, Permit calldata permit)
        external
        returns (uint64 bounty)
    {
        bounty = _create(terms, amount);
        ledger.collectWithPermit(msg.sender, amount, permit);
    }

    function fund(uint64 bounty, bytes32 identity, uint256 amount) external {
        _requireSame(bounty, identity);
        _fund(bounty, amount);
        ledger.collect(msg.sender, amount);
    }

    function fundWithPermit(uint64 bounty, bytes32 identity, uint256 amount, Permit calldata permit) external {
        _requireSame(bounty, identity);
        _fund(bounty, amount);
        ledger.collectWithPermit(msg.sender, amount, permit);
    }

    function refund(uint64 bounty) external returns (uint256 amount) {
        Bounty storage entry = _existing(bounty);
        uint64 deadline = entry.terms.deadline;
        require(block.timestamp > deadline, BountyEscrow_DeadlineNotPassed(deadline, block.timestamp));
        amount = entry.available;
        require(amount != 0, BountyEscrow_NothingToRefund(bounty));

        entry.available = 0;
        emit BountyRefunded(bounty, entry.poster, amount);

        address[] memory accounts = new address[](1);
        uint256[] memory amounts = new uint256[](1);
        (accounts[0], amounts[0]) = (entry.poster, amount);
        ledger.credit(accounts, amounts);
    }

    function reserve(uint64 bounty, uint256 amount) external onlyMarket {
        Bounty storage entry = _open(bounty);
        uint128 available = entry.available;
        require(available >= amount, BountyEscrow_InsufficientFunds(bounty, available, amount));
        entry.available = available - uint128(amount);
        entry.reserved += uint128(amount);
        emit BountyReserved(bounty, amount);
    }

    function release(uint64 bounty, uint256 reserved, uint256 spent) external onlyMarket {
        Bounty storage entry = _existing(bounty);
        entry.reserved -= reserved.toUint128();
        entry.available += (reserved - spent).toUint128();
        emit BountyReleased(bounty, reserved, spent);
        if (spent != 0) ledger.shift(market, spent);
    }

    function replenish(uint64 bounty, uint256 amount) external {
        require(msg.sender == market || msg.sender == court, BountyEscrow_NotMarket(msg.sender));
        _existing(bounty).available += amount.toUint128();
        emit BountyReplenished(bounty, amount);
    }

    function get(uint64 bounty) external view returns (Bounty memory) {
        return _existing(bounty);
    }

    function identityOf(uint64 bounty) public view returns (bytes32) {
        Bounty storage entry = _existing(bounty);
        return keccak256(abi.encode(entry.poster, entry.terms));
    }

    function _create(BountyTerms calldata terms, uint256 amount) private returns (uint64 bounty) {
        require(
            environments.authorOf(terms.environment) != address(0),
            BountyEscrow_UnknownEnvironment(terms.environment)
        );
        require(terms.deadline > block.timestamp, BountyEscrow_DeadlinePassed(terms.deadline, block.timestamp));
        uint256 latest = block.timestamp + LONGEST;
        require(terms.deadline <= latest, BountyEscrow_DeadlineTooFar(terms.deadline, latest));
        require(terms.pricePerUnit != 0, BountyEscrow_ZeroPrice());
        require(
            terms.groupSize >= (terms.payRule == PayRule.Informative ? 2 : 1),
            BountyEscrow_InvalidGroupSize(terms.groupSize)
        );
        require(
            terms.tier == Tier.Opaque || terms.trainer != address(0), BountyEscrow_TrainerMissing(uint8(terms.tier))
        );

        bounty = ++count;
        Bounty storage entry = _bounties[bounty];
        entry.poster = msg.sender;
        entry.terms = terms;
        emit BountyCreated(bounty, msg.sender, terms.environment, terms);
        _fund(bounty, amount);
    }

    function _fund(uint64 bounty, uint256 amount) private {
        Bounty storage entry = _open(bounty);
        require(amount != 0, BountyEscrow_ZeroAmount());
        entry.available += amount.toUint128();
        emit BountyFunded(bounty, msg.sender, amount);
    }

    function _requireSame(uint64 bounty, bytes32 named) private view {
        bytes32 identity = identityOf(bounty);
        require(identity == named, BountyEscrow_AnotherBounty(bounty, identity, named));
    }

    function _open(uint64 bounty) private view returns (Bounty storage entry) {
        entry = _existing(bounty);
        uint64 deadline = entry.terms.deadline;
        require(block.timestamp <= deadline, BountyEscrow_DeadlinePassed(deadline, block.timestamp));
    }

    function _existing(uint64 bounty) private view returns (Bounty storage entry) {
        entry = _bounties[bounty];
        require(entry.poster != address(0), BountyEscrow_UnknownBounty(bounty));
    }
}
