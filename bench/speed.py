"""Verified texts an hour, ours and the published systems', side by side in one run.

    python -m bench.speed --model pocket --vectors 4 16
    python -m bench.speed --model smollm2 --texts 3 --vectors 8 --methods ours per_sample plain_loop
    python -m bench.speed --texts 96 --one-in 12 --device cuda --engine hf

Owns: the peers as plain loops, the clock, the ratios. Must not know: Ray.

Same texts, same K, same model in memory, same threads. Every method ends a text where it would end it; what it found is
then decoded by the verifier, and only what is exact counts. Ours pays for its proof, the others for none; loading is
nobody's. The methods take turns `--repeats` times, and a ratio is told with its least and most. Texts an hour of a
method that takes one text after the other do not depend on their number: `--one-in N` gives it every N-th text.

- per_sample: one text at a time, AdamW at 0.01, mean cross-entropy, from noise of the embedding's size, until every
  argmax is right (Kuratov et al. 2025, 2502.13063). - progressive: the prefix of every text grows by a token once it is
  exact, all texts in one padded batch, AdamW at 0.1 (Tarasov et al. 2026). - plain_loop: the default recipe's loss and
  steps in one padded batch, full logits, until the slowest text has its margin: what the engine adds to the recipe.
- peft: prompt tuning of the library PEFT, one text at a time, its optimiser and rate as in its documentation (AdamW,
0.03), to the first exact step (https://huggingface.co/docs/peft/task_guides/prompt_based_methods).
"""

import argparse
import datetime
import importlib
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bench.recipes import ROOT, pick_targets
from engine.frozen_lm import FrozenLM
from engine.held import held
from engine.model_source import ModelSource
from engine.recipe import Recipe, load_recipe
from engine.slots import Job
from engine.soft_prompt import STARTS, Origin
from engine.solver import Solver
from engine.target import Target
from orchestrator.verifiers.contract import SLACK_TOKENS, Candidate, Verifier

RESULTS = ROOT / "bench" / "results" / "speed.json"


@dataclass
class Found:
    """What a method found: soft prompts by text, (K, D), and its work.

    Attributes:
        steps: of each text.
        positions: passed forward and backward, padding included, all texts together.
    """

    prompts: dict[str, Tensor] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)
    positions: int = 0


def ours(lm: FrozenLM, targets: list[Target], num_vectors: int, max_steps: int, recipe: Recipe | None = None) -> Found:
    """The solver under a recipe, by default the default one."""
    recipe = recipe or Recipe()
    recipe = recipe.model_copy(update={"max_steps": min(max_steps, recipe.max_steps)})
    solver = Solver(lm, table_positions=1536 if lm.device.type == "cpu" else 16384)
    attempts = solver.solve([Job(target, recipe, num_vectors) for target in targets])
    prompts = {a.job.target.id: held(a.prompt_KD) for a in attempts if a.is_candidate}
    return Found(prompts, [a.steps for a in attempts], sum(a.positions for a in attempts))


def per_sample(lm: FrozenLM, targets: list[Target], num_vectors: int, max_steps: int) -> Found:
    """One text at a time, to its first exact step."""
    found = Found()
    for target in targets:
        prompt_KD = noise(lm, num_vectors).requires_grad_()
        adam = torch.optim.AdamW([prompt_KD], lr=0.01, betas=(0.9, 0.9), weight_decay=0.01)
        ids_T = torch.tensor(target.token_ids, device=lm.device)
        for step in range(max_steps + 1):
            logits_TV = read(lm, prompt_KD[None], ids_T[None])[0]
            found.positions += num_vectors + len(ids_T) - 1
            is_exact = bool((logits_TV.argmax(-1) == ids_T).all())
            if is_exact:
                found.prompts[target.id] = prompt_KD.detach().clone()
            if is_exact or step == max_steps:
                found.steps.append(step)
                break
            adam.zero_grad()
            functional.cross_entropy(logits_TV, ids_T).backward()
            adam.step()
    return found


def progressive(lm: FrozenLM, targets: list[Target], num_vectors: int, max_steps: int) -> Found:
    """One batch, every text's prefix grown by a token once it is exact."""
    found, ids_BT, length_B = Found(), *padded(lm, targets)
    prompts_BKD = torch.stack([noise(lm, num_vectors) for _ in targets]).requires_grad_()
    adam = torch.optim.AdamW([prompts_BKD], lr=0.1, betas=(0.9, 0.9), weight_decay=0.01)
    window_B, done_B = torch.ones_like(length_B), torch.full_like(length_B, max_steps)
    for step in range(max_steps + 1):
        longest = int(window_B.max())
        logits_BTV = read(lm, prompts_BKD, ids_BT[:, :longest])
        found.positions += len(targets) * (num_vectors + longest - 1)
        inside_BT = torch.arange(longest, device=lm.device) < window_B[:, None]
        is_exact_B = ((logits_BTV.argmax(-1) == ids_BT[:, :longest]) | ~inside_BT).all(1)
        for b in (is_exact_B & (window_B == length_B) & (done_B == max_steps)).nonzero().flatten().tolist():
            found.prompts[targets[b].id] = prompts_BKD[b].detach().clone()
            done_B[b] = step
        if len(found.prompts) == len(targets):
            break
        adam.zero_grad()
        nll_BT = functional.cross_entropy(logits_BTV.mT, ids_BT[:, :longest], reduction="none") * inside_BT
        (nll_BT.sum(1) / window_B).sum().backward()
        adam.step()
        window_B = torch.minimum(window_B + is_exact_B.long(), length_B)
    found.steps = done_B.tolist()
    return found


def plain_loop(lm: FrozenLM, targets: list[Target], num_vectors: int, max_steps: int) -> Found:
    """The default recipe in one batch, without the engine: its start, cross-entropy at a half, Polyak."""
    optim, temperature, margin = Recipe().optim, 0.5, Recipe().stop_margin
    found, ids_BT, length_B = Found(), *padded(lm, targets)
    origins = [Origin(num_vectors, torch.Generator(), ids_T[:n]) for ids_T, n in zip(ids_BT, length_B, strict=True)]
    prompts_BKD = torch.stack([STARTS[Recipe().start.name](lm, origin) for origin in origins])
    mean_BKD, square_BKD = torch.zeros_like(prompts_BKD), torch.zeros_like(prompts_BKD)
    inside_BT = torch.arange(ids_BT.shape[1], device=lm.device) < length_B[:, None]
    done_B = torch.full_like(length_B, max_steps)
    for step in range(max_steps + 1):
        leaf_BKD = prompts_BKD.requires_grad_()
        logits_BTV = read(lm, leaf_BKD, ids_BT)
        found.positions += len(targets) * (num_vectors + ids_BT.shape[1] - 1)
        said_BT = logits_BTV.gather(2, ids_BT[..., None])[..., 0]
        rival_BT = logits_BTV.detach().scatter(2, ids_BT[..., None], float("-inf")).amax(2)
        margin_B = (said_BT.detach() - rival_BT).masked_fill(~inside_BT, float("inf")).amin(1)
        for b in ((margin_B >= margin) & (done_B == max_steps)).nonzero().flatten().tolist():
            found.prompts[targets[b].id] = leaf_BKD[b].detach().clone()
            done_B[b] = step
        if len(found.prompts) == len(targets):
            break
        nll_BT = functional.cross_entropy(logits_BTV.mT / temperature, ids_BT, reduction="none") * inside_BT
        loss_B = nll_BT.sum(1) / length_B
        (grad_BKD,) = torch.autograd.grad(loss_B.sum(), leaf_BKD)
        square_BKD = optim.beta2 * square_BKD + (1 - optim.beta2) * grad_BKD.square()
        along_BKD = grad_BKD / ((square_BKD / (1 - optim.beta2 ** (step + 1))).sqrt() + optim.eps)
        fall_B = (grad_BKD * along_BKD).sum((1, 2)).clamp_min(1e-30)
        length = (loss_B.detach() / fall_B).clamp_max(optim.lr * lm.embed_rms)
        mean_BKD = optim.beta1 * mean_BKD + length[:, None, None] * along_BKD
        prompts_BKD = prompts_BKD.detach() - mean_BKD
    found.steps = done_B.tolist()
    return found


def peft(lm: FrozenLM, targets: list[Target], num_vectors: int, max_steps: int) -> Found:
    """PEFT's prompt tuning, one text at a time, to its first exact step."""
    library: Any = importlib.import_module("peft")  # not one of ours: `pip install --no-deps peft accelerate`
    found, config = Found(), library.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=num_vectors)
    for target in targets:
        model = library.get_peft_model(lm.model, config)
        adam = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.03)
        ids_1T = torch.tensor(target.token_ids, device=lm.device)[None]
        for step in range(max_steps + 1):
            told = model(input_ids=ids_1T, labels=ids_1T)
            found.positions += num_vectors + ids_1T.shape[1]
            is_exact = bool((told.logits[:, num_vectors - 1 : -1].argmax(-1) == ids_1T).all())
            if is_exact:
                found.prompts[target.id] = model.get_prompt(batch_size=1)[0].detach().float().clone()
            if is_exact or step == max_steps:
                found.steps.append(step)
                break
            adam.zero_grad()
            told.loss.backward()
            adam.step()
    return found


METHODS: dict[str, Callable[..., Found]] = {
    "ours": ours, "per_sample": per_sample, "progressive": progressive, "plain_loop": plain_loop, "peft": peft,
}  # fmt: skip

ONE_BY_ONE = ("per_sample", "peft")
"""Methods whose time is that of each text after the other."""


def noise(lm: FrozenLM, num_vectors: int) -> Tensor:
    return torch.randn(num_vectors, lm.hidden_size, device=lm.device) * lm.embed_rms


def padded(lm: FrozenLM, targets: list[Target]) -> tuple[Tensor, Tensor]:
    """(B, T) ids, zeros behind, and (B,) lengths."""
    ids = [torch.tensor(target.token_ids, device=lm.device) for target in targets]
    lengths = torch.tensor([len(ids_T) for ids_T in ids], device=lm.device)
    return torch.nn.utils.rnn.pad_sequence(ids, batch_first=True), lengths


def read(lm: FrozenLM, prompts_BKD: Tensor, ids_BT: Tensor) -> Tensor:
    """(B, T, V) logits that predict the ids, as a script would have them: the whole model, the whole vocabulary."""
    read_BSD = torch.cat([prompts_BKD, lm.embed(ids_BT[:, :-1])], 1)
    return lm.model(inputs_embeds=read_BSD, use_cache=False).logits[:, prompts_BKD.shape[1] - 1 :].float()


def judge(verifier: Verifier, targets: list[Target], found: Found) -> int:
    """How many of the prompts the verifier decodes to their texts."""
    candidates = [
        Candidate(t.id, found.prompts[t.id].cpu().numpy(), t.token_ids) for t in targets if t.id in found.prompts
    ]  # fmt: skip
    return sum(verdict.exact for verdict in verifier.judge(candidates)) if candidates else 0


def measure(lm: FrozenLM, verifier: Verifier, targets: list[Target], num_vectors: int, args) -> dict[str, list[dict]]:
    """Every method's turns."""
    turns: dict[str, list[dict]] = {method: [] for method in args.methods}
    for turn in range(args.repeats):
        for method in args.methods:
            torch.manual_seed(turn)
            given = targets[:: args.one_in] if method in ONE_BY_ONE else targets
            started = time.perf_counter()
            own = {"recipe": args.recipe and load_recipe(args.recipe)} if method == "ours" else {}
            found = METHODS[method](lm, given, num_vectors, args.max_steps, **own)
            solved_s = time.perf_counter() - started
            exact = judge(verifier, given, found)
            seconds = time.perf_counter() - started if method == "ours" else solved_s
            turns[method].append({
                "seconds": round(seconds, 3), "exact": exact, "texts": len(given),
                "steps": statistics.fmean(found.steps), "positions": found.positions,
                "texts_an_hour": 3600 * exact / seconds,
            })  # fmt: skip
            print(f"  K = {num_vectors}, {method:<12} {exact} of {len(given)} exact, {seconds:6.1f} s, "
                  f"{turns[method][-1]['steps']:6.1f} steps", flush=True)  # fmt: skip
    return turns


def ratios(turns: dict[str, list[dict]]) -> dict[str, tuple[float, float, float]]:
    """Our texts an hour over each method's, turn by turn: median, least, most."""
    told = {}
    for method, theirs in turns.items():
        pairs = zip(turns["ours"], theirs, strict=True)
        each = [mine["texts_an_hour"] / max(1e-9, other["texts_an_hour"]) for mine, other in pairs]
        told[method] = (statistics.median(each), min(each), max(each))
    return told


def verifier_of(args: argparse.Namespace, source: ModelSource, context: int) -> Verifier:
    if args.engine == "hf":
        from orchestrator.verifiers.hf_verifier import HfVerifier

        return HfVerifier(source.path, revision=None, dtype="float32", context=context, device=args.device)
    from orchestrator.verifiers.vllm_verifier import VllmVerifier

    return VllmVerifier(source.path, revision=None, dtype="float32", context=context)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--corpus", default="english_1k", help="a file of corpora/")
    parser.add_argument("--texts", type=int, default=6)
    parser.add_argument("--lengths", type=int, nargs=2, default=(12, 20), help="fewest and most tokens")
    parser.add_argument("--vectors", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=[m for m in METHODS if m != "peft"])
    parser.add_argument("--recipe", type=Path, help="of ours, as `verbatim learn` writes one")
    parser.add_argument("--one-in", type=int, default=1, help="methods of one text after the other get every N-th text")
    parser.add_argument("--max-steps", type=int, default=2000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--engine", choices=("vllm", "hf"), default="vllm")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    torch.set_num_threads(args.threads)
    source = ModelSource(args.model)
    lm = FrozenLM.load(source, device=args.device)
    targets = pick_targets(lm, args.corpus, args.texts, tuple(args.lengths))
    longest = max(len(target.token_ids) for target in targets) + max(args.vectors) + 1 + SLACK_TOKENS
    verifier = verifier_of(args, source, longest)
    torch.set_num_threads(args.threads)  # an engine sets its own
    judge(verifier, targets, Found({t.id: noise(lm, 1) for t in targets}))  # the first call of a process takes longer
    records = json.loads(args.out.read_text()) if args.out.exists() else []
    for num_vectors in args.vectors:
        turns = measure(lm, verifier, targets, num_vectors, args)
        told = ratios(turns)
        for method, (median, least, most) in told.items():
            print(f"{args.model}, K = {num_vectors}: ours over {method}: {median:.1f} ({least:.1f} to {most:.1f})")
        records.append({
            "date": datetime.date.today().isoformat(), "model": args.model, "fingerprint": lm.fingerprint,
            "device": torch.cuda.get_device_name() if args.device == "cuda" else args.device,
            "recipe": args.recipe.parent.name if args.recipe else "default",
            "engine": verifier.engine, "num_vectors": num_vectors, "threads": args.threads, "corpus": args.corpus,
            "tokens": [len(t.token_ids) for t in targets], "turns": turns, "ratios": told, "torch": torch.__version__,
        })  # fmt: skip
        args.out.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
