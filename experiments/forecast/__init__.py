"""Forecasts of signals on a graph: traffic, epidemics, anything in two CSV files."""

from experiments.forecast.report import STUDY as STUDY
