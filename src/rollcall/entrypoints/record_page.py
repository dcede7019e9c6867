"""The record in force, for the people who make files: its columns, their rules in words, and an example."""

import csv
import io

from rollcall.domain.record import Field, RecordType


def example(record_type: RecordType) -> str:
    """Return a CSV of one row that every rule allows."""
    text = io.StringIO()
    samples = [field.rule.sample() for field in record_type.fields]
    csv.writer(text, lineterminator="\n").writerows([record_type.columns, samples])
    return text.getvalue()


def other_labels(field: Field) -> str:
    """Return the labels beside the name."""
    return ", ".join(field.labels)


def rule_of(field: Field) -> str:
    """Return what a cell must be."""
    return f"{field.rule.wanted}, or blank" if field.optional else field.rule.wanted


def markdown(record_type: RecordType) -> str:
    """Return a page for uploaders in Markdown."""
    return f"# Your file\n\n{table(record_type)}\nFor example:\n\n```csv\n{example(record_type)}```\n"


def table(record_type: RecordType) -> str:
    """Return the columns as a table in Markdown."""
    has_labels = any(field.labels for field in record_type.fields)
    head = ["Column", "What a cell must be", *["Also called"] * has_labels]
    rows = [
        [f"`{field.name}`", _escaped(rule_of(field)), *[_escaped(other_labels(field))] * has_labels]
        for field in record_type.fields
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")
