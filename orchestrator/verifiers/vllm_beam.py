"""Beam search for many texts over an engine that can only name likely next tokens.

Owns: which hypotheses are asked about in one call. Must not know: the engine. The cost is one decoded token a running
hypothesis and step: at most width x length for a text.
"""

from collections.abc import Callable, Sequence

from engine.decoding.beam import Beams
from engine.decoding.strategy import Continuation

Hypotheses = list[tuple[int, tuple[int, ...]]]
"""(index of the text, tokens after its soft prompt)."""

LikelyTokens = list[list[tuple[int, float]]]
"""For each hypothesis its likeliest next tokens and their log-probabilities in nats, best first."""


def search_beams(
    likely: Callable[[Hypotheses, int], LikelyTokens], limits: Sequence[int], *, width: int, end_id: int | None
) -> list[Continuation]:
    """The best finished text of every search; finished searches leave the calls.

    Args:
        likely: `(hypotheses, n) -> the n likeliest next tokens of each`, all hypotheses in one call.
        limits: most tokens of each text.
        width: hypotheses of a text that run side by side.
        end_id: end-of-text token.
    """
    searches = [Beams(width, limit, end_id) for limit in limits]
    while running := [b for b, search in enumerate(searches) if not search.is_done]:
        asked = [(b, hypothesis.token_ids) for b in running for hypothesis in searches[b].running]
        answers = iter(likely(asked, 2 * width))
        for b in running:
            steps = [next(answers) for _ in searches[b].running]
            searches[b].advance(
                [[token for token, _ in step] for step in steps], [[log_p for _, log_p in step] for step in steps]
            )
    return [search.best for search in searches]
