"""What a study declares; everything that is printed about it follows from this record."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from jaxrnn.rundir.read import Curve, Directory, Run
from jaxrnn.study.arms import Arm, ArmScheme, Found, Setting, Source
from jaxrnn.study.claims import Claim
from jaxrnn.study.format import NONE, NOT_RUN
from jaxrnn.study.page import Block, Table
from jaxrnn.study.quantities import Quantity, TimeToEvent

if TYPE_CHECKING:
    from jaxrnn.rundir.directory import RunDirectory
    from jaxrnn.training.definition import Training

Row = Mapping[str, Any]
"""A run's row of ``results.json``."""
ArmChoice = Sequence[Setting] | Callable[[Arm], bool] | None
"""Arms by their settings, or those for which a function is true; None for all."""


@dataclass(frozen=True, eq=False)
class Measured:
    """A complete directory of a study that trains nothing, with its config and its rows of ``results.json``.

    `source` is a numbered link to it, and `suffix` ends the names of its figures; it is empty for the first directory.
    """

    directory: Directory
    config: Any
    rows: Sequence[Any]
    source: str
    suffix: str

    @property
    def curves(self) -> dict[str, Curve]:
        """By run; every run has one."""
        return {run.name: run.curve for run in self.directory.runs if run.curve is not None}


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a study's tables and figures are made from.

    Attributes:
        directories: of this study, in the order of their paths.
        cite: numbered links to the run directories at these paths.
        measured: of a study that trains nothing, its complete directories.
    """

    found: Found
    directories: Sequence[Directory]
    cite: Callable[[Sequence[Path]], str]
    measured: Sequence[Measured] = ()

    @property
    def sources(self) -> list[Source]:
        """Archive and own, as far as there are arms of them."""
        return sorted({arm.source for arm in self.found.arms})

    def rows(self, choice: ArmChoice = None) -> list[tuple[str, Arm | None]]:
        """Titles and arms, from each source; complete arms only.

        A setting that no directory has comes once, without an arm.
        """
        if choice is None or callable(choice):
            chosen = [arm for arm in self.found.arms if arm.is_complete and (choice is None or choice(arm))]
            return [(self.title(arm), arm) for arm in chosen]
        rows: list[tuple[str, Arm | None]] = []
        for setting in choice:
            arms = [arm for source in self.sources if (arm := self.found.arm(setting, source))]
            rows += [(self.title(arm), arm) for arm in arms] or [(self.found.title(setting), None)]
        return rows

    def table(self, caption: str, rows: Sequence[tuple[str, Arm | None, Mapping[str, str]]]) -> Table:
        """A table of titles, cells by heading, and links to the arms' directories; a row may lack some cells."""
        heads = list(dict.fromkeys(head for _, _, cells in rows for head in cells))
        table = [
            [title, *(cells.get(head, NONE) for head in heads), self.cite(arm.paths if arm else [])]
            for title, arm, cells in rows
        ]
        return Table(caption, ["arm", *heads, "source"], table)

    def title(self, arm: Arm) -> str:
        """The arm's title; with its source where there are two."""
        mine = " (yours)" if arm.source == "own" and len(self.sources) > 1 else ""
        return arm.title + mine


Show = Callable[[Evidence], Sequence[Block]]
"""Tables, figures or text made from the evidence; nothing where there is nothing to show."""


def each(show: Callable[[Measured], Iterable[Block]]) -> Show:
    """Shows something of each directory of a study that trains nothing."""
    return lambda evidence: [block for measured in evidence.measured for block in show(measured)]


@dataclass(frozen=True, eq=False)
class ArmTable:
    """A table with a row for each arm.

    Attributes:
        columns: a pair is one column, its heading and a function from an arm to its cell; a function alone gives one or
            more columns, their cells by heading, as `Quantity.cells` does.
        settings: of the rows, or which arms; all by default.
        published: by heading, a column that others found: a cell for each of the `settings`, which have to be listed.
    """

    caption: str
    columns: Sequence[tuple[str, Callable[[Arm], str]] | Callable[[Arm], Mapping[str, str]]]
    settings: ArmChoice = None
    published: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses published cells of nobody knows which arms."""
        if self.published and (self.settings is None or callable(self.settings)):
            raise ValueError(f"{self.caption}: published cells need a list of settings, which they are of")

    def __call__(self, evidence: Evidence) -> list[Table]:
        """The table, if there is any arm."""
        settings = self.settings if self.published and isinstance(self.settings, Sequence) else ()
        published = {
            evidence.found.title(setting): {head: cells[i] for head, cells in self.published.items()}
            for i, setting in enumerate(settings)
        }
        rows = [
            (title, arm, published.get(arm.title if arm else title, {}) | self._cells(arm))
            for title, arm in evidence.rows(self.settings)
        ]
        return [evidence.table(self.caption, rows)] if any(arm for _, arm, _ in rows) else []

    def _cells(self, arm: Arm | None) -> dict[str, str]:
        if arm is None:
            return {"seeds": NOT_RUN}
        found = {"seeds": arm.count}
        for column in self.columns:
            found |= {column[0]: column[1](arm)} if isinstance(column, tuple) else column(arm)
        return found


@dataclass(frozen=True, eq=False)
class Study:
    """A study.

    Attributes:
        name: as in ``config.json``, and of its modules in `experiments` and `configs`.
        config: the dataclass of its config.
        build: ``build(config) -> Training``; or
        measure: ``measure(config, directory) -> rows``, for a study that trains nothing.
        model: ``model(config, data)``, what is trained, as `jaxrnn.load` gives it; data as below.
        row: the model of these rows.
        check: raises `ConfigError` for what the dataclass cannot know.
        data: what ``config.json`` says of the data.
        finish: ``finish(path, rows)``, once all runs have ended.
        quantities: what a run yields, the primary one first.
        metrics: of the learning curves, as they are named in ``metrics.jsonl``.
        claims: of the paper, fixed before the runs.
        headline: the table that stands at the top of the page.
        note: how the numbers are to be read.
        tiny: fields of a config whose runs take seconds, for the contract test of studies; never empty. What is trained
            has two seeds there, 0 and 1.
    """

    name: str
    title: str
    config: type[Any]
    arms: ArmScheme
    build: "Callable[[Any], Training] | None" = None
    measure: "Callable[[Any, RunDirectory], list[dict[str, Any]]] | None" = None
    model: Callable[[Any, Mapping[str, Any]], Any] | None = None
    row: type[BaseModel] | None = None
    check: Callable[[Any], None] = lambda config: None
    data: Callable[[Any], dict[str, Any]] = lambda config: {}
    finish: Callable[[Path, Sequence[Row]], None] = lambda path, rows: None
    quantities: Sequence[Quantity] = ()
    metrics: Sequence[str] = ("loss", "accuracy")
    claims: Sequence[Claim] = ()
    headline: Show = lambda evidence: ()
    sections: Mapping[str, Sequence[Show]] = field(default_factory=dict)
    note: str = ""
    tiny: Mapping[str, Any] = field(default_factory=dict)

    def line(self, row: Row) -> str:
        """What became of a run, in one line."""
        if row.get("failed_at") is not None:
            return f"{row['run']}: failed (NaN) at step {row['failed_at']}"
        run = Run(row["run"], row["seed"], {}, Path(), row)
        values = [(quantity, quantity.value(run)) for quantity in self.quantities]
        # A curve is not at hand here; a time to an event that is not known has not come.
        shown = [
            f"{quantity.name} {NONE if value is None else format(value, '.6g')}"
            for quantity, value in values
            if value is not None or isinstance(quantity, TimeToEvent)
        ]
        return f"{row['run']}: {', '.join(shown) or 'done'}"
