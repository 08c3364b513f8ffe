// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchMarket} from "../../contracts/src/interfaces/IBatchMarket.sol";
import {ICourt} from "../../contracts/src/interfaces/ICourt.sol";
import {Attestation, Parameters} from "../../contracts/src/libraries/Types.sol";
import {Scenario} from "./support/Scenario.sol";

/// Whoever fills the market's seats with small batches of its own can't keep a jury from being drawn: juries come from all
/// stake. Seats stay locked for the challenge window here, longer than a draw may wait, as in the preset `standard`.
contract StarvedJuryTest is Scenario {
    bytes32 private constant SOUND = keccak256("tracemarket.outcome.sound");

    function _parameters() internal view override returns (Parameters memory parameters) {
        parameters = super._parameters();
        parameters.challengeWindow = 1 days;
        parameters.unbondingDelay = 10 days;
    }

    function setUp() public {
        _begin();
        _verifiers(10, SEAT);
    }

    function test_OtherBatchesLockTheSeats_AndTheLieFalls() public {
        uint64 bounty = _bounty(100_000_000);
        uint64 lie = _commit(bounty, miner, GROUP);
        // Two fillers, each the smallest batch there is.
        uint64 first = _commit(bounty, stranger, GROUP);
        uint64 second = _commit(bounty, stranger, GROUP);
        _attest(lie, Attestation(MALFORMED, 0, 0));
        address[] memory signers = _members(market.get(lie).round);
        _draw(market.get(first).round);
        _draw(market.get(second).round);
        vm.assertEq(stake.eligible(), 1, "one free seat is left");
        vm.assertEq(stake.stakers(), 10, "and all stake");

        uint256 bond = court.bondFor(lie);
        _arm(miner, bond);
        bytes32 identity = _attestationOf(lie);
        vm.prank(miner);
        uint64 dispute = court.disputeOutcome(lie, identity);
        uint64 jury = court.get(dispute).jury;
        address[] memory jurors = _draw(jury);
        vm.assertEq(jurors.length, 7, "a whole jury");
        vm.assertEq(stake.eligible(), 1, "jurors lock no seat");
        for (uint256 i; i < 7; ++i) {
            for (uint256 j; j < 3; ++j) {
                vm.assertTrue(jurors[i] != signers[j], "no signer");
            }
        }
        Attestation memory sound = Attestation(SOUND, 0, 0);
        _vote(jury, _same(sound, 7));
        court.tallyJury(dispute, sound);
        _skip(_parameters().appealWindow + 1);
        court.close(dispute);

        vm.assertTrue(court.get(dispute).standing == ICourt.Standing.Falls, "the lie falls");
        _assertPhase(lie, IBatchMarket.Phase.InRound);
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(stake.get(signers[i]).stake, 0, "its signers lose all they have");
        }
        uint256 reward = uint256(FEE) * GROUP / 3;
        uint256 wronged = uint256(FEE) * GROUP;
        vm.assertEq(ledger.balanceOf(miner), bond + reward + wronged, "bond, reward, and the wrong made good");
        vm.assertEq(court.pool(), 3 * SEAT - 7 * _parameters().jurorFee - reward - wronged, "the rest is the pool's");
        _checkBooks();
    }
}
