"""The picture of the driver's overhead, from the latest results of its three benchmarks into docs/overhead.svg.

python -m bench.overhead_report
"""

import json
from dataclasses import dataclass

import jinja2

from bench.recipes import ROOT

RESULTS, PICTURE = ROOT / "bench" / "results", ROOT / "docs" / "overhead.svg"
WIDTH, HEIGHT = 250, 190
COLOURS = ("#4269d0", "#efb118", "#ff725c")

PLOT = jinja2.Template("""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{ 40 + 320 * panels|length }} 310" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
<text x="20" y="24" font-size="15" font-weight="bold">{{ title }}</text>
{% for panel in panels %}<g transform="translate({{ 60 + 320 * loop.index0 }} 70)">
<text y="-20">{{ panel.title }}</text>
{% for mark in panel.marks_y %}<line x2="{{ width }}" y1="{{ mark.at }}" y2="{{ mark.at }}" stroke="#e5e5e5"/>
<text x="-6" y="{{ mark.at + 4 }}" text-anchor="end" fill="#555">{{ mark.label }}</text>
{% endfor %}{% for mark in panel.marks_x %}<text x="{{ mark.at }}" y="{{ height + 18 }}" text-anchor="middle" fill="#555">{{ mark.label }}</text>
{% endfor %}<text x="{{ width / 2 }}" y="{{ height + 36 }}" text-anchor="middle" fill="#555">{{ panel.below }}</text>
{% for curve in panel.curves %}{% if panel.is_joined %}<polyline points="{{ curve.points|join(' ') }}" fill="none" stroke="{{ curve.colour }}" stroke-width="2"/>
{% else %}{% for point in curve.points %}<circle cx="{{ point.split(',')[0] }}" cy="{{ point.split(',')[1] }}" r="4" fill="{{ curve.colour }}"/>
{% endfor %}{% endif %}<text x="8" y="{{ height - 44 + 15 * loop.index0 }}" fill="{{ curve.colour }}">{{ curve.name }}</text>
{% endfor %}</g>
{% endfor %}</svg>
""")  # noqa: E501


@dataclass(frozen=True)
class Panel:
    """Curves over one axis that rises evenly or, for counts that double, by place.

    Points that were measured under unlike conditions are not joined: a line would say that one leads to the next.
    """

    title: str
    below: str
    curves: dict[str, list[tuple[float, float]]]
    top: float
    is_by_place: bool = False
    is_joined: bool = True

    def drawn(self) -> dict:
        xs = sorted({x for points in self.curves.values() for x, _ in points})

        def at(x: float) -> float:
            return round(WIDTH * (xs.index(x) / (len(xs) - 1) if self.is_by_place else x / xs[-1]), 1)

        lines = [
            {
                "name": name, "colour": colour,
                "points": [f"{at(x)},{HEIGHT * (1 - y / self.top):.1f}" for x, y in points],
            }
            for (name, points), colour in zip(self.curves.items(), COLOURS, strict=False)
        ]  # fmt: skip
        marked = xs if self.is_by_place else [xs[-1] / 2, xs[-1]]
        return {
            "title": self.title, "below": self.below, "curves": lines, "is_joined": self.is_joined,
            "marks_x": [{"at": at(x), "label": _rounded(x)} for x in marked],
            "marks_y": [{"at": HEIGHT * (1 - i / 4), "label": f"{self.top * i / 4:g}"} for i in range(5)],
        }  # fmt: skip


def _rounded(count: float) -> str:
    return f"{count:,.0f}" if count < 10_000 else f"{count / 1000:,.0f} thousand"


def latest(name: str) -> dict:
    """The newest dated record of a benchmark."""
    return json.loads(max(RESULTS.glob(f"{name}-*.json")).read_text())


def panels() -> list[Panel]:
    """The driver's own time, memory, saturation."""
    spent: dict[str, list[tuple[float, float]]] = {}
    for run in latest("overhead")["runs"]:
        load = "alone on the machine" if "mib_by_done" in run else "beside 20 to 30 other jobs"
        spent.setdefault(load, []).append((run["solvers"], run["driver_cpu_us_a_target"]))
    memory = latest("flat_memory")["mib_by_done"]
    variants: dict[str, list[tuple[float, float]]] = {}
    for row in latest("saturation")["rows"]:
        window = (
            "window of 2,048" if row["window"] == 2048 and row["solvers"] > 8 else f"slices of {row['slice_s']:g} s"
        )
        variants.setdefault(window, []).append((row["solvers"], row["busy"]))
    return [
        Panel("driver's CPU a target, us; no-op solvers", "solvers", spent, 600, is_by_place=True, is_joined=False),
        Panel("memory of the driver, MiB", "targets done", {"": memory}, top=600),
        Panel("simulated: solvers' time spent solving", "solvers at 1 s a text", variants, top=1, is_by_place=True),
    ]


def main() -> None:
    drawn = [panel.drawn() for panel in panels()]
    PICTURE.write_text(PLOT.render(title="What the driver costs", panels=drawn, width=WIDTH, height=HEIGHT) + "\n")


if __name__ == "__main__":
    main()
