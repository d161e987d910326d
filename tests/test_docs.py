"""The documentation says what is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kmm.scenario import model
from kmm.scenario.alphabet import ALPHABET, MEANING
from kmm.scenario.page import PageState
from kmm.scenario.toml import parse

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))


def test_the_alphabet_page_lists_every_letter() -> None:
    text = (ROOT / "docs/scenario.md").read_text()
    rows = dict(re.findall(r"^\| `(.)` \| (.*) \|$", text, re.MULTILINE))
    assert rows == MEANING
    assert set(rows) == set(ALPHABET)


def test_every_key_of_a_letter_is_documented() -> None:
    table = (ROOT / "docs/scenario.md").read_text().split("## The other tables")[0]
    for field in PageState.__attrs_attrs__:
        assert f"`{field.name}`" in table


@pytest.mark.parametrize("words", [model.EVENT_OPS, model.POINTS, model.FAILURE_KINDS, model.VMA_FLAGS, model.PMD_STATES])
def test_every_word_of_the_format_is_documented(words: tuple[str, ...]) -> None:
    text = (ROOT / "docs/scenario.md").read_text()
    assert [w for w in words if f"`{w}`" not in text] == []


def test_the_example_is_a_scenario() -> None:
    block = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/scenario.md").read_text(), re.DOTALL)
    assert len(block) == 1
    assert parse(block[0]).geometry.ptes == 16


@pytest.mark.parametrize("page", DOCS, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/index.md").read_text()
    assert [p.name for p in DOCS if p.name != "index.md" and f"({p.name})" not in index] == []
