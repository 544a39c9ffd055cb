"""The palindromes of Soons (2020): a recurrent classifier predicts the last bit of a binary palindrome.

    python -m experiments.palindrome --config=configs/palindrome.py --config.cell=lstm --config.digits=10 \
        --config.num_seeds=3 --workdir=runs/lstm10

Expect every LSTM run of 10 digits to converge within a few hundred steps, and a test accuracy of 1.00 (Soons 2020,
Table 1: 300, 300 and 360 steps).
"""

from configs.base import make_get_config
from configs.formal import Config as Config

get_config = make_get_config(Config())
