// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ICheckpointRegistry} from "../../contracts/src/interfaces/ICheckpointRegistry.sol";
import {ILedger} from "../../contracts/src/interfaces/ILedger.sol";
import {IRoyalties} from "../../contracts/src/interfaces/IRoyalties.sol";
import {MerkleProofs} from "../../contracts/src/libraries/MerkleProofs.sol";
import {ContentId, Permit, Shares} from "../../contracts/src/libraries/Types.sol";
import {RoyaltyScenario} from "./support/RoyaltyScenario.sol";
import {SmallTrees} from "./support/SmallTrees.sol";

/// constructor
/// ├── the ledger names other royalties         Royalties_WrongDeployment
/// └── no registry                              Royalties_WrongDeployment
/// pay, payWithPermit
/// ├── no such checkpoint                       CheckpointRegistry_UnknownCheckpoint
/// ├── another one than the payer names         Royalties_AnotherCheckpoint
/// ├── nothing                                  Royalties_ZeroAmount
/// ├── more than fits                           SafeCastOverflowedUintDowncast
/// └── from tokens, a balance or both
/// collect
/// ├── no such checkpoint                       CheckpointRegistry_UnknownCheckpoint
/// ├── another account, share, index, proof     Royalties_BadShareProof
/// ├── a list of more or less than a billion    Royalties_BadShareProof
/// ├── another checkpoint's share               Royalties_BadShareProof
/// ├── nothing yet, or not enough for a unit    Royalties_NothingToCollect
/// ├── more than is kept (can't be)             Royalties_Overdrawn
/// └── all since the last time, by anybody, for the account
/// passOn
/// ├── a base model, or nothing new             Royalties_NothingToPassOn
/// └── the declared part, step by step
contract RoyaltiesTest is RoyaltyScenario {
    error SafeCastOverflowedUintDowncast(uint8 bits, uint256 value);

    struct Registration {
        uint64 parent;
        address by;
        ContentId content;
        bytes32 datasetRoot;
        Shares shares;
    }

    uint64 private base;
    uint64 private child;
    uint256 private beforeAll;

    function setUp() external {
        _begin();
        beforeAll = vm.snapshotState();
        Holder[] memory one = new Holder[](1);
        one[0] = Holder(trainer, ALL);
        base = _register(0, 0, one);
        Holder[] memory list = new Holder[](3);
        list[0] = Holder(miner, 600_000_000);
        list[1] = Holder(poster, 100_000_000);
        list[2] = Holder(trainer, 300_000_000);
        child = _register(base, 200_000, list);
    }

    function testConstructor() external {
        vm.expectRevert(
            abi.encodeWithSelector(IRoyalties.Royalties_WrongDeployment.selector, address(royalties))
        );
        this.create("Royalties.sol:Royalties", abi.encode(ledger, checkpoints));
        address next = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        address own = create("Ledger.sol:Ledger", abi.encode(token, escrow, stake, market, court, next));
        vm.expectRevert(abi.encodeWithSelector(IRoyalties.Royalties_WrongDeployment.selector, stranger));
        this.create("Royalties.sol:Royalties", abi.encode(own, stranger));
    }

    function testPayAndCollect() external {
        _arm(stranger, 1_000);
        vm.expectEmit(address(royalties));
        emit IRoyalties.RoyaltyPaid(child, stranger, 1_000);
        bytes32 identity = checkpoints.identityOf(child);
        vm.prank(stranger);
        royalties.pay(child, identity, 1_000);
        vm.assertEq(ledger.heldFor(address(royalties)), 1_000, "held");
        vm.assertEq(token.balanceOf(stranger), 0, "paid");

        // 200 go on, 800 are kept: 480, 80, 240.
        vm.expectEmit(address(royalties));
        emit IRoyalties.RoyaltyCollected(child, miner, 0, 480);
        vm.expectEmit(address(ledger));
        emit ILedger.Credited(miner, address(royalties), 480);
        vm.prank(stranger); // for the account, whoever calls
        vm.assertEq(_collect(child, 0), 480, "miner");
        vm.assertEq(_collect(child, 1), 80, "author");
        vm.assertEq(_collect(child, 2), 240, "trainer");
        vm.assertEq(ledger.balanceOf(miner), 480, "can be withdrawn");
        vm.assertEq(ledger.heldFor(address(royalties)), 200, "what goes on");

        vm.assertEq(royalties.passOnDue(child), 200, "due");
        vm.expectEmit(address(royalties));
        emit IRoyalties.RoyaltyPassedOn(child, base, 200);
        vm.assertEq(royalties.passOn(child), 200, "passed on");
        vm.assertEq(_collect(base, 0), 200, "the base model's owner");
        vm.assertEq(ledger.heldFor(address(royalties)), 0, "all is out");
        vm.prank(miner);
        ledger.withdraw(miner, 480);
        vm.assertEq(token.balanceOf(miner), 480, "tokens");
    }

    function testPayFromBalanceAndWithPermit() external {
        _arm(stranger, 100);
        vm.prank(stranger);
        ledger.deposit(60);
        bytes32 identity = checkpoints.identityOf(base);
        vm.prank(stranger);
        royalties.pay(base, identity, 50);
        vm.assertEq(token.balanceOf(stranger), 40, "no token moved");
        vm.assertEq(ledger.balanceOf(stranger), 10, "balance first");
        token.mint(miner, 30);
        Permit memory permit = _permitOf(miner, "miner", 30);
        vm.prank(miner);
        royalties.payWithPermit(base, identity, 30, permit);
        vm.assertEq(royalties.accountOf(base).received, 80, "received");
        vm.assertEq(_collect(base, 0), 80, "of both");
    }

    function testPayErrors() external {
        Permit memory permit;
        bytes32 identity = checkpoints.identityOf(base);
        bytes memory unknown =
            abi.encodeWithSelector(ICheckpointRegistry.CheckpointRegistry_UnknownCheckpoint.selector, 3);
        vm.expectRevert(unknown);
        royalties.pay(3, 0, 1);
        vm.expectRevert(unknown);
        royalties.payWithPermit(3, 0, 1, permit);
        _expect(IRoyalties.Royalties_ZeroAmount.selector);
        royalties.pay(base, identity, 0);
        uint256 huge = uint256(type(uint128).max) + 1;
        vm.expectRevert(abi.encodeWithSelector(SafeCastOverflowedUintDowncast.selector, 128, huge));
        royalties.pay(base, identity, huge);
        // Without tokens nothing is booked.
        vm.expectRevert();
        vm.prank(stranger);
        royalties.pay(base, identity, 1);
        vm.assertEq(royalties.accountOf(base).received, 0, "nothing");
    }

    /// A chain that is reorganised gives numbers anew. Who paid for what had one before pays nobody else: the same payment,
    /// sent again, is refused whatever of the record is another one.
    function testPayNamesTheCheckpoint() external {
        Registration memory honest = _honest();
        uint256 before = vm.snapshotState();
        uint64 number = _registerExactly(honest);
        bytes32 identity = checkpoints.identityOf(number);
        for (uint256 what; what < 8; ++what) {
            vm.revertToState(before);
            Registration memory other = _honest();
            if (what == 0) other.by = miner;
            if (what == 1) other.content.digest = keccak256("other weights");
            if (what == 2) other.content.codec = 0x70;
            if (what == 3) other.datasetRoot = keccak256("dataset");
            if (what == 4) other.shares.root = keccak256("shares");
            if (what == 5) ++other.shares.holders;
            if (what == 6) ++other.shares.passOnPpm;
            if (what == 7) other.parent = child;
            vm.assertEq(_registerExactly(other), number, "the same number");
            _refuseToPay(number, identity);
        }
        // As it was, in a later block and with its list of shares elsewhere: the payment is good.
        vm.revertToState(before);
        vm.roll(vm.getBlockNumber() + 100);
        honest.shares.list.digest = keccak256("elsewhere");
        vm.assertEq(_registerExactly(honest), number, "the same number again");
        _arm(stranger, 10);
        vm.prank(stranger);
        royalties.pay(number, identity, 10);
        vm.assertEq(royalties.accountOf(number).received, 10, "paid");
    }

    /// The record is the same, down to the number of its parent. But that is another one's now, and a part would go there.
    function testPayNamesTheLineage() external {
        uint64 number = _registerExactly(_honest());
        uint64 grandchild = _registerExactly(Registration(number, miner, _honest().content, 0, _sharesOf(base)));
        bytes32[2] memory named = [checkpoints.identityOf(number), checkpoints.identityOf(grandchild)];
        vm.revertToState(beforeAll);
        Holder[] memory one = new Holder[](1);
        one[0] = Holder(miner, ALL);
        vm.assertEq(_register(0, 0, one), 1, "another base model");
        one[0] = Holder(trainer, ALL);
        vm.assertEq(_register(1, 200_000, one), 2, "and child");
        vm.assertEq(_registerExactly(_honest()), number, "the same record");
        _registerExactly(Registration(number, miner, _honest().content, 0, _sharesOf(1)));
        _refuseToPay(number, named[0]);
        _refuseToPay(grandchild, named[1]);
    }

    function _honest() private view returns (Registration memory) {
        Shares memory shares = Shares(keccak256("root"), 3, 200_000, ContentId(keccak256("list"), RAW));
        return Registration(1, trainer, ContentId(keccak256("weights"), RAW), 0, shares);
    }

    function _refuseToPay(uint64 number, bytes32 named) private {
        bytes32 identity = checkpoints.identityOf(number);
        _arm(stranger, 10);
        uint256 tokens = token.balanceOf(stranger);
        Permit memory permit = _permitOf(stranger, "stranger", 10);
        bytes memory reason =
            abi.encodeWithSelector(IRoyalties.Royalties_AnotherCheckpoint.selector, number, identity, named);
        vm.expectRevert(reason);
        vm.prank(stranger);
        royalties.pay(number, named, 10);
        vm.expectRevert(reason);
        vm.prank(stranger);
        royalties.payWithPermit(number, named, 10, permit);
        vm.assertEq(token.balanceOf(stranger), tokens, "nothing was taken");
        vm.assertEq(royalties.accountOf(number).received, 0, "nothing came in");
    }

    function _registerExactly(Registration memory one) private returns (uint64) {
        bytes32 identity = _identityOf(one.parent);
        vm.prank(one.by);
        return checkpoints.register(one.parent, identity, one.content, one.datasetRoot, one.shares);
    }

    function _sharesOf(uint64 checkpoint) private view returns (Shares memory) {
        (bytes32 root, uint32 holders, uint32 passOnPpm,) = checkpoints.sharesOf(checkpoint);
        return Shares(root, holders, passOnPpm, ContentId(keccak256("list"), RAW));
    }

    function testBadShareProofs() external {
        _pay(stranger, child, 1_000);
        _pay(stranger, base, 1_000);
        MerkleProofs.SumNode[] memory proof = SmallTrees.sumProof(_leaves(child), 0);
        _refuse(child, 0, stranger, 600_000_000, proof);
        _refuse(child, 0, miner, 600_000_001, proof);
        _refuse(child, 1, miner, 600_000_000, proof);
        _refuse(child, 3, miner, 600_000_000, proof);
        _refuse(base, 0, miner, 600_000_000, proof);
        _refuse(child, 0, trainer, ALL, new MerkleProofs.SumNode[](0));
        ++proof[1].units;
        _refuse(child, 0, miner, 600_000_000, proof);
        --proof[1].units;
        proof[0].faults = 1;
        _refuse(child, 0, miner, 600_000_000, proof);
        vm.expectRevert(
            abi.encodeWithSelector(ICheckpointRegistry.CheckpointRegistry_UnknownCheckpoint.selector, 3)
        );
        royalties.collect(3, 0, miner, 1, proof);
    }

    /// Nobody can collect from a list that promises more than there is, or less: no holder comes too late.
    function testListsThatDoNotAddUp() external {
        Holder[] memory list = new Holder[](2);
        list[0] = Holder(miner, 600_000_000);
        for (uint32 other = 399_999_999; other <= 400_000_001; other += 2) {
            list[1] = Holder(trainer, other);
            uint64 checkpoint = _register(0, 0, list);
            _pay(stranger, checkpoint, 1_000);
            for (uint256 i; i < 2; ++i) {
                MerkleProofs.SumNode[] memory proof = SmallTrees.sumProof(_leaves(checkpoint), i);
                _refuse(checkpoint, i, list[i].account, list[i].share, proof);
            }
        }
    }

    /// A trainer may register another number of holders than its tree has leaves. Whatever leaf is then claimed at whatever
    /// place, with the leaf's own siblings or some of them: none is paid twice, and all together get no more than is kept.
    function testAnotherNumberOfHolders() external {
        for (uint256 leaves = 2; leaves <= 7; ++leaves) {
            Holder[] memory list = new Holder[](leaves);
            for (uint256 i; i < leaves; ++i) {
                list[i] = Holder(accounts[i % accounts.length], ALL / 8);
            }
            list[0].share = ALL - uint32(leaves - 1) * (ALL / 8);
            for (uint32 holders = 1; holders <= 9; ++holders) {
                uint64 checkpoint = _registerAs(0, 0, list, holders);
                _pay(stranger, checkpoint, 8_000);
                for (uint256 i; i < leaves; ++i) {
                    _tryEverywhere(checkpoint, i);
                }
                if (holders == leaves) vm.assertEq(_kept(checkpoint), royalties.accountOf(checkpoint).collected, "all");
            }
        }
        vm.assertEq(ledger.heldFor(address(royalties)), _owed(), "held");
    }

    function testNothingToCollect() external {
        _nothing(child, 0);
        _pay(stranger, child, 1);
        _nothing(child, 0); // 0.6 of a unit
        _pay(stranger, child, 1);
        vm.assertEq(_collect(child, 0), 1, "1.2 of 2, none of which goes on yet");
        _nothing(child, 0);
        _pay(stranger, child, 1_000_000);
        vm.assertEq(_collect(child, 0), 480_000, "of 1,000,002: 480,000.96 + 0.24, less the 1 before");
        _nothing(child, 0);
    }

    function testNothingToPassOn() external {
        vm.expectRevert(abi.encodeWithSelector(IRoyalties.Royalties_NothingToPassOn.selector, child));
        royalties.passOn(child);
        _pay(stranger, base, 1_000);
        vm.expectRevert(abi.encodeWithSelector(IRoyalties.Royalties_NothingToPassOn.selector, base));
        royalties.passOn(base);
        _pay(stranger, child, 4);
        vm.expectRevert(abi.encodeWithSelector(IRoyalties.Royalties_NothingToPassOn.selector, child));
        royalties.passOn(child);
        _pay(stranger, child, 1);
        vm.assertEq(royalties.passOn(child), 1, "a fifth of 5");
        vm.expectRevert(
            abi.encodeWithSelector(ICheckpointRegistry.CheckpointRegistry_UnknownCheckpoint.selector, 3)
        );
        royalties.passOn(3);
    }

    /// The last line of defence, which no proof reaches: a checkpoint never pays out more than is kept for its holders.
    function testNeverOverdrawn() external {
        _pay(stranger, child, 1_000);
        _pay(stranger, base, 1_000);
        // Account: received and passedOn share a word, collected has the next one.
        bytes32 word = bytes32(uint256(keccak256(abi.encode(uint256(child), uint256(0)))) + 1);
        vm.assertEq(_collect(child, 1), 80, "collected");
        vm.assertEq(vm.load(address(royalties), word), bytes32(uint256(80)), "its place");
        vm.store(address(royalties), word, bytes32(uint256(321)));
        Holder memory one = holdersOf[child][0];
        MerkleProofs.SumNode[] memory proof = SmallTrees.sumProof(_leaves(child), 0);
        vm.expectRevert(abi.encodeWithSelector(IRoyalties.Royalties_Overdrawn.selector, child, 800, 321, 480));
        royalties.collect(child, 0, one.account, one.share, proof);
        vm.store(address(royalties), word, bytes32(uint256(320)));
        vm.assertEq(royalties.collect(child, 0, one.account, one.share, proof), 480, "exactly all");
    }

    /// A grandchild's payments reach the base model in two steps, and in one transaction.
    function testLineage() external {
        Holder[] memory one = new Holder[](1);
        one[0] = Holder(stranger, ALL);
        uint64 grandchild = _register(child, 500_000, one);
        _pay(poster, grandchild, 1_000);
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(IRoyalties.passOn, (grandchild));
        calls[1] = abi.encodeCall(IRoyalties.passOn, (child));
        (bool done,) = address(royalties).call(abi.encodeWithSignature("multicall(bytes[])", calls));
        vm.assertTrue(done, "multicall");
        vm.assertEq(royalties.accountOf(child).received, 500, "half of it");
        vm.assertEq(royalties.accountOf(base).received, 100, "a fifth of that");
        vm.assertEq(_collect(grandchild, 0), 500, "kept");
        vm.assertEq(_collect(child, 0), 240, "0.6 of 400");
        vm.assertEq(_collect(base, 0), 100, "the end of the line");
        vm.assertEq(ledger.heldFor(address(royalties)), _owed(), "held");
    }

    /// However payments and collections interleave, a holder ends with exactly its part of the sum; the rest is dust.
    function testFuzzCollectingOftenIsCollectingOnce(uint256 seed) external {
        Holder[] memory list = _randomList(seed);
        uint64 checkpoint = _register(base, uint32(seed % 500_001), list);
        for (uint256 i; i < 12; ++i) {
            uint256 dice = uint256(keccak256(abi.encode(seed, "step", i)));
            _pay(stranger, checkpoint, 1 + (dice >> 8) % (dice % 2 == 0 ? 50 : 1e12));
            uint256 index = (dice >> 128) % list.length;
            if (_due(checkpoint, index) != 0) _collect(checkpoint, index);
            if (dice % 3 == 0 && royalties.passOnDue(checkpoint) != 0) royalties.passOn(checkpoint);
        }
        if (royalties.passOnDue(checkpoint) != 0) royalties.passOn(checkpoint);
        uint256 kept = _kept(checkpoint);
        for (uint256 i; i < list.length; ++i) {
            if (_due(checkpoint, i) != 0) _collect(checkpoint, i);
            vm.assertEq(
                royalties.collectedOf(checkpoint, i), kept * list[i].share / ALL, "its part of the sum, no less, no more"
            );
        }
        IRoyalties.Account memory sums = royalties.accountOf(checkpoint);
        vm.assertEq(sums.received - sums.passedOn, kept, "the parent has its part");
        vm.assertEq(royalties.accountOf(base).received, sums.passedOn, "it came there");
        vm.assertTrue(kept - sums.collected < list.length, "dust: less than a unit for each holder");
        vm.assertEq(ledger.heldFor(address(royalties)), _owed(), "held");
        vm.assertEq(_entries(), token.balanceOf(address(ledger)), "tokens");
    }

    function _tryEverywhere(uint64 checkpoint, uint256 leaf) private {
        Holder memory one = holdersOf[checkpoint][leaf];
        MerkleProofs.SumNode[] memory whole = SmallTrees.sumProof(_leaves(checkpoint), leaf);
        uint256 paid;
        for (uint256 length; length <= whole.length; ++length) {
            MerkleProofs.SumNode[] memory proof = new MerkleProofs.SumNode[](length);
            for (uint256 i; i < length; ++i) {
                proof[i] = whole[i];
            }
            for (uint256 place; place < 10; ++place) {
                try royalties.collect(checkpoint, place, one.account, one.share, proof) returns (uint256 amount) {
                    paid += amount;
                } catch {}
            }
        }
        vm.assertTrue(paid <= _kept(checkpoint) * one.share / ALL, "more than its part");
    }

    function _randomList(uint256 seed) private view returns (Holder[] memory list) {
        list = new Holder[](1 + uint256(keccak256(abi.encode(seed, "size"))) % 9);
        uint32 left = ALL;
        for (uint256 i; i < list.length; ++i) {
            uint32 share = uint32(uint256(keccak256(abi.encode(seed, i))) % (uint256(left) + 1));
            if (i + 1 == list.length) share = left;
            list[i] = Holder(accounts[i % accounts.length], share); // the same account twice is two shares
            left -= share;
        }
    }

    function _due(uint64 checkpoint, uint256 index) private view returns (uint256) {
        uint256 part = _kept(checkpoint) * holdersOf[checkpoint][index].share / ALL;
        return part - royalties.collectedOf(checkpoint, index);
    }

    function _nothing(uint64 checkpoint, uint256 index) private {
        Holder memory one = holdersOf[checkpoint][index];
        MerkleProofs.SumNode[] memory proof = SmallTrees.sumProof(_leaves(checkpoint), index);
        vm.expectRevert(
            abi.encodeWithSelector(IRoyalties.Royalties_NothingToCollect.selector, checkpoint, index)
        );
        royalties.collect(checkpoint, index, one.account, one.share, proof);
    }

    function _refuse(
        uint64 checkpoint,
        uint256 index,
        address account,
        uint32 share,
        MerkleProofs.SumNode[] memory proof
    ) private {
        vm.expectRevert(
            abi.encodeWithSelector(
                IRoyalties.Royalties_BadShareProof.selector, checkpoint, index, account, share
            )
        );
        royalties.collect(checkpoint, index, account, share, proof);
    }
}
