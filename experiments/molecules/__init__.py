"""Properties of molecules, and the distances in them: ``python -m experiments.molecules --workdir=DIR``."""

from experiments.molecules.predict import in_words as in_words
from experiments.molecules.predict import predict as predict
from experiments.molecules.report import STUDY as STUDY
