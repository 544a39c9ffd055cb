"""Oracles: closed forms, brute-force enumeration, SciPy's own Kaplan-Meier and published numbers.

The published data are the remission weeks of Freireich et al. (1963, Blood 21:699) as used by Gehan (1965, Biometrika
52:203) and in Klein and Moeschberger's textbook, whose Kaplan-Meier table is repeated here.
"""

from dataclasses import astuple
from fractions import Fraction
from itertools import combinations
from math import comb, log

import numpy as np
import pytest
import scipy.stats

from jaxrnn.study import stats

HORIZON = 3000


def sample(*steps):
    return stats.steps_sample(steps, HORIZON)


def weeks(relapsed, censored, horizon=35):
    return stats.StepsSample(
        steps=np.array(relapsed + censored, float),
        converged=np.array([True] * len(relapsed) + [False] * len(censored)),
        horizon=horizon,
    )


SIX_MP = weeks([6, 6, 6, 7, 10, 13, 16, 22, 23], [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35])
PLACEBO = weeks([1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23], [])

# The report's Tables 1 and 2, T=20: three seeds each.
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


def numbers(result):
    values = [value for value in astuple(result) if not isinstance(value, str)]
    return np.concatenate([np.ravel(value) for value in values if value is not None] or [[]])


class TestStepsSample:
    def test_a_run_that_did_not_converge_is_censored_at_the_horizon(self):
        made = sample(300, None, HORIZON)
        assert made.steps.tolist() == [300, HORIZON, HORIZON]
        assert made.converged.tolist() == [True, False, True]
        assert made.steps.dtype == np.float64

    @pytest.mark.parametrize(
        ("steps", "message"), [([], "at least one run"), ([3001], "0..3000, got"), ([60, -1], "-1"), ([np.nan], "nan")]
    )
    def test_rejects(self, steps, message):
        with pytest.raises(ValueError, match=message):
            stats.steps_sample(steps, HORIZON)

    def test_rejects_arrays_that_do_not_fit(self):
        with pytest.raises(ValueError, match="shape"):
            stats.StepsSample(np.zeros(3), np.ones(2, bool), HORIZON)


class TestSurvivalCurve:
    def test_published_kaplan_meier(self):
        curve = stats.survival_curve(SIX_MP)
        assert curve.steps.tolist() == [0, 6, 7, 10, 13, 16, 22, 23, 35]
        published = [1, 0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448, 0.448]
        np.testing.assert_allclose(curve.not_converged, published, atol=5e-4)

    def test_interval_from_the_published_standard_error(self):
        # Greenwood's standard errors in the same table; on the log(-log) scale they are divided by |S log S|.
        curve = stats.survival_curve(SIX_MP)
        share = curve.not_converged[1:-1]
        error = np.array([0.0764, 0.0869, 0.0963, 0.1068, 0.1141, 0.1282, 0.1346])
        factor = np.exp(1.96 * error / np.abs(share * np.log(share)))
        np.testing.assert_allclose(curve.low[1:-1], share**factor, atol=1e-3)
        np.testing.assert_allclose(curve.high[1:-1], share ** (1 / factor), atol=1e-3)

    @pytest.mark.parametrize("data", [SIX_MP, sample(60, 120, 120, 900, None, None)])
    def test_agrees_with_scipy(self, data):
        ecdf = scipy.stats.ecdf(
            scipy.stats.CensoredData(uncensored=data.steps[data.converged], right=data.steps[~data.converged])
        ).sf
        band = ecdf.confidence_interval(method="log-log")
        curve = stats.survival_curve(data)
        for ours, theirs in [(curve.not_converged, ecdf), (curve.low, band.low), (curve.high, band.high)]:
            np.testing.assert_allclose(ours[1:], theirs.evaluate(curve.steps[1:]), rtol=1e-12)

    def test_all_converged_is_the_empirical_distribution(self):
        curve = stats.survival_curve(PLACEBO)
        expected = [np.mean(PLACEBO.steps > step) for step in curve.steps]
        np.testing.assert_allclose(curve.not_converged, expected, atol=1e-15)
        assert curve.not_converged[-1] == curve.low[-1] == 0
        assert curve.high[-1] == curve.high[-3] > 0  # carried on from the last event that left a run

    @pytest.mark.parametrize("name", DEGENERATE)
    def test_is_a_curve_for_any_sample(self, name):
        curve = stats.survival_curve(DEGENERATE[name])
        assert curve.steps[0] == 0 and curve.steps[-1] == HORIZON
        assert curve.not_converged[0] == curve.low[0] == curve.high[0] == 1
        assert len(curve.steps) == len(curve.not_converged) == len(curve.low) == len(curve.high)
        assert (curve.low <= curve.not_converged).all() and (curve.not_converged <= curve.high).all()
        for values in (curve.not_converged, curve.low, curve.high):
            assert (np.diff(values) <= 0).all()
        assert curve.not_converged[-1] == pytest.approx(1 - DEGENERATE[name].converged.mean())


class TestMedianSteps:
    def test_published(self):
        # Medians and log-log intervals as statistics packages print them for these data.
        assert stats.median_steps(SIX_MP) == stats.Estimate(23, 13, None)
        assert stats.median_steps(PLACEBO) == stats.Estimate(8, 4, 11)

    def test_beyond_the_horizon(self):
        median = stats.median_steps(sample(*range(60, 660, 60), *[None] * 11))
        assert median.value is None and median.high is None
        assert median.low is not None and median.low < 660
        assert "beyond the horizon" in median.note

    @pytest.mark.parametrize("n", [2, 6, 10, 14, 22, 46])
    def test_exactly_half_converged(self, n):
        # The product (n-1)/n (n-2)/(n-1) ... is one half but for rounding.
        steps = [60 * k for k in range(1, n // 2 + 1)]
        assert stats.median_steps(sample(*steps, *[None] * (n // 2))).value == steps[-1]

    def test_degenerate(self):
        assert stats.median_steps(sample(*[300] * 10)) == stats.Estimate(300, 300, 300, "all values alike")
        assert stats.median_steps(sample(*[300] * 9)) == stats.Estimate(300, None, None, "all values alike")
        assert stats.median_steps(sample(300)) == stats.Estimate(300, None, None, "one seed")
        none = stats.median_steps(sample(None, None))
        assert none == stats.Estimate(None, None, None, "no run converged; the median lies beyond the horizon")


class TestRestrictedMean:
    def test_value_counts_censored_runs_at_the_horizon(self):
        assert stats.restricted_mean(LSTM).value == 1540  # the report's Table 1
        assert stats.restricted_mean(sample(600, None)).value == 1800

    def test_interval_covers(self):
        # Steps as seen in a study: skewed, on a grid of 60, a tenth of them beyond the horizon.
        rng = np.random.default_rng(1)

        def draw(n):
            return np.minimum(60 * np.ceil(rng.lognormal(7.2, 0.7, n) / 60), HORIZON)

        truth = draw(1_000_000).mean()
        covered = []
        for _ in range(200):
            steps = draw(20)
            estimate = stats.restricted_mean(stats.StepsSample(steps, steps < HORIZON, HORIZON))
            covered.append(estimate.low <= truth <= estimate.high)
        assert 0.90 <= np.mean(covered) <= 0.99  # 3.3 standard errors below 0.95, 2.6 above

    def test_is_deterministic(self):
        data = sample(*range(60, 1260, 60))
        assert stats.restricted_mean(data) == stats.restricted_mean(data)
        assert stats.restricted_mean(data).note == ""

    def test_few_seeds_are_said_to_be_few(self):
        assert stats.restricted_mean(LSTM).note == "3 seeds: the bootstrap interval is too narrow"

    def test_degenerate(self):
        many = [None] * 12
        assert stats.restricted_mean(sample(*many)) == stats.Estimate(3000, 3000, 3000, "no run converged")
        assert stats.restricted_mean(sample(*[300] * 12)) == stats.Estimate(300, 300, 300, "all values alike")
        assert stats.restricted_mean(sample(300)) == stats.Estimate(300, None, None, "one seed; no interval")
        few = stats.restricted_mean(sample(None, None))
        assert (few.value, few.low, few.high) == (3000, None, None)

    def test_rejects_early_censoring(self):
        with pytest.raises(ValueError, match="censored at the horizon"):
            stats.restricted_mean(SIX_MP)


def enumerated_p(first, second):
    """Twice the smaller tail of the difference of means over all divisions, in exact arithmetic."""
    pooled = [Fraction(int(step)) for step in np.append(first, second)]
    n = len(first)

    def difference(chosen):
        rest = [step for i, step in enumerate(pooled) if i not in chosen]
        return sum(pooled[i] for i in chosen) / n - sum(rest) / len(rest)

    seen = difference(range(n))
    all_of_them = [difference(chosen) for chosen in combinations(range(len(pooled)), n)]
    below = sum(d <= seen for d in all_of_them)
    above = sum(d >= seen for d in all_of_them)
    return min(1.0, 2 * min(below, above) / len(all_of_them))


class TestCompareRestrictedMeans:
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
    def test_p_value_by_enumeration(self, a, b):
        assert stats.compare_restricted_means(a, b).p_value == pytest.approx(enumerated_p(a.steps, b.steps), abs=1e-12)

    def test_the_report_s_three_seeds_cannot_decide(self):
        comparison = stats.compare_restricted_means(LSTM, PEEPHOLE)
        assert comparison.difference == 1000  # 1540 - 540, the tables' averages
        assert comparison.p_value == pytest.approx(2 / comb(6, 3))  # complete separation: the smallest there is

    def test_interval_is_that_of_the_difference(self):
        rng = np.random.default_rng(0)
        first, second = (60 * rng.integers(low, low + 20, 40) for low in (20, 10))
        comparison = stats.compare_restricted_means(sample(*first), sample(*second))
        # With 40 symmetric values in each arm, Welch's interval is nearly the bootstrap's.
        welch = scipy.stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
        width = welch.high - welch.low
        assert comparison.difference == pytest.approx(np.mean(first) - np.mean(second))
        np.testing.assert_allclose([comparison.low, comparison.high], welch, atol=0.08 * width)
        assert comparison.note == ""

    def test_exchanging_the_arms_changes_the_sign(self):
        there, back = stats.compare_restricted_means(LSTM, PEEPHOLE), stats.compare_restricted_means(PEEPHOLE, LSTM)
        assert back.difference == -there.difference
        assert back.p_value == pytest.approx(there.p_value)
        assert back.high < 0 < there.low

    def test_p_is_never_zero_and_deterministic(self):
        a, b = sample(*[300] * 30), sample(*[None] * 30)
        comparison = stats.compare_restricted_means(a, b)
        assert 0 < comparison.p_value < 1e-3
        assert comparison == stats.compare_restricted_means(a, b)

    def test_rejects_different_horizons(self):
        with pytest.raises(ValueError, match="same horizon, got 3000 and 600"):
            stats.compare_restricted_means(LSTM, stats.steps_sample([300], 600))

    def test_degenerate(self):
        censored, alike = sample(*[None] * 12), sample(*[300] * 12)
        both = stats.compare_restricted_means(censored, censored)
        assert both == stats.Comparison(0, 0, 0, 1, "first arm: no run converged; second arm: no run converged")
        apart = stats.compare_restricted_means(censored, alike)
        assert (apart.difference, apart.low, apart.high) == (2700, 2700, 2700)
        assert apart.note == "first arm: no run converged; second arm: all values alike"
        few = stats.compare_restricted_means(censored, sample(300, 300))
        assert (few.difference, few.low, few.high) == (2700, None, None)
        assert few.note.endswith("second arm: all values alike; no interval")
        one = stats.compare_restricted_means(sample(300), sample(360, 420))
        assert (one.low, one.high) == (None, None)
        assert one.note == "first arm: one seed; no interval"

    def test_one_arm_alike_still_has_the_other_s_interval(self):
        varied = sample(*range(60, 1260, 60))
        alone = stats.restricted_mean(varied)
        against = stats.compare_restricted_means(varied, sample(*[None] * 20))
        np.testing.assert_allclose([against.low + 3000, against.high + 3000], [alone.low, alone.high], atol=10)


class TestLogRank:
    def test_published(self):
        test = stats.log_rank(SIX_MP, PLACEBO)
        assert test.z**2 == pytest.approx(16.79, abs=0.005)
        assert test.z < 0  # remissions last longer: events come later in the first arm
        assert test.p_value == pytest.approx(scipy.stats.chi2.sf(16.79, 1), rel=0.01)

    @pytest.mark.parametrize(
        ("a", "b", "note"),
        [
            (sample(None, None), sample(None), "no run converged in either arm"),
            (sample(300, 300), sample(300, 300), "no step tells the arms apart"),
            (weeks([], [5]), weeks([10, 20], []), "no step tells the arms apart"),
        ],
    )
    def test_degenerate(self, a, b, note):
        test = stats.log_rank(a, b)
        assert test.z is None and test.p_value is None
        assert note in test.note

    def test_one_arm_without_events(self):
        # By hand: at 60 two of four at risk are the first arm's, at 120 two of three. O - E = -(1/2 + 2/3),
        # V = 1/4 + 2/9.
        test = stats.log_rank(sample(None, None), sample(60, 120))
        assert test.z == pytest.approx(-(7 / 6) / np.sqrt(17 / 36))
        assert test.note == "first arm: no run converged"


@pytest.mark.parametrize("a", DEGENERATE)
@pytest.mark.parametrize("b", DEGENERATE)
def test_no_sample_gives_nan_or_a_warning(a, b):
    first, second = DEGENERATE[a], DEGENERATE[b]
    for result in (
        stats.compare_restricted_means(first, second),
        stats.log_rank(first, second),
        stats.restricted_mean(first),
        stats.median_steps(first),
    ):
        assert np.isfinite(numbers(result)).all()
    assert isinstance(stats.seeds_to_decide(first, second), int | None)


class TestProportion:
    @pytest.mark.parametrize(("successes", "trials"), [(1, 3), (8, 10), (37, 50)])
    def test_each_end_leaves_a_tail_of_2_5_percent(self, successes, trials):
        def at_least(p):
            return sum(comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(successes, trials + 1))

        estimate = stats.proportion(successes, trials)
        at_most = (
            1
            - at_least(estimate.high)
            + comb(trials, successes) * estimate.high**successes * (1 - estimate.high) ** (trials - successes)
        )
        assert at_least(estimate.low) == pytest.approx(0.025, abs=1e-9)
        assert at_most == pytest.approx(0.025, abs=1e-9)

    def test_published(self):
        estimate = stats.proportion(8, 10)
        assert (estimate.low, estimate.high) == pytest.approx((0.4439, 0.9748), abs=5e-5)

    @pytest.mark.parametrize("n", [1, 3, 16, 17, 50])
    def test_all_or_none(self, n):
        assert astuple(stats.proportion(n, n))[:3] == pytest.approx((1, 0.025 ** (1 / n), 1))
        assert astuple(stats.proportion(0, n))[:3] == pytest.approx((0, 0, 1 - 0.025 ** (1 / n)))

    def test_no_runs(self):
        assert stats.proportion(0, 0) == stats.Estimate(None, None, None, "no runs")

    @pytest.mark.parametrize(("successes", "trials"), [(4, 3), (-1, 3)])
    def test_rejects(self, successes, trials):
        with pytest.raises(ValueError, match=r"0\.\.trials"):
            stats.proportion(successes, trials)


class TestFisherExact:
    def test_the_lady_tasting_tea(self):
        # Fisher (1935): 3 of 4 cups right, 1 of 4 wrong; two-sided 34/70.
        assert stats.fisher_exact(3, 4, 1, 4) == pytest.approx(34 / 70)

    @pytest.mark.parametrize(("a", "n_a", "b", "n_b"), [(0, 10, 9, 10), (2, 7, 5, 9), (5, 5, 0, 4), (0, 5, 0, 5)])
    def test_by_enumeration(self, a, n_a, b, n_b):
        def ways(k):
            return comb(n_a, k) * comb(n_b, a + b - k)

        possible = [ways(k) for k in range(a + b + 1)]
        expected = sum(w for w in possible if w <= ways(a)) / comb(n_a + n_b, a + b)
        assert stats.fisher_exact(a, n_a, b, n_b) == pytest.approx(expected)

    def test_rejects(self):
        with pytest.raises(ValueError, match="5 of 4"):
            stats.fisher_exact(1, 4, 5, 4)


class TestHolm:
    def test_by_hand(self):
        # 0.01 * 4, 0.02 * 3, max(0.06, 0.025 * 2), 0.7 * 1
        adjusted = stats.holm({"d": 0.7, "a": 0.01, "c": 0.025, "b": 0.02})
        assert adjusted == pytest.approx({"d": 0.7, "a": 0.04, "b": 0.06, "c": 0.06})
        assert list(adjusted) == ["d", "a", "c", "b"]

    def test_capped_at_one(self):
        assert stats.holm({"b": 0.6, "c": 0.5}) == {"b": 1.0, "c": 1.0}

    def test_one_and_none(self):
        assert stats.holm({"b": 0.03}) == {"b": 0.03}
        assert stats.holm({}) == {}

    @pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
    def test_rejects(self, p):
        with pytest.raises(ValueError, match="'b' must lie in"):
            stats.holm({"b": p})


class TestMean:
    def test_by_hand(self):
        # Five values with mean 3 and standard error sqrt(2.5 / 5); the 97.5 % point of t with 4 degrees is 2.776.
        estimate = stats.mean([1, 2, 3, 4, 5])
        half = 2.776 * np.sqrt(0.5)
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((3, 3 - half, 3 + half), abs=1e-3)
        assert estimate.note == ""

    def test_degenerate(self):
        assert stats.mean([1.0] * stats.FEW_SEEDS) == stats.Estimate(1, 1, 1, "all values alike")
        assert stats.mean([1.0] * (stats.FEW_SEEDS - 1)) == stats.Estimate(1, None, None, "all values alike")
        low, high = stats.mean([0.5, 1.0]).low, stats.mean([0.5, 1.0]).high
        assert low < 0 < 1 < high
        bounded = stats.mean([0.5, 1.0], within=(0, 1))
        assert (bounded.value, bounded.low, bounded.high) == (0.75, 0, 1)
        assert stats.mean([0.5, 1.0], within=(-9, 9)) == stats.mean([0.5, 1.0])
        assert stats.mean([0.5]) == stats.Estimate(0.5, None, None, "one value")
        assert stats.mean([]) == stats.Estimate(None, None, None, "no values")

    def test_rejects_nan(self):
        with pytest.raises(ValueError, match="finite"):
            stats.mean([1.0, np.nan])


class TestSeedsToDecide:
    def test_textbook_effect_size(self):
        # Half a standard deviation: 2 (1.960 + 0.842)^2 / 0.5^2 = 62.8 in each arm.
        spread = 100 / np.sqrt(2)  # two values that far either side of their mean: standard deviation 100
        a, b = (
            stats.StepsSample(centre + np.array([-spread, spread]), np.ones(2, bool), 3000) for centre in (500, 550)
        )
        assert stats.seeds_to_decide(a, b) == stats.seeds_to_decide(b, a) == 63
        assert stats.seeds_to_decide(a, b, power=0.9) == 85  # 2 (1.960 + 1.282)^2 / 0.25 = 84.06
        assert stats.seeds_to_decide(a, b, limit=62) is None

    @pytest.mark.parametrize(("alpha", "fewest"), [(0.05, 4), (0.01, 5)])
    def test_no_fewer_than_the_permutation_test_needs(self, alpha, fewest):
        for n in (fewest - 1, fewest):
            p = stats.compare_restricted_means(sample(*[60] * n), sample(*[None] * n)).p_value
            assert (p <= alpha) == (n == fewest)
        assert stats.seeds_to_decide(sample(60, 60), sample(None, None), alpha=alpha) == fewest

    def test_undecidable(self):
        assert stats.seeds_to_decide(sample(300, 420), sample(360, 360)) is None
        assert stats.seeds_to_decide(sample(300), sample(360, 420)) is None

    @pytest.mark.parametrize(
        ("p_a", "p_b", "most"), [(0.9, 0.5, 0.85), (0.7, 0.25, 0.85), (0.2, 0.8, 0.88), (1.0, 0.6, 0.96)]
    )
    def test_proportions_by_exact_power(self, p_a, p_b, most):
        # The fewer the seeds and the nearer the shares to 0 and 1, the coarser the approximation.
        n = stats.seeds_to_decide_proportions(p_a, p_b)
        counts = np.arange(n + 1)
        decided = np.array([[stats.fisher_exact(x, n, y, n) <= 0.05 for y in counts] for x in counts])
        power = scipy.stats.binom.pmf(counts, n, p_a) @ decided @ scipy.stats.binom.pmf(counts, n, p_b)
        assert 0.78 <= power <= most

    def test_proportions_at_the_ends(self):
        assert stats.seeds_to_decide_proportions(1, 0) == 4  # 2 / C(8, 4) is the first below 0.05
        assert stats.seeds_to_decide_proportions(0.4, 0.4) is None
        assert stats.seeds_to_decide_proportions(0.50, 0.51) is None
        with pytest.raises(ValueError, match="share"):
            stats.seeds_to_decide_proportions(1.2, 0.4)


class TestWaits:
    @pytest.mark.parametrize(
        ("losses", "wait", "stops"),
        [
            ([3, 2, 1], 0, {1: None}),
            ([3, 2, 2, 2.5, 1, 1], 2, {1: 2, 2: 3, 3: None}),  # an equal loss is no new minimum
            ([1, 2, 2, 2, 2, 2], 5, {5: 5, 6: None}),
            ([5, 6, 4, 5, 5, 5, 3, 4], 3, {1: 1, 2: 4, 3: 5}),
            ([np.nan, np.nan, 1, np.nan, 0], 2, {1: 0, 2: 1, 3: None}),
            ([0.7], 0, {1: None}),
        ],
    )
    def test_by_hand(self, losses, wait, stops):
        assert stats.longest_wait(losses) == wait
        assert {patience: stats.would_stop_at(losses, patience) for patience in stops} == stops

    def test_against_a_loop(self):
        losses = np.round(np.random.default_rng(0).random(300) * log(2), 2)
        for patience in (1, 5, 20, 400):
            best, wait, longest, stopped = np.inf, 0, 0, None
            for look, loss in enumerate(losses):
                best, wait = (loss, 0) if loss < best else (best, wait + 1)
                longest = max(longest, wait)
                if wait == patience and stopped is None:
                    stopped = look
            assert stats.would_stop_at(losses, patience) == stopped
            assert stats.longest_wait(losses) == longest

    def test_rejects(self):
        with pytest.raises(ValueError, match="patience"):
            stats.would_stop_at([1.0], 0)
        for measure in (stats.longest_wait, stats.plateau, lambda losses: stats.would_stop_at(losses, 5)):
            with pytest.raises(ValueError, match="at least one look"):
                measure([])


class TestPlateau:
    @pytest.mark.parametrize(
        ("losses", "share", "drop"),
        [
            ([0.8, 0.7, 0.6, 0.5, 0.3, 0.1, 0.05, 0.01], 3 / 8, 3),
            ([0.69, 0.0], 1 / 2, 1),
            ([0.69, 0.2, 0.6, 0.01], 1 / 2, 1),  # the last look above, not the first
            ([0.69, 0.01, 0.6, 0.3], 1 / 2, None),  # and the first later one below
            ([0.69, 0.69, 0.68], 1, None),
            ([0.69, np.nan], 1 / 2, None),
            ([0.4, 0.01], 0, None),
        ],
    )
    def test_by_hand(self, losses, share, drop):
        assert stats.plateau(losses) == stats.Plateau(share, drop)

    def test_its_edges_are_arguments(self):
        assert stats.plateau([2.0, 1.5, 1.0, 0.5, 0.01], low=1.0, high=2.0) == stats.Plateau(3 / 5, 2)
