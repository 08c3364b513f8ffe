"""The exception tree: one root, exit codes per branch, messages with a fix, safe to pickle."""

import inspect
import pickle

import pytest

from marketplace.protocol import errors
from marketplace.protocol.errors import TracemarketError

ALL = [one for _, one in inspect.getmembers(errors, inspect.isclass)]


def test_every_class_is_in_the_tree_and_drawn_in_the_docstring():
    drawn = errors.__doc__.split()
    for one in ALL:
        assert issubclass(one, TracemarketError)
        assert one.__name__ in drawn


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.TracemarketError, 1),
        (errors.CheckerFailed, 1),
        (errors.JournalConflict, 1),
        (errors.SamplerError, 1),
        (errors.ConfigError, 2),
        (errors.InvalidValue, 2),
        (errors.SpecError, 2),
        (errors.EnvironmentMismatch, 2),
        (errors.WrongChain, 3),
        (errors.MissingContract, 3),
        (errors.InsufficientFunds, 3),
        (errors.Reverted, 3),
        (errors.TransactionTimeout, 3),
        (errors.ContentUnavailable, 4),
        (errors.ContentCorrupt, 4),
        (errors.ContentTooLarge, 4),
        (errors.MalformedTrace, 5),
        (errors.BatchTooLarge, 5),
        (errors.ProofFailed, 5),
        (errors.CheckpointError, 5),
        (errors.WrongPassword, 6),
        (errors.BeaconUnavailable, 7),
        (errors.BeaconInvalid, 7),
    ],
)
def test_exit_codes(error, code):
    assert error("x").exit_code == code


def test_message_and_fix():
    assert str(errors.WrongChain("chain id is 1")) == "chain id is 1"
    error = errors.WrongChain("chain id is 1, not 31337", fix="set TRACEMARKET_RPC")
    assert str(error) == "chain id is 1, not 31337. Fix: set TRACEMARKET_RPC"


@pytest.mark.parametrize("kind", ALL)
def test_survives_pickling(kind):
    error = pickle.loads(pickle.dumps(kind("what", fix="how")))
    assert type(error) is kind
    assert (error.message, error.fix) == ("what", "how")


def test_families():
    assert issubclass(errors.BatchTooLarge, errors.MalformedBatch)
    assert issubclass(errors.InvalidValue, ValueError)
    assert not issubclass(errors.ContentCorrupt, errors.ContentUnavailable)
