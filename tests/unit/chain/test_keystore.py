"""Keystore files: whole, private, never overwritten; passwords from the right place."""

from __future__ import annotations

import json
import os
import stat

import pytest
from eth_account import Account

from marketplace.chain import keystore
from marketplace.chain.keystore import (
    create_keystore,
    keystore_address,
    load_keystore,
    password,
)
from marketplace.protocol.errors import ConfigError, InvalidValue, KeystoreError, WrongPassword

KEY = bytes(range(1, 33))
FAST = {"kdf": "pbkdf2", "iterations": 2}


def make(path, secret="correct horse", **options):
    return create_keystore(path, secret, key=KEY, **FAST, **options)


def test_a_new_keystore_opens_with_its_password(tmp_path) -> None:
    path = tmp_path / "keys" / "miner.json"
    address = create_keystore(path, "correct horse", randbytes=lambda size: KEY, **FAST)
    assert address == Account.from_key(KEY).address == keystore_address(path)
    assert bytes(load_keystore(path, "correct horse").key) == KEY
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["version"] == 3
    assert os.listdir(path.parent) == ["miner.json"]


def test_the_default_strength_is_that_of_the_standard(tmp_path) -> None:
    create_keystore(tmp_path / "k", "pw", key=KEY)
    crypto = json.loads((tmp_path / "k").read_text())["crypto"]
    assert crypto["kdf"] == "scrypt"
    assert crypto["kdfparams"]["n"] >= 2**17


def test_without_a_key_two_keystores_differ(tmp_path) -> None:
    first = create_keystore(tmp_path / "a", "pw", **FAST)
    assert first != create_keystore(tmp_path / "b", "pw", **FAST)


def test_a_wrong_password_is_refused(tmp_path) -> None:
    make(tmp_path / "k")
    with pytest.raises(WrongPassword, match=str(tmp_path / "k")) as caught:
        load_keystore(tmp_path / "k", "battery staple")
    assert "battery staple" not in caught.value.message
    assert caught.value.fix


def test_an_existing_file_is_never_overwritten(tmp_path) -> None:
    path = tmp_path / "k"
    path.write_text("precious")
    with pytest.raises(KeystoreError, match="exists"):
        make(path)
    assert path.read_text() == "precious"
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(KeystoreError, match="exists"):
        make(tmp_path / "link")


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path, monkeypatch) -> None:
    path = tmp_path / "k"
    encrypt = Account.encrypt

    def slow(*args, **kwargs):
        path.write_text("precious")
        return encrypt(*args, **kwargs)

    monkeypatch.setattr(keystore.Account, "encrypt", slow)
    with pytest.raises(KeystoreError, match="exists"):
        make(path)
    assert path.read_text() == "precious"
    assert os.listdir(tmp_path) == ["k"]


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch) -> None:
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keystore.os, "fsync", full)
    with pytest.raises(KeystoreError, match="No space left"):
        make(tmp_path / "k")
    assert os.listdir(tmp_path) == []


def test_bad_passwords_and_keys_are_refused_without_showing_the_key(tmp_path) -> None:
    with pytest.raises(InvalidValue, match="empty"):
        create_keystore(tmp_path / "k", "", key=KEY)
    for key in (bytes(32), b"\xff" * 32, b"\x01" * 31):
        with pytest.raises(InvalidValue, match="private key") as caught:
            create_keystore(tmp_path / "k", "pw", key=key, **FAST)
        assert key.hex() not in str(caught.value)
        assert caught.value.__cause__ is None
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"version": 1}', "version is 1"),
        (b'{"version": 3, "address": "0x12"}', "keystore v3"),
        (b'{"version": 3, "address": "' + b"ab" * 20 + b'"}', "keystore v3"),
        (b'{"version": 3, "crypto": 7, "address": "' + b"ab" * 20 + b'"}', "keystore v3"),
        (b'{"version": 3, "VERSION": 5, "address": "' + b"ab" * 20 + b'"}', "keystore v3"),
        (b"\xff\xfe", "not JSON"),
        (b" " * 70_000, "65536 bytes"),
    ],
)
def test_what_is_no_keystore_is_refused(tmp_path, content, said) -> None:
    path = tmp_path / "k"
    path.write_bytes(content)
    with pytest.raises(KeystoreError, match=said) as caught:
        load_keystore(path, "pw")
    assert str(path) in caught.value.message


def test_a_keystore_that_names_another_address_is_refused(tmp_path) -> None:
    path = tmp_path / "k"
    make(path)
    content = json.loads(path.read_text())
    content["address"] = "ab" * 20
    path.write_text(json.dumps(content))
    with pytest.raises(KeystoreError, match="belongs to"):
        load_keystore(path, "correct horse")


def test_a_keystore_without_its_kdf_parameters_is_refused(tmp_path) -> None:
    path = tmp_path / "k"
    make(path)
    content = json.loads(path.read_text())
    del content["crypto"]["kdfparams"]["salt"]
    path.write_text(json.dumps(content))
    with pytest.raises(KeystoreError, match="keystore v3"):
        load_keystore(path, "correct horse")


def test_a_missing_keystore_is_named(tmp_path) -> None:
    with pytest.raises(KeystoreError, match="no keystore"):
        load_keystore(tmp_path / "none", "pw")
    with pytest.raises(KeystoreError, match="no keystore"):
        keystore_address(tmp_path / "none")


def test_where_the_password_comes_from(tmp_path) -> None:
    file = tmp_path / "pw"
    file.write_text("from file \n")
    environ = {"TRACEMARKET_PASSWORD": "from variable", "OTHER": "other"}
    assert password(file=file, environ=environ, prompt=lambda: "p") == "from file "
    assert password(environ=environ, prompt=lambda: "p") == "from variable"
    assert password(environ=environ, variable="OTHER") == "other"
    assert password(environ={}, prompt=lambda: "from prompt") == "from prompt"


def test_no_password_is_an_error_that_says_where_to_put_one(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"\$TRACEMARKET_PASSWORD"):
        password(environ={})
    with pytest.raises(ConfigError, match="no password"):
        password(environ={}, prompt=lambda: "")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        password(file=tmp_path / "empty", environ={})
    with pytest.raises(ConfigError, match="can't be read"):
        password(file=tmp_path / "none", environ={"TRACEMARKET_PASSWORD": "x"})
