// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAssignments} from "../../../contracts/src/interfaces/IAssignments.sol";
import {IBatchMarket} from "../../../contracts/src/interfaces/IBatchMarket.sol";
import {IBountyEscrow} from "../../../contracts/src/interfaces/IBountyEscrow.sol";
import {ICourt} from "../../../contracts/src/interfaces/ICourt.sol";
import {IRounds} from "../../../contracts/src/interfaces/IRounds.sol";
import {IVerifierStake} from "../../../contracts/src/interfaces/IVerifierStake.sol";
import {
    Attestation,
    BountyTerms,
    ContentId,
    PayRule,
    Permit,
    Tier
} from "../../../contracts/src/libraries/Types.sol";
import {Deployment} from "./Deployment.sol";

/// Actors and the steps of a bounty's life, each a plain function with every default in sight.
abstract contract Scenario is Deployment {
    bytes32 internal constant ENVIRONMENT = keccak256("environment");
    bytes32 internal constant ROOT = keccak256("batch root");
    bytes32 internal constant UNAVAILABLE = keccak256("tracemarket.outcome.unavailable");
    bytes32 internal constant MALFORMED = keccak256("tracemarket.outcome.malformed");
    uint8 internal constant RAW = 0x55;
    uint96 internal constant PRICE = 50_000;
    uint96 internal constant FEE = 3_000;
    uint16 internal constant GROUP = 4;

    address internal poster;
    address internal miner;
    address internal trainer;
    address internal stranger;
    /// everybody who may own a ledger balance
    address[] internal accounts;
    address[] internal verifiers;

    function _begin() internal {
        vm.warp(1_700_000_000);
        vm.roll(1_000);
        poster = _actor("poster");
        miner = _actor("miner");
        trainer = _actor("trainer");
        stranger = _actor("stranger");
        accounts = [poster, miner, trainer, stranger];
        _deploy();
        environments.register(ENVIRONMENT);
    }

    function _terms() internal view returns (BountyTerms memory) {
        return BountyTerms({
            environment: ENVIRONMENT,
            trainer: trainer,
            deadline: uint64(_now() + 7 days),
            groupSize: GROUP,
            tier: Tier.Scorable,
            payRule: PayRule.Correct,
            pricePerUnit: PRICE,
            feePerTrace: FEE
        });
    }

    /// Gives `account` tokens and the ledger its allowance.
    function _arm(address account, uint256 amount) internal {
        token.mint(account, amount);
        vm.prank(account);
        token.approve(address(ledger), type(uint256).max);
    }

    function _bounty(uint256 amount) internal returns (uint64) {
        return _bountyWith(_terms(), amount);
    }

    function _bountyWith(BountyTerms memory terms, uint256 amount) internal returns (uint64) {
        _arm(poster, amount);
        vm.prank(poster);
        return escrow.create(terms, amount);
    }

    /// Lets the block of `point` pass, with a hash that follows from it.
    function _reach(uint64 point) internal {
        _reachWith(point, keccak256(abi.encode("block", point)));
    }

    function _reachWith(uint64 point, bytes32 hash) internal {
        if (vm.getBlockNumber() <= point) vm.roll(uint256(point) + 1);
        vm.setBlockhash(point, hash);
    }

    function _enrol(uint64 bounty, address account) internal {
        vm.prank(account);
        assignments.request(bounty);
        _reach(assignments.get(bounty, account).point);
        assignments.open(bounty, account);
    }

    /// Commits a batch on the account's next tasks; enrols and arms it as needed.
    function _commit(uint64 bounty, address account, uint32 count) internal returns (uint64) {
        if (assignments.get(bounty, account).point == 0) _enrol(bounty, account);
        _arm(account, market.bondFor(bounty, count));
        IAssignments.Assignment memory next = assignments.get(bounty, account);
        vm.prank(account);
        return market.commitBatch(
            bounty, ROOT, count, next.nextTask, next.seed, ContentId(keccak256("content"), RAW)
        );
    }

    function _staked(string memory name, uint256 amount) internal returns (address verifier) {
        verifier = _actor(name);
        _arm(verifier, amount);
        vm.prank(verifier);
        stake.stake(amount);
        verifiers.push(verifier);
        accounts.push(verifier);
    }

    function _verifiers(uint256 number, uint256 amount) internal {
        for (uint256 i; i < number; ++i) {
            _staked(string.concat("verifier ", vm.toString(verifiers.length)), amount);
        }
    }

    function _draw(uint64 round) internal returns (address[] memory) {
        _reach(rounds.get(round).drawPoint);
        rounds.draw(round);
        return _members(round);
    }

    function _members(uint64 round) internal view returns (address[] memory members) {
        members = new address[](rounds.get(round).seats);
        for (uint8 seat; seat < members.length; ++seat) {
            members[seat] = rounds.seatOf(round, seat).verifier;
        }
    }

    function _salt(uint64 round, uint8 seat) internal pure returns (bytes32) {
        return keccak256(abi.encode("salt", round, seat));
    }

    function _commitVote(uint64 round, uint8 seat, Attestation memory vote) internal {
        address verifier = rounds.seatOf(round, seat).verifier;
        bytes32 commitment = rounds.commitmentOf(round, verifier, vote, _salt(round, seat));
        vm.prank(verifier);
        rounds.commitVerdict(round, seat, commitment);
    }

    function _revealVote(uint64 round, uint8 seat, Attestation memory vote) internal {
        vm.prank(rounds.seatOf(round, seat).verifier);
        rounds.revealVerdict(round, seat, vote, _salt(round, seat), ContentId(keccak256("verdicts"), RAW));
    }

    function _place() internal pure returns (ContentId memory) {
        return ContentId(keccak256("verdicts"), RAW);
    }

    /// A member's commitment for a relay: with a sealed salt, its secret being `_salt`.
    function _sealedCommitment(uint64 round, uint8 seat, Attestation memory vote) internal view returns (bytes32) {
        bytes32 salt = rounds.sealedSalt(_salt(round, seat), _place());
        return rounds.commitmentOf(round, rounds.seatOf(round, seat).verifier, vote, salt) & ~bytes32(uint256(1));
    }

    function _signedVote(uint64 round, uint8 seat, Attestation memory vote)
        internal
        view
        returns (IRounds.SignedCommitment memory one)
    {
        one.commitment = _sealedCommitment(round, seat, vote);
        (one.r, one.vs) =
            _sign(rounds.seatOf(round, seat).verifier, rounds.signedVoteOf(round, one.commitment));
    }

    /// A drawn round's whole work. A vote with a zero root is an absent member; missing votes are absent too.
    function _vote(uint64 round, Attestation[] memory votes) internal {
        uint8 seats = rounds.get(round).seats;
        bool absent;
        for (uint8 seat; seat < seats; ++seat) {
            if (seat < votes.length && votes[seat].verdictRoot != 0) _commitVote(round, seat, votes[seat]);
            else absent = true;
        }
        if (absent) _skip(_parameters().commitWindow + 1);
        for (uint8 seat; seat < seats && seat < votes.length; ++seat) {
            if (votes[seat].verdictRoot != 0) _revealVote(round, seat, votes[seat]);
        }
    }

    function _same(Attestation memory vote, uint256 number) internal pure returns (Attestation[] memory votes) {
        votes = new Attestation[](number);
        for (uint256 i; i < number; ++i) {
            votes[i] = vote;
        }
    }

    function _verdict(uint32 units, uint32 faults) internal pure returns (Attestation memory) {
        return Attestation(keccak256(abi.encode("verdicts", units, faults)), units, faults);
    }

    /// Draws the batch's round, has everybody vote for `attestation` and counts it.
    function _attest(uint64 batch, Attestation memory attestation) internal {
        uint64 round = market.get(batch).round;
        uint256 seats = _draw(round).length;
        _vote(round, _same(attestation, seats));
        market.tally(batch, attestation);
    }

    function _settle(uint64 batch) internal {
        _skip(_parameters().challengeWindow + 1);
        market.settle(batch);
    }

    function _permitOf(address owner, string memory name, uint256 value) internal view returns (Permit memory) {
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(
                    "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
                ),
                owner,
                address(ledger),
                value,
                token.nonces(owner),
                _now() + 1 hours
            )
        );
        bytes32 digest = keccak256(abi.encodePacked("\x19\x01", token.DOMAIN_SEPARATOR(), structHash));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(_key(name), digest);
        return Permit(value, _now() + 1 hours, v, r, s);
    }

    /// The books hold: holdings are what modules owe, and the tokens are there.
    function _checkBooks() internal view {
        uint256 funds;
        for (uint64 bounty = 1; bounty <= escrow.count(); ++bounty) {
            IBountyEscrow.Bounty memory seen = escrow.get(bounty);
            funds += uint256(seen.available) + seen.reserved;
        }
        vm.assertEq(ledger.heldFor(address(escrow)), funds, "escrow holding = available + reserved");

        uint256 staked;
        for (uint256 i; i < verifiers.length; ++i) {
            IVerifierStake.Verifier memory seen = stake.get(verifiers[i]);
            staked += uint256(seen.stake) + seen.unbonding;
        }
        vm.assertEq(ledger.heldFor(address(stake)), staked, "stake holding = stake + unbonding");

        uint256 bonds;
        for (uint64 batch = 1; batch <= market.count(); ++batch) {
            IBatchMarket.Batch memory seen = market.get(batch);
            if (!seen.closed) bonds += seen.bond;
        }
        vm.assertEq(ledger.heldFor(address(market)), bonds, "market holding = open bonds");

        uint256 disputed = court.pool();
        for (uint64 dispute = 1; dispute <= court.count(); ++dispute) {
            disputed += _bondsOf(dispute);
        }
        vm.assertEq(ledger.heldFor(address(court)), disputed, "court holding = bonds of open disputes + pool");

        uint256 balances;
        for (uint256 i; i < accounts.length; ++i) {
            balances += ledger.balanceOf(accounts[i]);
        }
        uint256 owed = funds + staked + bonds + disputed + balances;
        vm.assertEq(_entries(), owed, "entries = what is owed");
        vm.assertGe(token.balanceOf(address(ledger)), owed, "tokens >= entries");
    }

    /// @return sum of all entries of the ledger
    function _entries() internal view returns (uint256 sum) {
        sum = ledger.heldFor(address(escrow)) + ledger.heldFor(address(stake)) + ledger.heldFor(address(market))
            + ledger.heldFor(address(court)) + ledger.heldFor(address(royalties));
        for (uint256 i; i < accounts.length; ++i) {
            sum += ledger.balanceOf(accounts[i]);
        }
    }

    /// @return bonds what the parties of a dispute have at stake, until it is closed
    function _bondsOf(uint64 dispute) internal view returns (uint256 bonds) {
        ICourt.Dispute memory seen = court.get(dispute);
        if (seen.closed) return 0;
        if (seen.kind != ICourt.Kind.Conflict) bonds = seen.bond;
        ICourt.Appeal[] memory appeals = court.appealsOf(dispute);
        for (uint256 i; i < appeals.length; ++i) {
            bonds += appeals[i].bond;
        }
    }

    /// @return what a dispute about a batch names: it and its attestation
    function _attestationOf(uint64 batch) internal view returns (bytes32) {
        IBatchMarket.Batch memory seen = market.get(batch);
        Attestation memory said = seen.attestation;
        return keccak256(abi.encode(seen.root, seen.count, said.verdictRoot, said.units, said.faults));
    }

    /// @return what an appeal names: what was disputed, and what was decided
    function _decisionOf(uint64 dispute) internal view returns (bytes32) {
        ICourt.Dispute memory seen = court.get(dispute);
        IBatchMarket.Batch memory batch = market.get(seen.batch);
        return keccak256(
            bytes.concat(
                abi.encode(batch.root, batch.count, seen.kind, seen.index, seen.vote, seen.rivalVote),
                abi.encode(seen.juries, seen.standing, seen.standingVote)
            )
        );
    }

    function _phase(uint64 batch) internal view returns (IBatchMarket.Phase) {
        return market.phaseOf(batch);
    }

    function _assertPhase(uint64 batch, IBatchMarket.Phase expected) internal view {
        vm.assertEq(uint256(market.phaseOf(batch)), uint256(expected), "batch phase");
    }

    function _assertRound(uint64 round, IRounds.Phase expected) internal view {
        vm.assertEq(uint256(rounds.phaseOf(round)), uint256(expected), "round phase");
    }
}
