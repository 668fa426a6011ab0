"""From corpus rows to jobs: what becomes a target, with how many vectors, and what is refused.

Owns: unique ids, skipping what a folder already holds, K for each text. Must not know: Ray, the solver.
"""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from engine.capacity import VectorPlan
from engine.frozen_lm import TokenRule
from engine.recipe import Recipe
from engine.slots import Job
from engine.target import Invalid, Refusal, Target, make_target
from orchestrator.console.errors import UserError
from orchestrator.console.terminal import one_line
from orchestrator.corpus import Corpus, CorpusRow
from orchestrator.corpus.selection import Selection
from orchestrator.storage.digest_set import DigestSet


@dataclass(frozen=True)
class Refused:
    """A row that cannot be a target."""

    row: int
    id: str
    text: object
    why: Refusal


@dataclass(frozen=True)
class Accepted:
    """A row and the first attempt at it."""

    row: int
    job: Job


Taken = Accepted | Refused


@dataclass(frozen=True)
class Intake:
    """Turns a corpus into jobs, lazily.

    Attributes:
        plan: vectors by text length, or None where the recipe fixes K.
        skip: ids that have their row already.
        say: told of the first row whose id had to be made.
        served_length: positions that the verifier reads at most; None is the model's context.
        selection: the rows that are meant.
    """

    corpus: Corpus
    token_rule: TokenRule
    recipe: Recipe
    plan: VectorPlan | None = None
    skip: Container[str] = frozenset()
    say: Callable[[str], None] | None = None
    served_length: int | None = None
    selection: Selection = Selection()

    def named(self) -> Iterator[tuple[CorpusRow, str]]:
        """Every row that is meant, and its id, in corpus order.

        A row whose id is null or an earlier row's is `ID#row`: a document's id on each of its sentences loses none.
        """
        seen, asked = DigestSet(), self.selection.ids
        num_missing = len(asked) if asked is not None else 1
        for row in islice(self.corpus.rows(), self.selection.limit):
            id = row.id if row.id is not None and row.id not in seen else _unique(row, seen)
            if self.corpus.id_column is not None:  # ids made of row numbers are unlike each other
                seen.add(id)
            if asked is None:
                yield row, id
            elif id in asked:
                yield row, id
                num_missing -= 1
                if not num_missing:
                    return

    def taken(self) -> Iterator[Taken]:
        """Every row that is meant and has no result yet, in corpus order."""
        is_told = self.say is None
        for row, id in self.named():
            if id != row.id and not is_told:
                self._tell(row, id)
                is_told = True
            if id not in self.skip:
                yield self._take(row, id)

    def num_to_come(self) -> int:
        """Rows that are meant and have no result yet.

        Raises:
            UserError: an id that is meant is none of the corpus.
        """
        missing, count = set(self.selection.ids or ()), 0
        for _, id in self.named():
            missing.discard(id)
            count += id not in self.skip
        if missing:
            raise UserError(
                f"--ids {min(missing)}: {self.corpus.path} has no such id; give ids as results have them, "
                "row-N where there is no id column, ID#ROW where a row before has the same"
            )
        return count

    def require_a_target(self) -> None:
        """Stop early, with the first row's reason, where no row at all can be a target.

        Raises:
            UserError: nothing in the corpus can be inverted.
        """
        first, count = None, 0
        for item in replace(self, plan=None, skip=frozenset()).taken():
            if isinstance(item, Accepted):
                return
            first, count = first or item, count + 1
        assert first is not None, "an opened corpus has rows"
        which = f"its {count} rows" if self.selection.is_everything else f"the {count} rows of {self.selection}"
        raise UserError(
            f"corpus {self.corpus.path}: none of {which} can be a target; "
            f"row {first.row} is {first.why}{self._remedy(first)}"
        )

    def _take(self, row: CorpusRow, id: str) -> Taken:
        fixed = 1 if self.recipe.num_vectors == "auto" else self.recipe.num_vectors
        target = make_target(self.token_rule, id, row.text, end_of_text=self.recipe.end_of_text, num_vectors=fixed)
        if isinstance(target, Refusal):
            return Refused(row.row, id, row.text, target)
        num_vectors, num_tokens = fixed, len(target.token_ids)
        served = self.served_length or self.token_rule.context
        if num_vectors + num_tokens > served:
            return Refused(row.row, id, row.text, Refusal(Invalid.TOO_LONG, _beyond(num_vectors + num_tokens, served)))
        if self.plan is not None:
            num_vectors = self.plan.num_vectors(num_tokens, served)
        return Accepted(row.row, Job(target, self.recipe, num_vectors))

    def _tell(self, row: CorpusRow, id: str) -> None:
        assert self.say is not None
        what = "has no id" if row.id is None else f"has the id {row.id} of an earlier row"
        self.say(one_line(f"row {row.row} {what} and is called {id}; so is every such row, none is lost"))

    def _remedy(self, refused: Refused) -> str:
        if refused.why.reason is not Invalid.TOO_LONG:
            return ""
        return (
            f": its tokens and the soft prompt need more than the model's context of {self.token_rule.context}; "
            "cut the text, lower num_vectors or take a model with a longer context"
        )


def _beyond(needed: int, served: int) -> str:
    return (
        f"{needed} positions with its soft prompt, and the verifier was started for {served}, by the texts that the "
        "corpus began with; invert it in a run of its own"
    )


def easiest_first(
    taken: Iterator[Taken], difficulty: Callable[[list[Target]], list[float]], window: int
) -> Iterator[Taken]:
    """Rows by rising difficulty within windows of the corpus, so that it may be larger than memory; refused ones first.

    Args:
        difficulty: a number for each target.
        window: rows that are looked at together.
    """
    while chunk := list(islice(taken, window)):
        yield from (item for item in chunk if isinstance(item, Refused))
        accepted = [item for item in chunk if isinstance(item, Accepted)]
        numbers = difficulty([item.job.target for item in accepted])
        by_difficulty = sorted(range(len(accepted)), key=lambda i: numbers[i])
        yield from (accepted[i] for i in by_difficulty)


def _unique(row: CorpusRow, seen: Container[str]) -> str:
    """An id for a row that has none of its own: `ID#row`, unlike any seen."""
    id = f"{row.id or ''}#{row.row}"
    while id in seen:
        id += "#"
    return id
