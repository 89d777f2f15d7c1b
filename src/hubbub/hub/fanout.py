"""When what happened in a channel is written: at once if it was quiet, else paced (ADR 0012).

Whatever is published in between becomes one frame and one write per subscriber: above some
hundred publications a second in a channel the cost of a delivery falls with the rate.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import Sequence
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from hubbub.hub.group import Group

if TYPE_CHECKING:
    from hubbub.hub.session import Session

__all__ = ["FLUSH_INTERVAL", "MAX_FLUSH_INTERVAL", "Fanout"]

FLUSH_INTERVAL = 0.002
"""Seconds between two flushes of a channel in which there is always something to send."""

MAX_FLUSH_INTERVAL = 0.01
"""The same where a flush takes longer: as long as the flush took, up to this."""

MANY = 64
"""Subscribers from which on a channel is large: how long its flushes take is measured."""


logger = logging.getLogger("hubbub.hub")


class Fanout:
    """Flushes groups that have something pending."""

    __slots__ = ("_busy", "_holding", "_later", "_number", "_quiet", "_soon")

    def __init__(self) -> None:
        # Groups to flush in the loop's next turn, and those that must wait: with when it ends.
        self._quiet: list[Group] = []
        self._holding: list[Session] = []
        self._soon: asyncio.Handle | None = None
        self._busy: list[tuple[float, int, Group]] = []
        self._later: asyncio.TimerHandle | None = None
        self._number = itertools.count()  # groups do not compare

    def mark(self, group: Group) -> None:
        """Have a group flushed soon."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now >= group.rests_until:
            self._quiet.append(group)
            if self._soon is None:
                self._soon = loop.call_soon(self._flush_quiet)
        else:
            heapq.heappush(self._busy, (group.rests_until, next(self._number), group))
            if self._busy[0][2] is group:
                self._set_later(loop)

    def hold(self, session: Session) -> None:
        """Have a session release what it holds in the loop's next turn, before all flushes."""
        self._holding.append(session)
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._flush_quiet)

    def flush(self) -> None:
        """Write everything that is pending, now."""
        for handle in (self._soon, self._later):
            if handle is not None:
                handle.cancel()
        self._later = None
        if self._quiet or self._busy or self._holding:
            busy, self._busy = self._busy, []
            self._quiet += [group for _, _, group in busy]
            self._flush_quiet()
        self._soon = None

    def _flush_quiet(self) -> None:
        self._soon = None
        groups, self._quiet = self._quiet, []
        sessions, self._holding = self._holding, []
        for session in sessions:
            session.release()
        if groups:
            self._flush(groups)

    def _flush_busy(self) -> None:
        self._later = None
        loop = asyncio.get_running_loop()
        # uvloop's clock counts milliseconds: what is due within one is due.
        now = loop.time() + 0.001
        groups: list[Group] = []
        while self._busy and self._busy[0][0] <= now:
            groups.append(heapq.heappop(self._busy)[2])
        self._set_later(loop)
        self._flush(groups)

    def _set_later(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._busy and self._busy[0][0] < inf:
            self._later = loop.call_at(self._busy[0][0], self._flush_busy)

    def _flush(self, groups: Sequence[Group]) -> None:
        loop = asyncio.get_running_loop()
        began = monotonic()
        subscribers = sum(len(group.subscribers) for group in groups)
        # Some transports write at the end of this turn (TLS), and what comes in is marked before
        # anything else happens in the next: until it is known what this took, they just wait.
        rests_until = loop.time() + FLUSH_INTERVAL if subscribers < MANY else inf
        for group in groups:
            try:
                group.flush()
            except Exception:
                # Whatever it is, other channels have no part in it.
                logger.exception("a flush of %r failed", group.channel)
            group.rests_until = rests_until
        if subscribers >= MANY:
            loop.call_soon(self._rest, groups, began)

    def _rest(self, groups: Sequence[Group], began: float) -> None:
        """Let groups rest for as long as their flush took: half of the time is for all else."""
        loop = asyncio.get_running_loop()
        pause = min(max(monotonic() - began, FLUSH_INTERVAL), MAX_FLUSH_INTERVAL)
        rests_until = loop.time() + pause
        for group in groups:
            group.rests_until = rests_until
        if self._busy:
            self._busy = [(group.rests_until, number, group) for _, number, group in self._busy]
            heapq.heapify(self._busy)
            self._set_later(loop)
