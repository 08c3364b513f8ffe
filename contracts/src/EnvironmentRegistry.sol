// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEnvironmentRegistry} from "./interfaces/IEnvironmentRegistry.sol";

contract EnvironmentRegistry is IEnvironmentRegistry {
    mapping(bytes32 environment => address) public authorOf;

    function register(bytes32 environment) external {
        require(environment != 0, EnvironmentRegistry_ZeroId());
        address author = authorOf[environment];
        require(author == address(0), EnvironmentRegistry_AlreadyRegistered(environment, author));
        authorOf[environment] = msg.sender;
        emit EnvironmentRegistered(environment, msg.sender);
    }
}
