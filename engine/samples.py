"""The texts on which a model is looked at before a run: a few of our own, so that no corpus is needed.

Owns: the texts, their lengths in tokens. Must not know: what is measured on them.
"""

import math

from engine.frozen_lm import TokenRule
from engine.target import Target, encode

NUM_SAMPLES = {8: 4, 32: 2}
"""How many samples of each length in tokens: most sentences lie around or between them."""

LENGTHS = tuple(NUM_SAMPLES)

SAMPLES = (
    "The keeper of the lighthouse wrote down the weather every evening, even when nobody asked him for it, "
    "and he kept the books in a dry chest under the stairs.",
    "When the train stopped between two stations, a boy climbed out to look at the river, and his sister "
    "called after him that they would leave without him.",
    "Copper, salt and dried fish were sold on the market square until noon; after that the stalls belonged to "
    "the musicians and to whoever could bear them.",
    "She measured the field twice with the same rope, got two different answers, and decided that the rope "
    "had been the one thing that changed.",
)
"""Written for this file, so that no corpus is needed; only their first tokens are used."""


def sample_targets(token_rule: TokenRule, length: int) -> list[Target]:
    """The samples of one of `LENGTHS`, repeated where one is too short."""
    return [_target(token_rule, number, length) for number in range(NUM_SAMPLES[length])]


def _target(token_rule: TokenRule, number: int, length: int) -> Target:
    # Added tokens may lack a row in the embedding; a sample need not say its text, only be read.
    ids = [token for token in encode(token_rule, SAMPLES[number]) if token < token_rule.num_embeddings]
    ids = (ids * math.ceil(length / len(ids)))[:length]
    return Target(f"calibration-{length}-{number}", SAMPLES[number], tuple(ids), ends=False)
