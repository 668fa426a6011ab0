"""What a recipe leaves to the model beside its vectors: which member of a portfolio goes first, and which proof.

Owns: the races that decide it on a few samples, how long they may take, the recipe that follows. Must not know: files,
Ray. K soft-prompt vectors.
"""

import math
import time
from collections.abc import Generator
from dataclasses import dataclass, replace

from engine.bounded import Bounded
from engine.capacity import MAX_STEPS, VectorPlan
from engine.race import Race
from engine.recipe import Recipe
from engine.samples import LENGTHS, sample_targets
from engine.slots import Job
from engine.solver import Solver

AFFORDABLE = 1.25
"""Positions beside those of greedy decoding's proof up to which `proof = "auto"` takes the one for beams. Assumption:
what a person who may decode with beams one day gives for it."""


@dataclass(frozen=True)
class Adaptation:
    """What suits one model.

    Attributes:
        member: place in the portfolio of the member that goes first.
        price: positions of the proof for beams beside those of greedy decoding's; None where it was not asked, is not
            to be had for `AFFORDABLE`, or is not known since no sample was solved. An upper bound where greedy
            decoding's was still sought when it was found.
        is_dear: it was found not to be had for `AFFORDABLE`.
        is_settled: else time was too short, and what was not known is the recipe's own order, greedy decoding's proof.
        seconds: what it was given, where that was too little.
    """

    member: int = 0
    price: float | None = None
    is_dear: bool = False
    is_settled: bool = True
    seconds: float = 0.0

    def of(self, recipe: Recipe) -> Recipe:
        """The recipe with nothing left to the model but vectors."""
        order = recipe.portfolio[self.member :] + recipe.portfolio[: self.member]
        proof = recipe.proof if recipe.proof != "auto" else "greedy" if self.price is None else "beam"
        return recipe.model_copy(update={"portfolio": order, "proof": proof})


def picks_member(recipe: Recipe) -> bool:
    """Whether somebody must go first: not all members of the portfolio start side by side."""
    return recipe.siblings < len(recipe.portfolio)


def is_left_open(recipe: Recipe) -> bool:
    """Whether a recipe leaves anything to `Adapting`."""
    return recipe.proof == "auto" or picks_member(recipe)


class Adapting(Bounded[Adaptation]):
    """The races behind an `Adaptation`, step by step within a bound.

    Members race on the samples of every length, each until its margins are there; the first one stays first unless it
    takes more than `race.TOLERANCE` times another's positions. Then the proof for beams races against greedy
    decoding's, and is given up as soon as it has cost `AFFORDABLE` times as much: that it is dear is cheaply learnt.

    Args:
        solver: an idle solver on the model in question.
        recipe: the run's.
        plan: vectors by length, where the recipe does not fix them.
        seconds: the bound.
    """

    def __init__(self, solver: Solver, recipe: Recipe, plan: VectorPlan | None, seconds: float):
        super().__init__(seconds)
        self._solver, self._plan = solver, plan
        self._recipe = recipe.model_copy(update={"max_steps": min(MAX_STEPS, recipe.max_steps), "siblings": 1})
        self._asks = picks_member(recipe), recipe.proof == "auto"
        self._so_far = Adaptation()

    def _found(self) -> Adaptation:
        return replace(self._so_far, seconds=0.0 if self._so_far.is_settled else self.seconds)

    def _walk(self) -> Generator[None, None, None]:
        asks_member, asks_proof = self._asks
        if asks_member:
            yield from self._settle_member(time.monotonic() + self.seconds_left / (1 + asks_proof))
        if asks_proof:
            yield from self._settle_proof()

    def _settle_member(self, ends: float) -> Generator[None, None, None]:
        ways = {place: self._jobs(self._recipe, place) for place in range(len(self._recipe.portfolio))}
        race = Race(self._solver, ways)
        yield from race.run(ends)
        member = race.winner.value if race.is_over and race.winner.is_solved else 0
        self._so_far = replace(self._so_far, member=member, is_settled=race.is_over)

    def _settle_proof(self) -> Generator[None, None, None]:
        recipes = [self._recipe.model_copy(update={"proof": proof}) for proof in ("beam", "greedy")]
        ways = {way: self._jobs(recipe, self._so_far.member) for way, recipe in enumerate(recipes)}
        race = Race(self._solver, ways, tolerance=AFFORDABLE)
        yield from race.run(self._ends)
        beam, greedy = race.arms
        if race.is_over and beam.is_solved and race.winner is beam:
            self._so_far = replace(self._so_far, price=beam.spent / greedy.spent)
        elif race.is_over and greedy.is_solved:
            self._so_far = replace(self._so_far, is_dear=True)
        self._so_far = replace(self._so_far, is_settled=self._so_far.is_settled and race.is_over)

    def _jobs(self, recipe: Recipe, member: int) -> list[Job]:
        """An attempt at every sample."""
        rule = self._solver.lm.token_rule
        jobs = []
        for length in LENGTHS:
            fixed = length if recipe.num_vectors == "auto" else recipe.num_vectors
            num_vectors = self._plan.num_vectors(length, rule.context) if self._plan else fixed
            jobs += [Job(target, recipe, num_vectors, member=member) for target in sample_targets(rule, length)]
        return jobs


def adapt(solver: Solver, recipe: Recipe, plan: VectorPlan | None, seconds: float = math.inf) -> Adaptation:
    """A whole `Adapting` at once."""
    return Adapting(solver, recipe, plan, seconds).whole()
