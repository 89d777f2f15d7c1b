"""The Protobuf schema of the client protocol, built from the messages and a table of numbers.

The messages say names and types, this table says numbers: together they are what a `.proto` file
would say again, and no compiler is needed to change them (ADR 0008). Types follow from those of
the fields: bounds tell `Int32`, `Int64`, `Uint32` and `Uint64` apart, a `Raw` is `bytes`, a tuple
is repeated, a mapping is a map from strings. Numbers are the protocol's and never change.

The messages live in a descriptor pool of their own, so that they meet no other schema of the same
protocol in one process. This module needs the extra `protobuf`; import `hubbub.protocol.protobuf`.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message as WireMessage
from msgspec import inspect

from hubbub.protocol import commands, replies, results, values
from hubbub.protocol.values import Message

__all__ = ["NUMBERS", "PACKAGE", "file_descriptor", "wire_types"]

PACKAGE = "hubbub.protocol"

NUMBERS: dict[type[Message], dict[str, int]] = {
    values.StreamPosition: {"offset": 1, "epoch": 2},
    values.ClientInfo: {"user": 1, "client": 2, "conn_info": 3, "chan_info": 4},
    values.Publication: {
        "data": 4, "info": 5, "offset": 6, "tags": 7, "delta": 8, "time": 9, "epoch": 14,
    },
    values.Error: {"code": 1, "message": 2, "temporary": 3},
    commands.FilterNode: {"op": 1, "key": 2, "cmp": 3, "val": 4, "vals": 5, "nodes": 6},
    commands.SubscribeRequest: {
        "channel": 1, "token": 2, "recover": 3, "epoch": 6, "offset": 7, "data": 8,
        "positioned": 9, "recoverable": 10, "join_leave": 11, "delta": 12, "tf": 13, "flag": 14,
        "type": 15,
    },
    commands.ConnectRequest: {
        "token": 1, "data": 2, "subs": 3, "name": 4, "version": 5, "headers": 6, "flag": 7,
        "profile": 9,
    },
    commands.UnsubscribeRequest: {"channel": 1},
    commands.PublishRequest: {"channel": 1, "data": 2, "type": 3},
    commands.PresenceRequest: {"channel": 1},
    commands.PresenceStatsRequest: {"channel": 1},
    commands.HistoryRequest: {"channel": 1, "limit": 7, "since": 8, "reverse": 9},
    commands.PingRequest: {},
    commands.SendRequest: {"data": 1},
    commands.RPCRequest: {"data": 1, "method": 2},
    commands.RefreshRequest: {"token": 1},
    commands.SubRefreshRequest: {"channel": 1, "token": 2, "type": 3},
    commands.Command: {
        "id": 1, "connect": 4, "subscribe": 5, "unsubscribe": 6, "publish": 7, "presence": 8,
        "presence_stats": 9, "history": 10, "ping": 11, "send": 12, "rpc": 13, "refresh": 14,
        "sub_refresh": 15,
    },
    results.SubscribeResult: {
        "expires": 1, "ttl": 2, "recoverable": 3, "epoch": 6, "publications": 7, "recovered": 8,
        "offset": 9, "positioned": 10, "data": 11, "was_recovering": 12, "delta": 13,
    },
    results.ConnectResult: {
        "client": 1, "version": 2, "expires": 3, "ttl": 4, "data": 5, "subs": 6, "ping": 7,
        "pong": 8, "session": 9, "node": 10, "time": 11,
    },
    results.UnsubscribeResult: {},
    results.PublishResult: {},
    results.PresenceResult: {"presence": 1},
    results.PresenceStatsResult: {"num_clients": 1, "num_users": 2},
    results.HistoryResult: {"publications": 1, "epoch": 2, "offset": 3},
    results.PingResult: {},
    results.RPCResult: {"data": 1},
    results.RefreshResult: {"client": 1, "version": 2, "expires": 3, "ttl": 4},
    results.SubRefreshResult: {"expires": 1, "ttl": 2},
    replies.JoinPush: {"info": 1},
    replies.LeavePush: {"info": 1},
    replies.UnsubscribePush: {"code": 2, "reason": 3},
    replies.MessagePush: {"data": 1},
    replies.SubscribePush: {
        "recoverable": 1, "epoch": 4, "offset": 5, "positioned": 6, "data": 7,
    },
    replies.ConnectPush: {
        "client": 1, "version": 2, "data": 3, "subs": 4, "expires": 5, "ttl": 6, "ping": 7,
        "pong": 8, "session": 9, "node": 10, "time": 11,
    },
    replies.DisconnectPush: {"code": 1, "reason": 2},
    replies.RefreshPush: {"expires": 1, "ttl": 2},
    replies.Push: {
        "channel": 2, "pub": 4, "join": 5, "leave": 6, "unsubscribe": 7, "message": 8,
        "subscribe": 9, "connect": 10, "disconnect": 11, "refresh": 12,
    },
    # Past `push`, one more than the number of the command.
    replies.Reply: {
        "id": 1, "error": 2, "push": 4, "connect": 5, "subscribe": 6, "unsubscribe": 7,
        "publish": 8, "presence": 9, "presence_stats": 10, "history": 11, "ping": 12, "rpc": 13,
        "refresh": 14, "sub_refresh": 15,
    },
}  # fmt: skip

_Field = descriptor_pb2.FieldDescriptorProto
_BOUNDS: dict[tuple[int | None, int | None], _Field.Type.ValueType] = {
    (-(2**31), 2**31 - 1): _Field.TYPE_INT32,
    (-(2**63), 2**63 - 1): _Field.TYPE_INT64,
    (0, 2**32 - 1): _Field.TYPE_UINT32,
    (0, None): _Field.TYPE_UINT64,
}


def file_descriptor() -> descriptor_pb2.FileDescriptorProto:
    """Return the schema as a compiler would have made it of a `.proto` file."""
    file = descriptor_pb2.FileDescriptorProto(
        name="hubbub/protocol/client.proto", package=PACKAGE, syntax="proto3"
    )
    for message, numbers in NUMBERS.items():
        described = file.message_type.add(name=message.__name__)
        info = inspect.type_info(message)
        assert isinstance(info, inspect.StructType)
        for field in info.fields:
            _add_field(described, field.name, numbers[field.name], field.type)
    return file


def wire_types() -> dict[type[Message], type[WireMessage]]:
    """Return the class of the Protobuf runtime for each message."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file_descriptor().SerializeToString())
    return {
        message: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{PACKAGE}.{message.__name__}")
        )
        for message in NUMBERS
    }


def _add_field(
    described: descriptor_pb2.DescriptorProto, name: str, number: int, kind: inspect.Type
) -> None:
    field = described.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    match kind:
        case inspect.VarTupleType(item_type):
            field.label = _Field.LABEL_REPEATED
            kind = item_type
        case inspect.DictType(inspect.StrType(), value_type):
            field.label = _Field.LABEL_REPEATED
            entry = described.nested_type.add(name=_entry_name(name))
            entry.options.map_entry = True
            _add_field(entry, "key", 1, inspect.StrType())
            _add_field(entry, "value", 2, value_type)
            field.type = _Field.TYPE_MESSAGE
            field.type_name = f".{PACKAGE}.{described.name}.{entry.name}"
            return
        case inspect.UnionType((inspect.StructType() as struct, inspect.NoneType())):
            kind = struct
    match kind:
        case inspect.StructType(cls):
            field.type = _Field.TYPE_MESSAGE
            field.type_name = f".{PACKAGE}.{cls.__name__}"
        case inspect.IntType():
            field.type = _BOUNDS[kind.ge, kind.le]
        case inspect.StrType():
            field.type = _Field.TYPE_STRING
        case inspect.BoolType():
            field.type = _Field.TYPE_BOOL
        case inspect.RawType():
            field.type = _Field.TYPE_BYTES
        case _:
            raise TypeError(f"{described.name}.{name}: no Protobuf type for {kind}")


def _entry_name(field: str) -> str:
    """Return what compilers call the entry of a map field; the runtime insists on it."""
    return "".join(map(str.capitalize, field.split("_"))) + "Entry"
