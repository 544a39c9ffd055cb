"""Turns run directories into tables, figures and one page.

python -m experiments.report --runs=runs --out=report
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

from absl import app, flags

from experiments import palindrome_report
from jaxrnn.report import Table, directories_section, read_runs, table_markdown, write_report

STUDIES = {palindrome_report.EXPERIMENT: palindrome_report.sections}

_RUNS = flags.DEFINE_string("runs", "runs", "directory that holds the run directories made on this machine")
_KEPT = flags.DEFINE_string("kept", None, "directory that holds the kept results, by default experiments/results")
_OUT = flags.DEFINE_string("out", "report", "directory for report.html, report.md and the figures")


def main(argv: list[str]) -> int:
    """Prints the tables and writes the page; returns the exit code."""
    if len(argv) > 1:
        return _fail(f"stray argument {argv[1]!r}: the report takes the flags --runs, --kept and --out only")
    for flag in (_RUNS, _KEPT):
        if flag.value is not None and not Path(flag.value).is_dir():
            return _fail(f"--{flag.name}={flag.value}: no such directory; it must hold run directories")
    kept = Path(_KEPT.value or os.path.relpath(Path(__file__).parent / "results"))
    runs = [*read_runs(kept, "kept"), *read_runs(Path(_RUNS.value), "this machine")]
    if not runs:
        return _fail(f"--runs={_RUNS.value}: no run found there, and no kept results in {kept}")
    runs = [
        run if run.experiment in STUDIES or not run.experiment
        else replace(run, remarks=[*run.remarks, "no study reports on this experiment"])
        for run in runs
    ]  # fmt: skip
    sections = [section for study in STUDIES.values() for section in study(runs)]
    sections.append(directories_section(runs))
    try:
        written = write_report(sections, Path(_OUT.value))
    except OSError as error:
        return _fail(f"--out={_OUT.value}: cannot write there ({error.strerror}): {error.filename}")
    for table in (block for section in sections for block in section.blocks if isinstance(block, Table)):
        print(table_markdown(table), end="\n\n")
    print(f"Written: {', '.join(map(str, written))} and the figures beside them")
    return 0


def _fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    app.run(main)
