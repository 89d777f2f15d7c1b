"""Who is on this node: sessions by id and by user, groups by channel."""

from collections.abc import Callable, Iterator
from typing import Any

from hubbub.hub.channel import Channel
from hubbub.hub.group import Group
from hubbub.hub.session import Session

__all__ = ["Registry"]


class Registry:
    """Books of a node. Nothing in it outlives what it is about.

    Args:
        make_group: Makes the group of a channel that gets its first subscriber.

    Attributes:
        sessions: Connected ones, by id.
        groups: Of channels with subscribers, by channel.
        connections: Sessions that have not ended, connected or not.
    """

    def __init__(self, make_group: Callable[[str, Channel[Any]], Group]) -> None:
        self._make_group = make_group
        self.connections: dict[Session, None] = {}
        self.sessions: dict[str, Session] = {}
        self.groups: dict[str, Group] = {}
        self._by_user: dict[str, dict[Session, None]] = {}

    def enter(self, session: Session) -> None:
        """Enter a session that knows who it is."""
        self.sessions[session.id] = session
        self._by_user.setdefault(session.info.user, {})[session] = None

    def leave(self, session: Session) -> None:
        """Remove a session that was entered; it may have a connection still. Idempotent."""
        if self.sessions.pop(session.id, None) is None:
            return
        user = session.info.user
        of_user = self._by_user[user]
        del of_user[session]
        if not of_user:
            del self._by_user[user]

    @property
    def users(self) -> int:
        """How many distinct users there are; all anonymous sessions together are one."""
        return len(self._by_user)

    def of_user(self, user: str) -> int:
        """Count the sessions of a user."""
        return len(self._by_user.get(user, ()))

    def find(self, user: str | None = None, client: str | None = None) -> Iterator[Session]:
        """Find sessions: all of a user, the one with an id, or both; of everybody without."""
        if client is not None:
            session = self.sessions.get(client)
            found = [] if session is None else [session]
            return (each for each in found if user is None or each.info.user == user)
        if user is not None:
            return iter(list(self._by_user.get(user, ())))
        return iter(list(self.sessions.values()))

    def group(self, channel: str, declaration: Channel[Any]) -> Group:
        """Return the group of a channel, a new one if there is none."""
        group = self.groups.get(channel)
        if group is None:
            group = self.groups[channel] = self._make_group(channel, declaration)
        return group
