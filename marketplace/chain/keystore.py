"""Keystore v3 files (Web3 Secret Storage): one encrypted private key each.

A file is readable by its owner only, appears whole or not at all, and is never overwritten.
Keys and passwords are in no log and no message.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

from marketplace.chain.files import write_file
from marketplace.protocol.errors import ConfigError, InvalidValue, KeystoreError, WrongPassword

PASSWORD_VARIABLE: Final = "TRACEMARKET_PASSWORD"
"""Environment variable that password() reads where none is named."""

_MAX_BYTES: Final = 64 * 1024


def create_keystore(
    path: Path,
    password: str,
    *,
    key: bytes | None = None,
    randbytes: Callable[[int], bytes] = secrets.token_bytes,
    kdf: Literal["scrypt", "pbkdf2"] = "scrypt",
    iterations: int | None = None,
) -> str:
    """Write a new keystore file (mode 0600) and return its checksummed address.

    key: 32 bytes to import; a new random key without it. iterations: work factor of the kdf
    (scrypt: n); None for the standard's strength, which takes about a second.

    Raises KeystoreError where the path exists or can't be written, InvalidValue for an empty
    password or an impossible key.
    """
    if not password:
        raise InvalidValue("the keystore password is empty", fix="choose a password")
    if path.exists() or path.is_symlink():
        raise _exists(path)
    secret = randbytes(32) if key is None else key
    try:
        account: LocalAccount = Account.from_key(secret)
    except Exception:  # the message of the library could show the key
        raise InvalidValue("the private key is not 32 bytes within the curve's order") from None
    content = json.dumps(Account.encrypt(account.key, password, kdf, iterations))
    _write_new(path, content)
    return str(account.address)


def load_keystore(path: Path, password: str) -> LocalAccount:
    """The account in a keystore file.

    Raises WrongPassword, or KeystoreError where the file is missing, unreadable, no keystore or
    holds another address than it names.
    """
    content = _read(path)
    try:
        account: LocalAccount = Account.from_key(Account.decrypt(content, password))
    except ValueError as error:
        if "MAC mismatch" in str(error):
            raise WrongPassword(
                f"the password does not open {path}",
                fix=f"give the password of that keystore (file, ${PASSWORD_VARIABLE} or prompt)",
            ) from None
        raise _not_a_keystore(path, str(error)) from None
    # NotImplementedError: eth_keyfile reads names in any case, so that a "VERSION" beside our
    # "version" can name a format it doesn't know.
    except (KeyError, TypeError, AttributeError, NotImplementedError) as error:
        raise _not_a_keystore(path, repr(error)) from None
    if to_checksum_address(account.address) != _address(content, path):
        raise _not_a_keystore(path, f"its key belongs to {account.address}")
    return account


def keystore_address(path: Path) -> str:
    """The checksummed address that a keystore file names; needs no password."""
    return _address(_read(path), path)


def password(
    *,
    file: Path | None = None,
    variable: str = PASSWORD_VARIABLE,
    prompt: Callable[[], str] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> str:
    """The password: from `file` where given, else from the environment variable where set, else
    from `prompt`.

    One line end at the end of the file does not count. ConfigError where nothing gives one.
    """
    if file is not None:
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the password file {file} can't be read: {_reason(error)}") from None
        found = text.removesuffix("\n").removesuffix("\r")
        if not found:
            raise ConfigError(f"the password file {file} is empty")
        return found
    if environ.get(variable):
        return environ[variable]
    if prompt is not None and (answer := prompt()):
        return answer
    raise ConfigError("no password was given", fix=f"give a password file or set ${variable}")


def _write_new(path: Path, content: str) -> None:
    try:
        write_file(path, content, mode=0o600, replaces=False)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise KeystoreError(f"the keystore {path} can't be written: {_reason(error)}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise KeystoreError(
            f"there is no keystore {path}", fix="create one, or give the path of yours"
        ) from None
    except OSError as error:
        raise KeystoreError(f"the keystore {path} can't be read: {_reason(error)}") from None
    if len(raw) > _MAX_BYTES:
        raise _not_a_keystore(path, f"it has over {_MAX_BYTES} bytes")
    try:
        content = json.loads(raw)
    except ValueError:
        raise _not_a_keystore(path, "it is not JSON") from None
    if not isinstance(content, dict):
        raise _not_a_keystore(path, "it is not a JSON object")
    if content.get("version") != 3:
        raise _not_a_keystore(path, f"its version is {content.get('version')!r}")
    return content


def _address(content: Mapping[str, Any], path: Path) -> str:
    named = content.get("address")
    try:
        return str(to_checksum_address("0x" + str(named).removeprefix("0x")))
    except ValueError:
        raise _not_a_keystore(path, f"its address is {named!r}") from None


def _exists(path: Path) -> KeystoreError:
    return KeystoreError(
        f"the keystore {path} exists", fix="choose another path; keystores are never overwritten"
    )


def _not_a_keystore(path: Path, why: str) -> KeystoreError:
    return KeystoreError(
        f"{path} is not a keystore v3 file: {why}", fix="give the path of a keystore v3 file"
    )


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
