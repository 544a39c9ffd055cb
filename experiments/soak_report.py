"""The part of the report on what runs and files had to survive: the record of ``make soak``."""

from collections.abc import Sequence

from pydantic import BaseModel

from jaxrnn.study.report import Run, Section, Table, paths, valid_runs

EXPERIMENT = "soak"
CAPTION = "What was tried, and how often; nothing was lost"


class _Setting(BaseModel):
    command: str


class _Tried(BaseModel):
    run: str
    times: int


def sections(runs: Sequence[Run]) -> list[Section]:
    """The study's section, from each record of the tests."""
    found, remarks = valid_runs([run for run in runs if run.experiment == EXPERIMENT and run.results], _Setting, _Tried)
    if not found and not remarks:
        return []
    rows = [
        [tried.run, str(tried.times), paths([run.path])]
        for run in found
        for tried in map(_Tried.model_validate, run.results)
    ]
    about = (
        "Real processes and real files, by `make soak`; one of these that had lost anything, or had ended in more than "
        "one clear line, would have left no record."
    )
    return [
        Section(
            "Faults and inputs that were tried", [about, Table(["what", "times", "source"], rows, CAPTION), *remarks]
        )
    ]
