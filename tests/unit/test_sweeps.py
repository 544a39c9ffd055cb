"""Sweeps: fields that share a program and fields that make programs of their own, in one directory."""

import contextlib
import dataclasses
import itertools
import json
import signal
from typing import Annotated

import jax
import jax.numpy as jnp
import optax
import pydantic.dataclasses
import pytest
import tiny

import jaxrnn
from configs.base import SCHEMA, Base, Changeable
from jaxrnn.rundir import recorder
from jaxrnn.rundir.directory import TIMING, RunDirectory, RunError, is_complete
from jaxrnn.rundir.read import read_directory
from jaxrnn.rundir.restore import load_run
from jaxrnn.rundir.session import Hooks, resume, start
from jaxrnn.study.arms import ArmScheme
from jaxrnn.study.quantities import Mean, TimeToEvent, result, steps_until_stop
from jaxrnn.study.study import Study
from jaxrnn.study.summary import summarize
from jaxrnn.training.definition import ConfigError, Run, check_one_of, name_parts
from jaxrnn.training.signals import Interrupted

RATES, TOLERANCES = [0.3, 0.02], [0.05, 0.2]
SWEEP = {"learning_rate": RATES, "tolerance": TOLERANCES}


@pydantic.dataclasses.dataclass(frozen=True, config=SCHEMA)
class Config(Base):
    learning_rate: float = 0.3
    max_steps: Annotated[int, *Base.__annotations__["max_steps"].__metadata__] = 20
    tolerance: float = 0.05
    cell: str = "lstm"
    taps: tuple[int, ...] = (1,)
    file: Annotated[str, Changeable()] = "a"


def build(config):
    sizes = {name: getattr(config, name) for name in ("max_steps", "eval_every", "chunk_steps", "tolerance")}
    return tiny.training(hyper={"learning_rate": config.learning_rate}, **sizes)


STUDY = Study(
    name="tiny",
    title="Tiny",
    config=Config,
    build=build,
    check=lambda config: check_one_of("cell", config.cell, ["lstm", "gru"]),
    data=lambda config: {"sha256": config.file[:1]},
    arms=ArmScheme(Config),
    quantities=[TimeToEvent("steps", steps_until_stop), Mean("accuracy", result("test_accuracy"))],
)
SMALL = {"eval_every": 5, "chunk_steps": 13, "num_seeds": 2}
CONFIG = Config(**SMALL)


def changed(**changes):
    return dataclasses.replace(STUDY, **changes)


def contents(path):
    return tiny.contents(path), json.loads((path / "config.json").read_text())["sweep"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "whole"
    return path, start(STUDY, CONFIG, path, SWEEP)


# --- Programs ---------------------------------------------------------------------------------------------------------


def test_each_program_has_the_runs_that_it_would_have_alone(whole, tmp_path):
    path, found = whole
    names = [f"seed={seed},tolerance={t},learning_rate={rate}" for t in TOLERANCES for rate in RATES for seed in (0, 1)]
    assert [row["run"] for row in found] == names
    assert [list(row)[:4] for row in found] == [["run", "seed", "tolerance", "learning_rate"]] * 8
    assert {tuple(list(row)[:5]) for row in tiny.rows(path)} == {("run", "seed", "tolerance", "learning_rate", "step")}
    alone = start(STUDY, Config(**SMALL, tolerance=0.2), tmp_path / "a", {"learning_rate": RATES})
    assert [{**row, "run": "", "tolerance": 0.2} for row in alone] == [{**row, "run": ""} for row in found[4:]]
    assert [row["last_step"] for row in found[:4]] != [row["last_step"] for row in found[4:]]
    config, _, params = jaxrnn.load(path, run="tolerance=0.2,learning_rate=0.02", seed=1)
    assert (config.tolerance, config.learning_rate) == (0.2, 0.02)
    assert params["w"].mean() == pytest.approx(found[7]["test_accuracy"], rel=1e-6)
    assert [run.swept["tolerance"] for run in read_directory(path).runs] == [0.05] * 4 + [0.2] * 4


class Crash(Exception):
    pass


@pytest.mark.parametrize(("share", "saves"), [(0.05, True), (0.45, False), (0.55, True), (0.95, False)])
def test_a_killed_sweep_goes_on_to_the_same_bytes(whole, tmp_path, monkeypatch, share, saves):
    appended, append = itertools.count(), RunDirectory.append
    last = int(share * len(tiny.rows(whole[0], "timing.jsonl")))

    def crashing(self, name, rows):
        if name == TIMING and next(appended) == last:
            raise Crash
        append(self, name, rows)

    monkeypatch.setattr(recorder, "SAVE_SECONDS", 0.0 if saves else 1e9)
    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(RunDirectory, "append", crashing)
        start(STUDY, CONFIG, tmp_path / "a", SWEEP)
    assert resume(STUDY, tmp_path / "a") == whole[1]
    assert contents(tmp_path / "a") == contents(whole[0])


def test_a_signal_between_two_programs_saves_too(whole, tmp_path):
    seen = [0]

    def after_a_call(progress):
        if progress.steps > seen[-1]:
            seen.append(progress.steps)
            signal.raise_signal(signal.SIGTERM)

    hooks = Hooks(after_a_call)
    path, interruptions = tmp_path / "a", 0
    with pytest.raises(Interrupted):
        start(STUDY, dataclasses.replace(CONFIG, chunk_steps=30), path, SWEEP, hooks)
    while not is_complete(path):
        interruptions += 1
        with contextlib.suppress(Interrupted):
            resume(STUDY, path, hooks=hooks)
    assert interruptions >= 3
    assert json.loads((path / "results.json").read_text())["runs"] == whole[1]


def test_it_may_only_get_more_values_seeds_and_steps(whole, tmp_path):
    path = tmp_path / "a"
    start(STUDY, CONFIG, path, {"learning_rate": [0.3], "tolerance": [0.05]})
    for sweep in ({"tolerance": [0.2, 0.05]}, {"cell": ["lstm"]}):
        with pytest.raises(ConfigError, match="may only get more"):
            resume(STUDY, path, sweep=sweep)
    assert resume(STUDY, path, sweep=SWEEP) == whole[1]
    grown = resume(STUDY, path, {"max_steps": 40, "num_seeds": 3})
    assert grown == start(STUDY, Config(**SMALL | {"max_steps": 40, "num_seeds": 3}), tmp_path / "b", SWEEP)


def test_the_precision_of_a_program_is_its_own(tmp_path):
    seen = []

    def loss(*args):
        seen.append(jax.config.jax_default_matmul_precision)
        return tiny.loss(*args)

    study = changed(build=lambda config: build(config)._replace(loss=loss))
    start(study, CONFIG, tmp_path / "a", {"precision": ["highest", "default"]})
    assert list(dict.fromkeys(seen)) == ["highest", "default"]


def test_a_field_of_ones_own_is_swept_by_config_and_training_alone(tmp_path):
    @pydantic.dataclasses.dataclass(frozen=True, config=SCHEMA)
    class Decayed(Config):
        weight_decay: float = 0.0

    def decayed(config):
        hyper = {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay}
        return build(config)._replace(
            hyper=hyper,
            optimizer=lambda hyper: optax.chain(
                optax.add_decayed_weights(hyper["weight_decay"]), optax.sgd(hyper["learning_rate"])
            ),
        )

    config = Decayed(**SMALL | {"chunk_steps": 21}, tolerance=0.0, runs_per_program=4)
    found = start(changed(config=Decayed, build=decayed), config, tmp_path / "a", {"weight_decay": [0.0, 3.0]})
    assert [row["weight_decay"] for row in found] == [0.0, 0.0, 3.0, 3.0]
    # Where the pull towards 1 and the decay towards 0 hold each other: 2 (1 - w) / SIZE = 3 w.
    ends = [1.0, 1.0] + [2 / (2 + 3 * tiny.SIZE)] * 2
    assert [row["test_accuracy"] for row in found] == pytest.approx(ends, abs=0.02)
    assert {row["runs"] for row in tiny.rows(tmp_path / "a", "timing.jsonl")} == {4}


# --- Values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sweep", "field", "reason"),
    [
        ({"tolerence": [1]}, "tolerence", r"did you mean tolerance\?"),
        ({"chunk_steps": [1, 2]}, "chunk_steps", "cannot be swept"),
        ({"first_seed": [0, 5]}, "first_seed", "cannot be swept"),
        ({"tolerance": [0.1, 0.1]}, "tolerance", "twice"),
        ({"tolerance": [1, 1.0]}, "tolerance", "twice"),
        ({"learning_rate": [0.1, 0.1 + 1e-12]}, "learning_rate", "twice"),
        ({"taps": [[1, 2], [1, 2]]}, "taps", "twice"),
        ({"learning_rate": [0.1, "x"]}, "learning_rate", "number"),
        ({"cell": ["gru", "grru"]}, "cell", "should be one of lstm, gru"),
    ],
)
def test_what_cannot_be_swept_is_refused_and_nothing_is_written(tmp_path, sweep, field, reason):
    with pytest.raises(ConfigError, match=reason) as error:
        start(STUDY, CONFIG, tmp_path / "a", sweep)
    assert error.value.field == field
    assert not (tmp_path / "a").exists()


def test_the_config_itself_need_not_be_possible_where_its_field_is_swept(tmp_path):
    found = start(STUDY, Config(max_steps=2, cell="swept", num_seeds=1), tmp_path / "a", {"cell": ["gru"]})
    assert [row["run"] for row in found] == ["seed=0,cell=gru"]


def test_values_with_commas_and_texts_name_their_runs(tmp_path):
    path, sweep = tmp_path / "a", {"taps": [[1, 2], [3]], "file": ["a,b", "a c"]}
    found = start(STUDY, Config(max_steps=2, num_seeds=1), path, sweep)
    assert [row["run"] for row in found][:2] == ["seed=0,taps=[1,2],file=a,b", "seed=0,taps=[1,2],file=a c"]
    assert resume(STUDY, path, sweep={"taps": [[1, 2], [3]]}) == json.loads((path / "results.json").read_text())["runs"]
    assert jaxrnn.load(path, run="file=a,b,taps=[3]")[0].taps == (3,)
    with pytest.raises(RunError, match=r"which run.*taps=\[3\],file=a c at step 2$"):
        jaxrnn.load(path, run="taps=[3]")
    assert name_parts(Run(2, {"taps": (1, 2), "on": True}).name) == {"seed=2", "taps=[1,2]", "on=true"}
    assert name_parts("learning_rate=1e-3,cell=gru") == name_parts("cell=gru,learning_rate=0.0010")
    for written in ("1", "1.0", "1e0", "10e-1"):
        assert name_parts(f"learning_rate={written}") == name_parts(Run(0, {"learning_rate": 1.0}).name) - {"seed=0"}


def test_of_many_runs_a_message_names_some(tmp_path):
    start(STUDY, Config(max_steps=2, num_seeds=12), tmp_path / "a")
    with pytest.raises(RunError, match=r"there are: seed=0 at step 2; .*; seed=9 at step 2; and 2 more$"):
        jaxrnn.load(tmp_path / "a")


def test_each_setting_has_its_own_data(tmp_path):
    path, config = tmp_path / "a", Config(max_steps=2, num_seeds=1)
    start(STUDY, config, path, {"file": ["a", "b", "also a"]})
    assert [run.data for run in read_directory(path).runs] == [{"sha256": one} for one in "aba"]
    assert load_run(path, "file=b").data == {"sha256": "b"}
    grown = resume(STUDY, path, sweep={"file": ["a", "b", "also a", "c"]})
    assert len(grown) == 4
    changing = changed(data=lambda config: {"sha256": "x" if config.file == "b" else config.file[:1]})
    with pytest.raises(RunError, match="other data: sha256 was 'b' and is 'x'"):
        resume(changing, path, {"num_seeds": 2})


# --- What came out ----------------------------------------------------------------------------------------------------


def test_settings_are_ranked_the_best_first(whole):
    title, head, *rows = summarize(STUDY, whole[0])
    assert "4 settings, the best first by steps" in title
    assert head.split() == ["learning_rate", "tolerance", "seeds", "steps", "accuracy"]
    assert [row.split()[:4] for row in rows][:2] == [["1", "0.3", "0.2", "2"], ["2", "0.3", "0.05", "2"]]
    assert rows[0].endswith("(all values alike; no interval)")
    means = []
    for row in rows:
        _, rate, tolerance, *_ = row.split()
        chosen = [one for one in whole[1] if f"tolerance={tolerance},learning_rate={rate}" in one["run"]]
        means.append(jnp.mean(jnp.array([one["last_step"] for one in chosen])))
        shown = "> 20, 0 of 2 converged" if not any(one["stopped"] for one in chosen) else f"  {means[-1]:.0f}"
        assert shown in row
    assert means == sorted(means)
