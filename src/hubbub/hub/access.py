"""Who may do what, where no hook and no token decides (client protocol §14)."""

from hubbub.errors import CommandError, ErrorCode, PermissionDenied
from hubbub.model import Access

__all__ = ["check_name", "is_listed", "permit"]


def check_name(channel: str, max_length: int, *, unicode: bool) -> None:
    """Refuse names that no channel may have.

    Raises:
        CommandError: 107; the message names the limit.
    """
    if not channel.isascii():
        if not unicode:
            raise _bad_name("channel name must be ASCII")
        length = len(channel.encode(errors="replace"))
    else:
        length = len(channel)
    if length > max_length:
        raise _bad_name(f"channel name has {length} bytes, over channel_length={max_length}")


def permit(access: Access, user: str, *, subscribed: bool) -> None:
    """Let pass whom an option of a channel lets pass.

    Raises:
        PermissionDenied: It does not.
    """
    if (
        access == "anyone"
        or (access == "users" and user)
        or (access == "subscribers" and subscribed)
    ):
        return
    raise PermissionDenied


def is_listed(channel: str, user: str) -> bool:
    """Tell whether a user is among those after the last `#` of a channel's name."""
    _, mark, users = channel.rpartition("#")
    return bool(mark and user) and user in users.split(",")


def _bad_name(problem: str) -> CommandError:
    return CommandError(ErrorCode.BAD_REQUEST, f"bad request: {problem}")
