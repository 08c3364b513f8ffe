"""Which store a setting names, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from marketplace.protocol.errors import ConfigError
from marketplace.storage.embedded import EmbeddedStore
from marketplace.storage.ipfs import IpfsStore
from marketplace.storage.store import open_store


@pytest.mark.parametrize("prefix", ["dir:", "DIR:", ""])
def test_a_directory_is_an_embedded_store(tmp_path: Path, prefix: str) -> None:
    store = open_store(f"{prefix}{tmp_path}/new/store")
    assert isinstance(store, EmbeddedStore)
    assert store.get(store.put(b"content"), timeout=0) == b"content"
    assert (tmp_path / "new" / "store" / "content").is_dir()


def test_a_relative_path_is_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("store")
    monkeypatch.chdir("/")
    store.put(b"content")
    assert (tmp_path / "store" / "content").is_dir()


@pytest.mark.parametrize(
    "url",
    [
        "ipfs:/ip4/127.0.0.1/tcp/5001/http",
        "ipfs:/ip4/127.0.0.1/tcp/5001",
        "/ip4/127.0.0.1/tcp/5001/http",
        "/ip6/::1/tcp/5001/http",
        "ipfs:/dns/localhost/tcp/5001/https",
    ],
)
def test_a_multiaddr_is_a_daemon_that_need_not_run(url: str) -> None:
    assert isinstance(open_store(url), IpfsStore)


@pytest.mark.parametrize(
    ("url", "fix"),
    [
        ("", "dir:/path"),
        ("   ", "dir:/path"),
        ("dir:", "dir:/path"),
        ("ipfs:", "ipfs:/ip4/127.0.0.1/tcp/5001/http"),
        ("s3:bucket", "dir:/path"),
        ("http://127.0.0.1:5001", "ipfs:/ip4/127.0.0.1/tcp/5001/http"),
        ("https://ipfs.example:443/api/v0", "ipfs:/dns/ipfs.example/tcp/443/https"),
        ("file:///var/store", "dir:/var/store"),
        ("ipfs:127.0.0.1:5001", "/ip4/127.0.0.1/tcp/5001/http"),
        ("ipfs:/ip4/127.0.0.1/udp/5001", "/ip4/127.0.0.1/tcp/5001/http"),
        ("ipfs:/ip4/127.0.0.1/tcp/99999", "/ip4/127.0.0.1/tcp/5001/http"),
        ("ipfs:/ip4/300.0.0.1/tcp/5001", "/ip4/127.0.0.1/tcp/5001/http"),
        ("ipfs:/ip4/127.0.0.1", "/ip4/127.0.0.1/tcp/5001/http"),
        ("ipfs:/unix/tmp/socket", "/ip4/127.0.0.1/tcp/5001/http"),
    ],
)
def test_a_wrong_setting_is_named_with_its_fix(url: str, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(url)
    assert repr(url.removeprefix("ipfs:")) in str(caught.value) or repr(url) in str(caught.value)
    assert fix in str(caught.value)
