"""`Inverter`: a frozen model in this process that soft prompts are found for.

Owns: what a caller may choose, what is loaded, the order of a call's steps. Must not know: the loop, optimisation.

    arguments -> room -> solver loaded | texts -> vector plan -> margin -> loop -> results

These are the steps of `verbatim run`, with the same parts; there is no Ray and no folder.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from engine.adaptation import Adaptation, is_left_open
from engine.capacity import VectorPlan, seconds_for
from engine.footprint import Footprint
from engine.frozen_lm import DTYPES, TokenRule
from engine.loading import no_progress_bars
from engine.model_source import ModelSource
from engine.recipe import Recipe
from engine.target import decode
from orchestrator.corpus.intake import Intake, Taken, easiest_first
from orchestrator.fleet.resident_solver import ResidentSolver
from orchestrator.fleet.verifier_actor import ENGINES, EngineSpec
from orchestrator.measured.calibrating import settled_adaptation, settled_plan
from orchestrator.measured.margin_control import EnginePair, noise_mode, settled_noise, told_of_end, with_margin_for
from orchestrator.process.memory import Memory
from orchestrator.results.run_record import ModelRecord, RunRecord
from orchestrator.run.rows import RowContext, result_row
from orchestrator.sizing.placement import Placement
from orchestrator.sizing.room import Room, Tenancy, room_in
from orchestrator.sizing.sharing import Need
from orchestrator.work.retry import make_retry
from orchestrator.work.work_queue import WorkQueue
from verbatim.errors import VerbatimError, in_python_words
from verbatim.loop import Loop
from verbatim.progress import Progress
from verbatim.proof import Engines
from verbatim.recipes import chosen_recipe
from verbatim.results import Results
from verbatim.saving import made_in_memory
from verbatim.texts import Given, given

USUAL_CONTEXT = 2048
"""Positions of a prompt and its text, together, that are made room for unless more are asked for."""

say = logging.getLogger("verbatim").info


class Inverter:
    """A frozen model, loaded here, and the engine that judges what is found for it.

    Args:
        model: `pocket` (embedded), `smollm2`, a folder, or a name of the Hugging Face hub.
        revision: of the hub.
        recipe: how prompts are found: a name (`verbatim.recipe_names()`), a TOML file, or a `verbatim.Recipe`.
        set: values of the recipe to change, by dotted key: `{"num_vectors": 16, "optim.lr": 0.2}`.
        engine: who decodes and judges: `hf`, in this process, or `vllm`, in a process of its own.
        device: `cpu` or `cuda`; None takes a GPU where there is one.
        dtype: the solver's numerics; None is float32 on processors and bfloat16 on a GPU.
        verify_dtype: the engine's; None is the solver's.
        context: positions that a prompt and its text may have together; None is the model's, at most 2,048.
        table_positions: positions under way at once; None is what memory allows.
    Raises:
        VerbatimError: an argument is wrong, or the model cannot be had; the message names the argument.
    """

    def __init__(
        self,
        model: str | Path = "pocket",
        *,
        revision: str | None = None,
        recipe: str | Path | Recipe = "default",
        set: Mapping[str, Any] | None = None,
        engine: str = "hf",
        device: str | None = None,
        dtype: str | None = None,
        verify_dtype: str | None = None,
        context: int | None = None,
        table_positions: int | None = None,
    ):
        with in_python_words():
            self.recipe = chosen_recipe(recipe, set)
            self._device = _device(device)
            self._dtype = _one_of(DTYPES, dtype=dtype) or ("float32" if self._device == "cpu" else "bfloat16")
            engine = _one_of(ENGINES, engine=engine) or "hf"
            verify_dtype = _one_of(DTYPES, verify_dtype=verify_dtype) or self._dtype
            self._source = ModelSource(str(model), revision)
            self._token_rule = TokenRule.load(self._source)
            self._context = _context(context, self._token_rule.context)
            room = self._room(verify_dtype, table_positions)
            self._context = min(self._context, room.served_length)
            self._solver = ResidentSolver(
                self._source,
                room.placement.solver_room,
                dtype=self._dtype,
                device=self._device,
                num_threads=torch.get_num_threads(),
            )
            with no_progress_bars():
                self._solver.load_model()
            self._info = self._solver.describe()
            self.engines = Engines(self._spec(engine, verify_dtype, room))
        self._is_closed = False

    def invert(
        self,
        texts: str | Iterable[str] | Mapping[str, str],
        *,
        ids: Iterable[Any] | None = None,
        recipe: str | Path | Recipe | None = None,
        set: Mapping[str, Any] | None = None,
        on_step: Callable[[Progress], None] | None = None,
    ) -> Results:
        """Find a soft prompt for each text and have the engine decode it; what is not exact is tried again.

        The first call on a new model measures how many vectors a text needs, for at most a minute; it is remembered.

        Args:
            texts: a string, an iterable of strings, or a dict from ids to strings.
            ids: of the texts; unlike each other, or they are made so.
            recipe: for this call, as for the `Inverter`.
            set: likewise.
            on_step: told a `Progress` after every optimisation step; `verbatim.show_progress` prints it.
        Returns:
            One `Result` a text, in order; what cannot be a target is `invalid`, with the reason.
        Raises:
            VerbatimError: an argument is wrong.
        """
        if self._is_closed:
            raise VerbatimError("this Inverter is closed; make another one")
        with in_python_words():
            asked = self.recipe if recipe is None and set is None else chosen_recipe(recipe or self.recipe, set)
            corpus = given(texts, ids)
            return self._results(corpus, asked, on_step)

    def close(self) -> None:
        """Let go of the models and end the engines' processes; a second call does nothing."""
        self._is_closed = True
        self.engines.close()
        self.__dict__.pop("_solver", None)
        if self._device == "cuda":
            torch.cuda.empty_cache()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()

    def __repr__(self) -> str:
        state = ", closed" if self._is_closed else ""
        return f"Inverter({self._source.name} on {self._info.device_name} in {self._dtype}{state})"

    def _results(self, corpus: Given, recipe: Recipe, on_step: Callable[[Progress], None] | None) -> Results:
        started = time.monotonic()
        seconds = seconds_for(corpus.num_rows)
        plan = None if recipe.num_vectors != "auto" or not corpus.num_rows else self._plan(recipe, seconds)
        left = max(0.0, started + seconds - time.monotonic())
        adaptation = self._adaptation(recipe, plan, left) if is_left_open(recipe) and corpus.num_rows else None
        margined = self._with_margin(adaptation.of(recipe) if adaptation else recipe, plan)
        queue = WorkQueue(make_retry(self._context, grows=recipe.num_vectors == "auto"))
        loop = Loop(self._solver, self.engines.get(), queue, corpus.num_rows, on_step)
        context = RowContext(recipe.hash, self._info.fingerprint, self._dtype, partial(decode, self._token_rule))
        rows = [result_row(item, context) for item in loop.run(self._taken(corpus, margined, plan))]
        record = self._record(recipe, plan, margined.stop_margin, time.monotonic() - started)
        record.adaptation = adaptation
        return Results(sorted(rows, key=lambda row: row["row"]), record, self.engines)

    def _taken(self, corpus: Given, recipe: Recipe, plan: VectorPlan | None) -> Iterable[Taken]:
        taken = Intake(corpus, self._token_rule, recipe, plan, served_length=self._context).taken()
        order = recipe.curriculum.order
        if order == "corpus":
            return taken
        return easiest_first(taken, lambda targets: self._solver.difficulty(order, targets), corpus.num_rows)

    def _plan(self, recipe: Recipe, seconds: float) -> VectorPlan:
        return settled_plan(lambda: self._solver.plan(recipe, seconds), seconds, say)

    def _adaptation(self, recipe: Recipe, plan: VectorPlan | None, seconds: float) -> Adaptation:
        return settled_adaptation(lambda: self._solver.adaptation(recipe, plan, seconds), recipe, seconds, say)

    def _with_margin(self, recipe: Recipe, plan: VectorPlan | None) -> Recipe:
        """The recipe, asking for the margin that the two engines' difference calls for."""
        if (warning := told_of_end(recipe, self._info.end_reach)) is not None:
            say(warning)
        if recipe.noise_factor == 0:
            return recipe
        judging, spec = self.engines.get(), self.engines.spec
        pair = EnginePair(
            self._source.name, self._info.fingerprint, self._info.device_name, self._dtype, judging.engine, spec.dtype
        )
        noise = settled_noise(
            pair,
            lambda: self._solver.probes(recipe, plan),
            lambda asked: judging.judge(asked, noise_mode(pair.engine)),
            say,
        )
        return with_margin_for(recipe, noise)

    def _record(self, recipe: Recipe, plan: VectorPlan | None, stop_margin: float, seconds: float) -> RunRecord:
        """How results were made: what a folder of them says in its `run.json`."""
        spec, info = self.engines.spec, self._info
        return made_in_memory(
            ModelRecord(
                name=self._source.name,
                revision=self._source.revision,
                fingerprint=info.fingerprint,
                hidden_size=info.hidden_size,
                context=self._token_rule.context,
                served_length=self._context,
                solver_dtype=info.dtype,
                device=info.device_name,
            ),
            recipe,
            plan,
            engine=self.engines.get().engine,
            engine_dtype=spec.dtype,
            stop_margin=stop_margin,
            seconds=seconds,
        )

    def _room(self, verify_dtype: str, table_positions: int | None) -> Room:
        """What solver and engine get of this machine, by the sums of a run."""
        if table_positions is not None and table_positions < 1:
            raise VerbatimError(f"table_positions = {table_positions}: must be at least 1")
        on_gpu = self._device == "cuda"
        threads = os.cpu_count() or 1
        shares = (0.6, 0.4) if on_gpu else (0, 0)
        placement = Placement(1, self._device, *shares, threads, table_positions or 0, threads)
        tenancy = Tenancy(self._source, placement, self._dtype, verify_dtype)
        need = Need(self._context, self._context, min(self._context, 128))
        footprint = Footprint.of(self._source, self._token_rule.context)
        return room_in(Memory.here(self._device), tenancy, 1, need, footprint)

    def _spec(self, engine: str, dtype: str, room: Room) -> EngineSpec:
        return EngineSpec(
            engine=engine,
            model=self._source.name,
            revision=self._source.revision,
            dtype=dtype,
            context=self._context,
            device=self._device,
            memory_frac=room.memory_frac,
            cache=room.cache,
        )


def _device(asked: str | None) -> str:
    has_gpu = torch.cuda.is_available()
    if asked not in (None, "cpu", "cuda"):
        raise VerbatimError(f"device = {asked!r}: must be cpu or cuda")
    if asked == "cuda" and not has_gpu:
        raise VerbatimError("device = 'cuda': torch sees no GPU here; take device='cpu'")
    return asked or ("cuda" if has_gpu else "cpu")


def _one_of(known: Iterable[str], **argument: str | None) -> str | None:
    """The argument's value, one of those known or None."""
    ((name, value),) = argument.items()
    if value is not None and value not in known:
        raise VerbatimError(f"{name} = {value!r}: must be one of {', '.join(known)}")
    return value


def _context(asked: int | None, context: int) -> int:
    if asked is None:
        return min(context, USUAL_CONTEXT)
    if not 2 <= asked <= context:
        raise VerbatimError(f"context = {asked}: must be from 2 to the model's {context}")
    return asked
