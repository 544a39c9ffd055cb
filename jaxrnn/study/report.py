"""Run directories -> tables, figures and one page; what a study makes of its runs is not known here.

`read_runs` reads directories as they are, `merge_arms` puts the runs that share a setting together, a study turns them
into `Section`s, and `write_report` writes `report.md` with its figures and one self-contained `report.html`.
"""

import html
import json
import os
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import markdown
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from jaxrnn.study import stats

Kind = Literal["kept", "this machine"]
KINDS: tuple[Kind, ...] = ("kept", "this machine")

# What may differ between directories whose runs belong together: which seeds, and how the computer went through them.
BOOKKEEPING = frozenset({"first_seed", "num_seeds", "seeds_per_program", "data_devices", "chunk_steps"})


# --- Run directories --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Curve:
    """One run's looks: `[k]` steps, and by name `[k]` float64 metrics (NaN where the file has null)."""

    steps: NDArray[np.int64]
    metrics: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Run:
    """A run directory: the runs of one launch, with one result and one curve per seed (and value of a sweep).

    Attributes:
        path: the directory.
        kind: "kept" for results that came with the code, "this machine" for the reader's own.
        experiment: its name; empty where `config.json` could not be read.
        config: the whole config.
        data: what they were trained on, where that is a file.
        versions: of Python and the libraries.
        device: what it ran on.
        earlier: other versions and devices that it had before it was resumed.
        complete: True once every run has ended.
        results: per run that has ended, its entry in `results.json`, with at least `run` and `seed`.
        curves: by `run`.
        remarks: what a reader has to know about the directory: what is damaged or missing.
    """

    path: Path
    kind: Kind
    experiment: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    device: Mapping[str, Any] = field(default_factory=dict)
    earlier: Sequence[Mapping[str, Any]] = ()
    complete: bool = False
    results: Sequence[Mapping[str, Any]] = ()
    curves: Mapping[str, Curve] = field(default_factory=dict)
    remarks: Sequence[str] = ()


class _ConfigFile(BaseModel):
    experiment: str
    config: dict[str, Any]
    data: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    device: dict[str, Any] = {}
    earlier: list[dict[str, dict[str, Any]]] = []


class _Result(BaseModel, extra="allow"):
    run: str
    seed: int


class _ResultsFile(BaseModel):
    complete: bool
    runs: list[_Result]


def read_runs(root: Path, kind: Kind) -> list[Run]:
    """Reads every directory at or below `root` that has a `config.json`, in the order of their paths.

    What is damaged or unfinished is said in the remarks of its `Run`, and never raises.
    """
    found = []
    for directory, subdirectories, files in os.walk(root):
        if "config.json" in files:
            found.append(Path(directory))
            subdirectories.clear()  # what lies in a run directory is its own affair
    return [_read_run(path, kind) for path in sorted(found)]


def _read_run(path: Path, kind: Kind) -> Run:
    try:
        config = _ConfigFile.model_validate_json((path / "config.json").read_bytes())
    except (OSError, ValidationError) as error:
        return Run(path, kind, remarks=[f"config.json is damaged ({describe(error)}): left out"])
    run = Run(path, kind, **dict(config))
    try:
        results = _ResultsFile.model_validate_json((path / "results.json").read_bytes())
    except FileNotFoundError:
        return replace(run, remarks=["unfinished, no run has ended: left out"])
    except (OSError, ValidationError) as error:
        return replace(run, remarks=[f"results.json is damaged ({describe(error)}): left out"])
    curves, remarks = read_curves(path / "metrics.jsonl")
    without = [result.run for result in results.runs if result.run not in curves]
    if without:
        remarks.append(f"{len(without)} runs have no curve, the first is {code(without[0])}")
    if not results.complete:
        # Those that end first are not a fair sample of all: they may be the ones that converged soon.
        remarks.append(f"unfinished, {len(results.runs)} runs have ended: left out")
    return replace(
        run,
        complete=results.complete,
        results=[result.model_dump() for result in results.runs],
        curves=curves,
        remarks=remarks,
    )


def valid_runs(runs: Iterable[Run], setting: type[BaseModel], outcome: type[BaseModel]) -> tuple[list[Run], list[str]]:
    """The runs whose configs are a `setting` and whose results are each an `outcome`, and remarks on the rest."""
    kept, remarks = [], []
    for run in runs:
        try:
            setting.model_validate(run.config)
            for result in run.results:
                outcome.model_validate(result)
        except ValidationError as error:
            remarks.append(f"{code(run.path)}: {describe(error)}: left out")
            continue
        kept.append(run)
    return kept, remarks


def read_curves(path: Path) -> tuple[dict[str, Curve], list[str]]:
    """The curves by run in a file of looks, such as ``metrics.jsonl``, and what is wrong with it."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        return {}, [f"{path.name} cannot be read ({describe(error)})"]
    looks: dict[str, dict[int, dict[str, float]]] = {}
    damaged = []
    for number, line in enumerate(lines, start=1):
        try:
            look = json.loads(line)
            run, step = look.pop("run"), int(np.int64(int(look.pop("step"))))
            look.pop("seed", None)
            looks.setdefault(run, {})[step] = {
                name: np.nan if value is None else float(value) for name, value in look.items()
            }
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            damaged.append(number)
    remarks = [f"{path.name}: {len(damaged)} damaged lines left out, the first is line {damaged[0]}"] if damaged else []
    return {run: _curve(by_step) for run, by_step in looks.items()}, remarks


def _curve(looks: Mapping[int, Mapping[str, float]]) -> Curve:
    steps = sorted(looks)
    names = dict.fromkeys(name for step in steps for name in looks[step])
    return Curve(
        np.array(steps, np.int64),
        {name: np.array([looks[step].get(name, np.nan) for step in steps], np.float64) for name in names},
    )


def describe(error: Exception) -> str:
    """An error of reading or checking a file, in one line: the first thing that is wrong, and where."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {first['msg']}" if where else first["msg"]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())


# --- Arms -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Lane:
    """One run of an arm: its entry in `results.json`, its curve where there is one, the directory it comes from."""

    seed: int
    result: Mapping[str, Any]
    curve: Curve | None
    path: Path


@dataclass(frozen=True, eq=False)
class Arm:
    """Runs that differ in nothing but the seed.

    Attributes:
        experiment: its name.
        kind: as in `Run`; kept and own runs never share an arm.
        config: what they share: without the bookkeeping, and with the lane's own value of a swept field.
        lanes: in the order of their seeds.
        data: as in `Run`.
    """

    experiment: str
    kind: Kind
    config: Mapping[str, Any]
    lanes: Sequence[Lane]
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sources(self) -> list[Path]:
        """The run directories that the lanes come from."""
        return sorted({lane.path for lane in self.lanes})

    def differences(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of the config that have another value than in `wanted`, with theirs."""
        return {name: self.config.get(name) for name, value in wanted.items() if self.config.get(name) != value}


def merge_arms(runs: Iterable[Run]) -> tuple[list[Arm], list[str]]:
    """Puts the runs of complete directories together that differ in nothing but the seed.

    Returns:
        The arms in the order of their first runs, and remarks on runs that were there twice, of which one is kept, on
        equal settings with different data, and on seeds from different devices or versions of JAX.
    """
    arms: dict[tuple[str, ...], Arm] = {}
    lanes: dict[tuple[str, ...], dict[int, Lane]] = {}
    settings: dict[tuple[str, ...], dict[tuple[str, ...], Path]] = {}
    twice: dict[tuple[Path, Path], list[tuple[str, bool]]] = {}
    origins: dict[tuple[str, ...], dict[str, Path]] = {}
    for run in runs:
        if not run.complete:
            continue
        for result in run.results:
            # A sweep is a list in the config; the result names the value that this lane had.
            config = {
                name: result.get(name, value) if isinstance(value, list) else value
                for name, value in run.config.items()
                if name not in BOOKKEEPING
            }
            setting = (run.experiment, run.kind, json.dumps(config, sort_keys=True))
            key = (*setting, json.dumps(run.data, sort_keys=True))
            settings.setdefault(setting, {}).setdefault(key, run.path)
            arms.setdefault(key, Arm(run.experiment, run.kind, config, (), run.data))
            lane = Lane(result["seed"], result, run.curves.get(result["run"]), run.path)
            first = lanes.setdefault(key, {}).setdefault(lane.seed, lane)
            if first is not lane:
                twice.setdefault((lane.path, first.path), []).append((result["run"], first.result == lane.result))
                continue
            for origin in ({"versions": run.versions, "device": run.device}, *run.earlier):
                origins.setdefault(key, {}).setdefault(_origin(**origin), run.path)
    remarks = [
        f"{len(those)} runs of {code(path)} are also in {code(used)}, the first is {code(those[0][0])}: "
        + "the latter are used"
        + ("" if all(alike for _, alike in those) else ", though their results differ")
        for (path, used), those in twice.items()
    ]
    remarks += [
        f"{', '.join(map(code, by_data.values()))} have the same settings, but other data: they are kept apart"
        for by_data in settings.values()
        if len(by_data) > 1
    ]
    # Swept values come from the same directories: said once.
    remarks += dict.fromkeys(
        ("seeds are put together that were" if len({*by_origin.values()}) > 1 else "the same runs were in part")
        + " made with "
        + " and ".join(f"{origin} ({code(path)})" for origin, path in by_origin.items())
        for by_origin in origins.values()
        if len(by_origin) > 1
    )
    return [replace(arm, lanes=[lanes[key][seed] for seed in sorted(lanes[key])]) for key, arm in arms.items()], remarks


def _origin(versions: Mapping[str, Any], device: Mapping[str, Any]) -> str:
    return f"jax {versions.get('jax', 'unknown')} on {device.get('kind', 'an unknown device')}"


# --- Documents --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """A table; cells are Markdown."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str


@dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes:
        path: where it goes, relative to the report, such as `figures/loss.png`.
        png: the file's bytes.
        caption: Markdown.
        alt: what it shows, for those who cannot see it.
    """

    path: str
    png: bytes
    caption: str
    alt: str


NONE = "-"
"""A cell of a table that has nothing to say."""
NOT_RUN = "not run"
"""A cell for what a study asks for and no directory has."""

Verdict = Literal["holds", "does not hold", "undecided with this many seeds"]
"""On a claim, by an interval over seeds."""
UNDECIDED: Verdict = "undecided with this many seeds"


def study_figure(study: str, kind: Kind, name: str, png: bytes, caption: str, alt: str) -> Figure:
    """A study's figure of one kind of runs."""
    return Figure(f"figures/{study}_{kind.replace(' ', '_')}_{name}.png", png, f"{caption} ({kind})", alt)


Block = str | Table | Figure
"""A paragraph (or several) of Markdown, a table, or a figure."""


@dataclass(frozen=True)
class Section:
    """A part of the report under one heading."""

    title: str
    blocks: Sequence[Block]


def code(text: object) -> str:
    """Text as Markdown code, which may be a path with any characters in it."""
    printable = str(text).encode("utf-8", "backslashreplace").decode()
    return f"`{printable.replace('`', chr(39))}`"


def paths(sources: Iterable[Path]) -> str:
    """Directories, as a cell of a table; those with the same parent are named after it."""
    siblings: dict[Path, list[Path]] = {}
    for path in sources:
        siblings.setdefault(path.parent, []).append(path)
    return "; ".join(
        ", ".join(code(path) for path in group)
        if len(group) == 1
        else f"{code(parent)}: {', '.join(code(path.name) for path in group)}"
        for parent, group in siblings.items()
    )


def interval(estimate: stats.Estimate, form: str, beyond: str = NONE) -> str:
    """An estimate as `value [low, high]`; `beyond` stands for an end that is None."""
    if estimate.low is None and estimate.high is None:
        return beyond if estimate.value is None else f"{estimate.value:{form}}"
    value, low, high = (
        beyond if end is None else f"{end:{form}}" for end in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} [{low}, {high}]"


def fraction(successes: int, trials: int) -> str:
    """A count with its share and Clopper-Pearson interval."""
    return f"{successes} of {trials}" + (f": {interval(stats.proportion(successes, trials), '.2f')}" if trials else "")


def side(estimate: stats.Estimate, threshold: float) -> int:
    """1 where the whole interval lies above the threshold, -1 where it lies below, else 0."""
    if estimate.low is None or estimate.high is None:
        return 0
    return int(estimate.low > threshold) - int(estimate.high < threshold)


def table_markdown(table: Table) -> str:
    """The table with its caption, as Markdown."""
    rows = [table.columns, ["---"] * len(table.columns), *table.rows]
    lines = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join([f"*{table.caption}*", "", *lines])


def directories_section(runs: Sequence[Run]) -> Section:
    """Every directory that was read: how it was made, and what is damaged or missing."""
    rows = [
        [
            code(run.path),
            run.kind,
            run.experiment,
            str(len(run.results)),
            f"{run.device.get('count', '?')} x {run.device['kind']}" if "kind" in run.device else "unknown",
            ", ".join(f"{name} {run.versions[name]}" for name in ("jaxrnn", "jax") if name in run.versions),
            "; ".join(run.remarks) or "complete",
        ]
        for run in runs
    ]
    columns = ("directory", "", "experiment", "runs ended", "device", "versions", "state")
    return Section("Run directories", [Table(columns, rows, "Where the numbers come from")])


def write_report(sections: Sequence[Section], out_dir: Path) -> tuple[Path, Path]:
    """Writes `report.md`, the figures that it shows, and `report.html`, which needs no other file.

    Returns:
        The paths of `report.md` and `report.html`.

    Raises:
        OSError: if a file cannot be written.
    """
    text = _markdown(sections)
    page = markdown.markdown(text, extensions=["tables"])
    page = re.sub("<code>.*?</code>", lambda found: found[0].replace(r"\|", "|"), page)  # Which GitHub's tables do.
    out_dir.mkdir(parents=True, exist_ok=True)
    for figure in (block for section in sections for block in section.blocks if isinstance(block, Figure)):
        path = out_dir / figure.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(figure.png)
        data = f"data:image/png;base64,{b64encode(figure.png).decode()}"
        page = page.replace(f'src="{html.escape(figure.path)}"', f'src="{data}"')
    markdown_path, html_path = out_dir / "report.md", out_dir / "report.html"
    markdown_path.write_text(text, encoding="utf-8")
    html_path.write_text(_PAGE.format(title=_TITLE, style=_STYLE, body=page), encoding="utf-8")
    return markdown_path, html_path


def _markdown(sections: Sequence[Section]) -> str:
    parts = [f"# {_TITLE}"]
    for section in sections:
        parts.append(f"## {section.title}")
        for block in section.blocks:
            match block:
                case Table():
                    parts.append(table_markdown(block))
                case Figure():
                    parts.append(f"![{block.alt}]({block.path})\n\n*{block.caption}*")
                case _:
                    parts.append(block)
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", r"\|").split())


_TITLE = "Results"
_STYLE = """
:root { color-scheme: light dark; }
body { max-width: 75rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.55 system-ui, sans-serif; }
h1, h2 { line-height: 1.2; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #8886; padding-bottom: .3rem; }
table { display: block; overflow-x: auto; border-collapse: collapse; font-size: .85rem;
        font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #8884; text-align: left; vertical-align: top; }
th { border-bottom-width: 2px; }
code { font-size: .85em; overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; background: white; border-radius: 4px; }
"""
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
