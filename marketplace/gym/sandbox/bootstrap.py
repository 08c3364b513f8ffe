"""First code inside a sandbox, before any that is not ours. Run as text, imports nothing of ours.

Reads a job from stdin: 8 bytes length, JSON {"files": {name: source}}; what follows is the
program's own stdin. Files become modules without touching a file system. MODULES and CONFINE
are set by what runs this: CONFINE(job) ties the process down, after the imports.
"""

import importlib
import sys

for _name in MODULES:  # type: ignore[name-defined]  # noqa: F821
    importlib.import_module(_name)


def _start() -> None:
    import json
    import os
    import types

    stdin, streams = sys.stdin.buffer, (sys.stdout, sys.stderr)
    job = json.loads(stdin.read(int.from_bytes(stdin.read(8), "big")))
    CONFINE(job)  # type: ignore[name-defined]  # noqa: F821
    files = job["files"]

    class Finder:
        """Imports the job's files, and nothing else that has not been imported before."""

        @staticmethod
        def find_spec(name, path=None, target=None):  # type: ignore[no-untyped-def]
            if name + ".py" not in files:
                raise ModuleNotFoundError(f"No module named {name!r} in this sandbox", name=name)
            from importlib.machinery import ModuleSpec

            return ModuleSpec(name, Loader)

    class Loader:
        @staticmethod
        def create_module(spec):  # type: ignore[no-untyped-def]
            return None

        @staticmethod
        def exec_module(module):  # type: ignore[no-untyped-def]
            name = module.__name__ + ".py"
            exec(compile(files[name], name, "exec"), module.__dict__)

    # Neither argv nor a path of this machine: what a program sees is the same everywhere.
    sys.meta_path[:] = [Finder]
    sys.path[:] = []
    sys.argv[:] = ["main.py"]
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    status = 0
    try:
        exec(compile(files["main.py"], "main.py", "exec"), main.__dict__)
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException as error:
        status = 1
        sys.stderr.write(f"{type(error).__name__}: {error}"[:2000])
    for stream in streams:
        stream.flush()
    os._exit(status & 0xFF)  # tidying an interpreter up takes longer than most programs


_start()
