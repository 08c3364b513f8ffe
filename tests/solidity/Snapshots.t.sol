// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Parameters} from "../../contracts/src/libraries/Types.sol";
import {RoyaltyScenario} from "./support/RoyaltyScenario.sol";

/// Gas of every call that a market's life is made of, as receipts would say: each call is a transaction of its own here
/// (isolate), with base cost, calldata and cold storage. Everybody has been through a batch before.
///
/// Exact, against contracts/snapshots/gas.json; `make snapshots` writes the file. A run of this file alone takes the
/// contracts as they were compiled last.
contract SnapshotsTest is RoyaltyScenario {
    string private constant FILE = "./contracts/snapshots/gas.json";

    string[] private names;
    uint256[] private values;

    function _parameters() internal view override returns (Parameters memory p) {
        p = super._parameters();
        (p.committeeSize, p.minVerifiers) = (5, 5);
    }

    /// hardhat-config: isolate = true
    function testGas() external {
        _begin();
        _verifiers(5, 3 * SEAT);
        _record("stake");
        uint64 bounty = _bounty(1_000e6);
        _record("createBounty");
        _arm(miner, 100e6);
        vm.prank(miner);
        assignments.request(bounty);
        _record("requestAssignment");
        _reach(assignments.get(bounty, miner).point);
        assignments.open(bounty, miner);
        _record("openAssignment");
        vm.prank(miner);
        ledger.deposit(50e6);
        _record("deposit");

        _life(bounty, false);
        _life(bounty, true);

        uint256 earned = ledger.balanceOf(miner);
        vm.prank(miner);
        ledger.withdraw(miner, earned / 2);
        _record("withdrawPart");
        vm.prank(miner);
        ledger.withdraw(miner, earned - earned / 2);
        _record("withdrawAll");
        vm.prank(verifiers[0]);
        stake.requestUnstake(SEAT);
        _record("requestUnstake");
        _skip(_parameters().unbondingDelay + 1);
        stake.claim(verifiers[0]);
        _record("claimStake");
        _royalties();

        _compare();
    }

    function _life(uint64 bounty, bool record) private {
        uint64 batch = _commit(bounty, miner, 1_024);
        if (record) _record("commitBatch");
        uint64 round = market.get(batch).round;
        _reach(rounds.get(round).drawPoint);
        rounds.draw(round);
        if (record) _record("draw");
        for (uint8 seat; seat < 5; ++seat) {
            _commitVote(round, seat, _verdict(1_000, 0));
            if (record && seat == 1) _record("commitVerdict");
        }
        if (record) _record("commitVerdictLast");
        for (uint8 seat; seat < 5; ++seat) {
            _revealVote(round, seat, _verdict(1_000, 0));
            if (record && seat == 1) _record("revealVerdict");
        }
        market.tally(batch, _verdict(1_000, 0));
        if (record) _record("tally");
        _settle(batch);
        if (record) _record("settle");
    }

    /// A child of 256 holders; each has been paid before.
    function _royalties() private {
        Holder[] memory list = new Holder[](256);
        for (uint160 i; i < 256; ++i) {
            list[i] = Holder(address(0xA11CE + i), ALL / 256);
        }
        Holder[] memory one = new Holder[](1);
        one[0] = Holder(trainer, ALL);
        _register(0, 0, one);
        uint64 child = _register(1, 100_000, list);
        _record("registerCheckpoint");
        for (uint256 i; i < 2; ++i) {
            _pay(poster, child, 100e6);
            if (i == 1) _record("payRoyalty");
            royalties.passOn(child);
            if (i == 1) _record("passOnRoyalty");
            _collect(child, 77);
            if (i == 1) _record("collectRoyalty");
        }
    }

    /// Of the call made last.
    function _record(string memory name) private {
        names.push(name);
        values.push(vm.lastCallGas().gasTotalUsed);
    }

    function _compare() private {
        string memory json = "{\n";
        for (uint256 i; i < names.length; ++i) {
            string memory end = i + 1 < names.length ? ",\n" : "\n}\n";
            json = string.concat(json, '  "', names[i], '": ', vm.toString(values[i]), end);
        }
        if (vm.envOr("UPDATE_SNAPSHOTS", false)) vm.writeFile(FILE, json);
        string memory committed = vm.readFile(FILE);
        for (uint256 i; i < names.length; ++i) {
            uint256 expected = vm.parseJsonUint(committed, string.concat(".", names[i]));
            vm.assertEq(values[i], expected, string.concat("gas of ", names[i], " (make snapshots)"));
        }
        vm.assertEq(keccak256(bytes(json)), keccak256(bytes(committed)), "gas.json as written by make snapshots");
    }
}
