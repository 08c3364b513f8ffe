"""Downloads beside the loop that votes: each in a thread of its own, and `ask` never waits.

What a batch still needs may take ten minutes to come, or never come, and other batches have
deadlines. So the loop asks, goes on with what else is due, and asks again on its next pass.
A thread only fetches: it neither reads the chain nor says what a batch is worth.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from marketplace.protocol.errors import (
    CheckpointError,
    ContentCorrupt,
    ContentTooLarge,
    ContentUnavailable,
    StorageError,
    TracemarketError,
)
from marketplace.storage.cid import Cid

FETCH_SECONDS: Final = 600.0
"""For all of a checkpoint."""

PAUSE_SECONDS: Final = 600.0
"""For how long what has been waited for in vain gets a look only, and what was found out holds."""

AT_ONCE: Final = 32
"""Downloads at the same time. One that nobody serves costs a thread and no line."""

OF_ONE: Final = AT_ONCE // 2
"""Of these, of one owner's content: who registers many can't keep others from theirs."""

OF_CONTENT: Final = (ContentUnavailable, ContentCorrupt, ContentTooLarge)
"""What is wrong with content that others had to provide; other errors are this node's own."""


class OnItsWay(TracemarketError):
    """What was asked for may still come: there is nothing to say yet.

    again: asks once more, and raises as the first time or returns.
    """

    again: Callable[[], None]


class InVain(ContentUnavailable):
    """An attempt ended without the content, and no later one has brought it.

    age: seconds since it ended: what was published after that, it can't have found. again: as of
    OnItsWay.
    """

    age: float
    again: Callable[[], None]


Attempt = Callable[[float], object]
"""Fetches within so many seconds, or raises."""


@dataclass(slots=True)
class _Wanted:
    """attempt: one that waits for its turn, or runs. tries: attempts that ended. failure: how the
    last one ended, at `ended`. brief_until: after a long wait in vain, attempts are short."""

    owner: str
    asked: float
    attempt: Attempt | None = None
    running: bool = False
    tries: int = 0
    failure: Exception | None = None
    ended: float = 0.0
    brief_until: float = 0.0


def _in_thread(run: Callable[[], None]) -> None:
    # A daemon: the process ends when its loop does, and what is half there is never believed.
    threading.Thread(target=run, name="fetch", daemon=True).start()


class Fetches:
    """Downloads by CID.

    look: seconds that an attempt after a long one in vain gets. at_once, of_one: how many run,
    and how many of one owner. start: runs an attempt; `inline` in the caller, who then waits.
    """

    def __init__(
        self,
        look: float,
        *,
        at_once: int = AT_ONCE,
        of_one: int = OF_ONE,
        clock: Callable[[], float] = time.monotonic,
        start: Callable[[Callable[[], None]], None] = _in_thread,
    ) -> None:
        self.look = look
        self._at_once = at_once
        self._of_one = of_one
        self._clock = clock
        self._start = start
        self._lock = threading.Lock()
        self._wanted: dict[Cid, _Wanted] = {}

    def ask(self, cid: Cid, owner: str, attempt: Attempt) -> None:
        """Has the content fetched, and says how that stands. Returns where it has just come.

        Raises OnItsWay, InVain (without `again`), CheckpointError where the content can't be used,
        and what is wrong with this node itself: that once, then it is tried again.
        """
        with self._lock:
            now = self._clock()
            one = self._wanted.setdefault(cid, _Wanted(owner, now))
            one.asked = now
            if not one.running:  # the same content may be registered by several
                one.owner = owner
            if one.failure is not None and now - one.ended > PAUSE_SECONDS:
                one.failure = None
            # What can't be used is so for good: its bytes are what the CID names.
            if one.attempt is None and not isinstance(one.failure, CheckpointError):
                one.attempt = attempt
        self._begin()
        with self._lock:
            if self._wanted.get(cid) is not one:
                return
            failure, age = one.failure, self._clock() - one.ended
            if failure is None:
                raise OnItsWay(f"{cid} is on its way")
            if isinstance(failure, OF_CONTENT):
                found = InVain(failure.message, fix=failure.fix)
                found.age = age
                raise found
            if not isinstance(failure, CheckpointError):
                one.failure = None
            raise failure

    def _begin(self) -> None:
        """Starts those whose turn has come."""
        with self._lock:
            begun = self._turns()
        for cid in begun:
            try:
                self._start(partial(self._run, cid))
            except RuntimeError as error:  # this machine has no more threads
                self._ended(cid, StorageError(f"{cid} can't be fetched: {error}"))

    def _turns(self) -> list[Cid]:
        since = self._clock() - PAUSE_SECONDS
        for cid in [cid for cid, one in self._wanted.items() if one.asked < since]:
            if not self._wanted[cid].running:  # nobody wants it any more
                del self._wanted[cid]
        running = Counter(one.owner for one in self._wanted.values() if one.running)
        waiting = {
            cid: one
            for cid, one in self._wanted.items()
            if one.attempt is not None and not one.running
        }
        begun: list[Cid] = []
        while waiting and running.total() < self._at_once:
            # Who has least under way comes first, then what was tried least and asked for first.
            cid = min(waiting, key=lambda cid: (running[waiting[cid].owner], waiting[cid].tries))
            one = waiting.pop(cid)
            if running[one.owner] >= self._of_one:
                break
            one.running = True
            running[one.owner] += 1
            begun.append(cid)
        return begun

    def _run(self, cid: Cid) -> None:
        with self._lock:
            one, began = self._wanted[cid], self._clock()
        assert one.attempt is not None  # its turn has come
        failure: Exception | None = None
        try:
            one.attempt(self.look if began < one.brief_until else FETCH_SECONDS)
        # Whatever it is, the loop hears of it where it asks: a bug must not look like a wait.
        except Exception as error:
            failure = error
        self._ended(cid, failure, began)
        self._begin()

    def _ended(self, cid: Cid, failure: Exception | None, began: float | None = None) -> None:
        """began: when it did, None where it could not."""
        with self._lock:
            one, now = self._wanted[cid], self._clock()
            one.running, one.attempt, one.tries = False, None, one.tries + 1
            one.failure, one.ended = failure, now
            if failure is None:
                del self._wanted[cid]
            elif isinstance(failure, OF_CONTENT) and began is not None and now - began > self.look:
                one.brief_until = now + PAUSE_SECONDS


def inline(run: Callable[[], None]) -> None:
    """For who wants to wait: the attempt runs where it was asked for."""
    run()
