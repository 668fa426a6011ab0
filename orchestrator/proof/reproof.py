"""`verbatim verify`: prove stored prompts again, and change nothing.

Owns: reading candidates back from a folder, the verdicts over them. Must not know: the solver.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import ray
from rich.console import Console

from engine.frozen_lm import DTYPES, TokenRule
from engine.loading import require_whole_files
from engine.model_source import ModelSource
from engine.target import decode
from orchestrator.console.errors import UserError
from orchestrator.console.progress import Reporter, make_reporter
from orchestrator.console.terminal import make_console, say, say_json
from orchestrator.fleet import workers
from orchestrator.fleet.verifier_actor import ENGINES, EngineSpec
from orchestrator.proof.judge import Judge
from orchestrator.proof.ladder import MARGIN_BINS, WIDEST, climb, print_proof, to_json, write_proof
from orchestrator.results import run_record
from orchestrator.results.broke import where_it_broke
from orchestrator.results.ledger import Ledger, Row
from orchestrator.results.proof_file import PROOF_FILE
from orchestrator.results.run_record import RunRecord
from orchestrator.results.stored_prompt import stored_candidate
from orchestrator.sizing.room import judges_room, need_of_stored
from orchestrator.storage.location import Location
from orchestrator.verifiers.contract import GREEDY, Candidate, Mode, Verdict

COLUMNS = [
    "id",
    "token_ids",
    "prompt",
    "num_vectors",
    "hidden_size",
    "exact",
    "engine",
    "engine_dtype",
    "min_margin",
    "proof",
]


@dataclass(frozen=True)
class Claims:
    """What a folder claims to be exact.

    Attributes:
        rows: those claimed exact, with their prompts.
        num_unproved: rows that claim nothing: invalid, unsolved, rejected.
    """

    record: RunRecord
    rows: list[Row]
    num_unproved: int

    @property
    def candidates(self) -> list[Candidate]:
        return [stored_candidate(row) for row in self.rows]

    @property
    def margins(self) -> list[float]:
        """The stored smallest margin of each, logits."""
        return [row["min_margin"] for row in self.rows]

    @property
    def source(self) -> ModelSource:
        return ModelSource(self.record.model.name, self.record.model.revision)

    def spec(self, options: "ReproofOptions", widest: str | None = None) -> EngineSpec:
        """The engine that is to judge them, in the run's numerics if none are asked for; Ray must be connected.

        Args:
            widest: dtype of the numerics that it is to have room for; None is the one it judges in.
        """
        model, dtype = self.record.model, options.dtype or self.record.engine_dtype
        need = need_of_stored([row["num_vectors"] + len(row["token_ids"]) for row in self.rows])
        room = judges_room(self.source, widest or dtype, model.context, model.was_served, need)
        return EngineSpec(
            engine=options.engine,
            model=model.name,
            revision=model.revision,
            dtype=dtype,
            context=room.served_length,
            memory_frac=room.memory_frac,
            cache=room.cache,
        )


@dataclass(frozen=True)
class Reproof:
    """New verdicts over a folder's claims.

    Attributes:
        verdicts: one for each claim.
        margins: the stored smallest margin of each, logits.
        num_unproved: rows that claim nothing.
        before: who said so first: engines and numerics of the stored verdicts.
        mode: how the prompts were decoded this time.
        for_beams: of each claim whether it is one for beam search too.
        broke: by id, where those that are no longer exact broke, in words.
    """

    verdicts: list[Verdict]
    margins: list[float]
    num_unproved: int
    before: list[str] = field(default_factory=list)
    mode: Mode = GREEDY
    for_beams: list[bool] = field(default_factory=list)
    broke: dict[str, str] = field(default_factory=dict)

    @property
    def num_exact(self) -> int:
        return sum(verdict.exact for verdict in self.verdicts)

    @property
    def is_all_exact(self) -> bool:
        """Every claim of the folder holds, and there is one; rows that claim nothing do not count."""
        return 0 < len(self.verdicts) == self.num_exact

    def survival(self) -> list[tuple[float, int, int]]:
        """(lower edge of margin, exact, judged) for each bin that has any."""
        edges = [*MARGIN_BINS, float("inf")]
        bins = []
        for low, high in zip(edges, edges[1:], strict=False):
            inside = [v.exact for v, m in zip(self.verdicts, self.margins, strict=True) if low <= m < high]
            if inside:
                bins.append((low, sum(inside), len(inside)))
        return bins


def read_claims(folder: Location) -> Claims:
    """The rows of a folder that claim to be exact.

    Raises:
        UserError: not a run's folder, no rows, damaged part.
    """
    record = run_record.require_record(folder)
    rows = list(Ledger(folder).read(COLUMNS))
    if not rows:
        raise UserError(f"{folder}: no committed rows yet; let the run go on first")
    claimed = [row for row in rows if row["exact"]]
    return Claims(record, claimed, len(rows) - len(claimed))


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


def reprove_claims(options: ReproofOptions, console: Console, *, as_json: bool) -> bool:
    """Decode every claimed prompt anew and print what changed; whether all are exact still."""
    claims = read_claims(options.folder)
    reproof = Reproof([], [], claims.num_unproved)
    if claims.rows:
        with _connected(options, claims) as reporter, Judge(claims.spec(options), "verify") as judge:
            reproof = reprove(claims, judge, options.mode, reporter)
    print_reproof(reproof, console, as_json=as_json)
    return reproof.is_all_exact


def climb_claims(options: ReproofOptions, out: Path | None, console: Console, *, as_json: bool = False) -> bool:
    """Climb the ladder with every claimed prompt, print survival, keep it in `out`; whether all withstood every
    greedy rung."""
    claims = read_claims(options.folder)
    if not claims.rows:
        raise UserError(f"{options.folder}: none of its {claims.num_unproved} rows is exact; there is nothing to climb")
    with _connected(options, claims) as reporter:
        proof = climb(claims.candidates, claims.margins, claims.spec(options, WIDEST), reporter)
    if out is not None:
        write_proof(proof, out)
    if as_json:
        say_json(to_json(proof))
    else:
        print_proof(proof, console)
    return proof.is_all_exact()


def reprove(claims: Claims, judge: Judge, mode: Mode, reporter: Reporter) -> Reproof:
    """Decode every claimed prompt anew."""
    return reproof_of(claims, judge.judge(claims.candidates, mode, lambda done: reporter.update(done, "judged")), mode)


def reproof_of(claims: Claims, verdicts: list[Verdict], mode: Mode) -> Reproof:
    """What these verdicts mean for the claims."""
    before = sorted({f"{row['engine']} ({row['engine_dtype']})" for row in claims.rows})
    for_beams = [row["proof"] == "beam" for row in claims.rows]
    return Reproof(verdicts, claims.margins, claims.num_unproved, before, mode, for_beams, _broke(claims, verdicts))


def _broke(claims: Claims, verdicts: list[Verdict]) -> dict[str, str]:
    """Where what is no longer exact broke, in words, by id."""
    lost = {verdict.id: verdict for verdict in verdicts if not verdict.exact}
    if not lost:
        return {}
    says = partial(decode, TokenRule.load(claims.source))
    rows = [row for row in claims.rows if row["id"] in lost]
    said = {id: {"first_mismatch": v.first_mismatch, "generated_ids": list(v.generated_ids)} for id, v in lost.items()}
    return {row["id"]: where_it_broke(row | said[row["id"]], says) or "not exact" for row in rows}


@contextmanager
def _connected(options: ReproofOptions, claims: Claims) -> Iterator[Reporter]:
    """Ray for the length of a reproof, and a reporter that leaves standard output alone.

    Raises:
        ModelError: the model is not where it was, or not whole; nothing has been started.
    """
    require_whole_files(claims.source)
    reporter = make_reporter(make_console(stderr=True), len(claims.rows))
    try:
        reporter.stage("starting Ray")
        workers.connect(options.address, dashboard=False)
        reporter.stage(f"loading the model into {options.engine}")
        yield reporter
    finally:
        reporter.close()
        ray.shutdown()


def print_reproof(reproof: Reproof, console: Console, *, as_json: bool) -> None:
    """What changed, survival by margin, and the count."""
    if as_json:
        say_json([asdict(verdict) for verdict in reproof.verdicts])
        return
    # Without a claim there is nothing to keep: a greedy text need not be what beams find.
    claimed = {v.id for v, is_claimed in zip(reproof.verdicts, reproof.for_beams, strict=True) if is_claimed}
    lost = [verdict for verdict in reproof.verdicts if not verdict.exact]
    for verdict in lost[:20]:
        reason = verdict.refusal or reproof.broke.get(verdict.id, "not exact")
        if reproof.mode.beams > 1 and verdict.id in claimed:
            reason += ", and it is claimed for beam search"
        say(console, f"{verdict.id}: {reason}", "red")
    if len(lost) > 20:
        say(console, f"... and {len(lost) - 20} more")
    for low, exact, judged in reproof.survival() if lost else []:
        say(console, f"margin from {low:g}: {exact} of {judged} exact")
    if reproof.num_unproved:
        say(console, f"{reproof.num_unproved} rows hold no prompt that was proved by the run")
    if reproof.mode.beams > 1:
        held = sum(verdict.exact for verdict in reproof.verdicts if verdict.id in claimed)
        line = f"{len(claimed)} of {len(reproof.verdicts)} claim beam search of any width; {held} of these hold"
        say(console, line)
    if reproof.verdicts:
        beams = f", beam search of width {reproof.mode.beams}" if reproof.mode.beams > 1 else ""
        who = f" on {reproof.verdicts[0].engine} ({reproof.verdicts[0].engine_dtype}{beams})"
        say(console, f"before: exact on {' and '.join(reproof.before)}")
    else:
        who = ""
    say(
        console,
        f"{reproof.num_exact} of {len(reproof.verdicts)} stored prompts exact{who}",
        "bold green" if reproof.is_all_exact else "bold yellow",
    )
