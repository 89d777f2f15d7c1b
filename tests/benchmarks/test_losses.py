"""Losses as the audience counts them, at servers in this process that lose on purpose."""

import json
import socket
import sys
import threading

import pytest
from websockets.sync.server import ServerConnection

if sys.platform != "linux":
    pytest.skip("the load uses epoll", allow_module_level=True)

from benchmarks.dialects import DIALECTS
from benchmarks.losses import PUBLISHERS, Audience, Losses
from tests.cli.servers import serving

SIZE = 64
PUBLICATIONS = 4 * PUBLISHERS
SUBSCRIBERS = 3


class Rooms:
    """A server of the dialect of Channels; `times` says how often a publication is delivered."""

    def __init__(self, times: dict[int, int]) -> None:
        self._times = times
        self._lock = threading.Lock()
        self._subscribers: list[ServerConnection] = []

    def __call__(self, websocket: ServerConnection) -> None:
        assert websocket.request is not None
        if websocket.request.path.startswith("/subscribe/"):
            self._subscribers.append(websocket)
        for message in websocket:
            command = json.loads(message)
            with self._lock:
                for subscriber in self._subscribers * self._times.get(command["id"], 1):
                    subscriber.send(json.dumps({"message": command["message"]}))
            websocket.send(json.dumps({"ack": command["id"]}))

    def drop_subscribers(self) -> None:
        """End all subscriptions, as servers do that have lost their broker."""
        with self._lock:
            dropped, self._subscribers = self._subscribers, []
        for each in dropped:
            each.socket.shutdown(socket.SHUT_RDWR)


def count(rooms: Rooms, drop_at: int | None = None) -> Losses:
    events = {} if drop_at is None else {drop_at: rooms.drop_subscribers}
    with (
        serving(rooms) as port,
        Audience(port, DIALECTS["channels"], "bench:x", SUBSCRIBERS, SIZE) as audience,
    ):
        return audience.count_losses(PUBLICATIONS, 1000, events, silence=0.2)


def test_nothing_is_lost_by_a_server_that_delivers() -> None:
    losses = count(Rooms({}))

    assert losses.expected == PUBLICATIONS * SUBSCRIBERS
    assert losses.offered == losses.acknowledged == PUBLICATIONS
    assert losses.lost == losses.repeated == losses.disordered == losses.dropped == 0


def test_what_never_came_is_lost() -> None:
    losses = count(Rooms({7: 0, 8: 0}))

    assert losses.lost == 2 * SUBSCRIBERS
    assert losses.repeated == 0


def test_what_came_twice_is_repeated() -> None:
    losses = count(Rooms({7: 2}))

    assert losses.lost == 0
    assert losses.repeated == SUBSCRIBERS


def test_dropped_client_comes_back() -> None:
    losses = count(Rooms({}), drop_at=PUBLICATIONS // 2)

    assert losses.dropped == SUBSCRIBERS
    assert losses.lost < losses.expected // 2
