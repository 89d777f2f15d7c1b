import asyncio

import pytest

from hubbub import Hub, Limits, Position, PositionLost, Publication, UnknownChannel
from hubbub.brokers.base import Event
from hubbub.hub.listening import Listening
from tests.hub.brokers import LossyBroker, RemoteBroker
from tests.hub.raw import TIMEOUT
from tests.server.wire import until


async def take(publications: Listening, count: int) -> list[bytes]:
    async with asyncio.timeout(TIMEOUT):
        return [(await anext(publications)).data for _ in range(count)]


def make_hub(broker: object = "memory:", **limits: int) -> Hub:
    hub = Hub(broker, limits=Limits(**limits))  # type: ignore[arg-type]  # a broker
    hub.channel("room", history=5)
    hub.channel("plain")
    return hub


@pytest.mark.parametrize("channel", ["room", "plain"])
async def test_listener_gets_what_is_published_from_now_on(channel: str) -> None:
    async with make_hub() as hub:
        await hub.publish(channel, 0)
        async with hub.subscribe(channel) as publications:
            for number in range(1, 8):
                await hub.publish(channel, number)

            assert await take(publications, 7) == [b"%d" % number for number in range(1, 8)]


async def test_listener_waits_for_the_next() -> None:
    async with make_hub() as hub, hub.subscribe("room") as publications:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(take(publications, 1))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task waits"):
                await anext(publications)
            await hub.publish("room", 1)

        assert waiting.result() == [b"1"]


async def test_position_is_that_of_what_was_taken() -> None:
    async with make_hub() as hub:
        first = await hub.publish("room", 1)
        async with hub.subscribe("room") as publications:
            assert publications.position == first

            second = await hub.publish("room", 2)
            await hub.publish("room", "passing", history=False)
            third = await hub.publish("room", 3)
            await take(publications, 1)
            assert publications.position == second
            await take(publications, 1)
            assert publications.position == second
            await take(publications, 1)
            assert publications.position == third
        async with hub.subscribe("plain") as publications:
            assert publications.position is None


async def test_since_brings_what_was_missed_first() -> None:
    async with make_hub() as hub:
        positions = [await hub.publish("room", number) for number in range(1, 6)]
        async with hub.subscribe("room", since=positions[1]) as publications:
            await hub.publish("room", 6)

            assert await take(publications, 4) == [b"3", b"4", b"5", b"6"]
        async with hub.subscribe("room", since=Position("", 1)) as publications:
            assert await take(publications, 5) == [b"2", b"3", b"4", b"5", b"6"]


@pytest.mark.parametrize("since", [Position("", 0), Position("foreign", 6), Position("", 7)])
async def test_since_that_cannot_be_recovered_is_lost(since: Position) -> None:
    async with make_hub() as hub:
        for number in range(1, 7):
            await hub.publish("room", number)
        with pytest.raises(PositionLost, match="is not kept any more"):
            async with hub.subscribe("room", since=since):
                pass

        assert hub.channels() == {}


async def test_since_needs_history() -> None:
    async with make_hub() as hub:
        with pytest.raises(ValueError, match="needs history"):
            hub.subscribe("plain", since=Position())


async def test_unknown_channel_is_refused_at_once() -> None:
    async with make_hub() as hub:
        with pytest.raises(UnknownChannel):
            hub.subscribe("nowhere")


async def test_hub_that_is_not_running_has_no_listeners() -> None:
    with pytest.raises(RuntimeError, match="not running"):
        async with make_hub().subscribe("room"):
            pass


async def test_listener_that_falls_behind_gets_what_came_before_and_is_ended() -> None:
    async with make_hub(in_process=3) as hub, hub.subscribe("room") as publications:
        for number in range(1, 6):
            await hub.publish("room", number)

        assert await take(publications, 3) == [b"1", b"2", b"3"]
        for _ in range(2):
            with pytest.raises(PositionLost, match="in_process=3"):
                await anext(publications)


async def test_listener_that_missed_something_is_ended() -> None:
    broker = LossyBroker()
    broker.passes = lambda event: not (isinstance(event, Publication) and event.offset == 2)
    async with make_hub(broker) as hub, hub.subscribe("room") as publications:
        for number in range(1, 5):
            await hub.publish("room", number)

        assert await take(publications, 1) == [b"1"]
        with pytest.raises(PositionLost, match="offset 3 came after 1"):
            await anext(publications)


async def test_hub_that_stops_ends_listeners_after_what_waits() -> None:
    async with make_hub() as hub, hub.subscribe("room") as publications:
        await hub.publish("room", 1)
        hub.stop()

        assert [each.data async for each in publications] == [b"1"]


async def test_hub_that_stops_wakes_a_listener() -> None:
    async with make_hub() as hub, hub.subscribe("room") as publications:
        async with asyncio.TaskGroup() as group:

            async def listen() -> list[bytes]:
                return [each.data async for each in publications]

            listening = group.create_task(listen())
            await asyncio.sleep(0)
            hub.stop()

        assert listening.result() == []


async def test_leaving_wakes_who_waits() -> None:
    async with make_hub() as hub:
        async with asyncio.TaskGroup() as group, hub.subscribe("room") as publications:

            async def listen() -> list[bytes]:
                async with asyncio.timeout(TIMEOUT):
                    return [each.data async for each in publications]

            listening = group.create_task(listen())
            await asyncio.sleep(0)

        assert listening.result() == []


async def test_cancelled_wait_loses_nothing() -> None:
    async with make_hub() as hub, hub.subscribe("room") as publications:
        waiting = asyncio.ensure_future(anext(publications))
        await asyncio.sleep(0)
        await hub.publish("room", 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

        assert await take(publications, 1) == [b"1"]


async def test_publication_while_entering_is_neither_missed_nor_repeated() -> None:
    broker = RemoteBroker()
    async with make_hub(broker) as hub:
        start = await hub.publish("room", 1)
        broker.hold("history")
        listening = hub.subscribe("room", since=Position(start.epoch, 0))
        async with asyncio.TaskGroup() as group:
            entering = group.create_task(listening.__aenter__())
            await broker.entered("history")
            await hub.publish("room", 2)
            await hub.publish("room", "passing", history=False)
            broker.release("history")
        publications = entering.result()
        await hub.publish("room", 3)

        assert await take(publications, 4) == [b"1", b"2", b'"passing"', b"3"]
        await listening.__aexit__(None, None, None)
        await until(lambda: not hub.channels())


async def test_gap_while_entering_is_lost() -> None:
    broker = RemoteBroker()
    async with make_hub(broker) as hub:
        broker.hold("history")
        listening = hub.subscribe("room")

        async def enter() -> None:
            with pytest.raises(PositionLost, match="does not follow"):
                await listening.__aenter__()

        async with asyncio.TaskGroup() as group:
            group.create_task(enter())
            await broker.entered("history")
            broker.memory.passes = lambda event: False
            await hub.publish("room", 1)
            broker.memory.passes = lambda event: True
            await hub.publish("room", 2)
            broker.release("history")

        assert hub.channels() == {}


async def test_listener_that_read_ahead_of_the_delivery_gets_nothing_twice() -> None:
    broker, late = RemoteBroker(), list[Event]()

    def keep(event: Event) -> bool:
        late.append(event)
        return False

    async with make_hub(broker) as hub, hub.subscribe("room"):
        broker.memory.passes = keep
        start = await hub.publish("room", 1)
        async with hub.subscribe("room", since=Position(start.epoch, 0)) as publications:
            receiver = broker.memory.receiver
            assert receiver is not None
            broker.memory.passes = lambda event: True
            for event in late:
                receiver.deliver("room", event)
            await hub.publish("room", 2)

            assert await take(publications, 2) == [b"1", b"2"]
