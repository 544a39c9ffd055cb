import json

import pytest

from experiments import launch, palindrome, reproduce
from jaxrnn.rundir.directory import RunError

SMALL = {"digits": 1, "hidden_size": 8, "batch_size": 8, "max_steps": 20, "eval_every": 10, "test_samples": 16}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "use_compilation_cache", lambda: None)


def runs(preset):
    """The palindrome runs of a preset; all of its runs are valid, and of each other experiment there is one or two."""
    pieces = list(reproduce.pieces(preset))
    for _, experiment, fields in pieces:
        experiment.check(launch.validate(experiment.schema, fields))
    others = [name for name, experiment, _ in pieces if experiment is not palindrome.EXPERIMENT]
    assert others == ["gradients", "gcn_karate", "gat_karate", "text"]
    return {name: fields for name, experiment, fields in pieces if experiment is palindrome.EXPERIMENT}


def test_presets_are_the_reports_runs():
    quick, paper, seeds = (runs(preset) for preset in ("quick", "paper", "seeds"))
    assert set(reproduce.PRESETS) == {"quick", "paper", "seeds"}
    assert set(quick) == {"lstm_t10", "peephole_t10"}
    assert set(paper) == {"lstm_t10", "peephole_t10", "lstm_t20", "peephole_t20"}
    assert {fields["num_seeds"] for fields in quick.values()} == {3}
    assert {fields["num_seeds"] for fields in seeds.values()} == {100}
    assert {fields.get("embedding_size", 162) for fields in seeds.values()} == {40, 81, 162}
    for fields in seeds.values():
        palindrome.check(launch.validate(palindrome.Config, fields))


def test_ensure_starts_then_leaves_alone_then_goes_on(tmp_path):
    path = tmp_path / "run"
    launch.ensure(palindrome.EXPERIMENT, {**SMALL, "num_seeds": 1}, path)
    results = (path / "results.json").read_bytes()
    written = (path / "results.json").stat().st_mtime_ns
    launch.ensure(palindrome.EXPERIMENT, {**SMALL, "num_seeds": 1}, path)
    assert (path / "results.json").stat().st_mtime_ns == written
    for other, difference in (({"digits": 2}, "digits was 1 and is 2"), ({"max_steps": 10}, "max_steps was 20 and is")):
        with pytest.raises(RunError, match=f"holds a run with another config: {difference}"):
            launch.ensure(palindrome.EXPERIMENT, {**SMALL, "num_seeds": 1, **other}, path)
    unfinished = {**json.loads(results), "complete": False}
    (path / "results.json").write_text(json.dumps(unfinished))
    launch.ensure(palindrome.EXPERIMENT, {**SMALL, "num_seeds": 1}, path)
    assert (path / "results.json").read_bytes() == results
    launch.ensure(palindrome.EXPERIMENT, {**SMALL, "num_seeds": 2}, path)
    both = (path / "results.json").read_bytes()
    assert [row["seed"] for row in json.loads(both)["runs"]] == [0, 1]
    # It has the run of one seed, too, once it is complete.
    launch.ensure(palindrome.EXPERIMENT, {**SMALL, "num_seeds": 1}, path)
    assert (path / "results.json").read_bytes() == both
    (path / "results.json").write_text(json.dumps({**json.loads(both), "complete": False}))
    with pytest.raises(RunError, match="num_seeds was 2 and is 1"):
        launch.ensure(palindrome.EXPERIMENT, {**SMALL, "num_seeds": 1}, path)


def test_what_follows_a_complete_run_is_made_up_for(tmp_path):
    finished = []
    experiment = palindrome.EXPERIMENT._replace(finish=lambda path, rows: finished.append((path, rows)))
    for _ in range(2):
        launch.ensure(experiment, {**SMALL, "num_seeds": 1}, tmp_path / "run")
    assert [(path, [row["seed"] for row in rows]) for path, rows in finished] == [(tmp_path / "run", [0])] * 2
