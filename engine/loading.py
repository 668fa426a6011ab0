"""Reading a model's parts through transformers: no remote code, and one line for whatever cannot be read.

Owns: the calls to `from_pretrained`. Must not know: embeddings, heads, what the model is used for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from engine.model_source import ModelError, ModelSource


def from_pretrained(auto_class: Any, source: ModelSource, **kwargs: Any) -> Any:
    """What `auto_class.from_pretrained` makes of the source: no remote code.

    Raises:
        ModelError: one line for whatever it could not read.
    """
    with _told_in_one_line(source):
        return auto_class.from_pretrained(
            source.path, revision=source.revision or "main", trust_remote_code=False, **kwargs
        )


def load_skeleton(source: ModelSource) -> Any:
    """The causal language model of the source's configuration: every shape, no weights, no memory.

    Raises:
        ModelError: one line for whatever transformers cannot build.
    """
    config = from_pretrained(AutoConfig, source)
    with _told_in_one_line(source), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


@contextmanager
def _told_in_one_line(source: ModelSource) -> Iterator[None]:
    try:
        yield
    except ModelError:
        raise
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"--model {source.name}: cannot be loaded ({reason})") from error
