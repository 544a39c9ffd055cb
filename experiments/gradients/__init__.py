"""Gradients through time (Soons 2020, Questions 1.1 and 1.2): ``python -m experiments.gradients --workdir=DIR``."""

from experiments.gradients.report import STUDY as STUDY
