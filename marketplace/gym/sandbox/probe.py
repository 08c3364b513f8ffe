"""Which sandboxes there are here, what each guarantees, and the choice of one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Set
from functools import cache
from typing import Final

from marketplace.gym.sandbox.crun import CrunSandbox
from marketplace.gym.sandbox.guest import GuestSandbox
from marketplace.gym.sandbox.native import BubblewrapSandbox, ProcessSandbox
from marketplace.gym.sandbox.outcome import Backend, Guarantee, Property
from marketplace.protocol.errors import EnvironmentMismatch, InvalidValue

BACKENDS: Final[dict[str, Callable[[], Backend]]] = {
    "wasm": GuestSandbox,
    "process": ProcessSandbox,
    "bubblewrap": BubblewrapSandbox,
    "crun": CrunSandbox,
}
_NATIVE: Final = ("bubblewrap", "crun", "process")  # the strongest first; outcomes are the same

_UNUSED: Final = {
    "nsjail": "not used: Debian 12 has no package of it",
    "runc": "not used: it makes cgroups, which outlive a runtime that is killed; crun needs none",
    "docker": "not used: crun makes the same container without a daemon or an image",
    "podman": "not used: crun makes the same container without an image",
}


@cache
def guarantees_of(name: str) -> Mapping[Property, Guarantee]:
    """What a back end guarantees here, tried once per process."""
    backend = made(name)
    try:
        return backend.guarantees()
    finally:
        backend.close()


def made(name: str) -> Backend:
    """A back end by name. InvalidValue where there is no such one."""
    if name not in BACKENDS:
        raise InvalidValue(f"there is no sandbox {name!r}", fix=f"use one of {list(BACKENDS)}")
    return BACKENDS[name]()


def missing(name: str, demanded: Set[Property]) -> list[str]:
    """What of the demanded a back end does not guarantee here, each with the reason."""
    found = guarantees_of(name)
    return [
        f"{one} ({found[one].how})" for one in Property if one in demanded and not found[one].held
    ]


def choose(demanded: Set[Property]) -> Backend:
    """The strongest native back end that guarantees all that is demanded.

    EnvironmentMismatch where none does: nothing is ever run with less than the spec asks for.
    """
    lacks = []
    for name in _NATIVE:
        lacking = missing(name, demanded)
        if not lacking:
            return made(name)
        lacks.append(f"{name} lacks {'; '.join(dict.fromkeys(lacking))}")
    raise EnvironmentMismatch(
        f"no sandbox here guarantees what the environment demands: {' | '.join(lacks)}",
        fix="apt-get install bubblewrap (or crun), pip install pyseccomp; "
        "see `tracemarket env sandbox`",
    )


def unused() -> dict[str, str]:
    """Container tools that are installed but play no part, and why."""
    return {name: why for name, why in _UNUSED.items() if shutil.which(name)}
