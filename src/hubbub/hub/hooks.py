"""Hooks: functions of the application that the hub calls, checked when they are registered."""

import inspect
import typing
from collections.abc import Callable, Collection
from typing import Any

__all__ = ["Hook", "MessageHook", "check_background"]


class Hook:
    """A function that is called with a client and, by keyword, what it names of some arguments.

    Args:
        function: Plain or `async def`. A plain one must not block; its command is executed
            without a task.
        keywords: What it may name. With `**kwargs` it gets all of them.

    Attributes:
        may_suspend: Whether its result has to be awaited.

    Raises:
        TypeError: It takes no client, or asks for something else without a default.
    """

    __slots__ = ("_function", "_names", "may_suspend")

    def __init__(self, function: Callable[..., Any], keywords: Collection[str]) -> None:
        parameters = _parameters(function)
        if not parameters or parameters[0].kind not in _POSITIONAL:
            raise TypeError(f"{_name(function)} must take the client as its first argument")
        self._function = function
        self.may_suspend = _may_suspend(function)
        self._names: frozenset[str] | None = frozenset()
        for parameter in parameters[1:]:
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                self._names = None
                return
            if parameter.name in keywords and parameter.kind is not _POSITIONAL_ONLY:
                self._names |= {parameter.name}
            elif parameter.default is inspect.Parameter.empty:
                raise TypeError(
                    f"{_name(function)} asks for {parameter.name!r}; there is the client, and by "
                    f"keyword: {', '.join(sorted(keywords)) or 'nothing'}"
                )

    def __call__(self, client: object, **arguments: Any) -> Any:
        """Call the function; to be awaited if `may_suspend`."""
        if self._names is not None:
            names = self._names
            arguments = {name: value for name, value in arguments.items() if name in names}
        return _checked(self, self._function(client, **arguments))


class MessageHook:
    """A function that is called with a client and, if it takes one, a message.

    Attributes:
        may_suspend: Whether its result has to be awaited.
        takes_message: Whether it has a second parameter.
        type: Annotation of it; `Any` without.

    Raises:
        TypeError: It takes no client, or more than two arguments without a default.
    """

    __slots__ = ("_function", "may_suspend", "takes_message", "type")

    def __init__(self, function: Callable[..., Any]) -> None:
        parameters = [p for p in _parameters(function) if p.kind in _POSITIONAL]
        needed = [p for p in _parameters(function) if _is_needed(p)]
        if not parameters or len(needed) > 2 or any(p.kind not in _POSITIONAL for p in needed):
            raise TypeError(f"{_name(function)} must take the client, and may take one message")
        self._function = function
        self.may_suspend = _may_suspend(function)
        self.takes_message = len(parameters) > 1
        self.type: Any = Any
        if self.takes_message:
            self.type = _hints(function).get(parameters[1].name, Any)

    def __call__(self, client: object, *message: Any) -> Any:
        """Call the function; to be awaited if `may_suspend`."""
        return _checked(self, self._function(client, *message))


def check_background(function: Callable[..., Any]) -> None:
    """Check that a function can be called without arguments, and awaited.

    Raises:
        TypeError: It cannot.
    """
    if any(_is_needed(parameter) for parameter in _parameters(function)):
        raise TypeError(f"{_name(function)} must not need arguments")
    if not _may_suspend(function):
        raise TypeError(f"{_name(function)} must be an async function")


_POSITIONAL_ONLY = inspect.Parameter.POSITIONAL_ONLY
_POSITIONAL = (_POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    if not callable(function):
        raise TypeError(f"a hook must be a function, not {function!r}")
    return list(inspect.signature(function).parameters.values())


def _is_needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty and parameter.kind not in _VARIADIC


def _may_suspend(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - the method of an object, not whether
    )


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}


def _checked(hook: Hook | MessageHook, result: Any) -> Any:
    """Refuse what nobody would await."""
    if not hook.may_suspend and inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError(f"{_name(hook._function)} returned an awaitable: make it `async def`")
    return result


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))
