"""Writes the README's results and its picture from the kept results: ``python -m experiments.readme``."""

from experiments import launch, nodes_report, palindrome_report
from experiments.report import KEPT
from jaxrnn.report import Table, read_runs, table_markdown

README = launch.ROOT / "README.md"
PICTURE = launch.ROOT / "docs" / "survival.png"
BEGIN, END = "<!-- results: make readme -->", "<!-- end of results -->"


def with_results(text: str) -> tuple[str, bytes | None]:
    """The README's text with the results between its two marks renewed, and the picture that goes with it."""
    runs = read_runs(KEPT, "kept")
    blocks, picture = palindrome_report.summary(runs)
    blocks += nodes_report.summary(runs)
    results = "\n\n".join(table_markdown(block) if isinstance(block, Table) else str(block) for block in blocks)
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{results}\n\n{END}{after}", picture


def main(argv: list[str]) -> None:
    """Rewrites the file."""
    del argv
    text, picture = with_results(README.read_text())
    README.write_text(text)
    if picture:
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_bytes(picture)


if __name__ == "__main__":
    launch.run_main(main)
