"""Differences between arms, each with its interval and a p-value."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxrnn.study import stats
from jaxrnn.study.arms import Arm, Setting
from jaxrnn.study.claims import ALPHA
from jaxrnn.study.format import NONE
from jaxrnn.study.page import Table
from jaxrnn.study.quantities import Quantity
from jaxrnn.study.study import Evidence

MOST_PAIRS = 6
"""The most arms of which all pairs are compared; more arms are compared with the reference only."""


def is_named(reference: str, title: str) -> bool:
    """Whether the reference is a part of an arm's title, in capital letters or small ones."""
    return reference.casefold() in title.casefold()


def compare_arms(quantity: Quantity, arms: Mapping[str, Arm], reference: str = "") -> Table:
    """Compares all pairs of a few arms, else each arm with the reference; p-values are corrected over the rows (Holm).

    `reference` is a part of the title of the arm that the others are compared with; by default it is the first arm.
    """
    titles = list(arms)
    first = next((title for title in titles if reference and is_named(reference, title)), titles[0])
    pairs = [(title, first) for title in titles if title != first]
    if len(arms) <= MOST_PAIRS and not reference:
        pairs = [(b, a) for a, b in itertools.combinations(titles, 2)]
    # Two baselines say nothing about what was trained.
    pairs = [(a, b) for a, b in pairs if arms[a].is_trained or arms[b].is_trained]
    tests = {(a, b): quantity.compare(arms[a], arms[b]) for a, b in pairs}
    found = {pair: test for pair, test in tests.items() if not isinstance(test, str)}
    adjusted = dict(zip(found, stats.holm([test.p_value for test in found.values()]), strict=True))
    rows = []
    for (a, b), test in tests.items():
        if isinstance(test, str):
            rows.append([f"{a} minus {b}", "cannot be compared", *[NONE] * 3, test])
            continue
        p = adjusted[a, b]
        verdict = f"{a if test.difference > 0 else b} is larger" if p < ALPHA else "no difference seen"
        if test.smallest_p * len(found) >= ALPHA:
            verdict = "no p-value can reach .05 with so few seeds"
        p_values = f"{test.p_value:.2g}", f"{p:.2g}"
        rows.append([f"{a} minus {b}", quantity.format(test), *p_values, verdict, test.note or NONE])
    caption = f"{quantity.name}: differences with 95 % intervals; p after Holm's correction over these rows"
    return Table(caption, ["arms", "difference", "p", "p, corrected", "verdict", "beside it"], rows)


@dataclass(frozen=True, eq=False)
class Differences:
    """Differences between the arms with these settings that solve the same problem."""

    quantity: Quantity
    settings: Sequence[Setting]

    def __call__(self, evidence: Evidence) -> list[Table]:
        """A table for each problem with two or more arms."""
        problems: dict[str, dict[str, Arm]] = {}
        for title, arm in evidence.rows(self.settings):
            if arm:
                key = [arm.source, arm.data, *(arm.setting[name] for name in evidence.found.scheme.problem)]
                problems.setdefault(str(key), {})[title] = arm
        return [compare_arms(self.quantity, arms) for arms in problems.values() if len(arms) > 1]
