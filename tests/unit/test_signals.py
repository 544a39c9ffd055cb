"""Signals from folders, their windows and their scales, against the rules in plain Python."""

import numpy as np
import pytest

from jaxrnn.data import signals, windows
from jaxrnn.data.files import DataError
from jaxrnn.data.signals import load

SIGNALS = "a,b,c\n1,2,3\n,NaN,4.5\n3,4,5\n"
EDGES = "source,target,weight\na,b,2\nc,a,0.5\n"


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)
    return f"folder:{folder}"


def test_a_folder_is_read(tmp_path):
    found = load(write(tmp_path, signals=SIGNALS, edges=EDGES))
    assert found.names == ("a", "b", "c")
    np.testing.assert_array_equal(found.values, [[1, 2, 3], [np.nan, np.nan, 4.5], [3, 4, 5]])
    np.testing.assert_array_equal(found.adjacency, [[0, 2, 0], [0, 0, 0], [0.5, 0, 0]])


def test_a_matrix_quotes_times_and_a_byte_order_mark_are_read(tmp_path):
    text = '\ufefftime,"a, b",c\r\n2024-01-01,1,2\r\n2024-01-02T00:00:00+01:00,3,4\r\n\r\n'
    found = load(write(tmp_path, signals=text, adjacency="0,1\n0.5,0\n"))
    assert found.names == ("a, b", "c")
    np.testing.assert_array_equal(found.values, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(found.adjacency, [[0, 1], [0.5, 0]])


def test_edges_without_weights_have_one(tmp_path):
    found = load(write(tmp_path, signals=SIGNALS, edges="source,target\na,b\na,b\n"))
    assert found.adjacency.sum() == 1


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "signals.csv"),
        ({"signals": SIGNALS}, "edges.csv"),
        ({"signals": SIGNALS, "edges": EDGES, "adjacency": "0"}, "either"),
        ({"signals": SIGNALS, "edges": "source,target\na,d\n"}, "edges.csv, line 2: 'd'"),
        ({"signals": SIGNALS, "edges": "from,to\na,b\n"}, "edges.csv, line 1"),
        ({"signals": SIGNALS, "edges": "source,target\na\n"}, "edges.csv, line 2"),
        ({"signals": SIGNALS, "edges": "source,target,weight\na,b,-1\n"}, "edges.csv, line 2.*'-1'"),
        ({"signals": SIGNALS, "edges": "source,target,weight\na,b,1\na,b,2\n"}, "edges.csv, line 3"),
        ({"signals": SIGNALS, "adjacency": "0,1\n1,0\n"}, "adjacency.csv, line 1: has 2 fields.*3 nodes"),
        ({"signals": SIGNALS, "adjacency": "a,b,c\n0,1,0\n1,0,0\n"}, "adjacency.csv, line 1, field 1: 'a'"),
        ({"signals": SIGNALS, "adjacency": "0,1,0\n1,0,0\n"}, "adjacency.csv has 2 rows"),
        ({"signals": "a,b\n1,2\n3,x1\n", "edges": EDGES}, "signals.csv, line 3, field 2: 'x1'.*NaN"),
        ({"signals": "a,b\n1,inf\n", "edges": EDGES}, "signals.csv, line 2, field 2: 'inf'"),
        ({"signals": "a,b\n1,2,3\n", "edges": EDGES}, "signals.csv, line 2: has 3 fields"),
        ({"signals": "a,a\n1,2\n", "edges": EDGES}, "signals.csv, line 1: the name 'a'"),
        ({"signals": "a,b\n", "edges": EDGES}, "signals.csv"),
        ({"signals": "time,a\n2,1\n1,1\n", "edges": EDGES}, "signals.csv, line 3: the time 1"),
        ({"signals": "time,a\nnoon,1\n", "edges": EDGES}, "signals.csv, line 2: the time 'noon'"),
    ],
)
def test_an_error_in_a_file_is_said_with_its_place(tmp_path, files, said):
    with pytest.raises(DataError, match=said) as error:
        load(write(tmp_path, **files))
    assert "\n" not in str(error.value)


def test_an_unknown_name_is_refused():
    with pytest.raises(DataError, match="los_loop"):
        load("metro")


def test_the_embedded_one_has_no_gaps_and_a_node_feels_its_neighbours():
    found = signals.load("diffusion")
    assert found.values.shape == (600, 20)
    assert np.isfinite(found.values).all()
    source = np.argmax(found.adjacency[:, 1])
    before, after = found.values[:-1, source], found.values[1:, 1]
    assert np.corrcoef(before, after)[0, 1] > 0.5


@pytest.mark.parametrize("split", [(0.5, 0.3), (0.7, 0.3)])
@pytest.mark.parametrize("reaches_back", [True, False])
def test_windows_belong_to_parts_by_their_rows(split, reaches_back):
    rows, length, horizon = 120, 4, 3
    found = windows.divide(rows, length, horizon, split, reaches_back=reaches_back)
    end = int(split[0] * rows)
    middle = end if split[0] == 0.5 else end - end // 10
    bounds = {"train": (0, middle), "validation": (middle, 84), "test": (84, rows), "fitted": (0, end)}
    for name, (begin, stop) in bounds.items():
        part = getattr(found, name)
        pairs = {
            (int(s), h) for s, counts in zip(part.starts, part.counts, strict=True) for h in np.flatnonzero(counts)
        }
        first = 0 if reaches_back else begin
        expected = {
            (start, h)
            for start in range(first, rows - length)
            for h in range(horizon)
            if begin <= start + length + h < stop and (reaches_back or start + length + horizon < stop)
        }
        assert pairs == expected, name


def test_a_part_without_windows_is_refused():
    with pytest.raises(DataError, match="validation"):
        windows.divide(40, 12, 3, (0.8, 0.2), reaches_back=False)


def test_gaps_are_filled_by_what_was_seen_before_them():
    nan = np.nan
    values = np.array([[nan, 1, nan], [2, nan, nan], [nan, nan, nan], [4, 5, nan]], np.float32)
    expected = [[2, 1, 4 / 3], [2, 1, 4 / 3], [2, 1, 4 / 3], [4, 5, 4 / 3]]
    # The means are of the first three rows: of all nodes 1.5, where a node has none.
    expected = np.where(np.isclose(expected, 4 / 3), 1.5, expected)
    np.testing.assert_allclose(windows.filled(values, 3), expected)


@pytest.mark.parametrize("scaling", windows.SCALINGS)
def test_scales_are_those_of_the_training_part(scaling):
    values = np.array([[1, 7, np.nan], [3, 7, np.nan], [-5, 7, np.nan]], np.float32)
    offset, factor = windows.fit_scale(scaling, values)
    column = values[:, 0]
    expected = {
        "standard": ([column.mean(), 7, 10 / 3], [column.std(), 1, 1]),
        "minmax": ([-5, 7, 10 / 3], [8, 1, 1]),
        "max": ([0, 0, 0], [7, 7, 7]),
        "none": ([0, 0, 0], [1, 1, 1]),
    }[scaling]
    np.testing.assert_allclose(offset, expected[0], rtol=1e-6)
    np.testing.assert_allclose(factor, expected[1], rtol=1e-6)
    assert windows.flat_nodes(values).tolist() == [False, True, True]
