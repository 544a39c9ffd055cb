"""The binary: ``python -m experiments.gradients --config=configs/gradients.py --workdir=DIR``."""

from experiments._cli import main
from experiments.gradients import STUDY

if __name__ == "__main__":
    main(STUDY)
