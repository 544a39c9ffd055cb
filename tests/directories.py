"""Run directories made up by hand, in the format of the files."""

import json

from jaxrnn.rundir.read import read_directories
from jaxrnn.study.page import leaves
from jaxrnn.study.report import make_sections


def write_directory(path, study, config, rows, *, curves=None, sweep=None, complete=True, data=None, versions=None):
    """A directory whose rows have ended so, with curves `{run: [(step, {metric: value}), ...]}`."""
    path.mkdir(parents=True)
    record = {"format": 2, "study": study, "config": config, "sweep": sweep or {}, "data": data or {}}
    record |= {"versions": versions or {"jax": "0.10"}, "device": {"kind": "cpu", "count": 2}}
    (path / "config.json").write_text(json.dumps(record))
    (path / "results.json").write_text(json.dumps({"study": study, "complete": complete, "runs": rows}))
    lines = []
    for run, points in (curves or {}).items():
        seed = next((row["seed"] for row in rows if row["run"] == run), int(run.partition("=")[2].partition(",")[0]))
        lines += [{"run": run, "seed": seed, "step": step, **metrics} for step, metrics in points]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def row(seed, last_step=3000, stopped=False, failed_at=None, **metrics):
    """A row of results.json."""
    ended = {"last_step": last_step, "stopped": stopped, "failed_at": failed_at}
    return {"run": f"seed={seed}", "seed": seed, **ended, **metrics}


def blocks_of_page(study, path, kind):
    """What a study's own sections show of the directories below a path: tables, figures, or text."""
    _, *sections, _ = make_sections([study], [(directory, "own") for directory in read_directories(path)])
    return [block for block in leaves(sections) if isinstance(block, kind)]
