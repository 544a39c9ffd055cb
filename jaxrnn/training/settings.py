"""JAX's own settings, ``JAX_NAME`` in the environment, that change numbers or how programs run."""

from typing import Any

import jax

_NUMBERS = {
    "jax_enable_x64": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_high_dynamic_range_gumbel": False,
    "jax_softmax_custom_jvp": False,
    "jax_allow_f16_reductions": True,
    "jax_numpy_dtype_promotion": "standard",
    "jax_use_direct_linearize": True,
}
"""Those that change numbers, with JAX's defaults."""
_COMPILER = {
    "jax_disable_most_optimizations": False,
    "jax_optimization_level": "UNKNOWN",
    "jax_exec_time_optimization_effort": 0.0,
    "jax_memory_fitting_level": "O2",
    "jax_memory_fitting_effort": 0.0,
    "jax_compiler_enable_remat_pass": True,
}
"""How well programs are compiled, which changes the last digits: the choice of the user, like the precision."""
_CHECKS = {
    "jax_numpy_rank_promotion": "allow",
    "jax_disable_jit": False,
    "jax_transfer_guard": "allow",
    # A run that diverges ends by itself, and masked sums have infinities.
    "jax_debug_nans": False,
    "jax_debug_infs": False,
}
"""Those under which programs are refused, or never compiled."""


def unusual() -> dict[str, Any]:
    """The settings that change numbers and differ from JAX's defaults, by name."""
    return _others(_NUMBERS | _COMPILER)


def pin() -> dict[str, Any]:
    """Resets settings to JAX's defaults, so that a program means the same everywhere; returns those that differed.

    The precision of products, the devices and the compiler's levels stay as they are.
    """
    passed_over = _others(_NUMBERS | _CHECKS)
    for name in passed_over:
        jax.config.update(name, (_NUMBERS | _CHECKS)[name])
    return passed_over


def _others(values: dict[str, Any]) -> dict[str, Any]:
    # A version may lack some; some are members of an enumeration.
    found = {name: value for name, value in jax.config.values.items() if name in values}
    plain = {name: getattr(value, "value", value) for name, value in found.items()}
    return {name: value for name, value in plain.items() if value is not None and value != values[name]}
