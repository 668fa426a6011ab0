"""What a soft prompt says: decoders over the frozen model, one interface."""

from engine.decoding.beam import Beam, Beams
from engine.decoding.greedy import Greedy, greedy
from engine.decoding.strategy import Continuation, DecodingError, Strategy

STRATEGIES: dict[str, type[Strategy]] = {
    "greedy": Greedy,
    "beam": Beam,
}

__all__ = ["STRATEGIES", "Beam", "Beams", "Continuation", "DecodingError", "Greedy", "Strategy", "greedy"]
