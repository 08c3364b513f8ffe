"""Imports OpenEnv where fastmcp is missing.

OpenEnv asks for fastmcp and gradio: a server for tools and a page in the browser, neither of which
a replay needs. fastmcp wants other versions of packages than this one, so OpenEnv is installed
without its requirements. It has a way out where gradio is missing, but imports fastmcp always;
while it does, a module stands in whose classes refuse to be used. Import this module first.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

_NAMES: Final = ("fastmcp", "fastmcp.client", "fastmcp.client.client")


class _Missing:
    def __init__(self, *_: Any, **__: Any) -> None:
        raise ImportError("this environment needs fastmcp, which is not installed")


def _import() -> None:
    lent = () if find_spec("fastmcp") else _NAMES
    for name in lent:
        module: Any = ModuleType(name)
        module.Client = module.CallToolResult = _Missing
        sys.modules[name] = module
    try:
        importlib.import_module("openenv.core.env_server")
        importlib.import_module("openenv.core.rubrics")
    finally:
        for name in lent:
            del sys.modules[name]


_import()
