"""Entry ids."""

from dhmd.data.csd import segment_id, segment_row, video_of


def test_a_video_is_what_stands_before_the_bracket() -> None:
    assert video_of("HuIKyKkEL0Q[0]") == "HuIKyKkEL0Q"
    assert video_of("25522") == "25522"
    assert video_of("255224[3]") == "255224"


def test_rows_count_as_numbers() -> None:
    assert segment_row(segment_id("v", 10)) == 10
    assert segment_row("v") is None
    assert segment_row("v[x]") is None
