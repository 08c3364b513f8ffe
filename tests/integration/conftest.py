"""Fixtures that several files of this folder share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def refinery(market: Any, accounts: Any, tmp_path: Path) -> Any:
    """Settled batches and checkpoints on demand (royalty_kit.Refinery)."""
    from royalty_kit import Refinery  # loads the trainer, which most files do without

    return Refinery(market, tmp_path, accounts.verifiers[7])


@pytest.fixture
def owner(accounts: Any) -> Any:
    """Of the base model."""
    return accounts.verifiers[6]
