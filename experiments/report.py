"""Turns run directories into tables, figures, verdicts and one page.

    python -m experiments.report --runs=runs --out=report
    python -m experiments.report --runs=runs/sweep --runs=runs/lstm10 --out=report
    python -m experiments.report

The page compares the reader's own runs, and shows what the archive says about each study's claims. Every study in this
package is found by its `STUDY`.
"""

import contextlib
import importlib
import pkgutil
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags

import experiments
from experiments import _cli
from jaxrnn.data.files import expand
from jaxrnn.rundir.directory import RunError
from jaxrnn.rundir.read import Directory, read_directories
from jaxrnn.study.arms import Source
from jaxrnn.study.page import Section, markdown_parts, write_page
from jaxrnn.study.report import make_sections
from jaxrnn.study.study import Study

ARCHIVE = _cli.ROOT / "experiments" / "results"
NO_ARCHIVE = "none"


def find_studies() -> list[Study]:
    """The `STUDY` of every module of this package that has one."""
    names = [name for _, name, _ in pkgutil.iter_modules(experiments.__path__) if not name.startswith("_")]
    modules = [importlib.import_module(f"experiments.{name}") for name in names]
    return [module.STUDY for module in modules if hasattr(module, "STUDY")]


def read(runs: Sequence[Path], archive: Path | None) -> list[tuple[Directory, Source]]:
    """The archived directories, then the reader's own, each once."""
    roots: list[tuple[Path, Source]] = [(archive, "archive")] if archive else []
    roots += [(root, "own") for root in runs]
    found: dict[Path, tuple[Directory, Source]] = {}
    for root, source in roots:
        path, here = root.resolve(), Path.cwd()
        # Relative paths read better on the page, and say nothing about this machine.
        for directory in read_directories(path.relative_to(here) if path.is_relative_to(here) else root):
            found.setdefault(directory.path.resolve(), (directory, source))
    return list(found.values())


def report(runs: Sequence[Path], archive: Path | None, out: Path, reference: str = "", watch: int = 0) -> None:
    """Writes the page, and prints its summary.

    If `watch` is not 0, it first renews the page every `watch` seconds until all runs have ended or Ctrl-C is pressed.
    A browser that shows the page follows.

    Raises:
        RunError: there is nothing to report, or the page cannot be written.
    """
    with contextlib.suppress(KeyboardInterrupt):
        while watch:
            directories, _, (_, html_path) = _write(runs, archive, out, reference, watch)
            own = [directory for directory, source in directories if source == "own"]
            if all(directory.complete for directory in own):
                break
            ended = sum(run.result is not None for directory in own for run in directory.runs)
            print(f"{time.strftime('%X')}: {ended} runs have ended; renewed {html_path}", flush=True)
            time.sleep(watch)
    _, sections, (markdown_path, html_path) = _write(runs, archive, out, reference)
    parts = [part for block in sections[0].blocks for part in markdown_parts(block, 1)]
    print(*(part for part in parts if not part.startswith("![")), sep="\n\n", end="\n\n")
    print(f"The page with all figures: {html_path}\nThe same in Markdown: {markdown_path}")


def _write(
    runs: Sequence[Path], archive: Path | None, out: Path, reference: str, refresh: int = 0
) -> tuple[list[tuple[Directory, Source]], list[Section], tuple[Path, Path]]:
    directories = read(runs, archive)
    if not directories:
        raise RunError(f"--runs={','.join(map(str, runs))}: no run directory found there")
    sections = make_sections(find_studies(), directories, reference)
    try:
        return directories, sections, write_page("Results", sections, out, refresh)
    except OSError as error:
        raise RunError(f"--out={out}: cannot be written: {error.strerror}: {error.filename}") from error


def main() -> None:
    """Reads the flags."""
    runs = [expand(path) for given in flags.FLAGS.runs for path in given.split(",")]
    archive = flags.FLAGS.archive
    for name, path in (*(("runs", path) for path in runs), ("archive", expand(archive))):
        if not path.is_dir() and flags.FLAGS[name].present and str(path) != NO_ARCHIVE:
            raise RunError(f"--{name}={path}: no such directory; it should hold run directories")
    given = flags.FLAGS
    report(runs, None if archive == NO_ARCHIVE else expand(archive), expand(given.out), given.reference, given.watch)


if __name__ == "__main__":
    flags.DEFINE_multi_string(
        "runs", ["runs"], "Run directories, or directories that hold some; several with commas, or flag by flag."
    )
    flags.DEFINE_string("archive", str(ARCHIVE), f"Directory of the archived results; {NO_ARCHIVE}: your runs alone.")
    flags.DEFINE_string(
        "reference",
        "",
        "A part of the name of the arm that others are compared with; by default the first arm in the sweep of the "
        "directory whose config is nearest to its defaults.",
    )
    flags.DEFINE_string("out", "report", "Directory for report.html, report.md and the figures.")
    flags.DEFINE_integer(
        "watch", 0, "Seconds between renewals of the page, until all runs have ended or Ctrl-C.", lower_bound=0
    )
    _cli.run(main)
