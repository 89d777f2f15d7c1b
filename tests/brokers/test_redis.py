"""What the redis broker does when servers fail, and what two hubs do on one server."""

import asyncio
import contextlib
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme

from hubbub import BrokerError, CommandError, Hub, Position, PresenceStats
from hubbub.brokers.redis.address import PARAMETERS, Address
from hubbub.brokers.redis.broker import RedisBroker
from hubbub.brokers.redis.wire import Refused
from hubbub.errors import Disconnect, UnsubscribeCode
from hubbub.model import Publication
from hubbub.protocol.replies import Push
from hubbub.protocol.values import StreamPosition
from hubbub.testing import HubClient, connect
from tests.docs.markdown import rows
from tests.programs import ROOT
from tests.servers.valkey import ValkeyServer, find_redis, free_port
from tests.timing import MS

# Seconds that a server may be silent; a link is found dead within 1.25 times that.
SILENCE = 300 * MS

WAIT = 5_000 * MS


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer(appendonly=True) as server:
        yield server


def make_hub(server: ValkeyServer, **parameters: object) -> Hub:
    query = "&".join(
        f"{name}={value}" for name, value in ({"timeout": SILENCE} | parameters).items()
    )
    hub = Hub(f"{server.url}?{query}", insecure=True)
    hub.channel("room", history=1_000, presence=True)
    hub.channel("plain")
    hub.channel("user:{id}", history=10)
    hub.on_connect(lambda client: client.request.headers["user"])
    return hub


@contextlib.asynccontextmanager
async def hubs(server: ValkeyServer, **parameters: object) -> AsyncGenerator[tuple[Hub, Hub]]:
    async with make_hub(server, **parameters) as one, make_hub(server, **parameters) as two:
        yield one, two


def joined(hub: Hub, user: str = "ada") -> contextlib.AbstractAsyncContextManager[HubClient]:
    return connect(hub, headers={"user": user}, timeout=WAIT)


def test_hub_runs_in_one_loop_after_another(server: ValkeyServer) -> None:
    hub = make_hub(server)

    async def publish() -> int:
        async with hub:
            await hub.refresh(user="nobody")
            return (await hub.publish("room", "hello")).offset

    assert [asyncio.run(publish()) for _ in range(2)] == [1, 2]


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT):
        while not met():
            await asyncio.sleep(5 * MS)


async def persistently(hub: Hub, channel: str, message: object) -> Position:
    """Publish, again and again until the broker takes it, once."""
    key = secrets.token_hex()
    async with asyncio.timeout(WAIT):
        while True:
            try:
                return await hub.publish(channel, message, idempotency_key=key)
            except BrokerError:
                await asyncio.sleep(10 * MS)


def offset(push: Push) -> int:
    assert push.pub is not None, push
    return push.pub.offset


class Follower:
    """A client as an SDK would be one: it subscribes again when it is told to, or disconnected.

    Attributes:
        offsets: Of what it got, over all recoveries.
        lost: It was told that it could not recover.
    """

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.offsets: list[int] = []
        self.epoch = ""
        self.lost = 0
        self.subscribed = asyncio.Event()

    async def follow(self, last: int) -> None:
        """Take what comes in "room" up to an offset."""
        async with asyncio.timeout(WAIT):
            while not self.offsets or self.offsets[-1] < last:
                try:
                    async with joined(self.hub) as client:
                        await self._follow(client, last)
                except (Disconnect, CommandError):
                    await asyncio.sleep(10 * MS)

    async def _follow(self, client: HubClient, last: int) -> None:
        while True:
            since = None
            if self.epoch:
                since = StreamPosition(self.offsets[-1] if self.offsets else 0, self.epoch)
            result = await client.subscribe("room", since=since)
            if since is not None and not result.recovered:
                self.lost += 1
            self.epoch = result.epoch
            self.offsets += [each.offset for each in result.publications]
            self.subscribed.set()
            while not self.offsets or self.offsets[-1] < last:
                push = await client.next_push()
                if push.unsubscribe is not None:
                    assert push.unsubscribe.code == UnsubscribeCode.INSUFFICIENT_STATE
                    break
                if push.pub is not None:
                    self.offsets.append(push.pub.offset)
            else:
                return


@contextlib.asynccontextmanager
async def following(hub: Hub, last: int) -> AsyncGenerator[Follower]:
    """Follow "room" in the background; in the end all of it has come once and in order."""
    follower = Follower(hub)
    async with asyncio.TaskGroup() as group:
        group.create_task(follower.follow(last))
        await follower.subscribed.wait()
        yield follower
    assert not follower.lost
    assert follower.offsets == list(range(1, last + 1))


# Two nodes.


async def test_publication_on_one_node_reaches_clients_of_the_other(server: ValkeyServer) -> None:
    async with hubs(server) as (one, two), joined(one) as publisher, joined(two) as subscriber:
        await subscriber.subscribe("room")
        await subscriber.subscribe("plain")
        await publisher.publish("room", 1)
        assert await subscriber.next() == 1
        await publisher.publish("plain", 2)
        assert await subscriber.next() == 2

        assert set((await two.presence("room")).values()) == set(
            (await one.presence("room")).values()
        )


async def test_client_recovers_on_the_other_node(server: ValkeyServer) -> None:
    async with hubs(server) as (one, two):
        async with joined(one) as client:
            result = await client.subscribe("room")
        for number in range(3):
            await one.publish("room", number)
        async with joined(two) as client:
            since = StreamPosition(result.offset, result.epoch)
            again = await client.subscribe("room", since=since)

    assert again.recovered
    assert [msgspec.json.decode(each.data) for each in again.publications] == [0, 1, 2]


async def test_control_messages_reach_clients_of_all_nodes(server: ValkeyServer) -> None:
    async with hubs(server) as (one, two), joined(two) as client, joined(two, "bob") as other:
        await client.subscribe("room")
        await one.unsubscribe("room", user="ada")
        push = await client.next_push()
        assert push.unsubscribe is not None
        assert push.unsubscribe.code == UnsubscribeCode.SERVER_UNSUBSCRIBED

        await one.add_subscription("user:ada", user="ada")
        push = await client.next_push()
        assert push.subscribe is not None

        await one.disconnect(user="ada")
        ended = await client.ended()
        assert ended.code == 3503
        assert await other.presence("room") == {}


async def test_control_message_that_was_missed_is_carried_out_afterwards(
    server: ValkeyServer,
) -> None:
    async with make_hub(server) as hub, joined(hub) as client:
        # What another node publishes while this one has no link: nobody is subscribed to it.
        broker = RedisBroker(server.url)
        async with broker.running(Recorder()):
            server.command("CLIENT", "KILL", "TYPE", "pubsub")
            message = b'{"type":"DisconnectClients","code":3503,"reason":"go"}'
            async with asyncio.timeout(WAIT):
                while True:
                    try:
                        await broker.send_control(message)
                        break
                    except BrokerError:  # its own link is broken as well
                        await asyncio.sleep(5 * MS)
            assert (await client.ended()).reason == "go"


# Outages.


@pytest.mark.parametrize("data", [True, False])
async def test_restart_is_survived(server: ValkeyServer, data: bool) -> None:
    async with make_hub(server) as hub, joined(hub) as client:
        result = await client.subscribe("room")
        position = await hub.publish("room", 1)
        assert await client.next() == 1
        server.kill()
        await until(lambda: hub.outage is not None)
        with pytest.raises(BrokerError, match="down"):
            await hub.publish("room", 2)
        if not data:
            server.forget()
        server.start()
        await until(lambda: hub.outage is None)
        if data:
            assert await hub.publish("room", 3) == Position(position.epoch, 2)
            assert await client.next() == 3
            return
        # Told that its stream is gone, and that it cannot recover.
        push = await client.next_push()
        assert push.unsubscribe is not None
        assert push.unsubscribe.code == UnsubscribeCode.INSUFFICIENT_STATE
        since = StreamPosition(1, result.epoch)
        again = await client.subscribe("room", since=since)

    assert again.epoch != result.epoch
    assert not again.recovered


async def test_presence_is_entered_again_after_a_restart_without_data(
    server: ValkeyServer,
) -> None:
    async with make_hub(server) as hub, joined(hub) as client:
        await client.subscribe("room")
        server.restart(data=False)
        await until(lambda: hub.outage is not None)
        await until(lambda: hub.outage is None)
        async with asyncio.timeout(WAIT):
            while await hub.presence_stats("room") != PresenceStats(1, 1):
                await asyncio.sleep(10 * MS)


async def test_restart_from_a_snapshot_begins_streams_anew() -> None:
    """Offsets that were given out are never given out again in the same epoch."""
    with ValkeyServer() as server:
        async with make_hub(server) as hub, joined(hub) as client:
            await client.subscribe("room")
            for number in range(3):
                await hub.publish("room", number)
                await client.next()
            server.command("SAVE")
            lost = await hub.publish("room", "lost")
            assert await client.next() == "lost"
            server.restart()
            again = await persistently(hub, "room", "again")
            assert again.epoch != lost.epoch

            push = await client.next_push()
            assert push.unsubscribe is not None
            assert push.unsubscribe.code == UnsubscribeCode.INSUFFICIENT_STATE


async def test_server_that_stands_still_is_noticed_and_nothing_is_lost(
    server: ValkeyServer,
) -> None:
    async with hubs(server) as (one, two), following(one, 3):
        await two.publish("room", 0)
        server.pause()
        started = asyncio.get_running_loop().time()
        waiting = asyncio.create_task(two.publish("room", 1))
        await until(lambda: one.outage is not None and two.outage is not None)
        noticed = asyncio.get_running_loop().time() - started
        with pytest.raises(BrokerError, match="it may have been done, or not"):
            await waiting
        with pytest.raises(BrokerError, match="down"):  # at once
            await two.publish("room", 2)
        server.resume()
        await until(lambda: one.outage is None and two.outage is None)
        # The second was done: it was in the server's socket.
        assert (await two.publish("room", 3)).offset == 3

    assert noticed < 2 * SILENCE


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
async def test_lost_connection_is_made_anew_and_nothing_is_lost(
    server: ValkeyServer, kind: str
) -> None:
    async with hubs(server) as (one, two), following(one, 20):
        for number in range(20):
            if number == 10:
                server.command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            position = await persistently(two, "room", number)
        assert position.offset == 20


async def test_node_that_reads_too_slowly_is_told_that_it_missed_something(
    server: ValkeyServer,
) -> None:
    server.command("CONFIG", "SET", "client-output-buffer-limit", "pubsub 65536 0 0")
    async with make_hub(server) as hub, following(hub, 2):
        await hub.publish("room", 1)
        other = RedisBroker(server.url)
        async with other.running(Recorder()):
            await until(lambda: hub.outage is None)
            # The loop stands still meanwhile, as in a callback that takes long.
            for _ in range(400):
                server.command("PUBLISH", "hubbub:{room}", b"?" + bytes(50_000))
                if "output buffer limits" in server.log:
                    break
            else:
                raise AssertionError(server.log)
            await other.publish("room", Publication(b"1"), history_size=10, history_ttl=60)


async def test_server_that_becomes_a_replica_is_left_alone(server: ValkeyServer) -> None:
    async with make_hub(server) as hub, joined(hub) as client:
        await client.subscribe("room")
        server.command("REPLICAOF", "127.0.0.1", free_port())
        await until(lambda: hub.outage is not None)
        with pytest.raises(BrokerError):
            await hub.publish("room", 1)
        await until(lambda: "replica" in (hub.outage or ""))
        server.command("REPLICAOF", "NO", "ONE")
        await until(lambda: hub.outage is None)
        await hub.publish("room", 2)


async def test_server_without_memory_refuses_and_changes_nothing(server: ValkeyServer) -> None:
    async with make_hub(server) as hub, joined(hub) as client:
        await client.subscribe("room")
        first = await hub.publish("room", 1)
        assert await client.next() == 1
        server.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(Refused, match=r"OOM .*maxmemory"):
            await hub.publish("room", 2)
        await until(lambda: "OOM" in (hub.outage or ""))
        page = await hub.history("room")
        assert page.position == first
        server.command("CONFIG", "SET", "maxmemory", "0")
        await until(lambda: hub.outage is None)

        assert await hub.publish("room", 3) == Position(first.epoch, 2)
        assert await client.next() == 3


# Errors.


class Recorder:
    """A receiver that keeps what it gets."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.suspected: list[Any] = []

    def deliver(self, channel: str, event: Any) -> None:
        self.events.append((channel, event))

    def control(self, message: bytes) -> None:
        self.events.append(("", message))

    def suspect(self, channels: Any) -> None:
        self.suspected.append(channels)


async def test_error_of_one_command_is_no_others(server: ValkeyServer) -> None:
    broker = RedisBroker(server.url)
    server.command("SET", "hubbub:{odd}:meta", "a string")
    async with broker.running(Recorder()):
        calls = [
            broker.publish(channel, Publication(b"1"), history_size=1, history_ttl=60)
            for channel in ("a", "odd", "b")
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)

    assert [isinstance(result, Refused) for result in results] == [False, True, False]
    assert "WRONGTYPE" in str(results[1])


async def test_server_that_forgot_the_scripts_is_taught_again(server: ValkeyServer) -> None:
    broker = RedisBroker(server.url)
    async with broker.running(Recorder()):
        server.command("SCRIPT", "FLUSH")
        positions = [
            await broker.publish("a", Publication(b"1"), history_size=1, history_ttl=60)
            for _ in range(2)
        ]

    assert [position.offset for position in positions] == [1, 2]


async def test_wrong_password_is_an_error_that_does_not_show_it() -> None:
    with ValkeyServer(password="right", tcp=True) as server:
        for url in (server.url.replace("right", "s3cret"), server.url.replace(":right@", "")):
            broker = RedisBroker(url)
            with pytest.raises(BrokerError, match=r"127\.0\.0\.1") as caught:
                async with broker.running(Recorder()):
                    pass

            assert "s3cret" not in f"{caught.value} {broker!r} {broker.address!r}"
        async with RedisBroker(server.url).running(Recorder()):
            pass


async def test_user_with_the_documented_rights_is_enough(server: ValkeyServer) -> None:
    page = (ROOT / "docs" / "howto" / "redis.md").read_text()
    rights = re.search(r"`(\+@all [^`]+)`", page)
    assert rights is not None
    server.command("ACL", "SETUSER", "app", "on", ">pw", *rights[1].split())
    url = server.url.replace("unix://", "unix://app:pw@")
    broker, recorder = RedisBroker(url), Recorder()
    async with broker.running(recorder):
        await broker.subscribe(["a"])
        first = await broker.publish("a", Publication(b"1"), history_size=2, history_ttl=60)
        await until(lambda: len(recorder.events) == 1)
    server.command("ACL", "SETUSER", "app", "-info")
    with pytest.raises(BrokerError, match=r"NOPERM .*epochs=keep"):
        async with RedisBroker(url).running(Recorder()):
            pass
    async with RedisBroker(f"{url}?epochs=keep").running(Recorder()):
        pass

    assert first.offset == 1


@pytest.mark.parametrize(("epochs", "same"), [("auto", False), ("keep", True), ("renew", False)])
async def test_streams_of_another_process_go_on_if_the_operator_says_so(
    epochs: str, same: bool
) -> None:
    with ValkeyServer(appendonly=True, options={"appendfsync": "no"}) as server:
        positions = []
        for _ in range(2):
            broker = RedisBroker(f"{server.url}?epochs={epochs}")
            async with broker.running(Recorder()):
                for _ in range(2):
                    position = await broker.publish(
                        "a", Publication(b"1"), history_size=2, history_ttl=60
                    )
            positions.append(position)
            server.restart()

    assert (positions[0].epoch == positions[1].epoch) == same
    assert [position.offset for position in positions] == ([2, 4] if same else [2, 2])


def test_missing_extra_is_an_error_that_names_it() -> None:
    program = "import sys; sys.modules['redis'] = None; import hubbub; hubbub.Hub('redis://one')"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30_000 * MS
    )

    assert "ConfigError" in done.stderr
    assert "pip install 'hubbub[redis]'" in done.stderr


def test_table_of_parameters_is_that_of_the_code() -> None:
    page = ROOT / "docs" / "howto" / "redis.md"
    table = {}
    for row in rows(page, "parameter"):
        for name in re.findall(r"`(\w+)`", row[0]):
            table[name] = row[1].strip("`")
    defaults = Address()

    assert set(table) == {name for names in PARAMETERS.values() for name in names}
    for name, text in table.items():
        default = getattr(defaults, name)
        shown = f"{default:g}" if isinstance(default, float) else str(default)
        assert text == ("none" if default in (None, "") else shown), name


async def test_server_is_reached_by_tls_with_verified_certificates(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    files = {"ca": tmp_path / "ca.pem", "cert": tmp_path / "cert.pem", "key": tmp_path / "key.pem"}
    authority.cert_pem.write_to_path(files["ca"])
    certificate.cert_chain_pems[0].write_to_path(files["cert"])
    certificate.private_key_pem.write_to_path(files["key"])
    port = free_port()
    options = {
        "tls-port": str(port),
        "tls-ca-cert-file": str(files["ca"]),
        "tls-cert-file": str(files["cert"]),
        "tls-key-file": str(files["key"]),
    }
    with ValkeyServer(find_redis(), options=options):
        url = f"rediss://127.0.0.1:{port}"
        query = "&".join(f"{name}={path}" for name, path in files.items())
        broker = RedisBroker(f"{url}?{query}")
        async with broker.running(Recorder()):
            await broker.publish("a", Publication(b"1"))
        with pytest.raises(BrokerError, match="certificate"):
            async with RedisBroker(url).running(Recorder()):
                pass


async def test_no_server_is_an_error_at_once() -> None:
    broker = RedisBroker(f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(BrokerError, match="refused"):
        async with broker.running(Recorder()):
            pass


async def test_server_that_says_nothing_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        query = f"timeout={SILENCE}&connect_timeout={SILENCE}"
        broker = RedisBroker(f"redis://127.0.0.1:{port}?{query}")
        with pytest.raises(BrokerError, match="within"):
            async with broker.running(Recorder()):
                pass


async def test_commands_that_wait_are_bounded(server: ValkeyServer) -> None:
    broker = RedisBroker(f"{server.url}?pending=1048576")
    async with broker.running(Recorder()):
        server.pause()
        large = Publication(bytes(600_000))
        waiting = [asyncio.ensure_future(broker.publish("a", large)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(BrokerError, match="pending=1048576"):
            await broker.publish("a", large)
        server.resume()
        await asyncio.gather(*waiting)


async def test_message_that_cannot_be_read_makes_its_channel_suspect(
    server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    broker, recorder = RedisBroker(server.url), Recorder()
    async with broker.running(recorder):
        await broker.subscribe(["a"])
        for message in (b"?", b"p", b"pabc 1 \xff", b"q\x91", b"", b"px y z"):
            server.command("PUBLISH", "hubbub:{a}", message)
        await broker.publish("a", Publication(b"1"))
        await until(lambda: len(recorder.events) == 1)

    assert recorder.suspected == [["a"]] * 6


async def test_receiver_that_fails_does_not_break_the_link(
    server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Recorder):
        def deliver(self, channel: str, event: Any) -> None:
            super().deliver(channel, event)
            raise ValueError(channel)

    broker, recorder = RedisBroker(server.url), Failing()
    async with broker.running(recorder):
        await broker.subscribe(["a"])
        await broker.publish("a", Publication(b"1"))
        await broker.publish("a", Publication(b"2"))
        await until(lambda: len(recorder.events) == 2)

    assert recorder.suspected == []


# Batches.


async def test_concurrent_publications_go_out_together_in_order(server: ValkeyServer) -> None:
    broker = RedisBroker(server.url)
    async with broker.running(Recorder()):

        def reads() -> int:
            return int(server.command("INFO", "stats")["total_reads_processed"])

        before = reads()
        positions = await asyncio.gather(
            *(
                broker.publish("a", Publication(b"%d" % n), history_size=5, history_ttl=60)
                for n in range(1_000)
            )
        )
        round_trips = reads() - before

    assert [position.offset for position in positions] == list(range(1, 1_001))
    assert round_trips < 100


async def test_many_channels_are_subscribed_again_after_an_outage(server: ValkeyServer) -> None:
    broker, recorder = RedisBroker(server.url), Recorder()
    channels = [f"channel-{n}" for n in range(12_000)]
    async with broker.running(recorder):
        await broker.subscribe(channels)
        await broker.unsubscribe(channels[::2])
        server.command("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: recorder.suspected == [None])
        assert int(server.command("PUBSUB", "NUMSUB", "hubbub:{channel-1}")[1]) == 1
        assert int(server.command("PUBSUB", "NUMSUB", "hubbub:{channel-2}")[1]) == 0
        await broker.publish(channels[-1], Publication(b"1"))
        await until(lambda: len(recorder.events) == 1)


async def test_databases_and_prefixes_are_worlds_of_their_own(server: ValkeyServer) -> None:
    recorders = [Recorder() for _ in range(3)]
    queries = ["?db=0", "?db=1", "?prefix=other"]
    async with contextlib.AsyncExitStack() as stack:
        brokers = [RedisBroker(server.url + query) for query in queries]
        for broker, recorder in zip(brokers, recorders, strict=True):
            await stack.enter_async_context(broker.running(recorder))
            await broker.subscribe(["a"])
        for broker in brokers:
            position = await broker.publish("a", Publication(b"1"), history_size=1, history_ttl=9)
            assert position.offset == 1
            await broker.send_control(b"x")
        await until(lambda: all(len(recorder.events) == 2 for recorder in recorders))
        await asyncio.sleep(50 * MS)

    assert [len(recorder.events) for recorder in recorders] == [2, 2, 2]
