"""TensorBoard events, read back as TensorBoard would: records with their lengths, and protocol buffers."""

import json
import math

import pytest
from events import scalars

from jaxrnn.rundir.directory import FORMAT, RunDirectory, RunError
from jaxrnn.rundir.events import record_events

ROW = {"run": "a", "seed": 1, "step": 3, "loss": 0.5}


def create(path):
    return RunDirectory(path, {"format": FORMAT, "study": "x", "config": {}})


def test_numbers_are_events_and_texts_are_left_out(tmp_path):
    with create(tmp_path / "run") as directory, record_events(directory.path) as directory.listener:
        directory.append("metrics.jsonl", [ROW])
        directory.append("samples.jsonl", [{**ROW, "tau": 2.0, "text": "so"}])
        directory.append("validation.jsonl", [{**ROW, "loss": 0.75}])
        directory.append("timing.jsonl", [{"seconds": 1.0}])
        directory.append("metrics.jsonl", [{**ROW, "run": "b", "step": 4, "loss": math.nan}])
        directory.append("metrics.jsonl", [{**ROW, "run": "seed=1,cell=gru,size=3", "cell": "gru", "size": 3}])
    found = scalars(tmp_path / "run/tensorboard")
    assert found["a"] == {"loss": [(3, 0.5)], "validation/loss": [(3, 0.75)]}
    assert found["seed=1,cell=gru,size=3"] == {"loss": [(3, 0.5)]}  # Swept fields are no metrics.
    ((step, value),) = found["b"]["loss"]
    assert (step, math.isnan(value)) == (4, True)


def test_what_a_file_has_is_told_anew_on_resume(tmp_path):
    with create(tmp_path / "run") as directory, record_events(directory.path) as directory.listener:
        directory.append("metrics.jsonl", [ROW, {**ROW, "step": 4}])
    for _ in range(2):
        with RunDirectory(tmp_path / "run") as directory, record_events(directory.path) as directory.listener:
            directory.truncate({"metrics.jsonl": len(json.dumps(ROW)) + 1})
            directory.append("metrics.jsonl", [{**ROW, "step": 5}])
        assert scalars(tmp_path / "run/tensorboard") == {"a": {"loss": [(3, 0.5), (5, 0.5)]}}


def test_events_of_others_in_the_folder_are_left_alone(tmp_path):
    theirs = tmp_path / "run/tensorboard/a/events.out.tfevents.1.host"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    with create(tmp_path / "run") as directory:
        for _ in range(2):
            with record_events(directory.path) as directory.listener:
                directory.append("metrics.jsonl", [ROW])
            assert theirs.read_bytes() == b"theirs"
            assert len(list(theirs.parent.iterdir())) == 2


def test_what_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "tensorboard").write_text("")
    (tmp_path / "metrics.jsonl").write_text(json.dumps(ROW))
    with pytest.raises(RunError, match=r"/tensorboard: cannot be written: "), record_events(tmp_path) as listen:
        listen("metrics.jsonl", [ROW])
