"""URLs of the redis broker, and the names and messages that it makes."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubbub import ConfigError
from hubbub.brokers.opening import open_broker
from hubbub.brokers.redis import codec
from hubbub.brokers.redis.address import Address, parse_address
from hubbub.brokers.redis.names import CONTROL, Names, slot_of
from hubbub.clock import SystemClock
from hubbub.model import ClientInfo, Join, Leave, Publication

ADDRESSES = {
    "redis://localhost": Address(hosts=(("localhost", 6379),)),
    "redis://": Address(hosts=(("localhost", 6379),)),
    "redis://ada:p%40ss%2F@one:7000/3?prefix=app": Address(
        hosts=(("one", 7000),), username="ada", password="p@ss/", db=3, prefix="app"
    ),
    "redis://:secret@[::1]:7000/": Address(hosts=(("::1", 7000),), password="secret"),
    "rediss://one?ca=/ca.pem&cert=/c.pem&key=/k.pem": Address(
        hosts=(("one", 6379),), tls=True, ca="/ca.pem", cert="/c.pem", key="/k.pem"
    ),
    "unix:///run/valkey.sock?db=2&timeout=1.5": Address(path="/run/valkey.sock", db=2, timeout=1.5),
    "unix://:secret@/s": Address(path="/s", password="secret"),
    "redis+sentinel://:pw@one,two:7000/main/1?sentinel_password=x": Address(
        kind="sentinel",
        hosts=(("one", 26379), ("two", 7000)),
        service="main",
        db=1,
        password="pw",
        sentinel_password="x",
    ),
    "redis+cluster://one:1,two:2?sharded=no&epochs=keep&pending=2097152": Address(
        kind="cluster",
        hosts=(("one", 1), ("two", 2)),
        sharded=False,
        epochs="keep",
        pending=2_097_152,
    ),
}


@pytest.mark.parametrize("url", ADDRESSES)
def test_url_says_where_the_broker_is(url: str) -> None:
    assert parse_address(url) == ADDRESSES[url]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://:s3cret@one?pool=5", "unknown parameter 'pool': redis: knows connect_timeout"),
        ("redis://:s3cret@one?ca=x", "unknown parameter 'ca'"),
        ("redis://:s3cret@one?prefix=a&prefix=b", "twice"),
        ("redis://:s3cret@one/zero", "database 'zero' should be a number"),
        ("redis://:s3cret@one/0/1", "should be empty"),
        ("redis://:s3cret@one:70000", "port '70000'"),
        ("redis://:s3cret@one:x", "port 'x'"),
        ("redis://:s3cret@one#2", "fragment"),
        ("redis://:s3cret@one?timeout=0", "timeout=0"),
        ("redis://:s3cret@one?timeout=inf", "timeout=inf"),
        ("redis://:s3cret@one?pending=1000", "pending=1000"),
        ("redis://:s3cret@one?prefix={a}", "prefix={a}"),
        ("redis://:s3cret@one?prefix=", "prefix="),
        ("redis://:s3cret@one?epochs=never", "epochs=never"),
        ("redis+cluster://:s3cret@one?sharded=1", "sharded=1"),
        ("redis+cluster://:s3cret@one/1", "no numbered databases"),
        ("redis+sentinel://:s3cret@one", "service's name"),
        ("unix://:s3cret@", "path of a socket"),
        ("unix://:s3cret@one/s", "three slashes"),
        ("redis://[:s3cret@one", "malformed"),
        ("rediz://:s3cret@one", "scheme 'rediz'"),
    ],
)
def test_url_that_is_not_understood_is_an_error_without_the_password(
    url: str, problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        open_broker(url, SystemClock())

    assert problem in str(caught.value)
    assert "s3cret" not in str(caught.value)


@settings(deadline=None)
@given(st.text(max_size=20))
def test_names_of_a_channel_live_in_one_slot(channel: str) -> None:
    names = Names("hubbub", 1)
    tag = names.tag(channel)
    made = [names.key(tag, b"meta"), names.key(tag, b"once:}{"), names.topic(tag)]

    assert len({slot_of(name) for name in made}) == 1
    # What a cluster makes of it: what is between the first braces, if that is something.
    hashed = {name.partition(b"{")[2].partition(b"}")[0] for name in made}
    assert hashed == {tag.encode()}
    assert tag != CONTROL


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_channels_have_names_of_their_own(one: str, other: str) -> None:
    names = Names("hubbub", 0)

    assert (names.tag(one) == names.tag(other)) == (one == other)


INFOS = st.builds(ClientInfo, st.text(), st.text(), st.binary(), st.binary())
PUBLICATIONS = st.builds(
    Publication,
    st.binary(),
    st.none() | INFOS,
    st.dictionaries(st.text(), st.text()),
    st.booleans(),
    time=st.integers(0, 2**53),
)


@settings(deadline=None)
@given(PUBLICATIONS, st.integers(1, 2**53))
def test_publication_comes_out_as_it_went_in(publication: Publication, offset: int) -> None:
    body = codec.encode_publication(publication)
    expected = codec.decode_publication(body, "abc", offset)

    assert codec.decode_event(b"q" + body) == publication
    assert codec.decode_event(b"pabc %d " % offset + body) == expected
    assert (expected.data, expected.info, expected.tags) == (
        publication.data,
        publication.info,
        publication.tags,
    )
    assert (expected.epoch, expected.offset) == ("abc", offset)


@settings(deadline=None)
@given(INFOS)
def test_joins_leaves_and_presence_come_out_as_they_went_in(info: ClientInfo) -> None:
    for event in (Join(info), Leave(info)):
        assert codec.decode_event(codec.encode_announcement(event)) == event
    assert codec.decode_presence(codec.encode_presence(info)) == info


@settings(deadline=None)
@given(st.binary())
def test_message_that_is_none_is_a_value_error(message: bytes) -> None:
    with contextlib.suppress(ValueError):
        codec.decode_event(message)
