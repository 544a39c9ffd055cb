"""Tasks on sequences of symbols, a file each. A new task is one more entry of `TASKS`."""

from collections.abc import Callable

from jaxrnn.data.formal import baum_sweet, palindrome, random_combinations
from jaxrnn.data.formal.task import SequenceTask

TASKS: dict[str, Callable[[int], SequenceTask]] = {
    "palindrome": palindrome.task,
    "baum_sweet": baum_sweet.task,
    "random_combinations": random_combinations.task,
}
"""All tasks by name: ``TASKS[name](digits)``."""
