"""A search made up whole, for tests of its page: trials of every kind, outcomes of every text, a winner held out.

Owns: the folder. Must not know: how the page looks.
"""

import random
from pathlib import Path

from engine.recipe import Recipe
from orchestrator.pool.outcome import OutcomeFile
from tests.tune_spaces.made_up import outcome, report, search_on, study_in, tune_record
from tune_spaces import results
from tune_spaces.hold_out import compare
from tune_spaces.progress import Keeper
from tune_spaces.report.told import OUTCOMES
from tune_spaces.search import StudySearch
from tune_spaces.study import winner

NUM_TEXTS = 16
IDS = [f"text {i}" for i in range(NUM_TEXTS)]
OTHERS = [f"other {i}" for i in range(24)]
BASE = Recipe()


def make_search(folder: Path, *, num_trials: int = 40, gain: float = 0.8, ids: list[str] = IDS) -> Path:
    """A finished search whose trials cost by their rate, the better the nearer it is to 3.

    Args:
        gain: the winner's cost over the base's on the texts held out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study = study_in(folder)
    study.enqueue_trial({"optim.lr": BASE.optim.lr, "optim.beta1": BASE.optim.beta1, "loss.name": BASE.loss.name})
    search, dice, kept = search_on(study, num_texts=len(ids)), random.Random(0), OutcomeFile(folder / OUTCOMES)
    for number in range(num_trials):
        recipe = Recipe.model_validate_json(search.suggest(str(number))["recipe"])
        costs = _costs(recipe, dice, len(ids))
        if number == 0:
            for id, cost in zip(ids, costs, strict=True):
                kept.append(BASE.hash, outcome(id, cost))
        _end(search, str(number), costs if number % 3 == 0 else costs[: 4 + number % 5], ids, number)
    best = winner(study)
    assert best is not None
    mine = Recipe.model_validate_json(best.user_attrs["recipe"])
    sides = [[outcome(id, dice.uniform(10, 30)) for id in OTHERS]]
    sides.append([outcome(each.id, each.cost * gain * dice.uniform(0.9, 1.1)) for each in sides[0]])
    for recipe, side in zip((BASE, mine), sides, strict=True):
        for each in side:
            kept.append(recipe.hash, each)
    comparison = compare(sides[1], sides[0])
    record = tune_record(texts=len(ids), hold_out=len(OTHERS), sizes=(len(ids), len(OTHERS)))
    (folder / "tune.json").write_text(record.model_dump_json())
    Keeper(folder, num_trials, 1).write("finished")
    results.write(folder, study, record, mine if comparison.is_win else BASE, comparison)
    return folder


def _costs(recipe: Recipe, dice: random.Random, number: int) -> list[float]:
    off = abs(recipe.optim.lr - 3.0)
    return [round(8 + 2 * i + 1.5 * off + dice.uniform(0, 4), 1) for i in range(number)]


def _end(search: StudySearch, name: str, costs: list[float], ids: list[str], number: int) -> None:
    pairs = list(zip(ids, costs, strict=False))
    if number == 7:  # came to nothing
        search.on_trial_complete(name, {})
        return
    texts = len(costs) if len(costs) == len(ids) else len(costs) - 2
    told = {"costs": pairs, "missing": [(id, 0) for id, _ in pairs], "texts": texts, "margin": 0.4 + (number % 7) / 10}
    search.on_trial_complete(name, report(*costs, **told))
