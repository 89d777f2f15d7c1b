"""What the load on hubs says and counts, checked against servers in this process."""

import json
import os
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.sync.server import ServerConnection

if sys.platform != "linux":
    pytest.skip("the load uses epoll", allow_module_level=True)

from benchmarks.dialects import DIALECTS, MARK, number_in, serialize_payload
from benchmarks.hub_load import measure_channels, measure_fanout, measure_idle, verify
from benchmarks.sweep import Marks
from hubbub.protocol.json import decode_commands, encode_push
from hubbub.protocol.replies import Push
from hubbub.protocol.values import Publication, payload
from tests.cli.servers import serving

SIZE = 64


@given(st.integers(0, 10**9 - 1), st.integers(16, 200))
def test_payload_is_a_json_string_of_its_size_with_one_mark(number: int, size: int) -> None:
    raw = serialize_payload(number, size)

    assert len(raw) == size
    assert isinstance(json.loads(raw), str)
    assert raw.count(MARK) == 1
    assert number_in(raw, raw.index(MARK)) == number


@given(st.lists(st.binary(max_size=8), max_size=8), st.lists(st.integers(0, 100), max_size=20))
def test_marks_are_counted_wherever_reads_end(between: list[bytes], places: list[int]) -> None:
    data = MARK.join(between)
    marks = Marks(256)
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})

    counted = 0
    for start, end in pairwise(edges):
        marks.buffer[: end - start] = data[start:end]
        counted += marks.count(7, end - start)

    assert counted == data.count(MARK)


def test_centrifuge_is_understood_by_hubbub() -> None:
    dialect = DIALECTS["centrifuge"]
    ((greeting, _),) = dialect.greeting("bench:x")
    connect, subscribe = decode_commands(greeting)
    data = serialize_payload(7, SIZE)
    (publish,) = decode_commands(dialect.publish("bench:x", 7, data))

    assert connect.connect is not None
    assert subscribe.subscribe is not None
    assert subscribe.subscribe.channel == "bench:x"
    assert publish.publish is not None
    assert bytes(publish.publish.data) == data
    assert dialect.ack(7) == b'{"id":%d,"publish":{}}' % publish.id


@pytest.mark.parametrize(
    ("name", "messages"),
    [
        ("plain", [b"%b", b"%b"]),
        (
            "centrifuge",
            [b'{"id":1,"connect":{}}\n' + encode_push(Push("c", Publication(payload(b"%b")))),
             encode_push(Push("c", Publication(payload(b"%b"))))],
        ),
        ("nats", [b"PING\r\nMSG c 1 64\r\n%b\r\nMSG c 1 64\r\n", b"%b\r\n"]),
        ("socketio", [b'431["ok"]', b'42["message",%b]', b'42["message",%b]']),
        ("channels", [b'{"message": %b}', b'{"ack": 1}', b'{"message": %b}']),
    ],
)  # fmt: skip
def test_stream_takes_payloads_out_of_messages(name: str, messages: list[bytes]) -> None:
    stream = DIALECTS[name].stream()
    payloads = [serialize_payload(number, SIZE) for number in range(2)]
    numbers = iter(payloads)
    filled = [each % next(numbers) if b"%b" in each else each for each in messages]

    assert payloads == [got for message in filled for got in stream.feed(message)]


def test_centrifuge_stream_goes_on_from_where_it_ended() -> None:
    dialect = DIALECTS["centrifuge"]
    stream = dialect.stream()
    (plain,) = dialect.greeting("bench:x", stream.since)

    subscribed = b'{"id":2,"subscribe":{"recoverable":true,"epoch":"abc","offset":6}}'
    pushed = encode_push(Push("bench:x", Publication(payload(b"1"), offset=7)))
    stream.feed(subscribed + b"\n" + pushed)

    ((greeting, _),) = dialect.greeting("bench:x", stream.since)
    _, command = decode_commands(greeting)
    assert command.subscribe is not None
    assert command.subscribe.recover
    assert (command.subscribe.epoch, command.subscribe.offset) == ("abc", 7)
    assert plain == dialect.greeting("bench:x")[0]


def test_centrifuge_stream_takes_what_was_recovered_first() -> None:
    stream = DIALECTS["centrifuge"].stream()
    recovered = b'{"data":1,"offset":7},{"data":2,"offset":8}'

    payloads = stream.feed(
        b'{"id":2,"subscribe":{"epoch":"abc","offset":6,"was_recovering":true,"recovered":true,'
        b'"publications":[%b]}}' % recovered
    )

    assert payloads == [b"1", b"2"]
    assert stream.since.endswith(b'"epoch":"abc","offset":8')


def test_centrifuge_stream_complains_of_what_was_not_recovered() -> None:
    stream = DIALECTS["centrifuge"].stream()

    with pytest.raises(ValueError, match="not recovered"):
        stream.feed(b'{"id":2,"subscribe":{"epoch":"abd","offset":9,"was_recovering":true}}')


class Topics:
    """A server of the plain dialect; `repeat` delivers each publication so many times."""

    def __init__(self, repeat: int = 1) -> None:
        self._repeat = repeat
        self._subscribers: dict[str, list[ServerConnection]] = {}

    def __call__(self, websocket: ServerConnection) -> None:
        assert websocket.request is not None
        path = websocket.request.path
        if path != "/publish":
            topic = path.removeprefix("/subscribe/")
            self._subscribers.setdefault(topic, []).append(websocket)
        for message in websocket:
            assert isinstance(message, str)
            topic, _, data = message.partition(" ")
            for subscriber in self._subscribers[topic] * self._repeat:
                subscriber.send(data)


def test_verification_passes_a_server_that_delivers() -> None:
    with serving(Topics()) as port:
        verify(0, port, dialect="plain", subscribers=3, publications=50, size=SIZE, rate=1000)


def test_verification_finds_what_comes_twice() -> None:
    with (
        serving(Topics(repeat=2)) as port,
        pytest.raises(ValueError, match="beginning with 0 0 1 1"),
    ):
        verify(0, port, dialect="plain", subscribers=3, publications=50, size=SIZE, rate=1000)


def test_fanout_counts_what_every_subscriber_gets() -> None:
    with serving(Topics()) as port:
        window = measure_fanout(
            os.getpid(), port, dialect="plain", subscribers=3, rate=200, size=SIZE,
            warm_up=0.1, seconds=0.5,
        )  # fmt: skip

    # The windows cut through a publication or two.
    assert window.offered in range(3 * 90, 3 * 102)
    assert abs(window.events - window.offered) <= 3 * 10


def test_channels_time_every_publication() -> None:
    with serving(Topics()) as port:
        timed = measure_channels(
            os.getpid(), port, dialect="plain", channels=3, rate=200, size=SIZE,
            warm_up=0.1, seconds=0.5,
        )  # fmt: skip

    assert abs(timed["window"].events - timed["window"].offered) <= 10
    assert 0 < timed["p50"] <= timed["p99"] < 0.5


def test_idle_subscribers_stay_open() -> None:
    with serving(Topics()) as port:
        measured = measure_idle(os.getpid(), port, dialect="plain", subscribers=5, settle=0.05)

    assert measured["before"].rss > 0
    assert measured["after"].rss > 0
