// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// A stablecoin for local chains: 6 decimals, EIP-2612, anybody mints. Worth nothing by construction.
contract TestStablecoin is ERC20, ERC20Permit {
    error TestStablecoin_LocalChainsOnly(uint256 chainId);

    constructor() ERC20("Test USD", "tUSD") ERC20Permit("Test USD") {
        require(block.chainid == 31337 || block.chainid == 1337, TestStablecoin_LocalChainsOnly(block.chainid));
    }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function decimals() public pure override returns (uint8) {
        return 6;
    }
}
