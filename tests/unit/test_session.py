"""Sessions: what is started, resumed, made sure of or refused, and what config.json says of it."""

import dataclasses
import json
import sys
from types import SimpleNamespace
from typing import Annotated

import jax
import pydantic.dataclasses
import pytest
import tiny

import jaxrnn
from configs.base import SCHEMA, Absent, Base, Bookkeeping, Changeable
from jaxrnn.rundir import session
from jaxrnn.rundir.directory import METRICS, RunDirectory, RunError
from jaxrnn.rundir.fields import make_config, marked
from jaxrnn.rundir.session import ensure, resume, start
from jaxrnn.study.arms import ArmScheme
from jaxrnn.study.study import Study
from jaxrnn.training.definition import ConfigError


@pydantic.dataclasses.dataclass(frozen=True, config=SCHEMA)
class Config(Base):
    learning_rate: float = 0.3
    max_steps: Annotated[int, *Base.__annotations__["max_steps"].__metadata__] = 20
    tolerance: float = 0.05
    kind: str = "plain"
    file: Annotated[str, Changeable()] = "a"


def build(config):
    sizes = {name: getattr(config, name) for name in ("max_steps", "eval_every", "chunk_steps", "tolerance")}
    return tiny.training(hyper={"learning_rate": config.learning_rate}, **sizes)


def study(**changes):
    default = {
        "name": "tiny",
        "title": "Tiny",
        "config": Config,
        "arms": ArmScheme(Config),
        "build": build,
        "choices": {"kind": ["plain"]},
        "data": lambda config: {"sha256": config.file[:1]},
    }
    return Study(**{**default, **changes})


STUDY, ONE = study(), Config(num_seeds=1)


def read(path, name="results.json"):
    return json.loads((path / name).read_text())


def test_marks_are_read_from_a_class_and_its_bases():
    assert set(marked(Config, "Growing")) == {"max_steps", "num_seeds"}
    assert marked(Config, "Bookkeeping")["first_seed"] == Bookkeeping()
    assert set(marked(Config, "Changeable")) == {"chunk_steps", "data_devices", "file"}


# --- Starting ---------------------------------------------------------------------------------------------------------


def test_config_json_says_what_was_run_and_where(tmp_path):
    found = start(STUDY, ONE, tmp_path / "a")
    record = read(tmp_path / "a", "config.json")
    assert record["config"] == dataclasses.asdict(ONE)
    assert (record["format"], record["study"], record["sweep"]) == (2, "tiny", {})
    assert (record["data"], record["command"]) == ({"sha256": "a"}, sys.orig_argv)
    assert record["device"]["count"] == jax.device_count()
    assert {"host", "start", "versions", "commit", "precision", "prng"} < set(record)
    assert read(tmp_path / "a") == {"study": "tiny", "complete": True, "runs": found}
    assert found[0]["run"] == "seed=0"


def test_a_sweep_has_a_run_for_each_seed_and_value_and_may_only_get_more(tmp_path):
    path = tmp_path / "a"
    found = start(STUDY, Config(num_seeds=2), path, {"learning_rate": [0.3, 0.02]})
    names = [f"seed={seed},learning_rate={rate}" for rate in (0.3, 0.02) for seed in (0, 1)]
    assert [row["run"] for row in found] == names
    assert [row["learning_rate"] for row in found] == [0.3, 0.3, 0.02, 0.02]
    assert read(path, "config.json")["sweep"] == {"learning_rate": [0.3, 0.02]}
    assert jaxrnn.load(path, run=names[3])[0].learning_rate == 0.02
    assert resume(STUDY, path) == found
    grown = resume(STUDY, path, {"num_seeds": 3}, {"learning_rate": [0.3, 0.02, 0.1]})
    assert len(grown) == 9
    assert [row for row in grown if row["run"] in names] == found
    for sweep in ({"learning_rate": [0.3]}, {"learning_rate": [0.02, 0.3, 0.1]}, {"tolerance": [0.1]}):
        with pytest.raises(ConfigError, match="the sweep was started with"):
            resume(STUDY, path, sweep=sweep)


@pytest.mark.parametrize(
    ("config", "sweep", "field"),
    [
        ({"kind": "fancy"}, {}, "kind"),
        ({"first_seed": 2**31 - 1}, {}, "first_seed"),
        ({}, {"learning_rate": [0.1, "x"]}, "learning_rate"),
        ({"data_devices": 3}, {}, "data_devices"),
    ],
)
def test_what_cannot_be_run_names_the_field_and_writes_nothing(tmp_path, config, sweep, field):
    with pytest.raises(ConfigError) as error:
        start(STUDY, Config(**config), tmp_path / "a", sweep)
    assert error.value.field == field
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"max_steps": 2.5}, "integer"),
        ({"kind": 3}, "string"),
        ({"max_step": 3}, "no such field"),
        ({"max_steps": -1}, "0"),
    ],
)
def test_plain_values_that_do_not_fit_name_the_field(fields, reason):
    with pytest.raises(ConfigError, match=reason) as error:
        make_config(Config, fields)
    assert error.value.field in fields


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 7 PiB"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 bytes"),
        jax.errors.JaxRuntimeError("INTERNAL: Error dispatching computation:\nOut of memory allocating 9 bytes."),
    ],
)
def test_without_memory_the_directory_is_left_to_others(tmp_path, error):
    def fail(*_):
        raise error

    with pytest.raises(type(error)) as raised:
        start(study(build=None, measure=fail), ONE, tmp_path)
    assert session.is_out_of_memory(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


# --- Going on ---------------------------------------------------------------------------------------------------------


def test_only_marked_fields_change_on_resume(tmp_path):
    path = tmp_path / "a"
    start(STUDY, ONE, path)
    for changes, reason in (
        ({"tolerance": 0.1}, "keeps"),
        ({"max_steps": 10}, "may only grow"),
        ({"num_seed": 3}, "no such field"),
    ):
        with pytest.raises(ConfigError, match=reason) as error:
            resume(STUDY, path, changes)
        assert error.value.field in changes
    assert resume(STUDY, path, {"tolerance": 0.05}) == read(path)["runs"]
    assert len(resume(STUDY, path, {"num_seeds": 2, "chunk_steps": 7, "file": "also a"})) == 2
    assert read(path, "config.json")["config"]["file"] == "also a"
    with pytest.raises(RunError, match="other data: sha256 was 'a' and is 'b'"):
        resume(STUDY, path, {"file": "b"})
    with pytest.raises(RunError, match="holds runs of the study 'tiny', not of 'other'"):
        resume(study(name="other"), path)


def test_where_a_run_was_before_is_kept_unless_nothing_was_left_to_do(tmp_path):
    path = tmp_path / "a"
    start(STUDY, ONE, path)
    record = read(path, "config.json")
    elsewhere = {**record, "host": "elsewhere", "device": {"platform": "tpu"}, "command": ["first"]}
    (path / "config.json").write_text(json.dumps(elsewhere))
    resume(STUDY, path)
    assert read(path, "config.json") == elsewhere
    resume(STUDY, path, {"num_seeds": 2})
    now = read(path, "config.json")
    assert (now["host"], now["device"], now["command"]) == (record["host"], record["device"], ["first"])
    assert now["earlier"] == [{name: elsewhere[name] for name in ("host", "versions", "commit", "device")}]


def test_a_field_that_the_file_lacks_keeps_the_value_that_older_files_stand_for(tmp_path, monkeypatch):
    @pydantic.dataclasses.dataclass(frozen=True, config=SCHEMA)
    class Newer(Config):
        decay: Annotated[float, Absent(0.0)] = 0.3

    path, newer = tmp_path / "a", study(config=Newer)
    expected = start(STUDY, ONE, path)
    record = read(path, "config.json") | {"host": "elsewhere"}
    (path / "config.json").write_text(json.dumps(record))
    assert session.saved_config(newer, path).decay == 0
    monkeypatch.setitem(sys.modules, "configs.tiny", SimpleNamespace(Config=Newer))
    assert jaxrnn.load(path)[0].decay == 0
    assert ensure(newer, Newer(num_seeds=1, decay=0.0), path) == resume(newer, path) == expected
    assert read(path, "config.json") == record  # Complete, and so left alone.
    with pytest.raises(RunError, match=r"decay=0\.3: the run was started with 0\.0"):
        ensure(newer, Newer(num_seeds=1), path)


# --- Making sure ------------------------------------------------------------------------------------------------------


def test_ensure_starts_then_leaves_alone(tmp_path):
    path = tmp_path / "a"
    first = ensure(STUDY, ONE, path)
    written = (path / "results.json").stat().st_mtime_ns
    assert ensure(STUDY, ONE, path) == first
    assert (path / "results.json").stat().st_mtime_ns == written


def test_ensure_goes_on(tmp_path):
    path = tmp_path / "a"
    first = ensure(STUDY, ONE, path)
    (path / "results.json").write_text(json.dumps({**read(path), "complete": False}))
    assert ensure(STUDY, ONE, path) == first
    assert read(path)["complete"]
    both = ensure(STUDY, dataclasses.replace(ONE, num_seeds=2, chunk_steps=5), path)
    assert [row["seed"] for row in both] == [0, 1]


def test_more_seeds_are_enough_and_are_completed(tmp_path):
    path = tmp_path / "a"
    both = ensure(STUDY, dataclasses.replace(ONE, num_seeds=2), path)
    assert ensure(STUDY, ONE, path) == both
    (path / "results.json").write_text(json.dumps({**read(path), "complete": False}))
    assert ensure(STUDY, ONE, path) == both
    assert read(path)["complete"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"tolerance": 0.1}, "tolerance=0.1: .* with 0.05"), ({"max_steps": 10}, "max_steps=10: .* with 20")],
)
def test_ensure_refuses_other_runs(tmp_path, changes, named):
    ensure(STUDY, ONE, tmp_path / "a")
    with pytest.raises(RunError, match=f"holds other runs: {named}"):
        ensure(STUDY, dataclasses.replace(ONE, **changes), tmp_path / "a")


def test_what_follows_a_complete_run_is_made_up_for(tmp_path):
    finished = []
    noted = study(finish=lambda path, rows: finished.append((path, [row["seed"] for row in rows])))
    for _ in range(2):
        ensure(noted, ONE, tmp_path / "a")
    assert finished == [(tmp_path / "a", [0])] * 2


def test_a_study_that_trains_nothing_is_measured_once(tmp_path):
    measured = []

    def measure(config, directory: RunDirectory):
        assert not read(tmp_path / "a")["complete"]
        measured.append(config.num_seeds)
        directory.truncate({METRICS: 0})
        directory.append(METRICS, [{"run": "x", "step": 0}])
        return [{"run": "x", "seed": 0, "value": 1.5}]

    measuring = study(build=None, measure=measure)
    expected = start(measuring, ONE, tmp_path / "a")
    assert resume(measuring, tmp_path / "a") == expected == read(tmp_path / "a")["runs"]
    resume(measuring, tmp_path / "a", {"num_seeds": 2})
    assert measured == [1, 2]
    with pytest.raises(ConfigError, match="cannot be swept: this study trains nothing"):
        start(measuring, ONE, tmp_path / "b", {"tolerance": [0.1, 0.2]})
    assert (tmp_path / "a/metrics.jsonl").read_text().count("\n") == 1
