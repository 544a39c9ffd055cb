import dataclasses

import numpy as np
import pytest
from matplotlib.colors import to_hex

from jaxrnn.study import plots
from jaxrnn.study.stats import Estimate, SurvivalCurve

SHORT = np.array([0.7, 0.1])
LONG = np.array([0.7, 0.5, 0.3, 0.2])


def curves(*losses: np.ndarray) -> plots.Curves:
    return plots.Curves(
        title="an arm",
        labels=[f"seed {i}" for i in range(len(losses))],
        steps=[60 * np.arange(len(loss)) for loss in losses],
        metrics={"loss": losses, "accuracy": [1 - loss / 2 for loss in losses]},
    )


def test_hold_last_keeps_the_last_finite_value():
    held = plots.hold_last([SHORT, LONG, np.array([0.6, np.nan])], 4)

    np.testing.assert_array_equal(held, [[0.7, 0.1, 0.1, 0.1], [0.7, 0.5, 0.3, 0.2], [0.6, 0.6, 0.6, 0.6]])
    with pytest.raises(ValueError, match="finite first value"):
        plots.hold_last([np.array([np.nan, 1.0])], 2)


def test_mean_band_is_one_population_deviation_wide():
    axes = plots.mean_band([curves(SHORT, LONG)], plots.BLUE).axes[0]

    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xdata(), [0, 60, 120, 180])
    np.testing.assert_allclose(line.get_ydata(), [0.7, 0.3, 0.2, 0.15])
    # Two values differ from their mean by half their distance: 0, 0.2, 0.1, 0.05.
    (band,) = axes.collections
    corners = {(round(x), round(y, 6)) for x, y in band.get_paths()[0].vertices}
    expected = {(0, 0.7), (60, 0.1), (60, 0.5), (120, 0.1), (120, 0.3), (180, 0.1), (180, 0.2)}
    assert corners == expected


def test_seed_curves_name_few_runs_and_count_many():
    few = plots.seed_curves([curves(SHORT, LONG), curves(LONG)], plots.BLUE)
    many = plots.seed_curves([curves(*[LONG] * 7)], plots.ORANGE).axes[0]

    assert [axes.get_ylabel() for axes in few.axes] == ["loss", "", "accuracy", ""]
    assert [len(axes.lines) for axes in few.axes] == [2, 1, 2, 1]
    assert [text.get_text() for text in few.axes[0].get_legend().get_texts()] == ["seed 0", "seed 1"]
    np.testing.assert_array_equal(few.axes[2].lines[0].get_ydata(), [0.65, 0.95])
    assert [text.get_text() for text in many.get_legend().get_texts()] == ["7 runs"]
    assert {to_hex(line.get_color()).upper() for line in many.lines} == {plots.ORANGE}


def test_survival_curves_step_after_the_event():
    curve = SurvivalCurve(np.array([0.0, 300, 3000]), np.array([1.0, 0.5, 0.5]), np.zeros(3), np.ones(3))
    (axes,) = plots.survival_curves({"T = 10": [plots.Survival("LSTM", plots.BLUE, curve)]}).axes

    (line,) = axes.lines
    assert line.get_drawstyle() == "steps-post"
    np.testing.assert_array_equal(line.get_xydata(), [[0, 1], [300, 0.5], [3000, 0.5]])
    assert axes.get_title() == "T = 10"


def test_dots_and_intervals_draw_what_there_is():
    arms = [
        plots.Dots("LSTM", plots.BLUE, [300, 300, 360], Estimate(320, 300, 360)),
        plots.Dots("alone", plots.ORANGE, [420], Estimate(420, None, None)),
        plots.Dots("empty", plots.GREEN, [], Estimate(None, None, None)),
    ]
    (axes,) = plots.dots_and_intervals({"steps": arms}).axes

    assert [label.get_text() for label in axes.get_yticklabels()] == ["LSTM", "alone", "empty"]
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[300, 0], [360, 0]])
    assert len(axes.lines) == 1  # no interval from one value
    x, y = axes.collections[0].get_offsets().T
    assert list(x) == [300, 300, 360]
    assert y[0] != y[1]  # equal values stay apart


def test_dots_may_start_with_the_data_and_stand_beside_a_reference():
    arms = [plots.Dots("GCN,\ncora", plots.BLUE, [81, 82], Estimate(81.5, 80.5, 82.5), reference=81.7)]
    beside = plots.dots_and_intervals({"accuracy": arms}, from_zero=False)
    (axes,) = beside.axes

    assert axes.get_xlim()[0] > 75
    assert plots.dots_and_intervals({"accuracy": arms}).axes[0].get_xlim()[0] == 0
    interval, stroke = axes.lines
    assert list(interval.get_xdata()) == [80.5, 82.5]
    assert list(stroke.get_xdata()) == [81.7, 81.7]
    # A long label leaves the axes their room.
    long = plots.Dots("\n".join(["a setting of very many fields, " * 2] * 5), plots.BLUE, [81], arms[0].estimate)
    figure = plots.dots_and_intervals({"accuracy": [long]})
    plots.png(figure)
    assert figure.axes[0].get_window_extent().width > 300


def test_points_by_class():
    # 300 points: one at either end is moved in to the edge of the others.
    x = [*range(299), 5000]
    points = plots.Points("a layer", x, [0.0] * 300, [i % 9 for i in range(300)], ringed=[4, 299])
    (axes,) = plots.points_by_class([points], ring="wrong").axes

    *classes, rings = axes.collections
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [*(f"class {i}" for i in range(9)), "wrong"]
    assert list(classes[1].get_offsets()[:, 0]) == [max(i, 1) for i in range(1, 299, 9)]
    assert list(rings.get_offsets()[:, 0]) == [4, 298]
    looks = {(to_hex(one.get_facecolor()[0]), len(one.get_paths()[0].vertices)) for one in classes}
    assert len(looks) == 9  # The last class has the first one's colour and another marker.
    few = plots.Points("few", [0, 1, 90], [0, 0, 1], [0, 0, 0], ringed=[])
    (few_axes,) = plots.points_by_class([few], ring="wrong").axes
    assert list(few_axes.collections[0].get_offsets()[:, 0]) == [0, 1, 90]
    assert len(few_axes.collections) == 1


def test_seed_curves_keep_title_legend_and_axes_apart():
    figure = plots.seed_curves([curves(*[LONG] * 5)], plots.BLUE, step="epoch")
    plots.png(figure)
    axes = figure.axes[0]
    title, legend = (one.get_window_extent() for one in (axes._left_title, axes.get_legend()))
    assert axes.get_window_extent().y1 <= legend.y0 + 1
    assert legend.y1 <= title.y0 + 1
    assert figure.axes[-1].get_xlabel() == "epoch"


def test_titles_may_have_any_length_and_any_character():
    title = "a$\\foo_$b.txt, " + ", ".join(f"a_setting={i}" for i in range(20))
    column = dataclasses.replace(curves(SHORT), title=title)
    figure = plots.seed_curves([column, column], plots.BLUE)
    figure.draw_without_rendering()
    left, right, below, _ = figure.axes
    first, second = (axes._left_title.get_window_extent() for axes in (left, right))
    assert first.x1 < second.x0
    assert first.y1 <= figure.bbox.y1
    assert left.get_window_extent().height > 100
    assert below.get_window_extent().height > 100
    plots.png(plots.seed_curves([dataclasses.replace(column, title="日本")], plots.BLUE))


def test_png_is_the_same_for_the_same_arrays():
    first, again = (plots.png(plots.seed_curves([curves(SHORT, LONG)], plots.BLUE)) for _ in range(2))

    assert first.startswith(b"\x89PNG\r\n")
    assert first == again
    assert first != plots.png(plots.seed_curves([curves(SHORT, SHORT)], plots.BLUE))


def test_decays_are_geometric_means_between_all_runs_where_none_is_zero():
    values = np.array([[1.0, 4.0, 0.0, 2.0], [1.0, 1.0, 3.0, 8.0]])
    figure = plots.decays(
        {"LSTM": [plots.Band("h", plots.BLUE, values, dashed=True)], "GRU": [plots.Band("h", "red", values)]}, "x", "y"
    )

    first, second = figure.axes
    (line,) = first.lines
    np.testing.assert_array_equal(line.get_xdata(), [0, 1, 3])
    np.testing.assert_allclose(line.get_ydata(), [1, 2, 4])
    assert (line.get_linestyle(), first.get_yscale(), second.get_title("left")) == ("--", "log", "GRU")
    band = first.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (1, 8)


def test_shares_of_a_sum_are_bars():
    figure = plots.shares_of_sum({"a": [0.7, 0.4, -0.1], "b": [1.0]}, "T - i")
    assert [[bar.get_height() for bar in axes.patches] for axes in figure.axes] == [[0.7, 0.4, -0.1], [1.0]]


def test_heat_maps_have_a_row_for_each_unit_and_a_symbol_for_each_column():
    figure = plots.heat_maps({"gate i": [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], "gate g": [[-1, 0, 1]]}, ["·", "0", "1"])
    first, second = figure.axes[:2]
    np.testing.assert_array_equal(first.images[0].get_array(), [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    assert second.images[0].get_clim() == (-1, 1)
    assert [label.get_text() for label in second.get_xticklabels()] == ["·", "0", "1"]


def test_a_dollar_sign_in_a_name_begins_no_formula():
    estimate = Estimate(1.0, None, None)
    panels = {"steps": [plots.Dots("a$\\foo_$b", plots.BLUE, [1.0], estimate)]}
    plots.dots_and_intervals(panels).draw_without_rendering()
    points = plots.Points("a$\\foo_$b", [0.0, 1.0], [0.0, 1.0], [0, 1], [])
    plots.points_by_class([points], "wrong").draw_without_rendering()
