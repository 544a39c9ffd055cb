"""The binary: ``python -m experiments.generate --config=configs/generate.py --workdir=DIR``."""

from experiments._cli import main
from experiments.generate import STUDY

if __name__ == "__main__":
    main(STUDY)
