"""Ray's own callbacks by name."""

from importlib.util import find_spec

import pytest

from orchestrator.console.errors import UserError
from tune_spaces import cli
from tune_spaces.callbacks import PACKAGES, make_callbacks, require_callbacks, trials_folder


def test_a_callback_that_cannot_be_is_refused_in_one_line():
    with pytest.raises(UserError, match="--callback tensorbord: must be of .*; the nearest is tensorboard"):
        require_callbacks(["tensorbord"])
    missing = [name for name, package in PACKAGES.items() if find_spec(package) is None]
    for name in missing:
        with pytest.raises(UserError, match=f"--callback {name}: needs .*; pip install {PACKAGES[name]}"):
            require_callbacks([name])


def test_what_is_there_is_made_and_keeps_its_files_in_the_searchs_folder(tmp_path):
    require_callbacks(["tensorboard"])
    (made,) = make_callbacks(["tensorboard"], "search")
    assert type(made).__name__ == "TBXLoggerCallback"
    with trials_folder(["tensorboard"], tmp_path) as folder:
        assert folder == str(tmp_path / "tensorboard")
        trial = tmp_path / "tensorboard" / "trial"
        trial.mkdir(parents=True)
        for name in ("events.out.tfevents.1.here", "tuner.pkl", "result.json"):
            (trial / name).touch()
    assert [path.name for path in trial.iterdir()] == ["events.out.tfevents.1.here"], "nobody reads Ray's own state"
    with trials_folder([], tmp_path) as folder:
        assert str(tmp_path) not in folder


def test_the_command_line_offers_what_there_is():
    assert set(cli.CALLBACKS) == set(PACKAGES)
