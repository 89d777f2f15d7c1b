import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.hub.patterns import Pattern


@pytest.mark.parametrize(
    ("pattern", "channel", "parameters"),
    [
        ("news", "news", {}),
        ("news", "new", None),
        ("news", "news:", None),
        ("news", "news\n", None),
        ("chat:{room}", "chat:lobby", {"room": "lobby"}),
        ("chat:{room}", "chat:", None),
        ("chat:{room}", "chat:a:b", None),
        ("chat:{room}", "xchat:a", None),
        ("chat:{room}", "chat:a\nb", {"room": "a\nb"}),
        ("{room}:{part:str}", "a:b", {"room": "a", "part": "b"}),
        ("item:{number:int}", "item:007", {"number": 7}),
        ("item:{number:int}", "item:-7", None),
        ("item:{number:int}", "item:٣", None),
        ("item:{number:int}", "item:7x", None),
        ("files:{rest:path}", "files:a:b:c", {"rest": "a:b:c"}),
        ("files:{rest:path}", "files:", None),
        ("{name}.{kind}", "a.b", {"name": "a", "kind": "b"}),
        ("a.b", "axb", None),
        ("#{user}", "#42", {"user": "42"}),
    ],
)
def test_pattern_matches_whole_names(
    pattern: str, channel: str, parameters: dict[str, str | int] | None
) -> None:
    assert Pattern(pattern).match(channel) == parameters


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("", "must not be empty"),
        ("$news", r"leave out the \$"),
        ("chat:{", "a brace stands alone in 'chat:{'"),
        ("chat:}", "a brace stands alone"),
        ("chat:{{room}}", "a brace stands alone"),
        ("chat:{}", "'' cannot be the name"),
        ("chat:{1st}", "'1st' cannot be the name"),
        ("{a}:{a}", "'a' cannot be the name"),
        ("{client}", "'client' cannot be the name"),
        ("{message}", "'message' cannot be the name"),
        ("{channel}", "'channel' cannot be the name"),
        ("{a:float}", "'float' is none of str, int, path"),
        ("{a:}", "'' is none of"),
    ],
)
def test_pattern_that_cannot_be_used_says_why(pattern: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Pattern(pattern)


def test_pattern_knows_its_parameters() -> None:
    pattern = Pattern("a:{b}:{c:int}:{d:path}")

    assert pattern.text == "a:{b}:{c:int}:{d:path}"
    assert dict(pattern.parameters) == {"b": str, "c": int, "d": str}


literals = st.text(st.characters(exclude_characters="{}$", exclude_categories=["Cs"]), max_size=5)
segments = st.text(st.characters(exclude_characters=":", exclude_categories=["Cs"]), min_size=1)
kinds = st.sampled_from(["", ":str", ":int", ":path"])


@given(st.lists(st.tuples(kinds, literals, segments, st.integers(0)), max_size=4), literals)
def test_names_made_of_a_pattern_give_their_parameters_back(
    parts: list[tuple[str, str, str, int]], start: str
) -> None:
    # Colons between parameters keep their ends apart; one that takes colons comes last.
    pattern = channel = "n" + start
    expected: dict[str, str | int] = {}
    for number, (kind, literal, text, integer) in enumerate(parts):
        value: str | int = integer if kind == ":int" else text
        pattern += f":{{p{number}{kind}}}"
        channel += f":{value}"
        expected[f"p{number}"] = value
        if kind == ":path":
            break
        pattern += ":" + literal
        channel += ":" + literal

    assert Pattern(pattern).match(channel) == expected


@given(st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), min_size=1))
def test_pattern_without_parameters_matches_itself_alone(text: str) -> None:
    name = "n" + text

    assert Pattern(name).match(name) == {}
    assert Pattern(name).match(name + "x") is None
    assert Pattern(name).match(re.escape(name) + ".") is None
