"""The character LSTM: a generative model of any text (Soons 2020, Question 2)."""

from experiments.text.build import IMPORTED as IMPORTED
from experiments.text.build import build_model as build_model
from experiments.text.build import load_corpus as load_corpus
from experiments.text.build import restore as restore
from experiments.text.report import STUDY as STUDY
