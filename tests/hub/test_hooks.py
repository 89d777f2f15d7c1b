import functools
from typing import Any

import msgspec
import pytest

from hubbub.hub.hooks import Hook, MessageHook

KEYWORDS = {"channel", "room"}


def call(hook: Hook) -> Any:
    return hook("client", channel="chat:lobby", room="lobby")


def test_hook_gets_by_keyword_what_it_names() -> None:
    assert call(Hook(lambda client: client, KEYWORDS)) == "client"
    assert call(Hook(lambda client, room: (client, room), KEYWORDS)) == ("client", "lobby")
    assert call(Hook(lambda c, *, channel, extra=1: (channel, extra), KEYWORDS)) == (
        "chat:lobby",
        1,
    )
    assert call(Hook(lambda c, **rest: rest, KEYWORDS)) == {
        "channel": "chat:lobby",
        "room": "lobby",
    }


def test_hook_gets_no_default_argument_that_is_not_among_the_keywords() -> None:
    assert call(Hook(lambda client, room, limit=5: (room, limit), KEYWORDS)) == ("lobby", 5)


def test_method_and_object_are_hooks() -> None:
    class Application:
        def decide(self, client: object, room: str) -> str:
            return room

        async def __call__(self, client: object) -> None: ...

    application = Application()

    assert call(Hook(application.decide, KEYWORDS)) == "lobby"
    assert Hook(application, KEYWORDS).may_suspend
    assert call(Hook(functools.partial(application.decide, room="x"), set())) == "x"


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda: None, "must take the client"),
        (lambda *, client: None, "must take the client"),
        (lambda client, user: None, "asks for 'user'"),
        (lambda client, room, /: None, "asks for 'room'"),
        (7, "a hook must be a function"),
    ],
)
def test_hook_that_cannot_be_called_is_refused_at_once(function: Any, problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        Hook(function, KEYWORDS)


async def test_async_hook_has_to_be_awaited() -> None:
    async def decide(client: object, room: str) -> str:
        return room

    hook = Hook(decide, KEYWORDS)

    assert hook.may_suspend
    assert await call(hook) == "lobby"


def test_plain_hook_that_returns_an_awaitable_is_refused() -> None:
    async def decide(client: object) -> None: ...

    hook = Hook(lambda client: decide(client), KEYWORDS)

    assert not hook.may_suspend
    with pytest.raises(TypeError, match="make it `async def`"):
        call(hook)


def test_message_hook_knows_the_type_of_its_message() -> None:
    class Point(msgspec.Struct):
        x: int

    def typed(client: object, point: int) -> None: ...
    def untyped(client: object, point) -> None: ...  # type: ignore[no-untyped-def]
    def nameless(client: object, point: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821
    def without(client: object) -> str:
        return "called"

    assert MessageHook(typed).type is int
    assert MessageHook(untyped).type is Any
    assert MessageHook(nameless).type is Any
    assert MessageHook(without).type is Any
    assert not MessageHook(without).takes_message
    assert MessageHook(without)("client") == "called"
    assert MessageHook(lambda client, message=1: message)("client", 2) == 2


@pytest.mark.parametrize(
    "function", [lambda: None, lambda a, b, c: None, lambda a, *, b: None, lambda *, a: None]
)
def test_message_hook_with_other_arguments_is_refused(function: Any) -> None:
    with pytest.raises(TypeError, match="must take the client, and may take one message"):
        MessageHook(function)


def test_plain_message_hook_that_returns_an_awaitable_is_refused() -> None:
    async def answer(client: object) -> None: ...

    with pytest.raises(TypeError, match="make it `async def`"):
        MessageHook(lambda client: answer(client))("client")
