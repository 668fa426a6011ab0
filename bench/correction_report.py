"""The picture and the table of learned starts, from the latest results into docs/correction.svg and docs/correction.md.

python -m bench.correction_report

Owns: which records, how they are drawn. Must not know: how they were measured.
"""

import json
import math
from dataclasses import dataclass
from itertools import product
from statistics import fmean
from typing import NamedTuple

import jinja2

from bench.recipes import ROOT
from orchestrator.learn.comparison import interval

RESULTS, PICTURE, PAGE = ROOT / "bench" / "results", ROOT / "docs" / "correction.svg", ROOT / "docs" / "correction.md"
BEGIN, END = "<!-- table of bench.correction_report -->\n", "<!-- end of the table -->\n"

NETWORKS = {
    ("smollm2", "smollm2-encoder", 0): "SmolLM2, encoder",
    ("pocket", "pocket-encoder", 0): "embedded, encoder",
    ("pocket", "pocket-encoder-4bit", 0): "embedded, encoder in 4 bits",
    ("pocket", "pocket-step", 2): "embedded, learned step, 2 corrections",
    ("pocket", "pocket-step-8bit", 2): "embedded, learned step in 8 bits, 2 corrections",
    ("pocket", "linear-step", 3): "embedded, linear step, 3 corrections",
    ("pocket", "linear-step", 5): "embedded, linear step, 5 corrections",
}
"""What is told, by model, network and corrections, in the order of the table."""

CHEAP = {
    "target x 2": "embedded, twice the plain start",
    "target x 3": "embedded, three times the plain start",
    "nearest of a bank": "embedded, nearest of 400 solved prompts",
    "common offset": "embedded, mean change of the same prompts",
    "ridge": "embedded, ridge regression on them",
    "plain + common, trained": "embedded, plain start plus a common one",
    "common, trained": "embedded, a start common to all texts",
}
"""Arms of `python -m bench.correction starts`."""

RATIOS = (2.0, 4.0, 8.0)
BY_LENGTH = (("smollm2-encoder", 0), ("pocket-step", 2))
LENGTHS = ((4, 50), (45, 70))
"""Of texts, in tokens, as they were asked for."""

PARTS = ((4, 11), (12, 25), (26, 50))
"""What the first of them is told apart into."""

HEADS = (
    "start",
    "K",
    "texts",
    "steps",
    "work (95 % interval)",
    "with the network's own arithmetic",
    "training pays from",
)
COLOURS = {"SmolLM2": "#ff725c", "embedde": "#4269d0"}

PLOT = jinja2.Template("""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1060 {{ 120 + 18 * lines|length }}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
<text x="20" y="24" font-size="15" font-weight="bold">What a start saves, and what it would have to be</text>
<g transform="translate(350 70)"><text x="-330" y="-20">work beside the default's own start, with 95 % intervals</text>
{% for mark in marks %}<line x1="{{ mark.at }}" x2="{{ mark.at }}" y1="-6" y2="{{ 18 * lines|length }}" stroke="{{ '#888' if mark.label == '1' else '#e5e5e5' }}"/>
<text x="{{ mark.at }}" y="{{ 18 * lines|length + 16 }}" text-anchor="middle" fill="#555">{{ mark.label }}</text>
{% endfor %}{% for line in lines %}{% set y = 18 * loop.index0 + 8 %}<text x="-12" y="{{ y + 4 }}" text-anchor="end">{{ line.name }}</text>
<line x1="{{ line.low }}" x2="{{ line.high }}" y1="{{ y }}" y2="{{ y }}" stroke="{{ line.colour }}" stroke-width="2"/>
<circle cx="{{ line.at }}" cy="{{ y }}" r="4" fill="{{ line.colour }}"/>
{% endfor %}</g>
<g transform="translate(725 70)"><text x="-30" y="-20">work from the default's own prompts, embedded model</text>
{% for mark in oracle.marks_y %}<line x2="250" y1="{{ mark.at }}" y2="{{ mark.at }}" stroke="#e5e5e5"/>
<text x="-6" y="{{ mark.at + 4 }}" text-anchor="end" fill="#555">{{ mark.label }}</text>
{% endfor %}<polyline points="{% for p in oracle.points %}{{ p.x }},{{ p.y }} {% endfor %}" fill="none" stroke="#4269d0" stroke-width="1"/>
{% for p in oracle.points %}<line x1="{{ p.x }}" x2="{{ p.x }}" y1="{{ p.low }}" y2="{{ p.high }}" stroke="#4269d0" stroke-width="2"/>
<circle cx="{{ p.x }}" cy="{{ p.y }}" r="4" fill="#4269d0"/><text x="{{ p.x }}" y="218" text-anchor="middle" fill="#555">{{ p.label }}</text>
{% endfor %}<text x="125" y="236" text-anchor="middle" fill="#555">cross-entropy of the start, nats a token</text>
<text x="125" y="254" text-anchor="middle" fill="#555">from the left: after {{ oracle.after }} steps</text></g>
</svg>
""")  # noqa: E501


@dataclass(frozen=True)
class Line:
    """One start at one size: its work beside the default's, and how it was come by."""

    name: str
    ratio: float
    low: float
    high: float
    colour: str

    def drawn(self) -> dict:
        return {"name": self.name, "colour": self.colour} | {
            key: round(300 * min(getattr(self, value), 1.2) / 1.2, 1)
            for key, value in (("at", "ratio"), ("low", "low"), ("high", "high"))
        }


def read(name: str) -> list[dict]:
    return json.loads((RESULTS / f"{name}.json").read_text())


class Solved(NamedTuple):
    """A text that was solved from a learned start and from the default's own: (steps, positions) of each."""

    tokens: int
    learned: tuple[int, int]
    plain: tuple[int, int]


def pooled(records: list[dict], arm: str) -> list[Solved]:
    """The texts of several records, each once."""
    texts = {
        id: Solved(told["tokens"][0], told[arm], told["default"])
        for record in records
        for id, told in record["work"].items()
    }
    return list(texts.values())


def row_of(name: str, size: str, texts: list[Solved]) -> dict:
    """Figures of texts that were solved from both starts."""
    work = [(text.learned[1], text.plain[1]) for text in texts]
    low, high = interval(work)
    learned, plain = (sum(positions) for positions in zip(*work, strict=True))
    return {
        "name": name, "size": size, "texts": len(texts), "ratio": learned / plain, "low": low, "high": high,
        "steps": (fmean(text.learned[0] for text in texts), fmean(text.plain[0] for text in texts)),
        "saved": (plain - learned) / len(texts), "plain": plain / len(texts),
    }  # fmt: skip


def measured() -> list[dict]:
    """A row for each network and size; for the best of each model at K = T/4 one for each length as well."""
    rows = []
    for (model, network, corrections), name in NETWORKS.items():
        arm = f"{corrections} corrections"
        mine = [
            r for r in read("learned_starts") if (r["model"], r["network"]) == (model, network) and arm in arms_of(r)
        ]
        for ratio, (low, high) in product(RATIOS, LENGTHS):
            records = [r for r in mine if (r["tokens_per_vector"], r["lengths"]) == (ratio, [low, high])]
            if not records:
                continue
            size = f"T/{ratio:g}" if (low, high) == LENGTHS[0] else f"T/{ratio:g}, T from {low} to {high}"
            texts = pooled(records, arm)
            row = row_of(name, size, texts)
            own = fmean(arms_of(record)[arm]["own_positions"] for record in records) / row["plain"]
            rows.append(row | {"with_own": row["ratio"] + own, "trained": records[0]["trained_positions"]})
            if ratio == 4 and (low, high) == LENGTHS[0] and (network, corrections) in BY_LENGTH:
                for least, most in PARTS:
                    alike = [text for text in texts if least <= text.tokens <= most]
                    rows.append(row_of(name, f"{size}, T from {least} to {most}", alike))
    return rows


def arms_of(record: dict) -> dict[str, dict]:
    return {row["arm"]: row for row in record["rows"]}


def pays_from(row: dict) -> str:
    """Texts after which a training's work is had back; none are known where the interval, as it is told, reaches 1."""
    if round(row["high"], 2) >= 1:
        return "not known to pay"
    return f"{math.ceil(row['trained'] / row['saved']):,} texts"


def table() -> str:
    """The page's table, in Markdown."""
    lines = ["| " + " | ".join(HEADS) + " |", "|---|---|---:|---:|---:|---:|---:|"]
    for row in measured():
        cells = (
            row["name"], row["size"], row["texts"], f"{row['steps'][0]:.1f} for {row['steps'][1]:.1f}",
            f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})",
            f"{row['with_own']:.2f}" if "with_own" in row else "", pays_from(row) if "trained" in row else "",
        )  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def lines() -> list[Line]:
    """Learned starts by size, then those that need no network."""
    found = [
        Line(f"{row['name']}, K = {row['size']}", row["ratio"], row["low"], row["high"], COLOURS[row["name"][:7]])
        for row in measured()
        if "from" not in row["size"]
    ]
    cheap = next(record for record in reversed(read("correction")) if record["question"] == "starts")
    rows = {row["arm"]: row for row in cheap["rows"]}
    return found + [
        Line(f"{name}, K = T/4", rows[arm]["ratio"], rows[arm]["interval"][0], rows[arm]["interval"][1], "#888")
        for arm, name in CHEAP.items()
    ]


def oracle() -> dict:
    """The default's own prompts after n steps, as starts: work by the start's cross-entropy."""
    record = next(record for record in reversed(read("correction")) if record["question"] == "oracle")
    rows = sorted(record["rows"], key=lambda row: -row["nats"])
    most, least = rows[0]["nats"], rows[-1]["nats"]

    def height(ratio: float) -> float:
        return round(200 * (1.1 - ratio) / 0.6, 1)

    points = [
        {
            "x": round(250 * (most - row["nats"]) / (most - least), 1), "y": height(row["ratio"]),
            "low": height(row["interval"][0]), "high": height(row["interval"][1]), "label": f"{row['nats']:.1f}",
        }
        for row in rows
    ]  # fmt: skip
    marks = [{"at": height(ratio), "label": f"{ratio:g}"} for ratio in (0.6, 0.8, 1.0)]
    return {"points": points, "marks_y": marks, "after": ", ".join(["0", *map(str, record["after"])])}


def picture() -> str:
    marks = [{"at": 300 * ratio / 1.2, "label": f"{ratio:g}"} for ratio in (0, 0.25, 0.5, 0.75, 1)]
    return PLOT.render(lines=[line.drawn() for line in lines()], marks=marks, oracle=oracle()) + "\n"


def main() -> None:
    PICTURE.write_text(picture())
    page = PAGE.read_text()
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(before + BEGIN + table() + END + after)


if __name__ == "__main__":
    main()
