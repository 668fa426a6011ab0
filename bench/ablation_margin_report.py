"""The table of `bench.ablation_to_margin`: from its results into docs/ablation_margin_table.md.

    python -m bench.ablation_margin_report

Rows are paired with the default case by case; `work` is the mean of a row's passes over the default's, an attempt that
never had its margin counting its whole budget, with a 95 % interval from 2,000 resamplings of the cases.

Owns: the table, what is refused. Must not know: models.
"""

import json
import sys
from typing import Any

import numpy as np

from bench.ablation_to_margin import RESULTS, ROOT

TABLE = ROOT / "docs" / "ablation_margin_table.md"
RESAMPLINGS = 2000


def refuse_equal(model: str, rows: dict[str, dict[str, Any]]) -> None:
    """Every row measures something of its own.

    Raises:
        ValueError: one that is another one case by case.
    """
    first: dict[str, str] = {}
    for name, row in rows.items():
        other = first.setdefault(json.dumps(row["cases"]), name)
        if other != name:
            raise ValueError(f"{model}: row {name!r} is row {other!r} case by case; take one out, it measures nothing")


def work(row: dict[str, Any], default: dict[str, Any]) -> tuple[float, float, float]:
    """Mean passes over the default's, and the ends of its interval. N cases, R resamplings."""
    ours_N, theirs_N = (np.array([case[3] for case in one["cases"]]) for one in (row, default))
    chosen_RN = np.random.default_rng(0).integers(0, len(ours_N), (RESAMPLINGS, len(ours_N)))
    low, high = np.percentile(ours_N[chosen_RN].sum(1) / theirs_N[chosen_RN].sum(1), (2.5, 97.5))
    return float(ours_N.sum() / theirs_N.sum()), float(low), float(high)


def table(models: dict[str, dict[str, Any]]) -> str:
    """Markdown: a row of the ablation a line, the models side by side, cheapest on the first model first."""
    for model, record in models.items():
        refuse_equal(model, record["rows"])
    heads = " | ".join(f"{model}: margin reached | work (95 %)" for model in models)
    lines = [
        "# What each method adds, to the margin\n",
        "`python -m bench.ablation_margin_report` writes this table; [ablation.md](ablation.md#to-the-margin) says how it was measured.\n",  # noqa: E501
        f"| row | group | {heads} |",
        f"|---|---|{'---:|---:|' * len(models)}",
    ]
    records = list(models.values())
    names = sorted({name for record in records for name in record["rows"]}, key=lambda name: _place(records, name))
    for name in names:
        group = next(record["rows"][name]["group"] for record in records if name in record["rows"])
        lines.append(f"| {name} | {group} | {' | '.join(_cells(record, name) for record in records)} |")
    return "\n".join(lines) + "\n"


def _place(records: list[dict[str, Any]], name: str) -> float:
    record = next(record for record in records if name in record["rows"])
    return work(record["rows"][name], record["rows"]["default"])[0]


def _cells(record: dict[str, Any], name: str) -> str:
    row = record["rows"].get(name)
    if row is None:
        return "- | -"
    mean, low, high = work(row, record["rows"]["default"])
    return f"{row['done']} of {len(row['cases'])} | {mean:.2f} ({low:.2f}-{high:.2f})"


def main() -> None:
    try:
        text = table(json.loads(RESULTS.read_text()))
    except ValueError as error:
        sys.exit(str(error))
    TABLE.write_text(text)
    print(f"{text.count(chr(10)) - 6} rows into {TABLE.name}")


if __name__ == "__main__":
    main()
