"""What a client that comes back gets: all that it missed, or an honest no (client protocol §10)."""

from collections.abc import Sequence

from hubbub.model import History, Position, Publication

__all__ = ["follow", "recover_newest", "recover_stream"]


def recover_stream(since: Position, read: History) -> tuple[Publication, ...] | None:
    """Decide whether what was read is all that came after a position.

    Args:
        since: Where the client stands; an empty epoch matches any.
        read: What the broker has after it, ascending, up to a limit, and the top of the stream.

    Returns:
        What the client missed, strictly consecutive; `None`: not recovered, since something is
        gone, or there is more than the limit.
    """
    top = read.position
    if since.epoch and since.epoch != top.epoch:
        return None
    publications = read.publications
    if not publications:
        return () if since.offset == top.offset else None
    first, last = publications[0], publications[-1]
    if first.offset != since.offset + 1 or last.offset != top.offset:
        return None
    return publications


def recover_newest(since: Position | None, read: History) -> tuple[Publication, ...] | None:
    """Decide what a client gets of a channel of which only the newest publication matters.

    Args:
        since: Where the client stands; `None`: it never had anything.
        read: The newest publication, if there is one, and the top of the stream.

    Returns:
        At most the newest publication; `None`: not recovered, since it is gone.
    """
    top = read.position
    if not read.publications:
        return () if since is not None and since.offset > 0 and since == top else None
    newest = read.publications[-1]
    if newest.offset != top.offset:
        return None
    return () if since == top else (newest,)


def follow(top: Position, buffered: Sequence[Publication]) -> tuple[Publication, ...] | None:
    """Return what was delivered while the stream was read and comes after it.

    Args:
        top: Up to where the client has everything.
        buffered: As delivered; without offset where they were published without history.

    Returns:
        What to deliver next, in order; `None`: something in between is missing.
    """
    following: list[Publication] = []
    offset = top.offset
    for publication in buffered:
        if publication.offset:
            if publication.epoch != top.epoch or publication.offset > offset + 1:
                return None
            if publication.offset <= offset:
                continue
            offset = publication.offset
        following.append(publication)
    return tuple(following)
