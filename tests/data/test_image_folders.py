import numpy as np
import pytest

from descend.data.image_folders import read_image_folder, read_images
from descend.data.preparation import prepare
from descend.data.settings import DataSettings
from descend.data.sources import like, read
from descend.errors import DataError, MissingExtraError
from descend.runs.plan import plan_run

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


def test_gray_images_have_one_channel_and_mixed_ones_three(tmp_path):
    assert read_image_folder(classes(tmp_path, "L")).inputs.shape == (6, 1, 8, 10)
    save(tmp_path / "dog" / "color.png")
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


def test_sixteen_bit_gray_is_scaled_to_eight(tmp_path):
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
    with pytest.raises(DataError, match=r"got 'a\.png'; the folder above, .* may be meant"):
        read_image_folder(tmp_path)
    classes(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="the folder 'empty' contains no images"):
        read_image_folder(tmp_path)
    with pytest.raises(DataError, match="contains no images"):
        read_image_folder(tmp_path / "empty", predicting=True)


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    classes(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[images\]"):
        read_image_folder(tmp_path)


class TestDeepImages:
    """Images with more than 8 bits per pixel have one level of white."""

    @staticmethod
    def folder(root, highest, ending="png", kind=np.uint16):
        for at, high in enumerate(highest):
            path = root / "ab"[at % 2] / f"{at}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            levels = np.tile(np.arange(8), (8, 1)).astype(kind)
            levels[0, 0] = high
            Image.fromarray(levels).save(path)
        return root

    def test_an_image_does_not_have_a_scale_of_its_own(self, tmp_path):
        source = read_image_folder(self.folder(tmp_path, [255, 256, 7, 300]))
        assert source.white == 511.0
        assert "from 0..511 to 0..255" in source.notes[0]
        differ = (source.inputs[0] != source.inputs[1]).sum()
        assert differ <= 1
        assert (source.inputs[:, 0, 1:] == source.inputs[:1, 0, 1:]).all()

    def test_an_image_alone_is_read_as_in_training(self, tmp_path):
        source = read_image_folder(self.folder(tmp_path, [20, 4000]))
        for white in (source.white, 4095.0):
            alone = read_images([tmp_path / "a" / "0.png"], shape=(1, 8, 8), white=white)
            assert np.array_equal(alone.inputs[0], source.inputs[0])
        with pytest.raises(
            DataError, match=r"0\.png has more than 8 bits per pixel .*its level of white is unknown"
        ):
            read_images([tmp_path / "a" / "0.png"], shape=(1, 8, 8), white="none")

    @pytest.mark.parametrize(("kind", "ending"), [(np.uint16, "png"), (np.int32, "tif"), (np.float32, "tif")])
    def test_a_specified_level_and_streaming(self, tmp_path, kind, ending):
        folder = self.folder(tmp_path, [20, 40], ending, kind)
        source = read_image_folder(folder, white=50.0)
        assert source.inputs[1, 0, 0, 0] == round(40 * 255 / 50)
        assert np.array_equal(read_image_folder(folder, white=50.0, stream=True).inputs, source.inputs)

    def test_parts_have_one_level(self, tmp_path):
        train = read(self.folder(tmp_path / "train", [300, 7]))
        later = like(DataSettings(), train)
        assert read(self.folder(tmp_path / "later", [9000, 7]), settings=later).white == train.white == 511.0
        joined = read({"validation": tmp_path / "later", "train": tmp_path / "train"})
        assert joined.inputs[joined.split == "validation"].max() == 255
        assert joined.white == 511.0

    def test_images_without_a_level_are_refused_by_name(self, tmp_path):
        with pytest.raises(DataError, match=r"1\.tif: gray levels from -3 to 7; levels below 0"):
            read_image_folder(self.folder(tmp_path, [5, -3], "tif", np.int32))

    def test_validation_images_are_read_as_those_of_training(self, tmp_path):
        self.folder(tmp_path / "train", [300, 7, 9, 11, 300, 7])
        self.folder(tmp_path / "validation", [9000, 7])
        planned = plan_run(tmp_path / "train", {"data": {"test": 0.0}}, validation=tmp_path / "validation")
        held_out = planned.source.inputs[planned.source.split == "validation"]
        assert planned.prepared.schema.white == 511.0
        assert held_out[0, 0, 0, 0] == 255
        assert held_out[0, 0, 1, 7] == planned.source.inputs[0, 0, 1, 7] == round(7 * 255 / 511)


def test_validation_images_have_the_size_of_those_of_training(tmp_path):
    train = read(classes(tmp_path / "train"))
    other = read(classes(tmp_path / "other", size=(30, 30)), after=train)
    assert other.inputs.shape == (6, 3, 8, 10)


class TestSingleImages:
    def test_paths_and_images_of_pillow(self, tmp_path):
        source = read_image_folder(classes(tmp_path))
        paths = [tmp_path / "cat" / "0.png", str(tmp_path / "dog" / "1.png")]
        found = read_images(paths, shape=(3, 8, 10))
        assert np.array_equal(found.inputs, source.inputs[[0, 4]])
        assert found.row_names == tuple(map(str, paths))
        with Image.open(paths[0]) as image:
            assert np.array_equal(read_images([image], shape=(3, 8, 10)).inputs, source.inputs[:1])

    def test_files_that_do_not_exist_or_are_damaged(self, tmp_path):
        with pytest.raises(DataError, match=r"no such file: '.*no\.png'"):
            read_images([tmp_path / "no.png"])
        (tmp_path / "bad.png").write_bytes(b"x")
        with pytest.raises(DataError, match=r"bad\.png \(it is not an image\)"):
            read_images([tmp_path / "bad.png"])

    def test_a_network_for_tables_does_not_take_images(self, tmp_path):
        classes(tmp_path)
        schema = prepare(read({"x": [1, 2, 3, 4], "y": [0, 1, 0, 1]}, target="y")).schema
        with pytest.raises(DataError, match="a single image; the network was trained on a table"):
            read(tmp_path / "cat" / "0.png", schema=schema, predicting=True)
        with pytest.raises(DataError, match="a folder of images, but the network was trained on a table"):
            read(tmp_path, schema=schema, predicting=True)

    def test_training_needs_a_folder(self, tmp_path):
        with pytest.raises(DataError, match="is a single image; expected a folder of images by class"):
            read(save(tmp_path / "a.png"))


def test_files_that_are_not_used_are_noted(tmp_path):
    classes(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("x")
    (tmp_path / "dog" / "photo.heic").write_bytes(b"x")
    (tmp_path / "dog" / "Thumbs.db").write_bytes(b"x")
    save(tmp_path / "outside.png")
    notes = read_image_folder(tmp_path).notes
    assert "1 images are not in a folder of a class, and are not used ('outside.png')" in notes
    assert "2 files are not read as images (.heic, .txt)" in notes


@pytest.mark.parametrize("ending", ["gif", "tif", "webp", "png"])
def test_the_first_frame_of_an_animation_is_used_with_a_note(tmp_path, ending):
    classes(tmp_path, "L")
    frames = [Image.fromarray(np.full((8, 10), level, dtype=np.uint8)) for level in (20, 200)]
    frames[0].save(tmp_path / "dog" / f"moving.{ending}", save_all=True, append_images=frames[1:])
    source = read_image_folder(tmp_path)
    assert source.inputs[-1].max() <= 25
    assert any("the first frame of 1 images with several frames is used" in note for note in source.notes)


def test_palettes_with_transparency_are_read(tmp_path):
    classes(tmp_path)
    with Image.open(tmp_path / "cat" / "0.png") as image:
        palette = image.convert("P")
    palette.save(tmp_path / "dog" / "clear.png", transparency=bytes(range(256)))
    with Image.open(tmp_path / "dog" / "clear.png") as image:
        layered = np.asarray(image.convert("RGBA")).astype(float)
    opacity = layered[..., 3:] / 255
    expected = layered[..., :3] * opacity + 255 * (1 - opacity)
    found = read_image_folder(tmp_path).inputs[-1].transpose(1, 2, 0)
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L"])
def test_transparent_pixels_are_white(tmp_path, mode):
    classes(tmp_path)
    pixels = np.zeros((8, 10, 4), dtype=np.uint8)
    pixels[2:5, 3:7, 3] = 255  # an opaque black mark on transparent black
    if mode == "L":
        Image.fromarray(pixels[..., 3] // 255 * 7).save(tmp_path / "dog" / "mark.png", transparency=0)
    else:
        Image.fromarray(pixels).convert(mode).save(tmp_path / "dog" / "mark.png")
    found = read_image_folder(tmp_path).inputs[-1]
    assert found.max() == 255
    assert (found[:, 2:5, 3:7] == (7 if mode == "L" else 0)).all()
    assert (found == 255).sum() == (80 - 12) * len(found)


def test_files_in_hidden_folders_are_not_used(tmp_path):
    classes(tmp_path)
    count = len(read_image_folder(tmp_path))
    for hidden in (".ipynb_checkpoints", "__MACOSX"):
        (tmp_path / "dog" / hidden).mkdir()
        Image.new("RGB", (10, 8)).save(tmp_path / "dog" / hidden / "copy.png")
    source = read_image_folder(tmp_path)
    assert len(source) == len(read_image_folder(tmp_path, predicting=True)) == count
    assert source.notes == ()


def test_a_folder_above_the_classes_is_named(tmp_path):
    (tmp_path / "images").mkdir()
    classes(tmp_path / "images")
    with pytest.raises(
        DataError, match=r"only one folder of a class, 'images', .* 'cat', 'dog' .* specify .*images"
    ):
        read_image_folder(tmp_path)


def test_images_in_formats_that_are_not_read_are_named(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.HEIC").write_bytes(b"ftypheic")
    with pytest.raises(DataError, match=r"but 2 \.heic; convert them to PNG or JPEG"):
        read_image_folder(tmp_path)
