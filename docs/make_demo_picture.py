"""Draw docs/demo.svg: the table `make demo` prints, from its finished folder.

python docs/make_demo_picture.py runs/demo
"""

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from orchestrator.results.ledger import Ledger
from orchestrator.results.run_record import require_record
from orchestrator.results.summary import print_summary, print_table, summarise

NUM_ROWS = 16


def main() -> None:
    folder = Path(sys.argv[1])
    summary = summarise(Ledger(folder), require_record(folder))
    console = Console(record=True, width=112, file=io.StringIO(), force_terminal=True)
    rows = sorted(summary.rows, key=lambda row: len(row["token_ids"]))
    console.print("$ make demo", style="dim")
    print_table(rows[:: len(rows) // NUM_ROWS], console)
    console.print(f"... {len(rows) - len(rows[:: len(rows) // NUM_ROWS])} more", style="dim")
    print_summary(summary, console)
    # Without rich's @font-face blocks: a picture in a README should fetch nothing.
    svg = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="verbatim"), flags=re.DOTALL)
    (Path(__file__).parent / "demo.svg").write_text(svg)


if __name__ == "__main__":
    main()
