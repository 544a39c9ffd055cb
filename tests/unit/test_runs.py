"""Runs at a glance: directories in any state are shown, exported, held against each other, archived and freed."""

import csv
import dataclasses
import fcntl
import io
import json
import re
import sys

import pytest
import tiny
from directories import row, write_directory

import jaxrnn
from configs import formal, recommend
from configs.palindrome import Config
from experiments import report, runs
from jaxrnn.rundir.directory import RunError
from jaxrnn.study import plots

STATE = ["status", "seeds", "value", "started", "duration", "disk"]


def write(path, steps, complete=True, sweep=None, rows=None, **fields):
    """Runs of a palindrome config that stop at these steps."""
    rows = rows or [row(seed, step, step < 3000, test_accuracy=1.0) for seed, step in enumerate(steps)]
    fields = {"eval_every": 3000, "digits": 4, "hidden_size": 32, "num_seeds": len(rows), **fields}
    config = dataclasses.asdict(dataclasses.replace(Config(), **fields))
    curves = {one["run"]: [(0, {"loss": 1.0, "accuracy": 0.5})] for one in rows}
    return write_directory(path, "palindrome", config, rows, curves=curves, complete=complete, sweep=sweep)


def swept(rate, steps):
    return [row(i, n, n < 3000, learning_rate=rate) | {"run": f"seed={i},learning_rate={rate}"} for i, n in steps]


@pytest.fixture
def root(tmp_path):
    """A complete directory, one that is running, an interrupted one, a sweep, and two that are damaged."""
    write(tmp_path / "a/lstm", [60, 120, 180])
    write(tmp_path / "a/gru", [300, 360, 420], cell="gru")
    (write(tmp_path / "running", [60], complete=False, num_seeds=3, cell="mgu") / ".lock").touch()
    write(tmp_path / "interrupted", [60], complete=False, num_seeds=3, cell="rnn")
    rows = [one | {"test_accuracy": 1.0} for one in swept(0.1, [(0, 3000), (1, 3000)]) + swept(0.2, [(0, 60)])]
    write(tmp_path / "sweep", [], False, {"learning_rate": [0.1, 0.2, 0.3]}, rows, num_seeds=2, cell="peephole")
    write(tmp_path / "bad_config", [60])
    (tmp_path / "bad_config/config.json").write_text("{")
    write(tmp_path / "bad_results", [60])
    (tmp_path / "bad_results/results.json").write_text("{")
    with (tmp_path / "running/.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield tmp_path


def shown(capsys, *args, **kwargs):
    runs.show(*args, **kwargs)
    return capsys.readouterr().out


def as_json(capsys, *args, **kwargs):
    return json.loads(shown(capsys, *args, form="json", **kwargs))


def test_each_arm_has_a_row_and_what_is_damaged_a_line(root, capsys, caplog):
    found = {(one["directory"].removeprefix(f"{root}/"), one["learning_rate"]): one for one in as_json(capsys, [root])}
    status = {key: (one["status"], one["seeds"], one["asked"], one["value"]) for key, one in found.items()}
    assert status == {
        ("a/lstm", 1e-3): ("complete", 3, 3, 120.0),
        ("a/gru", 1e-3): ("complete", 3, 3, 360.0),
        ("running", 1e-3): ("running", 1, 3, None),
        ("interrupted", 1e-3): ("interrupted", 1, 3, None),
        ("sweep", 0.1): ("interrupted", 2, 2, 3000.0),
        ("sweep", 0.2): ("interrupted", 1, 2, None),
        ("sweep", 0.3): ("interrupted", 0, 2, None),
    }
    gru = found["a/gru", 1e-3]
    assert 300 <= gru["low"] < 360 < gru["high"] <= 420
    assert gru["disk"] == sum(file.stat().st_size for file in (root / "a/gru").iterdir())
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        str(root / "bad_config"),
        str(root / "bad_results"),
    ]


def test_the_table_has_what_sets_arms_apart_and_no_more(root, capsys):
    head, *rows = shown(capsys, [root]).splitlines()
    assert head.split() == ["directory", "learning_rate", "cell", *STATE]
    assert any(line.startswith(f"{root}/a/gru") and "360 [" in line and "3 of 3" in line for line in rows)
    assert rows[-1].startswith("value of palindrome: steps until convergence")
    head = shown(capsys, [root / "a/lstm"]).splitlines()[0]
    assert head.split() == ["directory", *STATE]


def test_rows_are_sorted_by_any_column_and_what_is_missing_comes_last(root, capsys):
    values = [one["value"] for one in as_json(capsys, [root], "value")]
    assert values == [120.0, 360.0, 3000.0, None, None, None, None]
    assert [one["value"] for one in as_json(capsys, [root], "-value")][:3] == [3000.0, 360.0, 120.0]
    cells = [one["cell"] for one in as_json(capsys, [root], "cell")]
    assert cells == sorted(cells)
    with pytest.raises(runs.UsageError, match="--sort=speed"):
        runs.show([root], "speed")


def test_the_largest_value_comes_first_where_larger_is_better(tmp_path, capsys):
    for name, rate, score in (("a", 1e-3, 0.5), ("b", 2e-3, 0.75), ("c", 3e-3, 0.75)):
        rows = [row(seed, 3, score=score) for seed in range(2)]
        config = dataclasses.asdict(formal.Config(task="parity", num_seeds=2, learning_rate=rate))
        write_directory(tmp_path / name, "formal", config, rows)
    assert [one["value"] for one in as_json(capsys, [tmp_path], "value")] == [0.75, 0.75, 0.5]
    assert [one["value"] for one in as_json(capsys, [tmp_path], "-value")] == [0.5, 0.75, 0.75]
    assert re.search(r"the best of 3 arms, with the same value as .*0\.003", shown(capsys, [tmp_path], only_best=True))


def test_csv_and_json_say_the_same(root, capsys):
    expected = as_json(capsys, [root])
    found = list(csv.DictReader(io.StringIO(shown(capsys, [root], form="csv"))))
    assert [one.keys() for one in found] == [one.keys() for one in expected]
    text = [
        {k: "" if v is None else json.dumps(v) if isinstance(v, list) else str(v) for k, v in one.items()}
        for one in expected
    ]
    assert found == text


def test_the_best_is_named_with_its_directory_and_the_next_command(root, capsys):
    (root / "a/lstm/checkpoints").mkdir()
    text = shown(capsys, [root], only_best=True)
    assert "LSTM T=4" in text
    assert f"experiments.palindrome --resume --workdir={root}/a/lstm --config.num_seeds=6" in text
    assert f'jaxrnn.load("{root}/a/lstm", "seed=0")' in text
    (best,) = as_json(capsys, [root], only_best=True)
    assert best["directory"] == f"{root}/a/lstm"


def test_what_differs_between_two_directories(root, capsys):
    record = json.loads((root / "a/gru/config.json").read_text())
    record["versions"]["jax"] = "0.12"
    (root / "a/gru/config.json").write_text(json.dumps(record))
    runs.show_differences(root / "a/lstm", root / "a/gru", "json")
    found = {one["what"]: one for one in json.loads(capsys.readouterr().out)}
    assert (found["cell"]["a"], found["cell"]["b"]) == ("lstm", "gru")
    assert (found["jax"]["of"], found["jax"]["a"], found["jax"]["b"]) == ("made with", "0.10", "0.12")
    steps = found["steps until convergence"]
    assert (steps["a"][:4], steps["b"][:4]) == ("120 ", "360 ")
    assert steps["difference"].startswith("+240 [")
    assert found["runs of the same name"]["difference"] == "3 of 3 have other results"
    assert len(found) == 4 + sum("accurate" in name or "accuracy" in name for name in found)
    runs.show_differences(root / "a/lstm", root / "a/lstm")
    assert "nothing differs" in capsys.readouterr().out
    runs.show_differences(root / "sweep", root / "sweep")
    assert "nothing differs" in capsys.readouterr().out


def test_an_archive_has_no_host_command_path_or_checkpoint_and_the_report_reads_it(tmp_path, capsys, monkeypatch):
    path = write(tmp_path / "runs/lstm", [60, 120, 180])
    record = json.loads((path / "config.json").read_text())
    record |= {"host": "here", "command": ["python", "/home/me/x.py"], "earlier": [{"host": "there", "commit": "c"}]}
    record["config"]["task"] = "/home/me/palindrome"
    (path / "config.json").write_text(json.dumps(record))
    for file in (".lock", "checkpoints/finished/0", "tensorboard/events.here", "texts/one.json"):
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).write_text("{}")
    write(tmp_path / "runs/interrupted", [60], complete=False)
    runs.archive_all([tmp_path / "runs"], tmp_path / "kept")
    assert "interrupted" in capsys.readouterr().out
    files = {str(file.relative_to(tmp_path / "kept")) for file in (tmp_path / "kept").rglob("*") if file.is_file()}
    expected = {"config.json", "results.json", "metrics.jsonl", "texts/one.json"}
    assert files == {f"lstm/{name}" for name in expected}
    text = (tmp_path / "kept/lstm/config.json").read_text()
    assert not any(word in text for word in ("host", "command", "/home", "here"))
    assert json.loads(text)["config"]["task"] == "palindrome"
    with pytest.raises(RunError, match="exists already"):
        runs.archive_all([path], tmp_path / "kept")
    monkeypatch.setattr(plots, "svg", lambda figure: '<svg width="1pt" height="1pt"></svg>')
    report.report([tmp_path / "kept"], None, tmp_path / "out")
    assert "120 [" in (tmp_path / "out/report.md").read_text()
    with pytest.raises(RunError, match="archive"):
        jaxrnn.load(tmp_path / "kept/lstm", seed=0)


def test_freed_runs_keep_their_results_and_others_their_checkpoints(tmp_path, capsys):
    tiny.train(tmp_path / "done", tiny.RUNS[:1], max_steps=3)
    results = (tmp_path / "done/results.json").read_bytes()
    size = sum(file.stat().st_size for file in (tmp_path / "done/checkpoints").rglob("*"))
    write(tmp_path / "interrupted", [60], complete=False)
    (tmp_path / "interrupted/checkpoints").mkdir()
    runs.free_all([tmp_path])
    text = capsys.readouterr().out
    assert f"{tmp_path}/interrupted: left as it is: interrupted" in text
    assert f"{size / 1000:.3g} kB" in text
    assert (tmp_path / "interrupted/checkpoints").is_dir()
    assert not (tmp_path / "done/checkpoints").exists()
    assert (tmp_path / "done/results.json").read_bytes() == results
    for folder in ("", "checkpoints/running", "checkpoints/finished"):  # What a resumed training leaves.
        (tmp_path / "done" / folder).mkdir(parents=True, exist_ok=True)
        with pytest.raises(RunError, match="freed"):
            jaxrnn.load(tmp_path / "done")
    with pytest.raises(RunError, match="interrupted"):
        runs.free_all([tmp_path / "interrupted"])


def rows_of(*args, **kwargs):
    """Without pandas rows are dicts, with it a frame of them."""
    found = jaxrnn.runs(*args, **kwargs)
    return found if isinstance(found, list) else found.to_dict("records")


def test_the_library_gives_arms_runs_and_evaluations(root, capsys):
    arms = rows_of(root / "a", root / "sweep")
    assert [one["arm"] for one in arms] == [one["arm"] for one in as_json(capsys, [root / "a", root / "sweep"])]
    found = rows_of(root / "sweep", each="run")
    assert [(one["run"], one["seed"], one["learning_rate"], one["last_step"]) for one in found] == [
        ("seed=0,learning_rate=0.1", 0, 0.1, 3000),
        ("seed=1,learning_rate=0.1", 1, 0.1, 3000),
        ("seed=0,learning_rate=0.2", 0, 0.2, 60),
    ]
    evaluations = rows_of(root / "a/lstm", each="evaluation")
    assert [(one["run"], one["step"], one["loss"], one["cell"]) for one in evaluations] == [
        (f"seed={seed}", 0, 1.0, "lstm") for seed in range(3)
    ]
    with pytest.raises(RunError, match="no such directory"):
        jaxrnn.runs(root / "nowhere")


def test_runs_of_no_known_study_are_shown_too(tmp_path, capsys):
    write_directory(tmp_path / "strange", "strange", {"size": 3, "status": "x"}, [row(0, loss=1.0)])
    write_directory(tmp_path / "none", None, {"size": 4}, [row(0)])
    first, second = as_json(capsys, [tmp_path])
    assert (first["study"], first["size"], first["seeds"], first["status"]) == (None, 4, 1, "complete")
    assert (second["study"], second["size"], second["config.status"]) == ("strange", 3, "x")


def test_ratings_have_another_value_than_rankings(tmp_path, capsys):
    config = recommend.Config(model="mf", num_seeds=2)
    for task, metric, values in (("rating", "test_rmse", (0.9, 1.0)), ("ranking", "test_recall", (0.2, 0.3))):
        rows = [row(seed, 3, **{metric: value}) for seed, value in enumerate(values)]
        write_directory(tmp_path / task, "recommend", dataclasses.asdict(config) | {"task": task}, rows)
    ranking, rating = as_json(capsys, [tmp_path])
    assert (ranking["quantity"], ranking["value"]) == ("recall@20", 0.25)
    assert (rating["quantity"], rating["value"]) == ("test RMSE", 0.95)
    text = shown(capsys, [tmp_path])
    assert all(f"value of recommend: {name};" in text for name in ("recall@20", "test RMSE"))
    best = shown(capsys, [tmp_path], only_best=True)
    assert all(f"{name} is better" in best for name in ("larger", "smaller"))


def test_without_pandas_rows_are_dicts(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert isinstance(jaxrnn.runs(root / "a"), list)


def test_with_pandas_it_is_a_frame(root):
    pandas = pytest.importorskip("pandas")
    frame = jaxrnn.runs(root / "a")
    assert isinstance(frame, pandas.DataFrame)
    assert frame["value"].tolist() == [360.0, 120.0]
