"""Subscribers of one channel that get the same bytes, and the loop that writes to them (ADR 0012).

A frame goes straight to the socket of everybody who keeps up. The transport's own `write` does the
same with some more memory to touch for each subscriber; at 1,000 of them, with nothing of it in the
processor's cache, that is a seventh of what a delivery costs.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from hubbub.hub.wires import Wire
from hubbub.model import Join, Leave, Publication
from hubbub.protocol.commands import FilterNode
from hubbub.protocol.tags import TagsFilter

if TYPE_CHECKING:
    from hubbub.hub.outbox import Changes, Outbox
    from hubbub.hub.subscription import Subscription

__all__ = ["Event", "Lane", "Variant"]

Event = Publication | Join | Leave

logger = logging.getLogger("hubbub.hub")


class Variant(NamedTuple):
    """What makes subscribers of one channel get different bytes."""

    wire: Wire
    delta: bool
    events: bool
    tags: FilterNode | None


class Lane:
    """Subscribers that get the same bytes.

    Args:
        variant: What they have in common.
        passes: Whether tags pass their filter; `None`: there is none.
        changes: Of all outboxes of the node.

    Attributes:
        members: By outbox.
        fresh: With delta on: those that have nothing yet that a patch could be of.
    """

    __slots__ = (
        "_changes",
        "_counted",
        "_descriptors",
        "_direct",
        "_others",
        "_passes",
        "fresh",
        "members",
        "variant",
    )

    def __init__(
        self,
        variant: Variant,
        passes: TagsFilter | None,
        changes: Changes,
    ) -> None:
        self.variant = variant
        self.members: dict[Outbox, Subscription] = {}
        self.fresh: dict[Outbox, Subscription] = {}
        self._passes = passes
        self._changes = changes
        self._counted = -1
        # The members in lists, kept while nothing changes. The loop goes over the descriptors
        # alone, and touches no outbox.
        self._direct: list[Outbox] = []
        self._descriptors: list[int] = []
        self._others: list[Outbox] = []

    def changed(self) -> None:
        """Take note that there are other members."""
        self._counted = -1

    def wants(self, event: Event) -> bool:
        """Whether the members get what happened."""
        if not isinstance(event, Publication):
            return self.variant.events
        return self._passes is None or self._passes(event.tags)

    def write(self, frame: bytes) -> None:
        """Write a frame to all members."""
        # Anew for each frame: the last one may have been one too many for somebody.
        if self._counted != self._changes.count:
            self._sort()
        # No line of Python for each socket: between system calls that is dearer than it looks.
        descriptors, taken = iter(self._descriptors), list[int]()
        while len(taken) < len(self._descriptors):
            try:
                taken.extend(map(os.write, descriptors, itertools.repeat(frame)))
            except OSError:  # behind those before, which it has kept
                taken.append(0)  # full, or gone: the transport will find out
        size = len(frame)
        if taken.count(size) < len(taken):
            for outbox, count in zip(self._direct, taken, strict=True):
                if count < size:
                    outbox.write(frame[count:])
        _write(self._others, frame)

    def write_fresh(self, frame: bytes) -> None:
        """Write a frame to those who have got nothing yet."""
        _write(self.fresh, frame)

    def _sort(self) -> None:
        self._counted = self._changes.count
        self._direct = [outbox for outbox in self.members if outbox.descriptor >= 0]
        self._descriptors = [outbox.descriptor for outbox in self._direct]
        self._others = [outbox for outbox in self.members if outbox.descriptor < 0]


def _write(outboxes: Iterable[Outbox], frame: bytes) -> None:
    for outbox in outboxes:
        try:
            outbox.write(frame)
        except Exception:
            # No transport should; but one that does must not cost the others anything.
            logger.exception("a write failed")
