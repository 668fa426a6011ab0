"""Figures that the first pages tell are those of the benchmarks' records."""

import json
import statistics
from pathlib import Path

ROOT = Path(__file__).parent.parent


def record(name: str):
    return json.loads((ROOT / "bench" / "results" / name).read_text())


def page(name: str) -> str:
    return (ROOT / name).read_text()


def times_as_long(model: str, num_vectors: int, peer: str, recipe: str = "default") -> str:
    """Ours over theirs, texts an hour, median of the turns of the latest record."""
    asked = (model, num_vectors, recipe)
    records = [r for r in record("speed_corpora.json") if (r["model"], r["num_vectors"], r["recipe"]) == asked]
    turns = records[-1]["turns"]
    pairs = zip(turns["ours"], turns[peer], strict=True)
    return f"{statistics.median(ours['texts_an_hour'] / theirs['texts_an_hour'] for ours, theirs in pairs):.1f}"


def test_how_long_published_code_takes():
    per_sample = [times_as_long("pocket", k, "per_sample") for k in (4, 16)]
    progressive = [times_as_long("pocket", k, "progressive") for k in (4, 16)]
    on_smollm2 = times_as_long("smollm2", 8, "per_sample")
    cells = (
        "| {} (K = 4), {} (K = 16); SmolLM2, K = 8: {} | not measured | {} (K = 4), {} (K = 16) | 1, proof included |"
    )
    assert cells.format(*per_sample, on_smollm2, *progressive) in page("README.md")
    compared = " ".join(page("docs/compared.md").split())
    assert f"per-sample cramming takes {per_sample[0]} times as long at K = 4 and {per_sample[1]} times" in compared
    assert f"progressive cramming takes {progressive[0]} and {progressive[1]} times as long" in compared
    learned = times_as_long("smollm2", 8, "per_sample", "smollm2-encoder")
    assert f"cramming takes {on_smollm2} times as long at K = 8, and {learned} times where ours begins" in compared


def test_positions_a_second_by_size():
    on_processors = {
        model: max(r["positions_a_second"] for r in record("efficiency.json") if r["model"] == model)
        for model in ("pocket", "smollm2")
    }
    h200, h100 = record("first_light-h200.json"), record("first_light-h100.json")
    small, large = (h200[f"llama 8B, compiled, mixed, table of {size}"] for size in (4096, 16384))
    rates = [
        *on_processors.values(), h200["qwen 7B, compiled, mixed, table of 4096"]["positions_a_second"],
        small["positions_a_second"], h100["llama 8B, compiled, mixed, table of 4096"]["positions_a_second"],
    ]  # fmt: skip
    assert all(f"| {rate:,.0f} |" in page("docs/models.md") for rate in rates), rates
    assert f"{small['peak_bytes'] / 1e9:.1f} GB for 4,096 positions" in page("docs/models.md")
    share = f"{round(large['positions_a_second'], -2):,.0f} positions a second through an 8B of random weights"
    assert f"{share}, {large['efficiency']:.0%}".replace("%", " %") in " ".join(page("README.md").split())
