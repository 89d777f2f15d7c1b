"""`hubbub verify` against hubs that keep their promises, and hubs that break each of them."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Unpack

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets
from websockets.exceptions import ConnectionClosed

from hubbub import ClientInfo, History, Hub, Limits, Position, Publication, Server, serve
from hubbub.brokers.memory import MemoryBroker
from hubbub.cli.chaos import commands_in_turn
from hubbub.cli.failure import Failure
from hubbub.cli.verification import Fault
from hubbub.cli.verify_report import Report, counts, remarks, serialize
from hubbub.cli.verify_run import DECLARATION, Action, Options, Progress, verify
from hubbub.clock import SystemClock
from hubbub.model import ChannelKeywords
from hubbub.protocol import json as json_codec
from hubbub.protocol import values
from hubbub.protocol.commands import Command
from hubbub.protocol.replies import Push, Reply
from hubbub.protocol.results import (
    ConnectResult,
    PresenceResult,
    PublishResult,
    SubscribeResult,
)
from tests.cli.commands import TIMEOUT
from tests.cli.commands import hubbub as run_hubbub
from tests.cli.conftest import Outcome
from tests.contract.cluster import ClusterBroker, ClusterStore
from tests.examples import EXAMPLES, running
from tests.hub.brokers import LossyBroker

PATH = "/connection/websocket"

# Waits that nothing should need, and that fail a test all the same, are of this length.
BOUNDS: dict[str, Any] = {
    "settle_bound": TIMEOUT,
    "canary_bound": TIMEOUT,
    "presence_bound": TIMEOUT,
    "answer_timeout": TIMEOUT,
}


def options(**changes: Any) -> Options:
    """A run of few clients that come back soon."""
    few = {"clients": 6, "channels": 3, "publishers": 3, "seconds": 600, "rate": 200.0, "seed": 1}
    return Options(**{**few, "kill_rate": 0.0, "max_delay": 0.02, **BOUNDS, **changes})


def new_hub(broker: Any = "memory:", **changes: Unpack[ChannelKeywords]) -> Hub:
    channel: ChannelKeywords = {
        "history": 1000,
        "ttl": 600,
        "presence": True,
        "publish": "anyone",
        **changes,
    }
    hub = Hub(broker, limits=Limits(recovery=1000))
    hub.channel("verify:{n:int}", **channel)
    return hub


def port_of(server: Server) -> int:
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port


@asynccontextmanager
async def served(hub: Hub, port: int = 0) -> AsyncGenerator[str]:
    async with serve({PATH: hub}, "127.0.0.1", port) as server:
        yield f"127.0.0.1:{port_of(server)}"


def enough(progress: Progress) -> bool:
    return progress.sent >= 40


async def verified(
    hub: Hub,
    *urls: str,
    actions: Sequence[Action] = (),
    until: Callable[[Progress], bool] = enough,
    **changes: Any,
) -> tuple[Report, dict[Fault, int]]:
    """Verify a hub, in a server of its own unless there are others.

    Args:
        until: When to end the load, once all actions have been done.
    """
    stop = asyncio.Event()
    left = len(actions)

    def counted(action: Action) -> Action:
        async def run() -> None:
            nonlocal left
            try:
                await action.run()
            finally:
                left -= 1

        return Action(action.at, action.name, run)

    def on_progress(progress: Progress) -> None:
        if progress.phase == "load" and not left and until(progress):
            stop.set()

    async with contextlib.AsyncExitStack() as stack:
        if not urls:
            urls = (await stack.enter_async_context(served(hub)),)
        async with asyncio.timeout(3 * TIMEOUT):
            report = await verify(
                urls,
                options(**changes),
                actions=[counted(action) for action in actions],
                on_progress=on_progress,
                stop=stop,
            )
    return report, dict(report.faults)


# Hubs that keep their promises.


async def test_hub_in_peace_is_good_and_everything_is_delivered_once() -> None:
    report, faults = await verified(new_hub())

    assert (report.is_good, faults, list(report.findings)) == (True, {}, [])
    assert report.sent >= 40
    assert report.acknowledged == report.sent
    assert report.deliveries == 4 * report.sent  # 6 clients, in 2 of 3 channels each
    assert (report.kills, report.reconnects, report.told_so) == (0, 0, 0)
    assert report.presence is not None


async def test_clients_that_are_cut_recover() -> None:
    report, faults = await verified(
        new_hub(), kill_rate=80.0, strict=True, until=lambda progress: progress.recoveries >= 5
    )

    assert (report.is_good, faults) == (True, {})
    assert report.kills >= 3
    assert report.reconnects == report.kills
    assert report.told_so == 0


async def test_clients_go_from_node_to_node() -> None:
    store = ClusterStore(SystemClock())
    hubs = [new_hub(ClusterBroker(store)) for _ in range(2)]
    async with served(hubs[0]) as first, served(hubs[1]) as second:
        report, faults = await verified(
            hubs[0],
            first,
            second,
            kill_rate=60.0,
            until=lambda progress: progress.recoveries >= 10,
        )

    assert (report.is_good, faults) == (True, {})


async def test_restart_that_loses_everything_is_told_so() -> None:
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(served(new_hub()))
        port = int(url.rpartition(":")[2])
        rest = contextlib.AsyncExitStack()

        async def restart() -> None:
            await stack.aclose()
            await rest.enter_async_context(served(new_hub(), port))

        async with rest:
            report, faults = await verified(
                Hub(),
                url,
                actions=[Action(0.1, "restart", restart)],
                until=lambda progress: progress.told_so == 12,
            )

    assert (report.is_good, faults) == (True, {})
    assert report.told_so == 12
    assert [action.name for action in report.actions] == ["restart"]
    strict = Report(
        **{name: getattr(report, name) for name in Report.__slots__ if name != "strict"},
        strict=True,
    )
    assert not strict.is_good


async def test_history_that_is_too_small_is_told_so() -> None:
    report, faults = await verified(
        new_hub(history=1),
        kill_rate=60.0,
        rate=400.0,
        max_delay=0.2,
        until=lambda progress: progress.told_so >= 2,
    )

    assert (report.is_good, faults) == (True, {})


async def test_presence_that_may_not_be_read_is_not_checked() -> None:
    report, faults = await verified(new_hub(presence=False))

    assert (report.is_good, faults, report.presence) == (True, {}, None)
    reason = "108 not available: presence is off"
    assert report.unchecked_presence == {reason: 3}
    assert f"presence not checked in 3 channels: {reason}" in remarks(report)


async def test_time_ends_the_load() -> None:
    async with served(new_hub()) as url:
        report = await verify([url], options(seconds=0.2))

    assert report.is_good
    assert 0.2 <= report.publishing <= report.duration


async def test_token_is_used_and_others_publications_do_not_matter() -> None:
    hub = new_hub()
    seen: list[str] = []

    @hub.on_connect
    async def connect(client: object, request: Any) -> None:
        seen.append(request.token)

    async def publish() -> None:
        for number in range(3):
            await hub.publish(f"verify:{number}", {"of": "somebody else"})

    actions = [Action(0.1, "publish", publish)]
    report, faults = await verified(hub, actions=actions, token="let me in")

    assert (report.is_good, faults) == (True, {})
    assert report.deliveries == 4 * (report.sent + 3)
    assert set(seen) == {"let me in"}


# Brokers that break one.


class Vanishing(MemoryBroker):
    """Acknowledges each tenth publication, and forgets it."""

    count = 0

    async def publish(self, channel: str, publication: Publication, **rest: Any) -> Position:
        self.count += 1
        if self.count % 10 == 0:
            return Position()
        return await super().publish(channel, publication, **rest)


class Doubling(Vanishing):
    """Has each tenth publication twice."""

    async def publish(self, channel: str, publication: Publication, **rest: Any) -> Position:
        self.count += 1
        if self.count % 10 == 0:
            await MemoryBroker.publish(self, channel, publication, **rest)
        return await MemoryBroker.publish(self, channel, publication, **rest)


class Shuffling(Vanishing):
    """Acknowledges each fifth publication at once, and has it after the next one."""

    late: Publication | None = None

    async def publish(self, channel: str, publication: Publication, **rest: Any) -> Position:
        self.count += 1
        if self.count % 5 == 0:
            self.late = publication
            return Position()
        position = await MemoryBroker.publish(self, channel, publication, **rest)
        late, self.late = self.late, None
        if late is not None:
            position = await MemoryBroker.publish(self, channel, late, **rest)
        return position


class Forgetful(MemoryBroker):
    """Leaves one out of what is recovered."""

    async def history(self, channel: str, **rest: Any) -> History:
        page = await super().history(channel, **rest)
        if len(page.publications) < 3:
            return page
        return History((page.publications[0], *page.publications[2:]), page.position)


class Haunted(MemoryBroker):
    """Keeps some who left in its presence."""

    count = 0

    async def remove_presence(self, channel: str, client: str) -> None:
        self.count += 1
        if self.count % 3:
            await super().remove_presence(channel, client)


class Blind(MemoryBroker):
    """Does not see who enters one channel."""

    async def add_presence(
        self, channel: str, client: str, info: ClientInfo, ttl: float | None
    ) -> None:
        if channel != "verify:1":
            await super().add_presence(channel, client, info, ttl)


BUSY = {"kill_rate": 60.0, "max_delay": 0.2}
ALONE: dict[str, Any] = {"channels": 1, "subscriptions": 1}
IMPATIENT: dict[str, Any] = {"canary_bound": 0.3, "presence_bound": 0.3}


@pytest.mark.parametrize(
    ("broker", "fault", "changes"),
    [
        (Vanishing(), Fault.VANISHED, {}),
        (Doubling(), Fault.DUPLICATED, {}),
        (Shuffling(), Fault.REORDERED, {**ALONE, "publishers": 1}),
        (Forgetful(), Fault.FALSE_RECOVERY, {**BUSY, **ALONE}),
        (Haunted(), Fault.PRESENCE, {**BUSY, **IMPATIENT}),
        (Blind(), Fault.PRESENCE, IMPATIENT),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_broker_that_breaks_a_promise_is_found(
    broker: MemoryBroker, fault: Fault, changes: dict[str, Any]
) -> None:
    in_the_end = fault is Fault.PRESENCE
    report, faults = await verified(
        new_hub(broker),
        until=lambda progress: (
            progress.kills >= 8 or not changes.get("kill_rate")
            if in_the_end
            else progress.faults > 0
        ),
        **changes,
    )

    assert not report.is_good
    assert faults.pop(fault) >= 1
    # What vanishes for a time has vanished in the end, if the time was not over.
    assert set(faults) <= {Fault.LOST, Fault.VANISHED} - {fault}
    assert report.findings[0].fault in (fault, Fault.LOST, Fault.VANISHED)


async def test_node_that_hears_nothing_is_deaf() -> None:
    broker = LossyBroker()

    async def go_deaf() -> None:
        broker.passes = lambda event: False

    actions = [Action(0.1, "go deaf", go_deaf)]
    _, faults = await verified(new_hub(broker), actions=actions, **IMPATIENT)

    assert faults[Fault.DEAF] == 12
    assert faults[Fault.VANISHED] >= 1
    assert set(faults) == {Fault.DEAF, Fault.VANISHED}


async def test_publications_that_a_node_did_not_hear_are_recovered() -> None:
    broker = LossyBroker()
    count = 0

    def passes(event: object) -> bool:
        nonlocal count
        count += 1
        return count % 10 != 0

    broker.passes = passes
    report, faults = await verified(
        new_hub(broker), until=lambda progress: progress.recoveries >= 4
    )

    assert (report.is_good, faults) == (True, {})


# Clients that are ended.


@dataclass
class Ending:
    """Ends a client for good in the middle of a run."""

    hub: Hub
    clients: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        @self.hub.on_connect
        def connect(client: Any) -> None:
            self.clients.append(client.id)

    async def disconnect(self) -> None:
        for client in self.clients:
            await self.hub.disconnect(client=client)

    async def unsubscribe(self) -> None:
        for client in self.clients:
            await self.hub.unsubscribe("verify:1", client=client)


async def test_clients_that_are_disconnected_for_good_are_absent() -> None:
    ending = Ending(new_hub())
    actions = [Action(0.1, "disconnect", ending.disconnect)]
    report, faults = await verified(
        ending.hub, actions=actions, settle_bound=0.2, presence_bound=0.2
    )

    assert faults[Fault.ABSENT] == 6 + 3
    assert "ended the connection: 3503 force disconnect" in report.findings[0].text
    assert set(faults) == {Fault.ABSENT}


async def test_clients_that_are_unsubscribed_are_absent_there() -> None:
    ending = Ending(new_hub())
    actions = [Action(0.1, "unsubscribe", ending.unsubscribe)]
    report, faults = await verified(
        ending.hub, actions=actions, settle_bound=0.2, presence_bound=0.2
    )

    assert faults == {Fault.ABSENT: 4}
    assert {finding.channel for finding in report.findings} == {"verify:1"}


# A hub that is none: it delivers as a test says.


Deliver = Callable[[int], Sequence[int]]


@dataclass
class FakeHub:
    """One channel whose offsets are delivered in an order of the test's."""

    deliver: Deliver
    epoch: str = "e"
    tells_epoch_at: int = 0
    stream: list[values.Publication] = field(default_factory=list)
    members: dict[ServerConnection, str] = field(default_factory=dict)
    clients: int = 0

    async def __call__(self, connection: ServerConnection) -> None:
        self.clients += 1
        client = f"c{self.clients}"
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                for command in json_codec.decode_commands(message):
                    reply = self.answer(connection, client, command)
                    await connection.send(json_codec.encode_reply(reply), text=True)
                    if command.publish is not None:
                        await self.publish()
        self.members.pop(connection, None)

    def answer(self, connection: ServerConnection, client: str, command: Command) -> Reply:
        if command.connect is not None:
            return Reply(id=command.id, connect=ConnectResult(client=client, version="1"))
        if command.subscribe is not None:
            self.members[connection] = client
            result = SubscribeResult(
                recoverable=True, positioned=True, epoch=self.epoch, offset=len(self.stream)
            )
            return Reply(id=command.id, subscribe=result)
        if command.publish is not None:
            publication = values.Publication(data=command.publish.data, offset=len(self.stream) + 1)
            self.stream.append(publication)
            return Reply(id=command.id, publish=PublishResult())
        assert command.presence is not None
        presence = {each: values.ClientInfo("", each) for each in self.members.values()}
        return Reply(id=command.id, presence=PresenceResult(presence))

    async def publish(self) -> None:
        for offset in self.deliver(len(self.stream)):
            publication = self.stream[offset - 1]
            if offset == self.tells_epoch_at:
                publication = values.Publication(
                    data=publication.data, offset=offset, epoch="another"
                )
            push = json_codec.encode_push(Push(channel="verify:0", pub=publication))
            for member in list(self.members):
                await member.send(push, text=True)


@pytest.mark.parametrize(
    ("hub", "expected"),
    [
        (FakeHub(lambda top: [top]), {}),
        (FakeHub(lambda top: [] if top == 9 else [top]), {Fault.LOST: 2}),
        (FakeHub(lambda top: [top, top] if top == 9 else [top]), {Fault.DUPLICATED: 2}),
        (
            FakeHub(lambda top: {9: [], 10: [10, 9]}.get(top, [top])),
            {Fault.REORDERED: 2},
        ),
        (FakeHub(lambda top: [top], tells_epoch_at=9), {Fault.SILENT_EPOCH: 2}),
    ],
    ids=["faithful", "losing", "repeating", "shuffling", "renaming"],
)
async def test_delivery_that_goes_wrong_is_found(hub: FakeHub, expected: dict[Fault, int]) -> None:
    async with serve_websockets(hub, "127.0.0.1", 0) as server:
        url = f"127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        changes: dict[str, Any] = {**ALONE, "clients": 2, "publishers": 1}
        report, faults = await verified(Hub(), url, **changes)

    assert faults == expected
    assert report.is_good == (not expected)


# Runs that cannot begin.


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"publish": "nobody"}, "does not permit publishing to 'verify:0': 103 permission denied"),
        ({"history": 0, "ttl": 300}, "has no history in 'verify:"),
        ({"subscribe": "users"}, "refuses channel 'verify:"),
    ],
)
async def test_hub_that_does_not_permit_it_is_told_what_to_declare(
    changes: Any, problem: str
) -> None:
    with pytest.raises(Failure) as caught:
        await verified(new_hub(**changes))

    assert problem in str(caught.value)
    assert DECLARATION in str(caught.value)


async def test_hub_without_the_channels_is_told_what_to_declare() -> None:
    with pytest.raises(Failure, match=r"refuses channel 'verify:\d': refused: 102 unknown"):
        await verified(Hub())


async def test_nobody_there_is_a_failure() -> None:
    async with served(new_hub()) as url:
        pass
    with pytest.raises(Failure, match="nothing listens on"):
        await verify([url], options())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"channel": "verify"}, "--channel 'verify' has no {n} for 3 channels"),
        ({"subscriptions": 4}, "--subscriptions 4 is more than --channels 3"),
        ({"clients": 1}, "--clients 1 with --subscriptions 2 are in 2 of --channels 3"),
        ({"size": 47}, "--size 47 is below 48"),
    ],
)
async def test_options_that_make_no_sense_are_refused(
    changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(Failure) as caught:
        await verify(["localhost"], options(**changes))

    assert problem in str(caught.value)


async def test_no_address_is_refused() -> None:
    with pytest.raises(Failure, match="there is no address"):
        await verify([], options())


# Actions.


async def test_action_that_fails_is_a_fault() -> None:
    async def fail() -> None:
        raise Failure("no such worker")

    report, faults = await verified(new_hub(), actions=[Action(0.1, "kill worker 9", fail)])

    assert faults == {Fault.ACTION: 1}
    assert report.actions[0].problem == "no such worker"
    assert "action: kill worker 9: no such worker" in remarks(report)


async def test_action_that_raises_ends_the_run() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        await verified(new_hub(), actions=[Action(0.1, "divide", fail)])

    assert caught.value.split(ZeroDivisionError)[1] is None


async def test_commands_come_in_turn(tmp_path: Path) -> None:
    log = tmp_path / "log"
    actions = commands_in_turn([f"echo a >> {log}", f"echo b >> {log}"], 10.0, 40.0)
    assert [action.at for action in actions] == [10.0, 20.0, 30.0]

    for action in actions:
        await action.run()

    assert log.read_text() == "a\nb\na\n"
    assert all(first.at < second.at for first, second in pairwise(actions))
    assert commands_in_turn([], 10.0, 40.0) == []


@pytest.mark.parametrize(
    ("command", "problem"),
    [("echo no >&2; exit 3", "exit code 3: no"), ("sleep 600 & wait", "within 0.1 s")],
)
async def test_command_that_fails_or_hangs_is_a_failure(command: str, problem: str) -> None:
    action, *_ = commands_in_turn([command], 1.0, 2.0, timeout=0.1 if "sleep" in command else 20)
    with pytest.raises(Failure, match=problem):
        await action.run()


# The report.


async def test_report_is_json_and_text() -> None:
    report, _ = await verified(new_hub(Vanishing()), until=lambda progress: progress.faults > 0)

    written = json.loads(json.dumps(serialize(report)))
    assert written["verdict"] == "bad"
    assert written["faults"]["vanished"] == report.faults[Fault.VANISHED]
    assert written["findings"][0]["fault"] == "vanished"
    assert counts(report).row_count == 13 + len(Fault)
    assert remarks(report)[0].startswith("vanished: verify:")


# The command.


@pytest.fixture
def hub_url(tmp_path: Path) -> Any:
    with running(EXAMPLES / "howto" / "verified.py", tmp_path) as example:
        yield f"127.0.0.1:{example.port}"
        example.program.interrupt()
        assert example.program.wait().stderr == ""


FEW = ("--clients", "6", "--channels", "3", "--rate", "100")


def test_command_verifies_the_example(hub_url: str, tmp_path: Path) -> None:
    assert DECLARATION in (EXAMPLES / "howto" / "verified.py").read_text()
    log = tmp_path / "chaos"
    arguments = [*FEW, "--minutes", "0.02", "--kill-rate", "20", "--seed", "3"]
    chaos = ["--chaos", f"echo done >> {log}", "--chaos-interval", "0.5"]
    with run_hubbub("verify", hub_url, *arguments, *chaos, "--json") as command:
        code = command.wait()

    report = json.loads(command.stdout.text)
    assert (code, report["verdict"], report["seed"]) == (0, "good", 3)
    assert report["acknowledged"] > 20
    assert log.read_text() == "done\n" * 2
    assert [action["problem"] for action in report["actions"]] == [None, None]
    assert command.stderr.text.startswith("open 0 s, 0/6 clients")


def test_ctrl_c_ends_the_load_and_the_report_comes(hub_url: str) -> None:
    with run_hubbub("verify", hub_url, *FEW, "--minutes", "60") as command:
        command.stderr.wait_for("^load")
        command.signal(signal.SIGINT)
        code = command.wait()

    assert code == 0
    assert "6 clients in 3 channels, 100 publications/s" in command.stdout.text
    assert "verdict: good" in command.stdout.text


def test_command_that_finds_a_fault_has_code_1(hub_url: str) -> None:
    arguments = [*FEW, "--minutes", "0.01", "--chaos", "exit 7", "--chaos-interval", "0.5"]
    with run_hubbub("verify", hub_url, *arguments) as command:
        code = command.wait()

    assert code == 1
    assert "action: exit 7: exit code 7" in command.stdout.text
    assert "verdict: bad" in command.stdout.text


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--minutes", "0"), "0 is not from 0.01 to 10080"),
        (("--clients", "0"), "0 is not from 1 to 10000"),
        (("--size", "47"), "47 is not from 48 to 1048576"),
        (("--clients", "2"), "--clients 2 with --subscriptions 2 are in 4 of --channels 10"),
    ],
)
def test_option_out_of_bounds_is_refused(
    invoke: Callable[..., Outcome], arguments: Sequence[str], problem: str
) -> None:
    outcome = invoke("verify", "localhost:1", *arguments)

    assert outcome.code == 2
    assert problem in outcome.stderr
