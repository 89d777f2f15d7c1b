"""What the JavaScript SDK's codecs write we read, and the other way round."""

import json as plain
import random
from base64 import b64decode, b64encode
from itertools import pairwise
from typing import Any

from hubbub.protocol import fossil, json, protobuf
from tests.protocol.conftest import Javascript
from tests.protocol.conversations import COMMANDS, DATA, REPLIES


def put(value: Any, data: object) -> Any:
    """Put a payload in its places."""
    if value == "$data":
        return data
    if isinstance(value, dict):
        return {name: put(member, data) for name, member in value.items()}
    if isinstance(value, list):
        return [put(item, data) for item in value]
    return value


BYTES = {"$bytes": b64encode(DATA.encode()).decode()}


def without_defaults(value: Any) -> Any:
    """Drop what the SDK's Protobuf messages say though it was not sent: empty lists and maps."""
    if isinstance(value, dict):
        return {k: without_defaults(v) for k, v in value.items() if v not in ([], None)}
    if isinstance(value, list):
        return [without_defaults(item) for item in value]
    return value


def test_json_commands(javascript: Javascript) -> None:
    # JSON.stringify spells the payload in its own way: 2.50 is 2.5 for it.
    frame = javascript(
        [
            {
                "job": "encode_json",
                "commands": [put(wire, plain.loads(DATA)) for wire, _ in COMMANDS],
            }
        ]
    )[0]
    text = b64decode(frame).replace(b"2.5]", b"2.50]")

    assert [command for _, command in COMMANDS] == json.decode_commands(text)


def test_protobuf_commands(javascript: Javascript) -> None:
    frame = javascript(
        [{"job": "encode_protobuf", "commands": [put(wire, BYTES) for wire, _ in COMMANDS]}]
    )[0]

    assert [command for _, command in COMMANDS] == protobuf.decode_commands(b64decode(frame))


def test_json_replies(javascript: Javascript) -> None:
    frame = json.join(json.encode_reply(reply) for reply, _ in REPLIES)

    replies = javascript([{"job": "decode_json", "frame": b64encode(frame).decode()}])[0]

    assert [put(wire, plain.loads(DATA)) for _, wire in REPLIES] == replies


def test_protobuf_replies(javascript: Javascript) -> None:
    frame = protobuf.join(protobuf.encode_reply(reply) for reply, _ in REPLIES)

    replies = javascript([{"job": "decode_protobuf", "frame": b64encode(frame).decode()}])[0]

    assert [put(wire, BYTES) for _, wire in REPLIES] == without_defaults(replies)


def documents(count: int) -> list[bytes]:
    """Return documents of many lengths in many scripts, each an edit of the one before."""
    pick = random.Random(7)
    words = ["counter", "日本語", "naïve", "🎉🎊", "Ωμέγα", "payload", "aaaaaaaaaaaaaaaa"]
    document = [pick.choice(words) for _ in range(200)]
    made = []
    for number in range(count):
        for _ in range(pick.randint(0, 5)):
            at = pick.randrange(len(document))
            document[at : at + pick.randint(0, 9)] = pick.choices(words, k=pick.randint(1, 9))
        made.append(plain.dumps({"n": number, "text": document}, ensure_ascii=False).encode())
    return made


def test_patches(javascript: Javascript) -> None:
    made = documents(300)
    patches = [
        (base, patch, target)
        for base, target in pairwise(made)
        if (patch := fossil.diff(base, target)) is not None
    ]
    jobs = [
        {
            "job": "delta_json",
            "base": b64encode(base).decode(),
            "data": plain.loads(bytes(json.quote(patch))),
        }
        for base, patch, _ in patches
    ] + [
        {
            "job": "delta_protobuf",
            "base": b64encode(base).decode(),
            "data": b64encode(patch).decode(),
        }
        for base, patch, _ in patches
    ]

    targets = [target for _, _, target in patches]

    assert len(patches) > 250
    assert targets * 2 == [b64decode(answer) for answer in javascript(jobs)]
