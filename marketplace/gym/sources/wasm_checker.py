"""Plain checkers as WebAssembly modules: anybody's scorer, with no way to reach anything.

A module imports nothing and exports

    memory
    alloc(size: i32) -> i32             where `size` bytes may be written
    score(answer: i32, answer_len: i32, reference: i32, reference_len: i32,
          question: i32, question_len: i32) -> i32
    draw(number: i64) -> i32            only where the spec names no `tasks`

Texts are UTF-8. score gives 0 to 1,000,000 (ppm), or -1 if no answer can be read from the text;
anything else, a trap or running out of fuel is an error of the checker. An integer is never NaN.
draw gives the address of a problem: question length and answer length (u32, little-endian), then
both texts; 0 for a number that has none. Each call gets a fresh instance, so that nothing that
one answer does can matter to another.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from marketplace.gym.source import Entry, Source, UnreadableAnswer
from marketplace.gym.sources.math_answer import MathAnswerSource
from marketplace.protocol.errors import CheckerFailed, EnvironmentMismatch, SpecError
from marketplace.protocol.seeds import PPM

if TYPE_CHECKING:
    from wasmtime import Instance, Store

BINARY_PREFIX: Final = "base64:"
MAX_TEXT_BYTES: Final = 1 << 20
_UNREADABLE: Final = -1
_SIGNATURES: Final = {
    "alloc": (["i32"], ["i32"]),
    "score": (["i32"] * 6, ["i32"]),
    "draw": (["i64"], ["i32"]),
}


class WasmSource(Source):
    """module: WAT text, or "base64:" and the binary. tasks: whose problems it scores; without
    them it draws its own. fuel, memory_mb: of each call."""

    PACKAGES: ClassVar[tuple[str, ...]] = ("wasmtime",)
    PRELOAD: ClassVar[tuple[str, ...]] = ("wasmtime",)

    kind: Literal["wasm"]
    module: Annotated[str, Field(min_length=1, max_length=131_072)]
    tasks: MathAnswerSource | None = None
    fuel: Annotated[int, Field(ge=1000, le=10_000_000_000)] = 100_000_000
    memory_mb: Annotated[int, Field(ge=1, le=256)] = 16

    def open(self) -> WasmTasks:
        return WasmTasks(self)


class WasmTasks:
    """A TaskSource whose scorer is a module. SpecError where the module is not as it must be."""

    def __init__(self, source: WasmSource) -> None:
        try:
            from marketplace.gym.sandbox.wasm import compiled

            self._module = compiled(_binary(source.module))
        except ImportError as error:
            raise EnvironmentMismatch(
                f"WebAssembly checkers need wasmtime: {error}", fix="pip install 'tracemarket[gym]'"
            ) from None
        self._fuel, self._memory = source.fuel, source.memory_mb << 20
        self._tasks = None if source.tasks is None else source.tasks.open()
        self._check_module()

    def draw(self, number: int) -> Entry:
        """The problem of a 64-bit number, from `tasks` or from the module."""
        if self._tasks is not None:
            return self._tasks.draw(number)
        signed = number - (1 << 64) if number >> 63 else number  # i64 is signed
        with self._fresh() as call:
            address = call.run("draw", signed)
            if address == 0:
                raise LookupError("this number has no problem")
            question, answer = struct.unpack("<II", call.read(address, 8))
            text = call.read(address + 8, question + answer)
        return Entry(text[:question].decode("utf-8"), text[question:].decode("utf-8"))

    def score(self, answer: str, entry: Entry) -> object:
        """The module's score. CheckerFailed if it traps, runs out of fuel or gives no ppm."""
        places: list[int] = []
        with self._fresh() as call:
            for text in (answer, entry.answer, entry.question):
                # "replace": a completion may hold lone surrogates, which UTF-8 has no bytes for.
                data = text.encode("utf-8", "replace")
                places += (call.store_bytes(data), len(data))
            ppm = call.run("score", *places)
        if ppm == _UNREADABLE:
            raise UnreadableAnswer("the module reads no answer from it")
        if not 0 <= ppm <= PPM:
            raise CheckerFailed(f"the module scored {ppm}, not 0 to {PPM}")
        return ppm / PPM

    @contextlib.contextmanager
    def _fresh(self) -> Iterator[_Call]:
        from wasmtime import Instance, Store, Trap, WasmtimeError

        from marketplace.gym.sandbox.wasm import engine

        store = Store(engine())
        store.set_limits(
            memory_size=self._memory, table_elements=10_000, instances=1, tables=4, memories=1
        )
        store.set_fuel(self._fuel)
        try:
            try:
                instance = Instance(store, self._module, [])
            except (Trap, WasmtimeError) as error:
                raise CheckerFailed(f"the module does not start: {_last_line(error)}") from None
            yield _Call(store, instance)
        finally:
            # Now, not when somebody collects it: two memories may not fit a checker's limit.
            store.close()

    def _check_module(self) -> None:
        from wasmtime import FuncType, MemoryType

        if self._module.imports:
            one = self._module.imports[0]
            raise SpecError(f"the module imports {one.module}.{one.name}: it may import nothing")
        exports = {one.name: one.type for one in self._module.exports}
        if not isinstance(exports.get("memory"), MemoryType):
            raise SpecError('the module exports no memory called "memory"')
        needed = ["alloc", "score"] + ([] if self._tasks is not None else ["draw"])
        for name in needed:
            kind = exports.get(name)
            found = (
                ([str(one) for one in kind.params], [str(one) for one in kind.results])
                if isinstance(kind, FuncType)
                else None
            )
            if found != _SIGNATURES[name]:
                takes, gives = _SIGNATURES[name]
                raise SpecError(
                    f"the module's export {name!r} must be a function of {takes} to {gives}, "
                    f"it is {'missing' if kind is None else found or 'no function'}"
                )


class _Call:
    """One instance, for one question to it."""

    def __init__(self, store: Store, instance: Instance) -> None:
        self._store = store
        self._exports = instance.exports(store)
        self._memory: Any = self._exports["memory"]

    def run(self, name: str, *arguments: int) -> int:
        """What an exported function gives. CheckerFailed if it traps."""
        from wasmtime import Trap, WasmtimeError

        function: Any = self._exports[name]
        # Addresses are unsigned to us and signed to wasmtime.
        signed = [one - (1 << 32) if 1 << 31 <= one < 1 << 32 else one for one in arguments]
        try:
            return int(function(self._store, *signed))
        except (Trap, WasmtimeError) as error:
            raise CheckerFailed(f"the module's {name} failed: {_last_line(error)}") from None

    def store_bytes(self, data: bytes) -> int:
        """Where alloc put them."""
        address = self.run("alloc", len(data)) & 0xFFFFFFFF
        self._check_range(address, len(data))
        self._memory.write(self._store, data, address)
        return address

    def read(self, address: int, length: int) -> bytes:
        """Bytes of its memory."""
        address &= 0xFFFFFFFF
        if length > MAX_TEXT_BYTES:
            raise CheckerFailed(f"the module gives {length} bytes, over {MAX_TEXT_BYTES}")
        self._check_range(address, length)
        return bytes(self._memory.read(self._store, address, address + length))

    def _check_range(self, address: int, length: int) -> None:
        size = self._memory.data_len(self._store)
        if address + length > size:
            raise CheckerFailed(
                f"the module names {length} bytes at {address}, its memory has {size}"
            )


def _binary(module: str) -> bytes | str:
    if not module.startswith(BINARY_PREFIX):
        return module
    try:
        return base64.b64decode(module.removeprefix(BINARY_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SpecError(f"the module is not base64: {error}") from None


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
