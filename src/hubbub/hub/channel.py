"""Channels as they are declared: a pattern, a type, options, hooks."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from hubbub.hub.hooks import Hook
from hubbub.hub.patterns import Pattern
from hubbub.hub.payloads import Payloads
from hubbub.model import ChannelOptions, Publication

__all__ = ["Channel"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Channel(Generic[T]):
    """All channels of one pattern, as `Hub.channel` returns it.

    Attributes:
        pattern: What their names are like.
        options: How they behave.
        payloads: What they carry.
    """

    def __init__(self, pattern: str, type_: Any, options: ChannelOptions) -> None:
        self.pattern = Pattern(pattern)
        self.payloads: Payloads[T] = Payloads(type_)
        self.options = options
        self.subscribe_hook: Hook | None = None
        self.publish_hook: Hook | None = None
        self.unsubscribe_hook: Hook | None = None
        self._overridden: dict[frozenset[tuple[str, bool]], ChannelOptions] = {}

    def __repr__(self) -> str:
        return f"<Channel {self.pattern.text!r}>"

    def on_subscribe(self, function: F) -> F:
        """Register the function that decides who may subscribe.

        It is called with the client, and by keyword with what it names of `channel` and the
        parameters of the pattern. It may return a `Grant`; it refuses by raising
        `PermissionDenied` or another `CommandError`. Not called for a client with a subscription
        token, which decides by itself, and for subscriptions that the server makes.
        """
        self.subscribe_hook = Hook(function, {"channel", *self.pattern.parameters})
        return function

    def on_publish(self, function: F) -> F:
        """Register the function that decides what clients may publish.

        It is called with the client, and by keyword with what it names of `message`, `channel`
        and the parameters of the pattern. What it returns is published instead of the message;
        `None` lets it pass as it is. It refuses by raising a `CommandError`. Not called for what
        the server publishes.
        """
        self.publish_hook = Hook(function, {"message", "channel", *self.pattern.parameters})
        return function

    def on_unsubscribe(self, function: F) -> F:
        """Register a function that is told when a subscription has ended.

        It is called with the client, and by keyword with what it names of `code`, `reason`
        (`hubbub.errors.UnsubscribeCode`), `channel` and the parameters of the pattern.
        """
        self.unsubscribe_hook = Hook(
            function, {"code", "reason", "channel", *self.pattern.parameters}
        )
        return function

    def decode(self, publication: Publication) -> T:
        """Make a value of a publication's payload.

        Raises:
            InvalidMessage: It does not fit the type; only if something else published it.
        """
        return self.payloads.decode(publication.data)

    def overridden(self, override: Mapping[str, bool]) -> ChannelOptions:
        """Return the options with what a subscription's grant says differently."""
        if not override:
            return self.options
        key = frozenset(override.items())
        options = self._overridden.get(key)
        if options is None:
            options = _override(self.options, override)
            # Bounded by the flags there are: five, each true, false or absent.
            self._overridden[key] = options
        return options


def _override(options: ChannelOptions, override: Mapping[str, bool]) -> ChannelOptions:
    changes: dict[str, Any] = {}
    if "presence" in override:
        changes["presence"] = override["presence"]
    if "join_leave" in override:
        changes["join_leave"] = (options.join_leave or "asked") if override["join_leave"] else False
    pushed = override.get("force_push_join_leave")
    if pushed is not None and changes.get("join_leave", options.join_leave):
        changes["join_leave"] = True if pushed else "asked"
    if options.history:
        recovery = override.get("force_recovery")
        if recovery is not None and options.recovers != "cache":
            changes["recovery"] = True if recovery else "asked"
        positioning = override.get("force_positioning")
        if positioning is not None:
            changes["positioning"] = True if positioning else "asked"
    return dataclasses.replace(options, **changes)
