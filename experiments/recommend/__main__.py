"""Trains recommenders: ``python -m experiments.recommend --config.dataset=NAME --workdir=DIR``."""

from experiments._cli import main
from experiments.recommend import STUDY

if __name__ == "__main__":
    main(STUDY)
