"""Molecules: their properties, and the distances in them: ``python -m experiments.molecules --workdir=DIR``."""

from experiments.molecules.report import STUDY as STUDY
