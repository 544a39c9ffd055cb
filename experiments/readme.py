"""Writes the README's results and its pictures from the kept results: ``python -m experiments.readme``."""

from experiments import gradients_report, launch, nodes_report, palindrome_report
from experiments.report import KEPT
from jaxrnn.report import Table, read_runs, table_markdown

README = launch.ROOT / "README.md"
DOCS = launch.ROOT / "docs"
BEGIN, END = "<!-- results: make readme -->", "<!-- end of results -->"


def with_results(text: str) -> tuple[str, dict[str, bytes]]:
    """The README's text with the results between its two marks renewed, and the pictures that go with it, by name."""
    runs = read_runs(KEPT, "kept")
    blocks, survival = palindrome_report.summary(runs)
    blocks += nodes_report.summary(runs)
    results = "\n\n".join(table_markdown(block) if isinstance(block, Table) else str(block) for block in blocks)
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    pictures = {"survival.png": survival, "gradients.png": gradients_report.picture(runs)}
    return f"{before}{BEGIN}\n\n{results}\n\n{END}{after}", {name: png for name, png in pictures.items() if png}


def main(argv: list[str]) -> None:
    """Rewrites the file."""
    del argv
    text, pictures = with_results(README.read_text())
    README.write_text(text)
    DOCS.mkdir(exist_ok=True)
    for name, png in pictures.items():
        (DOCS / name).write_bytes(png)


if __name__ == "__main__":
    launch.run_main(main)
