"""Formal languages: ``python -m experiments.formal --sweep=task=parity,reverse_string --sweep=cell=rnn,lstm``."""

from experiments.formal.build import CHOICES as CHOICES
from experiments.formal.build import build as build
from experiments.formal.build import build_model as build_model
from experiments.formal.build import check as check
from experiments.formal.build import check_layers as check_layers
from experiments.formal.report import ARMS as ARMS
from experiments.formal.report import CELL_NAMES as CELL_NAMES
from experiments.formal.report import STUDY as STUDY
from experiments.formal.report import TEST_ACCURACY as TEST_ACCURACY
