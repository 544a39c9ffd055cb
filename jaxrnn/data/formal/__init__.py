"""Tasks on sequences, one file for each: a new task is a file here with a `TASK`."""

import importlib
import pkgutil

from jaxrnn.data.formal.task import SequenceTask

_MODULES = {
    module.name: importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)
}
TASKS: dict[str, SequenceTask] = {name: module.TASK for name, module in _MODULES.items() if hasattr(module, "TASK")}
"""All tasks by the names of their files."""
