// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ICheckpointRegistry} from "../../contracts/src/interfaces/ICheckpointRegistry.sol";
import {IEnvironmentRegistry} from "../../contracts/src/interfaces/IEnvironmentRegistry.sol";
import {IRandomness} from "../../contracts/src/interfaces/IRandomness.sol";
import {ContentId, Shares} from "../../contracts/src/libraries/Types.sol";
import {TestStablecoin} from "../../contracts/src/mocks/TestStablecoin.sol";
import {Scenario} from "./support/Scenario.sol";

/// EnvironmentRegistry.register
/// ├── zero id                                  EnvironmentRegistry_ZeroId
/// ├── registered before, by whomever           EnvironmentRegistry_AlreadyRegistered
/// └── new: the caller is its author
/// CheckpointRegistry.register
/// ├── parent that does not exist               CheckpointRegistry_UnknownCheckpoint
/// ├── the parent's number is another's         CheckpointRegistry_AnotherParent
/// ├── zero digest or another codec             CheckpointRegistry_InvalidContent
/// ├── the same of the list of shares           CheckpointRegistry_InvalidContent
/// ├── no root of shares, or no holder          CheckpointRegistry_InvalidShares
/// ├── over the half passed on, or any to none  CheckpointRegistry_PassesOnTooMuch
/// ├── new: numbered from 1, newest of its trainer
/// └── its identity: of the record and of its lineage, not of its number
/// BlockHashRandomness
/// ├── no delay                                 Randomness_InvalidDelay
/// ├── up to the point's own block: Pending     Randomness_NotReady
/// ├── the 256 blocks after it: Ready, one value
/// └── later: Missed                            Randomness_NotReady
/// TestStablecoin
/// └── refuses other chains than 31337 and 1337
contract RegistriesTest is Scenario {
    function setUp() external {
        _begin();
    }

    function testEnvironment() external {
        bytes32 id = keccak256("another spec");
        vm.assertEq(environments.authorOf(id), address(0), "nobody's yet");
        vm.expectEmit(address(environments));
        emit IEnvironmentRegistry.EnvironmentRegistered(id, stranger);
        vm.prank(stranger);
        environments.register(id);
        vm.assertEq(environments.authorOf(id), stranger, "author");
    }

    function testEnvironmentErrors() external {
        _expect(IEnvironmentRegistry.EnvironmentRegistry_ZeroId.selector);
        environments.register(0);
        vm.expectRevert(
            abi.encodeWithSelector(
                IEnvironmentRegistry.EnvironmentRegistry_AlreadyRegistered.selector, ENVIRONMENT, address(this)
            )
        );
        vm.prank(stranger);
        environments.register(ENVIRONMENT);
    }

    function testCheckpoints() external {
        ContentId memory content = ContentId(keccak256("weights"), 0x70);
        vm.expectEmit(address(checkpoints));
        bytes32 first = keccak256(abi.encode(bytes32(0), trainer, content, bytes32(0), keccak256("shares"), 3, 0));
        emit ICheckpointRegistry.CheckpointRegistered(1, trainer, 0, content, 0, _shares(0), first);
        vm.prank(trainer);
        vm.assertEq(checkpoints.register(0, 0, content, 0, _shares(0)), 1, "first id");

        content = ContentId(keccak256("better weights"), RAW);
        vm.prank(trainer);
        vm.assertEq(checkpoints.register(1, first, content, keccak256("dataset"), _shares(500_000)), 2, "second id");
        ICheckpointRegistry.Checkpoint memory seen = checkpoints.get(2);
        vm.assertEq(seen.trainer, trainer, "trainer");
        vm.assertEq(seen.parent, 1, "parent");
        vm.assertEq(seen.registeredAt, vm.getBlockNumber(), "block");
        vm.assertEq(seen.digest, content.digest, "digest");
        vm.assertEq(seen.codec, RAW, "codec");
        vm.assertEq(seen.datasetRoot, keccak256("dataset"), "dataset");
        vm.assertEq(seen.sharesRoot, keccak256("shares"), "shares");
        vm.assertEq(seen.holders, 3, "holders");
        vm.assertEq(seen.passOnPpm, 500_000, "passed on");
        bytes32 second =
            keccak256(abi.encode(first, trainer, content, keccak256("dataset"), keccak256("shares"), 3, 500_000));
        vm.assertEq(seen.identity, second, "identity");
        vm.assertEq(checkpoints.identityOf(1), first, "the first one's");
        vm.assertEq(checkpoints.identityOf(2), second, "the second one's");
        (bytes32 root, uint32 holders, uint32 passOnPpm, uint64 parent) = checkpoints.sharesOf(2);
        vm.assertEq(
            keccak256(abi.encode(root, holders, passOnPpm, parent)),
            keccak256(abi.encode(keccak256("shares"), 3, 500_000, 1)),
            "the same in short"
        );
        vm.assertEq(checkpoints.latestOf(trainer), 2, "newest");
        vm.assertEq(checkpoints.latestOf(stranger), 0, "none");

        // Anybody may build on anybody's checkpoint.
        vm.prank(stranger);
        checkpoints.register(1, first, content, 0, _shares(1));
        vm.assertEq(checkpoints.latestOf(trainer), 2, "still the trainer's");
        vm.assertEq(checkpoints.latestOf(stranger), 3, "the other trainer's");
        vm.assertEq(checkpoints.count(), 3, "count");
    }

    function testCheckpointErrors() external {
        ContentId memory content = ContentId(keccak256("weights"), RAW);
        for (uint64 id; id < 3; ++id) {
            vm.expectRevert(
                abi.encodeWithSelector(ICheckpointRegistry.CheckpointRegistry_UnknownCheckpoint.selector, id)
            );
            checkpoints.get(id);
            vm.expectRevert(
                abi.encodeWithSelector(ICheckpointRegistry.CheckpointRegistry_UnknownCheckpoint.selector, id)
            );
            checkpoints.sharesOf(id);
            vm.expectRevert(
                abi.encodeWithSelector(ICheckpointRegistry.CheckpointRegistry_UnknownCheckpoint.selector, id)
            );
            checkpoints.identityOf(id);
            if (id == 0) continue;
            // A first checkpoint can't be its own parent.
            vm.expectRevert(
                abi.encodeWithSelector(ICheckpointRegistry.CheckpointRegistry_UnknownCheckpoint.selector, id)
            );
            checkpoints.register(id, 0, content, 0, _shares(0));
        }
        ContentId[3] memory bad = [ContentId(0, RAW), ContentId(content.digest, 0), ContentId(content.digest, 0x71)];
        Shares memory shares = _shares(0);
        for (uint256 i; i < 6; ++i) {
            vm.expectRevert(
                abi.encodeWithSelector(
                    ICheckpointRegistry.CheckpointRegistry_InvalidContent.selector,
                    bad[i % 3].digest,
                    bad[i % 3].codec
                )
            );
            if (i > 2) shares.list = bad[i % 3];
            checkpoints.register(0, 0, i < 3 ? bad[i] : content, 0, shares);
        }
    }

    /// A chain that is reorganised gives numbers anew. Who trained on what had one before stands on nobody else's model.
    function testRegisterNamesTheParent() external {
        ContentId memory content = ContentId(keccak256("weights"), RAW);
        _refuseParent(0, 0, keccak256("none"));
        uint256 before = vm.snapshotState();
        vm.prank(trainer);
        checkpoints.register(0, 0, content, 0, _shares(0));
        bytes32 meant = checkpoints.identityOf(1);
        vm.revertToState(before);
        vm.prank(stranger);
        checkpoints.register(0, 0, content, 0, _shares(0));
        bytes32 other = checkpoints.identityOf(1);
        _refuseParent(1, other, meant);
        _refuseParent(1, other, 0);
        vm.assertEq(checkpoints.count(), 1, "nothing was registered");
        // The trainer's is back, with another number: it is named by that.
        vm.prank(trainer);
        checkpoints.register(0, 0, content, 0, _shares(0));
        vm.assertEq(checkpoints.register(2, meant, content, 0, _shares(1)), 3, "child");
        vm.assertEq(checkpoints.get(3).parent, 2, "parent");
    }

    function _refuseParent(uint64 parent, bytes32 identity, bytes32 named) private {
        vm.expectRevert(
            abi.encodeWithSelector(
                ICheckpointRegistry.CheckpointRegistry_AnotherParent.selector, parent, identity, named
            )
        );
        checkpoints.register(parent, named, ContentId(keccak256("weights"), RAW), 0, _shares(0));
    }

    function testCheckpointShareErrors() external {
        ContentId memory content = ContentId(keccak256("weights"), RAW);
        Shares memory shares = _shares(0);
        shares.root = 0;
        vm.expectRevert(
            abi.encodeWithSelector(ICheckpointRegistry.CheckpointRegistry_InvalidShares.selector, bytes32(0), 3)
        );
        checkpoints.register(0, 0, content, 0, shares);
        shares = _shares(0);
        shares.holders = 0;
        vm.expectRevert(
            abi.encodeWithSelector(
                ICheckpointRegistry.CheckpointRegistry_InvalidShares.selector, keccak256("shares"), 0
            )
        );
        checkpoints.register(0, 0, content, 0, shares);
        // A base model has nobody to pass anything on to.
        vm.expectRevert(
            abi.encodeWithSelector(ICheckpointRegistry.CheckpointRegistry_PassesOnTooMuch.selector, 1, 0)
        );
        checkpoints.register(0, 0, content, 0, _shares(1));
        checkpoints.register(0, 0, content, 0, _shares(0));
        bytes32 base = checkpoints.identityOf(1);
        vm.expectRevert(
            abi.encodeWithSelector(
                ICheckpointRegistry.CheckpointRegistry_PassesOnTooMuch.selector, 500_001, 500_000
            )
        );
        checkpoints.register(1, base, content, 0, _shares(500_001));
    }

    function _shares(uint32 passOnPpm) private pure returns (Shares memory) {
        return Shares(keccak256("shares"), 3, passOnPpm, ContentId(keccak256("list"), RAW));
    }

    function testRandomnessOverItsLife() external {
        uint64 point = randomness.nextPoint();
        vm.assertEq(point, vm.getBlockNumber() + DELAY, "asked now, known after the delay");
        for (uint256 number = vm.getBlockNumber(); number <= point; ++number) {
            vm.roll(number);
            _assertStatus(point, IRandomness.Status.Pending);
        }
        vm.roll(uint256(point) + 1);
        vm.setBlockhash(point, keccak256("hash"));
        _assertStatus(point, IRandomness.Status.Ready);
        bytes32 value = randomness.valueAt(point);
        vm.assertEq(value, keccak256(abi.encode(keccak256("hash"))), "value");

        vm.roll(uint256(point) + 256);
        vm.setBlockhash(point, keccak256("hash"));
        _assertStatus(point, IRandomness.Status.Ready);
        vm.assertEq(randomness.valueAt(point), value, "the same on every call");

        vm.roll(uint256(point) + 257);
        _assertStatus(point, IRandomness.Status.Missed);
    }

    /// The last readable block is one whose hash the EVM still gives: otherwise its value would be known to be zero's.
    function testReachIsThatOfTheEvm() external {
        uint256 point = 2_000;
        vm.roll(point + 256);
        vm.setBlockhash(point, keccak256("hash"));
        vm.assertEq(this.hashOf(point), keccak256("hash"), "readable");
        vm.roll(point + 257);
        vm.assertEq(this.hashOf(point), bytes32(0), "out of reach");
    }

    /// In a call of its own, so that no compiler keeps an earlier answer.
    function hashOf(uint256 number) external view returns (bytes32) {
        return blockhash(number);
    }

    function testRandomnessErrors() external {
        vm.expectRevert(abi.encodeWithSelector(IRandomness.Randomness_InvalidDelay.selector, 0));
        this.create("BlockHashRandomness.sol:BlockHashRandomness", abi.encode(0));
    }

    function testStablecoin() external {
        vm.chainId(1);
        vm.expectRevert(abi.encodeWithSelector(TestStablecoin.TestStablecoin_LocalChainsOnly.selector, 1));
        this.create("TestStablecoin.sol:TestStablecoin", "");
        vm.chainId(1337);
        TestStablecoin coin = TestStablecoin(create("TestStablecoin.sol:TestStablecoin", ""));
        vm.assertEq(coin.decimals(), 6, "decimals");
        vm.prank(stranger);
        coin.mint(stranger, 5);
        vm.assertEq(coin.balanceOf(stranger), 5, "anybody mints");
    }

    function _assertStatus(uint64 point, IRandomness.Status expected) private {
        vm.assertEq(uint256(randomness.statusOf(point)), uint256(expected), "status");
        if (expected == IRandomness.Status.Ready) return;
        vm.expectRevert(abi.encodeWithSelector(IRandomness.Randomness_NotReady.selector, point, expected));
        randomness.valueAt(point);
    }
}
