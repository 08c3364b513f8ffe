// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchMarket} from "../../contracts/src/interfaces/IBatchMarket.sol";
import {ICourt} from "../../contracts/src/interfaces/ICourt.sol";
import {Attestation, BountyTerms, Parameters, Verdict} from "../../contracts/src/libraries/Types.sol";
import {CourtScenario} from "./support/CourtScenario.sol";
import {VerdictTrees} from "./support/VerdictTrees.sol";

/// disputeOutcome: what a committee said of the whole batch
/// ├── refused: verdicts, a second time, another batch or attestation than the challenger names
/// ├── malformed: falls (signers convicted, the miner was wronged) | stands | no content for the jury: stands
/// └── unavailable: falls (nobody is convicted, the challenger bears the jurors' fees) | stands
contract CourtOutcomesTest is CourtScenario {
    using VerdictTrees for VerdictTrees.Tree;

    uint256 private constant SLASHED = 450e6;
    uint256 private constant JURY = 7 * JUROR_FEE;

    function setUp() external {
        _openCourt(24);
    }

    function testRefusesVerdicts() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        bytes32 root = tree.nodes[0].hash;
        bytes32 identity = _attestationOf(batch);
        vm.expectRevert(abi.encodeWithSelector(ICourt.Court_NoOutcome.selector, root));
        court.disputeOutcome(batch, identity);
    }

    function testOneDisputeForAnOutcome() external {
        (uint64 batch,) = _disputed(MALFORMED);
        bytes32 identity = _attestationOf(batch);
        vm.expectRevert(abi.encodeWithSelector(ICourt.Court_AlreadyDisputed.selector, batch, 0));
        court.disputeOutcome(batch, identity);
    }

    function testMalformedFalls() external {
        (uint64 batch, uint64 id) = _disputed(MALFORMED);
        address[] memory signers = _members(market.get(batch).round);
        address[] memory jurors = _juryVotes(id, _outcome(SOUND));
        _assertNew(jurors, signers);
        _assertStanding(id, ICourt.Standing.Falls);
        _close(id);
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(stake.get(signers[i]).stake, 300e6 - _fraudPenalty(), "fraud penalty");
        }
        _assertPaid(jurors, JUROR_FEE);
        vm.assertEq(ledger.balanceOf(challenger), BOND + SEAT_FEE, "bond and reward");
        vm.assertEq(ledger.balanceOf(miner), FEES, "the miner was wronged");
        vm.assertEq(_funds(), FUNDS, "the bounty was not");
        vm.assertEq(court.pool(), SLASHED - JURY - SEAT_FEE - FEES, "pool");
        _assertNew(_draw(market.get(batch).round), signers);
    }

    function testMalformedStands() external {
        (uint64 batch, uint64 id) = _disputed(MALFORMED);
        address[] memory jurors = _juryVotes(id, _outcome(MALFORMED));
        _close(id);
        _checkStands(jurors);
        uint256 before = ledger.balanceOf(miner);
        _settle(batch);
        vm.assertEq(ledger.balanceOf(miner), before, "the bond is lost");
        vm.assertEq(_funds(), FUNDS + 80_000 - FEES, "the bond, less the fees");
        _checkCourt();
        _checkNoSeatsOpen();
    }

    /// Whoever disputes "malformed" must see to it that the jury has the content.
    function testMalformedStandsWhereTheContentIsGone() external {
        (, uint64 id) = _disputed(MALFORMED);
        address[] memory jurors = _juryVotes(id, _outcome(UNAVAILABLE));
        _assertStanding(id, ICourt.Standing.Stands);
        _close(id);
        _checkStands(jurors);
    }

    function testUnavailableFalls() external {
        (uint64 batch, uint64 id) = _disputed(UNAVAILABLE);
        address[] memory signers = _members(market.get(batch).round);
        address[] memory jurors = _juryVotes(id, _outcome(SOUND));
        _skip(20 minutes + 1);
        vm.expectEmit(address(court));
        emit ICourt.DisputeClosed(id, batch, ICourt.Standing.Falls, 0, JURY, BOND - JURY, 0);
        _close(id);
        _assertPaid(jurors, JUROR_FEE);
        vm.assertEq(ledger.balanceOf(challenger), BOND - JURY, "the challenger bears the jurors' fees");
        vm.assertEq(court.pool(), 0, "and the pool nothing");
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(stake.get(signers[i]).stake, 300e6, "it may have come late");
        }
        _assertPhase(batch, IBatchMarket.Phase.InRound);
        address[] memory fresh = _draw(market.get(batch).round);
        _assertNew(fresh, signers);
        Attestation memory right = VerdictTrees.plain(batch, 8, COUNT).attestationOf();
        _vote(market.get(batch).round, _same(right, 3));
        market.tally(batch, right);
        _settle(batch);
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(stake.get(signers[i]).stake, 300e6 - _absencePenalty(), "as if absent");
        }
        vm.assertEq(ledger.balanceOf(miner), 8 * PRICE + 80_000, "paid in the end");
        _checkCourt();
        _checkNoSeatsOpen();
    }

    /// It can be had, and is no batch file: not "unavailable" either way.
    function testUnavailableFallsWhereItIsMalformed() external {
        (uint64 batch, uint64 id) = _disputed(UNAVAILABLE);
        _juryVotes(id, _outcome(MALFORMED));
        _close(id);
        _assertStanding(id, ICourt.Standing.Falls);
        _attest(batch, _outcome(MALFORMED));
        _settle(batch);
        _checkCourt();
    }

    function testUnavailableStands() external {
        (uint64 batch, uint64 id) = _disputed(UNAVAILABLE);
        address[] memory jurors = _juryVotes(id, _outcome(UNAVAILABLE));
        _close(id);
        _checkStands(jurors);
        _settle(batch);
        _checkCourt();
        _checkNoSeatsOpen();
    }

    /// A chain that is reorganised gives numbers anew, and committees vote once more. A challenger's bond stands behind
    /// nothing else than what it looked at: the same traces, as many of them, with the same attestation.
    function testNamesTheAttestation() external {
        uint256 before = vm.snapshotState();
        uint64 batch = _commitTraces(COUNT);
        _attest(batch, _outcome(MALFORMED));
        bytes32 meant = _attestationOf(batch);
        bytes32 root = market.get(batch).root;
        for (uint256 what; what < 3; ++what) {
            vm.revertToState(before);
            uint64 other = _commitRoot(what == 0 ? keccak256("another") : root, what == 1 ? COUNT / 2 : COUNT);
            vm.assertEq(other, batch, "the same number");
            _attest(other, _outcome(what == 2 ? UNAVAILABLE : MALFORMED));
            _refuseBond(other, meant);
        }
        vm.revertToState(before);
        vm.roll(vm.getBlockNumber() + 3);
        vm.assertEq(_commitTraces(COUNT), batch, "moved");
        _attest(batch, _outcome(MALFORMED));
        _arm(challenger, BOND);
        vm.prank(challenger);
        court.disputeOutcome(batch, meant);
    }

    /// An opening of other verdicts of the same batch, or of the same ones with other sums.
    function testOpeningNamesTheAttestation() external {
        uint256 before = vm.snapshotState();
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(7);
        bytes32 meant = _attestationOf(batch);
        for (uint256 what; what < 3; ++what) {
            vm.revertToState(before);
            _commitTraces(COUNT);
            Attestation memory other = tree.attestationOf();
            if (what == 0) other.verdictRoot = keccak256("other verdicts");
            if (what == 1) --other.units;
            if (what == 2) ++other.faults;
            _attest(batch, other);
            _refuseBond(batch, meant);
        }
    }

    /// The same outcome, dispute and decision, but of another batch, or of other as many or fewer traces.
    function testAppealNamesTheBatch() external {
        uint256 before = vm.snapshotState();
        (uint64 batch, uint64 id) = _disputed(MALFORMED);
        _juryVotes(id, _outcome(MALFORMED));
        bytes32 meant = _decisionOf(id);
        bytes32 root = market.get(batch).root;
        for (uint256 what; what < 3; ++what) {
            vm.revertToState(before);
            batch = _commitRoot(what == 0 ? keccak256("another") : root, what == 1 ? COUNT / 2 : COUNT);
            _attest(batch, _outcome(MALFORMED));
            vm.assertEq(_disputeOutcome(batch), id, "the same number");
            _juryVotes(id, _outcome(MALFORMED));
            _arm(appellant, 2 * BOND);
            bytes32 found = _decisionOf(id);
            if (what < 2) {
                vm.expectRevert(abi.encodeWithSelector(ICourt.Court_AnotherDecision.selector, id, found, meant));
            }
            vm.prank(appellant);
            court.appeal(id, meant);
        }
        _assertDispute(id, ICourt.Phase.InJury);
    }

    function _refuseBond(uint64 batch, bytes32 named) private {
        bytes memory reason = abi.encodeWithSelector(
            ICourt.Court_AnotherAttestation.selector, batch, _attestationOf(batch), named
        );
        _arm(challenger, BOND);
        uint256 tokens = token.balanceOf(challenger);
        vm.expectRevert(reason);
        vm.prank(challenger);
        court.disputeOutcome(batch, named);
        vm.expectRevert(reason);
        vm.prank(challenger);
        court.demandOpening(batch, named);
        vm.assertEq(token.balanceOf(challenger), tokens, "no bond");
    }

    /// "Unavailable" by a jury about one verdict can be disputed like a committee's.
    function testUnavailableByAJuryFalls() external {
        (uint64 batch, VerdictTrees.Tree memory tree) = _attested(8);
        address[] memory signers = _members(market.get(batch).round);
        uint64 id = _dispute(tree, 3);
        _juryVotes(id, _outcome(UNAVAILABLE));
        _close(id);
        id = _disputeOutcome(batch);
        _juryVotes(id, _outcome(SOUND));
        _close(id);
        _assertPhase(batch, IBatchMarket.Phase.InRound);
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(stake.get(signers[i]).stake, 300e6 - _absencePenalty(), "whoever signed loses once");
        }
        _attest(batch, tree.attestationOf());
        _settle(batch);
        // The first committee's verdicts were the final ones, but it did not keep the content: only the second is paid.
        _assertPaid(signers, 0);
        address[] memory paid = _members(market.get(batch).round);
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(ledger.balanceOf(paid[i]) % JUROR_FEE, SEAT_FEE, "a third of the fee");
        }
        _checkCourt();
        _checkNoSeatsOpen();
    }

    function testUnavailableFallsInTheLastRound() external {
        uint64 batch = _commitTraces(COUNT);
        for (uint256 i; i < 3; ++i) {
            _attest(batch, _outcome(UNAVAILABLE));
            uint64 id = _disputeOutcome(batch);
            _juryVotes(id, _outcome(SOUND));
            _close(id);
        }
        _assertPhase(batch, IBatchMarket.Phase.Void);
        uint256 kept = ledger.balanceOf(challenger) + token.balanceOf(challenger);
        vm.assertEq(kept, 3 * (BOND - JURY), "jurors' fees");
        vm.assertEq(ledger.balanceOf(miner), 80_000, "the bond back");
        _checkCourt();
        _checkNoSeatsOpen();
    }

    function _disputed(bytes32 outcome) private returns (uint64 batch, uint64 id) {
        batch = _commitTraces(COUNT);
        _attest(batch, _outcome(outcome));
        id = _disputeOutcome(batch);
    }

    function _disputeOutcome(uint64 batch) private returns (uint64) {
        _arm(challenger, court.bondFor(batch));
        bytes32 identity = _attestationOf(batch);
        vm.prank(challenger);
        return court.disputeOutcome(batch, identity);
    }

    function _checkStands(address[] memory jurors) private view {
        uint256 left = BOND - JURY;
        _assertPaid(jurors, JUROR_FEE);
        vm.assertEq(ledger.balanceOf(challenger), 0, "bond lost");
        vm.assertEq(ledger.balanceOf(miner), left / 2, "the miner waited");
        vm.assertEq(court.pool(), left - left / 2, "pool");
    }
}

/// Where signers have little to lose: the challenger gets at most a quarter of it, the wronged side at most half, and
/// jurors come before both.
contract SmallStakesTest is CourtScenario {
    using VerdictTrees for VerdictTrees.Tree;

    uint96 private jurorFee = 1_000;

    function _parameters() internal view override returns (Parameters memory parameters) {
        parameters = super._parameters();
        parameters.seatStake = 1e6;
        parameters.fraudBps = 2_000;
        parameters.jurorFee = jurorFee;
    }

    /// Two signers lose 0.4 together; the fee of four traces is 0.396.
    function testSharesAreCapped() external {
        uint64 id = _fallen();
        uint256 left = 400_000 - 7 * 1_000;
        vm.assertEq(ledger.balanceOf(challenger), court.get(id).bond + left / 4, "a quarter");
        vm.assertEq(_funds() - FUNDS, left / 2, "half");
        vm.assertEq(court.pool(), left - left / 4 - left / 2, "the rest");
    }

    /// Jurors' fees of 3.5 take all of it, and no more than there is.
    function testJurorsComeFirst() external {
        jurorFee = 500_000;
        uint64 id = _fallen();
        // 7 x 57,142: six base units do not divide.
        vm.assertEq(ledger.balanceOf(challenger), court.get(id).bond + 1, "bond, and a quarter of six");
        vm.assertEq(_funds(), FUNDS + 3, "half of six");
        vm.assertEq(court.pool(), 2, "the rest");
    }

    function _fallen() private returns (uint64 id) {
        _openCourt(12);
        BountyTerms memory terms = _terms();
        (terms.pricePerUnit, terms.feePerTrace) = (1, 99_000);
        bounty = _bountyWith(terms, FUNDS);
        uint64 batch = _commitTraces(GROUP);
        VerdictTrees.Tree memory tree = VerdictTrees.plain(batch, 4, GROUP);
        uint64 round = market.get(batch).round;
        _draw(round);
        Attestation[] memory votes = _same(tree.attestationOf(), 3);
        votes[2] = VerdictTrees.plain(batch, 3, GROUP).attestationOf();
        _vote(round, votes);
        market.tally(batch, tree.attestationOf());
        id = _dispute(tree, 3);
        address[] memory jurors = _juryVotes(id, _voteFor(batch, Verdict(3, 0, 2, 0, 0)));
        _skip(20 minutes + 1);
        court.close(id);
        vm.assertEq(jurors.length, 7, "jurors");
        for (uint256 i; i < 7; ++i) {
            vm.assertEq(
                ledger.balanceOf(jurors[i]), jurorFee < 100_000 ? jurorFee : uint256(400_000) / 7, "juror's pay"
            );
        }
    }
}
