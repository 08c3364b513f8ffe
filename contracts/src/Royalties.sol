// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Ledger} from "./Ledger.sol";
import {ICheckpointRegistry} from "./interfaces/ICheckpointRegistry.sol";
import {IRoyalties} from "./interfaces/IRoyalties.sol";
import {MerkleProofs} from "./libraries/MerkleProofs.sol";
import {Attestation, Permit} from "./libraries/Types.sol";

contract Royalties is IRoyalties, Multicall {
    using SafeCast for uint256;

    uint256 private constant PPM = 1_000_000;
    uint32 private constant ALL_SHARES = 1_000_000_000;

    Ledger public immutable ledger;
    ICheckpointRegistry public immutable checkpoints;

    mapping(uint64 checkpoint => Account) private _accounts;
    mapping(uint64 checkpoint => mapping(uint256 index => uint256)) public collectedOf;

    constructor(Ledger ledger_, ICheckpointRegistry checkpoints_) {
        address linked = ledger_.royalties();
        require(linked == address(this), Royalties_WrongDeployment(linked));
        require(address(checkpoints_).code.length != 0, Royalties_WrongDeployment(address(checkpoints_)));
        ledger = ledger_;
        checkpoints = checkpoints_;
    }

    function pay(uint64 checkpoint, bytes32 identity, uint256 amount) external {
        _pay(checkpoint, identity, amount);
        ledger.collect(msg.sender, amount);
    }

    function payWithPermit(uint64 checkpoint, bytes32 identity, uint256 amount, Permit calldata permit)
        external
    {
        _pay(checkpoint, identity, amount);
        ledger.collectWithPermit(msg.sender, amount, permit);
    }

    function collect(
        uint64 checkpoint,
        uint256 index,
        address account,
        uint32 share,
        MerkleProofs.SumNode[] calldata proof
    ) external returns (uint256 amount) {
        uint32 passOnPpm = _requireShare(checkpoint, index, account, share, proof);
        amount = _book(checkpoint, index, share, passOnPpm);
        emit RoyaltyCollected(checkpoint, account, index, amount);

        address[] memory accounts = new address[](1);
        uint256[] memory amounts = new uint256[](1);
        (accounts[0], amounts[0]) = (account, amount);
        ledger.credit(accounts, amounts);
    }

    function passOn(uint64 checkpoint) external returns (uint256 amount) {
        uint64 parent;
        (amount, parent) = _due(checkpoint);
        require(amount != 0, Royalties_NothingToPassOn(checkpoint));
        _accounts[checkpoint].passedOn += uint128(amount);
        _accounts[parent].received += uint128(amount);
        emit RoyaltyPassedOn(checkpoint, parent, amount);
    }

    function accountOf(uint64 checkpoint) external view returns (Account memory) {
        return _accounts[checkpoint];
    }

    function passOnDue(uint64 checkpoint) external view returns (uint256 amount) {
        (amount,) = _due(checkpoint);
    }

    function _pay(uint64 checkpoint, bytes32 named, uint256 amount) private {
        bytes32 identity = checkpoints.identityOf(checkpoint);
        require(identity == named, Royalties_AnotherCheckpoint(checkpoint, identity, named));
        require(amount != 0, Royalties_ZeroAmount());
        _accounts[checkpoint].received += amount.toUint128();
        emit RoyaltyPaid(checkpoint, msg.sender, amount);
    }

    function _requireShare(
        uint64 checkpoint,
        uint256 index,
        address account,
        uint32 share,
        MerkleProofs.SumNode[] calldata proof
    ) private view returns (uint32 passOnPpm) {
        bytes32 root;
        uint32 holders;
        (root, holders, passOnPpm,) = checkpoints.sharesOf(checkpoint);
        MerkleProofs.SumNode memory leaf = MerkleProofs.shareLeaf(account, share);
        require(
            MerkleProofs.verifyVerdict(leaf, index, holders, proof, Attestation(root, ALL_SHARES, 0)),
            Royalties_BadShareProof(checkpoint, index, account, share)
        );
    }

    /// Books what is due to a share as collected.
    function _book(uint64 checkpoint, uint256 index, uint32 share, uint32 passOnPpm)
        private
        returns (uint256 amount)
    {
        Account storage sums = _accounts[checkpoint];
        uint256 received = sums.received;
        uint256 kept = received - _part(received, passOnPpm);
        uint256 before = collectedOf[checkpoint][index];
        amount = kept * share / ALL_SHARES - before;
        require(amount != 0, Royalties_NothingToCollect(checkpoint, index));
        uint256 collected = sums.collected;
        require(collected + amount <= kept, Royalties_Overdrawn(checkpoint, kept, collected, amount));
        collectedOf[checkpoint][index] = before + amount;
        sums.collected = uint128(collected + amount);
    }

    function _due(uint64 checkpoint) private view returns (uint256 amount, uint64 parent) {
        uint32 passOnPpm;
        (,, passOnPpm, parent) = checkpoints.sharesOf(checkpoint);
        Account storage sums = _accounts[checkpoint];
        amount = _part(sums.received, passOnPpm) - sums.passedOn;
    }

    function _part(uint256 received, uint256 ppm) private pure returns (uint256) {
        return received * ppm / PPM;
    }
}
