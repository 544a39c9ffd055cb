"""Node classification on graphs, and on digits and documents, which are made into graphs."""

from experiments.nodes.build import build as build
from experiments.nodes.build import build_model as build_model
from experiments.nodes.build import check as check
from experiments.nodes.build import inputs as inputs
from experiments.nodes.report import STUDY as STUDY
