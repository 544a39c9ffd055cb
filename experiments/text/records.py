"""The files in a run directory's folder ``texts/``: what the texts that a model generates are like."""

from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from jaxrnn.rundir.read import describe

FOLDER = "texts"
COMPLETIONS = f"{FOLDER}/completions.json"
SHORT, LONG = 120, 5000
"""Characters behind the prompt: the paper's longest text, and enough to see a loop of 1000 characters three times."""

CENSUS, PROMPTS, RANDOM, BOOK = "every character", "prompts", "random characters", "book"
"""What texts start from; those of the book are a part of it."""


class Kind(NamedTuple):
    """How texts were made: after which step (None: the book), from which start, with which tau (None: greedy)."""

    step: int | None
    start: str
    tau: float | None = None

    def __str__(self) -> str:
        if self.step is None:
            return self.start
        return f"step {self.step}, {self.start}, " + ("greedy" if self.tau is None else f"tau {self.tau:g}")

    @property
    def file(self) -> str:
        """The file's name in the run directory."""
        return f"{FOLDER}/{str(self).replace(', ', '_').replace(' ', '-')}.json"


class Texts(BaseModel):
    """Texts of one kind, measured by `experiments.text.measures`; each list has an entry for each text.

    Attributes:
        run: whose parameters generated them.
        step, start, tau: as in `Kind`.
        period, short_period: of the loop that the text's `LONG` or its first `SHORT` characters end in; 0 without one.
        loop_start: where the loop in the long text begins.
        loop: the number of this loop, counted from the most frequent one; -1 without one.
        words: distinct words of the loop in the short text, or of the short text where there is no loop.
        known_words: share of the words in the short text that occur in the book; None without a whole word.
        ngrams, short_ngrams: share of distinct ones among the n-grams of 4 characters in the long and short text.
        loops: the most frequent loops; those that differ by a rotation are the same.
    """

    run: str
    step: int | None
    start: str
    tau: float | None
    period: list[int]
    short_period: list[int]
    loop_start: list[int]
    loop: list[int]
    words: list[int]
    known_words: list[float | None]
    ngrams: list[float]
    short_ngrams: list[float]
    loops: list[str]

    @property
    def kind(self) -> Kind:
        """How they were made."""
        return Kind(self.step, self.start, self.tau)


class Completions(BaseModel):
    """The paper's sentences, each with the text that begins with it, by the parameters of a run after a step."""

    run: str
    step: int
    sentences: dict[str, str]


def read_texts(path: Path) -> tuple[list[Texts], Completions | None, list[str]]:
    """All texts of a run directory in the order of their steps, and what is wrong with the files."""
    texts, completions, remarks = [], None, []
    for file in sorted((path / FOLDER).glob("*.json")):
        try:
            if file == path / COMPLETIONS:
                completions = Completions.model_validate_json(file.read_bytes())
            else:
                texts.append(Texts.model_validate_json(file.read_bytes()))
        except (OSError, ValidationError) as error:
            remarks.append(f"`{file}` is damaged ({describe(error)}): left out")
    return sorted(texts, key=lambda one: (one.step is None, one.step, one.tau or 0.0)), completions, remarks
