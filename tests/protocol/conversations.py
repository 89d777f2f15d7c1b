"""Commands and replies as an SDK writes them, beside what they are for us: for both SDKs' tests.

Payloads are written as Python values; what they become is up to the format.
"""

from typing import Any

from hubbub.protocol.commands import (
    Command,
    ConnectRequest,
    FilterNode,
    HistoryRequest,
    PublishRequest,
    RPCRequest,
    SubRefreshRequest,
    SubscribeRequest,
)
from hubbub.protocol.replies import (
    JoinPush,
    LeavePush,
    MessagePush,
    Push,
    RefreshPush,
    Reply,
    SubscribePush,
    UnsubscribePush,
)
from hubbub.protocol.results import (
    ConnectResult,
    HistoryResult,
    PresenceResult,
    PresenceStatsResult,
    PublishResult,
    RPCResult,
    SubRefreshResult,
    SubscribeResult,
)
from hubbub.protocol.values import ClientInfo, Error, Publication, StreamPosition, payload

__all__ = ["COMMANDS", "DATA", "REPLIES"]

# The text of the one payload in all of them: valid in either format, with letters of every length.
DATA = '{"text":"añ日🎉","n":[1,2.50]}'
RAW = payload(DATA.encode())
INFO = ClientInfo("42", "c-1", RAW, RAW)
PUBLICATION = Publication(RAW, INFO, offset=2**40, tags={"a": "b"}, epoch="xyz")

# `"$data"` stands where DATA goes.
COMMANDS: list[tuple[dict[str, Any], Command]] = [
    (
        {
            "id": 1,
            "connect": {
                "token": "t",
                "data": "$data",
                "name": "js",
                "version": "1",
                "headers": {"h": "v"},
                "subs": {"s": {"recover": True, "offset": 7, "epoch": "e"}},
            },
        },
        Command(
            1,
            connect=ConnectRequest(
                "t",
                RAW,
                {"s": SubscribeRequest(recover=True, offset=7, epoch="e")},
                "js",
                "1",
                {"h": "v"},
            ),
        ),
    ),
    (
        {
            "id": 2,
            "subscribe": {
                "channel": "news",
                "token": "t",
                "recover": True,
                "offset": 2**40,
                "epoch": "e",
                "data": "$data",
                "positioned": True,
                "recoverable": True,
                "join_leave": True,
                "delta": "fossil",
                "flag": 3,
                "tf": {
                    "op": "or",
                    "nodes": [
                        {"key": "k", "cmp": "eq", "val": "v"},
                        {"key": "k", "cmp": "in", "vals": ["a", "b"]},
                    ],
                },
            },
        },
        Command(
            2,
            subscribe=SubscribeRequest(
                "news",
                "t",
                True,
                "e",
                2**40,
                RAW,
                True,
                True,
                True,
                "fossil",
                FilterNode(
                    "or",
                    nodes=(
                        FilterNode("", "k", "eq", "v"),
                        FilterNode("", "k", "in", vals=("a", "b")),
                    ),
                ),
                3,
            ),
        ),
    ),
    (
        {"id": 300, "publish": {"channel": "news", "data": "$data"}},
        Command(300, publish=PublishRequest("news", RAW)),
    ),
    (
        {
            "id": 4,
            "history": {
                "channel": "c",
                "limit": -1,
                "since": {"offset": 3, "epoch": "e"},
                "reverse": True,
            },
        },
        Command(4, history=HistoryRequest("c", -1, StreamPosition(3, "e"), True)),
    ),
    (
        {"id": 5, "rpc": {"method": "m", "data": "$data"}},
        Command(5, rpc=RPCRequest(RAW, "m")),
    ),
    (
        {"id": 6, "sub_refresh": {"channel": "c", "token": "t"}},
        Command(6, sub_refresh=SubRefreshRequest("c", "t")),
    ),
    ({}, Command()),
]

_PUBLICATION = {
    "data": "$data",
    "info": {"user": "42", "client": "c-1", "conn_info": "$data", "chan_info": "$data"},
    "offset": 2**40,
    "tags": {"a": "b"},
    "epoch": "xyz",
}

REPLIES: list[tuple[Reply, dict[str, Any]]] = [
    (
        Reply(
            1,
            connect=ConnectResult(
                "c-1",
                "1.0",
                True,
                60,
                RAW,
                {"s": SubscribeResult(recoverable=True, publications=(PUBLICATION,))},
                25,
                True,
                "secret",
                "node",
            ),
        ),
        {
            "id": 1,
            "connect": {
                "client": "c-1",
                "version": "1.0",
                "expires": True,
                "ttl": 60,
                "data": "$data",
                "subs": {"s": {"recoverable": True, "publications": [_PUBLICATION]}},
                "ping": 25,
                "pong": True,
                "session": "secret",
                "node": "node",
            },
        },
    ),
    (
        Reply(
            2,
            subscribe=SubscribeResult(
                True, 9, True, "e", (PUBLICATION,), True, 7, True, RAW, True, True
            ),
        ),
        {
            "id": 2,
            "subscribe": {
                "expires": True,
                "ttl": 9,
                "recoverable": True,
                "epoch": "e",
                "publications": [_PUBLICATION],
                "recovered": True,
                "offset": 7,
                "positioned": True,
                "data": "$data",
                "was_recovering": True,
                "delta": True,
            },
        },
    ),
    (Reply(3, publish=PublishResult()), {"id": 3, "publish": {}}),
    (
        Reply(4, history=HistoryResult((PUBLICATION,), "e", 9)),
        {"id": 4, "history": {"publications": [_PUBLICATION], "epoch": "e", "offset": 9}},
    ),
    (
        Reply(5, presence=PresenceResult({"c-1": ClientInfo("42", "c-1")})),
        {"id": 5, "presence": {"presence": {"c-1": {"user": "42", "client": "c-1"}}}},
    ),
    (
        Reply(6, presence_stats=PresenceStatsResult(2, 1)),
        {"id": 6, "presence_stats": {"num_clients": 2, "num_users": 1}},
    ),
    (Reply(7, rpc=RPCResult(RAW)), {"id": 7, "rpc": {"data": "$data"}}),
    (
        Reply(8, sub_refresh=SubRefreshResult(True, 5)),
        {"id": 8, "sub_refresh": {"expires": True, "ttl": 5}},
    ),
    (
        Reply(9, error=Error(111, "too many requests", True)),
        {"id": 9, "error": {"code": 111, "message": "too many requests", "temporary": True}},
    ),
    (
        Reply(push=Push("c", PUBLICATION)),
        {"push": {"channel": "c", "pub": _PUBLICATION}},
    ),
    (
        Reply(push=Push("c", join=JoinPush(ClientInfo("42", "c-1")))),
        {"push": {"channel": "c", "join": {"info": {"user": "42", "client": "c-1"}}}},
    ),
    (
        Reply(push=Push("c", leave=LeavePush(ClientInfo("42", "c-1")))),
        {"push": {"channel": "c", "leave": {"info": {"user": "42", "client": "c-1"}}}},
    ),
    (
        Reply(push=Push("c", unsubscribe=UnsubscribePush(2500, "insufficient state"))),
        {
            "push": {
                "channel": "c",
                "unsubscribe": {"code": 2500, "reason": "insufficient state"},
            }
        },
    ),
    (Reply(push=Push(message=MessagePush(RAW))), {"push": {"message": {"data": "$data"}}}),
    (
        Reply(push=Push("c", subscribe=SubscribePush(True, "e", 5, True, RAW))),
        {
            "push": {
                "channel": "c",
                "subscribe": {
                    "recoverable": True,
                    "epoch": "e",
                    "offset": 5,
                    "positioned": True,
                    "data": "$data",
                },
            }
        },
    ),
    (
        Reply(push=Push(refresh=RefreshPush(True, 5))),
        {"push": {"refresh": {"expires": True, "ttl": 5}}},
    ),
    (Reply(), {}),
]
