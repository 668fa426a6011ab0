"""The ablation's table and picture, from bench/results/ablation.json into docs/ablation_table.md and docs/ablation.svg.

    python -m bench.ablation_report

Rows are paired with the default text by text, K by K and seed by seed; `work` is the geometric mean of the ratios of
positions to exactness, an attempt that never was exact counting its whole budget. Its 95 % interval resamples pairs of
text and K, the seeds of a pair together: without randomness in a recipe its seeds are the same attempt twice.
"""

import json
import math
import random
import statistics
from pathlib import Path

import jinja2

from bench.ablation import wilson

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "ablation.json"
TABLE, PICTURE = ROOT / "docs" / "ablation_table.md", ROOT / "docs" / "ablation.svg"
DRAWS = 2000
COLOURS = {
    "loss": "#4269d0", "term": "#efb118", "context": "#ff725c", "parameterisation and start": "#6cc5b0",
    "curriculum and optimiser": "#3ca951", "recipe": "#a463f2",
}  # fmt: skip
LOW, HIGH = 0.8, 16.0
"""Ends of the picture's axis, times the default's work."""

PLOT = jinja2.Template("""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 {{ height }}" font-family="sans-serif" font-size="12">
<rect width="900" height="{{ height }}" fill="white"/>
<text x="20" y="24" font-size="15" font-weight="bold">{{ title }}</text>
<text x="20" y="42" fill="#555">{{ subtitle }}</text>
{% for x, label in ticks %}<line x1="{{ x }}" x2="{{ x }}" y1="70" y2="{{ height - 20 }}" stroke="{{ '#888' if label == '1' else '#e5e5e5' }}"/>
<text x="{{ x }}" y="64" text-anchor="middle" fill="#555">{{ label }}x</text>
{% endfor %}{% for row in rows %}<text x="250" y="{{ row.y + 4 }}" text-anchor="end">{{ row.name | e }}</text>
<line x1="{{ row.x_low }}" x2="{{ row.x_high }}" y1="{{ row.y }}" y2="{{ row.y }}" stroke="{{ row.colour }}" stroke-width="2"/>
<circle cx="{{ row.x }}" cy="{{ row.y }}" r="4" fill="{{ row.fill }}" stroke="{{ row.colour }}" stroke-width="2"/>
<text x="{{ row.x_high + 8 }}" y="{{ row.y + 4 }}" fill="#555">{{ row.note }}</text>
{% endfor %}{% for name, colour, x in legend %}<circle cx="{{ x }}" cy="{{ height - 8 }}" r="4" fill="{{ colour }}"/>
<text x="{{ x + 8 }}" y="{{ height - 4 }}">{{ name }}</text>
{% endfor %}</svg>
""")  # noqa: E501


def work(row: dict, default: dict, seeds: int) -> tuple[float, float, float]:
    """Geometric mean of the paired ratios of positions, and its interval."""
    pairs = zip(row["per_attempt"], default["per_attempt"], strict=True)
    by_cell: dict[int, list[float]] = {}
    for number, (mine, theirs) in enumerate(pairs):
        by_cell.setdefault(number // seeds, []).append(math.log(mine[3] / theirs[3]))
    logs = [statistics.fmean(cell) for cell in by_cell.values()]
    stream = random.Random(0)
    means = sorted(statistics.fmean(stream.choices(logs, k=len(logs))) for _ in range(DRAWS))
    return math.exp(statistics.fmean(logs)), math.exp(means[int(0.025 * DRAWS)]), math.exp(means[int(0.975 * DRAWS)])


def table(rows: dict[str, dict], seeds: int) -> str:
    """Markdown, cheapest first."""
    lines = [
        "# What each method adds to exactness, row by row\n",
        "`python -m bench.ablation_report` writes this table; [ablation.md](ablation.md) says how it was measured.\n",
        "| row | group | exact | steps (95 %) | positions (95 %) | work, default = 1 (95 %) | margin | "
        "missed: TF nats, gap | failures |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    works = {name: work(row, rows["default"], seeds) for name, row in rows.items()}
    for name, row in sorted(rows.items(), key=lambda item: (-item[1]["exact"], works[item[0]][0])):
        mean, low, high = works[name]
        failures = ", ".join(f"{count} {kind}" for kind, count in row["diagnoses"].items() if kind != "exact")
        missed = "-" if row["missed_nats"] is None else f"{row['missed_nats']:.2f}, {row['missed_gap']:.0%}"
        lines.append(
            f"| {name} | {row['group']} | {row['exact']}/{row['attempts']} ({_exact_interval(row, seeds)}) | "
            f"{row['steps']:.0f} ({row['steps_interval'][0]:.0f}-"
            f"{row['steps_interval'][1]:.0f}) | {row['positions']:.0f} ({row['positions_interval'][0]:.0f}-"
            f"{row['positions_interval'][1]:.0f}) | {mean:.2f} ({low:.2f}-{high:.2f}) | "
            f"{'-' if row['margin'] is None else format(row['margin'], '.2f')} | {missed} | {failures or '-'} |"
        )
    return "\n".join(lines) + "\n"


def _exact_interval(row: dict, seeds: int) -> str:
    """95 % interval of the share exact, counting pairs of text and K, not seeds."""
    low, high = wilson(row["exact"] / seeds, row["attempts"] // seeds)
    return f"{low:.0%}-{high:.0%}"


def picture(record: dict) -> str:
    """Every row's work beside the default's, on a logarithmic axis."""
    rows, seeds = record["rows"], record["setting"]["seeds"]
    ordered = sorted(rows.items(), key=lambda item: work(item[1], rows["default"], seeds)[0])
    drawn = []
    for number, (name, row) in enumerate(ordered):
        mean, low, high = work(row, rows["default"], seeds)
        note = f"{mean:.2f}" + ("" if row["exact"] == row["attempts"] else f", exact {row['exact']}/{row['attempts']}")
        drawn.append({"name": name, "y": 84 + 18 * number, "x": _x(mean), "x_low": _x(low), "x_high": _x(high),
                      "colour": COLOURS[row["group"]], "fill": _fill(row), "note": note})  # fmt: skip
    setting = record["setting"]
    num_attempts = rows["default"]["attempts"]
    return PLOT.render(
        height=84 + 18 * len(drawn) + 30, rows=drawn, ticks=[(_x(t), f"{t:g}") for t in (1, 2, 4, 8, 16)],
        title="Work to an exact text, beside the default recipe's",
        subtitle=f"positions passed, paired, {num_attempts} attempts a row, {setting['max_steps']} passes each; "
                 "bars are 95 % intervals; hollow: attempts ran out of passes, a lower bound",
        legend=_legend(),
    )  # fmt: skip


def _fill(row: dict) -> str:
    """Hollow where attempts ran out of their budget: the work is a lower bound, as if the last pass had done."""
    return COLOURS[row["group"]] if row["exact"] == row["attempts"] else "white"


def _legend() -> list[tuple[str, str, float]]:
    """Group, colour and place, spaced by the length of the names."""
    places, x = [], 40.0
    for name, colour in COLOURS.items():
        places.append((name, colour, x))
        x += 34 + 6.4 * len(name)
    return places


def _x(ratio: float) -> float:
    place = (math.log(min(max(ratio, LOW), HIGH)) - math.log(LOW)) / (math.log(HIGH) - math.log(LOW))
    return round(260 + 480 * place, 1)


def distinct(rows: dict[str, dict]) -> tuple[dict[str, dict], dict[str, str]]:
    """Rows that measure something of their own, and those that are number for number an earlier one: names by name."""
    first: dict[str, str] = {}
    for name, row in rows.items():
        first.setdefault(json.dumps(row["per_attempt"]), name)
    kept = {name: rows[name] for name in first.values()}
    return kept, {name: first[json.dumps(row["per_attempt"])] for name, row in rows.items() if name not in kept}


def main() -> None:
    record = json.loads(RESULTS.read_text())
    record["rows"], same = distinct(record["rows"])
    for name, other in same.items():
        print(f"left out: {name}, which is {other} attempt by attempt")
    TABLE.write_text(table(record["rows"], record["setting"]["seeds"]))
    PICTURE.write_text(picture(record))
    print(f"{len(record['rows'])} rows into {TABLE.name} and {PICTURE.name}")


if __name__ == "__main__":
    main()
