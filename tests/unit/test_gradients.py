"""The measurements of gradients: real runs, whose numbers are compared with loops and matrix powers in NumPy."""

import functools
import itertools
import json
import shutil
import signal

import jax
import numpy as np
import pytest
from directories import blocks_of_page
from scipy.special import expit, softmax

import jaxrnn
from configs.gradients import Config
from experiments.gradients import STUDY, measure
from jaxrnn.cells import CELLS
from jaxrnn.data.formal import TASKS
from jaxrnn.rundir import session
from jaxrnn.rundir.directory import RunDirectory, read_results
from jaxrnn.rundir.read import read_directory, read_lines
from jaxrnn.study import plots
from jaxrnn.study.page import Figure, Table
from jaxrnn.study.report import make_sections
from jaxrnn.training.definition import ConfigError
from jaxrnn.training.seeds import Stream, stream_key
from jaxrnn.training.signals import Interrupted

FIELDS = {
    **{"digits": 1, "hidden_size": 5, "embedding_size": 3, "batch_size": 6, "num_seeds": 2, "first_seed": 3},
    **{"train_steps": 40, "clip_norm": 0.5},
}
MEASURED = ("linear_rnn", "lstm", "peephole")
LENGTH = 9  # 8 symbols for a digit, and two, without the last one.


def config(**fields):
    return Config(**{"cells": MEASURED, "spectral_radius": (0.5, 1.5), **FIELDS, **fields})


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "time_calls", lambda call: 0.5)
        patch.setattr(measure, "COST_LENGTHS", (50, 100))
        patch.setattr(plots, "svg", lambda figure: '<svg width="1pt" height="1pt"></svg>')
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "finished"
    session.start(STUDY, config(), path)
    return path


def data(seed):
    tokens, labels = TASKS["palindrome"].sample(stream_key(seed, Stream.EVAL, 1), FIELDS["batch_size"], 1)
    return np.asarray(tokens), np.asarray(labels)


def test_every_cell_is_there_as_initialised_and_as_trained(finished):
    rows = read_results(finished)
    radial = [("linear_rnn", radius, seed, "initial") for radius in (0.5, 1.5) for seed in (3, 4)]
    gated = [(c, None, seed, state) for state in ("initial", "trained") for c in MEASURED[1:] for seed in (3, 4)]
    assert [(row["cell"], row["spectral_radius"], row["seed"], row["state"]) for row in rows] == [*radial, *gated]
    assert {row["length"] for row in rows} == {LENGTH}
    for row in rows:
        assert row["sum_error"] < 1e-10
        assert row["sum_error_float32"] < 1e-5
        assert row["head_error"] < 1e-10
        assert sum(row["shares"]) == pytest.approx(1)
        assert len(row["shares"]) == LENGTH
        assert row["clipped_norm"] == min(row["gradient_norm"], 0.5)


def test_a_linear_rnns_norms_are_those_of_powers_of_its_matrix(finished):
    for subject in measure.initial_subjects(config(cells=("linear_rnn",))):
        params = jax.tree.map(np.float64, subject.params)
        tokens, labels = data(subject.seed)
        h = np.zeros((len(labels), 5))
        for x in params["embedding"][tokens]:
            h = x @ params["forward"]["w_x"] + h @ params["forward"]["w_h"] + params["forward"]["b"]
        p = softmax(h @ params["head"]["kernel"] + params["head"]["bias"], axis=1)
        d = (p - np.eye(2)[labels]) @ params["head"]["kernel"].T
        expected = []
        for _ in range(LENGTH):
            expected.append(np.sqrt((d**2).sum(axis=1).mean()))
            d = d @ params["forward"]["w_h"].T
        found = [line["h"] for line in read_lines(finished / "metrics.jsonl")[0] if line["run"] == subject.run]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        (row,) = [row for row in read_results(finished) if row["run"] == subject.run]
        assert row["rates"] == {"h": pytest.approx(subject.state.spectral_radius, rel=1e-6)}
        assert row["loss"] == pytest.approx(-np.log(p[range(len(labels)), labels]).mean(), rel=1e-5)


def test_only_the_cell_state_of_the_papers_peephole_recurs(finished):
    lines = [line for line in read_lines(finished / "metrics.jsonl")[0] if line["run"].startswith("peephole")]
    for _, group in itertools.groupby(lines, lambda line: line["run"]):
        first, *others = group
        assert [line["step"] for line in (first, *others)] == list(range(LENGTH))
        assert first["h"] > 0 == first["c"]
        assert all(line["c"] > 0 == line["h"] for line in others)
    rates = [row["rates"] for row in read_results(finished) if row["cell"] == "peephole"]
    assert all(rate["h"] is None and rate["c"] > 0 for rate in rates)


def test_gates_are_those_of_the_trained_cell(finished):
    recorded = json.loads((finished / "gates.json").read_text())
    assert [one["run"].split(",")[0] for one in recorded] == ["lstm", "peephole", "lstm", "peephole"]
    trained = recorded[2]
    tokens, _ = data(3)
    assert trained["tokens"] == tokens[:, 0].tolist()
    _, _, params = jaxrnn.load(finished / "trained" / "lstm", seed=3)
    cell = CELLS["lstm"].params_type(**jax.tree.map(np.float64, params["forward"]))
    h, c, gates = np.zeros(5), np.zeros(5), {name: [] for name in "ifgo"}
    for x in np.float64(params["embedding"])[tokens[:, 0]]:
        i, f, g, o = np.split(x @ cell.w_x + h @ cell.w_h + cell.b, 4)
        i, f, g, o = expit(i), expit(f), np.tanh(g), expit(o)
        c = g * i + c * f
        h = np.tanh(c) * o
        for name, values in zip("ifgo", (i, f, g, o), strict=True):
            gates[name].append(values)
    for name, values in gates.items():
        np.testing.assert_allclose(trained["gates"][name], np.transpose(values), atol=6e-4)


def test_costs_grow_with_the_length(finished):
    found = read_lines(finished / "costs.jsonl")[0]
    assert [(line["run"], line["step"]) for line in found] == [("lstm", length) for length in measure.COST_LENGTHS]
    for short, long in itertools.pairwise(found):
        assert 1.9 < long["gradient_bytes"] / short["gradient_bytes"] < 2.1
    assert all(line["gradient_bytes"] > line["forward_bytes"] > 0 for line in found)


@pytest.mark.parametrize("file", ["timing.jsonl", pytest.param("costs.jsonl", marks=pytest.mark.soak)])
def test_interrupted_and_resumed_it_ends_in_the_same_bytes(finished, tmp_path, monkeypatch, file):
    """By a signal in the training of a cell, or at the end of measuring."""
    append = RunDirectory.append

    def append_and_signal(directory, name, rows):
        append(directory, name, rows)
        if name == file:
            signal.raise_signal(signal.SIGTERM)
            monkeypatch.setattr(RunDirectory, "append", append)

    monkeypatch.setattr(RunDirectory, "append", append_and_signal)
    path = tmp_path / "run"
    with pytest.raises(Interrupted):
        session.start(STUDY, config(), path)
    assert not json.loads((path / "results.json").read_text())["complete"]
    session.resume(STUDY, path)
    for name in ("metrics.jsonl", "costs.jsonl", "results.json", "gates.json", "trained/lstm/metrics.jsonl"):
        without_load = [
            "\n".join(line.partition(', "load"')[0] for line in (where / name).read_text().splitlines())
            for where in (path, finished)
        ]
        assert without_load[0] == without_load[1]


def test_a_complete_run_is_left_alone_and_may_get_more_seeds(finished, tmp_path):
    path = shutil.copytree(finished, tmp_path / "again")
    written = (path / "metrics.jsonl").stat().st_mtime_ns
    before = session.resume(STUDY, path)
    assert (path / "metrics.jsonl").stat().st_mtime_ns == written

    after = {row["run"]: row for row in session.resume(STUDY, path, {"num_seeds": 3})}
    assert len(after) == len(before) * 3 / 2
    assert all(after[row["run"]] == row for row in before)


def test_trained_cells_may_be_given(finished, tmp_path):
    given = str(finished / "trained" / "lstm")
    rows = session.start(STUDY, config(cells=("lstm",), trained=(given,), num_seeds=1), tmp_path / "run")
    assert not (tmp_path / "run" / "trained").exists()
    found = [row for row in rows if row["state"] == "trained"]
    assert [row["source"] for row in found] == [given] * 2
    theirs = [row for row in read_results(finished) if (row["cell"], row["state"]) == ("lstm", "trained")]
    assert [row["shares"] for row in found] == [row["shares"] for row in theirs]


def test_configs_that_cannot_be_measured_are_refused(finished, tmp_path):
    given = str(finished / "trained" / "lstm")
    unfinished = shutil.copytree(given, tmp_path / "unfinished")
    (unfinished / "results.json").unlink()
    for field, bad in (
        ("cells", config(cells=("lstm", "transformer"))),
        ("trained", config(trained=("/nowhere",))),
        ("trained", config(trained=(str(finished),))),
        ("trained", config(trained=(given,), digits=2)),
        ("trained", config(trained=(given,), cells=("gru",))),
        ("trained", config(trained=(str(unfinished),))),
    ):
        with pytest.raises(ConfigError) as error:
            STUDY.validate(bad)
        assert error.value.field == field


# --- The page ---------------------------------------------------------------------------------------------------------


blocks = functools.partial(blocks_of_page, STUDY)


def test_the_page_has_all_figures_and_verdicts(finished):
    assert [figure.name for figure in blocks(finished, Figure)] == [
        f"gradients_{what}" for what in ("decay", "terms", "gates", "cost")
    ]
    rates, identities, parameters = blocks(finished, Table)
    assert [row[:3] for row in rates.rows] == [
        ["Linear RNN", "spectral radius 0.5", "2"],
        ["Linear RNN", "spectral radius 1.5", "2"],
        ["LSTM", "as initialised", "2"],
        ["Peephole LSTM", "as initialised", "2"],
        ["LSTM", "trained", "2"],
        ["Peephole LSTM", "trained", "2"],
    ]
    assert rates.rows[0][4:6] == ["0.5000 [0.5000, 0.5000]", "-"]
    assert rates.rows[3][4] == "-"
    assert [row[1::3] for row in identities.rows] == [["12", "holds"]] * 3 + [["4", "holds"]]
    # D=3, H=5, C=2: H(D + H + 1), 4H(D + H + 1), 4H(D + 1) + 3H^2, and HC + C.
    assert [row[3:] for row in parameters.rows] == [["57", "57"], ["192", "192"], ["167", "167"]]


def test_an_identity_that_fails_is_said(finished, tmp_path):
    path = shutil.copytree(finished, tmp_path / "run")
    saved = json.loads((path / "results.json").read_text())
    saved["runs"][0] |= {"sum_error": 2e-10, "sum_error_float32": None}
    saved["runs"][0]["rates"]["h"] *= 1 + 2e-6
    (path / "results.json").write_text(json.dumps(saved))
    identities = blocks(path, Table)[1]
    assert [row[4] for row in identities.rows] == ["does not hold", "holds", "holds", "does not hold"]
    assert [row[1] for row in identities.rows] == ["12", "11", "12", "4"]


def test_damaged_files_leave_the_rest_of_the_page(finished, tmp_path):
    path = shutil.copytree(finished, tmp_path / "run")
    (path / "gates.json").write_text("[{}]")
    (path / "metrics.jsonl").write_text((path / "metrics.jsonl").read_text().partition("\n")[2])
    assert [figure.name for figure in blocks(path, Figure)] == [f"gradients_{x}" for x in ("decay", "terms", "cost")]
    assert any("gates.json" in text for text in blocks(path, str))
    saved = json.loads((path / "results.json").read_text())
    saved["runs"][2]["shares"] = [None]
    (path / "results.json").write_text(json.dumps(saved))
    assert blocks(path, Figure) == []
    assert "shares" in make_sections([STUDY], [(read_directory(path), "own")])[0].blocks[0]
