"""Runs the experiments of Soons (2020) and writes the page.

    python -m experiments.reproduce --preset=quick
    python -m experiments.reproduce --preset=paper --workdir=runs/paper
    python -m experiments.report --runs=runs/paper

If started again, it goes on where it stopped; what is complete is not run again.
"""

import dataclasses
import importlib.util
from collections.abc import Iterator
from typing import Any

from absl import flags

import configs.forecast
import configs.formal
import configs.generate
import configs.gradients
import configs.grnn
import configs.molecules
import configs.nodes
import configs.palindrome
import configs.paths
import configs.recommend
import configs.text
from experiments import (
    _cli,
    forecast,
    formal,
    generate,
    gradients,
    grnn,
    molecules,
    nodes,
    palindrome,
    paths,
    recommend,
    text,
)
from experiments.report import ARCHIVE, report
from jaxrnn.rundir import session
from jaxrnn.rundir.session import Hooks
from jaxrnn.study.study import Study
from jaxrnn.study.summary import summarize
from jaxrnn.training.display import show_progress
from jaxrnn.training.signals import Interrupted

PRESETS = {
    "quick": "both cells at T=10, seeds 0 to 2, small gradients, graphs, paths, parity, forecasts, recommendation, a "
    "character LSTM, and digits and molecules where scikit-learn and RDKit are installed: minutes",
    "paper": "Tables 1 and 2, both lengths: an hour or more on a CPU",
    "seeds": "100 seeds of each arm of Tables 1 and 2, and claim (d)'s widths: for an accelerator",
}


def preset_runs(preset: str) -> Iterator[tuple[str, Study, Any]]:
    """The runs of a preset: a name for the directory, the study, and its config."""
    num_seeds = 100 if preset == "seeds" else 3
    widths = [palindrome.NARROW, palindrome.MIDDLE] if preset == "seeds" else []
    for setting in [*palindrome.TABLED, *widths]:
        if preset != "quick" or setting["digits"] == 10:
            name = f"{setting['cell']}_t{setting['digits']}"
            name += f"_width{setting['embedding_size']}" if setting in widths else ""
            yield name, palindrome.STUDY, configs.palindrome.Config(**setting, num_seeds=num_seeds)
    cells = ("rnn", "linear_rnn", "lstm", "peephole")
    sizes: dict[str, Any] = {"hidden_size": 32, "digits": 4, "batch_size": 64, "train_steps": 300, "num_seeds": 2}
    yield "gradients", gradients.STUDY, configs.gradients.Config(cells=cells, **sizes)
    yield "gcn_karate", nodes.STUDY, configs.nodes.Config()
    # Patience has no end if all validation nodes stay right.
    yield "gat_karate", nodes.STUDY, dataclasses.replace(configs.nodes.GAT, max_steps=299)
    yield "paths", paths.STUDY, configs.paths.Config(digits=4, depth=8, max_steps=300, num_seeds=2)
    sizes = {
        "digits": 10,
        "test_lengths": (5, 10, 20, 40),
        "hidden_size": 32,
        "max_steps": 999,
        "num_seeds": 2,
    }
    yield "formal", formal.STUDY, dataclasses.replace(configs.formal.LENGTHS, cell="rnn", **sizes)
    small: dict[str, Any] = {"num_nodes": 30, "hidden_size": 10, "test_samples": 200, "learning_rate": 3e-3}
    yield "grnn", grnn.STUDY, configs.grnn.Config(**small, max_steps=299, num_seeds=2)
    sizes = {"max_steps": 539, "hidden_size": 16}
    yield "forecast", forecast.STUDY, configs.forecast.Config(**sizes)
    yield "recommend", recommend.STUDY, configs.recommend.Config(hidden_size=16, max_steps=249, num_seeds=2)
    yield "text", text.STUDY, configs.text.Config(max_steps=200)
    if _is_installed("sklearn", "digits, which come with scikit-learn"):
        yield "digits", nodes.STUDY, dataclasses.replace(configs.nodes.DIGITS, train_per_class=5)
    if _is_installed("rdkit", "molecules, which RDKit reads"):
        for model in ("fingerprint", "ridge"):
            yield f"molecules_{model}", molecules.STUDY, configs.molecules.Config(model=model, max_steps=999)
        sizes = {"calls": 200, "batch_size": 40, "max_atoms": 12, "hidden_size": 16, "moves_per_step": 64}
        yield "generate", generate.STUDY, configs.generate.Config(**sizes, eval_batches=1, num_seeds=2)


def _is_installed(package: str, what: str) -> bool:
    if found := importlib.util.find_spec(package):
        return bool(found)
    print(f"left out: {what}; {package} is not installed", flush=True)
    return False


def reproduce() -> None:
    """Trains what is missing, then reports."""
    workdir = _cli.workdir()
    try:
        for name, study, config in preset_runs(flags.FLAGS.preset):
            print(f"{workdir / name}", flush=True)
            with show_progress() as progress:
                session.ensure(study, config, workdir / name, Hooks(progress))
            print(*summarize(study, workdir / name), sep="\n", flush=True)
    except Interrupted:
        _cli.interrupted("the same command")
    report([workdir], ARCHIVE, workdir / "report")


if __name__ == "__main__":
    explained = "; ".join(f"{name}: {what}" for name, what in PRESETS.items())
    flags.DEFINE_enum("preset", "quick", list(PRESETS), explained)
    flags.DEFINE_string("workdir", "runs/reproduce", "Directory for the runs and the page.")
    _cli.run(reproduce)
