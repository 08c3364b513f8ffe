"""Content addresses: text in and out, the pair on chain, and what is refused."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiformats import CID

from marketplace.protocol.errors import InvalidValue
from marketplace.storage.cid import DAG_PB, RAW, Cid

HELLO = Cid(hashlib.sha256(b"hello world").digest(), RAW)
# What `ipfs add --cid-version=1` prints for a file that holds "hello world".
HELLO_TEXT = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"

cids = st.builds(
    Cid, digest=st.binary(min_size=32, max_size=32), codec=st.sampled_from([RAW, DAG_PB])
)


def test_text_is_what_kubo_prints() -> None:
    assert str(HELLO) == HELLO_TEXT
    assert Cid.parse(HELLO_TEXT) == HELLO


@given(cids)
def test_text_agrees_with_the_multiformats_library(cid: Cid) -> None:
    theirs = CID("base32", 1, cid.codec, ("sha2-256", cid.digest))
    assert str(cid) == str(theirs)
    assert bytes(cid) == bytes(theirs)
    assert len(str(cid)) == 59


@given(cids, st.sampled_from(["base32", "base32upper", "base58btc", "base16", "base64url"]))
def test_any_base_names_the_same_content(cid: Cid, base: str) -> None:
    assert Cid.parse(CID(base, 1, cid.codec, ("sha2-256", cid.digest)).encode()) == cid


def test_a_version_0_cid_becomes_the_same_digest_in_version_1() -> None:
    # The example of https://docs.ipfs.tech/concepts/content-addressing/ in both versions.
    old = Cid.parse("QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR")
    assert str(old) == "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"
    assert old.codec == DAG_PB


@given(cids)
def test_the_pair_on_chain_is_the_whole_address(cid: Cid) -> None:
    assert Cid.from_chain(cid.digest, cid.codec) == cid


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "Qm",
        "hello world",
        HELLO_TEXT[:-1],
        HELLO_TEXT + "a",
        HELLO_TEXT[:-1] + "f",  # its last bits are no part of a byte
        HELLO_TEXT + "\n",
        HELLO_TEXT[1:],
        "é" * 59,
    ],
)
def test_what_is_no_cid_is_named_in_the_error(text: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        Cid.parse(text)
    assert repr(text) in str(caught.value)
    assert "ipfs add --cid-version=1" in str(caught.value)


@pytest.mark.parametrize(
    ("codec", "hash_name", "digest", "named"),
    [
        ("dag-cbor", "sha2-256", bytes(32), "codec 0x71"),
        ("raw", "sha2-512", bytes(64), "hash sha2-512"),
        ("raw", "blake3", bytes(32), "hash blake3"),
    ],
)
def test_other_codecs_and_hashes_are_refused(
    codec: str, hash_name: str, digest: bytes, named: str
) -> None:
    text = str(CID("base32", 1, codec, (hash_name, digest)))
    with pytest.raises(InvalidValue) as caught:
        Cid.parse(text)
    assert text in str(caught.value)
    assert named in str(caught.value)


def test_a_pair_that_names_no_content_is_refused() -> None:
    with pytest.raises(InvalidValue, match="codec 0x71"):
        Cid.from_chain(HELLO.digest, 0x71)
    with pytest.raises(InvalidValue, match="31 bytes"):
        Cid.from_chain(HELLO.digest[1:], RAW)
