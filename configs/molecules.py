"""Properties of molecules, and distances in them, from their graphs.

    python -m experiments.molecules --config.dataset=esol --sweep=model=fingerprint,weave,gcn,ridge,forest,mean \
        --config.num_seeds=20 --workdir=runs/esol

Expect a test RMSE on ESOL of some 0.7 with the fingerprint, and of 0.87 with ridge on circular counts.
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from configs.base import SCHEMA, Base, Bookkeeping, Changeable, Count, Steps, make_get_config


@dataclass(frozen=True, config=SCHEMA)
class Config(Base):
    """The molecules, what is learned of them, and the model; a 0 stands for what is usual of the model."""

    task: Literal["property", "distances"] = "property"
    """A number of each molecule, or the distances between its heavy atoms."""
    dataset: str = "nci"
    """nci (400 molecules that come with RDKit), esol, freesolv, lipophilicity, cep, qm9_gap, qm9 (for distances), or
    the path of a CSV or NPZ file."""
    smiles: str = ""
    """The column of a file of your own with the SMILES; by default smiles."""
    target: str = ""
    """The column of a file of your own with what is learned."""
    refused: Literal["left_out", "fatal"] = "left_out"
    """What becomes of molecules that RDKit or the features refuse; they are listed in refused.json."""
    max_atoms: Annotated[int, Field(ge=0)] = 0
    """Molecules with more heavy atoms are refused; 0 for any number."""
    split: Literal["random", "scaffold", "folds"] = "random"
    """random: 80, 10 and 10 % for training, validation and test, another one for each seed; scaffold: the same parts
    by frequent and rare scaffolds, one for all seeds; folds: of five, the one for the test by the seed."""
    model: str = ""
    """By default fingerprint, and for distances network."""
    head: Literal["network", "linear"] = "network"
    """What reads the sum over the atoms: hidden layers, or none."""
    hidden_size: Annotated[int, Field(ge=0)] = 0
    """Features of an atom in the layers."""
    num_layers: Annotated[int, Field(ge=0)] = 0
    """Layers, the radius of what an atom sees."""
    fingerprint_size: Annotated[int, Field(ge=0)] = 0
    """Features of an atom that are summed up."""
    pair_distance: Annotated[int, Field(ge=0)] = 2
    """Weave has the pairs of atoms up to so many bonds apart; 0 for all pairs."""
    l2: Annotated[float, Field(ge=0)] = 0.0
    """So many times the mean square of the weights joins the loss."""
    learning_rate: Annotated[float, Field(ge=0)] = 0.0
    """Of Adam."""
    batch_size: Count = 100
    """Molecules of a step."""
    max_steps: Steps = 9999
    """Index of the last step."""
    eval_every: Count = 100
    """Steps from one evaluation to the next."""
    patience: Count = 20
    """A run stops after so many evaluations without a new lowest validation loss; those weights are tested."""
    chunk_steps: Annotated[Count, Bookkeeping(), Changeable()] = 100


get_config = make_get_config(Config())
