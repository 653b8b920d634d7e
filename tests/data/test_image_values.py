"""One image gives one prediction, in whatever form it is passed to a network that was trained on images."""

import io

import numpy as np
import pytest
from PIL import Image

import descend
from descend.errors import DataError

LEVELS = np.random.default_rng(0).integers(0, 256, (12, 6, 8)).astype(np.uint8)
LABELS = ["dark", "light"] * 6


@pytest.fixture(scope="module")
def run():
    recipe = {"stop": {"max_epochs": 1}}
    return descend.train((LEVELS, LABELS), recipe, seed=0)


def inputs(run, data):
    """Return the rows that the network gets."""
    from descend.data import read

    source = read(data, schema=run.schema, predicting=True)
    return run.schema.matrix(source.inputs).numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("images")
    for at in range(3):
        Image.fromarray(LEVELS[at]).save(path / f"{at}.png")
    (path / "plain").write_bytes((path / "0.png").read_bytes())
    return path


FORMS = {
    "path": lambda folder: folder / "0.png",
    "string": lambda folder: str(folder / "0.png"),
    "no ending": lambda folder: folder / "plain",
    "pattern": lambda folder: str(folder / "0*.png"),
    "bytes": lambda folder: (folder / "0.png").read_bytes(),
    "buffer": lambda folder: io.BytesIO((folder / "0.png").read_bytes()),
    "list of bytes": lambda folder: [(folder / "0.png").read_bytes()],
    "pillow": lambda folder: Image.open(folder / "0.png"),
    "height and width": lambda folder: LEVELS[0],
    "channels first": lambda folder: LEVELS[0][None],
    "channels last": lambda folder: LEVELS[0][..., None],
    "several": lambda folder: LEVELS[:1],
    "several, channels last": lambda folder: LEVELS[:1, ..., None],
    "floats": lambda folder: LEVELS[:1].astype(float),
    "list": lambda folder: [LEVELS[0]],
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_pixels(run, folder, name):
    assert np.array_equal(inputs(run, FORMS[name](folder)), LEVELS[:1, None])


def test_several_images_keep_their_order(run, folder):
    assert np.array_equal(inputs(run, str(folder / "*.png")), LEVELS[:3, None])
    assert np.array_equal(
        inputs(run, [LEVELS[0], LEVELS[1]]), LEVELS[:2, None]
    )  # not a pair of inputs and targets
    assert np.array_equal(inputs(run, [folder / "1.png", as_pillow(2)]), LEVELS[1:3, None])


def as_pillow(at):
    return Image.fromarray(LEVELS[at])


def test_booleans_are_black_and_white(run):
    assert np.array_equal(inputs(run, LEVELS[:2] > 100), np.where(LEVELS[:2, None] > 100, 255, 0))


def test_numbers_on_another_scale_are_refused_with_the_conversion(run):
    with pytest.raises(DataError, match=r"numbers from 0 to 1; if 1 is white, pass \(255 \* X\)"):
        run.predict(LEVELS[:3] / 255)
    with pytest.raises(DataError, match=r"if 65535 is white, pass \(X // 257\)"):
        run.predict(LEVELS[:3].astype(np.uint16) * 257)


def test_files_that_are_no_images_are_named(run, tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "note").write_text("hello")
    for path in (tmp_path / "empty.png", tmp_path / "note"):
        with pytest.raises(DataError, match=rf"{path.name} \(it is not an image\)"):
            run.predict(path)
    with pytest.raises(DataError, match=r"image 0 \(it is not an image\)"):
        run.predict(b"hello")
    with (tmp_path / "note").open() as file, pytest.raises(DataError, match="binary mode"):
        run.predict(file)


def test_arrays_that_cannot_be_written_give_no_warning(run):
    levels = LEVELS[:2].copy()
    levels.flags.writeable = False
    assert len(run.predict(levels)) == 2


def test_files_of_keras(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=LEVELS, y_train=LABELS, x_test=LEVELS[:4], y_test=LABELS[:4])
    from descend.data import read

    source = read(tmp_path / "a.npz")
    assert source.split.tolist().count("test") == 4
    assert np.array_equal(source.inputs[:12, 0], LEVELS)
