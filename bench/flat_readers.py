"""Do the verbs that read a results folder keep their memory flat over a million rows of a large model's prompts?

    python -m bench.flat_readers --rows 1000000 --prompts 20000 --ladder 4000

A folder is made of rows with K = 16 vectors of D = 4,096 numbers, 256 KiB each, in parts of 2,048 rows; a prompt is few
numbers again and again, and all parts are one file under many names. Each verb then goes through it in a process of its
own; what counts is that process's peak of resident memory, libraries included. `verify` and the ladder ask an engine
that says yes to everything: no model decodes a million prompts here, and what an engine takes is not the verb's. An
export's files are taken away as they are finished, because they are as large as the prompts. Verbs that read the
prompts, 256 GiB of a million rows, and the ladder, which reads them once a rung, may be given fewer rows.
Writes bench/results/flat_readers.json.
"""

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

K, D = 16, 4096
PART_ROWS, GROUP = 2048, 128
"""Rows of a part and of its row groups, as a run writes them."""
ROOT = Path(__file__).parents[1]


def make(folder: Path, num_rows: int) -> None:
    """Parts, manifest and record of a finished run. All full parts are one file under many names: its rows have their
    own ids in the manifest alone, which no reader here minds."""
    from orchestrator.results.manifest import Manifest
    from orchestrator.results.part_file import write_parquet
    from orchestrator.storage import open_storage
    from tests.orchestrator.made_up import run_record

    storage = open_storage(folder)
    manifest, like = Manifest(storage), like_rows()
    manifest.count()
    groups = (like.slice(at, GROUP) for at in range(0, PART_ROWS, GROUP))
    whole = folder / "results" / storage.write_part(99_999, partial(write_parquet, groups))
    for number, first in enumerate(range(0, num_rows, PART_ROWS)):
        ids = [f"row-{n}" for n in range(first, first + PART_ROWS)]
        part = f"part-{number:05d}.parquet"
        os.link(whole, whole.with_name(part))
        manifest.append({"part": part, "rows": len(ids), "ids": ids})
    whole.unlink()
    record = run_record(num_rows=-(-num_rows // PART_ROWS) * PART_ROWS)
    model = record.model.model_copy(update={"hidden_size": D, "context": 4096})
    record.model_copy(update={"model": model, "counts": {"verified": record.num_rows}}).write(folder)


def like_rows() -> Any:
    """A table of rows that differ in nothing."""
    import pyarrow as pa

    from orchestrator.results.ledger import SCHEMA
    from orchestrator.run.rows import result_row
    from tests.orchestrator.made_up import ROW_CONTEXT, verified_item

    prompt = np.tile(np.random.default_rng(0).standard_normal(64, dtype=np.float32), K * D // 64)
    about = {"num_vectors": K, "hidden_size": D, "prompt": prompt}
    row = result_row(verified_item("a"), ROW_CONTEXT) | about
    return pa.concat_tables([pa.Table.from_pylist([row], schema=SCHEMA)] * PART_ROWS).combine_chunks()


def verify(folder: Path) -> None:
    from orchestrator.console.terminal import make_console
    from orchestrator.proof.claims import read_claims
    from orchestrator.proof.reproof import tell
    from orchestrator.verifiers.contract import GREEDY

    assert tell(read_claims(folder), lambda batch: YesMan().judge(batch), GREEDY, make_console(), as_json=False)


def claims(folder: Path) -> None:
    """What `verify` and the ladder keep of every row, which is all that grows with their number."""
    from orchestrator.proof.claims import read_claims

    assert len(read_claims(folder)) > 0


class YesMan:
    """An engine that says what it is asked for, and takes every prompt in hand."""

    def judge(self, batch, mode=None):
        from orchestrator.verifiers.contract import Verdict

        assert all(candidate.prompt_KD.shape == (K, D) for candidate in batch)
        return [Verdict(c.id, True, c.token_ids, len(c.token_ids), "yes 1", "float32") for c in batch]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def ladder(folder: Path) -> None:
    from orchestrator.console.progress import make_reporter
    from orchestrator.console.terminal import make_console
    from orchestrator.fleet.verifier_actor import EngineSpec
    from orchestrator.proof import ladder as rungs
    from orchestrator.proof.claims import read_claims

    patched: Any = rungs
    patched.Judge = lambda *_: YesMan()
    claims = read_claims(folder)
    proof = rungs.climb(
        claims, claims.margins, EngineSpec("hf", "", None, "float32", 4096), make_reporter(make_console())
    )
    rungs.write_proof(proof, folder / "proof.parquet")
    assert proof.is_all_exact()


def export(folder: Path) -> None:
    from orchestrator.export.folder import export as export_prompts

    out, done = folder.parent / "exported", threading.Event()
    sweeper = threading.Thread(target=sweep, args=(folder.parent, done), daemon=True)
    sweeper.start()
    exported = export_prompts(folder, out, ids=None, dtype="float32", with_inexact=False)
    done.set()
    sweeper.join()
    assert exported.num_prompts > 0
    shutil.rmtree(out)


def sweep(folder: Path, done: threading.Event) -> None:
    """Take finished shards away, all but the last of each kind."""
    while not done.wait(1.0):
        for pattern in ("*.safetensors", "vllm_requests*.jsonl"):
            for path in sorted(folder.glob(f".exported*/{pattern}"))[:-1]:
                path.unlink(missing_ok=True)


def report(folder: Path) -> None:
    from orchestrator.report import ReportOptions, write_report

    write_report(ReportOptions(folder, folder / "site"))


def status(folder: Path) -> None:
    from orchestrator.results.status import read_status

    read_status(folder)


def summarise(folder: Path) -> None:
    from orchestrator.console.terminal import make_console
    from orchestrator.results.ledger import Ledger
    from orchestrator.results.run_record import require_record
    from orchestrator.results.summary import print_summary
    from orchestrator.results.summary import summarise as count

    print_summary(count(Ledger(folder), require_record(folder)), make_console())


def batches(folder: Path) -> None:
    import verbatim

    stored = verbatim.load_results(folder)
    assert sum(len(batch) for batch in stored.batches(["id", "prompt"])) == len(stored)


VERBS: dict[str, Callable[[Path], None]] = {
    each.__name__: each for each in (status, summarise, report, claims, batches, verify, export, ladder)
}


def measured(verb: str, folder: Path) -> dict[str, float]:
    """What a verb takes in this process, which has done nothing else."""
    started = time.monotonic()
    VERBS[verb](folder)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak_mib": round(peak_mib), "seconds": round(time.monotonic() - started)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--prompts", type=int, help="rows for verbs that read prompts; default all")
    parser.add_argument("--ladder", type=int, help="rows that climb the ladder; default all")
    parser.add_argument("--only", choices=VERBS, action="append", help="these verbs alone")
    parser.add_argument("--folder", type=Path, help="for what is made; kept")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "flat_readers.json")
    args = parser.parse_args()
    sizes: dict[str, int] = dict.fromkeys(("batches", "verify", "export"), args.prompts or args.rows)
    sizes["ladder"] = args.ladder or args.rows
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as temporary:
        place, record = args.folder or Path(temporary), json.loads(args.out.read_text()) if args.out.exists() else {}
        for verb in args.only or VERBS:
            num_rows = sizes.get(verb, args.rows)
            folder = place / f"rows-{num_rows}"
            with spawn.Pool(1) as maker:
                if not folder.exists():
                    maker.apply(make, (folder, num_rows))
            with spawn.Pool(1) as alone:
                told = {"rows": num_rows, **alone.apply(measured, (verb, folder))}
            print(verb, told, flush=True)
            args.out.write_text(json.dumps(record := record | {verb: told}, indent=1) + "\n")


if __name__ == "__main__":
    main()
