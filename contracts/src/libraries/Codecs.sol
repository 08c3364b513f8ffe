// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// Multicodec codes of the CIDs in use.
library Codecs {
    uint8 internal constant RAW = 0x55;
    uint8 internal constant DAG_PB = 0x70;

    function known(uint8 codec) internal pure returns (bool) {
        return codec == RAW || codec == DAG_PB;
    }
}
