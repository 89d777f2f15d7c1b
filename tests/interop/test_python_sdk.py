"""What only the official SDK for Python does, or did in versions that are still around."""

import json
import time
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket

from hubbub import Client, Hub, Tokens
from hubbub.auth.tokens import sign
from tests.interop.hubs import Hubs
from tests.interop.sdks import Sdk, connect

SECRET = "the secret of the tests, long enough for HS256"


@pytest.mark.parametrize("sdk", ["python-json", "python-protobuf"], indirect=True)
async def test_message_of_no_channel_is_ignored(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()

    @hub.rpc("greet")
    def greet(client: Client) -> str:
        client.send({"hello": "there"})
        return "sent"

    served = await hubs.start(hub)
    client = await connect(sdk, served.url)

    assert await client.rpc("greet", None) == "sent"
    assert await client.rpc("greet", None) == "sent"
    assert len(client.heard("connected")) == 1


async def ask(websocket: ClientConnection, command: dict[str, Any]) -> dict[str, Any]:
    await websocket.send(json.dumps(command))
    reply: dict[str, Any] = json.loads(await websocket.recv())
    assert reply.pop("id") == command["id"]
    return reply


async def test_sub_refresh_without_channel(hubs: Hubs) -> None:
    # As centrifuge-python up to 0.5 sends it: the token alone says which subscription is meant.
    hub = Hub(tokens=Tokens(secret=SECRET))
    hub.channel("private", subscribe="nobody")
    served = await hubs.start(hub)
    expiry = int(time.time()) + 3_600

    def ticket(expires_at: int) -> str:
        return sign({"sub": "ann", "channel": "private", "exp": expires_at}, SECRET)

    async with connect_websocket(served.url, proxy=None) as websocket:
        token = sign({"sub": "ann"}, SECRET)
        await ask(websocket, {"id": 1, "connect": {"token": token, "name": "python"}})
        subscribe = {"channel": "private", "token": ticket(expiry), "flag": 1}
        subscribed = await ask(websocket, {"id": 2, "subscribe": subscribe})
        refreshed = await ask(websocket, {"id": 3, "sub_refresh": {"token": ticket(2 * expiry)}})

        assert 3_590 <= subscribed["subscribe"]["ttl"] <= 3_600
        assert refreshed["sub_refresh"]["expires"] is True
        assert refreshed["sub_refresh"]["ttl"] > 3_600
