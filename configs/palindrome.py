"""The palindromes of Soons (2020): a recurrent classifier predicts the last bit of a binary palindrome.

    python -m experiments.palindrome --config=configs/palindrome.py --config.cell=lstm --config.digits=10 \
        --config.num_seeds=3 --workdir=runs/lstm10

Expect every LSTM run of 10 digits to converge within some hundred steps, and a test accuracy of 1.00 (Soons 2020,
Table 1: 300, 300 and 360 steps).
"""

from ml_collections import ConfigDict

from configs.base import fields_of
from configs.formal import Config as Config


def get_config() -> ConfigDict:
    """The setting of Soons (2020), ready for ``--config.FIELD=VALUE``."""
    return fields_of(Config())
