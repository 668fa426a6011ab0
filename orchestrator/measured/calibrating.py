"""A calibration as a person sees it: what it is, how long it still takes, what it found, how to do without.

Owns: the words, asking again until there is a plan. Must not know: who is asked, what a calibration does.
"""

from collections.abc import Callable

from engine.capacity import VectorPlan


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
    answer = ask()
    if not isinstance(answer, VectorPlan):
        say(
            f"measuring how many vectors a text needs on this model: at most {seconds:.0f} s, kept for the next run; "
            "--set num_vectors=16 does without"
        )
    while not isinstance(answer, VectorPlan):
        show(f"at most {answer:.0f} s left")
        answer = ask()
    say(in_words(answer))
    return answer


def in_words(plan: VectorPlan) -> str:
    """A plan in one line."""
    line = "vectors for a text: " + ", ".join(f"{k} for {t} tokens" for t, k in plan.points)
    if plan.undecided:
        lengths = " and ".join(map(str, plan.undecided))
        line += f" ({lengths} tokens not settled in {plan.seconds:.0f} s: what came furthest is taken)"
    return line
