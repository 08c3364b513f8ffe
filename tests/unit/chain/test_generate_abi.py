"""The committed contract data are those of the compiled contracts."""

from __future__ import annotations

import json

import pytest

from marketplace.chain import generate_abi
from marketplace.chain.artifacts import CONTRACTS, artifact
from marketplace.chain.generate_abi import COMMITTED, COMPILED, compiled, differences, source_hash
from marketplace.protocol.errors import ConfigError

needs_artifacts = pytest.mark.skipif(
    not (COMPILED / "build-info").exists(), reason="contracts are not compiled (make setup)"
)


@needs_artifacts
def test_the_committed_data_match_the_compiled_contracts() -> None:
    assert differences() == [], "run `make abi` and commit the result"


@needs_artifacts
def test_the_files_are_formatted_as_they_would_be_written() -> None:
    for file in COMMITTED.glob("*.json"):
        text = file.read_text("utf-8")
        assert generate_abi.rendered(json.loads(text)) == text


@needs_artifacts
@pytest.mark.parametrize(
    "change",
    [
        {"sourceHash": "0x00"},
        {"abi": []},
        {"solc": "0.8.36"},
        {"bytecode": "0x6000" + "00" * 60},
    ],
)
def test_any_change_is_seen(tmp_path, change) -> None:
    for name in CONTRACTS:
        (tmp_path / f"{name}.json").write_text(generate_abi.rendered(compiled(name)))
    stale = json.loads((tmp_path / "Ledger.json").read_text()) | change
    (tmp_path / "Ledger.json").write_text(json.dumps(stale))
    (tmp_path / "Old.json").write_text("{}")
    assert differences(COMPILED, tmp_path) == ["Ledger", "Old"]


@needs_artifacts
def test_only_the_metadata_hash_may_differ(tmp_path) -> None:
    for name in CONTRACTS:
        (tmp_path / f"{name}.json").write_text(generate_abi.rendered(compiled(name)))
    data = json.loads((tmp_path / "Ledger.json").read_text())
    code = bytearray.fromhex(data["bytecode"][2:])
    code[-20] ^= 1
    (tmp_path / "Ledger.json").write_text(json.dumps(data | {"bytecode": "0x" + code.hex()}))
    assert differences(COMPILED, tmp_path) == []
    code[-100] ^= 1
    (tmp_path / "Ledger.json").write_text(json.dumps(data | {"bytecode": "0x" + code.hex()}))
    assert differences(COMPILED, tmp_path) == ["Ledger"]


def test_without_compiled_contracts_the_error_says_what_to_do(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"no compiled Ledger.*hardhat compile"):
        compiled("Ledger", tmp_path)


SOURCES = {
    "project/a/A.sol": 'import {B} from "./B.sol";\nimport "@scope/pack/C.sol";\ncontract A {}',
    "project/a/B.sol": 'import {\n  D\n} from "../D.sol";',
    "project/D.sol": "",
    "npm/@scope/pack@1.0.0/C.sol": "",
    "project/Unrelated.sol": "",
}


@pytest.mark.parametrize("name", SOURCES)
def test_the_source_hash_covers_imports_and_nothing_else(name) -> None:
    changed = SOURCES | {name: SOURCES[name] + "\n// changed"}
    same = source_hash("project/a/A.sol", changed) == source_hash("project/a/A.sol", SOURCES)
    assert same == (name == "project/Unrelated.sol")


def test_a_missing_import_is_named() -> None:
    with pytest.raises(ConfigError, match=r"@other/x/Y\.sol"):
        source_hash("A", {"A": 'import "@other/x/Y.sol";'})


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_contract_can_be_created(name) -> None:
    loaded = artifact(name)
    assert loaded.name == name
    assert len(bytes.fromhex(loaded.bytecode[2:])) > 100
    assert loaded.solc.startswith("0.8.")
