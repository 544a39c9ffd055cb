"""Properties of molecules, and distances in them, from their graphs.

    python -m experiments.molecules --config.dataset=esol --sweep=model=fingerprint,weave,gcn,ridge,forest,mean \
        --config.num_seeds=20 --workdir=runs/esol

Expect a test RMSE on ESOL of about 0.7 with the fingerprint, and of 0.87 with ridge on circular counts.
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from configs.base import SCHEMA, Base, Bookkeeping, Changeable, Count, Steps, make_get_config


@dataclass(frozen=True, config=SCHEMA)
class Config(Base):
    """The molecules, what is learned about them, and the model; 0 is a model's usual size, or no limit."""

    task: Literal["property", "distances"] = "property"
    """A number for each molecule, or the distances between its heavy atoms."""
    dataset: str = "nci"
    """nci (400 molecules that come with RDKit), esol, freesolv, lipophilicity, cep, qm9_gap, qm9 (for distances), or
    the path of a CSV or NPZ file."""
    smiles: str = ""
    """The column with the SMILES in a file of your own; by default smiles."""
    target: str = ""
    """The column with the property that is learned in a file of your own."""
    refused: Literal["left_out", "fatal"] = "left_out"
    """What happens to molecules that RDKit or the features refuse; they are listed in refused.json."""
    max_atoms: Annotated[int, Field(ge=0)] = 0
    """Molecules with more heavy atoms are refused; 0 for any number."""
    split: Literal["random", "scaffold", "folds"] = "random"
    """random: 80, 10 and 10 % for training, validation and test, another split for each seed; scaffold: the same
    shares by frequent and rare scaffolds, one split for all seeds; folds: the seed says which of five is the test."""
    model: str = ""
    """The model; by default fingerprint, and network for distances."""
    head: Literal["network", "linear"] = "network"
    """What reads the sum over the atoms: a network with hidden layers, or a linear layer."""
    hidden_size: Annotated[int, Field(ge=0)] = 0
    """Features of an atom in the layers."""
    num_layers: Annotated[int, Field(ge=0)] = 0
    """Layers, and so the radius of what an atom sees."""
    fingerprint_size: Annotated[int, Field(ge=0)] = 0
    """Features of an atom that are summed up."""
    pair_distance: Annotated[int, Field(ge=0)] = 2
    """Weave has the pairs of atoms up to this many bonds apart; 0 for all pairs."""
    l2: Annotated[float, Field(ge=0)] = 0.0
    """Factor of the mean square of the weights, which is added to the loss."""
    learning_rate: Annotated[float, Field(ge=0)] = 0.0
    """Learning rate of Adam."""
    batch_size: Count = 100
    """Molecules per step."""
    max_steps: Steps = 9999
    """Index of the last step."""
    eval_every: Count = 100
    """Steps from one evaluation to the next."""
    patience: Count = 20
    """A run stops after this many evaluations without a new lowest validation loss; the weights with the lowest are
    tested."""
    chunk_steps: Annotated[Count, Bookkeeping(), Changeable()] = 100


get_config = make_get_config(Config())
