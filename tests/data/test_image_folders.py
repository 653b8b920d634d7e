import numpy as np
import pytest

from descend.data.image_folders import read_image_folder
from descend.errors import DataError, MissingExtraError

Image = pytest.importorskip("PIL.Image")
RANDOM = np.random.default_rng(0)


def save(path, size=(10, 8), mode="RGB", **options):
    """Save an image of size (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RANDOM.integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    Image.fromarray(pixels).convert("RGB").convert(mode).save(path, **options)
    return path


def classes(tmp_path, mode="RGB", size=(10, 8)):
    for name in ("cat", "dog"):
        for number in range(3):
            save(tmp_path / name / f"{number}.png", size, mode)
    return tmp_path


def test_a_folder_with_class_subfolders(tmp_path):
    source = read_image_folder(classes(tmp_path))
    assert source.kind == "images"
    assert source.inputs.shape == (6, 3, 8, 10)
    assert source.inputs.dtype == np.uint8
    assert source.targets.tolist() == ["cat"] * 3 + ["dog"] * 3
    assert source.row_names[0] == "cat/0.png"
    with Image.open(tmp_path / "dog" / "1.png") as picture:
        assert np.array_equal(source.inputs[4].transpose(1, 2, 0), np.asarray(picture))


def test_grey_images_have_one_channel_and_mixed_ones_three(tmp_path):
    assert read_image_folder(classes(tmp_path, "L")).inputs.shape == (6, 1, 8, 10)
    save(tmp_path / "dog" / "colour.png")
    assert read_image_folder(tmp_path).inputs.shape == (7, 3, 8, 10)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_every_pixel_format_is_read(tmp_path, mode):
    classes(tmp_path)
    pixels = np.tile(np.linspace(0, 1, 10), (8, 1))
    if mode == "I;16":
        picture = Image.fromarray((pixels * 65535).astype(np.uint16))
    elif mode == "F":
        picture = Image.fromarray(pixels.astype(np.float32))
    else:
        picture = Image.fromarray((pixels * 255).astype(np.uint8)).convert(mode)
    picture.save(tmp_path / "dog" / "odd.tif")
    invalid = read_image_folder(tmp_path).inputs[-1].mean(axis=0)
    assert invalid[:, 0].max() < 40
    assert invalid[:, -1].min() > 215


def test_sixteen_bit_grey_is_scaled_to_eight(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.array([[0, 257, 65535, 32896]], dtype=np.uint16)).save(tmp_path / name / "x.png")
    assert read_image_folder(tmp_path).inputs[0, 0, 0].tolist() == [0, 1, 255, 128]


def test_the_exif_orientation_is_applied(tmp_path):
    classes(tmp_path, size=(8, 8))
    pixels = np.zeros((8, 8), dtype=np.uint8)
    pixels[:, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # transposed: the left column is the top row
    Image.fromarray(pixels).save(tmp_path / "cat" / "turned.png", exif=exif)
    turned = read_image_folder(tmp_path).inputs[3]
    assert turned[:, 0].min() == 255
    assert turned[:, 1:].max() == 0


def test_sizes_are_unified(tmp_path):
    classes(tmp_path)
    save(tmp_path / "cat" / "large.png", (400, 300))
    source = read_image_folder(tmp_path)
    assert source.inputs.shape == (7, 3, 8, 10)  # the median size
    assert "8 x 10" in source.notes[0]
    assert read_image_folder(tmp_path, size=16).inputs.shape == (7, 3, 16, 16)
    assert read_image_folder(tmp_path, shape=(1, 5, 6)).inputs.shape == (7, 1, 5, 6)


@pytest.mark.slow
@pytest.mark.slow
def test_large_images_are_scaled_down(tmp_path):
    assert read_image_folder(classes(tmp_path, size=(640, 320))).inputs.shape == (6, 3, 64, 128)


def test_a_given_split_is_found(tmp_path):
    for part in ("train", "val", "test"):
        classes(tmp_path / part)
    source = read_image_folder(tmp_path)
    assert sorted(set(source.split)) == ["test", "train", "validation"]
    assert set(source.targets) == {"cat", "dog"}
    assert (source.split == "validation").sum() == 6


def test_images_for_prediction_may_be_anywhere_in_the_folder(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "deep" / "er" / "b.jpg")
    source = read_image_folder(tmp_path, predicting=True, shape=(3, 8, 10))
    assert source.targets is None
    assert source.row_names == ("a.png", "deep/er/b.jpg")


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_corrupt_image_among_good_ones_is_named(tmp_path, ending):
    classes(tmp_path)
    whole = save(tmp_path / "dog" / f"cut.{ending}", (64, 64)).read_bytes()
    (tmp_path / "dog" / f"cut.{ending}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"an image of 7 cannot be decoded: .*cut\.{ending} \("):
        read_image_folder(tmp_path)
    (tmp_path / "cat" / "no.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=rf"2 images of 8 .*no\.png \(it is not an image\); .*cut\.{ending}"):
        read_image_folder(tmp_path)


def test_all_corrupt_images_are_counted(tmp_path):
    classes(tmp_path)
    for number in range(7):
        (tmp_path / "cat" / f"bad{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes([number] * 50))
    with pytest.raises(DataError, match=r"7 images of 13 cannot be decoded.*and 2 more"):
        read_image_folder(tmp_path)


def test_other_files_and_hidden_files_are_ignored(tmp_path):
    classes(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("x")
    (tmp_path / "cat" / ".hidden.png").write_bytes(b"x")
    (tmp_path / ".cache").mkdir()
    assert len(read_image_folder(tmp_path)) == 6


def test_folders_without_images_by_class_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"one subfolder of images per class.*got an empty folder"):
        read_image_folder(tmp_path)
    save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"got 'a\.png'"):
        read_image_folder(tmp_path)
    classes(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="the folders 'empty' contain no images"):
        read_image_folder(tmp_path)
    with pytest.raises(DataError, match="contains no images"):
        read_image_folder(tmp_path / "empty", predicting=True)


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    classes(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r"descend\[images\]"):
        read_image_folder(tmp_path)
