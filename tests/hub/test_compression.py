import contextlib
import random

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Opcode

from hubbub import Hub, serve
from hubbub.protocol import json, protobuf
from hubbub.protocol.commands import ConnectRequest, SubscribeRequest
from tests.hub.raw import CODECS, Dialect, RawClient, command, connected
from tests.server.wire import Peer, frame, request_head

HOST = "127.0.0.1"

# What clients offer: as browsers do, with context, with smaller and larger windows; and nothing.
OFFERS: list[ClientPerMessageDeflateFactory | None] = [
    None,
    ClientPerMessageDeflateFactory(),
    ClientPerMessageDeflateFactory(client_max_window_bits=True),
    ClientPerMessageDeflateFactory(server_no_context_takeover=True),
    ClientPerMessageDeflateFactory(client_no_context_takeover=True, client_max_window_bits=9),
    ClientPerMessageDeflateFactory(server_max_window_bits=15),
    ClientPerMessageDeflateFactory(server_max_window_bits=12),
    ClientPerMessageDeflateFactory(server_max_window_bits=9),
]


async def test_clients_with_and_without_deflate_get_the_same() -> None:
    hub = Hub()
    hub.channel("room", history=50)
    rng = random.Random(41)
    async with (
        serve(hub, HOST, 0, compression="deflate") as server,
        contextlib.AsyncExitStack() as stack,
    ):
        clients = []
        for codec in CODECS.values():
            for offer in [*OFFERS, *OFFERS]:
                client = RawClient(server, codec, extensions=offer and [offer])
                clients.append(await stack.enter_async_context(client))
                await client.connect()
                await client.subscribe("room")
        compressed = [client for client in clients if client.socket.protocol.extensions]
        assert len(compressed) > len(clients) // 2

        for batch in range(12):
            # Sizes around all thresholds; text that repeats what came before.
            sent = [
                {"batch": batch, "n": n, "text": f"the same over and over {n} " * (batch * n)}
                for n in range(6)
            ]
            # And what was there 6 KB before, which windows of 4 KiB do not reach.
            noise = "".join(rng.choices("0123456789abcdef", k=6000))
            sent[0]["text"] = noise + noise
            for each in sent:
                await hub.publish("room", each)
            for client in clients:
                assert await client.next_values(6) == sent
                # Its own replies come in between, from another encoder.
                await client.sync()


@pytest.mark.parametrize(
    ("offer", "first_byte"),
    [
        ("permessage-deflate", 0xC1),
        ("permessage-deflate; server_max_window_bits=12", 0xC1),
        # Frames for all would look back further than this one can.
        ("permessage-deflate; server_max_window_bits=10", 0x81),
    ],
)
async def test_one_frame_serves_many(offer: str, first_byte: int) -> None:
    hub = Hub()
    hub.channel("room")
    head = request_head(sec_websocket_extensions=offer)
    commands = json.join(
        map(
            json.encode_command,
            [command(1, ConnectRequest()), command(2, SubscribeRequest(channel="room"))],
        )
    )
    async with (
        serve(hub, HOST, 0, compression="deflate") as server,
        await Peer.open(server, head) as first,
        await Peer.open(server, head) as second,
    ):
        peers = (first, second)
        for peer in peers:
            peer.send(frame(Opcode.TEXT, commands))
            for _ in range(2):
                assert (await peer.read_frame())[0] == 0x81
        await hub.publish("room", "x" * 60_000)
        frames = [await peer.read_frame() for peer in peers]

        assert frames[0] == frames[1]
        assert frames[0][0] == first_byte
        assert (len(frames[0][1]) < 1000) == (first_byte == 0xC1)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
async def test_compressed_commands_are_read_and_bounded_once_inflated(codec: Dialect) -> None:
    async with serve(Hub(), HOST, 0, compression="deflate") as server:
        offer = ClientPerMessageDeflateFactory()
        async with RawClient(server, codec, extensions=[offer]) as client:
            await client.connect(name="n" * 60_000)
            await client.sync()
        async with RawClient(server, codec, extensions=[offer]) as client:
            # A few hundred bytes on the wire.
            await client.send(command(1, ConnectRequest(name="n" * 70_000)))

            assert (await client.closed())[0] == 1009


async def test_server_without_compression_grants_none() -> None:
    hub = Hub()
    async with serve(hub, HOST, 0) as server:
        for codec in (json, protobuf):
            offer = [ClientPerMessageDeflateFactory()]
            async with RawClient(server, codec, extensions=offer) as client:
                await client.connect()

                assert client.socket.protocol.extensions == []
        async with connected(server) as client:
            await client.sync()
