"""A file that a user asks for appears whole or not at all."""

from __future__ import annotations

import pytest

from warehouse import outputs
from warehouse.errors import QueryError


def test_a_file_is_replaced_once_all_of_it_is_written(tmp_path):
    path, link = tmp_path / "rows.csv", tmp_path / "link.csv"
    path.write_text("old")
    link.symlink_to(path.name)

    def write_half(part):
        part.write_text("half")
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"), outputs.replacing(link) as part:
        write_half(part)
    assert path.read_text() == "old"
    with outputs.replacing(link) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == link.read_text() == "new"
    assert link.is_symlink()
    assert {found.name for found in tmp_path.iterdir()} == {"rows.csv", "link.csv"}


@pytest.mark.parametrize("out", ["s3://bucket/map.png", "map.jpg", "map", "map.png.gz", "gs://bucket/map.png"])
def test_what_is_no_local_file_of_an_ending_is_refused_before_anything_is_made(out):
    with pytest.raises(QueryError, match="map"):
        outputs.local(out, ".png")


def test_a_local_file_may_be_named_in_any_way(tmp_path):
    assert outputs.local(f"file://{tmp_path}/a%20map.PNG", ".png") == tmp_path / "a map.PNG"
    assert str(outputs.local("maps/map.png", ".png", ".fits")) == "maps/map.png"
