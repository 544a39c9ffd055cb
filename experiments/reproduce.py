"""Runs the report's experiments and writes the page: ``python -m experiments.reproduce --preset=quick``.

Started again, it goes on where it was; what is complete is not run again.
"""

from collections.abc import Iterator
from typing import Any

from absl import flags

from experiments import launch, palindrome
from experiments.report import KEPT, report
from jaxrnn.loop import Interrupted

PRESETS = {
    "quick": "both cells at T=10, the report's seeds 0 to 2: minutes",
    "paper": "Tables 1 and 2, both lengths: an hour or more on a CPU",
    "seeds": "100 seeds of each, and claim (d)'s widths: for an accelerator",
}


def pieces(preset: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The runs of a preset: a name for the directory, and the config's fields."""
    num_seeds = 100 if preset == "seeds" else 3
    for digits in (10,) if preset == "quick" else (10, 20):
        for cell in ("lstm", "peephole"):
            yield f"{cell}_t{digits}", {"cell": cell, "digits": digits, "num_seeds": num_seeds}
    if preset == "seeds":
        for width in (40, 81):
            fields = {"cell": "lstm", "digits": 20, "num_seeds": num_seeds, "embedding_size": width}
            yield f"lstm_t20_width{width}", fields


def main(argv: list[str]) -> None:
    """Trains what is missing, then reports."""
    del argv
    workdir = launch.workdir()
    try:
        for name, fields in pieces(flags.FLAGS.preset):
            print(f"{workdir / name}", flush=True)
            launch.ensure(palindrome.EXPERIMENT, fields, workdir / name)
    except Interrupted:
        launch.interrupted("the same command")
    report(workdir, KEPT, workdir / "report")


if __name__ == "__main__":
    explained = "; ".join(f"{name}: {what}" for name, what in PRESETS.items())
    flags.DEFINE_enum("preset", "quick", list(PRESETS), explained)
    flags.DEFINE_string("workdir", "runs/reproduce", "Directory for the runs and the page.")
    launch.run_main(main)
