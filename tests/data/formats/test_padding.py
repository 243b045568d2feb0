"""The padding of MMSA's files: by masks, lengths, rows of zeros or the recipe's option."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from tests.data.formats.files import joined, mmsa_splits
from tests.data.formats.recipes import import_mmsa, mmsa_error


def masked_lengths(content):
    """Return the lengths according to the attention mask."""
    return [int(row[1].sum()) for row in joined(content, "text_bert")]


def padding(value):
    """Return the recipe's key that sets `options.padding`."""
    return {"options": {"padding": value}}


def padded_at_the_start(content, fraction=1.0):
    """Left-pad audio and vision in a fraction of each split's utterances."""
    for part in content.values():
        for modality in ("audio", "vision"):
            for n in range(round(fraction * len(part["id"]))):
                length = part[f"{modality}_lengths"][n]
                part[modality][n] = np.roll(part[modality][n], -length, axis=0)
    return content


def without_mask(content):
    for part in content.values():
        del part["text_bert"]
    return content


def test_a_mask_may_start_late_and_have_gaps(tmp_path):
    content = mmsa_splits()
    part = content["train"]
    part["text_bert"][0, 1] = [0, 0, 1, 0, 1, 1, 0, 0, 0, 0]
    corpus = import_mmsa(tmp_path, content)
    assert np.array_equal(corpus.features["text"][0], part["text"][0][[2, 4, 5]])


def test_nonzero_rows_outside_of_the_mask_are_counted_and_reported(tmp_path, caplog):
    content = mmsa_splits()
    content["train"]["text_bert"][0, 1] = 0
    content["train"]["text_bert"][0, 1, 0] = 1
    content["train"]["audio"][0] = 1.0
    assert import_mmsa(tmp_path, content).report["rows_beyond_the_mask"]["audio"] == 9
    assert "9 of 137 rows of audio with nonzero values are outside of the steps" in caplog.text


def test_a_file_that_does_not_mark_its_padding_needs_the_option(tmp_path):
    content = mmsa_splits()
    lengths = masked_lengths(content)
    # Rows of zeros in the middle or at the start are values, and so is one in a single modality.
    for modality in ("text", "audio", "vision"):
        content["train"][modality][0][0] = 0.0
    content["train"]["text"][1][lengths[1] - 1] = 0.0
    assert mmsa_error(tmp_path, without_mask(content)) == (
        f"{tmp_path / 'file.pkl'}: train has neither text_lengths nor text_bert, which mark "
        "padding: if rows of zeros are padding, or if there is no padding, choose with `dhmd "
        "import mmsa … --padding` start, end, zeros (either side) or none (options.padding of "
        "recipes/tiny.yaml)"
    )
    corpus = import_mmsa(tmp_path, content, padding("trailing_zeros"))
    for modality in ("text", "audio", "vision"):
        assert np.array_equal(corpus.features[modality].lengths, lengths)
    assert corpus.tokens is None
    assert corpus.report["steps_without_values"] == 1
    corpus = import_mmsa(tmp_path, content, padding("none"))
    assert (corpus.features["text"].lengths == 10).all()


def test_padding_at_the_start_is_detected_and_reported(tmp_path, caplog):
    at_the_end = mmsa_splits(aligned=False)
    caplog.set_level(logging.WARNING)
    content = padded_at_the_start(mmsa_splits(aligned=False))
    corpus = import_mmsa(tmp_path, content, alignment="none")
    assert corpus.report["padding"] == {"audio": "start", "vision": "start"}
    assert "tiny: audio is padded at the start (" in caplog.text
    assert "tiny: vision is padded at the start (" in caplog.text
    lengths = joined(at_the_end, "audio_lengths")
    for n, (row, length) in enumerate(zip(joined(at_the_end, "audio"), lengths, strict=True)):
        assert np.array_equal(corpus.features["audio"][n], row[:length])
    assert corpus.report["rows_beyond_the_mask"] == {"text": 0, "audio": 0, "vision": 0}


def test_padding_at_the_end_causes_no_warning(tmp_path, caplog):
    content = mmsa_splits(aligned=False)
    content["train"]["audio"][0] = 0  # an absent modality fits both sides
    content["train"]["vision_lengths"][0] = 1000  # a length from before a cut: no padding
    corpus = import_mmsa(tmp_path, content, alignment="none")
    assert corpus.report["padding"] == {"audio": "end", "vision": "end"}
    assert caplog.text == ""


def test_ambiguous_padding_needs_the_option(tmp_path):
    content = padded_at_the_start(mmsa_splits(aligned=False), fraction=0.5)
    message = mmsa_error(tmp_path, content, alignment="none")
    assert message.startswith(f"{tmp_path / 'file.pkl'}: the padding of audio is ambiguous: ")
    assert message.endswith(
        "; choose with `dhmd import mmsa … --padding` start or end (options.padding of "
        "recipes/tiny.yaml)"
    )
    part = content["train"]
    corpus = import_mmsa(tmp_path, content, padding("start"), alignment="none")
    first, last = part["audio_lengths"][0], part["audio_lengths"][-1]
    assert np.array_equal(corpus.features["audio"][0], part["audio"][0][-first:])
    corpus = import_mmsa(tmp_path, content, padding("end"), alignment="none")
    assert np.array_equal(corpus.features["audio"][11], part["audio"][-1][:last])


def test_padding_must_be_zeros(tmp_path):
    content = mmsa_splits(aligned=False)
    for part in content.values():
        part["vision"] += 1.0
    message = mmsa_error(tmp_path, content, alignment="none")
    assert "the padding of vision is ambiguous" in message


@pytest.mark.parametrize("side", ["start", "end"])
def test_the_option_names_the_side_of_unmarked_padding(tmp_path, side):
    content = mmsa_splits()
    expected, lengths = joined(content, "audio"), masked_lengths(content)
    for part in content.values():
        counts = part.pop("text_bert")[:, 1].sum(axis=1).astype(int)
        for modality in ("text", "audio", "vision") if side == "start" else ():
            rows = zip(part[modality], counts, strict=True)
            part[modality] = np.stack([np.roll(row, -count, axis=0) for row, count in rows])
    corpus = import_mmsa(tmp_path, content, padding(side))
    assert np.array_equal(corpus.features["audio"].lengths, lengths)
    for n, (row, length) in enumerate(zip(expected, lengths, strict=True)):
        assert np.array_equal(corpus.features["audio"][n], row[:length])
