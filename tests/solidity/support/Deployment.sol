// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAssignments} from "../../../contracts/src/interfaces/IAssignments.sol";
import {IBatchMarket} from "../../../contracts/src/interfaces/IBatchMarket.sol";
import {IBountyEscrow} from "../../../contracts/src/interfaces/IBountyEscrow.sol";
import {IAudits} from "../../../contracts/src/interfaces/IAudits.sol";
import {ICourt} from "../../../contracts/src/interfaces/ICourt.sol";
import {IEvidence} from "../../../contracts/src/interfaces/IEvidence.sol";
import {IOpenings} from "../../../contracts/src/interfaces/IOpenings.sol";
import {ICheckpointRegistry} from "../../../contracts/src/interfaces/ICheckpointRegistry.sol";
import {IEnvironmentRegistry} from "../../../contracts/src/interfaces/IEnvironmentRegistry.sol";
import {ILedger} from "../../../contracts/src/interfaces/ILedger.sol";
import {IRandomness} from "../../../contracts/src/interfaces/IRandomness.sol";
import {IRoyalties} from "../../../contracts/src/interfaces/IRoyalties.sol";
import {IScoreSheets} from "../../../contracts/src/interfaces/IScoreSheets.sol";
import {IRounds} from "../../../contracts/src/interfaces/IRounds.sol";
import {IVerifierStake} from "../../../contracts/src/interfaces/IVerifierStake.sol";
import {Parameters} from "../../../contracts/src/libraries/Types.sol";
import {Test} from "./Test.sol";

/// The calls of a token that tests make.
interface IToken {
    function DOMAIN_SEPARATOR() external view returns (bytes32);
    function allowance(address owner, address spender) external view returns (uint256);
    function approve(address spender, uint256 amount) external returns (bool);
    function balanceOf(address account) external view returns (uint256);
    function mint(address to, uint256 amount) external;
    function nonces(address owner) external view returns (uint256);
    function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external;
    function transfer(address to, uint256 amount) external returns (bool);
}

/// The whole market, deployed as marketplace.chain deploys it: addresses first, then contracts in this order.
abstract contract Deployment is Test {
    IToken internal token;
    IEnvironmentRegistry internal environments;
    ICheckpointRegistry internal checkpoints;
    IRandomness internal randomness;
    ILedger internal ledger;
    IBountyEscrow internal escrow;
    IVerifierStake internal stake;
    IRounds internal rounds;
    IAssignments internal assignments;
    IBatchMarket internal market;
    IOpenings internal openings;
    IEvidence internal evidence;
    ICourt internal court;
    IAudits internal audits;
    IRoyalties internal royalties;
    IScoreSheets internal sheets;

    uint96 internal constant SEAT = 100e6;
    uint64 internal constant DELAY = 2;

    function _parameters() internal view virtual returns (Parameters memory) {
        return Parameters({
            committeeSize: 3,
            maxRounds: 3,
            maxJuries: 3,
            minVerifiers: 3,
            drawTimeout: 1 hours,
            commitWindow: 10 minutes,
            revealWindow: 10 minutes,
            challengeWindow: 30 minutes,
            appealWindow: 20 minutes,
            openingWindow: 5 minutes,
            unbondingDelay: 1 days,
            seatStake: SEAT,
            absenceBps: 500,
            lateBps: 2_500,
            incoherenceBps: 2_000,
            fraudBps: 15_000,
            bondPerTrace: 10_000,
            faultMultiple: 10,
            wrongBps: 10_000,
            minFeePerTrace: 1,
            jurorFee: 500_000,
            maxTraces: 4_096
        });
    }

    function _absencePenalty() internal view returns (uint256) {
        Parameters memory p = _parameters();
        return uint256(p.seatStake) * p.absenceBps / 10_000;
    }

    function _latePenalty() internal view returns (uint256) {
        Parameters memory p = _parameters();
        return uint256(p.seatStake) * p.lateBps / 10_000;
    }

    function _fraudPenalty() internal view returns (uint256) {
        Parameters memory p = _parameters();
        return uint256(p.seatStake) * p.fraudBps / 10_000;
    }

    function _incoherencePenalty() internal view returns (uint256) {
        Parameters memory p = _parameters();
        return uint256(p.seatStake) * p.incoherenceBps / 10_000;
    }

    function _source() internal virtual returns (IRandomness) {
        return IRandomness(create("BlockHashRandomness.sol:BlockHashRandomness", abi.encode(DELAY)));
    }

    function _deploy() internal {
        _deployWith(create("TestStablecoin.sol:TestStablecoin", ""));
    }

    function _deployWith(address token_) internal {
        token = IToken(token_);
        Parameters memory parameters = _parameters();
        environments = IEnvironmentRegistry(create("EnvironmentRegistry.sol:EnvironmentRegistry", ""));
        checkpoints = ICheckpointRegistry(create("CheckpointRegistry.sol:CheckpointRegistry", ""));
        randomness = _source();

        uint256 nonce = vm.getNonce(address(this));
        ledger = ILedger(vm.computeCreateAddress(address(this), nonce));
        escrow = IBountyEscrow(vm.computeCreateAddress(address(this), nonce + 1));
        stake = IVerifierStake(vm.computeCreateAddress(address(this), nonce + 2));
        rounds = IRounds(vm.computeCreateAddress(address(this), nonce + 3));
        assignments = IAssignments(vm.computeCreateAddress(address(this), nonce + 4));
        market = IBatchMarket(vm.computeCreateAddress(address(this), nonce + 5));

        openings = IOpenings(vm.computeCreateAddress(address(this), nonce + 6));
        evidence = IEvidence(vm.computeCreateAddress(address(this), nonce + 7));
        court = ICourt(vm.computeCreateAddress(address(this), nonce + 8));
        royalties = IRoyalties(vm.computeCreateAddress(address(this), nonce + 10));

        create("Ledger.sol:Ledger", abi.encode(token, escrow, stake, market, court, royalties));
        create("BountyEscrow.sol:BountyEscrow", abi.encode(ledger, environments, market, court));
        create("VerifierStake.sol:VerifierStake", abi.encode(ledger, rounds, parameters));
        create("Rounds.sol:Rounds", abi.encode(stake, randomness, market, court, parameters));
        create("Assignments.sol:Assignments", abi.encode(escrow, randomness, market));
        create("BatchMarket.sol:BatchMarket", abi.encode(ledger, escrow, rounds, assignments, court, parameters));
        create("Openings.sol:Openings", abi.encode(court, parameters));
        create("Evidence.sol:Evidence", "");
        create("Court.sol:Court", abi.encode(market, escrow, ledger, rounds, openings, evidence, parameters));
        audits = IAudits(create("Audits.sol:Audits", abi.encode(market, evidence)));
        create("Royalties.sol:Royalties", abi.encode(ledger, checkpoints));
        sheets = IScoreSheets(create("ScoreSheets.sol:ScoreSheets", abi.encode(market)));

        vm.label(address(token), "token");
        vm.label(address(ledger), "ledger");
        vm.label(address(escrow), "escrow");
        vm.label(address(stake), "stake");
        vm.label(address(rounds), "rounds");
        vm.label(address(assignments), "assignments");
        vm.label(address(market), "market");
        vm.label(address(openings), "openings");
        vm.label(address(court), "court");
        vm.label(address(royalties), "royalties");
    }
}
