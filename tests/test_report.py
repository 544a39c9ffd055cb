import json
import os
import re
import subprocess
import sys
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from processes import ROOT

from experiments import report as binary
from jaxrnn.rundir.directory import RunError
from jaxrnn.study.report import (
    Figure,
    Section,
    Table,
    code,
    directories_section,
    fraction,
    interval,
    merge_arms,
    paths,
    read_curves,
    read_runs,
    side,
    table_markdown,
    write_report,
)
from jaxrnn.study.stats import Estimate

PNG = b"\x89PNG\r\n\x1a\n not a picture, but bytes are bytes"


def write_run(path: Path, seeds=(0,), *, complete=True, rates=(0.1,), losses=(0.7, None), experiment="walk", **config):
    """A directory with one run per seed and learning rate, whose result is its seed."""
    path.mkdir(parents=True)
    config = {"learning_rate": list(rates), "num_seeds": len(seeds), "first_seed": seeds[0], **config}
    (path / "config.json").write_text(json.dumps({"experiment": experiment, "config": config}))
    lanes = [{"run": f"seed={s},learning_rate={r}", "seed": s, "learning_rate": r} for r in rates for s in seeds]
    results = [{**lane, "distance": 10 * lane["seed"]} for lane in lanes]
    (path / "results.json").write_text(json.dumps({"complete": complete, "runs": results}))
    looks = [
        {"run": lane["run"], "seed": lane["seed"], "step": 5 * i, "loss": loss}
        for i, loss in enumerate(losses)
        for lane in lanes  # interleaved
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(look) + "\n" for look in looks))


def test_read_runs_reads_results_and_curves(tmp_path):
    write_run(tmp_path / "b", seeds=(3, 4), size=2)
    write_run(tmp_path / "a" / "deep")
    write_run(tmp_path / "b" / "checkpoints" / "inside")  # part of run b, not a run of its own
    (tmp_path / "empty").mkdir()

    first, second = read_runs(tmp_path, "kept")

    assert [first.path, second.path] == [tmp_path / "a" / "deep", tmp_path / "b"]
    assert (second.kind, second.experiment, second.complete, second.remarks) == ("kept", "walk", True, [])
    assert second.config["size"] == 2
    assert [result["distance"] for result in second.results] == [30, 40]
    curve = second.curves["seed=4,learning_rate=0.1"]
    assert curve.steps.tolist() == [0, 5]
    np.testing.assert_array_equal(curve.metrics["loss"], [0.7, np.nan])
    assert set(curve.metrics) == {"loss"}


def damage(file: str, text: str | None):
    def apply(path: Path) -> None:
        (path / file).unlink() if text is None else (path / file).write_text(text)

    return apply


@pytest.mark.parametrize(
    ("apply", "remark"),
    [
        (damage("config.json", "{"), "config.json is damaged (Invalid JSON"),
        (damage("config.json", "[]"), "config.json is damaged"),
        (damage("config.json", '{"experiment": "walk"}'), "config.json is damaged (config: Field required)"),
        (damage("results.json", None), "unfinished, no run has ended"),
        (damage("results.json", '{"complete": true, "runs": [{"run": "x", "seed": "y"}]}'), "runs.0.seed"),
        (damage("results.json", '{"complete": false, "runs": []}'), "unfinished, 0 runs have ended"),
        (damage("metrics.jsonl", None), "metrics.jsonl cannot be read (No such file or directory)"),
        (damage("metrics.jsonl", "\x00\n[1]\n{}\n"), "3 damaged lines left out, the first is line 1"),
        (damage("metrics.jsonl", '{"run": "x", "step": 1e999}'), "1 damaged lines left out"),
        (damage("metrics.jsonl", f'{{"run": "x", "step": {10**30}}}'), "1 damaged lines left out"),
        (damage("metrics.jsonl", f'{{"run": "x", "step": 0, "loss": {10**400}}}'), "1 damaged lines left out"),
        (damage("metrics.jsonl", "[" * 100_000), "1 damaged lines left out"),
        (damage("metrics.jsonl", '{"run": "other", "step": 0}'), "1 runs have no curve, the first is `seed=0"),
    ],
)
def test_damage_is_remarked_upon(tmp_path, apply, remark):
    write_run(tmp_path / "broken")
    write_run(tmp_path / "whole")
    apply(tmp_path / "broken")

    broken, whole = read_runs(tmp_path, "this machine")

    assert any(remark in one for one in broken.remarks)
    assert whole.remarks == []
    (table,) = directories_section([broken, whole]).blocks
    assert remark in table.rows[0][-1]
    assert table.rows[1][-1] == "complete"


def test_a_line_cut_short_costs_that_look_only(tmp_path):
    write_run(tmp_path / "run", losses=(0.7, 0.6, 0.5))
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_text(metrics.read_text()[:-4])

    (run,) = read_runs(tmp_path, "kept")

    assert run.curves["seed=0,learning_rate=0.1"].steps.tolist() == [0, 5]
    assert run.remarks == ["metrics.jsonl: 1 damaged lines left out, the first is line 3"]


def test_arms_are_what_differs_in_nothing_but_the_seed(tmp_path):
    write_run(tmp_path / "a", seeds=(2, 3), size=1, chunk_steps=5, seeds_per_program=2)
    write_run(tmp_path / "b", seeds=(0, 1), size=1, chunk_steps=7, seeds_per_program=1)
    write_run(tmp_path / "c", size=2)
    write_run(tmp_path / "d", size=1, rates=(0.1, 0.2), seeds=(5,))
    write_run(tmp_path / "e", size=1, seeds=(9,), experiment="run")
    write_run(tmp_path / "f", size=1, seeds=(7,), complete=False)

    kept, own = read_runs(tmp_path, "kept"), read_runs(tmp_path / "b", "this machine")
    arms, remarks = merge_arms([*kept, *own])

    described = [
        (arm.experiment, arm.kind, arm.config["size"], arm.config["learning_rate"], [lane.seed for lane in arm.lanes])
        for arm in arms
    ]
    assert described == [
        ("walk", "kept", 1, 0.1, [0, 1, 2, 3, 5]),
        ("walk", "kept", 2, 0.1, [0]),
        ("walk", "kept", 1, 0.2, [5]),
        ("run", "kept", 1, 0.1, [9]),
        ("walk", "this machine", 1, 0.1, [0, 1]),
    ]
    assert arms[0].sources == [tmp_path / name for name in "abd"]
    assert [lane.result["distance"] for lane in arms[0].lanes] == [0, 10, 20, 30, 50]
    assert remarks == []


def test_the_same_run_twice_is_used_once_and_said(tmp_path):
    write_run(tmp_path / "a", seeds=(0, 1))
    write_run(tmp_path / "b", seeds=(1, 2))
    results = tmp_path / "b" / "results.json"

    (arm,), (remark,) = merge_arms(read_runs(tmp_path, "kept"))
    results.write_text(results.read_text().replace('"distance": 10', '"distance": 11'))
    (_,), (differing,) = merge_arms(read_runs(tmp_path, "kept"))

    assert [lane.path.name for lane in arm.lanes] == ["a", "a", "b"]
    told = f"1 runs of `{tmp_path}/b` are also in `{tmp_path}/a`, the first is `seed=1,learning_rate=0.1`: "
    assert remark == f"{told}the latter are used"
    assert differing == f"{told}the latter are used, though their results differ"


def test_curves_are_read_from_any_file_of_looks(tmp_path):
    look = {"run": "seed=3", "seed": 3, "step": 100, "bits_per_character": 2.5}
    (tmp_path / "validation.jsonl").write_text(json.dumps(look) + "\n{")

    curves, remarks = read_curves(tmp_path / "validation.jsonl")

    assert curves["seed=3"].steps.tolist() == [100]
    assert curves["seed=3"].metrics == {"bits_per_character": [2.5]}
    assert remarks == ["validation.jsonl: 1 damaged lines left out, the first is line 2"]
    assert read_curves(tmp_path / "none.jsonl") == ({}, ["none.jsonl cannot be read (No such file or directory)"])


@pytest.mark.parametrize(
    ("estimate", "shown", "where"),
    [
        (Estimate(1.0, 0.25, 2.0), "1.0 [0.2, 2.0]", 0),
        (Estimate(1.0, 0.75, 2.0), "1.0 [0.8, 2.0]", 1),
        (Estimate(0.25, 0.0, 0.4375), "0.2 [0.0, 0.4]", -1),
        (Estimate(1.0, 0.5, 2.0), "1.0 [0.5, 2.0]", 0),
        (Estimate(1.0, 0.75, None), "1.0 [0.8, far]", 0),
        (Estimate(1.0, None, None), "1.0", 0),
        (Estimate(None, None, None), "far", 0),
    ],
)
def test_estimates_as_text_and_beside_a_threshold(estimate, shown, where):
    assert interval(estimate, ".1f", beyond="far") == shown
    assert side(estimate, 0.5) == where


def test_a_share_has_its_clopper_pearson_interval():
    # 0.025 = p^3 at the lower end.
    assert fraction(3, 3) == f"3 of 3: 1.00 [{0.025 ** (1 / 3):.2f}, 1.00]"
    assert fraction(0, 0) == "0 of 0"


def test_table_markdown_keeps_cells_apart():
    table = Table(("a", "b"), [("x | y", "two\nlines")], "Caption")

    assert table_markdown(table) == "*Caption*\n\n| a | b |\n| --- | --- |\n| x \\| y | two lines |"


def test_runs_on_other_data_are_kept_apart_and_that_is_said(tmp_path):
    for seed, name, digest in ((0, "a", "x"), (1, "b", "x"), (2, "c", "y")):
        write_run(tmp_path / name, seeds=(seed,))
        file = tmp_path / name / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "data": {"sha256": digest}}))

    arms, remarks = merge_arms(read_runs(tmp_path, "kept"))

    assert [[lane.seed for lane in arm.lanes] for arm in arms] == [[0, 1], [2]]
    assert remarks == [f"`{tmp_path}/a`, `{tmp_path}/c` have the same settings, but other data: they are kept apart"]


def test_seeds_of_several_devices_or_versions_are_put_together_and_that_is_said(tmp_path):
    old, new = ({"versions": {"jax": jax}, "device": {"kind": kind}} for jax, kind in (("1.0", "cpu"), ("1.1", "H100")))
    for seed, name, origin in ((0, "a", old), (1, "b", old), (2, "c", {**old, "earlier": [new]}), (2, "d", new)):
        write_run(tmp_path / name, seeds=(seed,), rates=(0.1, 0.2))
        file = tmp_path / name / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **origin}))

    arms, (_, *remarks) = merge_arms(read_runs(tmp_path, "kept"))  # The first is about d, which is not used.

    assert [[lane.seed for lane in arm.lanes] for arm in arms] == [[0, 1, 2], [0, 1, 2]]
    assert remarks == [
        f"seeds are put together that were made with jax 1.0 on cpu (`{tmp_path}/a`) and jax 1.1 on H100 "
        f"(`{tmp_path}/c`)"
    ]


def test_a_run_that_moved_is_not_several_that_were_put_together(tmp_path):
    origins = [{"versions": {"jax": jax}, "device": {"kind": "cpu"}} for jax in ("1.0", "1.1")]
    write_run(tmp_path / "a", seeds=(0,))
    file = tmp_path / "a" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **origins[1], "earlier": origins[:1]}))

    _, remarks = merge_arms(read_runs(tmp_path, "kept"))

    assert remarks == [
        f"the same runs were in part made with jax 1.1 on cpu (`{tmp_path}/a`) and jax 1.0 on cpu (`{tmp_path}/a`)"
    ]


def test_directories_are_named_after_their_parent():
    assert paths([Path("x/a"), Path("x/b"), Path("y/a")]) == "`x`: `a`, `b`; `y/a`"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_the_page_needs_no_other_file(tmp_path):
    sections = [
        Section("One", ["Some **text** with `a < b`.", Table(("a",), [("1",), ("`x|y`",)], "Numbers")]),
        Section("Two", [Figure("figures/x_y.png", PNG, "What it shows", 'a "curve" & more')]),
    ]

    markdown_path, html_path = write_report(sections, tmp_path / "new" / "out")

    text, page = markdown_path.read_text(), html_path.read_text()
    assert (tmp_path / "new" / "out" / "figures" / "x_y.png").read_bytes() == PNG
    assert "](figures/x_y.png)" in text
    assert r"| `x\|y` |" in text
    assert "<code>x|y</code>" in page
    tags = Tags()
    tags.feed(page)
    counts = {name: sum(tag == name for tag, _ in tags.found) for name in ("h2", "table", "tr", "strong", "img")}
    assert counts == {"h2": 2, "table": 1, "tr": 3, "strong": 1, "img": 1}
    (image,) = (attributes for tag, attributes in tags.found if tag == "img")
    assert image["alt"] == 'a "curve" & more'
    kind, data = image["src"].split(",")
    assert kind == "data:image/png;base64"
    assert b64decode(data) == PNG
    assert not {tag for tag, _ in tags.found} & {"link", "script", "iframe"}
    assert not re.search(r"https?://|url\(|@import", page)
    assert "color-scheme: light dark" in page


def test_binary_prints_tables_and_where_the_page_is(tmp_path, capsys):
    write_run(tmp_path / "runs" / "first", experiment="walk")
    (tmp_path / "kept").mkdir()

    binary.report(tmp_path / "runs", tmp_path / "kept", tmp_path / "out")

    out = capsys.readouterr().out
    assert f"`{tmp_path}/runs/first`" in out
    assert "no study reports on this experiment" in out
    assert str(tmp_path / "out" / "report.html") in out
    assert (tmp_path / "out" / "report.html").is_file()


def test_nothing_to_report_and_nowhere_to_write(tmp_path):
    for name in ("runs", "kept"):
        (tmp_path / name).mkdir()
    with pytest.raises(RunError, match="no run found there, and no kept results"):
        binary.report(tmp_path / "runs", tmp_path / "kept", tmp_path / "out")
    assert not (tmp_path / "out").exists()

    occupied = tmp_path / "occupied"
    occupied.touch()
    write_run(tmp_path / "kept" / "first")
    with pytest.raises(RunError, match=f"--out={occupied}: cannot be written"):
        binary.report(tmp_path / "runs", tmp_path / "kept", occupied)


def test_a_path_that_is_no_text_can_be_written(tmp_path):
    path = tmp_path / os.fsdecode(b"a`\xff")
    assert code(path) == f"`{tmp_path}/a'\\udcff`"
    code(path).encode()


def test_without_runs_of_ones_own_the_kept_ones_are_shown(tmp_path):
    write_run(tmp_path / "kept" / "first")
    command = [sys.executable, "-m", "experiments.report", "--kept=kept", "--out=out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "first" in (tmp_path / "out" / "report.html").read_text()


def test_kept_runs_among_ones_own_are_not_counted_twice(tmp_path, capsys):
    write_run(tmp_path / "kept" / "first")
    write_run(tmp_path / "runs" / "second")
    binary.report(tmp_path, tmp_path / "kept", tmp_path / "out")
    out = capsys.readouterr().out
    assert (out.count("first` | kept"), out.count("first` | this machine")) == (1, 0)
    assert out.count("second` | this machine") == 1


def test_binary_refuses_bad_input_in_one_line(binaries, tmp_path):
    missing = tmp_path / "nowhere"
    for arguments, status, complaint in [
        ([f"--runs={missing}"], 1, f"error: --runs={missing}: no such directory; it should hold run directories"),
        ([f"--runs={tmp_path}", "stray"], 2, "error: unexpected argument 'stray'"),
    ]:
        done = binaries.run("report", f"--out={tmp_path / 'out'}", *arguments)
        assert (done.returncode, len(done.stderr.splitlines())) == (status, 1)
        assert done.stderr.startswith(complaint)
    assert list(tmp_path.iterdir()) == []
