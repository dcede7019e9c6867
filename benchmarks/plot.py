"""Draw the last results of the suites `peers` and `growth`: `plot.py RESULTS FOLDER` writes an SVG of each."""

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

# The palette of Okabe and Ito, which people who confuse red and green can distinguish.
OURS, OURS_UNIQUE, OTHERS, INK = "#d55e00", "#0072b2", "#b5b5b5", "#333333"

Key = tuple[str, int]


def main() -> None:
    """Draw the suites that have results."""
    _, results, folder = sys.argv
    # Text as text, no date and no random ids: the same results give the same file.
    mpl.rcParams.update({"font.size": 11, "svg.hashsalt": "rollcall", "svg.fonttype": "none"})
    lines = [json.loads(line) for line in Path(results).read_text(encoding="utf-8").splitlines()]
    for suite, draw in ("peers", draw_peers), ("growth", draw_growth):
        session, rates = last(lines, suite)
        if rates:
            figure = draw(rates)
            figure.supxlabel(
                f"{session['machine']}; {session['server']}; {session['date'][:10]}", fontsize=8, color=INK
            )
            path = Path(folder, f"performance-{suite}.svg")
            figure.savefig(path, metadata={"Date": None})
            print(path)


def last(lines: list[dict[str, Any]], suite: str) -> tuple[dict[str, Any], dict[Key, list[float]]]:
    """Return the last session with a suite, and the rows a second of each contender and size in it."""
    session: dict[str, Any] = {}
    found: dict[str, Any] = {}
    rates: dict[Key, list[float]] = {}
    for line in lines:
        if line["kind"] == "session":
            session = line
        if line["kind"] == "run" and line["suite"] == suite and not line["wrong"]:
            if found is not session:
                found, rates = session, {}
            rates.setdefault((line["contender"], line["rows"]), []).append(line["rows"] / line["seconds"])
    return found, rates


def draw_peers(rates: dict[Key, list[float]]) -> Any:
    """Draw a bar for each contender, with the range of its runs."""
    most = max(rows for _, rows in rates)
    order = sorted(rates, key=lambda key: median(rates[key]))
    middles = [median(rates[key]) for key in order]
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(order) + 1.3), layout="constrained")
    bars = axes.barh(
        [name if rows == most else f"{name}, {rows:,} rows" for name, rows in order],
        middles,
        color=[OURS if name.startswith("rollcall") else OTHERS for name, _ in order],
        xerr=(
            [middle - min(rates[key]) for key, middle in zip(order, middles, strict=True)],
            [max(rates[key]) - middle for key, middle in zip(order, middles, strict=True)],
        ),
        error_kw={"ecolor": INK, "elinewidth": 1.2, "capsize": 2},
    )
    axes.bar_label(bars, [f"{middle:,.0f}" for middle in middles], padding=8)
    for label, (name, _) in zip(axes.get_yticklabels(), order, strict=True):
        label.set_fontweight("bold" if name.startswith("rollcall") else "normal")
    axes.set_xscale("log")
    axes.set_xlim(right=max(middles) * 5)
    axes.set_title("Rows a second, process start included", loc="left")
    axes.set_xlabel(f"{most:,} clean rows; the labels of the slow ones give their number of rows")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_growth(rates: dict[Key, list[float]]) -> Any:
    """Draw a line for each contender over the sizes, with the range of its runs."""
    figure, axes = plt.subplots(figsize=(9, 4.2), layout="constrained")
    for name, colour, marker, above in (
        ("rollcall import", OURS, "o", 8),
        ("rollcall import, unique_by", OURS_UNIQUE, "s", -16),
    ):
        sizes = sorted(rows for found, rows in rates if found == name)
        middles = [median(rates[name, rows]) for rows in sizes]
        axes.plot(sizes, middles, color=colour, marker=marker, label=name)
        lows, highs = ([edge(rates[name, rows]) for rows in sizes] for edge in (min, max))
        axes.fill_between(sizes, lows, highs, color=colour, alpha=0.2, linewidth=0)
        for rows, middle in zip(sizes, middles, strict=True):
            axes.annotate(f"{middle:,.0f}", (rows, middle), (0, above), textcoords="offset points", ha="center")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.margins(y=0.15)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("rows in the file")
    axes.set_title("Rows a second, process start included", loc="left")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left")
    return figure


if __name__ == "__main__":
    main()
