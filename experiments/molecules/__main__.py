"""The binary: ``python -m experiments.molecules --config=configs/molecules.py --workdir=DIR``."""

from experiments._cli import main
from experiments.molecules import STUDY

if __name__ == "__main__":
    main(STUDY)
