// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAssignments} from "../../contracts/src/interfaces/IAssignments.sol";
import {IBatchMarket} from "../../contracts/src/interfaces/IBatchMarket.sol";
import {IBountyEscrow} from "../../contracts/src/interfaces/IBountyEscrow.sol";
import {ILedger} from "../../contracts/src/interfaces/ILedger.sol";
import {IRounds} from "../../contracts/src/interfaces/IRounds.sol";
import {Parameters} from "../../contracts/src/libraries/Types.sol";
import {Scenario} from "./support/Scenario.sol";

/// BatchMarket's constructor
/// ├── a parameter out of range                 BatchMarket_InvalidParameters
/// ├── a part that was given other parameters   BatchMarket_InvalidParameters
/// ├── a part that is linked to another one     BatchMarket_WrongDeployment
/// └── otherwise the parameters are published as they are
contract MarketDeploymentTest is Scenario {
    address private constant OTHER = address(0xBAD);

    function setUp() external {
        _begin();
    }

    function testParametersArePublished() external view {
        vm.assertEq(
            keccak256(abi.encode(market.parameters())), keccak256(abi.encode(_parameters())), "parameters"
        );
        vm.assertEq(market.count(), 0, "no batch");
    }

    function testParametersOutOfRange() external {
        Parameters memory p = _parameters();
        p.committeeSize = 0;
        _refused(p, "committeeSize");
        p = _parameters();
        p.maxRounds = 0;
        _refused(p, "maxRounds");
        p.maxRounds = 6;
        p.committeeSize = 1;
        _refused(p, "maxRounds");
        p = _parameters();
        p.maxJuries = 0;
        _refused(p, "maxJuries");
        p.maxJuries = 5;
        (p.maxRounds, p.committeeSize) = (1, 1);
        _refused(p, "maxJuries");
        p = _parameters();
        (p.committeeSize, p.minVerifiers) = (8, 8); // 8, 17, 35 seats, then juries of 71, 143 and 287
        _refused(p, "maxJuries");
        (p.committeeSize, p.minVerifiers) = (255, 255);
        _refused(p, "maxJuries");
        p = _parameters();
        p.minVerifiers = 2;
        _refused(p, "minVerifiers");
        for (uint256 i; i < 6; ++i) {
            p = _parameters();
            if (i == 0) p.drawTimeout = 0;
            if (i == 1) p.commitWindow = 0;
            if (i == 2) p.revealWindow = 0;
            if (i == 3) p.challengeWindow = 0;
            if (i == 4) p.appealWindow = 0;
            if (i == 5) p.openingWindow = 0;
            _refused(p, "windows");
        }
        p = _parameters();
        p.unbondingDelay = _shortestUnbonding() - 1;
        _refused(p, "unbondingDelay");
        p.unbondingDelay = type(uint32).max;
        (p.drawTimeout, p.commitWindow, p.revealWindow) = (type(uint32).max, type(uint32).max, type(uint32).max);
        _refused(p, "unbondingDelay");
        p = _parameters();
        p.seatStake = 0;
        _refused(p, "seatStake");
        p = _parameters();
        (p.absenceBps, p.lateBps) = (10_001, 10_001);
        _refused(p, "absenceBps");
        p = _parameters();
        (p.incoherenceBps, p.lateBps) = (0, p.absenceBps - 1);
        _refused(p, "lateBps");
        p.lateBps = 10_001;
        _refused(p, "lateBps");
        // Who sees that it loses must not come off cheaper by withholding its reveal.
        (p.absenceBps, p.incoherenceBps, p.lateBps) = (0, 2_000, 1_999);
        _refused(p, "lateBps");
        p = _parameters();
        (p.incoherenceBps, p.fraudBps) = (10_001, 10_001);
        _refused(p, "incoherenceBps");
        p = _parameters();
        p.fraudBps = p.incoherenceBps - 1;
        _refused(p, "fraudBps");
        p.fraudBps = 100_001;
        _refused(p, "fraudBps");
        p = _parameters();
        p.wrongBps = 10_001;
        _refused(p, "wrongBps");
        p = _parameters();
        p.minFeePerTrace = 0;
        _refused(p, "minFeePerTrace");
        p = _parameters();
        p.jurorFee = 0;
        _refused(p, "jurorFee");
        p = _parameters();
        p.bondPerTrace = 0;
        _refused(p, "bondPerTrace");
        p = _parameters();
        p.faultMultiple = 0;
        _refused(p, "faultMultiple");
        p = _parameters();
        p.maxTraces = 0;
        _refused(p, "maxTraces");
    }

    function testParametersAtTheirLimits() external {
        Parameters memory p = _parameters();
        (p.committeeSize, p.minVerifiers) = (7, 7); // 7, 15, 31 seats, then juries of 63, 127 and 255
        p.unbondingDelay = _shortestUnbonding();
        (p.absenceBps, p.lateBps, p.incoherenceBps, p.fraudBps) = (10_000, 10_000, 10_000, 100_000);
        (p.wrongBps, p.minFeePerTrace, p.jurorFee) = (10_000, 1, 1);
        (p.bondPerTrace, p.faultMultiple) = (1, 1);
        _deployLinked(p, 0);
        _createMarket(p);
        (p.absenceBps, p.lateBps, p.incoherenceBps, p.fraudBps, p.wrongBps) = (0, 0, 0, 0, 0);
        (p.maxTraces, p.seatStake) = (1, 1);
        _deployLinked(p, 0);
        _createMarket(p);
    }

    /// The rule once more, in figures: a round and its challenge window, 26 moves of an opening of 4,096 leaves, then
    /// three juries, each with its draw, its work and its appeal.
    function _shortestUnbonding() private pure returns (uint32) {
        uint256 round = 1 hours + 20 minutes;
        return uint32(round + 30 minutes + 26 * 5 minutes + 3 * (round + 20 minutes));
    }

    function testPartsWithOtherParameters() external {
        Parameters memory p = _parameters();
        p.committeeSize = 5;
        _differs(p, "committeeSize");
        p = _parameters();
        p.drawTimeout += 1;
        _differs(p, "drawTimeout");
        p = _parameters();
        p.commitWindow += 1;
        _differs(p, "commitWindow");
        p = _parameters();
        p.revealWindow += 1;
        _differs(p, "revealWindow");
        p = _parameters();
        p.unbondingDelay += 1;
        _differs(p, "unbondingDelay");
        p = _parameters();
        p.seatStake += 1;
        _differs(p, "seatStake");
        p = _parameters();
        p.absenceBps = 10_001;
        _differs(p, "absenceBps");
        p = _parameters();
        p.lateBps += 1;
        _differs(p, "lateBps");
        p = _parameters();
        p.incoherenceBps = 1;
        _differs(p, "incoherenceBps");
        p = _parameters();
        p.fraudBps += 1;
        _differs(p, "fraudBps");
    }

    function testPartsWithOtherLinks() external {
        string[13] memory names = [
            "ledger.market",
            "ledger.escrow",
            "ledger.stake",
            "escrow.market",
            "escrow.ledger",
            "rounds.market",
            "stake.rounds",
            "stake.ledger",
            "assignments.market",
            "assignments.escrow",
            "ledger.court",
            "rounds.court",
            "escrow.court"
        ];
        Parameters memory p = _parameters();
        for (uint256 i; i < names.length; ++i) {
            _deployLinked(p, i + 1);
            vm.expectRevert(
                abi.encodeWithSelector(IBatchMarket.BatchMarket_WrongDeployment.selector, names[i], OTHER)
            );
            _createMarket(p);
        }
        _deployLinked(p, 0);
        _createMarket(p);
    }

    function _refused(Parameters memory p, string memory name) private {
        vm.expectRevert(abi.encodeWithSelector(IBatchMarket.BatchMarket_InvalidParameters.selector, name));
        _createMarket(p);
    }

    function _createMarket(Parameters memory p) private {
        this.create(
            "BatchMarket.sol:BatchMarket", abi.encode(ledger, escrow, rounds, assignments, court, p)
        );
    }

    function _differs(Parameters memory parts, string memory name) private {
        _deployLinked(parts, 0);
        _refused(_parameters(), name);
    }

    /// Deploys everything but the market; link number `wrong` (1 to 13, in the order of the names above) leads elsewhere.
    function _deployLinked(Parameters memory p, uint256 wrong) private {
        uint256 nonce = vm.getNonce(address(this));
        address[6] memory next;
        for (uint256 i; i < 6; ++i) {
            next[i] = vm.computeCreateAddress(address(this), nonce + i);
        }
        (address ledger_, address escrow_, address stake_) = (next[0], next[1], next[2]);
        (address rounds_, address assignments_, address market_) = (next[3], next[4], next[5]);
        create(
            "Ledger.sol:Ledger",
            abi.encode(
                token,
                wrong == 2 ? OTHER : escrow_,
                wrong == 3 ? OTHER : stake_,
                wrong == 1 ? OTHER : market_,
                wrong == 11 ? OTHER : address(court),
                address(royalties)
            )
        );
        create(
            "BountyEscrow.sol:BountyEscrow",
            abi.encode(
                wrong == 5 ? OTHER : ledger_,
                environments,
                wrong == 4 ? OTHER : market_,
                wrong == 13 ? OTHER : address(court)
            )
        );
        create(
            "VerifierStake.sol:VerifierStake",
            abi.encode(wrong == 8 ? OTHER : ledger_, wrong == 7 ? OTHER : rounds_, p)
        );
        create(
            "Rounds.sol:Rounds",
            abi.encode(
                stake_, randomness, wrong == 6 ? OTHER : market_, wrong == 12 ? OTHER : address(court), p
            )
        );
        create(
            "Assignments.sol:Assignments",
            abi.encode(wrong == 10 ? OTHER : escrow_, randomness, wrong == 9 ? OTHER : market_)
        );
        (ledger, escrow) = (ILedger(ledger_), IBountyEscrow(escrow_));
        (rounds, assignments) = (IRounds(rounds_), IAssignments(assignments_));
    }
}
