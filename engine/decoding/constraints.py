"""Constraints on a text in predicate logic, compiled to an automaton that reads it token by token.

Owns: which phrases have occurred, whether the formula holds, how many tokens it still needs. Must not know: models,
tokenizers, searches.

A formula is a conjunction of clauses, a clause a disjunction of literals, and a literal says of a phrase that it occurs
in the text, or that it does not. A phrase that must occur is a clause of one literal.
Source: the formulas are those of NeuroLogic (Lu et al. 2021, 2010.12884); the automaton is Aho and Corasick's (1975)
beside the set of phrases seen.
"""

import math
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

MAX_STATES = 2**17
"""Assumption: three million transitions, a few seconds of breadth-first search."""

OTHER = -1
"""Stands for every token that is in no phrase."""


@dataclass(frozen=True)
class Occurs:
    """A literal: one of these token sequences occurs in the text, or, where not `wanted`, none does.

    Attributes:
        phrase: the ways to spell one phrase, token ids each.
        wanted: whether it must occur or must not.
    """

    phrase: frozenset[tuple[int, ...]]
    wanted: bool = True


Formula = Sequence[Sequence[Occurs]]


class State(NamedTuple):
    """What the automaton knows of the tokens read.

    Attributes:
        node: longest end of the text that begins a phrase, as a node of the trie; 0 is the empty one.
        seen: bit i is set where phrase i has occurred.
    """

    node: int
    seen: int


class Automaton:
    """Reads a text and says whether the formula holds of it.

    Distances presume a token outside all phrases: next to a real vocabulary there always is one.

    Attributes:
        start: the state before the first token.
        tokens: all tokens of the phrases, in order.

    Args:
        formula: clauses of literals; without clauses it always holds.
        end_id: end-of-text token, which no phrase may contain.
    Raises:
        ValueError: a phrase is empty or contains `end_id`, or there are too many of them.
    """

    start = State(0, 0)

    def __init__(self, formula: Formula, end_id: int | None = None):
        phrases = list(dict.fromkeys(literal.phrase for clause in formula for literal in clause))
        for spelling in (spelling for phrase in phrases for spelling in phrase):
            if not spelling:
                raise ValueError("clauses: an empty phrase occurs in every text; leave it out")
            if end_id in spelling:
                raise ValueError(f"clauses: a phrase contains the end-of-text token {end_id}; nothing follows that one")
        self.tokens = sorted({token for phrase in phrases for spelling in phrase for token in spelling})
        self._grow(phrases)
        if len(self._next) << len(phrases) > MAX_STATES:
            raise ValueError(
                f"clauses: {len(phrases)} distinct phrases with {len(self._next)} beginnings make more than "
                f"{MAX_STATES} states: use fewer or shorter phrases"
            )
        bit = {phrase: 1 << i for i, phrase in enumerate(phrases)}
        self._wanted = [sum({bit[says.phrase] for says in clause if says.wanted}) for clause in formula]
        self._unwanted = [sum({bit[says.phrase] for says in clause if not says.wanted}) for clause in formula]

    def step(self, state: State, token: int) -> State:
        """The state after one more token."""
        node = self._next[state.node].get(token, 0)
        return State(node, state.seen | self._found[node])

    def satisfied(self, state: State) -> tuple[bool, ...]:
        """Which clauses hold of the text read."""
        return tuple(
            bool(state.seen & wanted or unwanted & ~state.seen)
            for wanted, unwanted in zip(self._wanted, self._unwanted, strict=True)
        )

    def holds(self, state: State) -> bool:
        """Whether the formula holds of the text read, were it to stop here."""
        return all(self.satisfied(state))

    def distance(self, state: State) -> int | float:
        """Least number of tokens after which the formula holds: 0 where it does, infinite where it never will.

        Args:
            state: one that is reached from `start`.
        """
        return self._distances.get(state, math.inf)

    def progress(self, state: State) -> float:
        """Largest share, in [0, 1], of a wanted phrase of an open clause with which the text breaks off."""
        lacking = 0
        for wanted, holds in zip(self._wanted, self.satisfied(state), strict=True):
            lacking |= 0 if holds else wanted
        return max((share for i, share in self._begun[state.node].items() if lacking >> i & 1), default=0.0)

    def _grow(self, phrases: list[frozenset[tuple[int, ...]]]) -> None:
        """The trie of all phrases, where each node also knows what its longest proper end knows.

        `_next[node]` are the transitions that do not lead back to node 0, `_found[node]` the bits of the phrases that
        end there, `_begun[node]` the shares of the phrases that begin with one of its ends.
        """
        children: list[dict[int, int]] = [{}]
        self._found = [0]
        self._begun: list[dict[int, float]] = [{}]
        for i, phrase in enumerate(phrases):
            for spelling in phrase:
                node = 0
                for depth, token in enumerate(spelling, start=1):
                    if token not in children[node]:
                        children[node][token] = len(children)
                        children.append({})
                        self._found.append(0)
                        self._begun.append({})
                    node = children[node][token]
                    self._begun[node][i] = max(self._begun[node].get(i, 0.0), depth / len(spelling))
                self._found[node] |= 1 << i
        self._next = [children[0] for _ in children]
        todo = deque((child, 0) for child in children[0].values())
        while todo:
            node, longest_end = todo.popleft()
            self._found[node] |= self._found[longest_end]
            for i, share in self._begun[longest_end].items():
                self._begun[node][i] = max(self._begun[node].get(i, 0.0), share)
            todo.extend((child, self._next[longest_end].get(token, 0)) for token, child in children[node].items())
            self._next[node] = self._next[longest_end] | children[node]

    @cached_property
    def _distances(self) -> dict[State, int]:
        """Breadth-first search from the states where the formula holds, against the direction of reading."""
        before: dict[State, list[State]] = defaultdict(list)
        reached, todo = {self.start}, deque([self.start])
        while todo:
            state = todo.popleft()
            for token in (*self._next[state.node], OTHER):
                after = self.step(state, token)
                before[after].append(state)
                if after not in reached:
                    reached.add(after)
                    todo.append(after)
        distances = {state: 0 for state in reached if self.holds(state)}
        todo = deque(distances)
        while todo:
            state = todo.popleft()
            for earlier in before[state]:
                if earlier not in distances:
                    distances[earlier] = distances[state] + 1
                    todo.append(earlier)
        return distances
