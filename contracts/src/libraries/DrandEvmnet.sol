// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IDrandRandomness} from "../interfaces/IDrandRandomness.sol";

/// drand's network "evmnet" (League of Entropy, scheme bls-bn254-unchained-on-g1), as its chain info says. The same in
/// tests/vectors/drand_evmnet.json, which names the sources.
library DrandEvmnet {
    bytes32 internal constant CHAIN_HASH = 0x04f1e9062b8a81f848fded9c12306733282b2727ecced50032187751166ec8c3;

    function network() internal pure returns (IDrandRandomness.Network memory) {
        return IDrandRandomness.Network({
            publicKey: [
                0x0557ec32c2ad488e4d4f6008f89a346f18492092ccc0d594610de2732c8b808f,
                0x07e1d1d335df83fa98462005690372c643340060d205306a9aa8106b6bd0b382,
                0x297d3a4f9749b33eb2d904c9d9ebf17224150ddd7abd7567a9bec6c74480ee0b,
                0x0095685ae3a85ba243747b1b2f426049010f6b73a0cf1d389351d5aaaa1047f6
            ],
            genesis: 1727521075,
            period: 3
        });
    }
}
