"""Tags filters: which publications of a channel a subscription wants, by their tags.

A filter is a tree (client protocol, `FilterNode`). `and` and `or` have children, `not` has one; a
leaf compares the tag `key` in the way `cmp`:

    eq neq sw ew ct    with `val`, as text: equal, not, starts, ends, contains
    gt gte lt lte      with `val`, as decimal numbers; never true if either is none
    in nin             with `vals`: listed, not
    ex nex             with nothing: the tag is there, is not

Without the tag `neq`, `nin` and `nex` are true, `in` looks for the empty text, all else is false.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from operator import ge, gt, le, lt

from hubbub.errors import FilterError
from hubbub.protocol.commands import FilterNode

__all__ = ["MAX_DEPTH", "MAX_NODES", "MAX_VALUES", "TagsFilter", "compile_filter"]

TagsFilter = Callable[[Mapping[str, str]], bool]
"""Whether a publication with these tags passes."""

# The protocol names no limits. These are far above what people write, and bound what one
# subscription can cost each publication.
MAX_DEPTH = 16
MAX_NODES = 256
MAX_VALUES = 1024

# As strict as the decimals of other servers: no spaces, underscores, infinities.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?")

_TEXT: dict[str, Callable[[str, str], bool]] = {
    "eq": str.__eq__,
    "neq": str.__ne__,
    "sw": str.startswith,
    "ew": str.endswith,
    "ct": str.__contains__,
}
_NUMERIC: dict[str, Callable[[Decimal, Decimal], bool]] = {"gt": gt, "gte": ge, "lt": lt, "lte": le}


def compile_filter(root: FilterNode) -> TagsFilter:
    """Check a filter and turn it into a function of a publication's tags.

    Raises:
        FilterError: The filter is malformed, or over `MAX_DEPTH` levels, `MAX_NODES` nodes or
            `MAX_VALUES` values altogether.
    """
    _check_size(root)
    return _compile(root)


def _check_size(root: FilterNode) -> None:
    level: tuple[FilterNode, ...] = (root,)
    depth = nodes = values = 0
    while level:
        depth += 1
        nodes += len(level)
        values += sum(len(node.vals) for node in level)
        if depth > MAX_DEPTH:
            raise FilterError(f"over {MAX_DEPTH} levels deep")
        if nodes > MAX_NODES:
            raise FilterError(f"over {MAX_NODES} nodes")
        if values > MAX_VALUES:
            raise FilterError(f"over {MAX_VALUES} values")
        level = tuple(child for node in level for child in node.nodes)


def _compile(node: FilterNode) -> TagsFilter:
    if node.op == "":
        return _compile_leaf(node)
    children = tuple(_compile(child) for child in node.nodes)
    match node.op, children:
        case "not", (child,):
            return lambda tags: not child(tags)
        case "not", _:
            raise FilterError(f"not has one child, got {len(children)}")
        case "and" | "or", ():
            raise FilterError(f"{node.op} has no child")
        case "and", _:
            return lambda tags: all(child(tags) for child in children)
        case "or", _:
            return lambda tags: any(child(tags) for child in children)
    raise FilterError("unknown op")


def _compile_leaf(node: FilterNode) -> TagsFilter:
    cmp = node.cmp
    if cmp not in _TEXT and cmp not in _NUMERIC and cmp not in ("in", "nin", "ex", "nex"):
        raise FilterError("unknown cmp")
    if node.nodes:
        raise FilterError("a leaf has children")
    if not node.key and cmp not in ("ex", "nex"):
        raise FilterError(f"{cmp} needs a key")
    if bool(node.val) != (cmp in _TEXT or cmp in _NUMERIC):
        raise FilterError(f"{cmp} takes no val" if node.val else f"{cmp} needs a val")
    if bool(node.vals) != (cmp in ("in", "nin")):
        raise FilterError(f"{cmp} takes no vals" if node.vals else f"{cmp} needs vals")
    if cmp in _NUMERIC:
        return _compile_numeric(node.key, _NUMERIC[cmp], node.val)
    if cmp in _TEXT:
        return _compile_text(node.key, _TEXT[cmp], node.val, absent=cmp == "neq")
    return _compile_membership(node.key, cmp, frozenset(node.vals))


def _compile_text(
    key: str, compare: Callable[[str, str], bool], val: str, *, absent: bool
) -> TagsFilter:
    def passes(tags: Mapping[str, str]) -> bool:
        tag = tags.get(key)
        return absent if tag is None else compare(tag, val)

    return passes


def _compile_numeric(key: str, compare: Callable[[Decimal, Decimal], bool], val: str) -> TagsFilter:
    limit = _number(val)

    def passes(tags: Mapping[str, str]) -> bool:
        tag = tags.get(key)
        if tag is None or limit is None:
            return False
        number = _number(tag)
        return number is not None and compare(number, limit)

    return passes


def _compile_membership(key: str, cmp: str, vals: frozenset[str]) -> TagsFilter:
    if cmp == "ex":
        return lambda tags: key in tags
    if cmp == "nex":
        return lambda tags: key not in tags
    if cmp == "in":
        return lambda tags: tags.get(key, "") in vals
    return lambda tags: key not in tags or tags[key] not in vals


def _number(text: str) -> Decimal | None:
    if _NUMBER.fullmatch(text) is None:
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        # An exponent beyond what this machine's decimals can hold.
        return None
