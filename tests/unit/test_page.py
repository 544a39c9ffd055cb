"""The page in its two forms: Markdown, and HTML that needs no other file."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from jaxrnn.study import plots
from jaxrnn.study.page import Figure, Section, Table, table_markdown, write_page

TABLE = Table(
    "Steps, by arm",
    ["arm", "verdict", "steps", "source"],
    [["`a|b <i>`", "does not hold", "> 3000", "[1](#source-1)"], ["1. LSTM", "-", "≥ 240 [120, > 3000]", ""]],
)
SVG = plots.svg(plots.shares_of_sum({"a": np.ones(3) / 3}, "x"))


@pytest.fixture
def page(tmp_path):
    """Both texts."""
    figure = Figure("shares", SVG, "Shares of *x*", 'Bars of "x"')
    claim = Section("(a) It holds water: undecided", [TABLE], is_folded=True, name="a claim")
    sections = [
        Section("What was found", [TABLE, "- [(a)](#a-claim) It holds water: **holds**", figure]),
        Section("A <study>", ["A note.", Section("Claims", [claim])]),
        Section("Sources", [Table("", ["number"], [['<a id="source-1"></a>1']])]),
    ]
    return [path.read_text() for path in write_page("Results", sections, tmp_path)]


class Outline(HTMLParser):
    """Checks that all tags close in order, and notes which are open at each id."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.tags = [], {}, [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        if "id" in attrs:
            assert attrs["id"] not in self.ids
            self.ids[attrs["id"]] = [*self.open]
        if attrs.get("href", "").startswith("#"):
            self.links.append(attrs["href"][1:])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_every_link_leads_into_what_it_unfolds(page):
    outline = Outline(page[1])
    assert set(outline.links) <= outline.ids.keys()
    assert {"what-was-found", "a-study", "claims", "a-claim", "sources", "source-1"} <= outline.ids.keys()
    # Study, claims, claim: a browser opens what holds the anchor.
    assert outline.ids["a-claim"].count("details") == 3
    assert "details" not in outline.ids["what-was-found"]
    assert page[1].index('id="what-was-found"') < page[1].index("<nav") < page[1].index('id="a-study"')


def test_the_page_says_what_its_parts_are(page):
    tags = Outline(page[1]).tags
    assert {"main", "nav", "figure", "figcaption", "caption", "h1", "h2", "h3", "h4"} <= {tag for tag, _ in tags}
    assert [attrs["lang"] for tag, attrs in tags if tag == "html"] == ["en"]
    assert {attrs["scope"] for tag, attrs in tags if tag == "th"} == {"col", "row"}
    (picture,) = (attrs for tag, attrs in tags if tag == "img")
    assert picture["alt"] == 'Bars of "x"'
    assert picture["src"].startswith("data:image/svg+xml")
    assert not re.search(r'(src|href)="(?!#|data:)', page[1])


def test_cells_mean_what_they_say(page):
    assert "<code>a|b &lt;i&gt;</code>" in page[1]
    assert ">&gt; 3000</div></td>" in page[1]
    assert "≥\xa0240\xa0[120,\xa0&gt;\xa03000]" in page[1]
    assert '<th scope="row">1. LSTM</th>' in page[1]
    assert "A &lt;study&gt;" in page[1]


def test_verdicts_are_badges(page):
    found = re.findall(r'<strong class="badge (\w*)">([^<]+)<', page[1])
    assert set(found) == {("bad", "does not hold"), ("good", "holds"), ("", "undecided")}
    assert "It holds water <strong" in page[1]


def test_markdown_has_a_caption_before_each_table_and_pictures_beside_it(page, tmp_path):
    lines = page[0].splitlines()
    for i in [i for i, line in enumerate(lines) if line.startswith("| ---")]:
        assert lines[i - 3].startswith("*")
        assert lines[i - 2] == ""
    assert r"`a\|b <i>`" in page[0]
    (path,) = re.findall(r"!\[.*\]\((.*)\)", page[0])
    assert (tmp_path / path).read_text() == SVG
    assert table_markdown(TABLE) in page[0]
