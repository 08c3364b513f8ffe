"""A content store on an IPFS daemon (Kubo, or anything with its RPC API).

`ipfshttpclient` adds and asks about pins. Content itself is read straight from the API's
`cat`, because that client reads some answers in one piece: reading here stops at the byte
limit and at the deadline whatever the daemon sends.

The daemon is not trusted: what it returns is hashed again (UnixFS, as `ipfs add
--cid-version=1` lays it out) and must give the CID that was asked for. Content that
somebody added with another chunk size or layout therefore counts as corrupt, for every
reader alike.

Source: https://docs.ipfs.tech/reference/kubo/rpc/ (add, cat, pin/ls).
"""

from __future__ import annotations

import contextlib
import io
import json
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import IO, Final
from urllib.parse import urlencode

import ipfshttpclient  # type: ignore[import-untyped]
import urllib3
from ipfshttpclient.exceptions import ErrorResponse  # type: ignore[import-untyped]
from ipfshttpclient.http_common import (  # type: ignore[import-untyped]
    multiaddr_to_url_data,
)

from marketplace.protocol.errors import ConfigError, ContentUnavailable, StorageError
from marketplace.storage.cid import Cid
from marketplace.storage.store import (
    POLL_SECONDS,
    OnBytes,
    StrPath,
    counted,
    read_verified,
    reading,
    write_verified,
)
from marketplace.storage.unixfs import CHUNK_BYTES, WIDTH, cid_of_bytes, cid_of_file

# ipfshttpclient 0.7.0 passes urllib3 an option that did nothing even then.
warnings.filterwarnings("ignore", message="The 'strict' parameter", category=FutureWarning)

CONNECT_SECONDS: Final = 5.0
"""For the TCP connection to the daemon."""

QUICK_SECONDS: Final = 5.0
"""For a question that the daemon answers from its own records."""

ADD_SECONDS: Final = 600.0
"""For the daemon to take and store what it was sent."""

GRACE_SECONDS: Final = 0.5
"""The least time a read gets, and how much later than the daemon we give up."""

_UPLOAD_BYTES: Final = 1 << 20
_READ_BYTES: Final = 1 << 18

# Written out, so that a daemon configured for other CIDs still gives ours. A daemon that
# does not know an option ignores it.
_ADD_OPTIONS: Final = {
    "hash": "sha2-256",
    "max-file-links": WIDTH,
    "inline": "false",
    "cid-base": "base32",
}
_DOWN_FIX: Final = (
    'start it with "ipfs daemon", or set the store to the address it prints as "RPC API server"'
)


class IpfsStore:
    """ContentStore (see there) on the daemon whose API has the multiaddr `address`.

    `put` pins what it adds. `has` is True for what this daemon pins, that is for content
    that is here completely and stays. A `get` with timeout 0 takes GRACE_SECONDS.

    add_seconds: limit for storing. clock, wait: monotonic seconds, and sleeping for some.
    Raises ConfigError if `address` is no such multiaddr. Does not talk to the daemon yet.
    """

    def __init__(
        self,
        address: str,
        *,
        add_seconds: float = ADD_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._address = address
        self._url = _api_url(address)
        # Client() and not connect(): that refuses every daemon since Kubo 0.8.
        self._client = ipfshttpclient.Client(address, chunk_size=_UPLOAD_BYTES)
        self._add_seconds = add_seconds
        self._clock = clock
        self._wait = wait

    def __repr__(self) -> str:
        return f"IpfsStore({self._address!r})"

    def put(self, data: bytes) -> Cid:
        """See ContentStore. Pinned. Raises StorageError, ContentUnavailable (daemon down)."""
        return self._add(io.BytesIO(data), cid_of_bytes(data))

    def put_file(self, path: StrPath) -> Cid:
        """See ContentStore. Pinned. Raises StorageError, ContentUnavailable (daemon down)."""
        with reading(path), Path(path).open("rb") as source:
            return self._add(source, cid_of_file(path))

    def get(self, cid: Cid, *, timeout: float, max_bytes: int | None = None) -> bytes:
        """See ContentStore."""
        with contextlib.closing(self._cat(cid, timeout, max_bytes)) as pieces:
            return read_verified(cid, pieces, source=self._name, max_bytes=max_bytes)

    def get_file(
        self,
        cid: Cid,
        path: StrPath,
        *,
        timeout: float,
        max_bytes: int | None = None,
        on_bytes: OnBytes | None = None,
    ) -> None:
        """See ContentStore."""
        with contextlib.closing(self._cat(cid, timeout, max_bytes)) as pieces:
            counting = counted(pieces, on_bytes)
            write_verified(cid, counting, path, source=self._name, max_bytes=max_bytes)

    def has(self, cid: Cid) -> bool:
        """See ContentStore. Raises ContentUnavailable if the daemon does not answer."""
        with self._calling(f"look up {cid}"):
            try:
                pins = self._client.pin.ls(
                    str(cid), type="recursive", timeout=(CONNECT_SECONDS, QUICK_SECONDS)
                )
            except ErrorResponse as error:
                if "not pinned" in str(error):
                    return False
                raise
            return bool(pins["Keys"])

    @property
    def _name(self) -> str:
        return f"the IPFS daemon at {self._address}"

    def _add(self, source: IO[bytes], expected: Cid) -> Cid:
        with self._calling(f"add {expected}"):
            reply = self._client.add(
                source,
                cid_version=1,
                raw_leaves=True,
                chunker=f"size-{CHUNK_BYTES}",
                pin=True,
                opts=dict(_ADD_OPTIONS),
                timeout=(CONNECT_SECONDS, self._add_seconds),
            )
            added = Cid.parse(reply["Hash"])
        if added != expected:
            raise StorageError(
                f"{self._name} added {added}, and the content is {expected}",
                fix="add a file that nobody changes meanwhile, to a daemon that honours the "
                "options cid-version, raw-leaves, chunker and max-file-links (Kubo 0.35 or later "
                "if its Import settings were changed)",
            )
        return expected

    def _cat(self, cid: Cid, timeout: float, max_bytes: int | None) -> Generator[bytes]:
        """The bytes that the daemon sends for `cid`, unverified, until the deadline.

        Raises ContentUnavailable.
        """
        budget = max(timeout, GRACE_SECONDS)
        deadline = self._clock() + budget
        response = self._open_cat(cid, deadline, budget, max_bytes)
        received = 0
        try:
            while True:
                # read1 returns what one read of the socket gives, so that a daemon that
                # trickles can't hold us beyond the deadline.
                piece = response.read1(_READ_BYTES)
                if not piece:
                    return
                received += len(piece)
                yield piece
                if self._clock() > deadline + GRACE_SECONDS:
                    raise self._too_slow(cid, budget, received)
        except urllib3.exceptions.TimeoutError as error:
            raise self._too_slow(cid, budget, received) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ContentUnavailable(
                f"{self._name} broke off {cid} after {received:,} bytes ({error})",
                fix="try again, or look at the daemon's log",
            ) from error
        finally:
            response.close()

    def _open_cat(
        self, cid: Cid, deadline: float, budget: float, max_bytes: int | None
    ) -> urllib3.BaseHTTPResponse:
        """The answer whose body is the content, asking again until the deadline.

        An offline daemon answers at once that it has not got the content, and may have it
        a moment later.
        """
        fields = {"arg": str(cid)}
        if max_bytes is not None:
            # One byte more shows that there is more; the daemon need not send the rest.
            fields["length"] = str(max_bytes + 1)
        while True:
            remaining = max(deadline - self._clock(), GRACE_SECONDS)
            status, response = self._post_cat(cid, fields, remaining, budget)
            if status == 200:
                return response
            message = _message_of(response)
            remaining = deadline - self._clock()
            if status != 500:
                raise ContentUnavailable(
                    f"{self._name} answered {cid} with status {status}: {message}",
                    fix="give the address of its RPC API (port 5001), not of its gateway",
                )
            if remaining <= 0:
                raise ContentUnavailable(
                    f"{self._name} found nobody who has {cid} within {budget:g} s ({message})",
                    fix="check that the publisher's daemon is online, or wait longer",
                )
            self._wait(min(POLL_SECONDS, remaining))

    def _post_cat(
        self, cid: Cid, fields: dict[str, str], remaining: float, budget: float
    ) -> tuple[int, urllib3.BaseHTTPResponse]:
        # A daemon ends idle connections when it likes, so none is used twice.
        http = urllib3.PoolManager(retries=False)
        try:
            response = http.request(
                "POST",
                # The daemon is told the deadline too: it then ends the search by itself.
                f"{self._url}cat?{urlencode({**fields, 'timeout': f'{remaining:.3f}s'})}",
                preload_content=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=remaining + GRACE_SECONDS),
            )
        except urllib3.exceptions.ConnectTimeoutError as error:
            raise self._down(f"connect in {CONNECT_SECONDS:g} s") from error
        except urllib3.exceptions.NewConnectionError as error:
            raise self._down(f"connect ({error})") from error
        except urllib3.exceptions.TimeoutError as error:
            raise self._too_slow(cid, budget, 0) from error
        except urllib3.exceptions.HTTPError as error:
            raise self._down(f"speak HTTP ({error})") from error
        return response.status, response

    @contextlib.contextmanager
    def _calling(self, what: str) -> Iterator[None]:
        """Within it the client's errors become ours. what: "add bafk..." and the like."""
        try:
            yield
        except ipfshttpclient.exceptions.TimeoutError as error:
            raise self._down(f"{what} in time") from error
        except ipfshttpclient.exceptions.ConnectionError as error:
            raise self._down(f"connect ({error})") from error
        # The client lets through what happens while it reads an answer's body.
        except OSError as error:
            raise self._down(f"{what} ({error})") from error
        except ipfshttpclient.exceptions.Error as error:
            raise StorageError(
                f"{self._name} could not {what}: {error}", fix="look at the daemon's log"
            ) from error
        # What the client and we ourselves raise for an answer of another shape.
        except (AssertionError, LookupError, TypeError, ValueError) as error:
            raise StorageError(
                f"{self._name} was asked to {what} and gave an answer that makes no sense "
                f"({type(error).__name__}: {error})",
                fix="give the address of an IPFS RPC API (port 5001)",
            ) from error

    def _down(self, what: str) -> ContentUnavailable:
        return ContentUnavailable(f"{self._name} does not {what}", fix=_DOWN_FIX)

    def _too_slow(self, cid: Cid, budget: float, received: int) -> ContentUnavailable:
        return ContentUnavailable(
            f"{self._name} did not deliver {cid} within {budget:g} s "
            f"(timeout, {received:,} bytes received)",
            fix="check that the publisher's daemon is online, or wait longer",
        )


def _api_url(address: str) -> str:
    """The URL of the RPC API, with a slash at the end. Raises ConfigError."""
    try:
        url, socket_path, _, _ = multiaddr_to_url_data(address, "api/v0")
    # AddressError, and whatever multiaddr raises for its parts.
    except Exception as error:
        raise _bad_address(address) from error
    if socket_path is not None:
        raise _bad_address(address)
    return str(url)


def _bad_address(address: str) -> ConfigError:
    return ConfigError(
        f"{address!r} is not the API address of an IPFS daemon",
        fix='write it as a multiaddr, such as "/ip4/127.0.0.1/tcp/5001/http"',
    )


def _message_of(response: urllib3.BaseHTTPResponse) -> str:
    """What the daemon says is wrong: the Message of its JSON, or the beginning of the text."""
    try:
        body = response.read(4096)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        return f"unreadable: {error}"
    finally:
        response.close()
    try:
        return str(json.loads(body)["Message"])
    except (ValueError, LookupError, TypeError):
        return body.decode("utf-8", "replace").strip()[:200] or "no message"
