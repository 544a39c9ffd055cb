"""What came out of the runs in a directory, in a few lines of plain text."""

from collections.abc import Sequence
from pathlib import Path

from jaxrnn.rundir.read import read_directory
from jaxrnn.study.arms import Arm, varying, with_values
from jaxrnn.study.quantities import Quantity
from jaxrnn.study.study import Study, read_evidence

MOST_ROWS = 20
"""Settings that are listed; of more, the page has all."""


def summarize(study: Study, path: Path) -> list[str]:
    """Lines about complete runs: one of a single arm, a ranking of several; of a study that trains nothing, its brief.

    Arms that do not solve the same problem have rankings of their own.
    """
    evidence = read_evidence(study, [(read_directory(path), "own")], cite=lambda paths: "")
    if study.row is not None:
        texts = [block for block in study.headline(evidence) if isinstance(block, str)]
        return [line.replace("**", "") for text in texts for line in text.splitlines()]
    problems: dict[str, list[Arm]] = {}
    for arm in evidence.found.arms:
        problems.setdefault(with_values("", arm.setting, study.arms.problem), []).append(arm)
    lines = [remark for _, remark in evidence.found.remarks]
    for problem, arms in problems.items():
        if len(arms) == 1:
            found = [f"{quantity.name} {quantity.brief(arms[0])}" for quantity in study.quantities]
            lines.append(f"{arms[0].title}, seeds: {arms[0].count}; {'; '.join(found) or 'done'}")
        else:
            lines += _ranking(study.quantities, arms, f"{problem}: " if len(problems) > 1 else "")
    return lines


def _ranking(quantities: Sequence[Quantity], arms: Sequence[Arm], problem: str) -> list[str]:
    """A heading, and a table with a row for each arm, the best first by the primary quantity."""
    differ = varying([arm.setting for arm in arms])
    fields = [name for name in dict.fromkeys([*arms[0].runs[0].swept, *differ]) if name in differ]
    title = f"{problem}{len(arms)} settings"
    for primary in quantities[:1]:
        arms = _best_first(primary, arms)
        title += f", the best first by {primary.name}; brackets are 95 % intervals over seeds"
    rows = [["", *fields, "seeds", *(quantity.name for quantity in quantities)]]
    for number, arm in enumerate(arms[:MOST_ROWS], start=1):
        values = [*(str(arm.setting[name]) for name in fields), arm.count]
        rows.append([str(number), *values, *(quantity.brief(arm) for quantity in quantities)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    left_out = [f"and {len(arms) - MOST_ROWS} more"] if len(arms) > MOST_ROWS else []
    return [title, *table, *left_out]


def _best_first(quantity: Quantity, arms: Sequence[Arm]) -> list[Arm]:
    """In the order of their estimates; an arm without one comes last."""
    estimates = [(quantity.estimate(arm).value, arm) for arm in arms]
    known = [(value, arm) for value, arm in estimates if value is not None]
    known.sort(key=lambda one: one[0], reverse=quantity.is_better == "larger")
    return [arm for _, arm in known] + [arm for value, arm in estimates if value is None]
