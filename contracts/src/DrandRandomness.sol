// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {BLS} from "@kevincharm/bls-bn254/contracts/BLS.sol";
import {IDrandRandomness} from "./interfaces/IDrandRandomness.sol";
import {IRandomness} from "./interfaces/IRandomness.sol";

/// See IDrandRandomness. A BLS signature is unique, so neither the network nor whoever delivers has a choice of values.
contract DrandRandomness is IDrandRandomness {
    /// RFC 9380 suite of drand's scheme bls-bn254-unchained-on-g1
    bytes private constant DOMAIN = "BLS_SIG_BN254G1_XMD:KECCAK-256_SVDW_RO_NUL_";

    uint256 private immutable _keyXRe;
    uint256 private immutable _keyXIm;
    uint256 private immutable _keyYRe;
    uint256 private immutable _keyYIm;

    uint64 public immutable genesis;
    uint64 public immutable period;
    uint64 public immutable delay;
    uint64 public immutable patience;

    mapping(uint64 round => bytes32 value) private _values;

    constructor(Network memory network, uint64 delay_, uint64 patience_) {
        require(_isKey(network.publicKey), DrandRandomness_InvalidKey(network.publicKey));
        require(network.period != 0, DrandRandomness_InvalidPeriod(network.period));
        require(delay_ != 0, Randomness_InvalidDelay(delay_));
        require(patience_ != 0, DrandRandomness_InvalidPatience(patience_));
        _keyXRe = network.publicKey[0];
        _keyXIm = network.publicKey[1];
        _keyYRe = network.publicKey[2];
        _keyYIm = network.publicKey[3];
        genesis = network.genesis;
        period = network.period;
        delay = delay_;
        patience = patience_;
    }

    function deliver(uint64 round, uint256[2] calldata signature) external {
        uint256 time = timeOf(round);
        require(block.timestamp >= time, DrandRandomness_NotDue(round, time));
        require(_values[round] == 0, DrandRandomness_AlreadyDelivered(round));
        require(block.timestamp <= time + patience, DrandRandomness_TooLate(round, time + patience));
        require(BLS.isValidSignature(signature), DrandRandomness_NotOnCurve(signature));
        require(_signs(signature, round), DrandRandomness_BadSignature(round, signature));

        bytes32 value = keccak256(abi.encode(signature));
        _values[round] = value;
        emit BeaconDelivered(round, value, msg.sender);
    }

    function nextPoint() external view returns (uint64) {
        uint256 earliest = block.timestamp + delay;
        if (earliest <= genesis) return 1;
        // The round at or after that time, rounded up.
        return uint64((earliest - genesis + period - 1) / period + 1);
    }

    function statusOf(uint64 point) public view returns (Status) {
        // No beacon has this number, so its value never comes.
        if (point == 0) return Status.Missed;
        if (_values[point] != 0) return Status.Ready;
        uint256 time = timeOf(point);
        if (block.timestamp < time) return Status.Pending;
        if (block.timestamp <= time + patience) return Status.Awaited;
        return Status.Missed;
    }

    function valueAt(uint64 point) external view returns (bytes32) {
        Status status = statusOf(point);
        require(status == Status.Ready, Randomness_NotReady(point, status));
        return _values[point];
    }

    function timeOf(uint64 round) public view returns (uint256) {
        require(round != 0, DrandRandomness_NoSuchRound(round));
        return genesis + uint256(round - 1) * period;
    }

    function publicKey() public view returns (uint256[4] memory) {
        return [_keyXRe, _keyXIm, _keyYRe, _keyYIm];
    }

    /// @return whether e(signature, G2) = e(H(round), key), where drand signs the hash of the round's 8 bytes
    function _signs(uint256[2] memory signature, uint64 round) private view returns (bool) {
        bytes memory message = abi.encodePacked(keccak256(abi.encodePacked(round)));
        (bool equal, bool success) = BLS.verifySingle(signature, publicKey(), BLS.hashToPoint(DOMAIN, message));
        return success && equal;
    }

    /// @return whether `key` is a point of the order-r subgroup of G2, and not infinity
    function _isKey(uint256[4] memory key) private view returns (bool) {
        if (!BLS.isValidPublicKey(key)) return false;
        // The curve of G2 has more points than its subgroup; the precompile refuses those (EIP-197). With infinity in
        // G1 on both sides any point that it takes gives one.
        uint256[2] memory infinity;
        (bool one, bool success) = BLS.verifySingle(infinity, key, infinity);
        return success && one;
    }
}
