"""Trains the character LSTM: ``python -m experiments.text --config=configs/text.py --workdir=DIR``."""

from experiments._cli import main
from experiments.text import STUDY

if __name__ == "__main__":
    main(STUDY)
