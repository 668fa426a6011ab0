"""What is measured about a model as a person sees it: what it is, how long it still takes, what it found, how to do
without.

Owns: the words, asking again until there is an answer. Must not know: who is asked, what a calibration does.
"""

from collections.abc import Callable
from typing import TypeVar

from engine.adaptation import AFFORDABLE, Adaptation, picks_member
from engine.capacity import VectorPlan
from engine.recipe import Recipe

Found = TypeVar("Found", VectorPlan, Adaptation)


def _settled(
    ask: Callable[[], Found | float], begun: str, say: Callable[[str], None], show: Callable[[str], None]
) -> Found:
    """Ask until there is an answer; `begun` is said where it takes more than one question."""
    answer = ask()
    if isinstance(answer, (int, float)):
        say(begun)
    while isinstance(answer, (int, float)):
        show(f"at most {answer:.0f} s left")
        answer = ask()
    return answer


def settled_plan(
    ask: Callable[[], VectorPlan | float],
    seconds: float,
    say: Callable[[str], None],
    show: Callable[[str], None] = lambda _: None,
) -> VectorPlan:
    """The plan that asking again and again comes to.

    Args:
        ask: gives the plan, or the most seconds it still takes.
        seconds: the bound.
        say: a line for a person.
        show: how far it is, for a bar.
    """
    begun = (
        f"measuring how many vectors a text needs on this model: at most {seconds:.0f} s, kept for the next run; "
        "--set num_vectors=16 does without"
    )
    plan = _settled(ask, begun, say, show)
    say(in_words(plan))
    return plan


def in_words(plan: VectorPlan) -> str:
    """A plan in one line."""
    line = "vectors for a text: " + ", ".join(f"{k} for {t} tokens" for t, k in plan.points)
    if plan.undecided:
        lengths = " and ".join(map(str, plan.undecided))
        line += f" ({lengths} tokens not settled in {plan.seconds:.0f} s: what came furthest is taken)"
    return line


def settled_adaptation(
    ask: Callable[[], Adaptation | float],
    recipe: Recipe,
    seconds: float,
    say: Callable[[str], None],
    show: Callable[[str], None] = lambda _: None,
) -> Adaptation:
    """What asking again and again finds to suit the model.

    Args:
        ask: gives it, or the most seconds it still takes.
        recipe: that leaves something open.
        seconds: the bound.
        say: a line for a person.
        show: how far it is, for a bar.
    """
    asked = "which proof this model affords" if recipe.proof == "auto" else "which member of the portfolio suits"
    begun = f"measuring {asked}: at most {seconds:.0f} s, kept for the next run"
    adaptation = _settled(ask, begun, say, show)
    say(adapted_in_words(adaptation, recipe))
    return adaptation


def adapted_in_words(found: Adaptation, recipe: Recipe) -> str:
    """In one line what a recipe becomes on this model."""
    parts = []
    if picks_member(recipe):
        name = recipe.portfolio[found.member].name
        parts.append(f"member {found.member} of the portfolio{f' ({name})' * bool(name)} goes first")
    if recipe.proof == "auto" and found.price is not None:
        parts.append(f"proof: beam, for {found.price:.2f} times the positions")
    elif recipe.proof == "auto":
        dear = f", beam takes more than {AFFORDABLE:g} times the positions" * found.is_dear
        unknown = ", neither was found on the samples" * (found.is_settled and not found.is_dear)
        parts.append(f"proof: greedy{dear}{unknown}")
    late = "" if found.is_settled else f" (not settled in {found.seconds:.0f} s)"
    return f"on this model {'; '.join(parts)}{late}"
