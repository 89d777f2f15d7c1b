"""Frames that go straight to the sockets of those who keep up: none is torn, lost or in clear."""

import asyncio
import random
import ssl

import trustme
from websockets.asyncio.client import connect

from hubbub import Hub, Limits, serve
from hubbub.hub.fanout import FLUSH_INTERVAL
from hubbub.protocol import json
from hubbub.protocol.commands import Command, ConnectRequest, PublishRequest, SubscribeRequest
from hubbub.protocol.replies import Reply
from hubbub.protocol.results import PublishResult
from tests.hub.raw import Dialect, address, command, connected, raw, value
from tests.hub.stalled import StalledClient
from tests.server.wire import until

HOST = "127.0.0.1"


async def test_socket_that_is_full_gets_the_rest_of_its_frame_later() -> None:
    """Three times: frames go to the socket, to the backlog, and straight to the socket again."""
    hub = Hub(limits=Limits(backlog=1 << 26))
    hub.channel("room")
    any_size = random.Random(42)  # so that the socket is full at any byte of a frame
    async with (
        serve(hub, HOST, 0) as server,
        connected(server) as reader,
        StalledClient(server) as stalled,
    ):
        await stalled.send(ConnectRequest(), SubscribeRequest(channel="room"))
        replies = await stalled.read()
        while len(replies) < 2:
            replies += await stalled.read()
        await reader.subscribe("room")
        (outbox,) = (
            each.outbox
            for each in hub._node.registry.sessions.values()
            if each.outbox.remote_address == stalled.socket.getsockname()
        )
        number = 0
        for _ in range(3):
            assert outbox.descriptor >= 0
            first = number
            while not outbox.waiting:
                await hub.publish("room", [number, "x" * any_size.randrange(60_000)])
                number += 1
                assert await reader.next_values(1)
            assert outbox.descriptor == -1
            seen: list[int] = []
            while len(seen) < number - first:
                seen += [value(reply.push.pub.data)[0] for reply in await stalled.read()]  # type: ignore[union-attr]
            assert seen == list(range(first, number))


async def test_acknowledgement_is_not_written_into_a_frame_that_is_not_whole() -> None:
    """The publisher is a subscriber too, and its socket is full at any byte of its own copy."""
    hub = Hub(limits=Limits(backlog=1 << 26))
    hub.channel("room", publish="anyone")
    any_size = random.Random(7)
    async with serve(hub, HOST, 0) as server, StalledClient(server) as stalled:
        await stalled.send(ConnectRequest(), SubscribeRequest(channel="room"))
        replies = await stalled.read()
        while len(replies) < 2:
            replies += await stalled.read()
        (session,) = hub._node.registry.sessions.values()
        published = 0
        for _ in range(3):
            sent = 0
            while not session.outbox.waiting:
                data = raw("x" * any_size.randrange(60_000))
                await stalled.send(PublishRequest(channel="room", data=data))
                published += 1
                await until(lambda count=published: hub.deliveries == count)  # type: ignore[misc]
                await asyncio.sleep(2 * FLUSH_INTERVAL)  # a quiet channel
                sent += 1
            copies = acknowledged = 0
            while copies < sent or acknowledged < sent:
                for reply in await stalled.read():  # which wants each frame whole
                    copies += reply.push is not None
                    acknowledged += reply.publish is not None
            assert (copies, acknowledged) == (sent, sent)


async def test_what_was_published_is_acknowledged_before_the_connection_ends(
    codec: Dialect,
) -> None:
    hub = Hub()
    hub.channel("room", publish="anyone")
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await client.subscribe("room")
        publish = PublishRequest(channel="room", data=raw(1))
        await client.send(command(8, publish), command(9, ConnectRequest()))

        assert await client.closed() == (3501, "bad request")
        acknowledgement, copy = client.received[-2:]
        assert acknowledgement == Reply(id=8, publish=PublishResult())
        assert copy.push is not None
        assert copy.push.pub is not None


async def test_tls_is_not_bypassed() -> None:
    authority = trustme.CA()
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_tls)
    client_tls = ssl.create_default_context()
    authority.configure_trust(client_tls)
    hub = Hub()
    hub.channel("room")
    async with serve(hub, HOST, 0, ssl=server_tls) as server:
        uri = f"wss://localhost:{address(server)[1]}"
        async with connect(uri, host=HOST, ssl=client_tls) as client:
            for number, request in enumerate((ConnectRequest(), SubscribeRequest(channel="room"))):
                field = "subscribe" if number else "connect"
                await client.send(
                    json.encode_command(Command(id=number + 1, **{field: request}))  # type: ignore[arg-type]
                )
                await client.recv()
            await hub.publish("room", "secret")
            reply = json.decode_replies(await client.recv())[0]

    assert reply.push is not None
    assert reply.push.pub is not None
    assert value(reply.push.pub.data) == "secret"
