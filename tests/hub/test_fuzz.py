"""Whatever a client sends, in whatever state, its session ends or goes on, and no other is touched.

Arbitrary bytes and damaged frames, in both formats, before connect, connected and subscribed: they
end in 3501, 3500 (where what was damaged is a token) or 1009, in replies or in nothing; never in
an error in the log or in error 100; and clients that are connected all along, one of each format,
get and understand everything that is published.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubbub import Client, Hub, serve
from hubbub.protocol.commands import (
    Command,
    ConnectRequest,
    PublishRequest,
    SubscribeRequest,
)
from hubbub.protocol.values import payload
from hubbub.server import Server
from tests.hub.raw import CODECS, TIMEOUT, Dialect, RawClient, command, value
from tests.protocol.strategies import binary, damaged, json_texts, messages
from tests.server.wire import until

HOST = "127.0.0.1"

MOST = 65_536

STATES: dict[str, list[Command]] = {
    "before connect": [],
    "connected": [command(1, ConnectRequest())],
    "subscribed": [
        command(1, ConnectRequest()),
        command(2, SubscribeRequest(channel="room", delta="fossil", join_leave=True)),
        command(3, SubscribeRequest(channel="typed")),
    ],
}

ENDS = {1000, 1009, 3500, 3501}


class Message(msgspec.Struct):
    text: str
    number: int = 0


def make_hub() -> Hub:
    hub = Hub()
    everything: Any = {
        "history": 20,
        "presence": True,
        "join_leave": "asked",
        "delta": True,
        "tags_filter": True,
        "publish": "anyone",
        "read_history": "anyone",
        "read_presence": "anyone",
    }
    hub.channel("typed", Message, **everything)
    hub.channel("{name:path}", unicode=True, **everything)
    hub.on_message(lambda client, message: None)

    @hub.rpc("method")
    def method(client: Client, parameters: Message) -> Message:
        return parameters

    return hub


CHANNELS = st.sampled_from(["room", "typed", "$room", "other"])


@st.composite
def aimed(draw: st.DrawFn, commands: st.SearchStrategy[Command]) -> Command:
    """Commands, most of them about channels and methods that exist."""
    made = draw(commands)
    changes: dict[str, Any] = {}
    for name in made.__struct_fields__:
        request = getattr(made, name)
        if hasattr(request, "channel") and draw(st.integers(0, 9)):
            changes[name] = msgspec.structs.replace(request, channel=draw(CHANNELS))
        elif hasattr(request, "method") and draw(st.booleans()):
            changes[name] = msgspec.structs.replace(request, method="method")
    return msgspec.structs.replace(made, **changes)


def frames(codec: Dialect) -> st.SearchStrategy[bytes]:
    payloads = json_texts() | st.just(b'{"text":"hi"}')
    if codec.BINARY:
        payloads |= binary | st.sampled_from([b'{"text":\n"hi"}', b'{"text":"","more":"\xff"}'])
    # What clients publish is what others get to see.
    publish = st.builds(PublishRequest, channel=CHANNELS, data=payloads.map(payload))
    published = publish.map(lambda request: command(4, request))
    commands = aimed(messages(Command, payloads)) | published
    encoded = commands.map(codec.encode_command)
    valid = st.lists(encoded, min_size=1, max_size=4).map(codec.join)
    large = st.binary(min_size=1, max_size=8).map(lambda part: (part * MOST)[: MOST + 1])
    return st.one_of(valid, damaged(valid), damaged(valid), st.binary(max_size=64), large)


async def end(client: RawClient) -> int:
    """Close from this side, read everything, and return the code of the end."""
    await client.socket.close()
    return (await client.closed())[0]


async def attack(server: Server, codec: Dialect, before: list[Command], sent: list[bytes]) -> None:
    """Send frames in a state, and look at what comes."""
    async with RawClient(server, codec, max_queue=None) as client:
        if before:
            await client.send(*before)
        for frame in sent:
            await client.send_frame(frame)
        code = await end(client)
    assert code in ENDS
    if any(len(frame) > MOST for frame in sent):
        assert code in ENDS - {1000}
    for reply in client.received:
        assert reply.error is None or reply.error.code != 100, reply


async def get(clients: Iterable[RawClient], sentinel: str) -> None:
    """See that clients are there, and get what is published now behind whatever came before."""
    for client in clients:
        async with asyncio.timeout(TIMEOUT):
            while True:
                push = await client.next_push()
                if push.pub is not None and value(push.pub.data) == sentinel:
                    break
        client.received.clear()


@pytest.mark.parametrize("state", STATES)
def test_no_frame_does_harm(codec: Dialect, state: str) -> None:
    hub = make_hub()
    errors: list[dict[str, Any]] = []
    count = 0

    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: errors.append(context))
        server = runner.run(start(hub))
        bystanders = [RawClient(server, each, max_queue=None) for each in CODECS.values()]
        for bystander in bystanders:
            runner.run(join(bystander))

        @given(st.lists(frames(codec), min_size=1, max_size=3))
        @settings(
            max_examples=60,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def check(sent: list[bytes]) -> None:
            nonlocal count
            count += 1
            sentinel = f"sentinel {count}"

            async def run() -> None:
                await attack(server, codec, STATES[state], sent)
                await hub.publish("room", sentinel)
                await get(bystanders, sentinel)

            runner.run(run())
            assert not errors

        try:
            check()
            runner.run(until(lambda: hub.channels() == {"room": 2, "typed": 2}))
            present = runner.run(hub.presence("room"))

            assert set(present) == {each.connection_id for each in bystanders}
            assert len(hub.clients()) == 2
        finally:
            for bystander in bystanders:
                runner.run(bystander.__aexit__(None, None, None))
            runner.run(stop(server))
        assert not errors


async def start(hub: Hub) -> Server:
    return await serve(hub, HOST, 0)


async def stop(server: Server) -> None:
    server.close()
    await server.wait_closed()


async def join(client: RawClient) -> None:
    await client.__aenter__()
    await client.connect()
    await client.subscribe("room")
    await client.subscribe("typed")


# Found by the fuzzer, or by hand while it was written.
@pytest.mark.parametrize(
    ("format_", "frame"),
    [
        # JSON on several lines in one message: it broke the frames of all JSON clients.
        ("protobuf", b"\x10\x08\x01\x3a\x0c\x0a\x04room\x12\x04{\n}\n"),
        # Invalid UTF-8 in a field that the type does not know: it ended all JSON clients.
        ("protobuf", b'\x23\x08\x01\x3a\x1f\x0a\x05typed\x12\x16{"text":"","more":"\xff"}'),
    ],
)
async def test_found_frame_does_no_harm(format_: str, frame: bytes) -> None:
    hub = make_hub()
    async with serve(hub, HOST, 0) as server, RawClient(server) as bystander:
        await bystander.connect()
        await bystander.subscribe("room")
        await bystander.subscribe("typed")
        await attack(server, CODECS[format_], [command(1, ConnectRequest())], [frame])
        await hub.publish("room", "sentinel")
        await get([bystander], "sentinel")
