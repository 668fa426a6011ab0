"""Does a run keep its promises while its processes are killed at random?

    python -m bench.soak --minutes 10 --seed 1 --verifiers 2

Every few seconds one of solver, verifiers and driver is killed or suspended; a driver that is gone is started again.
When the time is up the run goes on undisturbed to its end, and its folder is audited: rows lost, doubled, computed
again, called exact without proof. Ends 1 if there are any. A text that was in a solver's hands three times when it was
killed is poisoned by rule; such rows are counted apart. The driver has a Ray of its own, as `verbatim run` does
without `--address`. Writes bench/results/soak.json.
"""

import argparse
import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from bench.audit import Audit
from bench.recipes import ROOT
from orchestrator.results.ledger import Ledger
from orchestrator.results.run_log import read_events

LEASE_S = 30
"""What a suspended actor costs. A busy machine takes ten seconds over a call now and then."""

PAUSE_S = 35.0
"""How long a suspended driver sleeps: longer than a lease, as a laptop that was closed."""

SPARED = 0.8
"""Chance that a driver which is still loading gets away: it would never come to its loop on a busy machine."""

FAULTS = {
    ("solver", "kill"): 4, ("verifier", "kill"): 3, ("driver", "kill"): 2,
    ("solver", "suspend"): 1, ("verifier", "suspend"): 1, ("driver", "suspend"): 1, ("driver", "interrupt"): 1,
}  # fmt: skip
"""Chances, relative."""

TITLES = {"solver": "ray::SolverActor", "verifier": "ray::VerifierActor"}


def write_corpus(path: Path, num_texts: int) -> dict[str, str]:
    """Short sentences of english_1k, as often as it takes; by id."""
    rows = pq.read_table(ROOT / "corpora" / "english_1k.parquet").to_pylist()
    short = [row for row in rows if len(row["text"]) < 60]
    texts = {
        f"{short[i % len(short)]['id']}-{i // len(short)}": short[i % len(short)]["text"] for i in range(num_texts)
    }
    path.write_text("".join(json.dumps({"id": id, "text": text}) + "\n" for id, text in texts.items()))
    return texts


class Soak:
    """One run, called again and again.

    Attributes:
        faults: what was done to it, by who and what.
    """

    def __init__(self, folder: Path, corpus: Path, engine: str, num_verifiers: int, chance: random.Random):
        self.folder, self._chance = folder, chance
        self._command = [
            *(sys.executable, "-m", "orchestrator.cli", "run", str(corpus), "--out", str(folder), "--no-dashboard"),
            *("--engine", engine, "--lease", str(LEASE_S), "--set", "num_vectors=8"),
            *("--verifiers", str(num_verifiers)),
        ]
        self._log = folder.with_suffix(".log").open("w")
        self.faults: Counter[str] = Counter()
        self.driver = self._start()

    def disturb(self) -> None:
        """One fault, if there is somebody to have it; a driver that ended is started again."""
        if self.driver.poll() is not None:
            self.faults[f"driver ended {self.driver.returncode}"] += 1
            self.driver = self._start()
        if self._is_loading and self._chance.random() < SPARED:
            return
        who, what = self._chance.choices(list(FAULTS), weights=list(FAULTS.values()))[0]
        victim = self.driver if who == "driver" else self._actor(TITLES[who])
        if victim is None:
            return
        self.faults[f"{who} {what}"] += 1
        with contextlib.suppress(psutil.NoSuchProcess):
            getattr(self, f"_{what}")(who, victim)

    def finish(self) -> int:
        """Let it end in peace; the last call's exit code."""
        self.driver.wait()
        while self.driver.returncode in (-signal.SIGKILL, 128 + signal.SIGINT, 1):
            self.driver = self._start()
            self.driver.wait()
        return self.driver.returncode

    @property
    def _is_loading(self) -> bool:
        return self._num_begun() == self._num_begun_before

    def _num_begun(self) -> int:
        return sum(1 for _ in read_events(self.folder, "started"))

    def _start(self) -> subprocess.Popen:
        self._num_begun_before = self._num_begun()
        return subprocess.Popen(self._command, stdout=self._log, stderr=self._log, cwd=ROOT)

    def _actor(self, title: str) -> psutil.Process | None:
        """One of them, if there is any."""
        found = []
        for process in psutil.Process(self.driver.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if " ".join(process.cmdline()).startswith(title):
                    found.append(process)
        return self._chance.choice(found) if found else None

    def _kill(self, who: str, victim: psutil.Process | subprocess.Popen) -> None:
        victim.send_signal(signal.SIGKILL)
        if who == "driver":
            victim.wait()

    def _suspend(self, who: str, victim: psutil.Process | subprocess.Popen) -> None:
        victim.send_signal(signal.SIGSTOP)
        if who == "driver":
            time.sleep(PAUSE_S)
            victim.send_signal(signal.SIGCONT)

    def _interrupt(self, who: str, victim: psutil.Process | subprocess.Popen) -> None:
        victim.send_signal(signal.SIGINT)
        victim.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quiet", type=float, default=12, help="longest time between two faults, seconds")
    parser.add_argument("--texts", type=int, default=3000)
    parser.add_argument("--engine", default="hf", choices=["hf", "vllm"])
    parser.add_argument("--verifiers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "soak.json")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="verbatim-soak-") as name:
        place = Path(name)
        texts = write_corpus(place / "corpus.jsonl", options.texts)
        audit = Audit(place / "run", texts)
        soak = Soak(place / "run", place / "corpus.jsonl", options.engine, options.verifiers, chance)
        end = time.monotonic() + 60 * options.minutes
        while time.monotonic() < end:
            time.sleep(chance.uniform(0.5, options.quiet))
            soak.disturb()
            audit.look()
        num_disturbed = audit.num_committed
        code = soak.finish()
        wrong = audit.conclude()
        statuses = Counter(row["status"] for row in Ledger(place / "run").read(["status"]))
    told = {name: getattr(options, name) for name in ("seed", "minutes", "texts", "engine", "verifiers")} | {
        "faults": dict(sorted(soak.faults.items())),
        "committed_among_faults": num_disturbed,
        "rows": dict(statuses),
        "exit_code": code,
        "wrong": wrong,
    }
    print(json.dumps(told, indent=1))
    options.out.write_text(json.dumps(told, indent=1) + "\n")
    raise SystemExit(1 if wrong or code not in (0, 3) else 0)


if __name__ == "__main__":
    main()
