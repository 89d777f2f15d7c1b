"""The JSON format: what is decoded, what is refused, and that nothing is changed on the way."""

import json as plain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.errors import PayloadError, ProtocolViolation
from hubbub.protocol import json
from hubbub.protocol.commands import (
    Command,
    ConnectRequest,
    FilterNode,
    HistoryRequest,
    PublishRequest,
    SubRefreshRequest,
    SubscribeRequest,
)
from hubbub.protocol.replies import JoinPush, Push, Reply, UnsubscribePush
from hubbub.protocol.results import (
    ConnectResult,
    HistoryResult,
    PresenceResult,
    PresenceStatsResult,
    PublishResult,
    SubscribeResult,
)
from hubbub.protocol.values import ClientInfo, Error, Publication, payload
from tests.protocol.strategies import binary, damaged, json_texts, messages

command_frames = st.lists(messages(Command, json_texts()), min_size=1, max_size=3).map(
    lambda found: json.join(map(json.encode_command, found))
)

# The examples of the protocol, in both directions.
EXAMPLES: list[tuple[bytes, Reply]] = [
    (
        b'{"id":1,"connect":{"client":"c1","version":"1.0","ping":25,"pong":true}}',
        Reply(1, connect=ConnectResult("c1", "1.0", ping=25, pong=True)),
    ),
    (
        b'{"id":2,"subscribe":{"recoverable":true,"epoch":"xYzA","positioned":true}}',
        Reply(2, subscribe=SubscribeResult(recoverable=True, epoch="xYzA", positioned=True)),
    ),
    (
        b'{"push":{"channel":"news","pub":{"data":{"n":1},"offset":1,"epoch":"xYzA"}}}',
        Reply(push=Push("news", Publication(payload(b'{"n":1}'), offset=1, epoch="xYzA"))),
    ),
    (b"{}", Reply()),
    (
        b'{"id":3,"subscribe":{"recoverable":true,"epoch":"xYzA","publications":'
        b'[{"data":{"n":2},"offset":2}],"recovered":true,"offset":1,"positioned":true,'
        b'"was_recovering":true}}',
        Reply(
            3,
            subscribe=SubscribeResult(
                recoverable=True,
                epoch="xYzA",
                publications=(Publication(payload(b'{"n":2}'), offset=2),),
                recovered=True,
                offset=1,
                positioned=True,
                was_recovering=True,
            ),
        ),
    ),
    (
        b'{"id":4,"error":{"code":103,"message":"permission denied"}}',
        Reply(4, error=Error(103, "permission denied")),
    ),
    (
        b'{"push":{"channel":"news","unsubscribe":{"code":2500,"reason":"insufficient state"}}}',
        Reply(push=Push("news", unsubscribe=UnsubscribePush(2500, "insufficient state"))),
    ),
    (
        b'{"push":{"channel":"news","join":{"info":{"user":"42","client":"c1"}}}}',
        Reply(push=Push("news", join=JoinPush(ClientInfo("42", "c1")))),
    ),
    (b'{"id":7,"publish":{}}', Reply(7, publish=PublishResult())),
]


@pytest.mark.parametrize(("wire", "reply"), EXAMPLES)
def test_examples_of_the_protocol_are_met_to_the_byte(wire: bytes, reply: Reply) -> None:
    assert wire == json.encode_reply(reply)
    assert [reply] == json.decode_replies(wire)


def test_connect_and_subscribe_in_one_frame() -> None:
    frame = (
        b'{"id":1,"connect":{"token":"t","name":"js"}}\n'
        b'{"id":2,"subscribe":{"channel":"news","flag":1}}'
    )
    commands = [
        Command(1, connect=ConnectRequest(token="t", name="js")),
        Command(2, subscribe=SubscribeRequest("news", flag=1)),
    ]

    assert commands == json.decode_commands(frame)
    assert commands == json.decode_commands(frame.decode() + "\n")
    assert frame == json.join(map(json.encode_command, commands))


@pytest.mark.parametrize(
    ("wire", "reply"),
    [
        (
            b'{"history":{"publications":[],"epoch":"","offset":0}}',
            Reply(history=HistoryResult((), "", 0)),
        ),
        (b'{"presence":{"presence":{}}}', Reply(presence=PresenceResult({}))),
        (
            b'{"presence_stats":{"num_clients":0,"num_users":0}}',
            Reply(presence_stats=PresenceStatsResult(0, 0)),
        ),
        (
            b'{"presence":{"presence":{"c":{"user":"","client":"c"}}}}',
            Reply(presence=PresenceResult({"c": ClientInfo("", "c")})),
        ),
    ],
)
def test_fields_that_sdks_read_are_written_though_zero(wire: bytes, reply: Reply) -> None:
    assert wire == json.encode_reply(reply)


@given(messages(Command, json_texts()))
def test_command_round_trip(command: Command) -> None:
    assert [command] == json.decode_commands(json.encode_command(command))


@given(st.lists(messages(Reply, json_texts()), min_size=1, max_size=3))
def test_replies_round_trip(replies: list[Reply]) -> None:
    assert replies == json.decode_replies(json.join(map(json.encode_reply, replies)))


@given(messages(Push, json_texts()))
def test_push_is_its_reply(push: Push) -> None:
    assert json.encode_reply(Reply(push=push)) == json.encode_push(push)
    assert json.encode_push(push) == b'{"push":%b}' % json.encode_bare(push)


@given(messages(Reply, json_texts()))
def test_reply_has_no_zero_value_but_the_listed_ones(reply: Reply) -> None:
    kept = {"user", "client", "presence", "num_clients", "num_users", "publications", "offset"}
    kept |= {"epoch", "code", "message"}

    def check(value: Any) -> None:
        assert isinstance(value, dict)
        for name, member in value.items():
            if name in ("data", "conn_info", "chan_info", "tags"):
                continue
            assert name in kept or member not in (0, "", [], None) or member == {}
            if name in ("subs", "presence") and isinstance(member, dict) and "info" not in member:
                continue
            if isinstance(member, dict):
                check(member)

    check(plain.loads(json.encode_reply(reply)))


@pytest.mark.parametrize("frame", [b"", b"\n", b"{}\n\n", b"{}\n\n{}", b"\n{}", b"{}\n{}\n\n"])
def test_empty_frame_or_line_is_refused(frame: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        json.decode_commands(frame)


@pytest.mark.parametrize(
    "frame",
    [
        b"nonsense",
        b"[]",
        b"1",
        b"null",
        b"{}{}",
        b'{"id":-1}',
        b'{"id":4294967296}',
        b'{"id":1.5}',
        b'{"id":"1"}',
        b'{"id":1,"connect":[]}',
        b'{"id":1,"publish":{"channel":1}}',
        b'{"id":1,"publish":{"channel":"c","data":{bad}}}',
        b'{"id":1,"publish":{"channel":"c","data":}}',
        b'{"id":1,"publish":{"channel":"c","data":"\xff"}}',
        b'{"id":1,"publish":{"channel":"c","data":"a\tb"}}',
        b'{"id":1,"subscribe":{"offset":18446744073709551616}}',
        b'{"id":1,"subscribe":{"offset":-1}}',
        b'{"id":1,"history":{"limit":2147483648}}',
        b'{"id":1,"unknown":[' + b"[" * 50_000 + b"]" * 50_000 + b"]}",
        b'{"id":1,"rpc":{"data":' + b"[" * 50_000 + b"]" * 50_000 + b"}}",
        b'{"id":null,"x":' + b'{"a":' * 20_000 + b"null" + b"}" * 20_000 + b"}",
        '{"id":1,"rpc":{"method":"\\ud800"}}',
        "\ud800",
    ],
)
def test_what_is_no_command_is_refused(frame: bytes | str) -> None:
    with pytest.raises(ProtocolViolation):
        json.decode_commands(frame)


def test_error_quotes_nothing_the_peer_sent() -> None:
    with pytest.raises(ProtocolViolation) as caught:
        json.decode_commands(b'{"id":1,"publish":{"channel":"secret","data":{"secret":secret}}}')

    assert "secret" not in str(caught.value)


def test_frame_over_max_size_is_refused() -> None:
    frame = b'{"id":1}'

    assert [Command(1)] == json.decode_commands(frame, max_size=8)
    with pytest.raises(ProtocolViolation, match="8 bytes, over max_size=7"):
        json.decode_commands(frame, max_size=7)


def test_unknown_fields_are_ignored() -> None:
    frame = b'{"id":1,"new":[{}],"sub_refresh":{"channel":"c","items":[1],"type":1}}'

    assert [Command(1, sub_refresh=SubRefreshRequest("c", type=1))] == json.decode_commands(frame)


def test_null_fields_are_absent() -> None:
    frame = b"""{"id":2,"connect":null,"subscribe":{"channel":"c","token":null,"offset":null,
    "data":{"kept":null},"tf":{"op":"and","key":null,"nodes":[{"key":"k","vals":null}]},
    "new":null}, "history": {"since": null, "limit": null}}""".replace(b"\n", b"")

    assert [
        Command(
            2,
            subscribe=SubscribeRequest(
                "c",
                data=payload(b'{"kept":null}'),
                tf=FilterNode("and", nodes=(FilterNode(key="k"),)),
            ),
            history=HistoryRequest(),
        )
    ] == json.decode_commands(frame)


@pytest.mark.parametrize("data", [b"null", b"1", b'"text"', b"[]", b"true", b'{ "a" : 1.0e2 }'])
def test_payload_keeps_its_text(data: bytes) -> None:
    (command,) = json.decode_commands(b'{"id":1,"publish":{"channel":"c","data": %b }}' % data)

    assert command.publish is not None
    assert data == bytes(command.publish.data)
    assert b'{"id":1,"publish":{"channel":"c","data":%b}}' % data == json.encode_command(command)


@given(st.dictionaries(st.sampled_from(["token", "epoch", "offset", "flag"]), st.none()))
def test_null_beside_a_payload_keeps_its_text(nulls: dict[str, None]) -> None:
    fields = b"".join(b'"%b":null,' % name.encode() for name in nulls)
    frame = b'{"id":1,"subscribe":{%b"data":{ "b" : 1.00, "a":[null ] }}}' % fields

    (command,) = json.decode_commands(frame)

    assert command.subscribe is not None
    assert bytes(command.subscribe.data) == b'{ "b" : 1.00, "a":[null ] }'


def test_carriage_returns_do_not_stay_in_payloads() -> None:
    frame = b'{"id":1,"publish":{"channel":"c","data":[1,\r2]}}\r\n{}'

    assert [
        Command(1, publish=PublishRequest("c", payload(b"[1,2]"))),
        Command(),
    ] == json.decode_commands(frame)
    assert [Command(1, publish=PublishRequest("", payload(b"[1,2]")))] == json.decode_commands(
        b'{"id":1,"publish":{"channel":null,"data":[1,\r2]}}'
    )
    with pytest.raises(ProtocolViolation):
        json.decode_commands(b'{"id":1\r2}')


@given(st.binary(max_size=64))
def test_any_bytes_decode_or_are_a_violation(frame: bytes) -> None:
    _decode_or_refuse(frame)


@given(damaged(command_frames))
def test_damaged_frames_decode_or_are_a_violation(frame: bytes) -> None:
    _decode_or_refuse(frame)


@given(json_texts())
def test_embed_keeps_json(data: bytes) -> None:
    assert data == bytes(json.embed(data))


@given(json_texts(), st.sampled_from([b"\n", b"\r\n", b" \n\t"]))
def test_embed_takes_line_ends_out(data: bytes, end: bytes) -> None:
    raw = bytes(json.embed(b"%b[%b%b,%b1]%b" % (end, end, data, end, end)))

    assert b"\n" not in raw
    assert b"\r" not in raw
    assert plain.loads(raw) == [plain.loads(data), 1]


@pytest.mark.parametrize("data", [b"{", b"\xff", b'"\xff"', b"nul", b"1 2", b"1\n2", b"[" * 9999])
def test_embed_refuses_what_is_no_json(data: bytes) -> None:
    with pytest.raises(PayloadError):
        json.embed(data)


def test_embed_of_nothing_is_an_absent_payload() -> None:
    assert json.encode_bare(Push(pub=None, channel="")) == b"{}"
    assert json.encode_bare(Push(pub=Publication(json.embed(b"")))) == b'{"pub":{}}'


@given(st.text())
def test_quote_is_undone_by_any_json_reader(text: str) -> None:
    quoted = json.quote(text.encode())

    assert text == plain.loads(bytes(quoted))
    assert text.encode() == json.unquote(quoted)
    assert b"\n" not in bytes(quoted)


@given(binary)
def test_quote_takes_utf8_only(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError:
        with pytest.raises(PayloadError):
            json.quote(data)
    else:
        assert data == json.unquote(json.quote(data))


def test_unquote_refuses_what_is_no_string() -> None:
    with pytest.raises(ProtocolViolation):
        json.unquote(payload(b"{}"))


def _decode_or_refuse(frame: bytes) -> None:
    try:
        commands = json.decode_commands(frame)
    except ProtocolViolation:
        return
    assert commands
    for command in commands:
        assert [command] == json.decode_commands(json.encode_command(command))
