import json
import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from hubbub.cli.escape import escape, escape_json, is_safe

# Everything that Python calls a string: unpaired surrogates too, and many unsafe characters.
TEXT = st.text(st.one_of(st.characters(), st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))


@given(TEXT)
def test_escaped_is_safe_utf8_on_one_line(text: str) -> None:
    escaped = escape(text)

    assert all(map(is_safe, escaped))
    assert len(escaped.splitlines()) <= 1
    assert escaped.encode().decode() == escaped


@given(TEXT)
def test_escape_changes_unsafe_characters_only(text: str) -> None:
    expected = "".join(
        c if is_safe(c) else c.encode("unicode_escape").decode("ascii") for c in text
    )

    assert escape(text) == expected
    assert escape(escape(text)) == escape(text)


@given(st.characters())
def test_no_control_character_is_safe(character: str) -> None:
    if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}:
        assert not is_safe(character)


def test_escape_names_what_it_hides() -> None:
    assert escape("\x1b[2J\r\n\x7f\x9b\u202e\u2066\u200b") == (
        r"\x1b[2J\r\n\x7f\x9b\u202e\u2066\u200b"
    )


def test_escape_keeps_text_of_all_languages() -> None:
    text = 'ключ 鍵 कुंजी نمی‌خواهم 👨‍👩‍👧 {"path": "C:\\\\new"} [bold]'

    assert escape(text) == text


@given(st.dictionaries(TEXT, TEXT))
@example({"": "\U000e0067\u2028\x7f\x85\ud800"})
def test_escape_json_keeps_the_meaning(value: dict[str, str]) -> None:
    escaped = escape_json(json.dumps(value, ensure_ascii=False))

    assert json.loads(escaped) == json.loads(json.dumps(value))
    assert all(map(is_safe, escaped))
    assert len(escaped.splitlines()) == 1
    escaped.encode()
