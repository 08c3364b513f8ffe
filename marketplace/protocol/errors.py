"""The one exception tree. Its root means "expected in normal operation".

Anything that is not a TracemarketError is a bug. A message names the offending value;
`fix` (optional) is one sentence that says what to do. `exit_code` is what the command
line returns for the branch.

    TracemarketError                      1
    ├── UsageError                        2   what the user gave us
    │   ├── ConfigError                       settings, flags, deployment files
    │   ├── InvalidValue (ValueError)         a number, hash or address out of range
    │   ├── SpecError                         an environment spec is not valid
    │   └── EnvironmentMismatch               another package version than the spec pins
    ├── ChainError                        3
    │   ├── WrongChain                        the node serves another chain id
    │   ├── MissingContract                   no code at an address
    │   ├── InsufficientFunds                 gas or token balance too small
    │   ├── Reverted                          a call reverted
    │   │   └── ContractError                     with a custom error (chain/errors.py)
    │   ├── NodeRefused                       a JSON-RPC error (chain/errors.py)
    │   ├── NodeUnreachable                   no answer, NodeTimeout: not in time (same)
    │   └── TransactionTimeout                no receipt in time
    ├── StorageError                      4
    │   ├── ContentUnavailable                nobody served the CID in time
    │   ├── ContentCorrupt                    bytes do not hash to the CID
    │   ├── ContentTooLarge                   more bytes than the caller allows
    │   └── NoRoom                            more than this machine keeps of its kind
    ├── ContentError                      5   content that somebody else made
    │   ├── MalformedTrace                    one line of a batch
    │   ├── MalformedBatch                    the batch file as a whole
    │   │   └── BatchTooLarge                     over the size limits (zip bombs)
    │   ├── MalformedVerdicts                 a verdict file
    │   ├── ProofFailed                       a Merkle proof or root does not match
    │   └── CheckpointError                   model weights that can't be used
    ├── KeystoreError                     6
    │   └── WrongPassword
    ├── BeaconError                       7   what a randomness beacon or its relays gave
    │   ├── BeaconUnavailable                 no relay has the round (yet), or none answers
    │   └── BeaconInvalid                     it is not the network's signature of the round
    ├── RelayError                        8   a relay of votes did not take one
    ├── CheckerFailed                     1   a checker raised, hung or died
    │   └── CheckerTimeout                    the clock ended what it ran
    ├── JournalConflict                   1   signing would contradict the journal
    └── SamplerError                      1   a model gave nothing usable
"""

from __future__ import annotations

from typing import ClassVar


class TracemarketError(Exception):
    """Root of every expected failure.

    message: what happened, with the offending value. fix: what to do about it, or None.
    Survives pickling (checkers run in worker processes).
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return self.message if self.fix is None else f"{self.message}. Fix: {self.fix}"


# --- what the user gave us ---------------------------------------------------------


class UsageError(TracemarketError):
    """Settings, arguments or files given by the user can't be used."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting, flag or deployment file is missing or wrong."""


class InvalidValue(UsageError, ValueError):
    """A value does not fit its protocol type (range, length, kind)."""


class SpecError(UsageError):
    """An environment spec is not valid."""


class EnvironmentMismatch(UsageError):
    """An installed package has another version than the environment spec pins."""


# --- chain -------------------------------------------------------------------------


class ChainError(TracemarketError):
    """Something about the chain, the node or a transaction."""

    exit_code = 3


class WrongChain(ChainError):
    """The node serves another chain id than the deployment names."""


class MissingContract(ChainError):
    """There is no contract code at an address."""


class InsufficientFunds(ChainError):
    """An account can't pay for gas or tokens."""


class Reverted(ChainError):
    """A contract refused a call; the message carries the decoded custom error."""


class TransactionTimeout(ChainError):
    """A transaction got no receipt in time; it may still be mined."""


# --- storage -----------------------------------------------------------------------


class StorageError(TracemarketError):
    """Content could not be read or written."""

    exit_code = 4


class ContentUnavailable(StorageError):
    """Nobody served the content within the timeout."""


class ContentCorrupt(StorageError):
    """The bytes received do not hash to the CID asked for."""


class ContentTooLarge(StorageError):
    """The content is larger than the caller allows."""


class NoRoom(StorageError):
    """There is more of something than this machine is told to keep: its own trouble."""


# --- content and proofs ------------------------------------------------------------


class ContentError(TracemarketError):
    """Well transported content that breaks the protocol."""

    exit_code = 5


class MalformedTrace(ContentError):
    """One line of a batch is not a valid trace."""


class MalformedBatch(ContentError):
    """A batch file can't be read as lines."""


class BatchTooLarge(MalformedBatch):
    """A batch file, or a line in it, is over the size limit."""


class MalformedVerdicts(ContentError):
    """A verdict file is not valid."""


class ProofFailed(ContentError):
    """A Merkle root or proof does not match the content."""


class CheckpointError(ContentError):
    """A checkpoint is incomplete, of the wrong kind or does not match its record."""


# --- keys --------------------------------------------------------------------------


class KeystoreError(TracemarketError):
    """A keystore file can't be read or written."""

    exit_code = 6


class WrongPassword(KeystoreError):
    """The password does not open the keystore."""


# --- beacons -----------------------------------------------------------------------


class BeaconError(TracemarketError):
    """A round of a randomness beacon can't be had or used."""

    exit_code = 7


class BeaconUnavailable(BeaconError):
    """No relay gave the round: it is not out yet, or none answers."""


class BeaconInvalid(BeaconError):
    """What a relay gave is not the network's signature of the round."""


# --- relays of votes ---------------------------------------------------------------


class RelayError(TracemarketError):
    """A relay could not be reached, or did not take a vote. The member votes by itself."""

    exit_code = 8


# --- work --------------------------------------------------------------------------


class CheckerFailed(TracemarketError):
    """A checker raised, timed out or died: an error state, never a score of 0."""


class CheckerTimeout(CheckerFailed):
    """The clock ended what a checker ran: it says nothing about the answer."""


class JournalConflict(TracemarketError):
    """Signing would contradict what the verifier's journal already holds."""


class SamplerError(TracemarketError):
    """A model or endpoint gave nothing usable."""
