"""A graph policy that builds molecules towards a goal (You et al. 2018), by proximal policy optimisation.

    python -m experiments.generate --config.reward=qed --config.calls=50000 --config.num_seeds=10 --workdir=runs/qed

Expect a mean drug-likeness of the last 1000 molecules above 0.7, where untaught moves get about 0.32.
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from configs.base import SCHEMA, Bookkeeping, Count, Fraction, Growing, Rate, Seeds, make_get_config


@dataclass(frozen=True, config=SCHEMA)
class Config(Seeds):
    """What is rewarded, how many molecules are scored, and the policy."""

    reward: Literal["qed", "plogp"] = "qed"
    """qed is drug-likeness. plogp is penalised logP: the octanol-water partition minus the synthetic accessibility and
    the excess of the largest ring over six atoms, each standardised by its mean and deviation over ZINC."""
    model: str = "policy"
    """Always policy; the baselines beside it on the page have other names and come by themselves."""
    calls: Annotated[Count, Growing()] = 50_000
    """Molecules of the policy that are scored; each other way to find molecules has as many scored."""
    batch_size: Annotated[int, Field(ge=1, le=1000)] = 100
    """Molecules that are built and scored at a time."""
    max_atoms: Annotated[int, Field(ge=2, le=64)] = 38
    """Largest number of heavy atoms in a molecule."""
    hidden_size: Count = 32
    """Features of an atom."""
    num_layers: Count = 3
    """Graph convolutions, and so the radius of what an atom sees."""
    learning_rate: Rate = 5e-4
    """Learning rate of Adam."""
    steps_per_batch: Annotated[int, Field(ge=1, le=1000)] = 8
    """Updates of the policy after each batch of molecules."""
    moves_per_step: Count = 256
    """Moves per update, drawn from those of the batch."""
    clip: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Largest distance from 1 of the factor by which an update changes the probability of a move."""
    entropy: Annotated[float, Field(ge=0)] = 0.01
    """Weight of the policy's entropy, which keeps molecules different."""
    trace: Fraction = 0.95
    """Lambda of the generalised advantages."""
    eval_batches: Count = 10
    """Batches from one evaluation to the next."""
    runs_per_program: Annotated[int, Field(ge=0), Bookkeeping()] = 0
    """Runs that share a program; 0 is the fastest choice: one on each core of a CPU, all on an accelerator."""
    init_from: str = ""
    """Digest of the weights that runs start from; --init_from sets it."""


get_config = make_get_config(Config())
