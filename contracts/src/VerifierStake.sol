// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {ILedger} from "./interfaces/ILedger.sol";
import {IVerifierStake} from "./interfaces/IVerifierStake.sol";
import {SortitionTree} from "./libraries/SortitionTree.sol";
import {Parameters, Permit} from "./libraries/Types.sol";

contract VerifierStake is IVerifierStake {
    using SafeCast for uint256;
    using SortitionTree for SortitionTree.Tree;

    ILedger public immutable ledger;
    address public immutable rounds;
    uint96 public immutable seatStake;
    uint32 public immutable unbondingDelay;

    mapping(address account => Verifier) private _verifiers;
    mapping(uint256 leaf => address) private _ownerOf;
    SortitionTree.Tree private _tree;
    uint256 public eligible;

    modifier onlyRounds() {
        require(msg.sender == rounds, VerifierStake_NotRounds(msg.sender));
        _;
    }

    constructor(ILedger ledger_, address rounds_, Parameters memory parameters) {
        require(parameters.seatStake != 0, VerifierStake_InvalidParameters());
        ledger = ledger_;
        rounds = rounds_;
        seatStake = parameters.seatStake;
        unbondingDelay = parameters.unbondingDelay;
    }

    function stake(uint256 amount) external {
        _stake(amount);
        ledger.collect(msg.sender, amount);
    }

    function stakeWithPermit(uint256 amount, Permit calldata permit) external {
        _stake(amount);
        ledger.collectWithPermit(msg.sender, amount, permit);
    }

    function requestUnstake(uint256 amount) external {
        require(amount != 0, VerifierStake_ZeroAmount());
        Verifier storage verifier = _verifiers[msg.sender];
        uint256 free = verifier.stake - uint256(verifier.openSeats) * seatStake;
        require(amount <= free, VerifierStake_InsufficientFreeStake(free, amount));

        uint40 claimableAt = uint40(block.timestamp + unbondingDelay);
        verifier.stake -= uint96(amount);
        verifier.unbonding += uint96(amount);
        verifier.claimableAt = claimableAt;
        _refresh(verifier);
        emit UnstakeRequested(msg.sender, amount, claimableAt);
    }

    function claim(address account) external returns (uint256 amount) {
        Verifier storage verifier = _verifiers[account];
        amount = verifier.unbonding;
        require(amount != 0, VerifierStake_NothingUnbonding(account));
        uint256 claimableAt = verifier.claimableAt;
        require(block.timestamp >= claimableAt, VerifierStake_StillUnbonding(claimableAt, block.timestamp));

        verifier.unbonding = 0;
        emit Unstaked(account, amount);

        address[] memory accounts = new address[](1);
        uint256[] memory amounts = new uint256[](1);
        (accounts[0], amounts[0]) = (account, amount);
        ledger.credit(accounts, amounts);
    }

    function draw(bytes32 randomness, uint256 size, uint256 least)
        external
        onlyRounds
        returns (address[] memory members)
    {
        uint256 candidates = eligible;
        require(candidates >= least, VerifierStake_NotEnoughVerifiers(candidates, least));
        if (size > candidates) size = candidates;

        members = new address[](size);
        for (uint256 i; i < size; ++i) {
            // A fraction of the total, not a remainder: stake that comes or goes once the randomness is known shifts the
            // ticket by at most its own weight instead of dealing a new one.
            uint256 fraction = uint256(keccak256(abi.encode(randomness, i))) >> 32;
            uint256 ticket = (fraction * _tree.total()) >> 224;
            uint256 leaf = _tree.find(ticket);
            members[i] = _ownerOf[leaf];
            // Out of the lot until the whole committee is drawn: without replacement.
            _tree.set(leaf, 0);
        }
        for (uint256 i; i < size; ++i) {
            Verifier storage verifier = _verifiers[members[i]];
            uint256 seats = ++verifier.openSeats;
            uint256 weight = verifier.stake / seatStake - seats;
            if (weight == 0) --eligible;
            _tree.set(verifier.leaf - 1, weight);
        }
    }

    function closeSeats(address[] calldata members, uint256[] calldata penalties, address beneficiary)
        external
        onlyRounds
        returns (uint256 slashed)
    {
        for (uint256 i; i < members.length; ++i) {
            Verifier storage verifier = _verifiers[members[i]];
            --verifier.openSeats;
            verifier.stake -= penalties[i].toUint96();
            slashed += penalties[i];
            _refresh(verifier);
            emit SeatClosed(members[i], penalties[i]);
        }
        if (slashed != 0) ledger.shift(beneficiary, slashed);
    }

    function get(address account) external view returns (Verifier memory) {
        return _verifiers[account];
    }

    function weightOf(address account) external view returns (uint256) {
        uint256 leaf = _verifiers[account].leaf;
        return leaf == 0 ? 0 : _tree.weightOf(leaf - 1);
    }

    function totalWeight() external view returns (uint256) {
        return _tree.total();
    }

    function _stake(uint256 amount) private {
        require(amount != 0, VerifierStake_ZeroAmount());
        Verifier storage verifier = _verifiers[msg.sender];
        uint256 sum = verifier.stake + amount;
        require(sum >= seatStake, VerifierStake_BelowSeatStake(sum, seatStake));
        // What is held covers every seat, open or free. Bounded here, the lot can't overflow when a seat is closed.
        uint256 seats = (ledger.heldFor(address(this)) + amount) / seatStake;
        require(seats <= type(uint32).max, SortitionTree.SortitionTree_SumTooLarge(seats));
        verifier.stake = sum.toUint96();
        if (verifier.leaf == 0) {
            uint256 leaf = _tree.add();
            _ownerOf[leaf] = msg.sender;
            verifier.leaf = uint32(leaf + 1);
        }
        _refresh(verifier);
        emit Staked(msg.sender, amount);
    }

    /// Brings the tree in line with a verifier's stake and seats.
    function _refresh(Verifier storage verifier) private {
        uint256 leaf = verifier.leaf - 1;
        uint256 old = _tree.weightOf(leaf);
        uint256 weight = verifier.stake / seatStake - verifier.openSeats;
        if (old == weight) return;
        if (old == 0) ++eligible;
        if (weight == 0) --eligible;
        _tree.set(leaf, weight);
    }
}
