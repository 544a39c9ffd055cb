"""The archived results keep their meaning: what the page says of them, number by number, whatever its layout.

`golden.jsonl` has a line for each fact: of which study, the words that stand beside it, and its numbers and verdicts.
Values are exact; the ends of an interval may move by 1 % of its width (or by what rounding hides).
"""

import json
import re
from pathlib import Path

import pytest

from experiments import report
from jaxrnn.study import plots

FACTS = [json.loads(line) for line in (Path(__file__).parent / "golden.jsonl").read_text().splitlines()]
INTERVAL = re.compile(r"^(.*?)(\S+) \[(\S+), (\S+)\]$")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Rows of tables behind their captions, items of lists and lines of text, without Markdown's signs."""
    out = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:  # Pictures take most of the time, and have no words.
        patch.setattr(plots, "svg", lambda figure: '<svg width="1pt" height="1pt"></svg>')
        report.report([], report.ARCHIVE, out)
    found, caption = [], ""
    for line in re.sub(r"\*\*|`", "", (out / "report.md").read_text()).splitlines():
        caption = line if line.startswith("*") else caption
        found.append(f"{caption} {line}" if line.startswith("|") else line)
    return found


def number(text):
    return float(text.strip("><= +"))


def says(row, value):
    if not (found := INTERVAL.match(value)):
        return re.search(rf"(?<![\w.]){re.escape(value)}(?![\w]|\.\d)", row) is not None
    before, point, *ends = found.groups()
    decimals = len(point.partition(".")[2]) if "e" not in point else 0
    slack = 0.01 * (number(ends[1]) - number(ends[0])) + 0.51 * 10.0**-decimals
    pattern = rf"(?<![\w.]){re.escape(before)}{re.escape(point)} \[((?:> )?[^\s,]+), ((?:> )?[^\]]+)\]"
    return any(
        all(abs(number(end) - number(other)) <= slack for end, other in zip(ends, one.groups(), strict=True))
        for one in re.finditer(pattern, row)
    )


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: f"{fact['study']}: {', '.join(fact['about'])}"[:80])
def test_the_page_says_what_it_said(rows, fact):
    about = [row for row in rows if all(says(row, word) for word in fact["about"])]
    assert any(all(says(row, value) for value in fact["values"]) for row in about), about[:5]
