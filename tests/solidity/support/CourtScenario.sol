// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAssignments} from "../../../contracts/src/interfaces/IAssignments.sol";
import {ICourt} from "../../../contracts/src/interfaces/ICourt.sol";
import {Attestation, ContentId, Verdict} from "../../../contracts/src/libraries/Types.sol";
import {Scenario} from "./Scenario.sol";
import {TraceTrees, VerdictTrees} from "./VerdictTrees.sol";

/// A market with a bounty and batches whose traces and verdicts have real trees, and the steps of a dispute.
///
/// Committees have 3 seats, juries 7, 15 and 31; a juror is paid 0.5, so a dispute takes a bond of 7 and its appeals 14
/// and 28. A batch of 8 traces has a checking fee of 0.024: 0.008 for a seat.
abstract contract CourtScenario is Scenario {
    using VerdictTrees for VerdictTrees.Tree;

    uint32 internal constant COUNT = 8;
    uint256 internal constant FUNDS = 10e6;
    uint256 internal constant JUROR_FEE = 500_000;
    uint256 internal constant BOND = 7e6;
    uint256 internal constant FEES = 24_000;
    uint256 internal constant SEAT_FEE = 8_000;
    bytes32 internal constant SOUND = keccak256("tracemarket.outcome.sound");

    address internal challenger;
    address internal appellant;
    uint64 internal bounty;

    function _openCourt(uint256 number) internal {
        _begin();
        challenger = _actor("challenger");
        appellant = _actor("appellant");
        accounts.push(challenger);
        accounts.push(appellant);
        _verifiers(number, 3 * SEAT);
        bounty = _bounty(FUNDS);
    }

    function _origin() internal view returns (TraceTrees.Origin memory) {
        return TraceTrees.Origin(address(market), bounty, miner);
    }

    /// Commits a batch whose root is that of real traces.
    function _commitTraces(uint32 count) internal returns (uint64) {
        return _commitRoot(TraceTrees.rootOf(_origin(), 0, count), count);
    }

    function _commitRoot(bytes32 root, uint32 count) internal returns (uint64) {
        if (assignments.get(bounty, miner).point == 0) _enrol(bounty, miner);
        _arm(miner, market.bondFor(bounty, count));
        IAssignments.Assignment memory next = assignments.get(bounty, miner);
        vm.prank(miner);
        return market.commitBatch(
            bounty, root, count, next.nextTask, next.seed, ContentId(keccak256("content"), RAW)
        );
    }

    /// A batch of COUNT traces that its committee attests with `units` paid ones.
    function _attested(uint256 units) internal returns (uint64 batch, VerdictTrees.Tree memory tree) {
        batch = _commitTraces(COUNT);
        tree = VerdictTrees.plain(batch, units, COUNT);
        _attest(batch, tree.attestationOf());
    }

    /// A juror's vote for a verdict.
    function _voteFor(uint64 batch, Verdict memory verdict) internal pure returns (Attestation memory) {
        return Attestation(VerdictTrees.leafOf(batch, verdict).hash, verdict.units, verdict.faults);
    }

    function _outcome(bytes32 outcome) internal pure returns (Attestation memory) {
        return Attestation(outcome, 0, 0);
    }

    function _dispute(VerdictTrees.Tree memory tree, uint32 index) internal returns (uint64) {
        return _disputeBy(challenger, tree, index);
    }

    function _disputeBy(address account, VerdictTrees.Tree memory tree, uint32 index) internal returns (uint64) {
        uint32 count = market.get(tree.batch).count;
        bytes32[] memory proof = TraceTrees.proofOf(_origin(), index, count);
        _arm(account, court.bondFor(tree.batch));
        vm.prank(account);
        return court.disputeLeaf(
            tree.batch, tree.verdicts[index], tree.proofOf(index), TraceTrees.lineOf(index), proof
        );
    }

    function _appeal(uint64 id) internal {
        _arm(appellant, BOND << court.get(id).juries);
        bytes32 decision = _decisionOf(id);
        vm.prank(appellant);
        court.appeal(id, decision);
    }

    /// The dispute's jury is drawn and votes as one.
    /// @return jurors its members
    function _juryVotes(uint64 id, Attestation memory vote) internal returns (address[] memory jurors) {
        uint64 jury = court.get(id).jury;
        // Whoever closes another dispute makes the due draws.
        jurors = rounds.get(jury).drawnAt == 0 ? _draw(jury) : _members(jury);
        _vote(jury, _same(vote, jurors.length));
        court.tallyJury(id, vote);
    }

    /// The dispute's jury is drawn and every juror has another opinion.
    function _juryDisagrees(uint64 id) internal returns (address[] memory jurors) {
        uint64 jury = court.get(id).jury;
        jurors = _draw(jury);
        Attestation[] memory votes = new Attestation[](jurors.length);
        for (uint256 i; i < votes.length; ++i) {
            votes[i] = Attestation(keccak256(abi.encode("opinion", i)), 0, 0);
        }
        _vote(jury, votes);
        court.tallyJury(id, votes[0]);
    }

    function _close(uint64 id) internal {
        if (court.phaseOf(id) == ICourt.Phase.Appealable) _skip(_parameters().appealWindow + 1);
        court.close(id);
        _checkCourt();
    }

    function _assertDispute(uint64 id, ICourt.Phase expected) internal view {
        vm.assertEq(uint256(court.phaseOf(id)), uint256(expected), "dispute phase");
    }

    function _assertStanding(uint64 id, ICourt.Standing expected) internal view {
        vm.assertEq(uint256(court.get(id).standing), uint256(expected), "standing");
    }

    function _assertPaid(address[] memory jurors, uint256 amount) internal view {
        for (uint256 i; i < jurors.length; ++i) {
            vm.assertEq(ledger.balanceOf(jurors[i]), amount, "juror's pay");
        }
    }

    function _funds() internal view returns (uint256) {
        return uint256(escrow.get(bounty).available) + escrow.get(bounty).reserved;
    }

    function _assertNew(address[] memory members, address[] memory before) internal pure {
        for (uint256 i; i < members.length; ++i) {
            for (uint256 j; j < before.length; ++j) {
                vm.assertTrue(members[i] != before[j], "sat before");
            }
        }
    }

    /// What disputes that are not closed hold, counted from the disputes themselves.
    function _openBonds() internal view returns (uint256 bonds) {
        for (uint64 id = 1; id <= court.count(); ++id) {
            ICourt.Dispute memory dispute = court.get(id);
            if (dispute.closed) continue;
            if (dispute.kind != ICourt.Kind.Conflict) bonds += dispute.bond;
            ICourt.Appeal[] memory appeals = court.appealsOf(id);
            for (uint256 i; i < appeals.length; ++i) {
                bonds += appeals[i].bond;
            }
        }
    }

    /// Every token is somebody's: balances and holdings are what the ledger owns.
    function _checkCourt() internal view {
        uint256 bonds = _openBonds();
        vm.assertEq(court.pool() + bonds, ledger.heldFor(address(court)), "court holding = pool + open bonds");
        vm.assertEq(_entries(), token.balanceOf(address(ledger)), "balances + holdings = tokens");
        uint256 staked;
        for (uint256 i; i < verifiers.length; ++i) {
            staked += uint256(stake.get(verifiers[i]).stake) + stake.get(verifiers[i]).unbonding;
        }
        vm.assertEq(ledger.heldFor(address(stake)), staked, "stake holding = stake + unbonding");
        vm.assertEq(ledger.heldFor(address(escrow)), _funds(), "escrow holding = available + reserved");
    }

    /// Nobody's seat is still open once every batch and dispute is closed.
    function _checkNoSeatsOpen() internal view {
        for (uint256 i; i < verifiers.length; ++i) {
            vm.assertEq(stake.get(verifiers[i]).openSeats, 0, "open seats");
        }
    }

    /// A round of the batch is drawn and votes as one, without being counted.
    function _committeeVotes(uint64 batch, Attestation memory vote) internal returns (address[] memory members) {
        uint64 round = market.get(batch).round;
        members = _draw(round);
        _vote(round, _same(vote, members.length));
    }

    function _wrongPhase(uint64 id, ICourt.Phase phase) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(ICourt.Court_WrongPhase.selector, id, phase);
    }

}
