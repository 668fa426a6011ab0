"""Reading a model through transformers: no remote code, nothing filled in, one line for whatever cannot be read.

Owns: the calls to `from_pretrained`, what is asked of a checkpoint before and after. Must not know: embeddings, heads,
what the model is used for.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.quantizers.auto import AutoHfQuantizer
from transformers.utils.hub import cached_file

from engine.accounting import account, require_whole
from engine.model_source import ModelError, ModelSource
from engine.weight_files import checkpoint_shapes

OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)
"""Not the model's fault: left to whoever decides on sizes."""


@contextmanager
def told_in_one_line(source: ModelSource) -> Iterator[None]:
    """Whatever goes wrong with a model becomes one `ModelError` that begins with the name it was asked for by.

    transformers raises nearly anything over a checkpoint that it cannot read: ImportError, KeyError, AttributeError,
    RuntimeError, SafetensorError. All of them are the user's to know; only a lack of memory is not the model's fault.
    """
    name = f"--model {source.name}: "
    try:
        yield
    except OUT_OF_MEMORY:
        raise
    except ModelError as error:
        raise error if str(error).startswith("--model ") else ModelError(name + str(error)) from error
    except Exception as error:
        if "not enough memory" in str(error):  # torch's allocator for the CPU raises a RuntimeError
            raise MemoryError(str(error)) from error
        raise ModelError(f"{name}cannot be loaded ({_reason(error)}){_remedy(error)}") from error


def from_pretrained(auto_class: Any, source: ModelSource, **kwargs: Any) -> Any:
    """What `auto_class.from_pretrained` makes of the source: no remote code.

    Raises:
        ModelError: one line for whatever it could not read.
    """
    with told_in_one_line(source), _quiet():
        return auto_class.from_pretrained(
            source.path, revision=source.revision or "main", trust_remote_code=False, **kwargs
        )


def load_config(source: ModelSource) -> Any:
    """The configuration of a causal language model.

    Raises:
        ModelError: it cannot be read, or transformers has no causal language model for it.
    """
    config = from_pretrained(AutoConfig, source)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(
            f"--model {source.name}: {config.model_type} is no causal language model to transformers "
            f"{transformers.__version__}; give a decoder, or a checkpoint of the model's language part"
        )
    return config


def load_skeleton(source: ModelSource) -> Any:
    """The causal language model of the source's configuration: every shape, no weights, no memory.

    Raises:
        ModelError: one line for whatever transformers cannot build, or lacks a package for.
    """
    config = load_config(source)
    with told_in_one_line(source), _quiet():
        require_trainable(config, is_on_its_device=False)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def require_whole_files(source: ModelSource) -> None:
    """Refuse a checkpoint that does not hold the model's weights, by the headers of its files: nothing is loaded.

    What a load refuses is refused here in a fraction of a second. Left to the load are a hub's model that is not all on
    this machine yet, and a quantised one, whose tensors only its quantiser can place.

    Raises:
        ModelError: what is missing, left over or of another shape, by name; or the model cannot be built.
    """
    config = load_config(source)
    folder = local_folder(source)
    shapes = checkpoint_shapes(folder) if folder and not _stored_quantisation(config) else None
    if shapes is None:
        return
    skeleton = load_skeleton(source)
    with _quiet(), no_progress_bars():
        try:
            info = account(skeleton, shapes)
        except Exception:  # no judge of last resort: what cannot be counted here the load counts
            return
    with told_in_one_line(source):
        require_whole(skeleton, info, is_part=type(skeleton.config) is not type(config))


def local_folder(source: ModelSource) -> Path | None:
    """The model's folder on this machine: its own, or the one in the hub's cache; None for one that is not here."""
    try:
        config = cached_file(source.path, "config.json", revision=source.revision, local_files_only=True)
    except OSError:
        return None
    return Path(config).parent if config else None


def load_model(source: ModelSource, dtype: torch.dtype) -> Any:
    """The causal language model with every weight from the checkpoint, on the CPU.

    Raises:
        ModelError: one line for whatever is missing, left over, of another shape, or cannot be trained through.
    """
    config = load_config(source)
    with told_in_one_line(source), _quiet():
        require_trainable(config)
    model, info = from_pretrained(
        AutoModelForCausalLM, source, dtype=dtype, use_safetensors=True, output_loading_info=True,
        ignore_mismatched_sizes=True, **attention_for(config),
    )  # fmt: skip
    with told_in_one_line(source):
        require_whole(model, info, is_part=type(model.config) is not type(config))
    # A quantiser that has taken itself out again leaves the dtype it likes.
    return model.to(dtype) if _stored_quantisation(config) and not hasattr(model, "hf_quantizer") else model


def attention_for(config: Any) -> dict[str, str]:
    """Keywords for `from_pretrained`: the attention that computes what the configuration says.

    Gemma 2 caps its attention logits, and torch's scaled_dot_product_attention, transformers' choice, leaves the cap
    out without a word (0.014 to 0.15 logits off on tiny models, measured 2026-11-25); vLLM applies it. Eager attention
    does too, everywhere and in every dtype; flash attention would, on GPUs and in 16 bits alone.
    """
    caps = getattr(config.get_text_config(), "attn_logit_softcapping", None)
    return {"attn_implementation": "eager"} if caps else {}


def _stored_quantisation(config: Any) -> Any:
    """What the checkpoint says about how its weights are quantised; None where they are not."""
    own = getattr(config, "quantization_config", None)
    return own or getattr(config.get_text_config(decoder=True), "quantization_config", None)


def require_trainable(config: Any, *, is_on_its_device: bool = True) -> None:
    """Refuse a quantiser that lacks its package or that no gradient passes, before any weight is read.

    Args:
        is_on_its_device: whether the model will be loaded where this runs; elsewhere only packages are looked at.
    """
    stored = _stored_quantisation(config)
    if not stored or not AutoHfQuantizer.supports_quant_method(stored):
        return
    quantizer: Any = AutoHfQuantizer.from_config(stored, pre_quantized=True)
    try:
        quantizer.validate_environment(device_map=None, weights_only=True)
    except ImportError:
        raise
    except Exception:
        if is_on_its_device:
            raise
    if not is_on_its_device or getattr(quantizer.quantization_config, "dequantize", False):
        return
    trainable = quantizer.is_trainable
    if not (trainable() if callable(trainable) else trainable):
        method = getattr(
            quantizer.quantization_config.quant_method, "value", quantizer.quantization_config.quant_method
        )
        raise ModelError(
            f"no gradient passes weights quantised with {method} (transformers' {type(quantizer).__name__}); give the "
            "model in its unquantised form"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers tells in tables, and the hub in a line a retry, what is told here in one line."""
    verbosity = transformers.logging.get_verbosity()
    hub = logging.getLogger("huggingface_hub")
    hub_level = hub.level
    transformers.logging.set_verbosity(logging.CRITICAL)
    hub.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        hub.setLevel(hub_level)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Load without transformers' bars, and leave its setting as it was."""
    were_shown = transformers.logging.is_progress_bar_enabled()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_shown:
            transformers.logging.enable_progress_bar()


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    kind = "" if isinstance(error, (OSError, ValueError, ImportError)) else f"{type(error).__name__}: "
    return kind + lines[0].strip()


def _remedy(error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return ": it needs code of its own, which is never run; give a model of a class that transformers has"
    if "couldn't connect to" in str(error):
        return ": the hub cannot be reached from here; give a folder, or --model smollm2, which needs no hub"
    if isinstance(error, ImportError):
        return ": install what it names, or give the model in its unquantised form"
    if isinstance(error, AttributeError):
        return (
            f": transformers {transformers.__version__} cannot build a causal language model from this configuration; "
            "give a checkpoint of its language part alone"
        )
    return ""
