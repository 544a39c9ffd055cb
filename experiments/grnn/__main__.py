"""The binary: ``python -m experiments.grnn --config=configs/grnn.py --workdir=DIR``."""

from experiments._cli import main
from experiments.grnn import STUDY

if __name__ == "__main__":
    main(STUDY)
