import dataclasses
import re

import numpy as np

from jaxrnn.study import plots
from jaxrnn.study.stats import Estimate
from jaxrnn.study.survival import SurvivalCurve

SHORT = np.array([0.7, 0.1])
LONG = np.array([0.7, 0.5, 0.3, 0.2])
STRANGE = "a$\\foo_$b"


def curves(*losses):
    return plots.Curves(
        title="an arm",
        labels=[f"seed {i}" for i in range(len(losses))],
        steps=[60 * np.arange(len(loss)) for loss in losses],
        metrics={"loss": losses, "accuracy": [1 - loss / 2 for loss in losses]},
    )


def points(n):
    return plots.Points("a layer", [*range(n)], [0.0] * n, [i % 9 for i in range(n)], ringed=[4])


def texts(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_hold_last_keeps_the_last_finite_value():
    steps = [60 * np.arange(k) for k in (2, 4, 2)]
    grid, held = plots.hold_last(steps, [SHORT, LONG, np.array([0.6, np.nan])])
    assert list(grid) == [0, 60, 120, 180]
    np.testing.assert_array_equal(held, [[0.7, 0.1, 0.1, 0.1], [0.7, 0.5, 0.3, 0.2], [0.6, 0.6, 0.6, 0.6]])
    np.testing.assert_array_equal(plots.hold_last(steps[:1], [np.array([np.nan, 1.0])])[1], [[np.nan, 1.0]])


def test_a_band_is_one_population_deviation_wide():
    axes = plots.seed_curves([curves(SHORT, LONG)], is_band=True).axes[0]
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_xydata(), [[0, 0.7], [60, 0.3], [120, 0.2], [180, 0.15]])
    # Two values differ from their mean by half their distance.
    (band,) = axes.collections
    assert {(120, 0.1), (120, 0.3)} < {(round(x), round(y, 6)) for x, y in band.get_paths()[0].vertices}


def test_a_band_ends_at_the_outermost_runs():
    axes = plots.seed_curves([curves(*[np.array([0.5, x]) for x in (0.1, 0.1, 0.1, 0.9)])], is_band=True).axes[0]
    (band,) = axes.collections
    assert {round(y, 6) for x, y in band.get_paths()[0].vertices if x == 60} == {0.1, 0.646410}


def test_seed_curves_name_few_runs_and_count_many():
    few = plots.seed_curves([curves(SHORT, LONG), curves(LONG)], step="epoch")
    many = plots.seed_curves([curves(*[LONG] * 7)]).axes[0]
    names = [(axes.get_xlabel(), axes.get_ylabel()) for axes in few.axes]
    assert names == [("", "loss"), ("", ""), ("epoch", "accuracy"), ("epoch", "")]
    assert [len(axes.lines) for axes in few.axes] == [2, 1, 2, 1]
    assert texts(few.axes[0]) == ["seed 0", "seed 1"]
    np.testing.assert_array_equal(few.axes[2].lines[0].get_ydata(), [0.65, 0.95])
    assert texts(many) == ["7 runs"]


def test_many_points_make_no_large_file():
    loss = np.random.default_rng(0).random(200)
    assert len(plots.svg(plots.seed_curves([curves(*[loss] * 100)]))) < 400_000
    assert len(plots.svg(plots.points_by_class([points(3000)], ring="wrong"))) < 400_000


def test_an_arm_has_one_look_in_all_panels():
    arms = {f"arm {i}": ([np.arange(2)] * 3, [np.ones(2)] * 3) for i in range(8)}
    figure = plots.mean_curves({"loss": arms, "accuracy": {"arm 7": arms["arm 7"]}})
    looks = [(line.get_color(), line.get_linestyle(), line.get_marker()) for line in figure.axes[0].lines]
    assert len(set(looks)) == 8
    assert figure.axes[1].lines[0].get_color() == looks[7][0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(arms)


def test_survival_curves_step_after_the_event():
    curve = SurvivalCurve(np.array([0.0, 300, 3000]), np.array([1.0, 0.5, 0.5]), np.zeros(3), np.ones(3))
    (axes,) = plots.survival_curves({"T = 10": {"LSTM": curve}}).axes
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xydata(), [[0, 1], [300, 0.5], [3000, 0.5]])
    assert (axes.get_title("left"), texts(axes)) == ("T = 10", ["LSTM"])


def test_where_all_runs_have_converged_there_is_no_band():
    curve = SurvivalCurve(np.array([0.0, 60, 90, 3000]), np.array([1, 0.5, 0, 0]), np.zeros(4), np.full(4, 0.7))
    (axes,) = plots.survival_curves({"T = 10": {"LSTM": curve}}).axes
    (band,) = axes.collections
    assert band.get_paths()[0].vertices[:, 0].max() == 90


def test_dots_and_intervals_draw_what_there_is():
    arms = [
        plots.Dots("LSTM", [300, 300, 360], Estimate(320, 300, 360), reference=310),
        plots.Dots("alone", [420], Estimate(420, None, None)),
        plots.Dots("empty", [], Estimate(None, None, None)),
    ]
    (axes,) = plots.dots_and_intervals({"steps": arms}).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["LSTM", "alone", "empty"]
    interval, stroke = axes.lines  # None from one value.
    np.testing.assert_array_equal(interval.get_xydata(), [[300, 0], [360, 0]])
    assert list(stroke.get_xdata()) == [310, 310]
    x, y = axes.collections[0].get_offsets().T
    assert list(x) == [300, 300, 360]
    assert y[0] != y[1]  # equal values stay apart
    assert axes.get_xlim()[0] == 0


def test_classes_have_colours_and_markers():
    # One point at either end is moved in to the edge of the others.
    many = dataclasses.replace(points(300), x=[*range(299), 5000], ringed=[4, 299])
    (axes,) = plots.points_by_class([many], "wrong").axes
    *classes, rings = axes.collections
    assert texts(axes) == [*(f"class {i}" for i in range(9)), "wrong"]
    assert list(classes[1].get_offsets()[:, 0]) == [max(i, 1) for i in range(1, 299, 9)]
    assert list(rings.get_offsets()[:, 0]) == [4, 298]
    assert len({(*one.get_facecolor()[0], str(one.get_paths()[0].vertices)) for one in classes}) == 9


def test_titles_may_have_any_length_and_any_character():
    title = f"{STRANGE}.txt, " + ", ".join(f"a_setting={i}" for i in range(20))
    column = dataclasses.replace(curves(*[LONG] * 5), title=title)
    figure = plots.seed_curves([column, column])
    figure.draw_without_rendering()
    left, right, below, _ = figure.axes
    first, second, legend = (
        one.get_window_extent() for one in (left._left_title, right._left_title, left.get_legend())
    )
    assert left.get_window_extent().y1 <= legend.y0 + 1
    assert legend.y1 <= first.y0 + 1
    assert first.x1 < second.x0
    assert first.y1 <= figure.bbox.y1
    assert min(left.get_window_extent().height, below.get_window_extent().height) > 100
    dots = [plots.Dots(STRANGE + ", a setting of very many fields" * 3, [81], Estimate(81, 80, 82))]
    wide = plots.dots_and_intervals({STRANGE: dots})
    wide.draw_without_rendering()
    assert wide.axes[0].get_window_extent().width > 300
    plots.svg(plots.seed_curves([dataclasses.replace(column, title="日本")]))


def test_svg_is_the_same_for_the_same_arrays_and_follows_the_reader():
    first, again = (plots.svg(plots.seed_curves([curves(SHORT, LONG)])) for _ in range(2))
    assert first == again
    assert "prefers-color-scheme: dark" in first
    assert not re.search("#000000|fill: ?black|<dc:date>", first)


def test_decays_are_geometric_means_between_all_runs_where_none_is_zero():
    values = np.array([[1.0, 4.0, 0.0, 2.0], [1.0, 1.0, 3.0, 8.0]])
    band = plots.Band("h", plots.BLUE, values, dashed=True)
    first, second = plots.decays({"LSTM": [band], "GRU": [band]}, "x", "y").axes
    (line,) = first.lines
    np.testing.assert_allclose(line.get_xydata(), [[0, 1], [1, 2], [3, 4]])
    assert (line.get_linestyle(), first.get_yscale(), second.get_title("left")) == ("--", "log", "GRU")
    heights = first.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (1, 8)


def test_bars_and_maps_show_the_values():
    bars = plots.shares_of_sum({"a": [0.7, 0.4, -0.1], "b": [1.0]}, "T - i").axes
    assert [[bar.get_height() for bar in axes.patches] for axes in bars] == [[0.7, 0.4, -0.1], [1.0]]
    first, second = plots.heat_maps({"gate i": [[0.1, 0.2], [0.4, 0.5]], "gate g": [[-1, 0]]}, ["·", "0"]).axes[:2]
    np.testing.assert_array_equal(first.images[0].get_array(), [[0.1, 0.2], [0.4, 0.5]])
    assert second.images[0].get_clim() == (-1, 1)
    assert [label.get_text() for label in second.get_xticklabels()] == ["·", "0"]
