"""Each step of the tutorial ends with a picture of what its reader sees."""

import re
import struct

import pytest

from tests.docs.markdown import text_of
from tests.programs import ROOT

TUTORIAL = ROOT / "docs" / "tutorial"
STEPS = ("hello", "echo", "rooms", "one-port", "endings", "channels", "chat")

PICTURE = re.compile(r"^!\[(?P<alt>[^\]]*)\]\(images/(?P<name>.*)\.png\)$", re.MULTILINE)
PNG = b"\x89PNG\r\n\x1a\n"
MAX_SIZE = 70_000  # bytes: a clone brings them along


def test_steps_are_those_of_the_index() -> None:
    index = text_of(TUTORIAL / "index.md")

    assert tuple(re.findall(r"^\d\. \[.*?\]\((.*)\.md\)", index, re.MULTILINE)) == STEPS
    assert {path.stem for path in TUTORIAL.glob("*.md")} == {"index", *STEPS}
    assert {path.name for path in (TUTORIAL / "images").iterdir()} == {f"{s}.png" for s in STEPS}


@pytest.mark.parametrize("step", STEPS)
def test_step_ends_with_its_picture(step: str) -> None:
    text = text_of(TUTORIAL / f"{step}.md")
    (picture,) = PICTURE.finditer(text)

    assert picture["name"] == step
    assert len(picture["alt"]) > 80, "say what is on it, for those who do not see it"
    assert re.match(r"\s*(Next: |## Where next$)", text[picture.end() :], re.MULTILINE)


@pytest.mark.parametrize("step", STEPS)
def test_picture_is_a_png_of_modest_size(step: str) -> None:
    picture = (TUTORIAL / "images" / f"{step}.png").read_bytes()
    width, height = struct.unpack(">II", picture[16:24])

    assert picture.startswith(PNG)
    assert width == 900
    assert 80 < height < 1000
    assert 2_000 < len(picture) < MAX_SIZE
