"""What goes into a sandbox, what comes out, and what may be demanded of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol

MODULES: Final = (
    "bisect",
    "collections",
    "copy",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "heapq",
    "itertools",
    "json",
    "math",
    "operator",
    "random",
    "re",
    "statistics",
    "string",
    "typing",
)
"""Modules that a program may import, the same in every back end; all are imported beforehand."""


@dataclass(frozen=True, slots=True)
class Program:
    """Python source by file name. `main.py` is run; it may import the others by name."""

    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one run. fuel: WebAssembly steps, where the back end counts them; cpu_seconds: CPU time,
    where it does not. wall_seconds: on the clock, for programs that only wait. memory_mb: MiB of
    address space beyond the interpreter's own. output_bytes: of stdout; of stderr as many."""

    fuel: int = 2_000_000_000
    cpu_seconds: float = 4.0
    wall_seconds: float = 40.0
    memory_mb: int = 128
    output_bytes: int = 65_536


class Ended(StrEnum):
    """Why a run ended."""

    EXITED = "exited"  # by itself, with `status`
    KILLED = "killed"  # by a signal or a trap: it crashed
    FUEL = "fuel"
    CPU = "cpu"
    WALL = "wall"
    OUTPUT = "output"


CLOCKED: Final = frozenset({Ended.CPU, Ended.WALL})
"""Ends that depend on how fast a machine is: they say nothing about the program's answer."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """status: exit status if it exited. stdout, stderr: cut off at the limit. detail: for people.

    fuel: steps used. cpu_seconds: of the program's process. Both 0 where nobody counts them.
    """

    ended: Ended
    status: int
    stdout: bytes
    stderr: bytes
    fuel: int = 0
    cpu_seconds: float = 0.0
    detail: str = ""


class Property(StrEnum):
    """What a sandbox may guarantee."""

    OWN_PROCESS = "own process"
    NO_NETWORK = "no network"
    NO_FILES = "reads no file of this machine"
    NO_WRITES = "writes no file"
    NO_PROCESSES = "starts no process or thread"
    NO_SIGNALS = "sees and signals no other process"
    CLEAN_ENVIRONMENT = "empty environment"
    UNPRIVILEGED = "no privilege of its starter"
    BOUNDED = "bounded time, memory and output"
    NOTHING_LEFT = "leaves nothing behind"
    NAMESPACES = "namespaces of its own"
    DETERMINISTIC = "same outcome everywhere"


FLOOR: Final = frozenset(set(Property) - {Property.NAMESPACES, Property.DETERMINISTIC})
"""What every sandbox for contributed code must hold; without it nothing is judged."""


@dataclass(frozen=True, slots=True)
class Guarantee:
    """held: whether a property holds here. how: by what, or why not."""

    held: bool
    how: str


class Backend(Protocol):
    """A sandbox. Runs are independent: nothing of one can be seen by another."""

    name: str

    def run(self, program: Program, stdin: bytes, limits: Limits) -> Outcome:
        """Runs the program to its end or a limit. CheckerFailed if the sandbox itself fails."""
        ...

    def guarantees(self) -> Mapping[Property, Guarantee]:
        """What holds here, found out by trying."""
        ...

    def close(self) -> None:
        """Ends every process the back end keeps."""
        ...


NO_GUARANTEES: Final[Mapping[Property, Guarantee]] = MappingProxyType({})
