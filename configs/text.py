"""The character LSTM: a generative model of any text.

    python -m experiments.text --config=configs/text.py --config.corpus=grimm --config.encoding=latin-1 \
        --workdir=runs/grimm

Expect a training accuracy of 0.70 to 0.75 after 40 000 steps on Grimm's fairy tales (Soons 2020, Figure 3).
"""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from configs.base import (
    SCHEMA,
    Absent,
    Bookkeeping,
    Changeable,
    Count,
    Fraction,
    Growing,
    Layers,
    Rate,
    Steps,
    make_get_config,
)


@dataclass(frozen=True, config=SCHEMA)
class Config(Layers):
    """Hyperparameters; the defaults are those of Soons (2020), Table 3, on a text that needs no download."""

    corpus: Annotated[str, Changeable()] = "pydoc"
    """pydoc (Python's own reference, always there), grimm, democracy, darwin, or the path of a text file.
    When a run is resumed, the digest of the text is compared; the file may have moved."""
    encoding: str = "utf-8"
    """Encoding of the file; the author of Soons (2020) read the books as latin-1; utf-8-sig drops a byte order mark."""
    document_separator: Annotated[str, Absent("")] = ""
    """Character that begins each document of the text or stands between documents, such as a line end, $'\\n' in a
    shell. The model starts anew there. By default, the text is one document."""
    cell: str = "lstm"
    """The cell of all layers."""
    num_layers: Count = 2
    """Recurrent layers."""
    hidden_size: Count = 512
    """Hidden units of a layer."""
    embedding_size: Count = 60
    """Width of a character's embedding."""
    seq_length: Count = 30
    """Characters per window."""
    batch_size: Count = 64
    """Windows per step."""
    carry_state: bool = False
    """Read the text in order and carry the state from window to window (truncated backpropagation through time)."""
    learning_rate: Rate = 2e-3
    learning_rate_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor by which the learning rate is multiplied over 1000 steps."""
    clip_norm: Rate = 5.0
    """Largest global norm of the gradient."""
    max_steps: Steps = 40_000
    eval_every: Count = 100
    sample_steps: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Bookkeeping()] = (2000, 10_000, 40_000)
    """Steps after which the model writes samples and its weights are saved; the last step is always one of them."""
    validation_fraction: Fraction = 0.0
    """Share of the text for validation, after the training text."""
    test_fraction: Fraction = 0.0
    """Share of the text for the test, at its end."""
    chunk_steps: Annotated[Count, Bookkeeping(), Changeable()] = 20
    num_seeds: Annotated[Count, Bookkeeping(), Growing()] = 1


get_config = make_get_config(Config())
