"""English sentences in a plain file, for machines that read no Parquet.

    python -m bench.english          # writes bench/english.txt anew

Owns: which sentences, in which order. Must not know: tokens, models.
"""

from pathlib import Path

from engine.frozen_lm import TokenRule
from engine.target import Target, make_target

ROOT = Path(__file__).parent.parent
FILE = Path(__file__).with_name("english.txt")
EVERY = 2
"""Of the corpus's sentences, so that all of it is there in half of its bytes."""


def sentences() -> list[str]:
    """A sentence a line."""
    return FILE.read_text(encoding="utf-8").splitlines()


def targets(rule: TokenRule, lengths: tuple[int, int], most: int) -> list[Target]:
    """The first sentences of so many tokens, named by their line."""
    made = (make_target(rule, f"english-{n}", text) for n, text in enumerate(sentences()))
    fit = [t for t in made if isinstance(t, Target) and lengths[0] <= len(t.token_ids) <= lengths[1]]
    return fit[:most]


def main() -> None:
    import pyarrow.parquet as parquet

    texts = parquet.read_table(ROOT / "corpora" / "english_1k.parquet", columns=["text"])["text"].to_pylist()
    FILE.write_text("".join(f"{text}\n" for text in texts[::EVERY]), encoding="utf-8")


if __name__ == "__main__":
    main()
