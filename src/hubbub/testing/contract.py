"""The contract of brokers, as checks that anybody may run over a broker."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

from hubbub.brokers.base import Broker
from hubbub.clock import Clock
from hubbub.testing.checks import delivery, history, node, presence, repetition
from hubbub.testing.clock import FakeClock
from hubbub.testing.trial import BrokerContractError, BrokerTrial

__all__ = ["BROKER_CHECKS", "Check", "check_broker"]

Check = Callable[[BrokerTrial], Awaitable[None]]
"""Raises `BrokerContractError` if a broker does not do what it guarantees."""

BROKER_CHECKS: Mapping[str, Check] = {
    "offsets": delivery.offsets,
    "delivery": delivery.delivery,
    "without-history": delivery.without_history,
    "concurrent": delivery.concurrent,
    "one-stream": delivery.one_stream,
    "fields": delivery.fields,
    "large-payload": delivery.large_payload,
    "channel-names": delivery.channel_names,
    "subscribe": delivery.subscribe,
    "unsubscribe": delivery.unsubscribe,
    "other-channels": delivery.other_channels,
    "first-read": history.first_read,
    "pages": history.pages,
    "foreign-epoch": history.foreign_epoch,
    "history-size": history.history_size,
    "history-ttl": history.history_ttl,
    "meta-ttl": history.meta_ttl,
    "remove-history": history.remove_history,
    "idempotency": repetition.idempotency,
    "idempotency-without-history": repetition.idempotency_without_history,
    "idempotency-concurrent": repetition.idempotency_concurrent,
    "idempotency-ttl": repetition.idempotency_ttl,
    "versions": repetition.versions,
    "version-epochs": repetition.version_epochs,
    "presence": presence.presence,
    "presence-ttl": presence.presence_ttl,
    "presence-stats": presence.presence_stats,
    "announce": presence.announce,
    "control": node.control,
    "leaving": node.leaving,
    "local": node.local,
}
"""What brokers guarantee, in the order in which it is worth making it work."""


async def check_broker(
    factory: Callable[[Clock], Broker],
    *,
    clock: FakeClock | None = None,
    checks: Collection[str] | None = None,
    timeout: float = 5.0,  # noqa: ASYNC109
    ttl: float = 1.0,
    quiet: float = 0.1,
) -> None:
    """Check that a broker does what brokers guarantee; stop at the first failure.

    The checks use channels with random names, so they may share a store, among themselves and
    with what was there before.

    Args:
        factory: Makes a broker that takes its time from the given clock. All that it makes are
            nodes of one cluster, which share one store; a broker that is `alone` runs alone.
        clock: What tests of expiry advance. `None`: the broker gets the system's clock, and they
            wait. That is for brokers whose time is another's, such as a server's.
        checks: Keys of `BROKER_CHECKS`. `None`: all.
        timeout: Seconds that a delivery may take.
        ttl: Seconds of the TTLs that are waited for without `clock`. They must not have ended
            after 0.6 of it, and must after 1.3: make it longer for a broker that is slow or
            counts in whole seconds.
        quiet: Seconds to wait for what should not happen; none if the broker is `local`.

    Raises:
        BrokerContractError: The broker does not do what it guarantees, or is not done in time.
        KeyError: There is no such check.
    """
    selected = {name: BROKER_CHECKS[name] for name in BROKER_CHECKS if checks is None}
    selected |= {name: BROKER_CHECKS[name] for name in checks or ()}
    # A check waits for a few deliveries, at most a few TTLs, and some seconds of quiet.
    longest = 10 * (timeout + quiet + (ttl if clock is None else 0.0))
    for name, check in selected.items():
        trial = BrokerTrial(name, factory, clock=clock, timeout=timeout, ttl=ttl, quiet=quiet)
        limit = asyncio.timeout(longest)
        try:
            async with limit:
                await check(trial)
        except BrokerContractError:
            raise
        except Exception as exc:
            if limit.expired():
                raise BrokerContractError(name, f"not done in {longest} s") from exc
            exc.add_note(f"checking the broker: {name}")
            raise
