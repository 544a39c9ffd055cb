"""The binary: ``python -m experiments.formal --config=configs/formal.py --workdir=DIR``."""

from experiments._cli import main
from experiments.formal import STUDY

if __name__ == "__main__":
    main(STUDY)
