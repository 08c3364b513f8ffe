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

    /// What a draw and the closing of a coherent member's seat touch fits the first slot.
    struct Account {
        address owner;
        uint32 openSeats;
        uint96 stake;
        uint96 unbonding;
        uint32 claimableAt;
    }

    ILedger public immutable ledger;
    IRounds public immutable rounds;
    uint96 public immutable seatStake;
    uint32 public immutable unbondingDelay;

    mapping(uint256 leaf => Account) private _accounts;
    /// leaf plus one; zero where the account never staked
    mapping(address account => uint256) private _leafOf;
    /// free seats: the lot of committees
    SortitionTree.Tree private _free;
    /// all seats: the lot of juries, which nobody can empty by keeping seats busy
    SortitionTree.Tree private _all;
    uint128 private _eligible;
    uint128 private _stakers;

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
        uint256 free = _beyond(account, account.openSeats);
        require(amount <= free, VerifierStake_InsufficientFreeStake(free, amount));

        uint256 claimableAt = block.timestamp + unbondingDelay;
        account.stake -= uint96(amount);
        account.unbonding += uint96(amount);
        account.claimableAt = claimableAt.toUint32();
        _refreshFree(place - 1, account);
        _refreshAll(place - 1, account);
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

    function draw(bytes32 randomness, uint256 size, uint256 least, uint32[] calldata excluded, bool jury)
        external
        onlyRounds
        returns (uint32[] memory members, address[] memory owners)
    {
        SortitionTree.Tree storage tree = jury ? _all : _free;
        uint256 candidates = jury ? _stakers : _eligible;
        uint256[] memory weights = new uint256[](excluded.length);
        for (uint256 i; i < excluded.length; ++i) {
            // Somebody who sat twice has weight zero the second time, and gets it back once.
            weights[i] = tree.weightOf(excluded[i]);
            if (weights[i] == 0) continue;
            --candidates;
            tree.set(excluded[i], 0);
        }
        if (candidates >= least) {
            members = _pick(tree, randomness, Math.min(size, candidates));
            owners = new address[](members.length);
            for (uint256 i; i < members.length; ++i) {
                uint32 leaf = members[i];
                owners[i] = _accounts[leaf].owner;
                // Jurors lock nothing: what they can lose stays within reach while it unbonds.
                if (jury) continue;
                ++_accounts[leaf].openSeats;
                // A verifier's weight is its free seats: one fewer.
                if (tree.decrease(leaf) == 0) --_eligible;
            }
        }
        for (uint256 i; i < excluded.length; ++i) {
            if (weights[i] != 0) tree.set(excluded[i], weights[i]);
        }
    }

    function closeSeats(uint32[] calldata members, uint256[] calldata penalties, address beneficiary, bool jury)
        external
        onlyRounds
        returns (uint256 slashed)
    {
        for (uint256 i; i < members.length; ++i) {
            Account storage account = _accounts[members[i]];
            if (!jury) --account.openSeats;
            uint256 taken = _take(account, penalties[i], jury);
            if (taken != 0) {
                slashed += taken;
                _refreshFree(members[i], account);
                _refreshAll(members[i], account);
            } else if (!jury && !_free.increase(members[i])) {
                // Who has no free seat may have lost what was behind this one.
                _refreshFree(members[i], account);
            }
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

    function ownersOf(uint32[] calldata leaves) external view returns (address[] memory owners) {
        owners = new address[](leaves.length);
        for (uint256 i; i < leaves.length; ++i) {
            owners[i] = _accounts[leaves[i]].owner;
        }
    }

    function eligible() external view returns (uint256) {
        return _eligible;
    }

    function stakers() external view returns (uint256) {
        return _stakers;
    }

    function weightOf(address verifier) external view returns (uint256) {
        uint256 place = _leafOf[verifier];
        return place == 0 ? 0 : _free.weightOf(place - 1);
    }

    function totalWeight() external view returns (uint256) {
        return _free.total();
    }

    /// Draws without replacement. The tree stays as it is: a ticket is drawn from what those before left, and steps over
    /// their intervals, which are kept in order.
    function _pick(SortitionTree.Tree storage tree, bytes32 randomness, uint256 size)
        private
        view
        returns (uint32[] memory members)
    {
        members = new uint32[](size);
        uint256[] memory starts = new uint256[](size);
        uint256[] memory weights = new uint256[](size);
        uint256 left = tree.total();
        unchecked {
            for (uint256 i; i < size; ++i) {
                // A fraction of the total, not a remainder: every ticket is as likely.
                uint256 fraction = uint256(keccak256(abi.encode(randomness, i))) >> 32;
                uint256 ticket = (fraction * left) >> 224;
                uint256 place;
                while (place < i && ticket >= starts[place]) ticket += weights[place++];
                (uint256 leaf, uint256 start, uint256 weight) = tree.find(ticket);
                members[i] = uint32(leaf);
                left -= weight;
                for (uint256 j = i; j > place; --j) {
                    (starts[j], weights[j]) = (starts[j - 1], weights[j - 1]);
                }
                (starts[place], weights[place]) = (start, weight);
            }
        }
    }

    /// Takes a penalty: from stake behind no seat, then from what is unbonding, and a juror's last from stake behind seats.
    function _take(Account storage account, uint256 penalty, bool jury) private returns (uint256 taken) {
        if (penalty == 0) return 0;
        taken = Math.min(penalty, _beyond(account, account.openSeats));
        account.stake -= uint96(taken);
        if (taken == penalty) return taken;
        uint256 part = Math.min(penalty - taken, account.unbonding);
        account.unbonding -= uint96(part);
        taken += part;
        if (!jury) return taken;
        part = Math.min(penalty - taken, account.stake);
        account.stake -= uint96(part);
        taken += part;
    }

    /// @return stake beyond what `seats` seats lock
    function _beyond(Account storage account, uint256 seats) private view returns (uint256) {
        uint256 locked = seats * seatStake;
        return account.stake > locked ? account.stake - locked : 0;
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
            place = _free.add() + 1;
            _all.add();
            _leafOf[msg.sender] = place;
            _accounts[place - 1].owner = msg.sender;
        }
        Account storage account = _accounts[place - 1];
        account.stake = sum.toUint96();
        _refreshFree(place - 1, account);
        _refreshAll(place - 1, account);
        emit Staked(msg.sender, amount);
    }

    /// Brings the lot of committees in line with a verifier's stake and seats.
    function _refreshFree(uint256 leaf, Account storage account) private {
        uint256 old = _free.weightOf(leaf);
        uint256 all = account.stake / seatStake;
        uint256 locked = account.openSeats;
        uint256 weight = all > locked ? all - locked : 0;
        if (old == weight) return;
        if (old == 0) ++_eligible;
        if (weight == 0) --_eligible;
        _free.set(leaf, weight);
    }

    /// Brings the lot of juries in line with a verifier's stake.
    function _refreshAll(uint256 leaf, Account storage account) private {
        uint256 old = _all.weightOf(leaf);
        uint256 weight = account.stake / seatStake;
        if (old == weight) return;
        if (old == 0) ++_stakers;
        if (weight == 0) --_stakers;
        _all.set(leaf, weight);
    }
}
