"""A scenario of chaos: a hub is set up, used, hurt, mended and judged."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from hubbub.cli.chaos import Action
from hubbub.cli.verify_report import Report
from hubbub.cli.verify_run import Options, Progress, verify
from tests.chaos.level import MIB, Level
from tests.chaos.node import Node
from tests.chaos.witnesses import Witnesses, witnesses
from tests.interop import javascript_sdk
from tests.timing import MS

__all__ = [
    "FULL",
    "SETTLE_BOUND",
    "SHORT",
    "Need",
    "Outcome",
    "Scale",
    "Scenario",
    "Setting",
    "Told",
    "run",
]

SECOND = 1_000 * MS
"""On a quiet machine; bounds of what has to happen are multiples of it."""

SETTLE_BOUND = 30 * SECOND
"""Seconds in which everything has to be live again after it was mended."""

RED_BOUND = 10 * SECOND
"""Seconds in which `/readyz` has to be red after a broker is out of reach, and green after."""

MEMORY_TOLERANCE = 24 * MIB
"""By how much a node may be above its level afterwards: allocators keep what was used once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How big it is.

    Attributes:
        nodes: Of the hub.
        clients: Of `hubbub verify`; each subscribes to two channels.
        channels: Of them.
        rate: Publications per second of `hubbub verify`.
        calm: Seconds before the trouble.
        trouble: Seconds that it lasts.
        after: Seconds of publishing after it.
        sdks: Clients of each SDK in each wire format; all subscribe to all of their channels.
        sdk_rate: Publications per second of each.
        presence_ttl: Seconds, see `Hub`.
    """

    nodes: int
    clients: int
    channels: int
    rate: float
    calm: float
    trouble: float
    after: float
    sdks: int
    sdk_rate: float
    presence_ttl: float


FULL = Scale(
    nodes=2,
    clients=500,
    channels=50,
    rate=200,
    calm=5,
    trouble=10,
    after=10,
    sdks=2,
    sdk_rate=2,
    presence_ttl=60,
)
SHORT = Scale(
    nodes=2,
    clients=16,
    channels=8,
    rate=24,
    calm=1,
    trouble=2.5,
    after=2,
    sdks=1,
    sdk_rate=3,
    presence_ttl=6,
)


class Need(Enum):
    """What a machine has to have for a scenario."""

    VALKEY = "valkey"
    NAMESPACES = "namespaces"
    DISK = "disk"


class Told(Enum):
    """Who is to learn that it has missed something."""

    NOBODY = "nobody"
    EVERYBODY = "everybody"


@dataclass(slots=True, kw_only=True)
class Setting:
    """A hub that has been set up, and what will happen to it.

    Attributes:
        nodes: Of the hub.
        trouble: Hurts it.
        repair: Mends it.
        cut_off: Nodes that cannot work meanwhile, and have to say so.
        facts: For the report, filled by whoever knows them.
        problems: What went wrong besides what is found out by itself; filled likewise.
    """

    nodes: Sequence[Node]
    trouble: Callable[[], Awaitable[object]]
    repair: Callable[[], Awaitable[object]]
    cut_off: Sequence[Node] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is done, and what has to come of it.

    Attributes:
        name: For the command line.
        title: For people.
        setting: Sets the hub up in a folder of its own, and takes it down.
        needs: What it needs.
        told: Who is to learn that something was missed.
        refuses: Whether publications have to be refused meanwhile, by those that cannot work.
        size: Of payloads in bytes.
        alone: Whether the hub has one node, whatever the scale says.
        connected: Whether all clients have to stay connected throughout.
        most_delay: Seconds in which 99 of 100 deliveries have to come; `None`: some wait for the
            repair.
    """

    name: str
    title: str
    setting: Callable[[Scale, Path], AbstractAsyncContextManager[Setting]]
    needs: Collection[Need]
    told: Told = Told.NOBODY
    refuses: bool = False
    size: int = 128
    alone: bool = False
    connected: bool = False
    most_delay: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a scenario.

    Attributes:
        problems: What should not be; empty: all promises were kept.
        report: Of `hubbub verify`.
        sdks: Clients of SDKs that took part.
        sdk_published: What they published.
        sdk_acknowledged: Of that.
        sdk_deliveries: Of what they got.
        sdk_recoveries: Subscriptions of theirs that recovered.
        sdk_told_so: Subscriptions of theirs that were told otherwise.
        delay: Seconds in which 99 of 100 deliveries to SDKs came, from publishing on.
        live: Seconds from the repair until all were live again.
        red: Seconds from the trouble until `/readyz` was red. `None`: it had not to be.
        green: Seconds from the repair until it was green again.
        sdk_presence: Seconds until the SDKs saw each other present, at the end.
        memory: Of the largest node in bytes: before the trouble, at most, and in the end.
        facts: More, by name.
    """

    name: str
    title: str
    nodes: int
    problems: Sequence[str]
    report: Report
    sdks: int
    sdk_published: int
    sdk_acknowledged: int
    sdk_deliveries: int
    sdk_recoveries: int
    sdk_told_so: int
    delay: float
    live: float
    red: float | None
    green: float | None
    sdk_presence: float
    memory: tuple[int, int, int]
    facts: dict[str, Any]


async def run(
    scenario: Scenario, scale: Scale, folder: Path, javascript: javascript_sdk.Node | None
) -> Outcome:
    """Run a scenario from the setting to the verdict.

    Args:
        folder: For what programs write; it exists, and is this scenario's.
        javascript: Runs the SDK for JavaScript; `None`: without it.
    """
    async with scenario.setting(scale, folder) as setting:
        urls = [node.url for node in setting.nodes]
        async with witnesses(urls, javascript, scale.sdks) as sdks:
            course = _Course(scenario, scale, setting)
            options = Options(
                clients=scale.clients,
                channels=scale.channels,
                rate=scale.rate,
                publishers=scale.channels,
                size=scenario.size,
                seconds=scale.calm + scale.trouble + scale.after,
                kill_rate=0,
                answer_timeout=5 * SECOND,
                max_delay=1.0,
                settle_bound=SETTLE_BOUND,
                canary_bound=SETTLE_BOUND,
                presence_bound=scale.presence_ttl + SETTLE_BOUND,
            )
            over = asyncio.Event()
            async with asyncio.TaskGroup() as group, course.level.watching():
                group.create_task(sdks.publish(scale.sdk_rate, over))
                try:
                    report = await verify(
                        urls, options, actions=course.actions, on_progress=course.progress
                    )
                finally:
                    over.set()
            deaf = await sdks.hear()
            presence = await sdks.presence(scale.presence_ttl + SETTLE_BOUND)
            sdks.collect()
            memory = (course.before, course.level.highest, course.after)
            return Outcome(
                name=scenario.name,
                title=scenario.title,
                nodes=1 if scenario.alone else scale.nodes,
                problems=[
                    *_problems_of(report),
                    *sdks.evidence.faults(),
                    *deaf,
                    *setting.problems,
                    *course.problems,
                    *_problems(scenario, scale, report, sdks, memory),
                ],
                report=report,
                sdks=len(sdks.witnesses),
                sdk_published=sum(each.published for each in sdks.witnesses),
                sdk_acknowledged=sum(map(len, sdks.evidence.acked.values())),
                sdk_deliveries=sdks.evidence.deliveries,
                sdk_recoveries=sdks.evidence.recoveries,
                sdk_told_so=sdks.evidence.told_so,
                delay=sdks.delay(0.99),
                live=course.live,
                red=course.red,
                green=course.green,
                sdk_presence=presence,
                memory=memory,
                facts=setting.facts,
            )


class _Course:
    """The course of a run: when it was hurt, when mended, and what was seen meanwhile.

    Attributes:
        before: Memory before the trouble, in bytes.
        after: The same in the end.
    """

    def __init__(self, scenario: Scenario, scale: Scale, setting: Setting) -> None:
        self._setting = setting
        self._scale = scale
        self.problems: list[str] = []
        self.level = Level(lambda: [node.rss for node in setting.nodes])
        self.before = self.after = 0
        self.red: float | None = None
        self.green: float | None = None
        self._hurt_at = self._mended_at = 0.0
        self._unsettled_at = self._delivered_at = 0.0
        self._delivered = 0
        self.actions = [
            Action(scale.calm, scenario.name, self._hurt),
            Action(scale.calm + scale.trouble, "repair", self._mend),
        ]

    @property
    def live(self) -> float:
        """Seconds from the repair until all were back and something came."""
        return max(0.0, self._unsettled_at - self._mended_at, self._delivered_at - self._mended_at)

    def progress(self, progress: Progress) -> None:
        """Take note of where the run is."""
        now = time.monotonic()
        if progress.settled < progress.clients and progress.phase in ("load", "settle"):
            self._unsettled_at = now
        if self._mended_at and not self._delivered_at and progress.deliveries > self._delivered:
            self._delivered_at = now
        if not self._mended_at:
            self._delivered = progress.deliveries
        if progress.phase in ("hear", "presence"):
            self.after = self.level.last

    async def _hurt(self) -> None:
        self.level.reset()
        self.before = self.level.now()
        self._hurt_at = time.monotonic()
        await self._setting.trouble()
        with self._noting():
            for node in self._setting.cut_off:
                text = await node.ready(False, RED_BOUND)
                self.red = time.monotonic() - self._hurt_at
                self._setting.facts["readyz"] = text

    async def _mend(self) -> None:
        await self._setting.repair()
        self._mended_at = time.monotonic()
        with self._noting():
            for node in self._setting.cut_off:
                await node.ready(True, RED_BOUND)
                self.green = time.monotonic() - self._mended_at

    @contextlib.contextmanager
    def _noting(self) -> Any:
        try:
            yield
        except AssertionError as exc:
            self.problems.append(str(exc))


def _problems_of(report: Report) -> list[str]:
    counts = [f"hubbub verify: {fault.value}: {count}" for fault, count in report.faults.items()]
    return counts + [
        f"{each.fault.value}: {each.channel} client {each.client}: {each.text}"
        for each in report.findings[:5]
    ]


def _problems(
    scenario: Scenario,
    scale: Scale,
    report: Report,
    sdks: Witnesses,
    memory: tuple[int, int, int],
) -> list[str]:
    """Say what did not come of it that had to."""
    problems = []
    subscriptions = 2 * scale.clients
    told_so = report.told_so + sdks.evidence.told_so
    if scenario.told is Told.NOBODY and told_so:
        problems.append(f"{told_so} subscriptions were told that they missed something")
    if scenario.told is Told.EVERYBODY:
        of_sdks = len(sdks.witnesses) ** 2
        if report.told_so < subscriptions or sdks.evidence.told_so < of_sdks:
            problems.append(
                f"{report.told_so} of {subscriptions} subscriptions and {sdks.evidence.told_so}"
                f" of {of_sdks} of SDKs were told that they missed something"
            )
    if scenario.refuses and not report.refusals and not report.unanswered:
        problems.append("every publication was acknowledged, also by who cannot work")
    if report.acknowledged < 0.2 * report.sent or not report.deliveries:
        problems.append(f"only {report.acknowledged} of {report.sent} were acknowledged")
    if scenario.connected and report.reconnects:
        problems.append(f"{report.reconnects} connections were lost, and none had to be")
    delay = sdks.delay(0.99)
    if scenario.most_delay is not None and delay > scenario.most_delay:
        problems.append(f"99 of 100 deliveries took {delay:.3f} s, not {scenario.most_delay:g}")
    before, _, after = memory
    if after > before + MEMORY_TOLERANCE:
        problems.append(f"memory went from {before >> 20} to {after >> 20} MiB, and stayed there")
    return problems
