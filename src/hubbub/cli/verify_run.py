"""Verifying a hub: clients that come and go, publications that are counted, and a verdict.

    open      all clients connect and subscribe; every channel is published to once
    load      publications at a rate, connections cut at random, actions; until the time is over
    settle    nobody publishes; all clients come back
    hear      canaries are published until every subscriber has heard one in each of its channels
    presence  asked until it is right

Clients are followers (`hubbub.cli.following`), as `hubbub tap` is one.
"""

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hubbub.cli import backoff
from hubbub.cli.chaos import Action
from hubbub.cli.descriptors import allow_descriptors
from hubbub.cli.failure import USAGE, Failure
from hubbub.cli.following import Follower, Interest, Lost
from hubbub.cli.hub_dialing import HubDialer, hub_address
from hubbub.cli.traffic import plural
from hubbub.cli.verification import Fault, Verification
from hubbub.cli.verify_client import MIN_SIZE, Payloads, Publisher, Subscriber, Tally
from hubbub.cli.verify_report import ActionTaken, Report
from hubbub.protocol.commands import PresenceRequest
from hubbub.protocol.values import EMPTY, Error

__all__ = ["DECLARATION", "Action", "Options", "Progress", "Report", "verify"]

DECLARATION: Final = (
    'hub.channel("verify:{n:int}", history=10_000, ttl=600, presence=True, publish="anyone")'
)
"""How a hub declares the channels that are used unless others are asked for."""

_OPENING_AT_ONCE: Final = 64
_TICK: Final = 0.05

# Between two canaries in a channel, and two questions for its presence.
_ROUND: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a hub is verified.

    Attributes:
        clients: How many subscribe.
        channels: How many channels there are.
        channel: Their names, with `{n}` in the place of a number from 0.
        subscriptions: Channels that each client subscribes to.
        publishers: How many publish, besides the clients; each has one publication under way.
        rate: Publications per second, of all publishers together.
        size: Of a payload in bytes, at least 48.
        seconds: How long to publish.
        kill_rate: Connections that are cut per second, of clients and publishers.
        token: Connection JWT; empty: none. It has to outlive the run.
        headers: Of the opening handshake.
        insecure: Accept any TLS certificate.
        answer_timeout: Longest time for the reply to a command, in seconds.
        max_delay: Longest time between two attempts to connect, in seconds; that of SDKs.
        settle_bound: Seconds in which all clients have to be back, after the last publication.
        canary_bound: Seconds in which all have to hear a canary, after that.
        presence_bound: Seconds in which presence has to be right, after that.
        strict: Whether it is a fault to be told `recovered: false`.
        seed: Makes choices the same as in another run. `None`: any.
    """

    clients: int = 50
    channels: int = 10
    channel: str = "verify:{n}"
    subscriptions: int = 2
    publishers: int = 10
    rate: float = 50.0
    size: int = 128
    seconds: float = 60.0
    kill_rate: float = 1.0
    token: str = ""
    headers: Sequence[tuple[str, str]] = ()
    insecure: bool = False
    answer_timeout: float = 5.0
    max_delay: float = backoff.MAX_DELAY
    settle_bound: float = 60.0
    canary_bound: float = 30.0
    presence_bound: float = 90.0
    strict: bool = False
    seed: int | None = None

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            Failure: It does not.
        """
        if "{n}" not in self.channel and self.channels > 1:
            raise Failure(
                f"--channel '{self.channel}' has no {{n}} for {self.channels} channels", USAGE
            )
        if self.subscriptions > self.channels:
            raise Failure(
                f"--subscriptions {self.subscriptions} is more than --channels {self.channels}",
                USAGE,
            )
        reached = self.clients * self.subscriptions
        if reached < self.channels:
            raise Failure(
                f"--clients {self.clients} with --subscriptions {self.subscriptions} are in"
                f" {reached} of --channels {self.channels}: the others would have no subscriber",
                USAGE,
            )
        if self.size < MIN_SIZE:
            raise Failure(f"--size {self.size} is below {MIN_SIZE}", USAGE)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is.

    Attributes:
        phase: `open`, `load`, `settle`, `hear` or `presence`.
        elapsed: Seconds of publishing, or in this phase.
        settled: Clients that stand in all of their channels.
        faults: Found so far.
    """

    phase: str
    elapsed: float
    settled: int
    clients: int
    sent: int
    acknowledged: int
    deliveries: int
    kills: int
    recoveries: int
    told_so: int
    faults: int


async def verify(
    urls: Sequence[str],
    options: Options | None = None,
    *,
    actions: Sequence[Action] = (),
    on_progress: Callable[[Progress], object] = lambda progress: None,
    stop: asyncio.Event | None = None,
) -> Report:
    """Verify that a hub delivers what it has acknowledged.

        report = await verify(["localhost:8005"], Options(seconds=10), actions=[
            Action(5.0, "restart", restart),
        ])
        assert report.is_good, report.findings

    Args:
        urls: Of its nodes. Clients are spread over them, and reconnect to the next one.
        actions: What is done meanwhile, in the order of their times and never two at once. The
            load ends when its time is over and all of them have been done.
        on_progress: Called about twenty times a second.
        stop: Ends the load early when it is set; the rest of the run is as ever. So does the end
            of all publishers.

    Raises:
        Failure: An option makes no sense, or at the beginning: the hub cannot be reached, or does
            not permit what is needed.
        ExceptionGroup: An action raised something else.

    Cancelled: all connections are closed.
    """
    options = options or Options()
    options.check()
    if not urls:
        raise Failure("there is no address to verify", USAGE)
    run = _Run(urls, options, actions, on_progress, stop or asyncio.Event())
    report: Report | None = None
    try:
        report = await run.run()
    except* Failure as failures:
        raise _first(failures) from None
    assert report is not None, "it returned, or raised"
    return report


class _Run:
    """One run."""

    def __init__(
        self,
        urls: Sequence[str],
        options: Options,
        actions: Sequence[Action],
        on_progress: Callable[[Progress], object],
        stop: asyncio.Event,
    ) -> None:
        self._options = options
        self._actions = sorted(actions, key=lambda action: action.at)
        self._on_progress = on_progress
        self._stop = stop
        self._seed = secrets.randbits(32) if options.seed is None else options.seed
        self._random = random.Random(self._seed)  # noqa: S311  # no secret
        self._verification = Verification()
        self._tally = Tally()
        self._taken: list[ActionTaken] = []
        self._kills = 0
        self._phase = "open"
        self._phase_began = _now()
        self._unchecked: Counter[str] = Counter()
        # By client and channel; they are not deaf.
        self._absent: set[tuple[int, str]] = set()
        # Not `format`: other braces in a name are itself.
        self._channels = [
            options.channel.replace("{n}", str(number)) for number in range(options.channels)
        ]
        self._payloads = Payloads(secrets.token_hex(4).encode(), self._channels, options.size)
        addresses = [hub_address(url) for url in urls]
        slots = asyncio.Semaphore(_OPENING_AT_ONCE)

        def follower(
            client: Subscriber | Publisher, channels: Sequence[str], first: int
        ) -> Follower:
            dialer = HubDialer(
                addresses,
                headers=options.headers,
                insecure=options.insecure,
                compression=False,
                first=first,
                slots=slots,
            )
            interest = Interest(
                channels, EMPTY, lambda: options.token, join_leave=False, name="hubbub verify"
            )
            return Follower(
                dialer, interest, client, answer_timeout=options.answer_timeout, wait=self._wait
            )

        self._subscribers: list[Subscriber] = []
        for number in range(options.clients):
            channels = self._channels_of(number)
            subscriber = Subscriber(number, channels, self._verification, self._payloads)
            subscriber.follower = follower(subscriber, channels, number)
            self._subscribers.append(subscriber)
        self._publishers: list[Publisher] = []
        for number in range(options.publishers):
            publisher = Publisher(number, self._verification, self._payloads, self._tally)
            publisher.follower = follower(publisher, (), number)
            self._publishers.append(publisher)

    async def run(self) -> Report:
        options = self._options
        allow_descriptors(
            options.clients + options.publishers,
            f"--clients {options.clients} --publishers {options.publishers}",
        )
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._follow(client)) for client in self._clients]
            try:
                return await self._verify()
            finally:
                for task in tasks:
                    task.cancel()

    @property
    def _clients(self) -> "list[Subscriber | Publisher]":
        return [*self._subscribers, *self._publishers]

    def _channels_of(self, client: int) -> list[str]:
        """Spread clients over channels, evenly."""
        first = client * self._options.subscriptions
        count = len(self._channels)
        return [self._channels[(first + at) % count] for at in range(self._options.subscriptions)]

    def _wait(self, attempts: int) -> float:
        return backoff.delay(attempts, self._options.max_delay, self._random.uniform)

    async def _follow(self, client: Subscriber | Publisher) -> None:
        try:
            await client.follower.run()
        except Failure as exc:
            client.give_up(exc)

    async def _verify(self) -> Report:
        self._enter("open")
        await self._open()
        self._enter("load")
        began, cpu = _now(), time.process_time()
        await self._load()
        publishing = _now() - began
        load_use = (time.process_time() - cpu) / max(publishing, _TICK)
        settling = await self._settle()
        hearing = await self._hear()
        presence = await self._check_presence()
        self._verification.finish()
        verification, tally = self._verification, self._tally
        return Report(
            strict=self._options.strict,
            duration=_now() - began,
            publishing=publishing,
            sent=verification.sent,
            acknowledged=verification.acknowledged,
            unanswered=tally.unanswered,
            refusals=tally.refusals,
            left_out=tally.left_out,
            deliveries=verification.deliveries,
            reconnects=sum(max(0, each.follower.connects - 1) for each in self._clients),
            kills=self._kills,
            recoveries=verification.recoveries,
            told_so=verification.told_so,
            excused=verification.excused,
            uncompared=verification.uncompared,
            settling=settling,
            hearing=hearing,
            presence=presence,
            unchecked_presence=self._unchecked,
            actions=self._taken,
            load_use=load_use,
            faults=+verification.faults,
            findings=verification.findings,
            seed=self._seed,
        )

    # Open.

    async def _open(self) -> None:
        await self._until(self._is_open, None)
        for number, channel in enumerate(self._channels):
            publisher = self._publishers[number % len(self._publishers)]
            error = await publisher.publish(channel)
            if error is not None:
                raise self._refused(f"does not permit publishing to '{channel}'", _said(error))

    def _is_open(self) -> bool:
        for client in self._clients:
            if client.failure is not None and not isinstance(client, Subscriber):
                raise client.failure
        for subscriber in self._subscribers:
            for channel, why in subscriber.refusals.items():
                raise self._refused(f"refuses channel '{channel}'", why)
            if subscriber.failure is not None:
                raise subscriber.failure
            if subscriber.unrecoverable:
                problem = f"has no history in '{subscriber.unrecoverable}' to recover from"
                raise self._refused(problem, "")
        return all(client.follower.is_following for client in self._clients)

    def _refused(self, problem: str, why: str) -> Failure:
        reason = f": {why}" if why else ""
        location = self._clients[0].follower.location
        return Failure(f"{location} {problem}{reason}; declare it, such as {DECLARATION}")

    # Load.

    async def _load(self) -> None:
        """Publish, cut connections and act until the time is over."""
        over = asyncio.Event()
        began = _now()
        async with asyncio.TaskGroup() as group:
            for number, publisher in enumerate(self._publishers):
                group.create_task(self._publish(publisher, number, began, over))
            killing = group.create_task(self._kill())
            acting = group.create_task(self._act(began))
            await self._until(
                lambda: (
                    self._ends_early()
                    or (_now() - began >= self._options.seconds and acting.done())
                ),
                None,
            )
            killing.cancel()
            if self._ends_early():
                acting.cancel()
            over.set()

    def _ends_early(self) -> bool:
        """Tell whether there is nothing left to load with, or somebody asked for the end."""
        return self._stop.is_set() or all(each.failure for each in self._publishers)

    async def _publish(
        self, publisher: Publisher, number: int, began: float, over: asyncio.Event
    ) -> None:
        """Publish evenly, in turn with the others, to channels by chance."""
        chance = random.Random(f"{self._seed} {number}")  # noqa: S311  # no secret
        period = len(self._publishers) / self._options.rate
        turn = 0
        while True:
            due = began + (turn + number / len(self._publishers)) * period
            try:
                async with asyncio.timeout_at(due):
                    await over.wait()
                return
            except TimeoutError:
                pass  # it is due
            await publisher.publish(chance.choice(self._channels))
            # What became due meanwhile cannot be made up for: a hub that was away would be flooded.
            late = max(0, int((_now() - due) / period) - 1)
            self._tally.left_out += late
            turn += 1 + late

    async def _kill(self) -> None:
        """Cut connections by chance."""
        if not self._options.kill_rate:
            return
        chance = random.Random(f"{self._seed} kill")  # noqa: S311  # no secret
        clients = self._clients
        while True:
            await asyncio.sleep(chance.expovariate(self._options.kill_rate))
            self._kills += chance.choice(clients).follower.abort()

    async def _act(self, began: float) -> None:
        for action in self._actions:
            await asyncio.sleep(began + action.at - _now())
            start = _now()
            problem = ""
            try:
                await action.run()
            except Failure as exc:
                problem = str(exc)
                self._verification.report(Fault.ACTION, f"{action.name}: {problem}")
            taken = ActionTaken(action.name, start - began, _now() - start, problem)
            self._taken.append(taken)

    # The end.

    async def _settle(self) -> float:
        """Wait until all clients are back."""
        self._enter("settle")
        seconds = await self._until(
            self._is_settled,
            self._options.settle_bound,
        )
        for subscriber in self._subscribers:
            self._report_absence(subscriber)
        for publisher in self._publishers:
            if not publisher.follower.client:
                reason = publisher.failure or self._late
                self._verification.report(Fault.ABSENT, f"publisher {publisher.number}: {reason}")
        return seconds

    def _is_settled(self) -> bool:
        publishers = all(each.follower.client or each.failure for each in self._publishers)
        return publishers and all(each.is_settled for each in self._alive())

    def _report_absence(self, subscriber: Subscriber) -> None:
        number, report = subscriber.number, self._verification.report
        if subscriber.failure is not None:
            report(Fault.ABSENT, str(subscriber.failure), client=number)
            return
        for channel in subscriber.channels:
            if not subscriber.follower.is_subscribed(channel):
                why = subscriber.refusals.get(channel, self._late)
                report(Fault.ABSENT, why, channel, number)
                self._absent.add((number, channel))

    async def _hear(self) -> float:
        """Publish canaries until everybody has heard one in each channel."""
        self._enter("hear")
        began = _now()
        while True:
            deaf = self._deaf()
            left = began + self._options.canary_bound - _now()
            if not deaf or left <= 0:
                break
            for channel in sorted({channel for _, channel in deaf}):
                publisher = self._publisher()
                if publisher is not None and _now() < began + self._options.canary_bound:
                    await publisher.publish(channel, is_canary=True)
            await self._until(lambda: not self._deaf(), min(_ROUND, left))
        for subscriber, channel in self._deaf():
            bound = f"--canary-bound {self._options.canary_bound:g} s"
            text = f"no canary heard within {bound}"
            self._verification.report(Fault.DEAF, text, channel, subscriber.number)
        return _now() - began

    def _deaf(self) -> list[tuple[Subscriber, str]]:
        return [
            (subscriber, channel)
            for subscriber in self._alive()
            for channel in subscriber.channels
            if channel not in subscriber.heard and (subscriber.number, channel) not in self._absent
        ]

    async def _check_presence(self) -> float | None:
        """Ask who is present until it is who is subscribed."""
        self._enter("presence")
        began = _now()
        wrong = dict.fromkeys(self._channels, "no answer")
        while True:
            for channel in list(wrong):
                wrong[channel] = await self._presence_problem(channel)
                if not wrong[channel]:
                    del wrong[channel]
            left = began + self._options.presence_bound - _now()
            if not wrong or left <= 0:
                break
            await self._until(lambda: False, min(_ROUND, left))
        bound = f"--presence-bound {self._options.presence_bound:g} s"
        for channel, problem in wrong.items():
            self._verification.report(Fault.PRESENCE, f"{problem}, after {bound}", channel)
        if wrong or self._unchecked.total() == len(self._channels):
            return None
        return _now() - began

    async def _presence_problem(self, channel: str) -> str:
        """Say what is wrong with a channel's presence; empty: nothing, or it cannot be asked."""
        members = [
            each
            for each in self._alive()
            if channel in each.channels and (each.number, channel) not in self._absent
        ]
        if not members:  # a fault by itself
            return ""
        asker = next((each for each in members if each.follower.is_subscribed(channel)), None)
        if asker is None:
            return "nobody is there to ask"
        try:
            reply = await asker.follower.ask("presence", PresenceRequest(channel))
        except Lost as exc:
            return str(exc)
        if reply.error is not None:
            if reply.error.temporary:
                return _said(reply.error)
            self._unchecked[_said(reply.error)] += 1
            return ""
        present = set() if reply.presence is None else set(reply.presence.presence)
        subscribed = {
            each.follower.client for each in members if each.follower.is_subscribed(channel)
        }
        if present == subscribed:
            return ""
        missing, others = len(subscribed - present), len(present - subscribed)
        return f"of {plural(len(subscribed), 'subscriber')} {missing} are missing, {others} others"

    # All along.

    @property
    def _late(self) -> str:
        return f"not back within --settle-bound {self._options.settle_bound:g} s"

    def _alive(self) -> list[Subscriber]:
        return [each for each in self._subscribers if each.failure is None]

    def _publisher(self) -> Publisher | None:
        return next((each for each in self._publishers if each.follower.client), None)

    async def _until(self, condition: Callable[[], bool], bound: float | None) -> float:
        """Wait for a condition, no longer than so many seconds; return how long it took."""
        began = _now()
        while True:
            done = condition()
            elapsed = _now() - began
            self._tell()
            if done or (bound is not None and elapsed >= bound):
                return elapsed
            left = _TICK if bound is None else bound - elapsed
            await asyncio.sleep(min(_TICK, left))

    def _enter(self, phase: str) -> None:
        self._phase, self._phase_began = phase, _now()

    def _tell(self) -> None:
        verification = self._verification
        self._on_progress(
            Progress(
                phase=self._phase,
                elapsed=_now() - self._phase_began,
                settled=sum(each.is_settled for each in self._subscribers),
                clients=len(self._subscribers),
                sent=verification.sent,
                acknowledged=verification.acknowledged,
                deliveries=verification.deliveries,
                kills=self._kills,
                recoveries=verification.recoveries,
                told_so=verification.told_so,
                faults=sum((+verification.faults).values()),
            )
        )


def _first(failures: BaseExceptionGroup[Failure]) -> Failure:
    """Return the first failure of a group; the others are the same, or were caused by it."""
    first: BaseException = failures
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    assert isinstance(first, Failure), "the group was split by its type"
    return first


def _said(error: Error) -> str:
    return f"{error.code} {error.message}"


def _now() -> float:
    return asyncio.get_running_loop().time()
