"""Write the table of graded faults into docs/faults.md, or check that it is up to date.

python -m marketplace.chain.fault_table [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from marketplace.chain.amounts import format_amount
from marketplace.chain.parameters import PRESETS
from marketplace.protocol.faults import markdown

DOCUMENT: Final = Path("docs/faults.md")
_DECIMALS: Final = 6
_BEGIN: Final = "<!-- table: python -m marketplace.chain.fault_table -->\n"
_END: Final = "<!-- end of table -->\n"


def table() -> str:
    """With the numbers of every preset, in tokens."""
    presets = {name: preset.parameters(_DECIMALS) for name, preset in PRESETS.items()}
    return markdown(presets, lambda units: format_amount(units, _DECIMALS))


def written(document: str) -> str:
    """The document with the table of now. ValueError where it has no place for it."""
    before, begin, rest = document.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{DOCUMENT} has no {_BEGIN.strip()} ... {_END.strip()}")
    return f"{before}{_BEGIN}{table()}\n{_END}{after}"


def main() -> int:
    found = DOCUMENT.read_text("utf-8")
    wanted = written(found)
    if "--check" in sys.argv[1:]:
        if found != wanted:
            print(f"{DOCUMENT} is out of date: python -m marketplace.chain.fault_table")
            return 1
        return 0
    DOCUMENT.write_text(wanted, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
