"""The pocket model's card and its curve, written from `training.json`.

    python -m engine.pocket.card FOLDER

Owns: what the card says. Must not know: how training works.
"""

import argparse
import json
from pathlib import Path

from engine.pocket.train import TrainConfig

CARD = """# Pocket: the embedded language model

A Llama-architecture causal language model for tests, demos and laptops: {millions:.1f} M parameters, hidden size
{hidden_size}, {num_layers} layers, {num_heads} heads, context {context}, tied embeddings, bf16 safetensors. Its
byte-level BPE tokenizer of {vocab_size:,} entries normalises nothing: every valid Unicode string survives.

It knows nineteenth-century English prose and nothing else. It is no assistant and should not be asked for facts.

| | |
|---|---|
| data | 28 MB of public-domain English books, one paragraph a line |
| held out | {held_out_frac:.0%} of paragraphs, chosen by hash |
| loss | **{best:.3f} nats a token** on held-out paragraphs, packed in windows of {context} |
| command | `python -m engine.pocket.train train.txt.gz OUT --tokens {tokens:g} --lr {lr:g} --seed {seed}` |
| seed | {seed} |
| steps | {num_steps:,} of {tokens_per_step:,} tokens |
| windows | {first_window} tokens for the first {first_window_frac:.0%} of the steps, then {context} |
| optimiser | Muon for hidden matrices, AdamW for embeddings and norms; peak rate {lr:g}, cosine to zero |
| numerics | bf16 matrix products, fp32 weights and loss; torch {torch} |
| machine | two CPU cores |

![held-out loss over training](curve.svg)

| tokens | train, nats | held out, nats |
|---:|---:|---:|
{rows}

The held-out figure is measured on whole windows, longer than the model has seen until the windows grow.
"""

SIZE, MARGIN = (640, 280), 40


def write_card(folder: Path, num_parameters: int) -> None:
    """Write `README.md` and `curve.svg` into a trained folder."""
    record = json.loads((folder / "training.json").read_text())
    config, curve = TrainConfig(**record["config"]), record["curve"]
    rows = "\n".join(f"| {p['tokens']:,} | {p['train_nats']:.3f} | {p['held_out_nats']:.3f} |" for p in curve)
    card = CARD.format(
        **record["config"],
        millions=num_parameters / 1e6,
        num_steps=config.num_steps,
        torch=record["torch"],
        best=curve[-1]["held_out_nats"],
        rows=rows,
    )
    (folder / "README.md").write_text(card)
    (folder / "curve.svg").write_text(curve_svg([(p["tokens"], p["held_out_nats"]) for p in curve]))


def curve_svg(points: list[tuple[float, float]]) -> str:
    """A line through (tokens, nats), axes labelled at their ends."""
    (width, height), (most, low, high) = SIZE, (points[-1][0], 3.0, max(nats for _, nats in points))

    def place(tokens: float, nats: float) -> str:
        x = MARGIN + (width - 2 * MARGIN) * tokens / most
        y = MARGIN + (height - 2 * MARGIN) * (high - nats) / (high - low)
        return f"{x:.1f},{y:.1f}"

    line = " ".join(place(*point) for point in points)
    frame = f'<path d="M{place(0, high)} L{place(0, low)} L{place(most, low)}" fill="none" stroke="#888"/>'
    labels = (
        f'<text x="{MARGIN}" y="{MARGIN - 10}">{high:.2f} nats, held out</text>'
        f'<text x="{MARGIN}" y="{height - 15}">{low:.1f}</text>'
        f'<text x="{width - MARGIN}" y="{height - 15}" text-anchor="end">{most / 1e6:.1f} M tokens</text>'
        f'<text x="{width - MARGIN}" y="{MARGIN + 20}" text-anchor="end">ends at {points[-1][1]:.3f}</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="13" fill="#555"><rect width="{width}" height="{height}" fill="#fff"/>{frame}'
        f'<polyline points="{line}" fill="none" stroke="#2563eb" stroke-width="2"/>{labels}</svg>\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder that engine.pocket.train wrote")
    args = parser.parse_args()
    from transformers import AutoModelForCausalLM

    write_card(args.folder, AutoModelForCausalLM.from_pretrained(args.folder).num_parameters())


if __name__ == "__main__":
    main()
