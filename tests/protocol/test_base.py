"""Both formats are used in the same way."""

import pytest
from hypothesis import given

from hubbub.protocol import json, protobuf
from hubbub.protocol.base import Codec
from hubbub.protocol.commands import Command, SendRequest
from hubbub.protocol.replies import MessagePush, Push, Reply
from tests.protocol.strategies import json_texts, messages

CODECS: list[Codec] = [json, protobuf]


@pytest.mark.parametrize("codec", CODECS)
def test_ping_is_an_empty_reply_and_pong_an_empty_command(codec: Codec) -> None:
    assert codec.encode_reply(Reply()) == codec.PING
    assert [Command()] == codec.decode_commands(codec.PING)


@pytest.mark.parametrize("codec", CODECS)
def test_text_frames_are_as_good_as_binary_ones(codec: Codec) -> None:
    assert [Command()] == codec.decode_commands(codec.PING.decode())
    assert codec.encode_push(Push("c")) == codec.join([codec.encode_reply(Reply(push=Push("c")))])


@pytest.mark.parametrize("codec", CODECS)
@given(json_texts())
def test_prepared_payloads_fit(codec: Codec, data: bytes) -> None:
    for prepared in (codec.embed(data), codec.quote(data)):
        frame = codec.encode_push(Push(message=MessagePush(prepared)))

        decode = protobuf.decode_replies if codec.BINARY else json.decode_replies
        assert [Reply(push=Push(message=MessagePush(prepared)))] == decode(frame)


@given(messages(Command, json_texts()))
def test_a_command_is_the_same_in_both_formats(command: Command) -> None:
    (one,) = json.decode_commands(json.encode_command(command))
    (other,) = protobuf.decode_commands(protobuf.encode_command(command))

    assert one == other == command


def test_absent_payloads_stay_absent() -> None:
    for codec in CODECS:
        assert bytes(codec.embed(b"")) == b""
    assert json.encode_command(Command(send=SendRequest(json.embed(b"")))) == b'{"send":{}}'
