"""What a soft prompt says: decoders over the frozen model."""

from engine.decoding.greedy import greedy

__all__ = ["greedy"]
