// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// Names environments by the sha2-256 digest of their spec file, which anybody may register once.
interface IEnvironmentRegistry {
    event EnvironmentRegistered(bytes32 indexed environment, address indexed author);

    error EnvironmentRegistry_AlreadyRegistered(bytes32 environment, address author);
    error EnvironmentRegistry_ZeroId();

    /// Registers the spec with this digest; the caller becomes its author.
    ///
    /// Requirements:
    /// - `environment` must not be zero (EnvironmentRegistry_ZeroId).
    /// - It must be new (EnvironmentRegistry_AlreadyRegistered).
    function register(bytes32 environment) external;

    /// @return the author of an environment, zero where it is not registered
    function authorOf(bytes32 environment) external view returns (address);
}
