"""What a model is and whether it would run here, told from its configuration, its files' headers and the free memory.

Owns: what is looked at, and the verdict on each. Must not know: how anything is loaded; no weight is.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from engine.context_length import CONTEXT_NAMES, UNKNOWN_CONTEXT
from engine.footprint import Footprint, numbers_of, weight_files
from engine.frozen_lm import FrozenLM, TokenRule
from engine.loading import load_config, require_trainable, require_whole_files
from engine.model_source import ModelError, ModelSource
from engine.weight_files import check_safetensors
from orchestrator.console.errors import UserError
from orchestrator.doctor.finding import Finding
from orchestrator.process.failures import reason
from orchestrator.process.memory import GIB, Memory
from orchestrator.sizing.here import memories_here, node_here
from orchestrator.sizing.placement import Placement, place
from orchestrator.sizing.room import Tenancy, room_in
from orchestrator.sizing.sharing import Need
from orchestrator.verifiers.vllm_verifier import import_vllm

USUAL_LENGTH = 128
"""Positions of a text with its vectors: what a table is counted for. Assumption."""

SAMPLE_BYTES = 128 << 20
SAMPLE_S = 1.5
"""How much of the weights is read, at most, to see how fast they come, and for how long. Assumption."""

JUDGE_WITH_HF = "judge with --engine hf"

NORMALISED = "e\u0301 \u212b \ufb01 A"
"""A text that a tokenizer which rewrites (NFC, NFKC, lower case) does not give back: combining, compatible, capital."""


@dataclass(frozen=True)
class Looked:
    """A model whose configuration and tokenizer could be read, and where it would run.

    Attributes:
        memories: of each card, or of this machine where there is none.
        files: weight files on this machine; none of a hub model that is not there yet.
    """

    source: ModelSource
    config: Any
    token_rule: TokenRule
    footprint: Footprint
    placement: Placement
    memories: tuple[Memory, ...]
    files: tuple[Path, ...]


def examine_model(source: ModelSource, engine: str = "vllm", *, loads: bool = False) -> list[Finding]:
    """Everything worth knowing about a model. Whatever is wrong with it is a finding; nothing is raised.

    Args:
        engine: who would verify: `vllm` or `hf`.
        loads: whether to load it at the end and run the probe of a load.
    """
    try:
        looked = _look(source)
    except (UserError, ModelError) as error:
        return [Finding("model", False, str(error).removeprefix("--model "))]
    except Exception as error:  # a configuration may hold anything
        return [Finding("model", False, f"{source.name}: cannot be looked at ({reason(error)})")]
    looks = LOOKS
    if engine != "vllm" or source.name == "pocket":  # vLLM is known to have that one, and takes seconds to import
        looks = {name: look for name, look in LOOKS.items() if look is not _engine}
    findings = [_told(name, look, looked) for name, look in looks.items()]
    if loads and all(finding.is_fine for finding in findings):
        findings.append(_told("load", _load, looked))
    return findings


def _told(name: str, look: Callable[[Looked], Finding], looked: Looked) -> Finding:
    try:
        return look(looked)
    except (UserError, ModelError) as error:
        return Finding(name, False, str(error).removeprefix("--model "))
    except Exception as error:
        return Finding(name, True, f"could not be looked at ({reason(error)})", is_warning=True)


def _look(source: ModelSource) -> Looked:
    config, token_rule = load_config(source), TokenRule.load(source)
    return Looked(
        source,
        config,
        token_rule,
        Footprint.of(source, token_rule.context),
        place([node_here()]),
        memories_here(),
        tuple(weight_files(source)),
    )


def _family(looked: Looked) -> Finding:
    config, text = looked.config, looked.config.get_text_config()
    found = (
        f"{looked.source.name}: {class_of(config)} ({config.model_type}), {_count(looked.footprint.num_parameters)} "
        f"parameters, {text.num_hidden_layers} layers, hidden size {text.hidden_size}; transformers "
        f"{transformers.__version__} has it"
    )
    return Finding("model", True, found)


def class_of(config: Any) -> str:
    """The class that transformers loads it as."""
    loaded_as: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return loaded_as.__name__


def _weights(looked: Looked) -> Finding:
    """The files whole, nothing missing, and whether a gradient passes a quantisation.

    Raises:
        ModelError: a file is not what it should be, weights are missing or left over, or the quantiser cannot be
            trained through.
    """
    require_trainable(looked.config)
    if not looked.files:
        gigabytes = looked.footprint.weights_bytes("bfloat16") / 1e9
        found = f"not on this machine: a run downloads them, some {gigabytes:.1f} GB in 16 bits"
        return Finding("weights", True, found, "have them downloaded before a run on several nodes", is_warning=True)
    tensors = [t for path in looked.files for name, t in check_safetensors(path).items() if name != "__metadata__"]
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor["dtype"]] += tensor["data_offsets"][1] - tensor["data_offsets"][0]
    number = f"{len(looked.files)} file{'s' if len(looked.files) > 1 else ''}"
    found = f"{sum(sizes.values()) / 1e9:.2f} GB in {number}, {', '.join(dtype for dtype, _ in sizes.most_common())}"
    if looked.footprint.is_quantised:
        found += ", quantised in a way that a gradient passes"
    else:
        require_whole_files(looked.source)
    return Finding("weights", True, f"{found}; a run here computes in {looked.placement.dtype}")


def _engine(looked: Looked) -> Finding:
    """Whether vLLM knows the architecture, itself or through transformers' code.

    Raises:
        UserError: vLLM is not installed.
    """
    vllm = import_vllm()
    name, who = (looked.config.architectures or [class_of(looked.config)])[0], f"vLLM {vllm.__version__}"
    if looked.placement.device == "cpu" and (size := _unknown_head_size(looked.config)):
        return Finding("vLLM", False, f"{who} has no attention with heads of {size} for processors", JUDGE_WITH_HF)
    if name in vllm.ModelRegistry.get_supported_archs():
        return Finding("vLLM", True, f"{who} has {name}")
    theirs = getattr(transformers, name, None)
    if theirs is not None and (theirs.is_backend_compatible() or theirs._can_set_attn_implementation()):
        return Finding("vLLM", True, f"{who} has no {name} of its own and runs transformers'")
    return Finding("vLLM", False, f"{who} does not run {name}", JUDGE_WITH_HF)


def _unknown_head_size(config: Any) -> int | None:
    """The size of the model's attention heads, if vLLM's attention for processors has no such."""
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", None)
    sizes = numbers_of(text, "head_dim") or ([text.hidden_size // heads] if heads else [])
    return next((size for size in sizes if size not in CPUAttentionBackend.get_supported_head_sizes()), None)


def _context(looked: Looked) -> Finding:
    context, rope, text = looked.token_rule.context, kind_of_rope(looked.config), looked.config.get_text_config()
    if context == UNKNOWN_CONTEXT and context not in [getattr(text, name, None) for name in CONTEXT_NAMES]:
        found = f"stated nowhere, taken as {UNKNOWN_CONTEXT:,} positions, as vLLM does"
        return Finding("context", True, found, "keep texts and vectors together below it", is_warning=True)
    found = f"{context:,} positions"
    if "longrope" in rope or "dynamic" in rope:
        found += f"; its frequencies depend on the length ({rope}), so that a run reads with those of one length"
    elif rope not in ("default", "none"):
        found += f"; positions by {rope}"
    return Finding("context", True, found)


def kind_of_rope(config: Any) -> str:
    """What rotates its positions: `default`, `longrope`, `dynamic`, ...; `none` where nothing does."""
    rules = getattr(config.get_text_config(), "rope_parameters", None) or {}
    kinds = {rule["rope_type"] for rule in [rules, *rules.values()] if isinstance(rule, dict) and "rope_type" in rule}
    return ", ".join(sorted(map(str, kinds))) or "none"


def _tokenizer(looked: Looked) -> Finding:
    token_rule = looked.token_rule
    rows, known = token_rule.num_embeddings, len(token_rule.tokenizer)
    end = "no end-of-text token" if token_rule.end_id is None else f"ends a text with {token_rule.end_id}"
    found = f"{type(token_rule.tokenizer).__name__}, {known:,} tokens for {rows:,} rows of the embedding, {end}"
    found += f", {manner_of(token_rule)}"
    if token_rule.end_id is None:
        return Finding("tokenizer", True, found, "give --set end_of_text=false", is_warning=True)
    if known > rows:
        remedy = "texts that need a token beyond the rows are refused one by one; is it this model's own tokenizer?"
        return Finding("tokenizer", True, found, remedy, is_warning=True)
    return Finding("tokenizer", True, found)


def manner_of(token_rule: TokenRule) -> str:
    """What the tokenizer does to a text before it cuts it, in a word."""
    speller = token_rule.speller
    words = []
    if speller.decode(speller.plain(NORMALISED)).strip() != NORMALISED:
        words.append("normalising")
    if speller.decode(speller.plain("a")) != "a" or speller.decode(speller.plain("a")[:1]).startswith(" "):
        words.append("prefix-space")
    return " and ".join(words) or "plain"


def _memory(looked: Looked) -> Finding:
    """What the solver and the verifier take on one card or machine, and the table that the rest is room for.

    Raises:
        UserError: they do not fit.
    """
    placement, footprint, dtype = looked.placement, looked.footprint, looked.placement.dtype
    least = min(looked.memories, key=lambda memory: memory.free)
    need = Need(USUAL_LENGTH, USUAL_LENGTH, USUAL_LENGTH)
    room = room_in(least, Tenancy(looked.source, placement, dtype, dtype), 1, need, footprint)
    has_one_place = len(looked.memories) == 1
    table = room.placement.table_positions
    where = "this machine" if placement.device == "cpu" else "the card" if has_one_place else "the fullest card"
    found = (
        f"{footprint.weights_bytes(dtype) / GIB:.2f} GiB of weights in {dtype}"
        f"{', in the solver and again in the verifier' * has_one_place}; {least.free / GIB:.1f} of "
        f"{least.total / GIB:.1f} GiB are free on {where}: room for a table of {table:,} positions"
    )
    return Finding("memory for it", True, found)


def _loading(looked: Looked) -> Finding:
    if not looked.files:
        return Finding("loading", True, "cannot be told before the weights are here")
    size, rate = sum(path.stat().st_size for path in looked.files), read_rate(looked.files)
    seconds = f"about {size / rate:.0f} s" if size >= rate else "less than a second"
    found = f"{seconds} to read {size / 1e9:.2f} GB ({rate / 1e9:.2f} GB/s, measured on a part), and vLLM's own start"
    return Finding("loading", True, found)


def read_rate(files: Sequence[Path]) -> float:
    """Bytes a second that the largest file gives, from its middle on, for a bounded part."""
    largest = max(files, key=lambda path: path.stat().st_size)
    chunk, done, started = 4 << 20, 0, time.monotonic()
    with largest.open("rb", buffering=0) as file:
        file.seek(max(0, (largest.stat().st_size - SAMPLE_BYTES) // 2))
        while done < SAMPLE_BYTES and time.monotonic() - started < SAMPLE_S and (read := file.read(chunk)):
            done += len(read)
    return max(1, done) / max(1e-6, time.monotonic() - started)


def _load(looked: Looked) -> Finding:
    """Load it as a solver would, its soundness probed.

    Raises:
        ModelError: what is wrong with it.
    """
    started, placement = time.monotonic(), looked.placement
    lm = FrozenLM.load(looked.source, device=placement.device, dtype=placement.dtype)
    return Finding("load", True, f"sound; {lm.fingerprint}, {time.monotonic() - started:.0f} s in {placement.dtype}")


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} billion" if number >= 1e9 else f"{number / 1e6:.1f} million"


LOOKS: dict[str, Callable[[Looked], Finding]] = {
    "model": _family,
    "weights": _weights,
    "vLLM": _engine,
    "context": _context,
    "tokenizer": _tokenizer,
    "memory for it": _memory,
    "loading": _loading,
}
"""In the order in which they are told."""
