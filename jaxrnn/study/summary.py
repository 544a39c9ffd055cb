"""The results of the runs in a directory, in a few lines of plain text."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jaxrnn.rundir.read import read_directory
from jaxrnn.study.arms import Arm, varying_fields, with_values
from jaxrnn.study.format import NONE
from jaxrnn.study.quantities import Quantity
from jaxrnn.study.study import Study, read_evidence

MOST_ROWS = 20
"""The most settings that are listed; the page has all of them."""


def summarize(study: Study, path: Path) -> list[str]:
    """Lines about complete runs: one for a single arm, a ranking of several, or what a study without training says.

    Arms that solve different problems are ranked apart.
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
        known = study.known_quantities(arms)
        trained = [arm for arm in arms if arm.is_trained]
        if len(trained) == 1:
            (arm,) = trained
            found = [f"{one.name} {one.brief(arm)}" for one in known]
            lines.append(f"{arm.title}, seeds: {arm.count}; {'; '.join([*found, *_note(known, arm)]) or 'done'}")
            beside = [f"{one.runs[0].name} {_brief(known, one)}" for one in arms if not one.is_trained]
            lines += [f"without training: {'; '.join(beside)}"] if beside else []
        else:
            lines += _ranking(known, arms, study.arms.named, f"{problem}: " if len(problems) > 1 else "")
        lines += [line for arm in arms for line in about_untrained(study, arm)]
    return lines


def about_untrained(study: Study, arm: Arm) -> list[str]:
    """Names the runs of an arm that a stop rule ended untrained, if any, with the primary quantity without them.

    These runs count in the arm's own numbers, since the rule is part of the protocol.
    """
    early = study.untrained(arm)
    if not early:
        return []
    names = ", ".join(f"{run.name} after {run.result['last_step'] + 1} steps" for run in early if run.result)
    quantity, others = study.quantities[0], replace(arm, runs=[run for run in arm.runs if run not in early])
    return [
        f"{arm.title}: the stop rule ended {len(early)} of {len(arm.runs)} runs untrained ({names});"
        f" {quantity.name} {quantity.brief(arm)} with them, {quantity.brief(others)} without"
    ]


def _ranking(quantities: Sequence[Quantity], arms: Sequence[Arm], named: Sequence[str], problem: str) -> list[str]:
    """A heading, and a table with a row for each arm; where the primary quantity is the same, the next one decides."""

    def place(arm: Arm) -> list[tuple[bool, float]]:
        values = [one.estimate(arm).value for one in quantities]
        signs = [-1 if one.is_better == "larger" else 1 for one in quantities]
        return [(value is None, sign * (value or 0.0)) for value, sign in zip(values, signs, strict=True)]

    differ = varying_fields(arms, named)
    fields = [name for name in dict.fromkeys([*arms[0].runs[0].swept, *differ]) if name in differ]
    by = f", the best first by {quantities[0].name}; brackets are 95 % intervals over seeds" if quantities else ""
    rows = [["", *fields, "seeds", *(one.name for one in quantities), ""]]
    for number, arm in enumerate(sorted(arms, key=place)[:MOST_ROWS], start=1):
        own = [str(arm.setting[name]) if arm.is_trained or name in named else NONE for name in fields]
        values = [*own, arm.count]
        rows.append([str(number), *values, *(one.brief(arm) for one in quantities), *(_note(quantities, arm) or [""])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    left_out = [f"and {len(arms) - MOST_ROWS} more"] if len(arms) > MOST_ROWS else []
    return [f"{problem}{len(arms)} settings{by}", *table, *left_out]


def _brief(quantities: Sequence[Quantity], arm: Arm) -> str:
    return ", ".join(brief for one in quantities if (brief := one.brief(arm)) != NONE)


def _note(quantities: Sequence[Quantity], arm: Arm) -> list[str]:
    """Why the interval of the primary quantity is missing or too narrow, if it is."""
    note = quantities[0].estimate(arm).note if quantities and len(arm.runs) > 1 else ""
    return [f"({note})"] if note else []
