"""Per-message compression: small in memory, the same for everybody (ADR 0005)."""

from collections.abc import Sequence

from websockets.extensions.base import ServerExtensionFactory
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

__all__ = ["enable_deflate"]


def enable_deflate(
    extensions: Sequence[ServerExtensionFactory] | None,
) -> list[ServerExtensionFactory]:
    """Add permessage-deflate (RFC 7692), unless it is among the extensions already.

    Neither side keeps its context between messages, and windows are 4 KiB: an idle connection
    costs a few hundred bytes more instead of 32 KiB, and one compressed frame can serve many.
    """
    extensions = list(extensions or ())
    if not any(factory.name == ServerPerMessageDeflateFactory.name for factory in extensions):
        extensions.append(
            ServerPerMessageDeflateFactory(
                server_no_context_takeover=True,
                client_no_context_takeover=True,
                server_max_window_bits=12,
                client_max_window_bits=12,
                compress_settings={"memLevel": 5},
            )
        )
    return extensions
