"""What is done to a hub: every scenario, by name."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from tests.chaos.disk import disk
from tests.chaos.namespaces import cable
from tests.chaos.node import Node, node, workers
from tests.chaos.scenario import SECOND, Need, Scale, Scenario, Setting, Told
from tests.chaos.slow import Slow
from tests.chaos.valkey import valkey

__all__ = ["SCENARIOS"]


@asynccontextmanager
async def _nodes(scale: Scale, folder: Path, broker: str) -> AsyncIterator[Sequence[Node]]:
    """Run as many nodes as the scale says."""
    made = [
        node(folder, f"node-{number}", broker, presence_ttl=scale.presence_ttl)
        for number in range(scale.nodes)
    ]
    async with AsyncExitStack() as stack:
        yield await _enter(stack, made)


async def _enter(
    stack: AsyncExitStack, made: Sequence[AbstractAsyncContextManager[Node]]
) -> list[Node]:
    """Start nodes, all at once: a good second of a core each."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(stack.enter_async_context(each)) for each in made]
    return [task.result() for task in tasks]


@asynccontextmanager
async def _node_killed(scale: Scale, folder: Path) -> AsyncIterator[Setting]:
    async with valkey(folder) as broker, _nodes(scale, folder, broker.url) as nodes:
        first = nodes[0]

        async def trouble() -> None:
            first.program.kill()

        yield Setting(nodes=nodes, trouble=trouble, repair=first.start)


@asynccontextmanager
async def _worker_killed(scale: Scale, folder: Path) -> AsyncIterator[Setting]:
    async with workers(folder, scale.nodes, presence_ttl=scale.presence_ttl) as service:

        async def trouble() -> None:
            service.workers()[0].kill()

        async def repair() -> None:
            await service.complete(scale.nodes)

        yield Setting(nodes=[service], trouble=trouble, repair=repair)


@asynccontextmanager
async def _embedded_killed(scale: Scale, folder: Path) -> AsyncIterator[Setting]:
    async with workers(folder, scale.nodes, presence_ttl=scale.presence_ttl) as service:

        async def trouble() -> None:
            service.broker().kill()

        async def repair() -> None:
            await service.complete(scale.nodes)

        yield Setting(nodes=[service], trouble=trouble, repair=repair)


@asynccontextmanager
async def _broker_killed(scale: Scale, folder: Path, *, keeps: bool) -> AsyncIterator[Setting]:
    async with valkey(folder) as broker, _nodes(scale, folder, broker.url) as nodes:

        async def trouble() -> None:
            broker.program.kill()

        async def repair() -> None:
            if not keeps:
                broker.forget()
            await broker.start()

        yield Setting(nodes=nodes, trouble=trouble, repair=repair, cut_off=nodes)


@asynccontextmanager
async def _broker_paused(scale: Scale, folder: Path) -> AsyncIterator[Setting]:
    async with valkey(folder) as broker, _nodes(scale, folder, broker.url) as nodes:

        async def trouble() -> None:
            broker.program.pause()

        async def repair() -> None:
            broker.program.resume()

        yield Setting(nodes=nodes, trouble=trouble, repair=repair, cut_off=nodes)


@asynccontextmanager
async def _cut_off(scale: Scale, folder: Path) -> AsyncIterator[Setting]:
    """All nodes but the last are with the broker, at the near end of a cable."""
    async with AsyncExitStack() as stack:
        wire = stack.enter_context(cable())
        broker = await stack.enter_async_context(valkey(folder, inside=wire.near))
        ends = [*[wire.near] * (scale.nodes - 1), wire.far]
        made = [
            node(
                folder,
                f"node-{number}",
                broker.url,
                presence_ttl=scale.presence_ttl,
                entrance=end.entrance,
            )
            for number, end in enumerate(ends)
        ]
        nodes = await _enter(stack, made)

        async def trouble() -> None:
            wire.cut()

        async def repair() -> None:
            wire.mend()

        yield Setting(nodes=nodes, trouble=trouble, repair=repair, cut_off=nodes[-1:])


@asynccontextmanager
async def _slow_consumers(scale: Scale, folder: Path) -> AsyncIterator[Setting]:
    async with (
        valkey(folder) as broker,
        _nodes(scale, folder, broker.url) as nodes,
        Slow(nodes[0], scale.channels) as slow,
    ):
        setting = Setting(nodes=nodes, trouble=slow.begin, repair=slow.end)
        slow.setting = setting
        yield setting


@asynccontextmanager
async def _disk_full(scale: Scale, folder: Path) -> AsyncIterator[Setting]:
    with disk(folder / "disk") as full:
        data = full.path / "data"
        async with (
            # With appendfsync always, Valkey would end itself: it could not keep its promise.
            valkey(folder, data=data, fsync="everysec") as broker,
            _nodes(scale, folder, broker.url) as nodes,
        ):

            async def trouble() -> None:
                await asyncio.to_thread(full.fill)

            async def repair() -> None:
                full.free()

            yield Setting(nodes=nodes, trouble=trouble, repair=repair, cut_off=nodes)


@asynccontextmanager
async def _sqlite_disk_full(scale: Scale, folder: Path) -> AsyncIterator[Setting]:
    with disk(folder / "disk") as full:
        url = f"sqlite:///{full.path / 'hub.db'}"
        async with node(folder, "node", url, presence_ttl=scale.presence_ttl) as only:

            async def trouble() -> None:
                await asyncio.to_thread(full.fill)

            async def repair() -> None:
                full.free()

            yield Setting(nodes=[only], trouble=trouble, repair=repair, cut_off=[only])


@asynccontextmanager
async def _sqlite_killed(scale: Scale, folder: Path) -> AsyncIterator[Setting]:
    url = f"sqlite:///{folder / 'hub.db'}"
    async with node(folder, "node", url, presence_ttl=scale.presence_ttl) as only:

        async def trouble() -> None:
            only.program.kill()

        yield Setting(nodes=[only], trouble=trouble, repair=only.start)


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="node-killed",
            title="kill -9 of a node",
            setting=_node_killed,
            needs=(Need.VALKEY,),
        ),
        Scenario(
            name="worker-killed",
            title="kill -9 of a worker, replaced by its supervisor",
            setting=_worker_killed,
            needs=(Need.VALKEY,),
        ),
        Scenario(
            name="embedded-killed",
            title="kill -9 of the embedded broker, replaced by its supervisor",
            setting=_embedded_killed,
            needs=(Need.VALKEY,),
        ),
        Scenario(
            name="broker-killed",
            title="kill -9 of the broker, restarted with its data",
            setting=partial(_broker_killed, keeps=True),
            needs=(Need.VALKEY,),
            refuses=True,
        ),
        Scenario(
            name="broker-lost",
            title="kill -9 of the broker, restarted without its data",
            setting=partial(_broker_killed, keeps=False),
            needs=(Need.VALKEY,),
            told=Told.EVERYBODY,
            refuses=True,
        ),
        Scenario(
            name="broker-paused",
            title="the broker paused (SIGSTOP)",
            setting=_broker_paused,
            needs=(Need.VALKEY,),
            refuses=True,
        ),
        Scenario(
            name="cut-off",
            title="a node cut off from the broker",
            setting=_cut_off,
            needs=(Need.VALKEY, Need.NAMESPACES),
            refuses=True,
            connected=True,
        ),
        Scenario(
            name="slow-consumers",
            title="consumers that read slowly, or not at all",
            setting=_slow_consumers,
            needs=(Need.VALKEY,),
            size=16_384,
            connected=True,
            # Who waited for them would wait until they are ended, ten times as long.
            most_delay=3 * SECOND,
        ),
        Scenario(
            name="disk-full",
            title="the broker's disk is full",
            setting=_disk_full,
            needs=(Need.VALKEY, Need.DISK),
            refuses=True,
            connected=True,
        ),
        Scenario(
            name="sqlite-killed",
            title="kill -9 of the only node, on `sqlite:`",
            setting=_sqlite_killed,
            needs=(),
            alone=True,
        ),
        Scenario(
            name="sqlite-disk-full",
            title="the disk is full, on `sqlite:`",
            setting=_sqlite_disk_full,
            needs=(Need.DISK,),
            refuses=True,
            connected=True,
            alone=True,
        ),
    )
}
