"""Initializers of a cell's parameters: functions ``initializer(key, name, shape, hidden_size)``.

A name joins a gate and a role: ``g_x`` and ``g_h`` multiply input and carry, ``g_b`` is a bias, ``i_p`` a peephole.
"""

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Initializer, Key


def kaiming(key: Key, name: str, shape: tuple[int, ...], hidden_size: int) -> Array:
    """The rule of Soons (2020): normal with standard deviation ``gain / sqrt(shape[1])``; vectors are zero.

    The gain is 5/3 for the tanh candidate ``g`` of an LSTM and 1 elsewhere. It is PyTorch's ``kaiming_normal_`` applied
    to ``[in, out]`` matrices, where "fan in" becomes the second dimension.
    """
    del hidden_size
    if len(shape) == 1:
        return jnp.zeros(shape)
    gain = 5 / 3 if name.startswith("g_") else 1.0
    return gain / shape[1] ** 0.5 * jax.random.normal(key, shape)


def torch_uniform(key: Key, name: str, shape: tuple[int, ...], hidden_size: int) -> Array:
    """PyTorch's default for `nn.LSTM`, `nn.GRU`, `nn.RNN` and the head: ``U(-1/sqrt(H), 1/sqrt(H))`` everywhere.

    A bias ``*_b`` is the sum of two draws, since it stands for PyTorch's ``b_ih + b_hh``.
    """
    draws = 2 if name.endswith("_b") else 1
    bound = hidden_size**-0.5
    return jax.random.uniform(key, (draws, *shape), minval=-bound, maxval=bound).sum(0)


def orthogonal(spectral_radius: Array | float) -> Initializer:
    """`kaiming`, but matrices ``*_h [H, H]``, which multiply a carry, are orthogonal times `spectral_radius`."""

    def initializer(key: Key, name: str, shape: tuple[int, ...], hidden_size: int) -> Array:
        if name.endswith("_h"):
            return spectral_radius * jax.random.orthogonal(key, shape[0])
        return kaiming(key, name, shape, hidden_size)

    return initializer


INITIALIZERS: dict[str, Initializer] = {"kaiming": kaiming, "torch": torch_uniform}
