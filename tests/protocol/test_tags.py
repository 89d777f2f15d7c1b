"""Tags filters, against a plain reading of the rules."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hubbub.errors import FilterError
from hubbub.protocol.commands import FilterNode
from hubbub.protocol.tags import MAX_DEPTH, MAX_NODES, MAX_VALUES, compile_filter

KEYS = st.sampled_from(["a", "b"])
VALUES = st.sampled_from(["1", "2", "10", "-1.5", "1e1", "10.0", "x", "xy", "yx"])
TAGS = st.dictionaries(KEYS, VALUES | st.just(""))

LEAVES = (
    st.builds(
        FilterNode,
        key=KEYS,
        cmp=st.sampled_from(["eq", "neq", "sw", "ew", "ct", "gt", "gte", "lt", "lte"]),
        val=VALUES,
    )
    | st.builds(
        FilterNode,
        key=KEYS,
        cmp=st.sampled_from(["in", "nin"]),
        vals=st.lists(VALUES | st.just(""), min_size=1, max_size=3).map(tuple),
    )
    | st.builds(FilterNode, key=KEYS, cmp=st.sampled_from(["ex", "nex"]))
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(
            FilterNode,
            op=st.sampled_from(["and", "or"]),
            nodes=st.lists(inner, min_size=1, max_size=3).map(tuple),
        )
        | st.builds(FilterNode, op=st.just("not"), nodes=st.tuples(inner))
    ),
    max_leaves=8,
)


def model(node: FilterNode, tags: Mapping[str, str]) -> bool:
    """The rules as the protocol writes them."""
    if node.op == "not":
        return not model(node.nodes[0], tags)
    if node.op:
        return (all if node.op == "and" else any)(model(child, tags) for child in node.nodes)
    if node.cmp == "in":
        return tags.get(node.key, "") in node.vals
    if node.key not in tags:
        return node.cmp in ("neq", "nin", "nex")
    tag, val = tags[node.key], node.val
    if node.cmp in ("gt", "gte", "lt", "lte"):
        try:
            left, right = Decimal(tag), Decimal(val)
        except InvalidOperation:
            return False
        return {
            "gt": left > right,
            "gte": left >= right,
            "lt": left < right,
            "lte": left <= right,
        }[node.cmp]
    return {
        "eq": tag == val,
        "neq": tag != val,
        "sw": tag.startswith(val),
        "ew": tag.endswith(val),
        "ct": val in tag,
        "nin": tag not in node.vals,
        "ex": True,
        "nex": False,
    }[node.cmp]


@given(FILTERS, TAGS)
@example(FilterNode(key="a", cmp="in", vals=("",)), {})
@example(FilterNode(key="a", cmp="nin", vals=("",)), {})
@example(FilterNode(key="a", cmp="lt", val="x"), {"a": "1"})
def test_filter_agrees_with_the_rules(node: FilterNode, tags: dict[str, str]) -> None:
    assert model(node, tags) == compile_filter(node)(tags)


LEAF = FilterNode(key="a", cmp="ex")


@pytest.mark.parametrize(
    "node",
    [
        FilterNode(),
        FilterNode(key="a"),
        FilterNode(key="a", cmp="like", val="x"),
        FilterNode(op="xor", nodes=(LEAF,)),
        FilterNode(op="and"),
        FilterNode(op="or"),
        FilterNode(op="not"),
        FilterNode(op="not", nodes=(LEAF, LEAF)),
        FilterNode(op="and", nodes=(LEAF, FilterNode())),
        FilterNode(key="a", cmp="ex", nodes=(LEAF,)),
        FilterNode(cmp="eq", val="x"),
        FilterNode(key="a", cmp="eq"),
        FilterNode(key="a", cmp="eq", val="x", vals=("x",)),
        FilterNode(key="a", cmp="gt", vals=("1",)),
        FilterNode(key="a", cmp="in"),
        FilterNode(key="a", cmp="in", val="x", vals=("x",)),
        FilterNode(cmp="in", vals=("x",)),
        FilterNode(key="a", cmp="ex", val="x"),
        FilterNode(key="a", cmp="nex", vals=("x",)),
    ],
)
def test_malformed_filter_is_refused(node: FilterNode) -> None:
    with pytest.raises(FilterError):
        compile_filter(node)


def nest(levels: int) -> FilterNode:
    node = LEAF
    for _ in range(levels - 1):
        node = FilterNode(op="not", nodes=(node,))
    return node


def test_filter_at_the_limits_is_taken() -> None:
    values = tuple(map(str, range(MAX_VALUES)))

    assert compile_filter(nest(MAX_DEPTH))({"a": ""}) is (MAX_DEPTH % 2 == 1)
    assert compile_filter(FilterNode(op="and", nodes=(LEAF,) * (MAX_NODES - 1)))({"a": ""})
    assert compile_filter(FilterNode(key="a", cmp="in", vals=values))({"a": "7"})


@pytest.mark.parametrize(
    "node",
    [
        nest(MAX_DEPTH + 1),
        FilterNode(op="and", nodes=(LEAF,) * MAX_NODES),
        FilterNode(key="a", cmp="in", vals=("x",) * (MAX_VALUES + 1)),
    ],
)
def test_filter_over_the_limits_is_refused(node: FilterNode) -> None:
    with pytest.raises(FilterError, match="over"):
        compile_filter(node)


@pytest.mark.parametrize(
    "text", ["", " 1", "1_0", "NaN", "Infinity", "0x1", "1e", ".", "--1", "\u0661", "1e9999999999"]
)
def test_what_is_no_decimal_number_compares_false(text: str) -> None:
    low, high = FilterNode(key="a", cmp="lte", val="1"), FilterNode(key="a", cmp="gte", val="1")

    assert not compile_filter(low)({"a": text})
    assert not compile_filter(high)({"a": text})
    if text:
        assert not compile_filter(FilterNode(key="a", cmp="lte", val=text))({"a": "1"})


@pytest.mark.parametrize("text", ["1", "+1", "1.", "1.0", "10e-1", ".1E1", "01"])
def test_decimal_numbers_compare_by_value(text: str) -> None:
    assert compile_filter(FilterNode(key="a", cmp="gte", val="1"))({"a": text})
    assert compile_filter(FilterNode(key="a", cmp="lte", val=text))({"a": "1"})


def test_huge_exponents_are_compared_without_being_written_out() -> None:
    assert compile_filter(FilterNode(key="a", cmp="gt", val="1"))({"a": "1e999999999"})
    assert not compile_filter(FilterNode(key="a", cmp="gt", val="-1e-999999999"))({"a": "-1"})
