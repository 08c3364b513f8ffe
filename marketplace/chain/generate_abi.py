"""Write marketplace/chain/abi/*.json from the compiler's output, or check that they agree.

    python -m marketplace.chain.generate_abi            writes
    python -m marketplace.chain.generate_abi --check    exit code 1 where they differ

Needs contracts/artifacts (`npx hardhat compile`). The files are formatted so that equal
contracts give equal bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import posixpath
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from marketplace.chain.artifacts import CONTRACTS
from marketplace.protocol.errors import ConfigError, TracemarketError

PROJECT: Final = Path(__file__).resolve().parents[2]
COMPILED: Final = PROJECT / "contracts" / "artifacts"
COMMITTED: Final = Path(__file__).resolve().parent / "abi"

_IMPORT = re.compile(r"""^\s*import\b[^;"']*["']([^"']+)["']\s*;""", re.MULTILINE)


def compiled(name: str, artifacts: Path = COMPILED) -> dict[str, Any]:
    """What abi/<name>.json should hold. ConfigError where the contract is not compiled."""
    found = sorted((artifacts / "contracts" / "src").glob(f"**/{name}.sol/{name}.json"))
    if not found:
        raise ConfigError(
            f"{artifacts} holds no compiled {name}", fix="run `npx hardhat compile` first"
        )
    built = json.loads(found[0].read_text("utf-8"))
    info_file = artifacts / "build-info" / f"{built['buildInfoId']}.json"
    info = json.loads(info_file.read_text("utf-8"))
    sources = {path: entry["content"] for path, entry in info["input"]["sources"].items()}
    return {
        "contract": name,
        "solc": info["solcLongVersion"],
        "sourceHash": source_hash(built["inputSourceName"], sources),
        "abi": built["abi"],
        "bytecode": built["bytecode"],
    }


def source_hash(entry: str, sources: Mapping[str, str]) -> str:
    """sha256 over `entry` and everything it imports, as 0x hex.

    sources: source name -> text, as in the compiler's input. A build holds more sources than one
    contract needs, and which ones depends on what was compiled before: hence the walk.
    """
    seen: set[str] = set()
    todo = [entry]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        todo += [_resolve(name, path, sources) for path in _IMPORT.findall(sources[name])]
    digest = hashlib.sha256()
    for name in sorted(seen):
        digest.update(hashlib.sha256(name.encode()).digest())
        digest.update(hashlib.sha256(sources[name].encode()).digest())
    return "0x" + digest.hexdigest()


def _resolve(importer: str, path: str, sources: Mapping[str, str]) -> str:
    if path.startswith("."):
        return posixpath.normpath(posixpath.join(posixpath.dirname(importer), path))
    # A package: @scope/name/rest is named npm/@scope/name@version/rest in the input.
    package = "/".join(path.split("/")[:2])
    rest = path[len(package) :]
    pattern = re.compile(rf"npm/{re.escape(package)}@[^/]+{re.escape(rest)}")
    for name in sources:
        if pattern.fullmatch(name):
            return name
    raise ConfigError(f"{importer} imports {path}, which the build does not hold")


def rendered(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=1, sort_keys=True) + "\n"


def differences(artifacts: Path = COMPILED, committed: Path = COMMITTED) -> list[str]:
    """Names of contracts whose committed file does not match the compiled one.

    The metadata hash at the end of the bytecode is left out: it also depends on settings of
    unrelated contracts of the same build; the source hash stands for it.
    """
    changed = []
    for name in CONTRACTS:
        file = committed / f"{name}.json"
        have = json.loads(file.read_text("utf-8")) if file.exists() else {"bytecode": "0x"}
        if _comparable(have) != _comparable(compiled(name, artifacts)):
            changed.append(name)
    extra = {file.stem for file in committed.glob("*.json")} - set(CONTRACTS)
    return changed + sorted(extra)


def _comparable(data: Mapping[str, Any]) -> dict[str, Any]:
    code = bytes.fromhex(data["bytecode"].removeprefix("0x"))
    # The last two bytes give the length of the CBOR metadata in front of them.
    trailer = int.from_bytes(code[-2:], "big") + 2 if code else 0
    return {**data, "bytecode": code[: len(code) - trailer]}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="generate_abi", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    options = parser.parse_args(arguments)
    try:
        changed = differences()
        if options.check:
            for name in changed:
                print(f"marketplace/chain/abi/{name}.json is stale: run `make abi`")
            return 1 if changed else 0
        for name in changed:
            target = COMMITTED / f"{name}.json"
            if name in CONTRACTS:
                target.write_text(rendered(compiled(name)), "utf-8")
            else:
                target.unlink()
            print(f"wrote {name}" if name in CONTRACTS else f"removed {name}")
    except TracemarketError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
