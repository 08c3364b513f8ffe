// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IDrandRandomness} from "../../contracts/src/interfaces/IDrandRandomness.sol";
import {IRandomness} from "../../contracts/src/interfaces/IRandomness.sol";
import {DrandEvmnet} from "../../contracts/src/libraries/DrandEvmnet.sol";
import {Test} from "./support/Test.sol";

/// Recorded rounds of real networks (tests/vectors/drand_evmnet.json, which Python checks without the precompiles).
///
/// constructor
/// ├── key off the curve, unreduced, infinite or outside the subgroup   DrandRandomness_InvalidKey
/// ├── no period                                                 DrandRandomness_InvalidPeriod
/// ├── no delay                                                  Randomness_InvalidDelay
/// └── no patience                                               DrandRandomness_InvalidPatience
/// nextPoint: the first round at least `delay` away; never goes back
/// statusOf and valueAt
/// ├── before the round's time: Pending                          Randomness_NotReady
/// ├── up to `patience` later, not delivered: Awaited            Randomness_NotReady
/// ├── later, not delivered, or round 0: Missed, for good        Randomness_NotReady
/// └── delivered: Ready, for good
/// deliver
/// ├── round 0                                                   DrandRandomness_NoSuchRound
/// ├── before the round's time                                   DrandRandomness_NotDue
/// ├── later than `patience` after it                            DrandRandomness_TooLate
/// ├── delivered before                                          DrandRandomness_AlreadyDelivered
/// ├── point off the curve, unreduced or infinite                DrandRandomness_NotOnCurve
/// ├── point of the curve that is not the signature              DrandRandomness_BadSignature
/// └── the signature: keccak256 of its 64 bytes is kept
contract DrandRandomnessTest is Test {
    struct NetworkRow {
        bytes32 chainHash;
        uint64 genesis;
        string name;
        uint64 period;
        bytes publicKey;
        string source;
    }

    struct RoundRow {
        string network;
        uint64 round;
        bytes signature;
        string source;
        bytes32 value;
    }

    uint64 private constant DELAY = 30;
    uint64 private constant PATIENCE = 1 hours;
    /// the order of BN254's base field
    uint256 private constant P = 0x30644e72e131a029b85045b68181585d97816a916871ca8d3c208c16d87cfd47;

    IDrandRandomness private drand;
    NetworkRow[] private networks;
    RoundRow[] private rows;

    function setUp() external {
        string memory json = vm.readFile("tests/vectors/drand_evmnet.json");
        NetworkRow[] memory networks_ = abi.decode(vm.parseJson(json, ".networks"), (NetworkRow[]));
        RoundRow[] memory rows_ = abi.decode(vm.parseJson(json, ".rounds"), (RoundRow[]));
        for (uint256 i; i < networks_.length; ++i) networks.push(networks_[i]);
        for (uint256 i; i < rows_.length; ++i) rows.push(rows_[i]);
        drand = _deploy(DrandEvmnet.network());
    }

    function testEvmnetIsThatOfItsChainInfo() external view {
        vm.assertEq(keccak256(bytes(networks[0].name)), keccak256("evmnet"), "name");
        vm.assertEq(networks[0].chainHash, DrandEvmnet.CHAIN_HASH, "chain hash");
        vm.assertEq(_hash(_network(networks[0])), _hash(DrandEvmnet.network()), "network");
        vm.assertEq(_hash(drand.publicKey()), _hash(DrandEvmnet.network().publicKey), "key");
        vm.assertEq(drand.genesis(), 1727521075, "genesis");
        vm.assertEq(drand.period(), 3, "period");
        vm.assertEq(drand.delay(), DELAY, "delay");
        vm.assertEq(drand.patience(), PATIENCE, "patience");
        vm.assertEq(drand.timeOf(1), 1727521075, "round 1 is at genesis");
        vm.assertEq(drand.timeOf(19732633), 1786718971, "a time that was recorded with its round");
    }

    function testDeliversRecordedRoundsOfEachNetwork() external {
        uint256 seen;
        for (uint256 i; i < networks.length; ++i) {
            IDrandRandomness source = _deploy(_network(networks[i]));
            for (uint256 j; j < rows.length; ++j) {
                if (keccak256(bytes(rows[j].network)) != keccak256(bytes(networks[i].name))) continue;
                RoundRow memory row = rows[j];
                vm.warp(source.timeOf(row.round));
                vm.expectEmit(address(source));
                emit IDrandRandomness.BeaconDelivered(row.round, row.value, address(this));
                source.deliver(row.round, _point(row));
                vm.assertEq(source.valueAt(row.round), row.value, "value");
                vm.assertEq(row.value, keccak256(row.signature), "keccak256 of the 64 bytes");
                ++seen;
            }
        }
        vm.assertEq(seen, rows.length, "every row");
        vm.assertGe(seen, 5, "vectors");
    }

    function testStatusOverARoundsLife() external {
        RoundRow memory row = rows[1];
        uint256 time = drand.timeOf(row.round);
        vm.warp(time - 1);
        _assertStatus(row.round, IRandomness.Status.Pending);
        vm.warp(time);
        _assertStatus(row.round, IRandomness.Status.Awaited);
        vm.warp(time + PATIENCE);
        _assertStatus(row.round, IRandomness.Status.Awaited);

        // The last second of its delivery; then it stays.
        drand.deliver(row.round, _point(row));
        _assertStatus(row.round, IRandomness.Status.Ready);
        vm.warp(time + PATIENCE + 1);
        _assertStatus(row.round, IRandomness.Status.Ready);
        vm.warp(time + 100 * 365 days);
        _assertStatus(row.round, IRandomness.Status.Ready);
        vm.assertEq(drand.valueAt(row.round), row.value, "the same on every call");
        _assertStatus(row.round + 1, IRandomness.Status.Missed);
    }

    function testMissedIsForGood() external {
        RoundRow memory row = rows[1];
        uint256 deadline = drand.timeOf(row.round) + PATIENCE;
        vm.warp(deadline + 1);
        _assertStatus(row.round, IRandomness.Status.Missed);
        _refuses(
            row.round,
            _point(row),
            abi.encodeWithSelector(IDrandRandomness.DrandRandomness_TooLate.selector, row.round, deadline)
        );
        _assertStatus(row.round, IRandomness.Status.Missed);
    }

    function testNotBeforeItsTime() external {
        RoundRow memory row = rows[1];
        uint256 time = drand.timeOf(row.round);
        vm.warp(time - 1);
        _refuses(
            row.round,
            _point(row),
            abi.encodeWithSelector(IDrandRandomness.DrandRandomness_NotDue.selector, row.round, time)
        );
        _assertStatus(row.round, IRandomness.Status.Pending);
    }

    function testOnce() external {
        RoundRow memory row = rows[1];
        vm.warp(drand.timeOf(row.round));
        drand.deliver(row.round, _point(row));
        bytes memory reason =
            abi.encodeWithSelector(IDrandRandomness.DrandRandomness_AlreadyDelivered.selector, row.round);
        _refuses(row.round, _point(row), reason);
        _refuses(row.round, [uint256(1), 2], reason);
        vm.warp(drand.timeOf(row.round) + PATIENCE + 1);
        _refuses(row.round, _point(row), reason);
    }

    function testRoundZeroAndTheLastOne() external {
        _assertStatus(0, IRandomness.Status.Missed);
        bytes memory reason = abi.encodeWithSelector(IDrandRandomness.DrandRandomness_NoSuchRound.selector, 0);
        _refuses(0, _point(rows[0]), reason);
        vm.expectRevert(reason);
        drand.timeOf(0);
        _assertStatus(type(uint64).max, IRandomness.Status.Pending);
    }

    /// Points of the curve that are not the round's signature
    function testRefusesOtherPoints() external {
        RoundRow memory row = rows[1];
        uint256[2] memory right = _point(row);
        vm.warp(drand.timeOf(row.round));
        _refusesSignature(row.round, [right[0], P - right[1]]);
        _refusesSignature(row.round, [uint256(1), 2]);
        for (uint256 i; i < rows.length; ++i) {
            if (i != 1) _refusesSignature(row.round, _point(rows[i]));
        }
        _assertStatus(row.round, IRandomness.Status.Awaited);
        drand.deliver(row.round, right);
    }

    function testRefusesWhatIsNoPoint() external {
        RoundRow memory row = rows[1];
        uint256[2] memory right = _point(row);
        vm.warp(drand.timeOf(row.round));
        _refusesPoint(row.round, [uint256(0), 0]);
        _refusesPoint(row.round, [right[0] ^ 1, right[1]]);
        _refusesPoint(row.round, [right[0], right[1] ^ 1]);
        _refusesPoint(row.round, [right[1], right[0]]);
        // The same point otherwise written would be another value.
        _refusesPoint(row.round, [right[0] + P, right[1]]);
        _refusesPoint(row.round, [right[0], right[1] + P]);
        _refusesPoint(row.round, [type(uint256).max, type(uint256).max]);
        drand.deliver(row.round, right);
    }

    function testRefusesAnotherNetworksKey() external {
        IDrandRandomness.Network memory network = DrandEvmnet.network();
        network.publicKey = _network(networks[1]).publicKey;
        drand = _deploy(network);
        vm.warp(drand.timeOf(rows[1].round));
        _refusesSignature(rows[1].round, _point(rows[1]));

        // The parts of each coordinate the other way round are another point, which is not on the curve at all.
        uint256[4] memory key = DrandEvmnet.network().publicKey;
        _refusesKey([key[1], key[0], key[3], key[2]]);
    }

    /// A pairing needs more gas than a caller may leave it: no such call must look like a verdict on the signature that
    /// keeps anything.
    function testOutOfGasKeepsNothing() external {
        RoundRow memory row = rows[1];
        vm.warp(drand.timeOf(row.round));
        for (uint256 gas = 20_000; gas < 160_000; gas += 5_000) {
            (bool success,) =
                address(drand).call{gas: gas}(abi.encodeCall(IDrandRandomness.deliver, (row.round, _point(row))));
            vm.assertFalse(success, "too little gas");
            _assertStatus(row.round, IRandomness.Status.Awaited);
        }
    }

    function testRefusesKeys() external {
        uint256[4] memory key = DrandEvmnet.network().publicKey;
        _refusesKey([uint256(0), 0, 0, 0]);
        _refusesKey([key[0] ^ 1, key[1], key[2], key[3]]);
        _refusesKey([key[0] + P, key[1], key[2], key[3]]);
        _refusesKey([key[0], key[1], key[2], key[3] + P]);
        // On the twist, but not of the order of G2: x = 1.
        _refusesKey(
            [
                uint256(1),
                0,
                0x2869111d5381f072f8e2728fdb825a51aadd70e52c9830e9ab4b871c0531f1bb,
                0x0d1271953ed9ea0836846e70a1934187998c7f790cb4d7511b7f8da82de048a4
            ]
        );
    }

    function testRefusesZeroes() external {
        IDrandRandomness.Network memory network = DrandEvmnet.network();
        vm.expectRevert(abi.encodeWithSelector(IRandomness.Randomness_InvalidDelay.selector, 0));
        this.create("DrandRandomness.sol:DrandRandomness", abi.encode(network, 0, PATIENCE));
        vm.expectRevert(abi.encodeWithSelector(IDrandRandomness.DrandRandomness_InvalidPatience.selector, 0));
        this.create("DrandRandomness.sol:DrandRandomness", abi.encode(network, DELAY, 0));
        network.period = 0;
        vm.expectRevert(abi.encodeWithSelector(IDrandRandomness.DrandRandomness_InvalidPeriod.selector, 0));
        this.create("DrandRandomness.sol:DrandRandomness", abi.encode(network, DELAY, PATIENCE));
    }

    function testNextPointAroundGenesis() external {
        uint64 genesis = drand.genesis();
        vm.warp(1);
        vm.assertEq(drand.nextPoint(), 1, "long before");
        vm.warp(genesis - DELAY);
        vm.assertEq(drand.nextPoint(), 1, "exactly the delay before");
        vm.warp(genesis - DELAY + 1);
        vm.assertEq(drand.nextPoint(), 2, "one second less");
        vm.warp(genesis - DELAY + 3);
        vm.assertEq(drand.nextPoint(), 2, "exactly the delay before the second");
        vm.warp(genesis - DELAY + 4);
        vm.assertEq(drand.nextPoint(), 3, "and so on");
    }

    /// The first round at least `delay` away, for any clock, and never less than an earlier answer
    function testFuzzNextPoint(uint256 time, uint256 later, uint256 period, uint256 delay) external {
        IDrandRandomness.Network memory network = DrandEvmnet.network();
        network.period = uint64(_bound(period, 1, 1 days));
        delay = _bound(delay, 1, 7 days);
        drand = IDrandRandomness(
            create("DrandRandomness.sol:DrandRandomness", abi.encode(network, delay, PATIENCE))
        );
        time = _bound(time, network.genesis - 30 days, network.genesis + 100 * 365 days);
        later = _bound(later, time, time + 30 days);

        vm.warp(time);
        uint64 point = drand.nextPoint();
        vm.assertGe(drand.timeOf(point), time + delay, "far enough");
        if (point > 1) vm.assertLe(drand.timeOf(point - 1), time + delay - 1, "the first such");
        _assertStatus(point, IRandomness.Status.Pending);
        vm.warp(later);
        vm.assertGe(drand.nextPoint(), point, "never goes back");
    }

    /// Along any path of the clock, with a delivery somewhere or none, a status only moves as documented.
    function testFuzzStatusNeverGoesBack(uint256 start, uint256[8] calldata steps, uint256 deliverAt) external {
        RoundRow memory row = rows[2];
        uint256 time = drand.timeOf(row.round);
        deliverAt %= 16;
        vm.warp(_bound(start, time - PATIENCE, time + 2 * PATIENCE));
        IRandomness.Status before = drand.statusOf(row.round);
        for (uint256 i; i < 8; ++i) {
            vm.warp(_now() + _bound(steps[i], 0, PATIENCE));
            _assertMove(before, drand.statusOf(row.round));
            before = drand.statusOf(row.round);
            if (i != deliverAt) continue;
            try drand.deliver(row.round, _point(row)) {
                vm.assertEq(uint256(before), uint256(IRandomness.Status.Awaited), "delivered while awaited");
            } catch {
                vm.assertTrue(before != IRandomness.Status.Awaited, "refused though awaited");
            }
            _assertMove(before, drand.statusOf(row.round));
            before = drand.statusOf(row.round);
        }
    }

    /// One pairing of two pairs (113,000), two maps to the curve, a new slot (22,100). A transaction adds its base and
    /// its calldata.
    function testGasOfADelivery() external {
        for (uint256 i; i < 4; ++i) {
            RoundRow memory row = rows[i];
            uint256[2] memory signature = _point(row);
            vm.warp(drand.timeOf(row.round));
            uint256 start = gasleft();
            drand.deliver(row.round, signature);
            vm.assertLe(start - gasleft(), 195_000, "gas of deliver");
        }
    }

    function _assertMove(IRandomness.Status from, IRandomness.Status to) private pure {
        if (from == IRandomness.Status.Pending || from == to) return;
        vm.assertTrue(from == IRandomness.Status.Awaited && to != IRandomness.Status.Pending, "final or not back");
    }

    function _assertStatus(uint64 point, IRandomness.Status expected) private {
        vm.assertEq(uint256(drand.statusOf(point)), uint256(expected), "status");
        if (expected == IRandomness.Status.Ready) return;
        vm.expectRevert(abi.encodeWithSelector(IRandomness.Randomness_NotReady.selector, point, expected));
        drand.valueAt(point);
    }

    function _refuses(uint64 round, uint256[2] memory signature, bytes memory reason) private {
        vm.expectRevert(reason);
        drand.deliver(round, signature);
    }

    function _refusesSignature(uint64 round, uint256[2] memory signature) private {
        _refuses(
            round,
            signature,
            abi.encodeWithSelector(IDrandRandomness.DrandRandomness_BadSignature.selector, round, signature)
        );
    }

    function _refusesPoint(uint64 round, uint256[2] memory signature) private {
        _refuses(
            round, signature, abi.encodeWithSelector(IDrandRandomness.DrandRandomness_NotOnCurve.selector, signature)
        );
    }

    function _refusesKey(uint256[4] memory key) private {
        IDrandRandomness.Network memory network = DrandEvmnet.network();
        network.publicKey = key;
        vm.expectRevert(abi.encodeWithSelector(IDrandRandomness.DrandRandomness_InvalidKey.selector, key));
        this.create("DrandRandomness.sol:DrandRandomness", abi.encode(network, DELAY, PATIENCE));
    }

    function _deploy(IDrandRandomness.Network memory network) private returns (IDrandRandomness) {
        return IDrandRandomness(
            create("DrandRandomness.sol:DrandRandomness", abi.encode(network, DELAY, PATIENCE))
        );
    }

    /// drand prints the imaginary part of a coordinate first.
    function _network(NetworkRow memory row) private pure returns (IDrandRandomness.Network memory) {
        uint256[4] memory words = abi.decode(row.publicKey, (uint256[4]));
        return IDrandRandomness.Network([words[1], words[0], words[3], words[2]], row.genesis, row.period);
    }

    function _point(RoundRow memory row) private pure returns (uint256[2] memory) {
        return abi.decode(row.signature, (uint256[2]));
    }

    function _hash(IDrandRandomness.Network memory network) private pure returns (bytes32) {
        return keccak256(abi.encode(network));
    }

    function _hash(uint256[4] memory key) private pure returns (bytes32) {
        return keccak256(abi.encode(key));
    }
}
