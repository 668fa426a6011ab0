"""What a soft prompt says: decoders over the frozen model, one interface."""

from engine.decoding.beam import Beam, Beams
from engine.decoding.constrained import Constrained
from engine.decoding.contrastive import Contrastive
from engine.decoding.greedy import Greedy, greedy
from engine.decoding.nucleus import Nucleus
from engine.decoding.soft import Soft
from engine.decoding.soft_beam import SoftBeam
from engine.decoding.strategy import Belief, Continuation, DecodingError, Strategy

STRATEGIES: dict[str, type[Strategy]] = {
    "greedy": Greedy,
    "beam": Beam,
    "constrained": Constrained,
    "contrastive": Contrastive,
    "nucleus": Nucleus,
    "soft": Soft,
    "soft_beam": SoftBeam,
}

__all__ = [
    "STRATEGIES",
    "Beam",
    "Beams",
    "Belief",
    "Constrained",
    "Continuation",
    "Contrastive",
    "DecodingError",
    "Greedy",
    "Nucleus",
    "Soft",
    "SoftBeam",
    "Strategy",
    "greedy",
]
