"""What reading a model says: one line of ours, and nothing of the libraries that read it."""

import logging

import pytest

from engine.loading import from_pretrained
from engine.model_source import ModelError, ModelSource


class Unreachable:
    """An auto class whose hub does not answer."""

    @staticmethod
    def from_pretrained(*_, **__):
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 8s [Retry 5/5].")
        raise OSError("We couldn't connect to 'https://huggingface.co' to load the files\nCheck your connection.")


def test_a_hub_that_cannot_be_reached_is_one_line_with_a_remedy(caplog):
    with pytest.raises(ModelError) as refused:
        from_pretrained(Unreachable, ModelSource("org/model"))
    assert str(refused.value).startswith("--model org/model: cannot be loaded (We couldn't connect to")
    assert str(refused.value).endswith("give a folder, or --model smollm2, which needs no hub")
    assert caplog.records == []
    logging.getLogger("huggingface_hub.utils._http").warning("heard again")
    assert [record.message for record in caplog.records] == ["heard again"]
