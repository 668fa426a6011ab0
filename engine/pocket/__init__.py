"""The pocket model: a small language model trained by this project, shipped inside the package."""

from pathlib import Path

PATH = Path(__file__).parent / "weights"
"""Folder of the embedded model, in the layout `transformers.AutoModelForCausalLM.from_pretrained` reads."""

__all__ = ["PATH"]
