"""The hub that chaos happens to: `hubbub run tests.chaos.app:hub`, with `HUBBUB_BROKER`."""

import os
from collections import Counter

from hubbub import Client, Hub, Limits

__all__ = ["PRESENCE_TTL_VARIABLE", "hub"]

PRESENCE_TTL_VARIABLE = "HUBBUB_CHAOS_PRESENCE_TTL"
"""Environment variable with the seconds after which presence ends that no node prolongs."""

# Whoever reads slowly is to be ended for what waits for it, not for how long it waits or for a pong
# that does not come; and soon.
hub = Hub(
    presence_ttl=float(os.environ.get(PRESENCE_TTL_VARIABLE, "60")),
    limits=Limits(backlog=1 << 17, write_timeout=110),
    ping_interval=120,
    pong_timeout=60,
)

# Of `hubbub verify`; and those of the SDKs, which count on their own.
for pattern in ("verify:{n:int}", "sdk:{n:int}"):
    hub.channel(pattern, history=10_000, ttl=600, presence=True, publish="anyone")

_endings: Counter[str] = Counter()


@hub.on_disconnect
def count_ending(client: Client, code: int) -> None:
    """Keep by which code sessions of this node have ended."""
    _endings[str(code)] += 1


@hub.rpc("endings")
def endings(client: Client) -> dict[str, int]:
    """Tell how many sessions of this node have ended, by code."""
    return dict(_endings)
