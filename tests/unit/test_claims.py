"""Quantities of made-up arms with known answers, and the verdicts that follow from them."""

from pathlib import Path

import numpy as np
import pytest
import scipy
from directories import row

from experiments import palindrome
from jaxrnn.rundir.read import Curve, Run
from jaxrnn.study import claims
from jaxrnn.study.arms import Arm, Found
from jaxrnn.study.claims import Claim, Finding, Part, judge, side_of
from jaxrnn.study.quantities import Mean, Share, TimeToEvent, last_mean, result, steps_until_stop
from jaxrnn.study.stats import Estimate

SCHEME = palindrome.STUDY.arms
steps = TimeToEvent("steps", steps_until_stop)
accuracy = Mean("accuracy", result("test_accuracy"), within=(0, 1))
stopped = Share("stopped", lambda run: run.result["stopped"])


def arm(fields, until, curves=None):
    """Runs that stop at these steps, or never (None)."""
    runs = []
    for seed, step in enumerate(until):
        one = row(seed, 3000 if step is None else step, step is not None, test_accuracy=float(step is not None))
        runs.append(Run(one["run"], seed, {}, Path("a"), one, (curves or {}).get(seed)))
    setting = SCHEME.of_fields(fields)
    return Arm(SCHEME.name(setting), setting, "archive", runs)


def found(*arms):
    return Found(SCHEME, arms)


QUICK, SLOW = {"digits": 10}, {"digits": 20}


def test_a_censored_run_counts_with_the_horizon():
    slow = arm(SLOW, [600, None, 1200])
    assert steps.estimate(slow).value == (600 + 3000 + 1200) / 3
    assert steps.cells(slow)["converged"].startswith("2 of 3")
    assert steps.cells(slow)["median"].startswith("1200")


def test_a_difference_is_between_means_with_the_exact_permutation_test():
    slow, quick = arm(SLOW, [600, 660, 720, 780]), arm(QUICK, [300, 360, 420, 480])
    test = steps.compare(slow, quick)
    assert test.difference == 300
    assert test.p_value == pytest.approx(2 / 70)  # Of 8 choose 4 divisions, this one and its mirror image.
    assert test.smallest_p == pytest.approx(2 / 70)


def test_shares_are_compared_by_fishers_test():
    a, b = arm(SLOW, [None] * 8), arm(QUICK, [60] * 8)
    test = stopped.compare(b, a)
    assert test.p_value == pytest.approx(scipy.stats.fisher_exact([[8, 0], [0, 8]]).pvalue)
    assert test.difference == 1
    assert 0.5 < test.low < 1 == test.high
    assert test.smallest_p == pytest.approx(test.p_value)


def test_paired_means_are_compared_by_the_seeds_that_both_have():
    paired = Mean("accuracy", result("test_accuracy"), paired=True)
    a, b = arm(SLOW, [60, 60, None, None]), arm(QUICK, [None, 60, 60])
    assert paired.differences(a, b) == [1, 0, -1]
    assert paired.compare(a, b).difference == 0
    assert paired.compare(a, b).smallest_p == pytest.approx(2 / 2**3)


def test_runs_without_a_value_are_left_out_of_a_mean():
    one = arm(QUICK, [60, 60])
    one.runs[1].result["test_accuracy"] = None
    assert accuracy.values(one) == [1.0]


def test_the_last_evaluations_of_a_curve():
    curve = Curve(np.arange(4), {"loss": np.array([8.0, 2.0, 1.0, 0.0])})
    values = last_mean("loss", 1), last_mean("loss", 2), last_mean("loss", 9), last_mean("accuracy", 2)
    run = arm(QUICK, [60], {0: curve}).runs[0]
    assert [value(run) for value in values] == [0.0, 0.5, 0.5, None]  # Never more than half.


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [((0.9, 0.85, 0.95), 1), ((0.9, 0.7, 0.95), 0), ((0.5, 0.4, 0.6), -1), ((0.9, None, None), 0)],
)
def test_an_interval_lies_on_a_side_as_a_whole(estimate, expected):
    assert side_of(Estimate(*estimate), 0.8) == expected


def test_an_interval_lies_in_a_range_as_a_whole():
    assert [side_of(Estimate(0.5, *ends), 0.3, 0.7) for ends in ((0.4, 0.6), (0.2, 0.6), (0.4, 0.8))] == [1, 0, 0]
    assert [side_of(Estimate(0.5, *ends), 0.3, 0.7) for ends in ((0.1, 0.2), (0.8, 0.9))] == [-1, -1]


@pytest.mark.parametrize(
    ("part", "verdict"),
    [
        (claims.within(stopped, QUICK, 0.5), "holds"),
        (claims.within(stopped, QUICK, -np.inf, 0.5), "does not hold"),
        (claims.within(stopped, QUICK, 0.9), "undecided"),
        (claims.within(accuracy, QUICK, 0.9, 1.1), "holds"),
        (claims.larger(steps, SLOW, QUICK, "f", 1), "holds"),
        (claims.larger(steps, QUICK, SLOW, "f", 1), "does not hold"),
        (claims.larger(steps, QUICK, {"cell": "gru"}, "f", 1), "undecided"),
        (claims.within(stopped, {"cell": "gru"}, 0.5), "undecided"),
    ],
)
def test_a_part_decides_its_claim(part, verdict):
    arms = found(arm(QUICK, [60] * 12), arm(SLOW, [600 + 60 * i for i in range(12)]))
    (one,) = judge([Claim("a", "", [part])], arms)
    assert one.verdict == verdict


def part(side, p=None, family=""):
    return Part(lambda arms: Finding(side, "", p), "", family)


@pytest.mark.parametrize(
    ("sides", "verdict"),
    [([1, 1], "holds"), ([1, 0], "undecided"), ([0, -1], "does not hold"), ([1, None], "holds"), ([None], "undecided")],
)
def test_a_claim_is_what_its_parts_are(sides, verdict):
    assert judge([Claim("a", "", [part(side) for side in sides])], found())[0].verdict == verdict


def test_tests_of_a_family_are_corrected_together_and_a_missing_one_counts():
    """Holm: the smallest of three is tripled, the next one doubled; one that could not be made has p = 1."""
    tests = [part(1, 0.01, "f"), part(-1, 0.02, "f"), part(0, None, "f"), part(1, 0.04)]
    judged = judge([Claim(str(i), "", [one]) for i, one in enumerate(tests)], found())
    assert [one.verdict for one in judged] == ["holds", "does not hold", "undecided", "holds"]
    tests[0] = part(1, 0.017, "f")  # Tripled it is above .05, and so are all larger ones.
    assert [one.verdict for one in judge([Claim("a", "", tests[:1]), Claim("b", "", tests[1:3])], found())] == [
        "undecided",
        "undecided",
    ]


def test_an_undecided_share_says_how_many_seeds_would_decide_it():
    part = claims.within(stopped, QUICK, 0.5)
    finding = part.find(found(arm(QUICK, [60] * 4 + [None] * 1)))
    share = [
        scipy.stats.binomtest(round(0.8 * n), n).proportion_ci(method="exact").low
        for n in (finding.seeds - 1, finding.seeds)
    ]
    assert (finding.side, share[0] <= 0.5 < share[1]) == (0, True)


def test_missing_runs_are_named():
    finding = claims.within(stopped, {"cell": "gru"}, 0.5).find(found())
    assert "GRU T=10" in finding.evidence
