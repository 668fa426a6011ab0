"""`verbatim verify`: prove stored prompts again, and change nothing.

Owns: what may be asked for, the order of its steps. Must not know: the solver.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import ray
from rich.console import Console

from engine.frozen_lm import DTYPES, TokenRule
from engine.loading import require_whole_files
from engine.target import decode
from orchestrator.console.errors import UserError
from orchestrator.console.progress import Reporter, make_reporter
from orchestrator.console.terminal import Streamed, make_console, say_json
from orchestrator.fleet import workers
from orchestrator.fleet.verifier_actor import ENGINES, JUDGE_BATCH, EngineSpec
from orchestrator.proof.claims import Claims, read_claims
from orchestrator.proof.judge import Judge
from orchestrator.proof.ladder import WIDEST, climb, in_batches, print_proof, to_json, write_proof
from orchestrator.proof.tally import Tally, print_tally
from orchestrator.results.proof_file import PROOF_FILE
from orchestrator.results.stored_prompt import stored_candidate
from orchestrator.sizing.room import judges_room
from orchestrator.storage.location import Location
from orchestrator.verifiers.contract import GREEDY, Candidate, Mode, Verdict

Ask = Callable[[list[Candidate]], list[Verdict]]
"""Whoever judges a batch."""


@dataclass(frozen=True)
class ReproofOptions:
    """What the command line asks for.

    Attributes:
        dtype: engine's numerics; None is the run's.
        address: Ray cluster to join, or None.
    """

    folder: Location
    engine: str = "vllm"
    dtype: str | None = None
    mode: Mode = GREEDY
    address: str | None = None

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise UserError(f"--engine {self.engine}: must be one of {', '.join(ENGINES)}")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise UserError(f"--dtype {self.dtype}: must be one of {', '.join(DTYPES)}")


def proof_file(out: Location) -> Path:
    """Where a run leaves its proof, beside its results.

    Raises:
        UserError: that is no folder on a disk.
    """
    if not isinstance(out, Path):
        raise UserError(f"--ladder: writes a file, and --out {out} is no folder; take `verbatim verify {out} --ladder`")
    return out / PROOF_FILE


def require_outside(out: Path | None, folder: Location) -> None:
    """A reproof writes nothing into the results it judges."""
    if out is not None and isinstance(folder, Path) and folder.resolve() in out.resolve().parents:
        raise UserError(f"--out {out}: lies in the folder that is judged; choose a place outside {folder}")
    if out is not None and not out.resolve().parent.is_dir():
        raise UserError(f"--out {out}: its folder does not exist; make it, or choose another")


def spec_for(claims: Claims, options: ReproofOptions, widest: str | None = None) -> EngineSpec:
    """The engine that is to judge claims, in the run's numerics if none are asked for; Ray must be connected.

    Args:
        widest: dtype of the numerics that it is to have room for; None is the one it judges in.
    """
    model, dtype = claims.record.model, options.dtype or claims.record.engine_dtype
    room = judges_room(claims.source, widest or dtype, model.context, model.was_served, claims.need)
    return EngineSpec(
        engine=options.engine,
        model=model.name,
        revision=model.revision,
        dtype=dtype,
        context=room.served_length,
        memory_frac=room.memory_frac,
        cache=room.cache,
    )


def reprove_claims(options: ReproofOptions, console: Console, *, as_json: bool) -> bool:
    """Decode every claimed prompt anew and print what changed; whether all are exact still."""
    claims = read_claims(options.folder)
    if not len(claims):
        return tell(claims, lambda batch: [], options.mode, console, as_json=as_json)
    with _connected(options, claims) as reporter, Judge(spec_for(claims, options), "verify") as judge:

        def ask(batch: list[Candidate]) -> list[Verdict]:
            return judge.judge(batch, options.mode)

        return tell(claims, ask, options.mode, console, as_json=as_json, reporter=reporter)


def climb_claims(options: ReproofOptions, out: Path | None, console: Console, *, as_json: bool = False) -> bool:
    """Climb the ladder with every claimed prompt, print survival, keep it in `out`; whether all withstood every
    greedy rung."""
    claims = read_claims(options.folder)
    if not len(claims):
        raise UserError(f"{options.folder}: none of its {claims.num_unproved} rows is exact; there is nothing to climb")
    with _connected(options, claims) as reporter:
        proof = climb(claims, claims.margins, spec_for(claims, options, WIDEST), reporter)
    if out is not None:
        write_proof(proof, out)
    if as_json:
        say_json(to_json(proof))
    else:
        print_proof(proof, console)
    return proof.is_all_exact()


def tell(
    claims: Claims,
    ask: Ask,
    mode: Mode,
    console: Console,
    *,
    as_json: bool,
    reporter: Reporter | None = None,
    at_once: int = JUDGE_BATCH,
) -> bool:
    """Have claims judged and print what comes of it, few prompts in memory at a time; whether all are exact still.

    Args:
        ask: judges a batch.
        at_once: claims of a batch.
    """
    rule = cache(partial(TokenRule.load, claims.source))
    tally = Tally(claims.before, claims.num_unproved, mode, says=lambda ids: decode(rule(), ids))
    verdicts = _judged(claims, ask, tally, reporter, at_once)
    if as_json:
        say_json(Streamed(map(asdict, verdicts), len(claims)))
    else:
        for _ in verdicts:
            pass
    if reporter is not None:
        reporter.close()
    if not as_json:
        print_tally(tally, console)
    return tally.is_all_exact


def _judged(claims: Claims, ask: Ask, tally: Tally, reporter: Reporter | None, at_once: int) -> Iterator[Verdict]:
    """Verdicts in the order of the claims, counted."""
    for rows in in_batches(claims.rows(), at_once):
        for row, verdict in zip(rows, ask([stored_candidate(row) for row in rows]), strict=True):
            tally.add(row, verdict)
            yield verdict
        if reporter is not None:
            reporter.update(tally.num_judged, "judged")


@contextmanager
def _connected(options: ReproofOptions, claims: Claims) -> Iterator[Reporter]:
    """Ray for the length of a reproof, and a reporter that leaves standard output alone.

    Raises:
        ModelError: the model is not where it was, or not whole; nothing has been started.
    """
    require_whole_files(claims.source)
    reporter = make_reporter(make_console(stderr=True), len(claims))
    try:
        reporter.stage("starting Ray")
        workers.connect(options.address, dashboard=False)
        reporter.stage(f"loading the model into {options.engine}")
        yield reporter
    finally:
        reporter.close()
        ray.shutdown()
