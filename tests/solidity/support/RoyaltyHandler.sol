// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRoyalties} from "../../../contracts/src/interfaces/IRoyalties.sol";
import {MerkleProofs} from "../../../contracts/src/libraries/MerkleProofs.sol";
import {RoyaltyScenario} from "./RoyaltyScenario.sol";
import {SmallTrees} from "./SmallTrees.sol";

/// Royalties in any order: each action picks by its seed among what is possible, and must not revert. What is paid,
/// collected and passed on is counted here a second time.
contract RoyaltyHandler is RoyaltyScenario {
    uint256 public constant ACTIONS = 6;
    uint64 private constant MOST = 12;

    /// by action: register, pay, collect, passOn, withdraw, meddle
    uint256[ACTIONS] public done;

    /// shares that add up to a billion: the others can't be collected from
    mapping(uint64 checkpoint => bool) private sound;
    mapping(uint64 checkpoint => uint256) private paidIn;
    mapping(uint64 checkpoint => uint256) private cameFromChildren;
    mapping(uint64 checkpoint => uint256) private wentToParent;
    mapping(uint64 checkpoint => uint256) private collectedFrom;
    mapping(address account => uint256) private earned;
    mapping(address account => uint256) private spent;
    mapping(address account => uint256) private withdrawn;

    constructor() {
        _begin();
        _registerAny(0);
    }

    function register(uint256 seed) external {
        _registerAny(seed);
    }

    function _registerAny(uint256 seed) private {
        uint64 count = checkpoints.count();
        if (count == MOST) return;
        Holder[] memory list = new Holder[](1 + seed % 5);
        uint32 left = ALL;
        for (uint256 i; i < list.length; ++i) {
            uint32 share = uint32((seed >> (16 + 32 * i)) % (uint256(left) + 1));
            if (i + 1 == list.length) share = left;
            list[i] = Holder(accounts[(seed >> (8 * i)) % accounts.length], share);
            left -= share;
        }
        // Some promise a billionth more or less than there is.
        uint256 lie = (seed >> 200) % 5;
        if (lie == 1) ++list[0].share;
        if (lie == 2 && list[0].share != 0) --list[0].share;
        uint64 parent = count == 0 ? 0 : uint64((seed >> 208) % (count + 1));
        uint64 id = _register(parent, parent == 0 ? 0 : uint32((seed >> 216) % 500_001), list);
        uint256 sum;
        for (uint256 i; i < list.length; ++i) sum += list[i].share;
        sound[id] = sum == ALL;
        ++done[0];
    }

    function pay(uint256 seed) external {
        address payer = accounts[seed % accounts.length];
        uint64 id = _any(seed >> 8);
        uint256 amount = 1 + (seed >> 64) % (seed & 256 == 0 ? 20 : 1e15);
        uint256 before = token.balanceOf(payer);
        uint256 balance = ledger.balanceOf(payer);
        _pay(payer, id, amount);
        uint256 fromBalance = balance - ledger.balanceOf(payer);
        vm.assertEq(before + amount - token.balanceOf(payer) + fromBalance, amount, "paid exactly that");
        spent[payer] += fromBalance;
        paidIn[id] += amount;
        ++done[1];
    }

    function collect(uint256 seed) external {
        (uint64 id, uint256 index) = _anyShare(seed);
        uint256 due = sound[id] ? _due(id, index) : 0;
        if (due == 0) return;
        address account = holdersOf[id][index].account;
        uint256 balance = ledger.balanceOf(account);
        vm.assertEq(_collect(id, index), due, "all that is due");
        vm.assertEq(ledger.balanceOf(account), balance + due, "to the account");
        collectedFrom[id] += due;
        earned[account] += due;
        ++done[2];
    }

    function passOn(uint256 seed) external {
        uint64 id = _any(seed);
        (,, uint32 ppm, uint64 parent) = checkpoints.sharesOf(id);
        uint256 due = (paidIn[id] + cameFromChildren[id]) * ppm / 1_000_000 - wentToParent[id];
        vm.assertEq(royalties.passOnDue(id), due, "due");
        if (due == 0) return;
        vm.assertEq(royalties.passOn(id), due, "passed on");
        wentToParent[id] += due;
        cameFromChildren[parent] += due;
        ++done[3];
    }

    function withdraw(uint256 seed) external {
        address account = accounts[seed % accounts.length];
        uint256 balance = ledger.balanceOf(account);
        if (balance == 0) return;
        uint256 amount = 1 + (seed >> 8) % balance;
        vm.prank(account);
        ledger.withdraw(account, amount);
        withdrawn[account] += amount;
        ++done[4];
    }

    /// What nobody may do.
    function meddle(uint256 seed) external {
        (uint64 id, uint256 index) = _anyShare(seed);
        Holder memory one = holdersOf[id][index];
        MerkleProofs.SumNode[] memory proof = SmallTrees.sumProof(_leaves(id), index);
        bytes memory data;
        uint256 what = (seed >> 128) % 7;
        if (what == 0) {
            // Again, right after a collection.
            if (sound[id] && _due(id, index) != 0) this.collect(seed);
            data = abi.encodeCall(IRoyalties.collect, (id, index, one.account, one.share, proof));
        } else if (what == 1) {
            data = abi.encodeCall(IRoyalties.collect, (id, index, stranger, one.share + 1, proof));
        } else if (what == 2) {
            data = abi.encodeCall(IRoyalties.collect, (id, holdersOf[id].length, one.account, one.share, proof));
        } else if (what == 3) {
            // A share of one checkpoint from another one's money.
            uint64 other = _any(seed >> 136);
            (bytes32 root,,,) = checkpoints.sharesOf(id);
            (bytes32 otherRoot,,,) = checkpoints.sharesOf(other);
            if (root == otherRoot) return;
            data = abi.encodeCall(IRoyalties.collect, (other, index, one.account, one.share, proof));
        } else if (what == 4) {
            if (proof.length == 0) return;
            proof[0].units += 1;
            data = abi.encodeCall(IRoyalties.collect, (id, index, one.account, one.share, proof));
        } else if (what == 5) {
            // Money meant for another checkpoint.
            uint64 meant = _any(seed >> 136);
            bytes32 identity = checkpoints.identityOf(meant);
            if (identity == checkpoints.identityOf(id)) return;
            _arm(address(this), 1);
            data = abi.encodeCall(IRoyalties.pay, (id, identity, 1));
        } else {
            // The whole list as one leaf.
            data = abi.encodeCall(
                IRoyalties.collect, (id, 0, stranger, ALL, new MerkleProofs.SumNode[](0))
            );
            if (holdersOf[id].length == 1) return;
        }
        (bool success,) = address(royalties).call(data);
        vm.assertFalse(success, "refused");
        ++done[5];
    }

    function checkRoyalties() external view {
        uint256 paid;
        uint256 collected;
        for (uint64 id = 1; id <= checkpoints.count(); ++id) {
            IRoyalties.Account memory sums = royalties.accountOf(id);
            vm.assertEq(sums.received, paidIn[id] + cameFromChildren[id], "received = paid in + passed on by children");
            vm.assertEq(sums.passedOn, wentToParent[id], "passed on");
            vm.assertEq(sums.collected, collectedFrom[id], "collected");
            // No checkpoint pays another one's money.
            vm.assertLe(uint256(sums.collected), _kept(id), "collected <= kept");
            vm.assertLe(sums.passedOn, sums.received - _kept(id), "passed on <= what goes on");
            uint256 each;
            for (uint256 i; i < holdersOf[id].length; ++i) {
                uint256 had = royalties.collectedOf(id, i);
                vm.assertLe(had, _kept(id) * holdersOf[id][i].share / ALL, "no more than its share");
                each += had;
            }
            vm.assertEq(each, sums.collected, "collected = sum over shares");
            if (!sound[id]) vm.assertEq(sums.collected, 0, "nobody collects from a list that does not add up");
            paid += paidIn[id];
            collected += collectedFrom[id];
        }
        vm.assertEq(ledger.heldFor(address(royalties)), _owed(), "held = received - passed on - collected");
        vm.assertEq(paid, collected + ledger.heldFor(address(royalties)), "paid in = collected + owed");
        uint256 balances;
        for (uint256 i; i < accounts.length; ++i) {
            address account = accounts[i];
            vm.assertEq(
                ledger.balanceOf(account) + spent[account] + withdrawn[account], earned[account], "earned once"
            );
            balances += ledger.balanceOf(account);
        }
        vm.assertEq(token.balanceOf(address(ledger)), balances + ledger.heldFor(address(royalties)), "tokens");
    }

    /// Whatever came before: all is passed on, all is collected, and what stays is dust, less than a unit for each share.
    function everybodyCollects() external {
        for (uint64 id = checkpoints.count(); id != 0; --id) {
            if (royalties.passOnDue(id) != 0) royalties.passOn(id);
        }
        for (uint64 id = 1; id <= checkpoints.count(); ++id) {
            if (!sound[id]) continue;
            for (uint256 i; i < holdersOf[id].length; ++i) {
                if (_due(id, i) != 0) _collect(id, i);
            }
            IRoyalties.Account memory sums = royalties.accountOf(id);
            uint256 stays = uint256(sums.received) - sums.passedOn - sums.collected;
            vm.assertTrue(stays < holdersOf[id].length, "dust");
        }
        vm.assertEq(ledger.heldFor(address(royalties)), _owed(), "held");
    }

    function _any(uint256 seed) private view returns (uint64) {
        return uint64(1 + seed % checkpoints.count());
    }

    function _anyShare(uint256 seed) private view returns (uint64 id, uint256 index) {
        id = _any(seed);
        index = (seed >> 64) % holdersOf[id].length;
    }

    function _due(uint64 id, uint256 index) private view returns (uint256) {
        return _kept(id) * holdersOf[id][index].share / ALL - royalties.collectedOf(id, index);
    }
}
