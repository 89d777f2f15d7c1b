"""What a node knows of the others: they announce themselves, and answer questions.

All of it goes by control messages, which reach every node, the sender included; no broker stores
it. With a broker that is alone nothing is sent: the node is all there is (ADR 0018).
"""

from __future__ import annotations

import asyncio
import fnmatch
import os
import re
import socket
import uuid
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, assert_never

from hubbub.errors import BrokerError
from hubbub.hub.control import (
    ChannelsAnswer,
    ChannelsQuestion,
    ClusterMessage,
    NodeGone,
    NodeReport,
    encode,
)
from hubbub.model import ClusterChannels, NodeInfo

if TYPE_CHECKING:
    from hubbub.hub.node import Node

__all__ = ["ANNOUNCE_INTERVAL", "PART", "Cluster"]

ANNOUNCE_INTERVAL: Final = 5.0
"""Seconds between two announcements of a node."""

GONE_AFTER: Final = 3 * ANNOUNCE_INTERVAL
"""Seconds of silence after which a node is taken for gone."""

PART: Final = 1_000
"""Channels in one message of an answer: some 100 KiB at most with the usual lengths of names."""


class Cluster:
    """The nodes that share a broker, as one of them sees them."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._uid = ""
        self._began = 0.0
        self._heard: dict[str, _Heard] = {}
        self._questions: dict[str, _Question] = {}
        self._announcing = False

    # Its life.

    def begin(self) -> None:
        """Become a new node."""
        self._uid = str(uuid.uuid4())
        self._began = self._node.clock.monotonic()
        self._heard.clear()

    def enter(self) -> None:
        """Announce the node, now and from time to time; others say at once that they are here."""
        if not self._node.broker.alone:
            self._announce(asks=True)
            self._node.wheel.schedule(ANNOUNCE_INTERVAL, self._announce_again)

    def leave(self) -> None:
        """Say good-bye."""
        if not self._node.broker.alone:
            self._node.spawn(self._send(NodeGone(self._uid)))

    def end(self) -> None:
        """Wait for no more answers."""
        for question in self._questions.values():
            question.finish()

    # What is known.

    def nodes(self) -> list[NodeInfo]:
        """Return the nodes that were heard of lately, this one first, others by name."""
        self._forget_silent()
        now = self._node.clock.monotonic()
        others = [_info(heard.report, now - heard.at) for heard in self._heard.values()]
        return [_info(self._report()), *sorted(others, key=lambda each: (each.name, each.uid))]

    async def channels(self, pattern: str, timeout: float) -> ClusterChannels:  # noqa: ASYNC109 - no failure
        """Ask all nodes for their channels.

        Raises:
            BrokerError: The question could not be sent.
        """
        counts = Counter(self._count(pattern))
        silent: tuple[NodeInfo, ...] = ()
        if not self._node.broker.alone:
            self._forget_silent()
            number = str(uuid.uuid4())
            question = self._questions[number] = _Question(set(self._heard))
            timer = self._node.wheel.schedule(timeout, question.finish)
            try:
                message = encode(ChannelsQuestion(number, self._uid, pattern))
                await self._node.broker.send_control(message)
                await question.finished
            finally:
                timer.cancel()
                del self._questions[number]
            for answer in question.answers:
                counts.update(answer)
            silent = tuple(each for each in self.nodes()[1:] if each.uid in question.silent)
        return ClusterChannels(dict(counts), silent)

    # From other nodes.

    def take(self, message: ClusterMessage) -> None:
        """Take what a node says, this one included."""
        if message.uid == self._uid:
            return
        match message:
            case NodeReport():
                self._heard[message.uid] = _Heard(message, self._node.clock.monotonic())
                if message.asks:
                    self._announce()
            case NodeGone():
                self._forget(message.uid)
            case ChannelsQuestion():
                self._node.spawn(self._answer(message))
            case ChannelsAnswer():
                question = self._questions.get(message.question)
                if question is not None:
                    question.take(message)
            case _:
                assert_never(message)

    async def _answer(self, question: ChannelsQuestion) -> None:
        counts = list(self._count(question.pattern).items())
        parts = max(1, -(-len(counts) // PART))
        for part in range(parts):
            channels = dict(counts[part * PART : (part + 1) * PART])
            await self._send(ChannelsAnswer(question.question, self._uid, channels, part, parts))

    def _forget(self, uid: str) -> None:
        self._heard.pop(uid, None)
        for question in self._questions.values():
            question.forget(uid)

    def _forget_silent(self) -> None:
        now = self._node.clock.monotonic()
        for uid in [uid for uid, each in self._heard.items() if now - each.at >= GONE_AFTER]:
            self._forget(uid)

    # To other nodes.

    def _announce_again(self) -> None:
        self._node.wheel.schedule(ANNOUNCE_INTERVAL, self._announce_again)
        self._forget_silent()
        self._announce()

    def _announce(self, *, asks: bool = False) -> None:
        # Behind a broker that hangs, announcements must not pile up: one waits at most.
        if not self._announcing:
            self._announcing = True
            self._node.spawn(self._send_report(asks=asks))

    async def _send_report(self, *, asks: bool) -> None:
        try:
            await self._send(self._report(asks=asks))
        finally:
            self._announcing = False

    async def _send(self, message: ClusterMessage) -> None:
        try:
            await self._node.broker.send_control(encode(message))
        except BrokerError as exc:
            # Whoever watches the broker has said it louder; the next announcement makes up for it.
            self._node.logger.debug("a message to the other nodes was not sent: %s", exc)

    # About this node.

    def _report(self, *, asks: bool = False) -> NodeReport:
        node = self._node
        return NodeReport(
            uid=self._uid,
            name=f"{socket.gethostname()}:{os.getpid()}",
            version=node.version,
            clients=len(node.registry.sessions),
            users=node.registry.users,
            subscriptions=node.tally.subscriptions,
            channels=len(node.registry.groups),
            uptime=node.clock.monotonic() - self._began,
            asks=asks,
        )

    def _count(self, pattern: str) -> dict[str, int]:
        matches = re.compile(fnmatch.translate(pattern)).match
        return {
            channel: len(group.subscribers)
            for channel, group in self._node.registry.groups.items()
            if group.subscribers and matches(channel)
        }


class _Heard:
    """The last report of a node, and when it came."""

    __slots__ = ("at", "report")

    def __init__(self, report: NodeReport, at: float) -> None:
        self.report = report
        self.at = at


class _Question:
    """Answers that are waited for.

    Attributes:
        silent: Nodes that have not answered, or not to the end.
        answers: Whole parts of whole answers.
        finished: Set when all have answered, or nobody waits any longer.
    """

    def __init__(self, silent: set[str]) -> None:
        self.silent = silent
        self.answers: list[Mapping[str, int]] = []
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parts: dict[str, dict[int, Mapping[str, int]]] = {}
        self._answered = set[str]()
        self._finish_if_answered()

    def take(self, answer: ChannelsAnswer) -> None:
        """Take a part of an answer, also of a node that was not known."""
        if answer.uid in self._answered:
            return
        parts = self._parts.setdefault(answer.uid, {})
        parts[answer.part] = answer.channels
        if len(parts) == answer.parts:
            self._answered.add(answer.uid)
            self.answers.extend(self._parts.pop(answer.uid).values())
            self.forget(answer.uid)

    def forget(self, uid: str) -> None:
        """Wait for a node no longer."""
        self.silent.discard(uid)
        self._finish_if_answered()

    def finish(self) -> None:
        """Wait for nobody any longer."""
        if not self.finished.done():
            self.finished.set_result(None)

    def _finish_if_answered(self) -> None:
        if not self.silent:
            self.finish()


def _info(report: NodeReport, ago: float = 0.0) -> NodeInfo:
    return NodeInfo(
        uid=report.uid,
        name=report.name,
        version=report.version,
        clients=report.clients,
        users=report.users,
        subscriptions=report.subscriptions,
        channels=report.channels,
        uptime=report.uptime + ago,
    )
