"""TensorBoard events, read back as TensorBoard would: records with their lengths, and protocol buffers."""

import itertools
import json
import math
import struct
import time
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from jaxrnn.rundir import events as events_module
from jaxrnn.rundir.directory import RunDirectory, RunError
from jaxrnn.rundir.events import Events

SMALL = {"digits": 2, "hidden_size": 8, "batch_size": 8, "num_seeds": 2, "eval_every": 10, "test_samples": 8}


def scalars(folder):
    """``{run: {metric: [(step, value), ...]}}`` in the order of the files."""
    found = {}
    for file in sorted(folder.rglob("events.out.*")):
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event, content = Event.FromString(content[12 : 12 + length]), content[16 + length :]
            for value in event.summary.value:
                run = found.setdefault(str(file.parent.relative_to(folder)), {})
                run.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def expected(path):
    found = {}
    for row in map(json.loads, (path / "metrics.jsonl").read_text().splitlines()):
        for metric in ("loss", "accuracy"):
            value = pytest.approx(row[metric], rel=1e-6)
            found.setdefault(row["run"], {}).setdefault(metric, []).append((row["step"], value))
    return found


def test_numbers_are_followed_and_texts_left_out(tmp_path):
    path = tmp_path / "run"
    with RunDirectory.create(path, {"experiment": "x", "config": {}}) as directory, Events(path) as events:
        directory.followers.append(events.follow)
        directory.append("metrics.jsonl", [{"run": "a", "seed": 1, "step": 3, "loss": 0.5}])
        directory.append("samples.jsonl", [{"run": "a", "seed": 1, "step": 3, "tau": 2.0, "text": "so"}])
        directory.append("validation.jsonl", [{"run": "a", "seed": 1, "step": 3, "loss": 0.75}])
        directory.append("timing.jsonl", [{"seconds": 1.0}])
        directory.append("metrics.jsonl", [{"run": "b", "seed": 2, "step": 4, "loss": math.nan}])
    found = scalars(path / "tensorboard")
    assert found["a"] == {"loss": [(3, 0.5)], "validation/loss": [(3, 0.75)]}
    ((step, value),) = found["b"]["loss"]
    assert (step, math.isnan(value)) == (4, True)


def test_a_complete_run_gets_events_when_it_is_resumed(tmp_path):
    path = tmp_path / "run"
    with RunDirectory.create(path, {"experiment": "x", "config": {}}) as directory:
        directory.append("metrics.jsonl", [{"run": "a", "seed": 1, "step": 3, "loss": 0.5}])
        length = directory.lengths(["metrics.jsonl"])
        directory.append("metrics.jsonl", [{"run": "a", "seed": 1, "step": 4, "loss": 0.25}])
    with RunDirectory.resume(path) as directory, Events(path) as events:
        directory.followers.append(events.follow)
        directory.truncate(length)
    assert scalars(path / "tensorboard") == {"a": {"loss": [(3, 0.5)]}}


def test_events_are_on_disk_before_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(events_module, "_FLUSH_SECONDS", 0.0)
    path = tmp_path / "run"
    with RunDirectory.create(path, {"experiment": "x", "config": {}}) as directory, Events(path) as events:
        directory.followers.append(events.follow)
        directory.append("metrics.jsonl", [{"run": "a", "seed": 1, "step": 3, "loss": 0.5}])
        assert scalars(path / "tensorboard") == {"a": {"loss": [(3, 0.5)]}}


def test_events_of_others_in_the_folder_are_left_alone(tmp_path):
    theirs = tmp_path / "tensorboard/exp/events.out.tfevents.1.host"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    (tmp_path / "metrics.jsonl").write_text('{"run": "exp", "step": 1, "loss": 0.5}\n')
    for _ in range(2):
        with Events(tmp_path) as events:
            events.follow("metrics.jsonl")
        assert theirs.read_bytes() == b"theirs"
        assert len(list(theirs.parent.iterdir())) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "metrics.jsonl").write_text('{"run": "a", "step": 1, "loss": 0.5}\n')

    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(RunError, match=r"/tensorboard: cannot be written: No space left"),
        Events(tmp_path) as events,
    ):
        opened = events._opened

        def on_a_full_disk(run):
            writer = opened(run)
            writer._py_recordio_writer._writer.close()
            writer._py_recordio_writer._writer = full
            return writer

        monkeypatch.setattr(events, "_opened", on_a_full_disk)
        events.follow("metrics.jsonl")


def test_files_that_cannot_be_followed_are_one_line_that_names_them(tmp_path):
    for name, content in {"bytes": b"\xff\n", "json": b"{\n", "list": b"[]\n", "row": b'{"step": 1}\n'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_bytes(content)
        with (
            pytest.raises(RunError, match=rf"/{name}/metrics.jsonl: cannot be read: "),
            Events(tmp_path / name) as events,
        ):
            events.follow("metrics.jsonl")
    (tmp_path / "metrics.jsonl").write_text('{"run": "a", "step": 1, "loss": 0.5}\n')
    (tmp_path / "tensorboard").write_text("")
    with pytest.raises(RunError, match=r"/tensorboard: cannot be written: "), Events(tmp_path) as events:
        events.follow("metrics.jsonl")


def test_a_name_with_a_path_in_it_leads_nowhere(tmp_path):
    path = tmp_path / "run"
    with RunDirectory.create(path, {"experiment": "x", "config": {}}) as directory, Events(path) as events:
        directory.followers.append(events.follow)
        directory.append("metrics.jsonl", [{"run": "lstm, a/../../../b", "seed": 1, "step": 3, "loss": 0.5}])
    assert list(scalars(path / "tensorboard")) == ["lstm, a_.._.._.._b"]
    assert [found.name for found in tmp_path.iterdir()] == ["run"]


def test_an_interrupted_run_has_each_step_once(binaries, tmp_path):
    path = tmp_path / "run"
    more = {"max_steps": 600, "tolerance": 0.0, "chunk_steps": 50}
    process = binaries.start("palindrome", f"--workdir={path}", "--tensorboard", **SMALL, **more)
    for waited in itertools.count():
        if (path / "tensorboard").is_dir():
            break
        assert waited < 3000
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = binaries.run("palindrome", "--resume", f"--workdir={path}", "--tensorboard")
    assert done.returncode == 0, done.stderr
    assert scalars(path / "tensorboard") == expected(path)
