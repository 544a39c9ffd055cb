"""Recommendation: ratings, or the items that a user takes next, from the graph of users and items."""

from experiments.recommend.report import STUDY as STUDY
