"""Claims and their verdicts.

A claim is made of parts. A part compares something measured with a threshold, a range or another arm, by a rule that it
states. Its finding is on the claim's side, on the other side, or on neither. All thresholds are in the studies and were
fixed before the runs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf, isinf

from jaxrnn.study import stats
from jaxrnn.study.arms import Arm, Found, Setting
from jaxrnn.study.format import NONE, format_p
from jaxrnn.study.quantities import Quantity, Share

ALPHA = 0.05
"""The significance level of a family of parts, after Holm's correction."""


@dataclass(frozen=True, eq=False)
class Finding:
    """The result of a part.

    Attributes:
        side: 1 on the claim's side, -1 on the other, 0 on neither; None for a description, which decides nothing.
        evidence: the numbers, or the reason why there are none.
        p_value: for a part that a test decides; it is corrected within the part's family.
        seeds: the number of seeds per arm that would decide the part, or None if that cannot be said.
        arms: the arms that the evidence comes from.
    """

    side: int | None
    evidence: str
    p_value: float | None = None
    seeds: int | None = None
    arms: Sequence[Arm] = ()

    @property
    def verdict(self) -> str:
        """The side in words."""
        return {1: "holds", -1: "does not hold", 0: "undecided", None: NONE}[self.side]


@dataclass(frozen=True, eq=False)
class Part:
    """One statement of a claim.

    Attributes:
        find: ``find(arms) -> Finding``.
        rule: when the part holds, in words.
        family: parts of one family are corrected together (Holm); empty for a part without a test.
        name: such as `b2`; the claim's letter by default.
    """

    find: Callable[[Found], Finding]
    rule: str
    family: str = ""
    name: str = ""


@dataclass(frozen=True, eq=False)
class Claim:
    """A claim and its letter. It holds if all parts do, does not hold if one does not, and is undecided otherwise."""

    key: str
    text: str
    parts: Sequence[Part]


@dataclass(frozen=True, eq=False)
class Judgement:
    """A claim with the findings in the order of its parts."""

    claim: Claim
    findings: Sequence[Finding]

    @property
    def verdict(self) -> str:
        """The claim's verdict, from the findings of its parts."""
        sides = [finding.side for finding in self.findings if finding.side is not None]
        return "does not hold" if -1 in sides else "undecided" if 0 in sides or not sides else "holds"


def judge(claims: Sequence[Claim], found: Found) -> list[Judgement]:
    """Verdicts on all claims; a test that could not be made counts in its family with p = 1."""
    findings = {part: part.find(found) for claim in claims for part in claim.parts}
    for family in {part.family for part in findings if part.family}:
        members = [part for part in findings if part.family == family]
        tests = [findings[part].p_value for part in members]
        adjusted = stats.holm([1.0 if p is None else p for p in tests])
        for part, p in zip(members, adjusted, strict=True):
            one = findings[part]
            if one.p_value is not None:
                evidence = f"{one.evidence}, after Holm {format_p(p)}"
                findings[part] = replace(one, side=one.side if p < ALPHA else 0, evidence=evidence)
    return [Judgement(claim, [findings[part] for part in claim.parts]) for claim in claims]


def side_of(estimate: stats.Estimate, low: float, high: float = inf) -> int:
    """1 where the whole interval lies above `low` and below `high`, -1 where it lies wholly outside, else 0."""
    if estimate.low is None or estimate.high is None:
        return 0
    inside = low < estimate.low and estimate.high < high
    outside = estimate.high < low or high < estimate.low
    return int(inside) - int(outside)


# --- Parts ------------------------------------------------------------------------------------------------------------


def within(quantity: Quantity, arm: Setting, low: float, high: float = inf) -> Part:
    """The quantity's interval lies in a range, one end of which may be infinite."""
    where = f"above {low:g}" if isinf(high) else f"below {high:g}" if isinf(low) else f"in {low} to {high}"

    def find(arm: Arm) -> Finding:
        estimate = quantity.estimate(arm)
        side, seeds = side_of(estimate, low, high), None
        if side == 0 and isinstance(quantity, Share) and estimate.value is not None:
            # Only runs that count help; their share among new seeds is taken to be the same.
            counted = quantity.counts(arm)[1]
            clear = stats.seeds_to_clear(estimate.value, high if isinf(low) else low)
            seeds = None if clear is None else -(-clear * len(arm.runs) // counted)
        shown = ", ".join(quantity.cells(arm).values())
        return Finding(side, f"{arm.title}, {arm.count} seeds: {shown}", seeds=seeds, arms=[arm])

    return _of_arms([arm], f"{quantity.name}: the 95 % interval lies {where}", find)


def larger(quantity: Quantity, a: Setting, b: Setting, family: str, tests: int) -> Part:
    """The quantity is larger in the first arm than in the second, by its test.

    The `family` has this many `tests`. The number of seeds that would decide the part is that for the strictest level
    of the correction.
    """

    def find(first: Arm, second: Arm) -> Finding:
        test = quantity.compare(first, second)
        if isinstance(test, str):
            return Finding(0, f"{first.title} and {second.title}: {test}")
        note = f"; {test.note}" if test.note else ""
        shown = f"{quantity.format(test)}, {format_p(test.p_value)}{note}"
        evidence = f"{quantity.name}, {first.title} minus {second.title}: {shown}"
        seeds = test.seeds(ALPHA / tests)
        return Finding(1 if test.difference > 0 else -1, evidence, test.p_value, seeds, [first, second])

    rule = f"{quantity.name}: larger in the first arm, p < {ALPHA} after Holm's correction"
    return _of_arms([a, b], rule, find, family)


def describe(arm: Setting, say: Callable[[Arm], str]) -> Part:
    """A description that stands beside the evidence and decides nothing."""
    return _of_arms([arm], "", lambda a: Finding(None, f"{a.title}: {say(a)}", arms=[a]), missing=None)


def _of_arms(
    settings: Sequence[Setting], rule: str, find: Callable[..., Finding], family: str = "", missing: int | None = 0
) -> Part:
    """A part about these arms; its evidence names those that have no runs."""

    def found(arms: Found) -> Finding:
        there = [arms.arm(setting) for setting in settings]
        lacking = [arms.title(setting) for setting, arm in zip(settings, there, strict=True) if arm is None]
        return Finding(missing, "; ".join(f"no runs of {one}" for one in lacking)) if lacking else find(*there)

    return Part(found, rule, family)
