"""The binary that looks at gradients: real runs; its numbers against loops and matrix powers in NumPy."""

import itertools
import json
import shutil
import time

import jax
import numpy as np
import pytest
from scipy.special import expit, softmax

import jaxrnn
from configs.gradients import Config
from experiments import gradients, gradients_report, launch, palindrome
from jaxrnn.cells import CELLS
from jaxrnn.rundir.directory import RunError
from jaxrnn.study.report import Figure, Table, read_runs
from jaxrnn.training.loop import Interrupted
from jaxrnn.training.seeds import Stream, stream_key

FIELDS = {
    **{"digits": 1, "hidden_size": 5, "embedding_size": 3, "batch_size": 6, "num_seeds": 2, "first_seed": 3},
    **{"train_steps": 30, "clip_norm": 0.5},
}
CELLS_LOOKED_AT = ("linear_rnn", "lstm", "peephole")
LENGTH = 9  # 8 symbols for a digit, and two, without the last one.


@pytest.fixture(scope="module")
def finished(binaries, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "finished"
    radii = {"spectral_radius": "0.5,1.5"}
    done = binaries.run_anew("gradients", f"--workdir={path}", cells=",".join(CELLS_LOOKED_AT), **radii, **FIELDS)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"With figures: {path}/report.html" in done.stdout
    return path


def results(path):
    return json.loads((path / "results.json").read_text())["runs"]


def lines(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def config(**fields):
    return Config(cells=CELLS_LOOKED_AT, spectral_radius=(0.5, 1.5), **{**FIELDS, **fields})


def data(seed):
    tokens, labels = palindrome.TASKS["palindrome"](1).sample(stream_key(seed, Stream.EVAL, 1), FIELDS["batch_size"])
    return np.asarray(tokens), np.asarray(labels)


def test_every_cell_is_there_as_initialised_and_as_trained(finished):
    rows = results(finished)
    looked_at = [(row["cell"], row["spectral_radius"], row["seed"], row["source"] is not None) for row in rows]
    radial = [("linear_rnn", radius, seed, False) for radius in (0.5, 1.5) for seed in (3, 4)]
    gated = [
        (cell, None, seed, is_trained)
        for is_trained in (False, True)
        for cell in CELLS_LOOKED_AT[1:]
        for seed in (3, 4)
    ]
    assert looked_at == [*radial, *sorted(gated, key=lambda row: (row[3], CELLS_LOOKED_AT.index(row[0])))]
    assert {row["length"] for row in rows} == {LENGTH}
    for row in rows:
        assert row["sum_error"] < 1e-10
        assert row["sum_error_float32"] < 1e-5
        assert row["head_error"] < 1e-10
        assert sum(row["shares"]) == pytest.approx(1)
        assert len(row["shares"]) == len(row["term_norms"]) == LENGTH
        assert row["clipped_norm"] == min(row["gradient_norm"], 0.5)


def test_a_linear_rnns_norms_are_those_of_powers_of_its_matrix(finished):
    for subject in gradients.initial(config()):
        if subject.settings.cell != "linear_rnn":
            continue
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
        found = [line["h"] for line in lines(finished) if line["run"] == subject.name]
        # The process drew its weights with fewer of the compiler's optimizations.
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        (row,) = [row for row in results(finished) if row["run"] == subject.name]
        assert row["rates"] == {"h": pytest.approx(subject.spectral_radius, rel=1e-6)}
        assert row["loss"] == pytest.approx(-np.log(p[range(len(labels)), labels]).mean(), rel=1e-5)


def test_only_the_cell_state_of_the_reports_peephole_recurs(finished):
    curves = {line["run"] for line in lines(finished) if line["run"].startswith("peephole")}
    for run in curves:
        found = [line for line in lines(finished) if line["run"] == run]
        assert [line["step"] for line in found] == list(range(LENGTH))
        assert found[0]["h"] > 0 == found[0]["c"]
        assert all(line["c"] > 0 == line["h"] for line in found[1:])
    rates = [row["rates"] for row in results(finished) if row["cell"] == "peephole"]
    assert all(rate["h"] is None and rate["c"] > 0 for rate in rates)


def test_gates_are_those_of_the_trained_cell(finished):
    kept = json.loads((finished / "gates.json").read_text())
    assert [one["run"].split(",")[0] for one in kept] == ["lstm", "peephole", "lstm", "peephole"]
    trained = kept[2]
    tokens, _ = data(3)
    assert trained["tokens"] == tokens[:, 0].tolist()
    _, params = jaxrnn.load(finished / "trained" / "lstm", seed=3)
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


def test_the_rate_is_the_slope_of_the_logarithm():
    assert gradients.rate(3 * 0.7 ** np.arange(20)) == pytest.approx(0.7, rel=1e-12)
    assert gradients.rate([0, *(2.0 ** np.arange(5))]) == pytest.approx(2)
    assert gradients.rate(np.ones(9)) == pytest.approx(1)
    assert gradients.rate([1, 0, 0]) is None


def test_costs_grow_with_the_length(finished):
    found = [json.loads(line) for line in (finished / "costs.jsonl").read_text().splitlines()]
    assert {line["run"] for line in found} == {"lstm"}
    assert [line["step"] for line in found] == list(gradients.COST_LENGTHS)
    for short, long in itertools.pairwise(found):
        assert 1.9 < long["gradient_bytes"] / short["gradient_bytes"] < 2.1
    assert all(line["gradient_bytes"] > line["forward_bytes"] > 0 for line in found)
    assert all(line["forward_seconds"] > 0 and line["gradient_seconds"] > 0 for line in found)


def test_interrupted_and_resumed_it_ends_in_the_same_numbers(binaries, finished, tmp_path):
    path = shutil.copytree(finished, tmp_path / "again")
    # As after a signal in the training of the second cell: it goes on, and all is measured anew.
    shutil.rmtree(path / "trained" / "peephole")
    saved = json.loads((path / "results.json").read_text())
    (path / "results.json").write_text(json.dumps({**saved, "complete": False}))
    process = binaries.start("gradients", "--resume", f"--workdir={path}")
    before = (path / "metrics.jsonl").stat().st_mtime_ns
    while process.poll() is None and (path / "metrics.jsonl").stat().st_mtime_ns == before:
        time.sleep(0.01)
    process.terminate()
    assert process.wait() == 75, process.stderr
    assert process.stderr.splitlines()[-1] == f"saved; go on with --resume --workdir={path}"

    assert not json.loads((path / "results.json").read_text())["complete"]

    # The fields that it has may be given again.
    done = binaries.run("gradients", "--resume", f"--workdir={path}", cells=",".join(CELLS_LOOKED_AT))
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("metrics.jsonl", "results.json", "gates.json"):
        assert (path / name).read_bytes() == (finished / name).read_bytes()


def test_a_signal_that_came_before_a_training_is_answered_before_it(monkeypatch, tmp_path):
    def stop():
        raise Interrupted

    monkeypatch.setattr(launch, "ensure", lambda *_: pytest.fail("trains"))
    with pytest.raises(Interrupted):
        list(gradients.trained_here(Config(), [], tmp_path, stop))


def test_a_complete_run_is_left_alone_and_may_get_more_seeds(binaries, finished, tmp_path):
    path = shutil.copytree(finished, tmp_path / "again")
    written = (path / "metrics.jsonl").stat().st_mtime_ns
    assert binaries.run("gradients", "--resume", f"--workdir={path}").returncode == 0
    assert (path / "metrics.jsonl").stat().st_mtime_ns == written

    done = binaries.run("gradients", "--resume", f"--workdir={path}", num_seeds=3)
    assert (done.returncode, done.stderr) == (0, "")
    before = {row["run"]: row for row in results(finished)}
    after = {row["run"]: row for row in results(path)}
    assert len(after) == len(before) * 3 / 2
    assert {name: after[name] for name in before} == before


def test_trained_cells_may_be_given(binaries, finished, tmp_path):
    path, given = tmp_path / "run", finished / "trained" / "lstm"
    fields = {**FIELDS, "num_seeds": 1}
    done = binaries.run("gradients", f"--workdir={path}", f"--trained={given}", cells="lstm", **fields)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((path / "config.json").read_text())["config"]["trained"] == [str(given)]
    assert not (path / "trained").exists()
    found = [row for row in results(path) if row["source"]]
    assert [row["source"] for row in found] == [str(given)] * 2
    theirs = [row for row in results(finished) if row["cell"] == "lstm" and row["source"]]
    assert [row["shares"] for row in found] == [row["shares"] for row in theirs]


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"cells": ("lstm", "transformer")}, "--config.cells=transformer: should be one of rnn, "),
        ({"cells": ("lstm", "lstm")}, "has the same value twice"),
        ({"cells": ()}, "--config.cells=(): "),
        ({"spectral_radius": (0.0,)}, "--config.spectral_radius=(0.0,): input should be greater than or equal"),
        ({"spectral_radius": (float("nan"),)}, "--config.spectral_radius=(nan,): input should be"),
        ({"spectral_radius": (0.5, 0.5)}, "has the same value twice"),
        ({"digits": 0}, "--config.digits=0: input should be greater than or equal to 1"),
        ({"train_steps": -1}, "--config.train_steps=-1: "),
    ],
)
def test_values_that_do_not_fit_are_one_line(fields, hint):
    with pytest.raises(launch.UsageError) as error:
        gradients.check(launch.validate(Config, fields))
    assert hint in str(error.value)
    assert "\n" not in str(error.value)


def test_directories_without_a_trained_cell_of_the_study_are_refused(finished, tmp_path):
    with pytest.raises(RunError, match="/nowhere: no such directory"):
        gradients.prepare(config(trained=("/nowhere",)))
    with pytest.raises(RunError, match="holds a run of experiment 'gradients', not 'palindrome'"):
        gradients.prepare(config(trained=(str(finished),)))
    given = shutil.copytree(finished / "trained" / "lstm", tmp_path / "lstm")
    with pytest.raises(RunError, match="it was trained with digits=1, and here it is 2"):
        gradients.prepare(config(trained=(str(given),), digits=2))
    with pytest.raises(launch.UsageError, match="has the same value twice"):
        gradients.check(config(trained=(str(given), f"{given}/.")))
    with pytest.raises(RunError, match=r"its cell is lstm, and --config\.cells has only gru"):
        gradients.prepare(Config(cells=("gru",), trained=(str(given),)))
    saved = json.loads((given / "results.json").read_text())
    (given / "results.json").unlink()
    with pytest.raises(RunError, match="its runs have not ended yet; --resume --workdir="):
        gradients.prepare(config(trained=(str(given),)))
    for row in saved["runs"]:
        row["failed_at"] = 3
    (given / "results.json").write_text(json.dumps(saved))
    with pytest.raises(RunError, match="all its runs have failed"):
        gradients.prepare(config(trained=(str(given),)))
    record = json.loads((given / "config.json").read_text())
    record["config"]["bidirectional"] = True
    (given / "config.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match="bidirectional"):
        gradients.prepare(config(trained=(str(given),)))


# --- The report -------------------------------------------------------------------------------------------------------


def blocks(path, kind=None):
    found = [block for section in gradients_report.sections(read_runs(path, "kept")) for block in section.blocks]
    return [block for block in found if kind is None or isinstance(block, kind)]


def test_the_page_has_all_figures_and_verdicts(finished):
    *_, cost = blocks(finished, Figure)
    loads = [json.loads(line)["load"] for line in (finished / "costs.jsonl").read_text().splitlines()]
    assert cost.caption.endswith(f"; load before a measurement {min(loads):.1f} to {max(loads):.1f}")
    figures = [figure.path for figure in blocks(finished, Figure)]
    assert figures == [f"figures/gradients_0_{what}.png" for what in ("decay", "terms", "gates", "cost")]
    assert all((finished / name).read_bytes().startswith(b"\x89PNG") for name in figures)
    rates, identities, parameters = blocks(finished, Table)
    assert [row[:3] for row in rates.rows] == [
        ["Linear RNN", "spectral radius 0.5", "2"],
        ["Linear RNN", "spectral radius 1.5", "2"],
        ["LSTM", "as initialised", "2"],
        ["Peephole LSTM (the report's)", "as initialised", "2"],
        ["LSTM", "trained", "2"],
        ["Peephole LSTM (the report's)", "trained", "2"],
    ]
    assert rates.rows[0][4:6] == ["0.5000 [0.5000, 0.5000]", "-"]
    assert rates.rows[3][4] == "-"
    assert [row[1::3] for row in identities.rows] == [["12", "holds"]] * 3 + [["4", "holds"]]
    # D=3, H=5, C=2: H(D + H + 1), 4H(D + H + 1), 4H(D + 1) + 3H^2, and HC + C.
    assert [row[3:] for row in parameters.rows] == [["57", "57"], ["192", "192"], ["167", "167"]]


def test_an_identity_that_fails_is_said(finished, tmp_path):
    path = shutil.copytree(finished, tmp_path / "run")
    saved = json.loads((path / "results.json").read_text())
    saved["runs"][0]["sum_error"] = 2e-10
    saved["runs"][0]["sum_error_float32"] = None
    saved["runs"][0]["rates"]["h"] *= 1 + 2e-6
    (path / "results.json").write_text(json.dumps(saved))
    identities = blocks(path, Table)[1]
    assert [row[4] for row in identities.rows] == ["does not hold", "holds", "holds", "does not hold"]
    assert [row[1] for row in identities.rows] == ["12", "11", "12", "4"]


def test_damaged_files_are_remarks(finished, tmp_path):
    path = shutil.copytree(finished, tmp_path / "run")
    (path / "gates.json").write_text("[{}]")
    assert len(blocks(path, Figure)) == 3
    assert any("gates.json` cannot be read" in block for block in blocks(path, str))
    kept = (path / "metrics.jsonl").read_text().splitlines()
    (path / "metrics.jsonl").write_text("\n".join(kept[1:]))
    assert len(blocks(path, Figure)) == 3
    assert any("spectral_radius=0.5` has no whole curve: left out" in block for block in blocks(path, str))
    (path / "metrics.jsonl").unlink()
    assert len(blocks(path)) == 12
    saved = json.loads((path / "results.json").read_text())
    saved["runs"][2]["shares"] = [None]
    (path / "results.json").write_text(json.dumps(saved))
    assert len(blocks(path)) == 1
    assert "left out" in blocks(path)[0]
