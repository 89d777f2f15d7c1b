"""Clients that vanish, in whatever state and in whatever way, leave nothing behind."""

import asyncio
import contextlib
import gc
import json
import socket
import struct
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from websockets.frames import Opcode

from hubbub import Hub, serve
from hubbub.brokers.base import Broker
from hubbub.hub.client import Client
from hubbub.hub.group import Group
from hubbub.hub.session import Session
from hubbub.hub.subscription import Subscription
from hubbub.hub.timers import WheelTimer
from hubbub.hub.websocket import WebSocketOutbox
from hubbub.model import User
from hubbub.server import Server, ServerConnection
from hubbub.testing import FakeClock
from tests.hub.suspending import RecordingBroker, SuspendingStore
from tests.server.wire import HEAD, Peer, close_frame, frame, until
from tests.timing import MS

CONNECTIONS, BATCH = 504, 126
YEAR = 365 * 86_400.0

STATES = ("opened", "connecting", "subscribing", "subscribed", "backlog", "mid-frame", "pipelined")
ENDS = ("reset", "end", "close frame")

KINDS = (Session, Subscription, Group, WebSocketOutbox, ServerConnection, Client)

# Bytes that a socket takes, about, so that little is needed for a backlog.
SMALL = 8_192


class Scene:
    """A hub that is served, and hooks that wait as long as the test likes."""

    def __init__(self, hub: Hub, clock: FakeClock) -> None:
        self.hub = hub
        self.clock = clock
        self.gate = asyncio.Event()
        self.waiting: Counter[str] = Counter()
        self.server: Server
        # Other tests of the same process may have left some to be collected.
        self.before = alive(*KINDS)
        hub.on_connect(self.on_connect)
        hub.on_disconnect(self.on_disconnect)
        room = hub.channel("room:{n}", history=50, presence=True, join_leave=True)
        room.on_subscribe(self.on_subscribe)
        room.on_unsubscribe(self.on_unsubscribe)
        self.connected = self.subscribed = 0

    async def on_connect(self, client: Client) -> User:
        await self.pass_gate(client, "connecting")
        self.connected += 1
        user = f"user-{self.connected % 10}"
        return User(user, expires_at=self.clock.time() + YEAR)

    async def on_subscribe(self, client: Client) -> None:
        await self.pass_gate(client, "subscribing")

    def on_unsubscribe(self, client: Client) -> None:
        self.subscribed -= 1

    async def on_disconnect(self, client: Client) -> None:
        await asyncio.sleep(0)

    async def pass_gate(self, client: Client, state: str) -> None:
        if client.name == state:
            self.waiting[state] += 1
            await self.gate.wait()
            self.waiting[state] -= 1

    async def open(self) -> Peer:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        sock.setblocking(False)
        address = next(iter(self.server.sockets)).getsockname()
        await asyncio.get_running_loop().sock_connect(sock, address)
        peer = Peer(*await asyncio.open_connection(sock=sock, limit=SMALL))
        peer.send(HEAD)
        assert (await peer.read_head()).startswith(b"HTTP/1.1 101 ")
        return peer

    async def bring(self, peer: Peer, state: str, n: int) -> None:
        """Bring a connection into a state."""
        room = f"room:{n % 5}"
        connect, subscribe = command(1, connect={"name": state}), command(2, subscribe=sub(room))
        if state == "pipelined":
            # Everything at once, and nobody waits for an answer.
            peer.send(text(connect + b"\n" + subscribe), text(command(3, unsubscribe=sub(room))))
            peer.send(text(command(4, subscribe=sub(room))))
            return
        if state == "opened":
            return
        peer.send(text(connect))
        if state == "connecting":
            return
        await peer.read_frame()
        peer.send(text(subscribe))
        if state == "subscribing":
            return
        while b'"id":2' not in (await peer.read_frame())[1]:
            pass
        self.subscribed += 1
        if state == "mid-frame":
            peer.send(text(command(3, rpc={"method": "none"}))[:-7])
        elif state == "backlog":
            peer.send(text(command(3, subscribe=sub(f"room:backlog-{n % 2}"))))
            self.subscribed += 1
            peer.reader._transport.pause_reading()  # type: ignore[attr-defined]  # as a stuck client

    async def nobody_left(self, tasks: int) -> None:
        """Wait until all that is about to end has ended."""
        await until(lambda: len(asyncio.all_tasks()) == tasks and not self.server.connections)
        await until(lambda: not alive(*KINDS) - self.before)


def command(number: int, **request: Any) -> bytes:
    return json.dumps({"id": number, **request}).encode()


def sub(channel: str) -> dict[str, str]:
    return {"channel": channel}


def text(payload: bytes) -> bytes:
    return frame(Opcode.TEXT, payload)


async def vanish(peer: Peer, end: str) -> None:
    sock = peer.writer.get_extra_info("socket")
    if end == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.writer.transport.abort()
    elif end == "end":
        peer.writer.close()
    else:
        peer.send(close_frame())
        peer.writer.close()
    with contextlib.suppress(OSError):
        await peer.writer.wait_closed()


def alive(*kinds: type) -> Counter[type]:
    gc.collect()
    found = Counter(map(type, gc.get_objects()))
    return Counter({kind: found[kind] for kind in kinds}) if kinds else found


def memory(clock: FakeClock) -> tuple[Broker, Callable[[], set[str]]]:
    broker = RecordingBroker(clock=clock)
    return broker, lambda: broker.channels


def suspending(clock: FakeClock) -> tuple[Broker, Callable[[], set[str]]]:
    broker = SuspendingStore(clock).node()
    return broker, lambda: broker.channels


@contextlib.asynccontextmanager
async def scene(broker: Broker, clock: FakeClock) -> AsyncGenerator[Scene]:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    listening.bind(("127.0.0.1", 0))
    scene = Scene(Hub(broker, clock=clock, ping_interval=0), clock)
    async with serve(scene.hub, sock=listening, backlog=1_000) as scene.server:
        yield scene


async def come_and_go(scene: Scene, count: int) -> None:
    """Let connections come, in all states, and vanish in all ways."""
    hub = scene.hub
    scene.gate.clear()
    states = [STATES[n % len(STATES)] for n in range(count)]
    peers = await asyncio.gather(*(scene.open() for _ in states))
    async with asyncio.TaskGroup() as group:
        for n, (peer, state) in enumerate(zip(peers, states, strict=True)):
            group.create_task(scene.bring(peer, state, n))
    expected = {state: states.count(state) for state in ("connecting", "subscribing")}
    await until(lambda: scene.waiting == expected)
    for n in range(2):
        for _ in range(40):
            await hub.publish(f"room:backlog-{n}", "x" * 4_000)
    async with asyncio.TaskGroup() as group:
        for n, peer in enumerate(peers):
            group.create_task(vanish(peer, ENDS[n // len(STATES) % len(ENDS)]))
    # At once, while hooks of theirs still wait.
    await until(lambda: not hub.clients() and not hub.channels())
    scene.gate.set()
    await until(lambda: not +scene.waiting)


@pytest.mark.parametrize("make", [memory, suspending])
async def test_vanished_clients_leave_nothing(
    make: Callable[[FakeClock], tuple[Broker, Callable[[], set[str]]]],
) -> None:
    clock = FakeClock()
    broker, linked = make(clock)
    before = alive(*KINDS, WheelTimer)
    tasks = len(asyncio.all_tasks())
    async with scene(broker, clock) as here:
        for _ in range(20):
            await asyncio.sleep(0)  # the hub announces itself to other nodes
        tasks_before = len(asyncio.all_tasks())
        timers_before = alive(WheelTimer)
        await come_and_go(here, BATCH)  # what is made once
        await here.nobody_left(tasks_before)
        objects = alive()
        for _ in range(CONNECTIONS // BATCH - 1):
            await come_and_go(here, BATCH)
        await here.nobody_left(tasks_before)

        assert linked() == set()
        for n in range(5):
            assert await here.hub.presence(f"room:{n}") == {}
        # Not only in a year, when they would have been due.
        assert alive(WheelTimer) == timers_before

        def kept() -> set[type]:
            # Of what kinds there are more than one for ten connections.
            grown = alive() - objects
            return {kind for kind, count in grown.items() if count > CONNECTIONS / 10}

        # The last handles of tasks that have ended may be on their way.
        with contextlib.suppress(TimeoutError):
            await until(lambda: not kept(), 1000 * MS)
        assert kept() == set()
        assert here.subscribed <= 0
    assert not alive(*KINDS, WheelTimer) - before
    assert len(asyncio.all_tasks()) == tasks


async def test_hub_left_amid_clients_leaves_nothing() -> None:
    clock = FakeClock()
    broker, linked = suspending(clock)
    before = alive(*KINDS, WheelTimer)
    async with scene(broker, clock) as here:
        peers = await asyncio.gather(*(here.open() for _ in range(42)))
        async with asyncio.TaskGroup() as group:
            for n, peer in enumerate(peers):
                group.create_task(here.bring(peer, STATES[n % len(STATES)], n))
        await until(lambda: here.waiting == {"connecting": 6, "subscribing": 6})
        asyncio.get_running_loop().call_later(50 * MS, here.gate.set)
        await here.hub.__aexit__(None, None, None)
        assert linked() == set()
        for peer in peers:
            await vanish(peer, "reset")
    assert not alive(*KINDS, WheelTimer) - before
