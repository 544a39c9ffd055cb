"""What tests read from a report's sections."""

from jaxrnn.study.report import Section, Table


def table_rows(sections: list[Section], caption: str) -> list[dict[str, str]]:
    """The rows of the one table whose caption begins so."""
    (table,) = (
        block
        for section in sections
        for block in section.blocks
        if isinstance(block, Table) and block.caption.startswith(caption)
    )
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]
