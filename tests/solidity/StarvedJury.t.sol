// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ICourt} from "../../contracts/src/interfaces/ICourt.sol";
import {IRounds} from "../../contracts/src/interfaces/IRounds.sol";
import {Attestation, Parameters} from "../../contracts/src/libraries/Types.sol";
import {Scenario} from "./support/Scenario.sol";

/// What `tracemarket economics` calls a starved jury, as the contracts have it now: a known gap, shown with its price.
/// When a jury that can't be drawn no longer leaves the attestation standing, this test must fail and go.
contract StarvedJuryTest is Scenario {
    /// As the preset `standard` has it: seats stay locked for the challenge window, longer than a draw may wait.
    function _parameters() internal view override returns (Parameters memory parameters) {
        parameters = super._parameters();
        parameters.challengeWindow = 1 days;
        parameters.unbondingDelay = 10 days;
    }

    function setUp() public {
        _begin();
        _verifiers(10, SEAT);
    }

    function test_OtherBatchesLockTheSeatsOfAJury_AndTheLieStands() public {
        uint64 bounty = _bounty(100_000_000);
        uint64 lie = _commit(bounty, miner, GROUP);
        uint256 bond = market.bondFor(bounty, GROUP);
        // Two fillers, each the smallest batch there is.
        uint64 first = _commit(bounty, stranger, GROUP);
        uint64 second = _commit(bounty, stranger, GROUP);
        _attest(lie, Attestation(MALFORMED, 0, 0));
        _draw(market.get(first).round);
        _draw(market.get(second).round);
        vm.assertEq(stake.eligible(), 1, "one seat is left");

        _arm(miner, court.bondFor(lie));
        vm.prank(miner);
        uint64 dispute = court.disputeOutcome(lie);
        uint64 jury = court.get(dispute).jury;
        _reach(rounds.get(jury).drawPoint);
        rounds.draw(jury);
        vm.assertEq(uint256(rounds.get(jury).seats), 0, "no jury");
        _skip(_parameters().drawTimeout + 1);
        vm.assertTrue(rounds.phaseOf(jury) == IRounds.Phase.Stalled, "stalled");

        court.tallyJury(dispute, Attestation(0, 0, 0));
        court.close(dispute);
        vm.assertTrue(court.get(dispute).standing == ICourt.Standing.None, "no decision");
        _skip(1 days);
        uint256 before = ledger.balanceOf(miner);
        market.settle(lie);
        // The miner's whole bond is gone, and no signer has lost anything.
        vm.assertEq(ledger.balanceOf(miner), before, "the bond is gone");
        vm.assertGe(bond, 1, "there was a bond");
        vm.assertEq(court.pool(), 0, "nobody was slashed");
    }
}
