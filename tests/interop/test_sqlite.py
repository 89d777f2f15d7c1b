"""A hub whose history is in an SQLite file: killed and started again, it has lost nothing."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.cli.commands import TIMEOUT, hubbub
from tests.interop.python_sdk import Python
from tests.interop.sdks import SdkClient
from tests.programs import reserved_port

APP = """
from hubbub import Hub

hub = Hub("sqlite:///data.db")
hub.channel("news", history=100, presence=True, publish="anyone")
"""


class Talk:
    """A client that asks one thing after the other, and knows no more than JSON."""

    def __init__(self, socket: ClientConnection, data: Any) -> None:
        self.socket = socket
        self.last = 0
        self.ask("connect", data=data)

    def ask(self, request: str, **fields: Any) -> Any:
        self.last += 1
        self.socket.send(json.dumps({"id": self.last, request: fields}))
        while True:
            for line in str(self.socket.recv(TIMEOUT)).splitlines():
                reply = json.loads(line)
                if reply.get("id") == self.last:
                    assert "error" not in reply, reply
                    return reply[request]


@contextmanager
def talking(url: str, data: Any = None) -> Iterator[Talk]:
    with connect(url) as socket:
        yield Talk(socket, data)


async def test_clients_recover_over_a_killed_server(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    sdk = Python(protobuf=False)
    with reserved_port() as port:
        url = f"ws://127.0.0.1:{port}/"
        command = ("run", "app:hub", "--host", "127.0.0.1", "--port", str(port))
        with hubbub(*command, cwd=tmp_path) as server:
            assert server.port == port
            client: SdkClient = await sdk.open(url)
            await client.connect()
            first = await client.subscribe("news")
            for n in range(3):
                await client.publish("news", n)
            assert await client.take(3, "news") == [0, 1, 2]
            server.process.kill()
        await client.next("connecting")
        with hubbub(*command, cwd=tmp_path):
            again = await client.next("subscribed", "news")
            await client.publish("news", 3)
            assert await client.take(1, "news") == [3]
            with talking(url) as other:
                # One that was away longer.
                epoch, offset = again["position"][0], 1
                late = other.ask(
                    "subscribe", channel="news", recover=True, offset=offset, epoch=epoch
                )
                present = other.ask("presence_stats", channel="news")
        await sdk.close()

    assert again["recovered"]
    assert again["position"] == [first["position"][0], 3]
    assert late["recovered"]
    assert [publication["offset"] for publication in late["publications"]] == [2, 3, 4]
    assert present["num_clients"] == 2


def test_demo_keeps_its_chat_over_a_kill(tmp_path: Path) -> None:
    environment = {"HUBBUB_BROKER": "sqlite:///chat.db"}
    texts = []
    for life in range(2):
        with (
            hubbub("demo", "--port", "0", cwd=tmp_path, env=environment) as demo,
            talking(f"{demo.url}/chat/connection/websocket", {"name": "Ada"}) as ada,
        ):
            ada.ask("subscribe", channel="chat:lobby")
            said = {"room": "lobby", "id": f"m{life}", "text": f"life {life}"}
            ada.ask("rpc", method="say", data=said)
            page = ada.ask("history", channel="chat:lobby", limit=10)
            texts.append([each["data"]["text"] for each in page["publications"]])
            demo.process.kill()

    assert texts == [["life 0"], ["life 0", "life 1"]]
    assert (tmp_path / "chat.db").exists()


def test_file_that_cannot_be_used_is_one_line_and_code_1(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "data.db").write_text("my notes, which are no database at all" * 100)
    with hubbub("run", "app:hub", "--port", "0", cwd=tmp_path) as command:
        assert command.wait() == 1

    assert command.stderr.text.startswith("error: broker sqlite: ")
    assert command.stderr.text.endswith("is not an SQLite database")
    assert len(command.stderr.text.splitlines()) == 1
