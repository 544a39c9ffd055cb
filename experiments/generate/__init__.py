"""Molecules that a graph policy builds towards a goal: ``python -m experiments.generate --workdir=DIR``."""

from experiments.generate.report import STUDY as STUDY
