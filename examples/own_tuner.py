"""A Ray Tuner of one's own on Verbatim's resident models: a grid over the rate, stopped by ASHA.

    python examples/own_tuner.py corpora/demo.parquet runs/own

The models are loaded once, whatever the number of trials. Any searcher, scheduler and callback of Ray Tune will do.
"""

import sys
import tempfile
from pathlib import Path

from ray import tune
from ray.tune.schedulers import ASHAScheduler

from tune_spaces import open_slots


def main(corpus: str, out: str, engine: str = "vllm") -> None:
    """Try three rates on eight texts, and the best of them on eight others."""
    with (
        open_slots(corpus, Path(out), texts=8, hold_out=8, engine=engine) as slots,
        tempfile.TemporaryDirectory() as kept,
    ):
        tuner = tune.Tuner(
            slots.trainable,
            param_space={"optim.lr": tune.grid_search([0.3, 1.0, 3.0]), "optim.beta1": 0.7},
            tune_config=tune.TuneConfig(
                metric=slots.metric,
                mode=slots.mode,
                scheduler=ASHAScheduler(time_attr="texts", grace_period=4, max_t=slots.num_texts + 1),
            ),
            run_config=tune.RunConfig(storage_path=kept, verbose=0),
        )
        results = tuner.fit()
        for result in results:
            print(f"{result.config['optim.lr']:g}: {result.metrics['cost']:.1f} passes a text")
        best = results.get_best_result()
        print(f"the best on other texts: {slots.compare(best.config).figures}")


if __name__ == "__main__":
    main(*sys.argv[1:])
