from hypothesis import given
from hypothesis import strategies as st

from hubbub.hub.recovery import follow, recover_newest, recover_stream
from hubbub.model import History, Position, Publication

EPOCH = "epoch"


def stream(first: int, last: int, epoch: str = EPOCH) -> tuple[Publication, ...]:
    return tuple(Publication(b"", offset=n, epoch=epoch) for n in range(first, last + 1))


def offsets(publications: tuple[Publication, ...] | None) -> list[int] | None:
    return None if publications is None else [each.offset for each in publications]


@given(
    top=st.integers(0, 12),
    kept=st.integers(0, 12),
    offset=st.integers(0, 14),
    limit=st.integers(1, 12),
    epoch=st.sampled_from(["", EPOCH, "another"]),
)
def test_recover_stream_gives_all_that_was_missed_or_nothing(
    top: int, kept: int, offset: int, limit: int, epoch: str
) -> None:
    oldest = max(1, top - kept + 1)
    page = stream(max(oldest, offset + 1), top)[:limit]
    found = recover_stream(Position(epoch, offset), History(page, Position(EPOCH, top)))
    missed = list(range(offset + 1, top + 1))
    recoverable = (
        epoch in ("", EPOCH)
        and offset <= top
        and (not missed or missed[0] >= oldest)
        and len(missed) <= limit
    )

    assert offsets(found) == (missed if recoverable else None)


@given(
    top=st.integers(0, 5),
    stored=st.booleans(),
    offset=st.none() | st.integers(0, 6),
    epoch=st.sampled_from(["", EPOCH, "another"]),
)
def test_recover_newest_gives_the_newest_unless_the_client_has_it(
    top: int, stored: bool, offset: int | None, epoch: str
) -> None:
    page = stream(top, top) if stored and top else ()
    since = None if offset is None else Position(epoch, offset)
    found = recover_newest(since, History(page, Position(EPOCH, top)))
    up_to_date = offset == top and epoch == EPOCH
    if page:
        assert offsets(found) == ([] if up_to_date else [top])
    else:
        assert offsets(found) == ([] if up_to_date and top else None)


def test_recover_newest_that_is_gone() -> None:
    read = History(stream(3, 3), Position(EPOCH, 4))

    assert recover_newest(Position(EPOCH, 2), read) is None


@given(top=st.integers(0, 5), count=st.integers(0, 6), start=st.integers(-3, 2), data=st.data())
def test_follow_continues_at_the_top_without_repetitions(
    top: int, count: int, start: int, data: st.DataObject
) -> None:
    first = max(1, top + 1 + start)
    buffered: list[Publication] = []
    for publication in stream(first, first + count - 1):
        buffered.append(publication)
        if data.draw(st.booleans()):
            buffered.append(Publication(b"without history"))
        if data.draw(st.booleans()):
            buffered.append(publication)
    found = follow(Position(EPOCH, top), buffered)
    if count and first > top + 1:
        assert found is None
    else:
        assert found is not None
        new = range(top + 1, first + count) if count else ()
        assert [each.offset for each in found if each.offset] == list(new)
        assert [each for each in found if not each.offset] == [
            each for each in buffered if not each.offset
        ]


def test_follow_refuses_a_gap_and_another_epoch() -> None:
    top = Position(EPOCH, 3)

    assert follow(top, [*stream(4, 4), *stream(6, 6)]) is None
    assert follow(top, stream(4, 4, "another")) is None
    assert follow(top, stream(1, 1, "another")) is None
    assert follow(top, []) == ()
