"""Trains forecasters: ``python -m experiments.forecast --config.dataset=NAME --workdir=DIR``."""

from experiments._cli import main
from experiments.forecast import STUDY

if __name__ == "__main__":
    main(STUDY)
