"""The card of a learned correction, for people and for programs, and the recipe that uses it.

Owns: what they say. Must not know: how the figures came about.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.correction.trainer import TrainSettings
from engine.recipe import Recipe
from engine.recipe.writing import to_toml
from orchestrator.learn.comparison import Worth
from orchestrator.learn.state import Progress
from orchestrator.learn.texts import Texts

CARD = """# Learned start for {model}

Small networks that propose a soft prompt for a text, trained through the frozen model `{model}` (fingerprint
`{fingerprint}`) by `verbatim learn`. They are of use to this model alone, and the folder is refused with any other.

| | |
|---|---|
| networks | {millions:.2f} M parameters, {kind}, {layers} layers of width {width} |
| learned from | {num_train:,} pieces of {corpus} |
| measured on | {num_held_out:,} pieces of {held_out_corpus}, never learned from |
| training | {steps:,} steps, {positions:,} positions, {seconds:.0f} s, seed {seed}; torch {torch} |
| digest | `{digest}`{begun_with} |

## What it is worth

{worth}

## Prompts without a single step

| corrections | nats a token | tokens right | texts exact |
|---:|---:|---:|---:|
{rounds}

## Curve

| seconds | steps | trained, nats | held out, nats | held out, tokens right |
|---:|---:|---:|---:|---:|
{curve}

`verbatim run CORPUS --model {model} --recipe {folder}/recipe.toml` uses it.
"""


@dataclass(frozen=True)
class Learned:
    """All that a card tells.

    Attributes:
        begun_with: digest of the networks that were taken over, whose work is not in the figures; or empty.
        worth: None where the time was too short to measure it.
    """

    folder: Path
    model: str
    fingerprint: str
    digest: str
    settings: TrainSettings
    texts: Texts
    num_parameters: int
    num_steps: int
    num_positions: int
    progress: Progress
    worth: Worth | None
    begun_with: str = ""


def write_card(learned: Learned) -> None:
    """Write `README.md` and `card.json`."""
    (learned.folder / "README.md").write_text(_page(learned), encoding="utf-8")
    values = {
        "model": learned.model,
        "fingerprint": learned.fingerprint,
        "digest": learned.digest,
        "begun_with": learned.begun_with,
        "settings": learned.settings.model_dump(mode="json"),
        "parameters": learned.num_parameters,
        "corpora": learned.texts.names,
        "texts": len(learned.texts.train),
        "held_out": len(learned.texts.held_out),
        "steps": learned.num_steps,
        "positions": learned.num_positions,
        "seconds": round(learned.progress.seconds, 1),
        "curve": learned.progress.curve,
        "worth": learned.worth and learned.worth.to_json(),
        "texts_to_pay": learned.worth and learned.worth.texts_to_pay(learned.num_positions),
        "torch": torch.__version__,
    }
    (learned.folder / "card.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Write `recipe.toml`, which `run --recipe` takes."""
    header = "The recipe that was compared, with the learned start that lies beside this file."
    (folder / "recipe.toml").write_text(to_toml(recipe, header), encoding="utf-8")


def told_worth(worth: Worth | None, num_positions: int) -> str:
    """One line: what the start saves, or that it does not."""
    if worth is None:
        return "not measured: no held-out text was solved from both starts in the time there was"
    told = (
        f"{worth.ratio:.0%} of the work ({worth.low:.0%} to {worth.high:.0%}) on {worth.texts} held-out texts, "
        f"{worth.steps[0]:g} steps where the recipe's own start takes {worth.steps[1]:g}"
    )
    count = worth.texts_to_pay(num_positions)
    return f"{told}; its training pays from {count:,} texts on" if count else f"{told}; it is not known to pay"


def _page(learned: Learned) -> str:
    shape, progress = learned.settings.shape, learned.progress
    last: list[dict[str, Any]] = progress.curve[-1]["rounds"] if progress.curve else []
    return CARD.format(
        model=learned.model,
        fingerprint=learned.fingerprint,
        digest=learned.digest,
        begun_with=f", begun with `{learned.begun_with}`, whose training is not counted here"
        * bool(learned.begun_with),
        folder=learned.folder,
        millions=learned.num_parameters / 1e6,
        kind="a start alone" if shape.corrector == "none" else f"a start and a {shape.corrector}",
        layers=shape.layers,
        width=shape.width,
        num_train=len(learned.texts.train),
        num_held_out=len(learned.texts.held_out),
        corpus=learned.texts.names[0],
        held_out_corpus=learned.texts.names[1],
        steps=learned.num_steps,
        positions=learned.num_positions,
        seconds=progress.seconds,
        seed=learned.settings.seed,
        torch=torch.__version__,
        worth=told_worth(learned.worth, learned.num_positions).capitalize() + ".",
        rounds="\n".join(
            f"| {r['round']} | {r['nats']:.3f} | {r['accuracy']:.1%} | {r['exact_frac']:.1%} |" for r in last
        ),
        curve="\n".join(
            f"| {p['seconds']:.0f} | {p['steps']:,} | {' '.join(f'{nats:.3f}' for nats in p['nats'][:1])} | "
            f"{p['rounds'][0]['nats']:.3f} | {p['rounds'][0]['accuracy']:.1%} |"
            for p in progress.curve
        ),
    )
