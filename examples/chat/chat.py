"""A chat in the browser; run it here by `hubbub run chat:routes --http chat:http`."""

import re
import time
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from hubbub import Client, CommandError, ConnectRequest, Hub, Limits, PermissionDenied
from hubbub.http import pages

NAME_RULE = "a name has 1 to 24 visible characters"
ROOM_RULE = "a room's name has 1 to 24 lower-case letters, digits and hyphens"
BURST, PACE = 10, 0.5  # messages at once, and seconds that each takes in the long run


class Hello(msgspec.Struct):
    name: str


class Said(msgspec.Struct):
    room: str
    id: Annotated[str, Meta(min_length=1, max_length=36)]
    text: Annotated[str, Meta(max_length=500, pattern=r"\S")]


class Message(msgspec.Struct):
    id: str
    name: str
    text: str
    time: float


class Typing(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing to say yet."""


hub = Hub(limits=Limits(channels=32, commands_per_second=20, commands_burst=50))
chat = hub.channel("chat:{room}", Message, history=200, ttl=3600, presence=True, join_leave=True)
typing = hub.channel("typing:{room}", Typing, publish="subscribers")
routes = {"/connection/websocket": hub}
http = pages(Path(__file__).with_name("page"))


@hub.on_connect
def enter(client: Client, request: ConnectRequest) -> str:
    try:
        name = msgspec.json.decode(request.data, type=Hello).name.strip()
    except msgspec.DecodeError as exc:
        raise CommandError(400, NAME_RULE) from exc
    if not 1 <= len(name) <= 24 or not name.isprintable():  # control and bidi characters are not
        raise CommandError(400, NAME_RULE)
    client.meta = 0.0  # until when the messages of this connection take: see `say`
    return name


@chat.on_subscribe
@typing.on_subscribe
def check_room(client: Client, room: str) -> None:
    if not re.fullmatch("[a-z0-9-]{1,24}", room):
        raise CommandError(400, ROOM_RULE)


@hub.rpc("say")
async def say(client: Client, said: Said) -> None:
    if f"chat:{said.room}" not in client.channels:
        raise PermissionDenied("you are not in this room")
    now = time.monotonic()
    taken = max(client.meta, now)
    if taken > now + (BURST - 1) * PACE:
        rule = f"at most {BURST} messages at once, and {1 / PACE:g} a second"
        raise CommandError(429, f"slow down: {rule}", temporary=True)
    client.meta = taken + PACE
    message = Message(said.id, client.user, said.text.strip(), time.time())
    await hub.publish(f"chat:{said.room}", message, idempotency_key=said.id)
