"""What a GPU makes of the solver, in one command of minutes, without Ray, vLLM or a network.

    python -m bench.gpu.first_light --out first_light.json
    python -m bench.gpu.first_light --small --device cpu     # every line of it with small shapes, in seconds

Needs torch, transformers, pydantic, rapidfuzz, safetensors and this repository. Models of 7B and 8B are made on the
device with random weights: what a step costs does not depend on what the weights know.

Owns: which models, tables and sections. What is counted of a step: bench/steady_state.py. Must not know: Ray, vLLM.
"""

import argparse
import gc
import json
import statistics
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from bench.steady_state import NUM_VECTORS, Machine, jobs, parameters, seconds_of, steady_state
from engine.decoding.trajectory import greedy_tokens
from engine.frozen_lm import FrozenLM
from engine.held import held
from engine.model_source import ModelSource
from engine.recipe import Recipe
from engine.slots import Job
from engine.solver import Solver
from engine.target import Target, encode

ROOT = Path(__file__).resolve().parents[2]
SHAPES: dict[str, Any] = {
    "llama 8B": lambda: LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
        vocab_size=128256, max_position_embeddings=8192,
    ),
    "qwen 7B": lambda: Qwen2Config(
        hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4,
        vocab_size=152064, max_position_embeddings=8192,
    ),
    "small llama": lambda: LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=4096, max_position_embeddings=512,
    ),
}  # fmt: skip


def random_model(shape: str, device: str, dtype: torch.dtype) -> FrozenLM:
    """A model of a shape with random weights, made on its device; the embedded model's tokenizer serves it."""
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(SHAPES[shape](), dtype=dtype)
    tokenizer = FrozenLM.load(ModelSource("pocket")).token_rule.tokenizer
    return FrozenLM(model, tokenizer, known_as=f"random {shape}")


def peer(lm: FrozenLM, machine: Machine, steps: int) -> dict[str, Any]:
    """One text at a time, as per-sample cramming has it: whole logits, AdamW. Positions a second."""
    job = jobs(lm, 1, "equal")[0]
    ids_1T = torch.tensor(job.target.token_ids, device=lm.device)[None]
    prompt_KD = (torch.randn(NUM_VECTORS, lm.hidden_size, device=lm.device) * lm.embed_rms).requires_grad_()
    adam = torch.optim.AdamW([prompt_KD], lr=0.01, betas=(0.9, 0.9), weight_decay=0.01)

    def step() -> None:
        read_1SD = torch.cat([prompt_KD[None].to(lm.dtype), lm.embed(ids_1T[:, :-1])], 1)
        logits_1TV = lm.model(inputs_embeds=read_1SD, use_cache=False).logits[:, NUM_VECTORS - 1 :].float()
        adam.zero_grad()
        torch.nn.functional.cross_entropy(logits_1TV[0], ids_1T[0]).backward()
        adam.step()
        bool((logits_1TV.argmax(-1) == ids_1T).all())

    seconds = seconds_of(step, machine.device, steps)
    return {"positions_a_second": job.num_positions / seconds, "step_s": seconds}


def head(lm: FrozenLM, machine: Machine, rows: int) -> dict[str, Any]:
    """What float32 logits cost beside rounded ones, and how far the rounded ones are off."""
    hidden_ND = torch.randn(rows, lm.hidden_size, device=lm.device).to(lm.dtype)
    exact, rounded = lm.head.logits(hidden_ND), (hidden_ND @ lm.head.weight_VD.T).float()
    return {
        "rows": rows, "apart": (exact - rounded).abs().max().item(), "largest": exact.abs().max().item(),
        "float32_s": seconds_of(lambda: lm.head.logits(hidden_ND), machine.device),
        "rounded_s": seconds_of(lambda: (hidden_ND @ lm.head.weight_VD.T).float(), machine.device),
    }  # fmt: skip


def recovery(lm: FrozenLM, machine: Machine, positions: int) -> dict[str, Any]:
    """A table that does not fit, and whether a small one goes on after it."""
    told = "fitted"
    try:
        steady_state(lm, machine, positions, "equal", warm=0, steps=1)
    except torch.OutOfMemoryError:
        told = "out of memory"
    if machine.device == "cuda":
        torch.cuda.empty_cache()
    after = steady_state(lm, machine, 512, "equal", warm=1, steps=2)
    return {"table": positions, "told": told, "then_positions_a_second": after["positions_a_second"]}


def pocket(machine: Machine, texts: list[str], dtype: str) -> dict[str, Any]:
    """The demo's texts on the embedded model as the product solves them, layers compiled on a GPU; what greedy decoding
    says there, token by token, and every prompt's margin again on the CPU in float32."""
    lm = FrozenLM.load(ModelSource("pocket"), device=machine.device, dtype=dtype)
    if machine.device == "cuda":
        lm.compile_layers()
    end_id = lm.token_rule.end_id
    assert end_id is not None
    ids = [(*encode(lm.token_rule, text), end_id) for text in texts]
    made = [
        Job(Target(str(n), text, i), Recipe(), max(1, len(i) // 4))
        for n, (text, i) in enumerate(zip(texts, ids, strict=True))
    ]
    began = time.perf_counter()
    attempts = Solver(lm, table_positions=8192).solve(made)
    seconds = time.perf_counter() - began
    reference = FrozenLM.load(ModelSource("pocket"))
    apart, num_held = [], 0
    for attempt in attempts:
        target_T = torch.tensor(attempt.job.target.token_ids)
        margin = reference.score_targets([held(attempt.prompt_KD)], [target_T]).margin.min().item()
        num_held += attempt.is_candidate and margin > 0
        apart.append(abs(margin - attempt.certificate.min_margin) if attempt.certificate else float("nan"))
    said = greedy_tokens(lm, [held(a.prompt_KD).to(lm.device) for a in attempts], max(map(len, ids)))
    exact = [
        tuple(own_T[: len(a.job.target.token_ids)].tolist()) == a.job.target.token_ids
        for own_T, a in zip(said, attempts, strict=True)
    ]
    return {
        "dtype": dtype, "texts": len(texts), "said": sum(exact),
        "certified": sum(a.is_candidate for a in attempts), "held_on_cpu": num_held,
        "mean_steps": statistics.fmean(a.steps for a in attempts), "seconds": seconds,
        "least_margin": min(a.certificate.min_margin for a in attempts if a.certificate),
        "apart_median": statistics.median(apart), "apart_most": max(apart),
    }  # fmt: skip


def demo_texts(count: int) -> list[str]:
    import pyarrow.parquet as parquet

    return parquet.read_table(ROOT / "corpora" / "demo.parquet", columns=["text"])["text"].to_pylist()[:count]


class Report:
    """Sections as they are measured: told in a line each, written after each, and one that fails does not end it."""

    def __init__(self, out: Path | None, machine: Machine):
        self._out = out
        self.values: dict[str, Any] = {
            "machine": vars(machine), "torch": torch.__version__, "transformers": transformers.__version__,
        }  # fmt: skip

    def measure(self, name: str, run: Callable[[], Any]) -> None:
        began = time.perf_counter()
        try:
            value = run()
        except Exception as error:  # on a machine that was never seen before the other sections still count
            traceback.print_exc()
            value = {"failed": f"{type(error).__name__}: {error}"[:500]}
        self.values[name] = value
        print(f"{name} ({time.perf_counter() - began:.1f} s): {_short(value)}", flush=True)
        if self._out:
            self._out.write_text(json.dumps(self.values, indent=1) + "\n")


def _short(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    pairs = ((k, v) for k, v in value.items() if not isinstance(v, list))
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in pairs)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="small shapes: every line, no figure worth keeping")
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=["llama 8B", "qwen 7B"])
    parser.add_argument("--tables", type=int, nargs="+", default=[512, 4096, 16384])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    shapes, tables = (["small llama"], [64, 128]) if args.small else (args.shapes, args.tables)
    machine = Machine.found(args.device, size=256 if args.small else 8192)
    report = Report(args.out, machine)
    print(_short(vars(machine)), flush=True)
    texts = demo_texts(2 if args.small else 64)
    for dtype in ("float32", "bfloat16"):
        report.measure(f"pocket, {dtype}", lambda dtype=dtype: pocket(machine, texts, dtype))
    for shape in shapes:
        gc.collect()
        one_shape(report, machine, shape, tables, args.steps, is_first=shape == shapes[0])


def one_shape(report: Report, machine: Machine, shape: str, tables: list[int], steps: int, *, is_first: bool) -> None:
    began = time.perf_counter()
    lm = random_model(shape, machine.device, torch.bfloat16)
    print(
        f"{shape}: made in {time.perf_counter() - began:.1f} s, {parameters(lm) / 1e9:.2f}e9 parameters, "
        f"texts of up to {lm.packs_up_to} positions packed",
        flush=True,
    )

    def table(name: str, positions: int, kind: str, warm: int = 2) -> None:
        report.measure(
            f"{shape}, {name}, {kind}, table of {positions}",
            lambda: steady_state(lm, machine, positions, kind, warm=warm, steps=steps),
        )

    if is_first:
        packs_up_to, lm.packs_up_to = lm.packs_up_to, 0
        for positions in tables[1:]:
            table("padded", positions, "mixed")
        lm.packs_up_to = packs_up_to
        for positions in tables:
            table("as is", positions, "mixed")
        table("as is", tables[-1], "equal")
        report.measure(f"{shape}, one text at a time", lambda: peer(lm, machine, steps))
        report.measure(f"{shape}, head", lambda: head(lm, machine, min(1024, tables[-1])))
        report.measure(f"{shape}, recovery", lambda: recovery(lm, machine, 8 * tables[-1]))
    lm.compile_layers()
    for positions in tables:
        table("compiled", positions, "mixed", warm=4)
    if is_first:
        table("compiled", tables[-1], "equal", warm=4)


if __name__ == "__main__":
    main()
