"""Importing this loads the guest, so that check workers have it before they fork runners."""

from __future__ import annotations

import contextlib

from marketplace.gym.sandbox.guest import interpreter
from marketplace.protocol.errors import EnvironmentMismatch

with contextlib.suppress(EnvironmentMismatch):  # said when the environment is built
    interpreter()
