"""Graph recurrent networks: ``python -m experiments.grnn --config.model=grnn --workdir=DIR``."""

from experiments.grnn.report import STUDY as STUDY
