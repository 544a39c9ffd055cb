"""Run directories to tables, figures and one page: ``python -m experiments.report --runs=runs --out=report``."""

import os
from dataclasses import replace
from pathlib import Path

from absl import flags

from experiments import (
    gradients_report,
    graph_memory,
    launch,
    nodes_report,
    palindrome_report,
    soak_report,
    text_report,
    toy_graph,
)
from jaxrnn.rundir.directory import RunError
from jaxrnn.study.report import Table, directories_section, read_runs, table_markdown, write_report

_REPORTS = (palindrome_report, gradients_report, text_report, nodes_report, toy_graph, graph_memory, soak_report)
STUDIES = {report.EXPERIMENT: report.sections for report in _REPORTS}
KEPT = launch.ROOT / "experiments" / "results"


def report(runs_dir: Path, kept_dir: Path, out_dir: Path) -> None:
    """Prints the tables of all runs below two directories, and writes the page with the figures.

    Raises:
        RunError: if there is nothing to report, or the page cannot be written.
    """
    # Relative paths read better on the page, and say nothing of this machine.
    kept = read_runs(Path(os.path.relpath(kept_dir)), "kept")
    known = {run.path.resolve() for run in kept}
    own = [run for run in read_runs(runs_dir, "this machine") if run.path.resolve() not in known]
    runs = [*kept, *own]
    if not runs:
        raise RunError(f"--runs={runs_dir}: no run found there, and no kept results in {kept_dir}")
    unknown = "no study reports on this experiment"
    runs = [
        run if run.experiment in STUDIES or not run.experiment else replace(run, remarks=[*run.remarks, unknown])
        for run in runs
    ]
    sections = [section for study in STUDIES.values() for section in study(runs)]
    sections.append(directories_section(runs))
    try:
        markdown_path, html_path = write_report(sections, out_dir)
    except OSError as error:
        raise RunError(f"--out={out_dir}: cannot be written: {error.strerror}: {error.filename}") from error
    for table in (block for section in sections for block in section.blocks if isinstance(block, Table)):
        print(table_markdown(table), end="\n\n")
    print(f"The page with all figures: {html_path}\nThe same in Markdown: {markdown_path}")


def main(argv: list[str]) -> None:
    """Reads the flags."""
    del argv
    runs_dir, kept_dir = Path(flags.FLAGS.runs), Path(flags.FLAGS.kept)
    for name, path in (("runs", runs_dir), ("kept", kept_dir)):
        if not path.is_dir() and flags.FLAGS[name].present:
            raise RunError(f"--{name}={path}: no such directory; it should hold run directories")
    report(runs_dir, kept_dir, Path(flags.FLAGS.out))


if __name__ == "__main__":
    flags.DEFINE_string("runs", "runs", "Directory that holds the run directories made on this machine.")
    flags.DEFINE_string("kept", str(KEPT), "Directory that holds the kept results.")
    flags.DEFINE_string("out", "report", "Directory for report.html, report.md and the figures.")
    launch.run_main(main)
