"""Every problem of a set of pictures is listed, with its picture."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from sktransfer.datasets import ImageProblem, check_images

rng = np.random.default_rng(0)


def photograph(size=(96, 64), seed=0):
    """Make a smooth coloured picture."""
    few = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    return Image.fromarray(few).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for i, path in enumerate(paths):
        photograph(seed=i).save(path)
    return paths


def problems(*checked):
    return [(found.index, found.problem) for found in check_images(*checked)]


def test_of_good_pictures_nothing_is_said(files):
    assert check_images(files) == []
    assert check_images(files, ["cat", "dog"] * 6) == []


def test_all_unreadable_files_are_listed(files):
    files[2].write_bytes(files[2].read_bytes()[:300])
    files[5].write_text("not an image")
    files[7].unlink()
    found = check_images(files)
    assert [one.index for one in found] == [2, 5, 7]
    assert all(one.problem.startswith("it could not be read: ") for one in found)
    assert "truncated" in found[0].problem
    assert "format is none of" in found[1].problem
    assert found[2].path == str(files[7])
    assert (found[1].size, found[1].mode) == (None, None)


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (Image.new("RGB", (32, 32), "red"), "it has one colour"),
        (photograph((15, 40)), "it is tiny: 15 x 40 pixels"),
        (photograph((300, 70), seed=99), "it is very long: 300 x 70 pixels"),
        (
            Image.fromarray(
                np.tile(np.arange(4096, dtype=np.uint16), (32, 1))[:, ::32]
            ),
            "it uses values up to 4064 of more than 8 bits",
        ),
    ],
)
def test_what_is_odd_is_named(files, image, problem):
    assert problems([*files, image]) == [(12, problem)]


def test_a_giant_is_named():
    image = photograph((5001, 5000))
    assert "it is giant: 5001 x 5000" in check_images([image])[0].problem


def test_the_row_describes_the_picture(files):
    Image.new("L", (40, 30), 9).save(files[3])
    (found,) = check_images(files)
    expected = (3, str(files[3]), (40, 30), "L", "it has one colour")
    assert found == ImageProblem(*expected)
    assert pd.DataFrame([found]).loc[0].tolist() == list(expected)


def test_frames_and_missing_data_are_named(files):
    frames = [photograph(seed=i) for i in (20, 21)]
    frames[0].save(files[0], format="gif", save_all=True, append_images=frames[1:])
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    noise.save(files[1], format="jpeg")
    files[1].write_bytes(files[1].read_bytes()[:2000] + b"\xff\xd9")
    found = problems(files)
    assert [index for index, _ in found] == [0, 1]
    assert "several frames" in found[0][1]
    assert "uniform grey" in found[1][1]


def test_copies_are_found_also_with_other_labels(files):
    photograph(seed=3).save(files[8])
    expected = "it is a copy of X[3]"
    assert problems(files) == [(8, expected)]
    labels = ["cat"] * 6 + ["dog"] * 6
    assert problems(files, labels) == [
        (8, f"{expected}, which is 'cat', and this 'dog'")
    ]
    assert problems(files, ["cat"] * 12) == [(8, expected)]


def test_near_copies_are_found_after_scaling_and_compression(files):
    photograph(seed=3).resize((300, 200)).save(files[8], format="jpeg", quality=60)
    photograph(seed=4).resize((48, 32)).save(files[9])
    assert problems(files) == [
        (8, "it is almost a copy of X[3]"),
        (9, "it is almost a copy of X[4]"),
    ]


def test_pictures_that_only_get_brighter_alike_are_no_copies(files):
    values = np.asarray(photograph(seed=3)) // 3
    Image.fromarray(values + np.uint8(80)).save(files[8])
    assert problems(files) == []


def test_placeholders_are_found_among_photographs_only(files):
    placeholder = Image.new("RGB", (90, 60), "white")
    ImageDraw.Draw(placeholder).text((5, 5), "image not found", "black")
    found = problems([*files, placeholder])
    assert found == [(12, "it has few colours, as placeholders have")]
    assert problems([files[0], placeholder]) == []


def test_classes_of_few_images_are_named(files):
    found = problems(files, ["cat"] * 8 + ["dog"] * 4)
    assert found == [(8, "its class, 'dog', has 4 image(s) only")]


def test_what_holds_no_pictures_is_refused():
    with pytest.raises(TypeError, match="ndarray without paths"):
        check_images(np.zeros((3, 8, 8)))
    with pytest.raises(ValueError, match="X has 1 images, but y has 2 labels"):
        check_images([photograph()], [0, 1])
