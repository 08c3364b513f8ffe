"""A world for a WebAssembly program in which nothing depends on the machine.

The few functions of WASI preview 1 that CPython needs to run, and errors for all others. stdin is
given, stdout and stderr are kept up to a limit; the clock ticks once per look at it, and the
noise is a fixed stream. Every call costs fuel, so that time spent here is metered too.
https://github.com/WebAssembly/WASI/blob/main/legacy/preview1/docs.md
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from wasmtime import Func, Memory, Module, Store

CALL_FUEL: Final = 50_000
BYTE_FUEL: Final = 2
EPOCH_NS: Final = 1_735_689_600_000_000_000  # 2025-01-01
TICK_NS: Final = 1_000_000

_BADF, _INVAL, _NOSYS, _SPIPE = 8, 28, 52, 70
_CHARACTER_DEVICE = 2
_ALL_RIGHTS = (1 << 30) - 1


class Exit(Exception):
    """The program called proc_exit. status: what it said."""

    def __init__(self, status: int) -> None:
        self.status = status


class OutputLimit(Exception):
    """It wrote more than it may."""


class OutOfFuel(Exception):
    """A host call cost more fuel than was left."""


@dataclass(slots=True)
class World:
    """argv: of the program. before_input: called once, before the first read of stdin."""

    store: Store
    argv: list[str]
    before_input: Callable[[World], None]
    stdin: bytes = b""
    output_bytes: int = 1 << 16
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    memory: Memory | None = None
    _read: int = 0
    _ticks: int = 0
    _noise: int = 0
    _asked: bool = False

    def imports(self, module: Module) -> list[Func]:
        """What module imports, in order."""
        from wasmtime import Func, FuncType

        made = []
        for wanted in module.imports:
            kind = wanted.type
            if wanted.module != "wasi_snapshot_preview1" or not isinstance(kind, FuncType):
                raise ValueError(f"{wanted.module}.{wanted.name} is nothing a program may import")
            made.append(Func(self.store, kind, self._metered(wanted.name or "")))
        return made

    def _metered(self, name: str) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(self, f"_{name}", self._refused)

        def call(*arguments: int) -> Any:
            self._pay(CALL_FUEL)
            # Integers come signed.
            return function(*(argument & 0xFFFFFFFF for argument in arguments))

        return call

    def _pay(self, fuel: int) -> None:
        left = self.store.get_fuel()
        if left < fuel:
            raise OutOfFuel
        self.store.set_fuel(left - fuel)

    # --- memory: an address out of range is the program's own fault (IndexError: it traps) ----

    def _get(self, address: int, length: int) -> bytes:
        assert self.memory is not None
        self._pay(length * BYTE_FUEL)
        if address + length > self.memory.data_len(self.store):
            raise IndexError("out of bounds")
        return bytes(self.memory.read(self.store, address, address + length))

    def _put(self, address: int, data: bytes) -> None:
        assert self.memory is not None
        self._pay(len(data) * BYTE_FUEL)
        if address + len(data) > self.memory.data_len(self.store):
            raise IndexError("out of bounds")
        self.memory.write(self.store, data, address)

    def _put_u32(self, address: int, *values: int) -> None:
        self._put(address, struct.pack(f"<{len(values)}I", *values))

    def _vectors(self, address: int, count: int) -> list[tuple[int, int]]:
        if count > 1024:
            raise IndexError("too many buffers")
        return list(struct.iter_unpack("<II", self._get(address, 8 * count)))

    # --- the functions ------------------------------------------------------------------------

    def _refused(self, *arguments: int) -> int:
        return _NOSYS

    def _args_sizes_get(self, count: int, size: int) -> int:
        self._put_u32(count, len(self.argv))
        self._put_u32(size, sum(len(one.encode()) + 1 for one in self.argv))
        return 0

    def _args_get(self, pointers: int, texts: int) -> int:
        for number, one in enumerate(self.argv):
            data = one.encode() + b"\0"
            self._put_u32(pointers + 4 * number, texts)
            self._put(texts, data)
            texts += len(data)
        return 0

    def _environ_sizes_get(self, count: int, size: int) -> int:
        self._put_u32(count, 0)
        self._put_u32(size, 0)
        return 0

    def _environ_get(self, pointers: int, texts: int) -> int:
        return 0

    def _clock_res_get(self, clock: int, result: int) -> int:
        self._put(result, struct.pack("<Q", TICK_NS))
        return 0

    def _clock_time_get(self, clock: int, precision: int, result: int) -> int:
        self._ticks += 1
        start = EPOCH_NS if clock == 0 else 0
        self._put(result, struct.pack("<Q", start + self._ticks * TICK_NS))
        return 0

    def _random_get(self, address: int, length: int) -> int:
        for start in range(0, length, 32):
            self._noise += 1
            block = hashlib.sha256(self._noise.to_bytes(8, "big")).digest()
            self._put(address + start, block[: length - start])
        return 0

    def _fd_write(self, fd: int, vectors: int, count: int, result: int) -> int:
        if fd not in (1, 2):
            return _BADF
        kept = self.stdout if fd == 1 else self.stderr
        written = 0
        for address, length in self._vectors(vectors, count):
            kept += self._get(address, length)
            written += length
            if len(kept) > self.output_bytes:
                raise OutputLimit
        self._put_u32(result, written)
        return 0

    def _fd_read(self, fd: int, vectors: int, count: int, result: int) -> int:
        if fd != 0:
            return _BADF
        if not self._asked:
            self._asked = True
            self.before_input(self)
        start = self._read
        for address, length in self._vectors(vectors, count):
            piece = self.stdin[self._read : self._read + length]
            self._put(address, piece)
            self._read += len(piece)
        self._put_u32(result, self._read - start)
        return 0

    def _fd_fdstat_get(self, fd: int, result: int) -> int:
        if fd > 2:
            return _BADF
        self._put(result, struct.pack("<BxHxxxxQQ", _CHARACTER_DEVICE, 0, _ALL_RIGHTS, 0))
        return 0

    def _fd_filestat_get(self, fd: int, result: int) -> int:
        if fd > 2:
            return _BADF
        self._put(result, struct.pack("<QQB7xQQQQQ", 0, fd, _CHARACTER_DEVICE, 1, 0, 0, 0, 0))
        return 0

    def _fd_prestat_get(self, fd: int, result: int) -> int:
        return _BADF

    def _fd_seek(self, fd: int, offset: int, whence: int, result: int) -> int:
        return _SPIPE if fd <= 2 else _BADF

    def _fd_tell(self, fd: int, result: int) -> int:
        return _SPIPE if fd <= 2 else _BADF

    def _fd_close(self, fd: int) -> int:
        return 0 if fd <= 2 else _BADF

    def _sched_yield(self) -> int:
        return 0

    def _proc_exit(self, status: int) -> None:
        raise Exit(status)
