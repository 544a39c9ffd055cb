"""Runs the report's experiments and writes the page: ``python -m experiments.reproduce --preset=quick``.

Started again, it goes on where it was; what is complete is not run again.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from absl import flags

from configs.nodes import GAT
from experiments import gradients, launch, nodes, palindrome, text
from experiments.report import KEPT, report
from jaxrnn.training.loop import Interrupted

PRESETS = {
    "quick": "both cells at T=10, seeds 0 to 2, small gradients and graphs, 200 steps of the character LSTM: minutes",
    "paper": "Tables 1 and 2, both lengths: an hour or more on a CPU",
    "seeds": "100 seeds of each arm of Tables 1 and 2, and claim (d)'s widths: for an accelerator",
}


def pieces(preset: str) -> Iterator[tuple[str, launch.Experiment, dict[str, Any]]]:
    """The runs of a preset: a name for the directory, the experiment, and the config's fields."""
    num_seeds = 100 if preset == "seeds" else 3
    for digits in (10,) if preset == "quick" else (10, 20):
        for cell in ("lstm", "peephole"):
            fields = {"cell": cell, "digits": digits, "num_seeds": num_seeds}
            yield f"{cell}_t{digits}", palindrome.EXPERIMENT, fields
    if preset == "seeds":
        for width in (40, 81):
            fields = {"cell": "lstm", "digits": 20, "num_seeds": num_seeds, "embedding_size": width}
            yield f"lstm_t20_width{width}", palindrome.EXPERIMENT, fields
    yield (
        "gradients",
        gradients.EXPERIMENT,
        {
            "cells": ("rnn", "linear_rnn", "lstm", "peephole"),
            "hidden_size": 32,
            "digits": 4,
            "batch_size": 64,
            "train_steps": 300,
            "num_seeds": 2,
        },
    )
    yield "gcn_karate", nodes.EXPERIMENT, {}
    # Where all validation nodes are right for ever, patience has no end.
    yield "gat_karate", nodes.EXPERIMENT, {**dataclasses.asdict(GAT), "max_steps": 299}
    yield "text", text.EXPERIMENT, {"max_steps": 200}


def main(argv: list[str]) -> None:
    """Trains what is missing, then reports."""
    del argv
    workdir = launch.workdir()
    try:
        for name, experiment, fields in pieces(flags.FLAGS.preset):
            print(f"{workdir / name}", flush=True)
            launch.ensure(experiment, fields, workdir / name)
    except Interrupted:
        launch.interrupted("the same command")
    report(workdir, KEPT, workdir / "report")


if __name__ == "__main__":
    explained = "; ".join(f"{name}: {what}" for name, what in PRESETS.items())
    flags.DEFINE_enum("preset", "quick", list(PRESETS), explained)
    flags.DEFINE_string("workdir", "runs/reproduce", "Directory for the runs and the page.")
    launch.run_main(main)
