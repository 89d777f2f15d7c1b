"""The hot path against the parent class: same bytes in, same messages, same bytes out.

Both run behind a real server, each connection on a transport in memory, so that every cut of the
stream can be tried. The invariant: whatever a peer sends, and however it is cut, the handler gets
the same messages and the peer the same bytes and the same end, and nothing is raised out of
`data_received`.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.asyncio import server as parent
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode
from websockets.server import ServerProtocol

import hubbub
from tests.server.wire import HEAD, MemoryTransport, close_frame, frame
from tests.timing import MS

MAX_SIZE = 2000


@dataclass(frozen=True)
class Outcome:
    """All that handler and peer can tell of a connection."""

    messages: list[str | bytes]
    written: bytes
    close_rcvd: Any
    close_sent: Any
    cause: str


async def queue_handler(websocket: Any, messages: list[str | bytes]) -> None:
    async for message in websocket:
        messages.append(message)  # noqa: PERF401  one at a time: the end is an exception


async def callback_handler(websocket: Any, messages: list[str | bytes]) -> None:
    websocket.on_message(messages.append)
    await websocket.wait_closed()


async def converse(serve: Any, connection_class: Any, handle: Any, chunks: list[bytes]) -> Outcome:
    """Open a connection, feed it chunks and then the end of the stream."""
    messages: list[str | bytes] = []
    done = asyncio.Event()

    async def handler(websocket: Any) -> None:
        try:
            await handle(websocket, messages)
        except ConnectionClosed:
            pass
        finally:
            done.set()

    logger = logging.getLogger("quiet")
    options = {"max_size": MAX_SIZE, "compression": None, "ping_interval": None, "logger": logger}
    async with serve(handler, "127.0.0.1", 0, **options) as server:
        connection = connection_class(ServerProtocol(max_size=MAX_SIZE, logger=logger), server)
        transport = MemoryTransport()
        transport.set_protocol(connection)
        connection.connection_made(transport)
        transport.protocol.data_received(HEAD)
        async with asyncio.timeout(5000 * MS):
            while connection not in server.all_connections:
                await asyncio.sleep(0)
            await asyncio.sleep(0)  # the handler begins
            transport.written.clear()
            for chunk in chunks:
                transport.protocol.data_received(chunk)
            # Let recv() fail the connection for a message that came before the end of the stream.
            for _ in range(5):
                await asyncio.sleep(0)
            transport.end()
            await transport.lost
            await done.wait()
        protocol = connection.protocol
        return Outcome(
            messages,
            bytes(transport.written),
            protocol.close_rcvd,
            protocol.close_sent,
            repr(connection.close_exc.__cause__),
        )


def outcomes(chunks: list[bytes], whole: list[bytes]) -> tuple[Outcome, Outcome, Outcome]:
    """Feed `whole` to the parent, `chunks` to hubbub's queue and to its callback."""

    async def run() -> tuple[Outcome, Outcome, Outcome]:
        return (
            await converse(parent.serve, parent.ServerConnection, queue_handler, whole),
            await converse(hubbub.serve, hubbub.ServerConnection, queue_handler, chunks),
            await converse(hubbub.serve, hubbub.ServerConnection, callback_handler, chunks),
        )

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    # Peers that break the protocol are no news; a traceback of ours would be.
    logging.getLogger("quiet").setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        stack.callback(logging.getLogger("quiet").setLevel, logging.NOTSET)
        yield


# Valid conversations: whole messages, fragments with control frames between, large frames.

texts = st.text(max_size=200).map(str.encode)
masks = st.binary(min_size=4, max_size=4)
lengths = st.sampled_from([0, 1, 5, 124, 125, 126, 127, 300, 1999, 2000])
payloads = st.one_of(st.binary(max_size=200), lengths.map(bytes), texts)
controls = st.builds(
    lambda opcode, payload, mask: frame(opcode, payload, mask=mask),
    st.sampled_from([Opcode.PING, Opcode.PONG]),
    st.binary(max_size=125),
    masks,
)
messages = st.one_of(
    st.builds(lambda p, m: frame(Opcode.TEXT, p, mask=m), texts, masks),
    st.builds(lambda p, m: frame(Opcode.BINARY, p, mask=m), payloads, masks),
)


@st.composite
def fragmented(draw: st.DrawFn) -> bytes:
    """A fragmented message, cut within characters too, with control frames between."""
    text = draw(st.booleans())
    payload = draw(texts if text else st.binary(max_size=300))
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
    parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
    stream = b""
    for index, part in enumerate(parts):
        opcode = Opcode.CONT if index else (Opcode.TEXT if text else Opcode.BINARY)
        stream += frame(opcode, part, fin=index == len(parts) - 1, mask=draw(masks))
        if index < len(parts) - 1:
            stream += b"".join(draw(st.lists(controls, max_size=1)))
    return stream


valid_frames = st.one_of(messages, controls, fragmented())
endings = st.one_of(st.just(b""), st.builds(close_frame, st.sampled_from([1000, 1001, 3000, 4999])))
conversations = st.builds(
    lambda frames, ending: b"".join(frames) + ending, st.lists(valid_frames, max_size=8), endings
)


@st.composite
def cut(draw: st.DrawFn, streams: st.SearchStrategy[bytes]) -> list[bytes]:
    """A stream cut into chunks, none empty."""
    stream = draw(streams)
    cuts = draw(st.lists(st.integers(1, max(1, len(stream))), max_size=12))
    edges = [0, *sorted(set(cuts) - {len(stream)}), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges) if a < b]


@settings(max_examples=150, deadline=None)
@given(cut(conversations))
def test_any_cut_of_a_conversation_gives_what_the_parent_gives(chunks: list[bytes]) -> None:
    expected, queue, callback = outcomes(chunks, [b"".join(chunks)])

    assert queue == expected
    assert callback == expected


@pytest.mark.parametrize(
    "stream",
    [
        frame(Opcode.TEXT, "é€𝄞".encode()) + frame(Opcode.BINARY, bytes(130)) + close_frame(),
        frame(Opcode.TEXT, b"a", fin=False) + frame(Opcode.PING, b"p") + frame(Opcode.CONT, b"b"),
        frame(Opcode.PING) + frame(Opcode.TEXT) + frame(Opcode.BINARY) + close_frame(1001, "away"),
    ],
    ids=["messages", "fragments", "empty"],  # masks are random; what a test is called is not
)
def test_every_single_cut_gives_the_same_messages(stream: bytes) -> None:
    expected, *_ = outcomes([], [stream])
    for position in range(1, len(stream)):
        _, queue, callback = outcomes([stream[:position], stream[position:]], [stream])

        assert queue == expected, position
        assert callback == expected, position


def test_one_byte_at_a_time_gives_the_same_messages() -> None:
    stream = b"".join(
        [
            frame(Opcode.TEXT, b"x" * 200),
            frame(Opcode.TEXT, b"a", fin=False),
            frame(Opcode.CONT, b"b" * 130),
            frame(Opcode.BINARY, b"y"),
            close_frame(),
        ]
    )
    expected, queue, callback = outcomes([bytes([byte]) for byte in stream], [stream])

    assert expected.messages == ["x" * 200, "a" + "b" * 130, b"y"]
    assert queue == expected
    assert callback == expected


# Broken conversations. The end, its code and what came before it are the parent's.

mutations = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A conversation with some bytes changed."""
    stream = bytearray(draw(conversations) or b"\x00")
    for position, value in draw(mutations):
        stream[position % len(stream)] = value
    return bytes(stream)


headers = st.builds(
    lambda first, second, rest: bytes([first, second]) + rest,
    st.integers(0, 255),
    st.integers(0, 255),
    st.binary(max_size=40),
)
broken = st.one_of(mutated(), st.binary(max_size=100), st.lists(headers).map(b"".join))


@settings(max_examples=300, deadline=None)
@given(cut(broken))
@example([frame(Opcode.TEXT, b"\xff")])
@example([frame(Opcode.TEXT, b"ok"), frame(Opcode.TEXT, b"\xff"), frame(Opcode.TEXT, b"late")])
@example([frame(Opcode.TEXT, bytes(MAX_SIZE + 1))])
@example([frame(Opcode.BINARY, b"x", mask=None)])
@example([frame(Opcode.TEXT, b"x", rsv=4)])
@example([frame(Opcode.CLOSE, b"\x03")])
@example([frame(Opcode.PING, bytes(126))])
@example([frame(Opcode.CONT, b"x")])
@example([frame(Opcode.TEXT, b"x", fin=False), frame(Opcode.TEXT, b"y")])
@example([b"\x83\x80\x00\x00\x00\x00"])
@example([b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff"])
def test_broken_streams_end_as_with_the_parent(chunks: list[bytes]) -> None:
    expected, queue, callback = outcomes(chunks, chunks)

    assert queue.messages == expected.messages
    assert (queue.written, queue.close_sent) == (expected.written, expected.close_sent)
    # With a callback, text is checked as it arrives, not when the handler gets to it: what comes
    # behind bad text is not seen at all, and a close frame behind it is not answered.
    if callback.close_sent is None or callback.close_sent.code != 1007:
        assert callback.messages == expected.messages
        assert (callback.written, callback.close_sent) == (expected.written, expected.close_sent)
