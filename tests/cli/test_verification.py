"""The rules of `hubbub verify`, against streams that are lists, without a fault and with one."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubbub.cli.verification import MAX_FINDINGS, Fault, Sent, Verification

CHANNEL = "verify:0"
KEPT = 3


@dataclass
class Reader:
    """A subscriber of the list: where it stands, and whether it is connected."""

    epoch: str = ""
    offset: int = 0
    connected: bool = False


@dataclass
class Model:
    """A hub of one channel, whose stream is a list; it tells a verification what clients see."""

    verification: Verification = field(default_factory=Verification)
    stream: list[Sent | None] = field(default_factory=list)
    epochs: int = 1
    readers: list[Reader] = field(default_factory=lambda: [Reader() for _ in range(3)])
    expected: int = 0
    told_so: int = 0

    @property
    def epoch(self) -> str:
        return f"e{self.epochs}"

    def publish(self, publisher: int, outcome: str) -> Sent:
        """Publish; the outcome is `acked`, or what became of one that was not: `in`, `out`."""
        sent = self.verification.send(CHANNEL, publisher)
        if outcome != "out":
            self.stream.append(sent)
        if outcome == "acked":
            self.verification.acknowledge(CHANNEL, sent)
        return sent

    def overlap(self, first: int, second: int) -> None:
        """Publish two at the same time: the one that was sent first comes second."""
        one = self.verification.send(CHANNEL, first)
        other = self.verification.send(CHANNEL, second)
        self.stream += [other, one]
        self.verification.acknowledge(CHANNEL, one)
        self.verification.acknowledge(CHANNEL, other)

    def foreign(self) -> None:
        self.stream.append(None)

    def tell(self, number: int, offset: int, epoch: str = "") -> None:
        """Deliver what is at an offset to a reader, wherever it stands."""
        item = self.stream[offset - 1]
        key = None if item is None else item.key
        self.verification.delivered(number, CHANNEL, key, offset, epoch)
        self.expected += 1

    def read(self, number: int, count: int = 1_000_000) -> None:
        """Deliver what comes next."""
        reader = self.readers[number]
        if not reader.connected or reader.epoch != self.epoch:
            return
        for _ in range(min(count, len(self.stream) - reader.offset)):
            reader.offset += 1
            self.tell(number, reader.offset)

    def disconnect(self, number: int) -> None:
        self.readers[number].connected = False

    def connect(self, number: int) -> None:
        """Subscribe, with recovery if the reader has a position."""
        reader = self.readers[number]
        if reader.connected:
            return
        reader.connected = True
        top = len(self.stream)
        recovers = reader.epoch == self.epoch and top - reader.offset <= KEPT
        if recovers:
            missed = top - reader.offset
            self.verification.subscribed(
                number, CHANNEL, self.epoch, reader.offset, recovered=True, missed=missed
            )
            self.read(number)
            return
        self.told_so += bool(reader.epoch)
        reader.epoch, reader.offset = self.epoch, top
        self.verification.subscribed(number, CHANNEL, self.epoch, top)

    def restart(self) -> None:
        """Lose everything: another epoch."""
        self.epochs += 1
        self.stream.clear()
        for number in range(len(self.readers)):
            self.disconnect(number)

    def finish(self) -> None:
        for number in range(len(self.readers)):
            self.connect(number)
            self.read(number)
        self.publish(99, "acked")
        for number in range(len(self.readers)):
            self.read(number)
        self.verification.finish()

    def faults(self) -> dict[Fault, int]:
        return dict(+self.verification.faults)


PUBLISHERS = st.integers(0, 2)
READERS = st.integers(0, 2)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), PUBLISHERS, st.sampled_from(["acked", "in", "out"])),
        st.tuples(st.just("read"), READERS, st.integers(1, 3)),
        st.tuples(st.just("disconnect"), READERS),
        st.tuples(st.just("connect"), READERS),
        st.tuples(st.just("overlap"), PUBLISHERS, PUBLISHERS),
        st.tuples(st.just("foreign")),
        st.tuples(st.just("restart")),
    ),
    max_size=60,
)


def run(model: Model, steps: list[tuple[object, ...]]) -> None:
    for name, *arguments in steps:
        getattr(model, str(name))(*arguments)


@given(STEPS, st.sampled_from([1, 4, 100]))
def test_hub_that_keeps_its_promises_is_faultless(
    steps: list[tuple[object, ...]], kept: int
) -> None:
    model = Model(Verification(max_kept=kept))
    run(model, steps)
    model.finish()

    assert model.faults() == {}
    assert model.verification.deliveries == model.expected
    assert model.verification.told_so == model.told_so


def standing(steps: list[tuple[object, ...]], seed: int) -> tuple[Model, int]:
    """A hub after some history, with a subscriber in order, and publications for it to come."""
    model = Model()
    run(model, steps)
    for number in range(3):
        model.connect(number)
    model.publish(0, "acked")
    for number in range(3):
        model.read(number)  # so that no recovery is the last that happened
    for _ in range(4):
        model.publish(0, "acked")
    return model, random.Random(seed).randrange(3)


def drop(model: Model, number: int) -> None:
    model.readers[number].offset += 1


def duplicate(model: Model, number: int) -> None:
    model.read(number, 2)
    model.tell(number, model.readers[number].offset)


def repeat_an_older_one(model: Model, number: int) -> None:
    model.read(number, 2)
    model.tell(number, model.readers[number].offset - 1)


def reorder(model: Model, number: int) -> None:
    reader = model.readers[number]
    model.tell(number, reader.offset + 2)
    model.tell(number, reader.offset + 1)
    reader.offset += 2


def silent_epoch(model: Model, number: int) -> None:
    model.verification.delivered(number, CHANNEL, None, 1, "another")
    model.expected += 1
    # From there on it is a client that has to begin anew.
    model.readers[number] = Reader("another", 1)


def false_recovery_that_misses_the_first(model: Model, number: int) -> None:
    reader = model.readers[number]
    model.verification.subscribed(
        number, CHANNEL, reader.epoch, reader.offset, recovered=True, missed=3
    )
    reader.offset += 1


def false_recovery_that_misses_the_third(model: Model, number: int) -> None:
    reader = model.readers[number]
    model.verification.subscribed(
        number, CHANNEL, reader.epoch, reader.offset, recovered=True, missed=3
    )
    model.read(number, 2)
    reader.offset += 1


def false_recovery_that_does_not_go_on(model: Model, number: int) -> None:
    reader = model.readers[number]
    model.verification.subscribed(
        number, CHANNEL, reader.epoch, reader.offset, recovered=True, missed=2
    )
    model.read(number, 2)
    reader.offset += 1


def false_recovery_without_what_was_missed(model: Model, number: int) -> None:
    reader, top = model.readers[number], len(model.stream)
    model.verification.subscribed(number, CHANNEL, reader.epoch, top, recovered=True)
    reader.offset = top


def false_recovery_in_another_epoch(model: Model, number: int) -> None:
    offset = model.readers[number].offset
    model.verification.subscribed(number, CHANNEL, "another", offset, recovered=True)
    model.readers[number] = Reader("another", offset)


def publish_twice(model: Model, number: int) -> None:
    model.stream.append(model.stream[-1])


def vanish(model: Model, number: int) -> None:
    sent = model.publish(1, "out")
    model.verification.acknowledge(CHANNEL, sent)


def append_late(model: Model, number: int) -> None:
    sent = model.publish(1, "out")
    model.verification.acknowledge(CHANNEL, sent)
    model.publish(2, "acked")
    model.stream.append(sent)


def diverge(model: Model, number: int) -> None:
    for reader in range(3):
        model.read(reader)
    model.foreign()
    model.read((number + 1) % 3)
    model.stream[-1] = model.verification.send(CHANNEL, 2)
    model.read(number)
    model.stream[-1] = None


def stray(model: Model, number: int) -> None:
    model.stream.append(Sent(0, 1_000_000, 0))


@pytest.mark.parametrize(
    ("inject", "expected"),
    [
        (drop, {Fault.LOST: 1}),
        (duplicate, {Fault.DUPLICATED: 1}),
        (repeat_an_older_one, {Fault.DUPLICATED: 1}),
        (reorder, {Fault.REORDERED: 1}),
        (silent_epoch, {Fault.SILENT_EPOCH: 1}),
        (false_recovery_that_misses_the_first, {Fault.FALSE_RECOVERY: 1, Fault.LOST: 1}),
        (false_recovery_that_misses_the_third, {Fault.FALSE_RECOVERY: 1, Fault.LOST: 1}),
        (false_recovery_that_does_not_go_on, {Fault.FALSE_RECOVERY: 1, Fault.LOST: 1}),
        (false_recovery_without_what_was_missed, {Fault.FALSE_RECOVERY: 1}),
        (false_recovery_in_another_epoch, {Fault.FALSE_RECOVERY: 1}),
        (publish_twice, {Fault.DUPLICATED: 1}),
        (vanish, {Fault.VANISHED: 1}),
        (append_late, {Fault.REORDERED: 1}),
        (diverge, {Fault.DIVERGED: 1}),
        (stray, {Fault.STRAY: 1}),
    ],
)
@settings(max_examples=40)
@given(steps=STEPS, seed=st.integers(0, 2))
def test_fault_is_found(
    inject: Callable[[Model, int], None],
    expected: dict[Fault, int],
    steps: list[tuple[object, ...]],
    seed: int,
) -> None:
    model, number = standing(steps, seed)
    inject(model, number)
    model.finish()

    assert model.faults() == expected
    assert {finding.fault for finding in model.verification.findings} >= set(expected)


def test_publication_without_subscription_or_offset_is_a_stray() -> None:
    verification = Verification()
    verification.delivered(0, CHANNEL, None, 1)
    verification.subscribed(0, CHANNEL, "e", 0)
    verification.delivered(0, CHANNEL, None, 0)

    assert verification.faults == {Fault.STRAY: 2}


def test_recovered_without_a_position_is_a_false_recovery() -> None:
    verification = Verification()
    verification.subscribed(0, CHANNEL, "e", 3, recovered=True)

    assert verification.faults == {Fault.FALSE_RECOVERY: 1}


def test_acknowledged_and_gone_with_the_epoch_is_excused() -> None:
    model = Model()
    model.connect(0)
    lost = model.publish(0, "acked")
    model.restart()
    model.finish()

    assert model.faults() == {}
    assert (model.verification.excused, model.verification.told_so) == (1, 1)
    assert not lost.is_seen


def test_what_everybody_skipped_is_excused() -> None:
    model = Model()
    model.connect(0)
    model.disconnect(0)
    for _ in range(KEPT + 1):
        model.publish(0, "acked")
    model.finish()

    assert model.faults() == {}
    assert (model.verification.excused, model.verification.told_so) == (KEPT + 1, 1)


def test_what_was_published_to_nobody_is_excused() -> None:
    model = Model()
    model.connect(0)
    before = model.verification.send(CHANNEL, 0)
    model.verification.leave(0, CHANNEL)
    model.verification.acknowledge(CHANNEL, before)
    model.verification.acknowledge(CHANNEL, model.verification.send(CHANNEL, 0))
    model.verification.finish()

    assert model.faults() == {}
    assert model.verification.excused == 2


def test_late_one_that_was_seen_early_is_reordered() -> None:
    model = Model()
    model.connect(0)
    late = model.publish(0, "out")
    model.verification.acknowledge(CHANNEL, late)
    model.publish(1, "acked")
    model.connect(1)
    model.stream.append(late)
    model.read(1)  # begins after the other
    model.read(0)

    assert model.faults() == {Fault.REORDERED: 1}


def test_unacknowledged_one_that_was_forgotten_may_come() -> None:
    model = Model(Verification(max_pending=2))
    model.connect(0)
    sent = [model.publish(0, "out") for _ in range(5)]
    model.stream += sent
    model.finish()

    assert model.faults() == {}


def test_canary_that_nobody_heard_is_not_vanished() -> None:
    verification = Verification()
    verification.subscribed(0, CHANNEL, "e", 0)
    verification.acknowledge(CHANNEL, verification.send(CHANNEL, 0, is_canary=True))
    verification.finish()

    assert not +verification.faults


def test_client_that_left_keeps_nothing_in_memory() -> None:
    model = Model()
    model.connect(0)
    model.connect(1)
    for _ in range(50):
        model.publish(0, "acked")
    model.read(0)

    assert model.verification.kept == 50
    model.verification.leave(1, CHANNEL)
    assert model.verification.kept == 0


def test_epoch_that_nobody_is_in_keeps_nothing_in_memory() -> None:
    model = Model()
    model.connect(0)
    model.connect(1)
    for _ in range(50):
        model.publish(0, "acked")
    model.read(0)
    model.restart()
    model.connect(0)
    assert model.verification.kept == 50
    model.connect(1)

    assert model.verification.kept == 0


def test_memory_is_bounded() -> None:
    model = Model(Verification(max_kept=100, max_pending=20))
    model.connect(0)
    model.connect(1)
    model.disconnect(1)  # stays away
    for step in range(2_000):
        model.publish(step % 3, "out" if step % 2 else "acked")
        model.read(0)
        assert model.verification.kept <= 100 + 20 + 1

    assert model.faults() == {}


def test_acknowledged_publications_that_nobody_gets_vanish_in_the_end() -> None:
    verification = Verification(max_pending=5)
    verification.subscribed(0, CHANNEL, "e", 0)
    for _ in range(8):
        verification.acknowledge(CHANNEL, verification.send(CHANNEL, 0))
    assert verification.faults == {Fault.VANISHED: 3}
    verification.finish()

    assert verification.faults == {Fault.VANISHED: 8}


def test_findings_are_described_up_to_a_number_and_all_counted() -> None:
    verification = Verification()
    for offset in range(MAX_FINDINGS + 10):
        verification.delivered(0, CHANNEL, None, offset)

    assert verification.faults == {Fault.STRAY: MAX_FINDINGS + 10}
    assert len(verification.findings) == MAX_FINDINGS
