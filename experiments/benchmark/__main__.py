"""The binary: ``python -m experiments.benchmark``."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments import _cli
from experiments.benchmark.grid import geometric_means
from experiments.benchmark.harness import large_product, measure
from experiments.benchmark.suites import SUITES
from experiments.benchmark.tables import make_table, settings, write
from jaxrnn.rundir.directory import RunError
from jaxrnn.study.page import table_markdown


def main(names: Sequence[str], repeats: int, out: Path | None) -> None:
    """Prints a table for each comparison of the suites, and after each writes all results so far.

    Raises:
        RunError: `out` cannot be written.
    """
    used, product = settings(), large_product()
    measured: list[dict[str, Any]] = []
    try:
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
        for comparison in itertools.chain.from_iterable(SUITES[name]() for name in names):
            measured.append(measure(comparison, product, repeats))
            print(table_markdown(make_table(measured[-1], used)), end="\n\n", flush=True)
            if out is not None:  # Now, because the next comparison may need more memory or time than there is.
                write(out, {"suites": list(names), "repeats": repeats, **used}, measured)
        for table in geometric_means(measured):
            print(table_markdown(table))
    except OSError as error:
        raise RunError(f"--out={out}: cannot be written: {error.strerror}") from error


def _main() -> None:
    given = flags.FLAGS
    main(given.suite, given.repeats, Path(given.out) if given.out else None)


if __name__ == "__main__":
    flags.DEFINE_multi_enum("suite", list(SUITES), list(SUITES), "What to compare; may be given several times.")
    flags.DEFINE_integer("repeats", 5, "Timed turns, after one warm-up turn.", lower_bound=1)
    flags.DEFINE_string("out", None, "Directory for benchmark.json and benchmark.md.")
    _cli.define_data_dir()
    _cli.run(_main)
