"""Figures computed from runs, and tables of figures."""

from collections.abc import Iterable, Sequence
from statistics import median

from contest import Run


def counting(runs: Iterable[Run]) -> list[Run]:
    """Return the runs that count."""
    return [run for run in runs if not run.wrong]


def ratios(runs: Iterable[Run], others: Iterable[Run]) -> list[float]:
    """Return the seconds of one contender divided by those of another, for each round."""
    return [
        run.seconds / other.seconds
        for run, other in zip(runs, others, strict=True)
        if not run.wrong and not other.wrong
    ]


def cpu_ratios(runs: Iterable[Run], others: Iterable[Run]) -> list[float]:
    """Return the client's CPU time of one contender divided by that of another, for each round."""
    return [
        run.client_cpu / other.client_cpu
        for run, other in zip(runs, others, strict=True)
        if not run.wrong and not other.wrong
    ]


def per_row(runs: Iterable[Run]) -> list[float]:
    """Return the seconds a row of each run."""
    return [run.seconds / run.rows for run in counting(runs)]


def shares(runs: Iterable[Run]) -> list[float]:
    """Return the client's CPU time divided by the server's, for each run."""
    return [run.client_cpu / run.server_cpu for run in counting(runs) if run.server_cpu]


def peaks(runs: Iterable[Run]) -> list[float]:
    """Return the peak memory of each run, in MB."""
    return [run.peak_rss / 1e6 for run in counting(runs)]


def rates(runs: Iterable[Run]) -> list[float]:
    """Return the rows a second of each run, from the start of the process to its end."""
    return [run.rows / run.seconds for run in counting(runs)]


def more(lesser: Iterable[float], larger: Iterable[float]) -> list[float]:
    """Return the difference of each pair."""
    return [much - little for little, much in zip(lesser, larger, strict=False)]


def is_met(figures: Sequence[float], wanted: str) -> bool | None:
    """Return whether a median meets a goal such as "≤ 1.5"; None if there is no goal or no figure."""
    if not wanted or not figures:
        return None
    sign, limit = wanted.replace(",", "").split()
    return median(figures) >= float(limit) if sign == "≥" else median(figures) <= float(limit)


def short(figure: float) -> str:
    """Return a figure with about three significant digits."""
    digits = max(0, 3 - len(str(int(abs(figure)))))
    return f"{figure:,.{digits}f}"


def span(figures: Sequence[float]) -> str:
    """Return the smallest and the largest figure as text."""
    return f"{short(min(figures))} to {short(max(figures))}"


def show_runs(groups: Iterable[Sequence[Run]]) -> None:
    """Print a row for each contender and size, with the medians of the runs that count."""
    rows: list[tuple[object, ...]] = []
    for group in groups:
        first = group[0]
        if not (runs := counting(group)):
            rows.append((first.contender, f"{first.rows:,}", 0, first.wrong, "", "", "", "", ""))
            continue
        server = [run.server_cpu for run in runs if run.server_cpu is not None]
        rows.append(
            (
                first.contender,
                f"{first.rows:,}",
                len(runs),
                short(median(run.seconds for run in runs)),
                f"{median(rates(runs)):,.0f}",
                span(rates(runs)),
                f"{median(run.client_cpu for run in runs) / first.rows * 1e6:.2f}",
                f"{median(server) / first.rows * 1e6:.2f}" if server else "",
                f"{median(peaks(runs)):.0f}",
            )
        )
    heads = (
        "contender",
        "rows",
        "runs",
        "seconds",
        "rows/s",
        "range",
        "client µs/row",
        "server µs/row",
        "peak RSS, MB",
    )
    show_table(heads, rows)


def show_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table in Markdown."""
    print()
    for row in (heads, ["---"] * len(heads), *rows):
        print("|", " | ".join(str(cell).replace("|", "\\|") for cell in row), "|")
    print(flush=True)
