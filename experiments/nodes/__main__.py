"""The binary: ``python -m experiments.nodes --config=configs/nodes.py:gcn --workdir=DIR``."""

from experiments._cli import main
from experiments.nodes import STUDY

if __name__ == "__main__":
    main(STUDY)
