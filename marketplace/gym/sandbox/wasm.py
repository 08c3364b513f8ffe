"""The WebAssembly engine: deterministic by configuration, metered by fuel, no clock.

Fuel counts WebAssembly operators, so a program takes the same of it on every machine. NaNs are
made canonical, threads and relaxed SIMD are off.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import os
import platform
import tempfile
import weakref
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from marketplace.protocol.errors import CheckerFailed, SpecError

if TYPE_CHECKING:
    from wasmtime import Engine, Module

PACKAGE: Final = "wasmtime"
MAX_MEMORY_MB: Final = 256
"""Address space reserved for a memory at once: growing up to there can't fail on one machine only.
(Growth that needs more would be at the mercy of the checker's RLIMIT_AS.)"""

_STACK_BYTES: Final = 2 << 20
# Part of the cached code's name: another configuration is other code.
_CONFIGURATION: Final = "fuel,nan,nothreads,reserve256,stack2,speed,nosignals,v1"


@cache
def engine() -> Engine:
    """One per process. ImportError where wasmtime is missing."""
    from wasmtime import Config, Engine

    config = Config()
    config.consume_fuel = True
    config.cranelift_nan_canonicalization = True
    config.cranelift_opt_level = "speed"
    config.wasm_threads = False
    config.wasm_relaxed_simd = False
    config.memory_reservation = MAX_MEMORY_MB << 20
    config.memory_guard_size = 1 << 16
    config.memory_reservation_for_growth = 0
    config.memory_init_cow = False
    config.max_wasm_stack = _STACK_BYTES
    # A trap by signal ends the whole process where another library has taken the handler, as Ray
    # does; explicit checks cost a tenth of the speed.
    config.signals_based_traps = False
    made = Engine(config)
    atexit.register(_close, made)
    return made


_modules: weakref.WeakSet[Module] = weakref.WeakSet()


def _close(made: Engine) -> None:
    """Before the interpreter takes the library apart that would have to free them."""
    for module in list(_modules):
        module.close()
    made.close()


def compiled(source: bytes | str) -> Module:
    """A module from its binary, or from WAT text. SpecError where it is neither."""
    from wasmtime import Module, WasmtimeError

    try:
        module = Module(engine(), source)
    except WasmtimeError as error:
        raise SpecError(f"the WebAssembly module is not valid: {_first_line(error)}") from None
    _modules.add(module)
    return module


def cached(binary: bytes) -> Module:
    """As `compiled`, with the machine code kept in the user's cache directory.

    Machine code is trusted, so the directory must be this user's and writable by nobody else;
    where there is no such place, or no right to write, it is compiled anew.
    """
    from wasmtime import Module, WasmtimeError

    about = f"{_CONFIGURATION},{metadata.version(PACKAGE)},{platform.machine()},{_processor()}"
    name = hashlib.sha256(hashlib.sha256(binary).digest() + about.encode()).hexdigest()
    directory = _cache_directory()
    if directory is None:
        return compiled(binary)
    path = directory / f"{name}.cwasm"
    with _locked(directory / f"{name}.lock"):  # one process compiles, the others wait for it
        with contextlib.suppress(OSError, WasmtimeError):
            if path.stat().st_size:
                module = Module.deserialize_file(engine(), str(path))
                _modules.add(module)
                return module
        module = compiled(binary)
        with contextlib.suppress(OSError):
            descriptor, part = tempfile.mkstemp(dir=directory)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(module.serialize())
                os.replace(part, path)
            except OSError:
                os.unlink(part)
                raise
    return module


def checked_memory(megabytes: int) -> int:
    """Bytes. CheckerFailed over MAX_MEMORY_MB."""
    if megabytes > MAX_MEMORY_MB:
        raise CheckerFailed(f"memory_mb is {megabytes}, WebAssembly gets at most {MAX_MEMORY_MB}")
    return megabytes << 20


def _cache_directory() -> Path | None:
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        directory = Path(base) / "tracemarket" / "wasm"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = directory.stat()
    except (OSError, RuntimeError):
        return None
    return directory if state.st_uid == os.geteuid() and not state.st_mode & 0o022 else None


@contextlib.contextmanager
def _locked(path: Path):  # type: ignore[no-untyped-def]
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _processor() -> str:
    """Machine code may use what one processor has and another lacks."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return hashlib.sha256(line.encode()).hexdigest()
    return platform.processor()


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
