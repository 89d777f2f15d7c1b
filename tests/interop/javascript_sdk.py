"""The SDK for JavaScript: one Node process for all tests, led by lines of JSON (`sdk.mjs`)."""

import asyncio
import itertools
import json
import os
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tests.interop.sdks import WAIT_TIMEOUT, SdkClient, SdkError
from tests.timing import MS

__all__ = ["Javascript", "Node", "node_process"]

SCRIPT = Path(__file__).parent / "sdk.mjs"

STOP_TIMEOUT = 5_000 * MS


class Node:
    """The process of `sdk.mjs`. One test at a time listens to it, on an event loop of its own."""

    def __init__(self, process: subprocess.Popen[bytes], stderr: IO[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.stdin, self.stdout = process.stdin, process.stdout
        self.stderr = stderr
        self.numbers = itertools.count(1)
        self.clients: dict[int, SdkClient] = {}
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._rest = b""
        self._errors_read = 0
        self._attached = 0

    def attach(self) -> None:
        """Listen on the running event loop; as often as `detach` is called."""
        self._attached += 1
        asyncio.get_running_loop().add_reader(self.stdout.fileno(), self._read)

    def detach(self) -> None:
        """Listen no more."""
        self._attached -= 1
        if not self._attached:
            asyncio.get_running_loop().remove_reader(self.stdout.fileno())
            self.clients.clear()

    async def call(self, client: int, do: str, **arguments: Any) -> Any:
        """Have a client do something.

        Raises:
            SdkError: The SDK says that it failed.
        """
        number = next(self.numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        line = {"id": number, "client": client, "do": do, **arguments}
        self.stdin.write(json.dumps(line).encode() + b"\n")
        self.stdin.flush()
        try:
            async with asyncio.timeout(WAIT_TIMEOUT):
                return await answer
        except TimeoutError:
            raise AssertionError(f"no answer to {line}; stderr: {self.errors()}") from None
        finally:
            del self._answers[number]

    def errors(self) -> str:
        """Return what was written on stderr since the last time."""
        size = os.fstat(self.stderr.fileno()).st_size
        errors = os.pread(self.stderr.fileno(), size, self._errors_read)
        self._errors_read = size
        return errors.decode(errors="replace")

    def _read(self) -> None:
        read = os.read(self.stdout.fileno(), 65_536)
        if not read:
            asyncio.get_running_loop().remove_reader(self.stdout.fileno())
            for answer in self._answers.values():
                answer.set_exception(AssertionError(f"Node has ended: {self.errors()}"))
            return
        *lines, self._rest = (self._rest + read).split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def _take(self, line: dict[str, Any]) -> None:
        if "id" not in line or "event" in line:
            client = self.clients.get(line.pop("client"))
            if client is not None:
                client.hear(**line)
            return
        answer = self._answers.get(line["id"])
        if answer is None or answer.done():
            return
        if "error" in line:
            answer.set_exception(SdkError(line["error"]["code"], line["error"]["message"]))
        else:
            answer.set_result(line["result"])


@contextmanager
def node_process(node: Path) -> Generator[Node]:
    """Run `sdk.mjs` until the block ends."""
    with (
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen(
            [node, SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
        ) as process,
    ):
        try:
            yield Node(process, stderr)
        finally:
            process.kill()
            process.wait(STOP_TIMEOUT)


class Javascript:
    """The SDK for JavaScript, `centrifuge` of npm, with `ws` for its WebSocket."""

    def __init__(self, node: Node, *, protobuf: bool) -> None:
        self.node = node
        self.protobuf = protobuf
        self._clients: list[SdkClient] = []
        node.attach()

    async def open(self, url: str, **options: Any) -> SdkClient:
        """Make a client."""
        number = next(self.node.numbers)

        async def lead(do: str, **arguments: Any) -> Any:
            return await self.node.call(number, do, **arguments)

        client = self.node.clients[number] = SdkClient(lead)
        self._clients.append(client)
        timeout = round(WAIT_TIMEOUT * 1000)
        await lead("open", url=url, protobuf=self.protobuf, timeout=timeout, **options)
        return client

    async def close(self) -> None:
        """Disconnect all clients, and see that nothing went wrong in Node."""
        try:
            for client in self._clients:
                await client.lead("disconnect")
        finally:
            self.node.detach()
        errors = self.node.errors()
        assert errors == "", errors
