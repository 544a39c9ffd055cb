"""Oracles: closed forms, brute-force enumeration, SciPy's own Kaplan-Meier and published numbers.

The published data are the remission weeks of Freireich et al. (1963, Blood 21:699) as used by Gehan (1965, Biometrika
52:203) and in Klein and Moeschberger's textbook, whose Kaplan-Meier table is repeated here.
"""

from dataclasses import astuple
from fractions import Fraction
from itertools import combinations, product
from math import comb

import numpy as np
import pytest
import scipy.stats

from jaxrnn.study import stats, survival

HORIZON = 3000


def sample(*steps):
    return survival.steps_sample(steps, HORIZON)


def compare(a, b):
    return stats.compare_means(a.steps, b.steps)


def weeks(relapsed, censored, horizon=35):
    return survival.StepsSample(
        steps=np.array(relapsed + censored, float),
        converged=np.array([True] * len(relapsed) + [False] * len(censored)),
        horizon=horizon,
    )


SIX_MP = weeks([6, 6, 6, 7, 10, 13, 16, 22, 23], [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35])
PLACEBO = weeks([1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23], [])
# Soons (2020), Tables 1 and 2, T=20: three seeds each.
LSTM = sample(1260, 1080, 2280)
PEEPHOLE = sample(480, 720, 420)
DEGENERATE = {
    "none converged": sample(None, None, None, None),
    "all at once": sample(300, 300, 300),
    "two values": sample(300, 300, 360),
    "one seed": sample(300),
    "one seed, not converged": sample(None),
    "half": sample(300, None),
    "one of many": sample(*[None] * 30, 120),
    "at zero": sample(0, 0, 60),
    "at the horizon": sample(HORIZON, None, HORIZON),
}


def ends(result):
    """Value or difference, and the interval."""
    return astuple(result)[:3]


# --- Survival ---------------------------------------------------------------------------------------------------------


def test_the_published_kaplan_meier_table():
    curve = survival.survival_curve(SIX_MP)
    assert curve.steps.tolist() == [0, 6, 7, 10, 13, 16, 22, 23, 35]
    published = [1, 0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448, 0.448]
    np.testing.assert_allclose(curve.not_converged, published, atol=5e-4)
    # Greenwood's standard errors in the same table; on the log(-log) scale they are divided by |S log S|.
    share = curve.not_converged[1:-1]
    error = np.array([0.0764, 0.0869, 0.0963, 0.1068, 0.1141, 0.1282, 0.1346])
    factor = np.exp(1.96 * error / np.abs(share * np.log(share)))
    np.testing.assert_allclose(curve.low[1:-1], share**factor, atol=1e-3)
    np.testing.assert_allclose(curve.high[1:-1], share ** (1 / factor), atol=1e-3)


@pytest.mark.parametrize("data", [SIX_MP, sample(60, 120, 120, 900, None, None)])
def test_the_survival_curve_is_scipys(data):
    censored = scipy.stats.CensoredData(uncensored=data.steps[data.converged], right=data.steps[~data.converged])
    expected = scipy.stats.ecdf(censored).sf
    band = expected.confidence_interval(method="log-log")
    curve = survival.survival_curve(data)
    for ours, theirs in [(curve.not_converged, expected), (curve.low, band.low), (curve.high, band.high)]:
        np.testing.assert_allclose(ours[1:], theirs.evaluate(curve.steps[1:]), rtol=1e-12)


def test_where_all_converged_the_curve_is_the_empirical_distribution():
    curve = survival.survival_curve(PLACEBO)
    expected = [np.mean(PLACEBO.steps > step) for step in curve.steps]
    np.testing.assert_allclose(curve.not_converged, expected, atol=1e-15)
    assert curve.not_converged[-1] == curve.low[-1] == 0
    assert curve.high[-1] == curve.high[-3] > 0  # Carried on from the last event that left a run.


@pytest.mark.parametrize("data", DEGENERATE.values(), ids=DEGENERATE)
def test_any_sample_has_a_curve(data):
    curve = survival.survival_curve(data)
    assert (curve.steps[0], curve.steps[-1]) == (0, HORIZON)
    assert curve.not_converged[0] == curve.low[0] == curve.high[0] == 1
    assert (curve.low <= curve.not_converged).all() and (curve.not_converged <= curve.high).all()
    for values in (curve.not_converged, curve.low, curve.high):
        assert len(values) == len(curve.steps)
        assert (np.diff(values) <= 0).all()
    assert curve.not_converged[-1] == pytest.approx(1 - data.converged.mean())


def test_medians():
    # Medians and log-log intervals as statistics packages print them for these data.
    assert survival.median_steps(SIX_MP) == stats.Estimate(23, 13, None)
    assert survival.median_steps(PLACEBO) == stats.Estimate(8, 4, 11)
    beyond = survival.median_steps(sample(*range(60, 660, 60), *[None] * 11))
    assert (beyond.value, beyond.high) == (None, None)
    assert beyond.low < 660
    for n in (2, 6, 10, 14, 22, 46):  # The product (n-1)/n (n-2)/(n-1) ... is one half but for rounding.
        steps = [60 * k for k in range(1, n // 2 + 1)]
        assert survival.median_steps(sample(*steps, *[None] * (n // 2))).value == steps[-1]
    assert ends(survival.median_steps(sample(*[300] * 10))) == (300, 300, 300)
    assert ends(survival.median_steps(sample(*[300] * 9))) == (300, None, None)
    assert ends(survival.median_steps(sample(300))) == (300, None, None)
    assert ends(survival.median_steps(sample(None, None))) == (None, None, None)


def test_log_rank():
    z, p_value = survival.log_rank(SIX_MP, PLACEBO)
    assert z**2 == pytest.approx(16.79, abs=0.005)
    assert z < 0  # Remissions last longer: events come later in the first arm.
    assert p_value == pytest.approx(scipy.stats.chi2.sf(16.79, 1), rel=0.01)
    # By hand: at 60 two of four at risk are the first arm's, at 120 two of three. O - E = -(1/2 + 2/3), V = 1/4 + 2/9.
    assert survival.log_rank(sample(None, None), sample(60, 120))[0] == pytest.approx(-(7 / 6) / np.sqrt(17 / 36))
    for a, b in [
        (sample(None, None), sample(None)),
        (sample(300, 300), sample(300, 300)),
        (weeks([], [5]), weeks([10, 20], [])),
    ]:
        assert survival.log_rank(a, b) is None


# --- Means and their differences --------------------------------------------------------------------------------------


def test_restricted_means_count_censored_runs_at_the_horizon():
    assert survival.restricted_mean(LSTM).value == 1540  # Table 1.
    assert "3 seeds" in survival.restricted_mean(LSTM).note
    assert survival.restricted_mean(sample(600, None)).value == 1800
    assert ends(survival.restricted_mean(sample(*[None] * 12))) == (3000, 3000, 3000)
    assert ends(survival.restricted_mean(sample(*[300] * 12))) == (300, 300, 300)
    assert ends(survival.restricted_mean(sample(300))) == (300, None, None)
    assert ends(survival.restricted_mean(sample(None, None))) == (3000, None, None)
    data = sample(*range(60, 1260, 60))
    assert survival.restricted_mean(data) == survival.restricted_mean(data)
    assert survival.restricted_mean(data).note == ""


def test_the_interval_of_a_restricted_mean_covers():
    # Steps as seen in a study: skewed, on a grid of 60, a tenth of them beyond the horizon.
    rng = np.random.default_rng(1)

    def draw(n):
        return np.minimum(60 * np.ceil(rng.lognormal(7.2, 0.7, n) / 60), HORIZON)

    truth, covered = draw(1_000_000).mean(), []
    for _ in range(200):
        steps = draw(20)
        estimate = survival.restricted_mean(survival.StepsSample(steps, steps < HORIZON, HORIZON))
        covered.append(estimate.low <= truth <= estimate.high)
    assert 0.90 <= np.mean(covered) <= 0.99  # 3.3 standard errors below 0.95, 2.6 above.


def enumerated_p(first, second):
    """Twice the smaller tail of the difference of means over all divisions, in exact arithmetic."""
    pooled = [Fraction(int(step)) for step in np.append(first, second)]
    n = len(first)

    def difference(chosen):
        rest = [step for i, step in enumerate(pooled) if i not in chosen]
        return sum(pooled[i] for i in chosen) / n - sum(rest) / len(rest)

    seen = difference(range(n))
    divisions = [difference(chosen) for chosen in combinations(range(len(pooled)), n)]
    tails = sum(d <= seen for d in divisions), sum(d >= seen for d in divisions)
    return min(1.0, 2 * min(tails) / len(divisions))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (LSTM, PEEPHOLE),
        (sample(300, 300, 360, 420), sample(360, 300, None)),
        (sample(60, 120, 180, 240, 300), sample(240, 300, None, None, 2400)),
        (sample(300, 360), sample(360, 300)),
        (sample(300), sample(360, 420, 480)),
        (sample(60, 120, 420, 480), sample(420)),
    ],
)
def test_permutation_p_values_by_enumeration(a, b):
    compared = compare(a, b)
    assert compared.p_value == pytest.approx(enumerated_p(a.steps, b.steps), abs=1e-12)
    back = compare(b, a)
    assert (back.difference, back.p_value) == (-compared.difference, pytest.approx(compared.p_value))


def test_the_interval_is_that_of_the_difference():
    rng = np.random.default_rng(0)
    first, second = (60 * rng.integers(low, low + 20, 40) for low in (20, 10))
    compared = compare(sample(*first), sample(*second))
    # With 40 symmetric values in each arm, Welch's interval is nearly the bootstrap's.
    welch = scipy.stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert compared.difference == pytest.approx(np.mean(first) - np.mean(second))
    np.testing.assert_allclose([compared.low, compared.high], welch, atol=0.08 * (welch.high - welch.low))
    assert compared.note == ""
    varied = sample(*range(60, 1260, 60))
    alone, against = survival.restricted_mean(varied), compare(varied, sample(*[None] * 20))
    np.testing.assert_allclose([against.low + 3000, against.high + 3000], [alone.low, alone.high], atol=10)


def test_arms_without_variance():
    censored, alike = sample(*[None] * 12), sample(*[300] * 12)
    assert astuple(compare(censored, censored))[:4] == (0, 0, 0, 1)
    apart = compare(censored, alike)
    assert ends(apart) == (2700, 2700, 2700)
    assert apart == compare(censored, alike)
    assert 0 < apart.p_value < 1e-3
    assert ends(compare(censored, sample(300, 300))) == (2700, None, None)
    assert ends(compare(sample(300), sample(360, 420))) == (-90, None, None)


@pytest.mark.parametrize(("a", "b"), [*product(DEGENERATE.values(), repeat=2)])
def test_no_sample_gives_nan_or_a_warning(a, b):
    for result in (astuple(compare(a, b)), survival.log_rank(a, b) or (), astuple(survival.median_steps(a))):
        assert np.isfinite([value for value in result if isinstance(value, float)]).all()
    assert isinstance(stats.seeds_to_decide(a.steps, b.steps), int | None)


def test_means_by_hand():
    # Five values with mean 3 and standard error sqrt(2.5 / 5); the 97.5 % point of t with 4 degrees is 2.776.
    half = 2.776 * np.sqrt(0.5)
    assert ends(stats.mean([1, 2, 3, 4, 5])) == pytest.approx((3, 3 - half, 3 + half), abs=1e-3)
    assert ends(stats.mean([1.0] * stats.FEW_SEEDS)) == (1, 1, 1)
    assert ends(stats.mean([1.0] * (stats.FEW_SEEDS - 1))) == (1, None, None)
    assert stats.mean([0.5, 1.0]).low < 0 < 1 < stats.mean([0.5, 1.0]).high
    assert ends(stats.mean([0.5, 1.0], within=(0, 1))) == (0.75, 0, 1)
    assert ends(stats.mean([0.5])) == (0.5, None, None)
    assert ends(stats.mean([])) == (None, None, None)


def test_medians_by_the_percentile_bootstrap():
    values = np.arange(1.0, 41.0)
    estimate = stats.bootstrap(values, np.median)
    # The binomial interval of the median: the 14th to the 27th of 40.
    assert estimate.value == 20.5
    assert (estimate.low, estimate.high) == pytest.approx((14, 27), abs=1.5)
    assert ends(stats.bootstrap([3.0], np.median)) == (3, None, None)
    assert ends(stats.bootstrap([], np.median)) == (None, None, None)


@pytest.mark.parametrize("differences", [[1, 2, 4, -3, 5], [1, 1, 1, 1, 1, 1], [0, 0], [2, -2, 7, 7], [4]])
def test_paired_differences_by_enumeration(differences):
    seen = sum(differences)
    flips = [sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in
             product((1, -1), repeat=len(differences))]  # fmt: skip
    expected = min(1.0, 2 * min(sum(f <= seen for f in flips), sum(f >= seen for f in flips)) / len(flips))
    compared = stats.compare_paired(differences)
    assert compared.p_value == pytest.approx(expected)
    assert ends(compared) == ends(stats.mean(differences))


def test_the_smallest_p_values_are_those_of_complete_separation():
    for n, m in [(1, 1), (1, 30), (3, 3), (3, 4), (4, 4), (7, 7)]:
        assert stats.compare_means(np.arange(n), 100 + np.arange(m)).p_value == pytest.approx(stats.smallest_p(n, m))
    for n in (1, 2, 5, 6, 13):
        paired = stats.compare_paired(1 + np.arange(n))
        assert paired.p_value == pytest.approx(paired.smallest_p)
    for many in (stats.compare_means(np.arange(12), 100 + np.arange(12)), stats.compare_paired(np.ones(40))):
        assert many.p_value == pytest.approx(many.smallest_p)


# --- Shares -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("successes", "trials"), [(1, 3), (8, 10), (37, 50)])
def test_each_end_of_an_exact_interval_leaves_a_tail_of_2_5_percent(successes, trials):
    estimate = stats.proportion(successes, trials)
    assert scipy.stats.binom.sf(successes - 1, trials, estimate.low) == pytest.approx(0.025, abs=1e-9)
    assert scipy.stats.binom.cdf(successes, trials, estimate.high) == pytest.approx(0.025, abs=1e-9)


def test_shares_at_the_ends():
    for n in (1, 3, 17, 50):
        assert ends(stats.proportion(n, n)) == pytest.approx((1, 0.025 ** (1 / n), 1))
        assert ends(stats.proportion(0, n)) == pytest.approx((0, 0, 1 - 0.025 ** (1 / n)))
    assert ends(stats.proportion(0, 0)) == (None, None, None)


@pytest.mark.parametrize(
    ("a", "n_a", "b", "n_b"), [(3, 4, 1, 4), (0, 10, 9, 10), (2, 7, 5, 9), (5, 5, 0, 4), (0, 5, 0, 5)]
)
def test_fishers_test_by_enumeration(a, n_a, b, n_b):
    def ways(k):
        return comb(n_a, k) * comb(n_b, a + b - k)

    possible = [ways(k) for k in range(a + b + 1)]
    expected = sum(w for w in possible if w <= ways(a)) / comb(n_a + n_b, a + b)
    assert stats.fisher_exact(a, n_a, b, n_b) == pytest.approx(expected)
    assert stats.difference_of_proportions(a, n_a, b, n_b).p_value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        # Newcombe (1998, Statistics in Medicine 17:873), Table II, method 10.
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((6, 7, 2, 7), 0.0582, 0.8062),
        ((5, 56, 0, 29), -0.0381, 0.1926),
        ((10, 10, 0, 10), 0.6075, 1.0000),
    ],
)
def test_newcombes_intervals(counts, low, high):
    compared = stats.difference_of_proportions(*counts)
    assert (compared.low, compared.high) == pytest.approx((low, high), abs=6e-5)
    assert compared.difference == pytest.approx(counts[0] / counts[1] - counts[2] / counts[3])


def test_holm_by_hand():
    # 0.7 * 1, 0.01 * 4, max(0.06, 0.025 * 2), 0.02 * 3
    assert stats.holm([0.7, 0.01, 0.025, 0.02]) == pytest.approx([0.7, 0.04, 0.06, 0.06])
    assert stats.holm([0.6, 0.5]) == [1.0, 1.0]
    assert stats.holm([]) == []


# --- Seeds that would decide ------------------------------------------------------------------------------------------


def test_seeds_by_a_textbook_effect_size():
    # Half a standard deviation: 2 (1.960 + 0.842)^2 / 0.5^2 = 62.8 in each arm; two values have deviation 100.
    around = np.array([-1, 1]) * 100 / np.sqrt(2)
    a, b = (survival.StepsSample(centre + around, np.ones(2, bool), 3000) for centre in (500, 550))
    assert stats.seeds_to_decide(a.steps, b.steps) == stats.seeds_to_decide(b.steps, a.steps) == 63
    for alpha, fewest in ((0.05, 4), (0.01, 5), (1e-9, None)):  # No fewer than the permutation test needs.
        assert stats.seeds_to_decide(sample(60, 60).steps, sample(None, None).steps, alpha=alpha) == fewest
    assert stats.seeds_to_decide(sample(300, 420).steps, sample(360, 360).steps) is None
    assert stats.seeds_to_decide(sample(300).steps, sample(360, 420).steps) is None


@pytest.mark.parametrize(
    ("p_a", "p_b", "most"), [(0.9, 0.5, 0.85), (0.7, 0.25, 0.85), (0.2, 0.8, 0.88), (1.0, 0.6, 0.96)]
)
def test_seeds_for_shares_by_exact_power(p_a, p_b, most):
    # The fewer the seeds and the nearer the shares to 0 and 1, the coarser the approximation.
    n = stats.seeds_to_decide_proportions(p_a, p_b)
    counts = np.arange(n + 1)
    decided = np.array([[stats.fisher_exact(x, n, y, n) <= 0.05 for y in counts] for x in counts])
    power = scipy.stats.binom.pmf(counts, n, p_a) @ decided @ scipy.stats.binom.pmf(counts, n, p_b)
    assert 0.78 <= power <= most


def test_seeds_for_shares_at_the_ends():
    assert stats.seeds_to_decide_proportions(1, 0) == 4  # 2 / C(8, 4) is the first below 0.05.
    assert stats.seeds_to_decide_proportions(0.4, 0.4) is None
    assert stats.seeds_to_decide_proportions(0.50, 0.51) is None


@pytest.mark.parametrize(("share", "threshold"), [(1.0, 0.8), (0.0, 0.5), (0.83, 0.8), (2 / 3, 0.5), (0.5, 0.5)])
def test_seeds_that_clear_a_threshold(share, threshold):
    def is_clear(n):
        estimate = stats.proportion(round(share * n), n)
        return estimate.low > threshold or estimate.high < threshold

    needed = stats.seeds_to_clear(share, threshold)
    assert (needed is None) == (share == threshold)
    if needed is not None:
        assert all(is_clear(n) for n in range(needed, 801))
        assert not is_clear(needed - 1)


# --- Loss curves ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "wait", "stops"),
    [
        ([3, 2, 1], 0, {1: None}),
        ([3, 2, 2, 2.5, 1, 1], 2, {1: 2, 2: 3, 3: None}),  # An equal loss is no new minimum.
        ([5, 6, 4, 5, 5, 5, 3, 4], 3, {1: 1, 2: 4, 3: 5}),
        ([np.nan, np.nan, 1, np.nan, 0], 2, {1: 0, 2: 1, 3: None}),
        ([0.7], 0, {1: None}),
    ],
)
def test_waits_by_hand(losses, wait, stops):
    assert stats.longest_wait(losses) == wait
    assert {patience: stats.would_stop_at(losses, patience) for patience in stops} == stops


@pytest.mark.parametrize(
    ("losses", "share", "drop"),
    [
        ([0.8, 0.7, 0.6, 0.5, 0.3, 0.1, 0.05, 0.01], 3 / 8, 3),
        ([0.69, 0.2, 0.6, 0.01], 1 / 2, 1),  # The last evaluation above, not the first
        ([0.69, 0.01, 0.6, 0.3], 1 / 2, None),  # and the first later one below.
        ([0.69, 0.69, 0.68], 1, None),
        ([0.69, np.nan], 1 / 2, None),
        ([0.4, 0.01], 0, None),
    ],
)
def test_plateaus_by_hand(losses, share, drop):
    assert (stats.plateau_share(losses), stats.plateau_drop(losses)) == (share, drop)
