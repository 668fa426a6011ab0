"""`verbatim learn` from its first line to its last.

Owns: the order of things, how long each may take, what is told meanwhile. Must not know: networks, formats.

    corpus -> pieces -> training (resumed, saved as it goes) -> comparison with the recipe's own start -> card, recipe
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from pydantic import ValidationError
from transformers.utils.logging import disable_progress_bar

from engine.correction.correction import CorrectionShape, figures
from engine.correction.folder import digest_of, load_correction
from engine.correction.trainer import Trainer, TrainSettings, num_vectors_for
from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from engine.recipe import Recipe
from engine.recipe.sections import StartRecipe
from engine.settings import SettingsError, complaint, keys_of, nearest, override
from orchestrator.console.errors import UserError
from orchestrator.corpus import Reading, open_corpus
from orchestrator.learn.card import Learned, told_worth, write_card, write_recipe
from orchestrator.learn.comparison import Worth, compare
from orchestrator.learn.state import Identity, Progress, resume, save
from orchestrator.learn.texts import Texts, read_texts
from orchestrator.process import interrupts
from orchestrator.storage.location import Location

TELL_S = 10.0
"""Seconds between two lines of progress."""

LOOK_S = 60.0
"""Seconds between two looks at the held-out texts, each of which is saved: what a kill costs at most."""

TOKENS_PER_VECTOR = 4.0
"""Ratio at which held-out texts are looked at and compared: the tightest of those trained."""

COMPARISON_FRAC = 0.5
"""Most time of the comparison, over the training's."""


@dataclass(frozen=True)
class LearnOptions:
    """What was asked for.

    Attributes:
        held_out: a corpus to measure on; None holds pieces of the first one out.
        minutes: of training, earlier calls included.
        max_steps: of training, likewise; None is as many as fit.
        longest: most tokens of a piece.
        recipe: whose own start the learned one is compared with.
        begin_with: folder of networks to take over; their training's work comes on top.
        corrections: rounds of correction in the recipe that is written and compared; None is as many as were trained.
    """

    corpus: Location
    held_out: Location | None
    reading: Reading
    source: ModelSource
    out: Path
    minutes: float
    max_steps: int | None
    longest: int
    settings: TrainSettings
    recipe: Recipe
    dtype: str = "float32"
    begin_with: Path | None = None
    corrections: int | None = None


def train_settings(overrides: list[str]) -> TrainSettings:
    """Settings from `KEY=VALUE`.

    Raises:
        SettingsError: unknown key (nearest valid name offered), value out of range.
    """
    try:
        return TrainSettings.model_validate(override({}, overrides, example="lr=1e-3", flag="--train"))
    except ValidationError as error:
        first = complaint(error)
        if not first.is_unknown:
            raise SettingsError(first.line("--train ")) from error
        valid = nearest(first.key, keys_of(TrainSettings))
        raise SettingsError(f"--train {first.key}: unknown; the nearest valid key is {valid}") from error


def learn(options: LearnOptions, say: Callable[[str], None]) -> None:
    """Train until the minutes or the steps are over, compare, write the folder.

    Raises:
        UserError: there is nothing to learn from, or the folder holds another training.
    """
    disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    lm = FrozenLM.load(options.source, device=device, dtype=options.dtype)
    texts = _read(options, lm)
    say(f"{len(texts.train):,} pieces to learn from, {len(texts.held_out):,} held out; model {options.source.name}")
    trainer = Trainer(lm, [target.token_ids for target in texts.train], options.settings)
    begun_with = _begin(options, trainer)
    identity = Identity(lm.fingerprint, texts.digest(), options.settings.model_dump(mode="json"), begun_with)
    progress = resume(options.out, trainer, identity)
    if progress.seconds:
        say(f"going on after {trainer.num_steps:,} steps and {progress.seconds:.0f} s")
    options.out.mkdir(parents=True, exist_ok=True)
    digest = _train(options, trainer, texts, identity, progress, say)
    learned = options.recipe.model_copy(update={"start": _start(options, digest)})
    write_recipe(options.out, learned)
    worth = _compare(options, lm, texts, learned, progress, say)
    write_card(
        Learned(
            options.out, options.source.name, lm.fingerprint, digest, options.settings, texts,
            sum(p.numel() for p in trainer.averaged.parameters()), trainer.num_steps, trainer.num_positions,
            progress, worth, begun_with,
        )
    )  # fmt: skip
    say(f"learned start: {told_worth(worth, trainer.num_positions)}")


def _read(options: LearnOptions, lm: FrozenLM) -> Texts:
    if options.longest >= lm.token_rule.context:
        raise UserError(f"--longest {options.longest}: the model's context is {lm.token_rule.context} tokens")
    held_out = None if options.held_out is None else open_corpus(options.held_out, options.reading)
    return read_texts(open_corpus(options.corpus, options.reading), held_out, lm.token_rule, options.longest)


def _begin(options: LearnOptions, trainer: Trainer) -> str:
    """Take over the networks that are to be gone on with; their digest, empty where there are none."""
    if options.begin_with is None:
        return ""
    correction = load_correction(options.begin_with, trainer.lm)
    if correction.shape != options.settings.shape:
        raise UserError(
            f"--begin-with {options.begin_with}: its networks are {_shown(correction.shape)}, and those to be trained "
            f"{_shown(options.settings.shape)}; give --train its shape"
        )
    trainer.begin_with(correction)
    return digest_of(options.begin_with)


def _shown(shape: CorrectionShape) -> str:
    return " ".join(f"shape.{name}={value}" for name, value in shape)


def _start(options: LearnOptions, digest: str) -> StartRecipe:
    settings = options.settings
    trained = settings.rounds if settings.shape.corrector != "none" else 0
    corrections = trained if options.corrections is None else options.corrections
    return StartRecipe(name="learned", folder=str(options.out.resolve()), digest=digest, corrections=corrections)


def _train(
    options: LearnOptions, trainer: Trainer, texts: Texts, identity: Identity, progress: Progress,
    say: Callable[[str], None],
) -> str:  # fmt: skip
    """Step until time or steps are over; the digest of what was saved last."""
    before, started, told = progress.seconds, time.monotonic(), time.monotonic()
    losses: list[list[float]] = []
    digest = ""
    try:
        while not _is_over(options, trainer, progress):
            losses.append(trainer.step())
            progress.seconds = before + time.monotonic() - started
            if time.monotonic() - told >= TELL_S:
                told = time.monotonic()
                say(f"{_told(options, trainer, progress)}, loss {losses[-1][-1]:.3f} nats")
            if progress.seconds - _last_look(progress) >= LOOK_S:
                digest = _look(trainer, texts, identity, progress, losses, options.out)
                losses = []
    except KeyboardInterrupt:
        with interrupts.held():
            save(options.out, trainer, identity, progress)
        raise
    if losses or not progress.curve:
        digest = _look(trainer, texts, identity, progress, losses, options.out)
    elif not digest:
        digest = save(options.out, trainer, identity, progress)
    rounds = progress.curve[-1]["rounds"]
    say(f"held out: {rounds[0]['nats']:.3f} nats, {rounds[0]['accuracy']:.1%} of tokens right at the start")
    return digest


def _is_over(options: LearnOptions, trainer: Trainer, progress: Progress) -> bool:
    is_enough = options.max_steps is not None and trainer.num_steps >= options.max_steps
    return is_enough or progress.seconds >= 60 * options.minutes


def _told(options: LearnOptions, trainer: Trainer, progress: Progress) -> str:
    left = max(0.0, 60 * options.minutes - progress.seconds)
    if options.max_steps is not None and trainer.num_steps:
        left = min(left, progress.seconds / trainer.num_steps * (options.max_steps - trainer.num_steps))
    return f"step {trainer.num_steps:,}, {progress.seconds:.0f} s, {left:.0f} s left"


def _last_look(progress: Progress) -> float:
    return progress.curve[-1]["seconds"] if progress.curve else 0.0


def _look(
    trainer: Trainer, texts: Texts, identity: Identity, progress: Progress, losses: list[list[float]], folder: Path
) -> str:
    """Measure the held-out texts, remember the point, save everything."""
    targets = [torch.tensor(target.token_ids, device=trainer.lm.device) for target in texts.held_out]
    num_vectors = [num_vectors_for(len(target_T), TOKENS_PER_VECTOR) for target_T in targets]
    rounds = figures(trainer.lm, trainer.averaged, targets, num_vectors, trainer.settings.rounds)
    by_round = [fmean(values) for values in zip(*losses, strict=True)]
    progress.curve.append(
        {
            "seconds": round(progress.seconds, 1),
            "steps": trainer.num_steps,
            "positions": trainer.num_positions,
            "nats": [round(value, 4) for value in by_round],
            "rounds": [figure.to_json() for figure in rounds],
        }
    )
    return save(folder, trainer, identity, progress)


def _compare(
    options: LearnOptions, lm: FrozenLM, texts: Texts, learned: Recipe, progress: Progress, say: Callable[[str], None]
) -> Worth | None:
    say("comparing with the recipe's own start on held-out texts")
    told = time.monotonic()

    def tell(ended: int, attempts: int) -> None:
        nonlocal told
        if time.monotonic() - told >= TELL_S:
            told = time.monotonic()
            say(f"{ended} of {attempts} attempts ended")

    return compare(
        lm, texts.held_out, learned, options.recipe, tokens_per_vector=TOKENS_PER_VECTOR,
        seconds=max(TELL_S, COMPARISON_FRAC * progress.seconds), tell=tell,
    )  # fmt: skip
