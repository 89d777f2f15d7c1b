"""What no message can say, and the codes that go with the messages."""

import json as plain

import msgspec
import pytest

from hubbub.errors import DisconnectCode, ErrorCode, UnsubscribeCode
from hubbub.protocol import json, protobuf
from hubbub.protocol.replies import (
    ConnectPush,
    DisconnectPush,
    Push,
    RefreshPush,
    Reply,
    UnsubscribePush,
)
from hubbub.protocol.results import (
    ConnectResult,
    HistoryResult,
    RefreshResult,
    SubRefreshResult,
    SubscribeResult,
)
from hubbub.protocol.values import EMPTY, Error, Publication, StreamPosition, payload


def test_no_message_makes_an_sdk_stumble() -> None:
    for make in (
        lambda: Error(100, ""),
        lambda: UnsubscribePush(2000, ""),
        lambda: UnsubscribePush(0, "server unsubscribe"),
        lambda: DisconnectPush(3001, ""),
        lambda: DisconnectPush(0, "shutdown"),
        lambda: ConnectResult("c", expires=True),
        lambda: ConnectPush("c", expires=True),
        lambda: SubscribeResult(expires=True),
        lambda: RefreshResult(expires=True),
        lambda: SubRefreshResult(expires=True),
        lambda: RefreshPush(expires=True),
    ):
        with pytest.raises(ValueError, match="need"):
            make()


def test_offsets_have_64_bits() -> None:
    for make in (
        lambda offset: StreamPosition(offset),
        lambda offset: Publication(offset=offset),
        lambda offset: HistoryResult((), "", offset),
        lambda offset: SubscribeResult(offset=offset),
    ):
        assert make(2**64 - 1).offset == 2**64 - 1
        with pytest.raises(ValueError, match="over 2"):
            make(2**64)


def test_messages_are_values() -> None:
    assert StreamPosition(1, "e") == StreamPosition(1, "e")
    assert Publication(payload(b"1")) != Publication(payload(b"2"))
    assert payload(b"") is EMPTY
    with pytest.raises(AttributeError):
        StreamPosition().offset = 1  # type: ignore[misc]  # that it is frozen is the test


@pytest.mark.parametrize("code", ErrorCode)
def test_errors_are_written_with_their_code_and_message(code: ErrorCode) -> None:
    reply = Reply(1, error=Error(code, code.message, code.temporary))
    wire = plain.loads(json.encode_reply(reply))

    assert wire["error"]["code"] == int(code) >= 100
    assert wire["error"]["message"]
    assert wire["error"].get("temporary", False) is (code in (100, 111, 113))
    assert [reply] == protobuf.decode_replies(protobuf.encode_reply(reply))


@pytest.mark.parametrize("code", DisconnectCode)
def test_reasons_fit_a_close_frame_and_are_no_json(code: DisconnectCode) -> None:
    assert 0 < len(code.reason) <= 123
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(code.reason)
    assert code.reconnects is (3000 <= code < 3500)


def test_unsubscribe_codes() -> None:
    assert [code for code in UnsubscribeCode if code.resubscribes] == [2500, 2501, 2502]
    push = Push("c", unsubscribe=UnsubscribePush(UnsubscribeCode.INSUFFICIENT_STATE, "x"))
    assert (
        json.encode_push(push)
    ) == b'{"push":{"channel":"c","unsubscribe":{"code":2500,"reason":"x"}}}'
