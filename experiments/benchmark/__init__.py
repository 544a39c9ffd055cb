"""Measures what training and generation cost with jaxrnn and its peers, and the rate of large matrix products.

The peers are Flax and, where they are installed, PyTorch (on a GPU its LSTM is cuDNN's), PyTorch Geometric,
PyTorch Geometric Temporal and memax.

    python -m experiments.benchmark --suite=text --suite=sampling --repeats=5 --out=runs/benchmark

Variants take turns in one process because a machine's speed drifts; only times of the same turn are compared. Expect
ten minutes on two idle CPU cores. Numbers from busy cores are worthless: PyTorch's threads wait for each other at every
operation, so other work slows PyTorch far more than XLA. The load before the start is recorded with the numbers.
Without ``--out``, the tables are printed and nothing is written.
"""
