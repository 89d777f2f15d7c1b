"""Test a hub without sockets: two clients in the process of the test."""

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from hubbub import Client, CommandError, Hub
from hubbub.testing import connect

hub = Hub()
chat = hub.channel("chat:{room}", history=10, publish="subscribers")


@chat.on_publish
def moderate(client: Client, message: dict[str, str]) -> None:
    if "spam" in message["text"]:
        raise CommandError(400, "no spam please")


@pytest_asyncio.fixture
async def running() -> AsyncGenerator[Hub]:
    async with hub:
        yield hub


@pytest.mark.asyncio
async def test_message_reaches_the_others(running: Hub) -> None:
    async with connect(running) as alice, connect(running) as bob:
        await alice.subscribe("chat:lobby")
        await bob.subscribe("chat:lobby")
        await alice.publish("chat:lobby", {"text": "hi"})

        assert await bob.next() == {"text": "hi"}


@pytest.mark.asyncio
async def test_spam_is_refused(running: Hub) -> None:
    async with connect(running) as alice:
        await alice.subscribe("chat:lobby")
        with pytest.raises(CommandError, match="no spam"):
            await alice.publish("chat:lobby", {"text": "buy spam"})
