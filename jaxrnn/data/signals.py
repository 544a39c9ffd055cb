"""Signals on the nodes of a graph, to be forecast: named data sets, folders of CSV files, and one without a file."""

import csv
import functools
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxrnn.data.files import DataError, read_if_there, read_known

OWN = "folder:"
_TIMES = ("time", "date", "timestamp")
_MISSING = "; a missing value is an empty field or NaN"


class Protocol(NamedTuple):
    """How a data set is usually forecast, as in the work that results are compared with.

    Attributes:
        input_length: the number of input rows.
        split: shares of the rows for training and, at the end, for the test; what lies between is for validation, or if
            nothing does, the last tenth of the training part.
        reaches_back: whether the inputs of a window may lie before the part that its targets belong to. If not, the
            whole window lies in its part, and the last one of a part is left out, as in the code of T-GCN.
        scaling: as in `jaxrnn.data.windows.fit_scale`.
        season: the number of rows in a season; 1 for no season.
        block: rows that are resampled together in comparisons.
        ridge: of the vector autoregression, in squared units of the data; None for the one best in validation.
    """

    input_length: int = 12
    split: tuple[float, float] = (0.7, 0.2)
    reaches_back: bool = True
    scaling: str = "standard"
    season: int = 1
    block: int = 24
    ridge: float | None = None


class Signals(NamedTuple):
    """One signal per node, and the graph.

    Attributes:
        values: float32 `[time, N]`, NaN where one is missing.
        names: of the nodes.
        adjacency: float32 `[N, N]`; entry ``ij`` is the weight of the edge from node i to node j.
    """

    values: np.ndarray
    names: tuple[str, ...]
    adjacency: np.ndarray
    protocol: Protocol = Protocol()

    @property
    def sha256(self) -> str:
        """The digest of the values and the graph that a run is trained on."""
        return hashlib.sha256(self.values.tobytes() + self.adjacency.tobytes()).hexdigest()


@functools.cache
def load(name: str) -> Signals:
    """The data set with a name of `NAMES`.

    Raises:
        DataError: there is no such data set, or a file is missing, is not the known one, or has an error; says where.
    """
    if name.startswith(OWN):
        return read_folder(Path(name.removeprefix(OWN)))
    if name not in _NAMED:
        raise DataError(f"{name!r} is not one of {', '.join(NAMES)}")
    return _NAMED[name]()


# --- A folder ---------------------------------------------------------------------------------------------------------


def read_folder(folder: Path) -> Signals:
    """The signals in ``signals.csv`` of a folder, with the graph in ``edges.csv`` or ``adjacency.csv`` beside it.

    Raises:
        DataError: as in `load`.
    """
    raw, edges, adjacency = (read_if_there(folder / f"{name}.csv") for name in ("signals", "edges", "adjacency"))
    if raw is None or (edges is None) == (adjacency is None):
        raise DataError(f"{folder.absolute()} should hold signals.csv and either edges.csv or adjacency.csv")
    names, values = read_signals(folder / "signals.csv", raw)
    if edges is not None:
        return Signals(values, names, _read_edges(folder / "edges.csv", edges, names))
    path, rows = folder / "adjacency.csv", _rows(folder / "adjacency.csv", adjacency or b"")
    weights = _numbers(path, rows, len(names), "nodes in signals.csv", _weight)
    if len(weights) != len(names):
        raise DataError(f"{path} has {len(weights)} rows, signals.csv has {len(names)} nodes; no header is expected")
    return Signals(values, names, weights)


def read_signals(path: Path, raw: bytes) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of the nodes and their values, float32 `[time, N]`, from a file of signals.

    The first line has the names, and each line after it a value for each node; an empty field or NaN is a missing
    value. A first column ``time``, ``date`` or ``timestamp`` has increasing numbers or ISO dates; it is not a node.

    Raises:
        DataError: the file has an error; the message says where.
    """
    rows = _rows(path, raw)
    if len(rows) < 2:
        raise DataError(f"{path} should have a line of names, followed by a line for each time")
    (_, names), *rows = rows
    names = [name.strip() for name in names]
    if names[0].lower() in _TIMES:
        _check_times(path, [(line, row[0].strip()) for line, row in rows])
        names, rows = names[1:], [(line, row[1:]) for line, row in rows]
    for name, count in Counter(names).items():
        if not name or count > 1:
            raise DataError(f"{path}, line 1: the name {name!r} is empty or repeated")
    return tuple(names), _numbers(path, rows, len(names), "names in line 1", _value)


def _rows(path: Path, raw: bytes) -> list[tuple[int, list[str]]]:
    """The fields of each line that is not blank, with its number from 1."""
    try:
        lines = csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""))
        return [(lines.line_num, row) for row in lines if any(field.strip() for field in row) or len(row) > 1]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file: {error}") from error


def _numbers(
    path: Path, rows: Sequence[tuple[int, list[str]]], width: int, of: str, parse: Callable[[str], float]
) -> np.ndarray:
    """The numbers of all rows, float32 `[rows, width]`."""
    found = np.empty((len(rows), width), np.float32)
    for i, (line, row) in enumerate(rows):
        if len(row) != width:
            raise DataError(f"{path}, line {line}: has {len(row)} fields, but there are {width} {of}")
        for column, text in enumerate(row):
            try:
                found[i, column] = parse(text)
            except ValueError as error:
                raise DataError(f"{path}, line {line}, field {column + 1}: {text!r} is {error}") from error
    return found


def _value(text: str) -> float:
    """A finite number, or NaN for what is missing."""
    value = _number(text, _MISSING) if text.strip() else np.nan
    if abs(value) > np.finfo(np.float32).max:
        raise ValueError(f"not finite{_MISSING}")
    return value


def _weight(text: str) -> float:
    """The weight of an edge."""
    weight = _number(text)
    if not 0 <= weight <= np.finfo(np.float32).max:
        raise ValueError("not a weight: it should be a number from 0 up")
    return weight


def _number(text: str, hint: str = "") -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"not a number{hint}") from None


def _check_times(path: Path, times: Sequence[tuple[int, str]]) -> None:
    """Refuses times that do not increase."""
    last = -np.inf
    for line, text in times:
        try:
            time = _time(text)
        except ValueError as error:
            raise DataError(f"{path}, line {line}: the time {text!r} is neither a number nor an ISO date") from error
        if not time > last:
            raise DataError(f"{path}, line {line}: the time {text} does not come after the one before it")
        last = time


def _time(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _read_edges(path: Path, raw: bytes, names: Sequence[str]) -> np.ndarray:
    """The adjacency matrix of a file of edges, each from its source to its target."""
    rows, places = _rows(path, raw), {name: i for i, name in enumerate(names)}
    head = [name.strip().lower() for name in rows[0][1]] if rows else []
    if head not in (["source", "target"], ["source", "target", "weight"]):
        raise DataError(f"{path}, line 1: should be source,target or source,target,weight")
    adjacency = np.zeros((len(names), len(names)), np.float32)
    for line, row in rows[1:]:
        if len(row) != len(head):
            raise DataError(f"{path}, line {line}: has {len(row)} fields, but line 1 has {len(head)}")
        ends = [end.strip() for end in row[:2]]
        for end in ends:
            if end not in places:
                raise DataError(f"{path}, line {line}: {end!r} is not a node: signals.csv has no such column")
        weight = float(_numbers(path, [(line, row[2:])], 1, "weight", _weight)[0, 0]) if len(head) == 3 else 1.0
        source, target = (places[end] for end in ends)
        if adjacency[source, target] not in (0, weight):
            raise DataError(f"{path}, line {line}: the edge from {ends[0]} to {ends[1]} had another weight before")
        adjacency[source, target] = weight
    return adjacency


# --- Named ones -------------------------------------------------------------------------------------------------------


def _los_loop() -> Signals:
    """Speeds of 207 sensors in Los Angeles, every 5 minutes of a week, with T-GCN's protocol (Zhao et al. 2020)."""
    (path, raw), (other, graph) = (read_known(f"traffic/los_{what}.csv") for what in ("speed", "adj"))
    names, values = read_signals(path, raw)
    adjacency = _numbers(other, _rows(other, graph), len(names), "sensors", _weight)
    return Signals(values, names, adjacency, Protocol(12, (0.8, 0.2), False, "max", 288, 288, 1e5))


def _flu(signals: str, graph: str) -> Signals:
    """Weekly cases of influenza by place, with the protocol of Cola-GNN (Deng et al. 2020)."""
    (path, raw), (other, adjacent) = (read_known(f"flu/{name}.txt") for name in (signals, graph))
    rows = _rows(path, raw)
    values = _numbers(path, rows, len(rows[0][1]), "places", _value)
    adjacency = _numbers(other, _rows(other, adjacent), values.shape[1], "places", _weight)
    names = tuple(f"{i}" for i in range(1, values.shape[1] + 1))
    return Signals(values, names, adjacency, Protocol(20, (0.5, 0.3), True, "minmax", 52, 8))


def _chickenpox() -> Signals:
    """Weekly cases of chickenpox in Hungary's counties, standardised (Rozemberczki et al. 2021).

    A fifth of the windows is for training, those in the first 107 of 521 rows. The file's self-loops are left out:
    models have their own.
    """
    found = json.loads(read_known("flu/chickenpox.json")[1])
    names = sorted(found["node_ids"], key=found["node_ids"].get)
    adjacency = np.zeros((len(names), len(names)), np.float32)
    for source, target in found["edges"]:
        adjacency[source, target] = source != target
    values = np.array(found["FX"], np.float32)
    share = 107.5 / len(values)
    return Signals(values, tuple(names), adjacency, Protocol(4, (share, 1 - share), True, "none", 52, 8))


def _diffusion() -> Signals:
    """Twenty nodes on a ring with chords at 600 times: what is fed into some of them spreads slowly to the others.

    Each node keeps a part of its value, and takes on a part of the mean of the nodes from which an edge leads to it, so
    its future values depend on its neighbours.
    """
    rng, num_nodes, times = np.random.default_rng(0), 20, 600
    adjacency = np.zeros((num_nodes, num_nodes), np.float32)
    ring = np.arange(num_nodes)
    adjacency[ring, (ring + 1) % num_nodes] = 1
    adjacency[ring[::4], (ring[::4] + 7) % num_nodes] = 1
    mean_of_sources = adjacency.T / adjacency.sum(0)[:, None]
    fed = (rng.random((times, num_nodes)) < 0.03) * rng.gamma(3.0, 2.0, (times, num_nodes))
    fed += 0.1 * rng.random((times, num_nodes))
    values = np.zeros((times, num_nodes))
    for t in range(1, times):
        values[t] = 0.35 * values[t - 1] + 0.6 * mean_of_sources @ values[t - 1] + fed[t]
    names = tuple(f"n{i}" for i in range(num_nodes))
    return Signals(values.astype(np.float32), names, adjacency)


_NAMED: dict[str, Callable[[], Signals]] = {
    "diffusion": _diffusion,
    "los_loop": _los_loop,
    "flu_japan": lambda: _flu("japan", "japan-adj"),
    "flu_states": lambda: _flu("state360", "state-adj"),
    "chickenpox": _chickenpox,
}
NAMES = (*_NAMED, f"{OWN}DIR")
