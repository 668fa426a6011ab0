"""Loss terms: what a text costs, one value a text. `TERMS` is all of them; a recipe weighs them by name."""

from collections.abc import Callable

from torch import Tensor

from engine.losses.position import MARGIN_TERMS, POSITION_TERMS, Knobs, PositionTerm
from engine.losses.prompts import manifold, prompt_perplexity
from engine.losses.samples import minimum_risk, reinforce, rloo
from engine.losses.states import professor_forcing, simctg
from engine.losses.tokens import autoregressive, entropy, optimal_completion, sequence_unlikelihood, unlikelihood
from engine.losses.view import Positions, TextView, View

Term = Callable[[View], Tensor]


def _over_positions(term: PositionTerm) -> Term:
    return lambda view: term(*view.positions)


TERMS: dict[str, Term] = {name: _over_positions(term) for name, term in POSITION_TERMS.items()} | {
    "unlikelihood": unlikelihood,
    "sequence_unlikelihood": sequence_unlikelihood,
    "simctg": simctg,
    "entropy": entropy,
    "autoregressive": autoregressive,
    "optimal_completion": optimal_completion,
    "professor_forcing": professor_forcing,
    "reinforce": reinforce,
    "rloo": rloo,
    "minimum_risk": minimum_risk,
    "prompt_perplexity": prompt_perplexity,
    "manifold": manifold,
}

ROLLOUT_TERMS = ("sequence_unlikelihood", "autoregressive", "optimal_completion", "professor_forcing")
"""Terms that need the greedy rollout, made once for all of them."""

SAMPLE_TERMS = ("reinforce", "rloo", "minimum_risk")
"""Terms that need sampled rollouts, made once for all of them."""

__all__ = [
    "MARGIN_TERMS", "POSITION_TERMS", "ROLLOUT_TERMS", "SAMPLE_TERMS", "TERMS",
    "Knobs", "Positions", "Term", "TextView", "View",
]  # fmt: skip
