// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {ILedger} from "./interfaces/ILedger.sol";
import {IRounds} from "./interfaces/IRounds.sol";
import {IVerifierStake} from "./interfaces/IVerifierStake.sol";
import {SortitionTree} from "./libraries/SortitionTree.sol";
import {Parameters, Permit} from "./libraries/Types.sol";

contract VerifierStake is IVerifierStake {
    using SafeCast for uint256;
    using SortitionTree for SortitionTree.Tree;

    /// What a draw and a settlement touch fits one slot.
    struct Account {
        uint96 stake;
        uint96 unbonding;
        uint32 claimableAt;
        uint32 openSeats;
        address owner;
    }

    ILedger public immutable ledger;
    IRounds public immutable rounds;
    uint96 public immutable seatStake;
    uint32 public immutable unbondingDelay;

    mapping(uint256 leaf => Account) private _accounts;
    /// leaf plus one; zero where the account never staked
    mapping(address account => uint256) private _leafOf;
    SortitionTree.Tree private _tree;
    uint256 public eligible;

    modifier onlyRounds() {
        require(msg.sender == address(rounds), VerifierStake_NotRounds(msg.sender));
        _;
    }

    constructor(ILedger ledger_, IRounds rounds_, Parameters memory parameters) {
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
        rounds.settleDraws();
        uint256 place = _leafOf[msg.sender];
        require(place != 0, VerifierStake_InsufficientFreeStake(0, amount));
        Account storage account = _accounts[place - 1];
        uint256 free = account.stake - uint256(account.openSeats) * seatStake;
        require(amount <= free, VerifierStake_InsufficientFreeStake(free, amount));

        uint256 claimableAt = block.timestamp + unbondingDelay;
        account.stake -= uint96(amount);
        account.unbonding += uint96(amount);
        account.claimableAt = claimableAt.toUint32();
        _refresh(place - 1, account);
        emit UnstakeRequested(msg.sender, amount, claimableAt);
    }

    function claim(address verifier) external returns (uint256 amount) {
        uint256 place = _leafOf[verifier];
        require(place != 0, VerifierStake_NothingUnbonding(verifier));
        Account storage account = _accounts[place - 1];
        amount = account.unbonding;
        require(amount != 0, VerifierStake_NothingUnbonding(verifier));
        uint256 claimableAt = account.claimableAt;
        require(block.timestamp >= claimableAt, VerifierStake_StillUnbonding(claimableAt, block.timestamp));

        account.unbonding = 0;
        emit Unstaked(verifier, amount);

        address[] memory accounts = new address[](1);
        uint256[] memory amounts = new uint256[](1);
        (accounts[0], amounts[0]) = (verifier, amount);
        ledger.credit(accounts, amounts);
    }

    function draw(bytes32 randomness, uint256 size, uint256 least, uint32[] calldata excluded)
        external
        onlyRounds
        returns (uint32[] memory members)
    {
        uint256 candidates = eligible;
        uint256[] memory weights = new uint256[](excluded.length);
        for (uint256 i; i < excluded.length; ++i) {
            // Somebody who sat twice has weight zero the second time, and gets it back once.
            weights[i] = _tree.weightOf(excluded[i]);
            if (weights[i] == 0) continue;
            --candidates;
            _tree.set(excluded[i], 0);
        }
        if (candidates >= least) members = _draw(randomness, Math.min(size, candidates));
        for (uint256 i; i < excluded.length; ++i) {
            if (weights[i] != 0) _tree.set(excluded[i], weights[i]);
        }
    }

    function closeSeats(uint32[] calldata members, uint256[] calldata penalties, address beneficiary)
        external
        onlyRounds
        returns (uint256 slashed)
    {
        for (uint256 i; i < members.length; ++i) {
            Account storage account = _accounts[members[i]];
            uint256 seats = account.openSeats - 1;
            uint256 fromStake = Math.min(penalties[i], account.stake - seats * seatStake);
            account.openSeats = uint32(seats);
            account.stake -= uint96(fromStake);
            uint256 taken = fromStake;
            if (fromStake != penalties[i]) {
                uint256 fromUnbonding = Math.min(penalties[i] - fromStake, account.unbonding);
                account.unbonding -= uint96(fromUnbonding);
                taken += fromUnbonding;
            }
            slashed += taken;
            _refresh(members[i], account);
            emit SeatClosed(account.owner, taken);
        }
        if (slashed != 0) ledger.shift(beneficiary, slashed);
    }

    function get(address verifier) external view returns (Verifier memory) {
        uint256 place = _leafOf[verifier];
        if (place == 0) return Verifier(0, 0, 0, 0, 0);
        Account storage account = _accounts[place - 1];
        return Verifier(
            account.stake, account.unbonding, account.claimableAt, account.openSeats, uint32(place)
        );
    }

    function ownerOf(uint32 leaf) external view returns (address) {
        return _accounts[leaf].owner;
    }

    function weightOf(address verifier) external view returns (uint256) {
        uint256 place = _leafOf[verifier];
        return place == 0 ? 0 : _tree.weightOf(place - 1);
    }

    function totalWeight() external view returns (uint256) {
        return _tree.total();
    }

    function _draw(bytes32 randomness, uint256 size) private returns (uint32[] memory members) {
        members = new uint32[](size);
        for (uint256 i; i < size; ++i) {
            // A fraction of the total, not a remainder: every ticket is as likely.
            uint256 fraction = uint256(keccak256(abi.encode(randomness, i))) >> 32;
            uint256 ticket = (fraction * _tree.total()) >> 224;
            uint256 leaf = _tree.find(ticket);
            members[i] = uint32(leaf);
            // Out of the lot until the whole committee is drawn: without replacement.
            _tree.set(leaf, 0);
        }
        for (uint256 i; i < size; ++i) {
            Account storage account = _accounts[members[i]];
            uint256 seats = ++account.openSeats;
            uint256 weight = account.stake / seatStake - seats;
            if (weight == 0) --eligible;
            _tree.set(members[i], weight);
        }
    }

    function _stake(uint256 amount) private {
        require(amount != 0, VerifierStake_ZeroAmount());
        rounds.settleDraws();
        uint256 place = _leafOf[msg.sender];
        uint256 sum = amount + (place == 0 ? 0 : _accounts[place - 1].stake);
        require(sum >= seatStake, VerifierStake_BelowSeatStake(sum, seatStake));
        // What is held covers every seat, open or free. Bounded here, the lot can't overflow when a seat is closed.
        uint256 seats = (ledger.heldFor(address(this)) + amount) / seatStake;
        require(seats <= type(uint32).max, VerifierStake_TooManySeats(seats));
        if (place == 0) {
            place = _tree.add() + 1;
            _leafOf[msg.sender] = place;
            _accounts[place - 1].owner = msg.sender;
        }
        Account storage account = _accounts[place - 1];
        account.stake = sum.toUint96();
        _refresh(place - 1, account);
        emit Staked(msg.sender, amount);
    }

    /// Brings the tree in line with a verifier's stake and seats.
    function _refresh(uint256 leaf, Account storage account) private {
        uint256 old = _tree.weightOf(leaf);
        uint256 weight = account.stake / seatStake - account.openSeats;
        if (old == weight) return;
        if (old == 0) ++eligible;
        if (weight == 0) --eligible;
        _tree.set(leaf, weight);
    }
}
