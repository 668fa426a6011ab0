"""The survival tables and pictures of both models, from bench/results/survival_MODEL.json into docs.

python -m bench.survival_report
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import jinja2

from bench.ablation import wilson
from bench.recipes import ROOT
from orchestrator.proof.ladder import BEAMS, MARGIN_BINS, NOISE_SIGMAS

RESULTS, DOCS = ROOT / "bench" / "results", ROOT / "docs"

MODELS = {"pocket": "the embedded model", "smollm2": "SmolLM2-135M-Instruct"}

WORDS = {
    "greedy_float32": "float32, full batch",
    "greedy_float32_alone": "float32, batch 1",
    "greedy_bfloat16": "bfloat16, full batch",
    "greedy_bfloat16_alone": "bfloat16, batch 1",
    "rounded_bfloat16": "float32, prompt in bfloat16",
    "rounded_float16": "float32, prompt in float16",
    "rounded_int8": "float32, prompt in int8",
    "beam_float32": f"float32, beam search of width {BEAMS}",
}

PLOT = jinja2.Template("""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{ 370 + 76 * heads|length }} {{ 96 + 24 * rows|length }}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
<text x="16" y="24" font-size="15" font-weight="bold">{{ title }}</text>
<text x="16" y="42" fill="#555">{{ subtitle }}</text>
<text x="350" y="76" text-anchor="end" fill="#555">smallest margin from, logits</text>
{% for head in heads %}<text x="{{ 396 + 76 * loop.index0 }}" y="76" text-anchor="middle" fill="#555">{{ head }}</text>
{% endfor %}{% for row in rows %}{% set y = 84 + 24 * loop.index0 %}<text x="350" y="{{ y + 16 }}" text-anchor="end">{{ row.name | e }}</text>
{% for cell in row.cells %}{% set x = 359 + 76 * loop.index0 %}<rect x="{{ x }}" y="{{ y }}" width="74" height="22" fill="{{ cell.colour }}"/>
<text x="{{ x + 37 }}" y="{{ y + 15 }}" text-anchor="middle" fill="{{ cell.ink }}">{{ cell.words }}</text>
{% endfor %}{% endfor %}</svg>
""")  # noqa: E501


@dataclass(frozen=True)
class Line:
    """One way of decoding: how many of the prompts of each margin bin were exact."""

    name: str
    counts: list[tuple[int, int]]


def lines(record: dict) -> Iterator[Line]:
    """Every engine's rungs in the table's order, then what noise the prompts withstand."""
    for entry in record["proofs"].values():
        for name in [name for name in WORDS if name in entry["passed"]]:
            exact = [digit == "1" for digit in entry["passed"][name]]
            yield Line(f"{entry['engine']}, {WORDS[name]}", _by_bin(entry["margins"], exact))
    entry = record["proofs"]["vllm"]
    for sigma in NOISE_SIGMAS:
        held = [(radius or 0) >= sigma for radius in entry["noise_radius"]]
        name = f"{entry['engine']}, float32, noise of {sigma:g} of the prompt's size"
        yield Line(name, _by_bin(entry["margins"], held))


def _by_bin(margins: list[float], held: list[bool]) -> list[tuple[int, int]]:
    counts = []
    for low, high in zip(MARGIN_BINS, (*MARGIN_BINS[1:], float("inf")), strict=True):
        inside = [is_held for margin, is_held in zip(margins, held, strict=True) if low <= margin < high]
        counts.append((sum(inside), len(inside)))
    return counts


def heads() -> list[str]:
    return [f"{low:g}" for low in MARGIN_BINS]


def table(record: dict) -> str:
    """Markdown: counts, and what 95 % confidence leaves of a full count."""
    rows = [f"| | {' | '.join(heads())} |", "|---|" + "---:|" * len(MARGIN_BINS)]
    for line in lines(record):
        cells = [f"{exact}/{judged}" if judged else "-" for exact, judged in line.counts]
        rows.append(f"| {line.name} | {' | '.join(cells)} |")
    full = [judged for _, judged in next(lines(record)).counts]
    bounds = [f"{wilson(judged, judged)[0]:.1%}" if judged else "-" for judged in full]
    rows.append(f"| a full count means at least (95 %) | {' | '.join(bounds)} |")
    return "\n".join(rows) + "\n"


def picture(record: dict, model: str) -> str:
    """The table as colours."""
    drawn = [{"name": line.name, "cells": [_cell(*count) for count in line.counts]} for line in lines(record)]
    num_prompts = len(record["proofs"]["vllm"]["margins"])
    return PLOT.render(
        title="What survives in other numerics, by margin", heads=heads(), rows=drawn,
        subtitle=f"{num_prompts} prompts certified in float32 on {model}; prompts still exact",
    )  # fmt: skip


def _cell(exact: int, judged: int) -> dict[str, str]:
    if not judged:
        return {"colour": "#f4f4f4", "ink": "#999", "words": "-"}
    share = exact / judged
    colour = f"hsl({round(120 * share)} 55% {88 - 8 * share:.0f}%)" if share < 1 else "#7cc48a"
    return {"colour": colour, "ink": "#222", "words": f"{exact}/{judged}"}


def main() -> None:
    records = {name: json.loads((RESULTS / f"survival_{name}.json").read_text()) for name in MODELS}
    for name, record in records.items():
        (DOCS / f"survival_{name}.svg").write_text(picture(record, MODELS[name]))
    tables = [f"## {MODELS[name][0].upper()}{MODELS[name][1:]}\n\n{table(record)}" for name, record in records.items()]
    text = "# Prompts still exact, by their smallest margin in logits\n\n" + "\n".join(tables)
    (DOCS / "survival_table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
