"""Any picture of a garment is turned into what the dataset has; what is not a picture is named."""

import os
from pathlib import Path
import struct
import subprocess
import sys

from dataset import read_split
import numpy as np
from photos import measure, photograph
from pictures import find_pictures, read_picture, read_pictures
from PIL import Image, ImageDraw
from predict import to_tensor
from project import ROOT, Workspace, ran
import pytest


def garment() -> np.ndarray:
    """A jacket of the dataset's kind, uint8 [28, 28]: it fills the height, and one sleeve is brighter."""
    image = Image.new("L", (28, 28))
    draw = ImageDraw.Draw(image)
    draw.rectangle((8, 0, 19, 27), 160)
    draw.rectangle((4, 2, 7, 20), 220)
    draw.rectangle((20, 2, 23, 20), 120)
    return np.array(image)


@pytest.fixture
def photo() -> Image.Image:
    return photograph(garment(), np.random.default_rng(0))


def distance(file: Path) -> float:
    """From the picture in the file to the garment, as the mean over the pixels."""
    return np.abs(read_picture(file).image.astype(float) - garment()).mean()


def test_an_image_of_the_dataset_is_taken_as_it_is(dataset: Path, tmp_path: Path) -> None:
    images, _ = read_split(dataset, "t10k")
    files = [tmp_path / f"{number}.png" for number in range(50)]
    for file, image in zip(files, images, strict=False):
        Image.fromarray(image[0].numpy()).save(file)
    read, errors = read_pictures(files)
    assert to_tensor(read.values()).equal(images[:50])
    assert not errors


def test_an_image_of_the_dataset_that_reaches_into_two_corners_is_taken_as_it_is(tmp_path: Path) -> None:
    image = np.zeros((28, 28), np.uint8)
    image[8:] = 90
    Image.fromarray(image).save(tmp_path / "trousers.png")
    assert np.array_equal(read_picture(tmp_path / "trousers.png").image, image)


@pytest.mark.parametrize("background", [6, 20, 60, 100, 127, 128, 200])
def test_a_picture_of_that_size_on_another_background_is_read_as_any_other(background: int, tmp_path: Path) -> None:
    picture = Image.new("L", (28, 28), background)
    picture.paste(255, (8, 4, 20, 24))
    picture.save(tmp_path / "small.png")
    picture.resize((56, 56), Image.Resampling.BOX).save(tmp_path / "large.png")
    small, large = (read_picture(tmp_path / name).image.astype(int) for name in ("small.png", "large.png"))
    assert max(small[:, :2].max(), small[:, -2:].max()) == 0
    assert np.abs(small - large).max() <= 2


def test_the_matrix_products_of_another_processor_give_the_same_images(tmp_path: Path) -> None:
    for colour in range(0, 250, 5):
        picture = Image.new("RGB", (300, 300), (250, 255 - colour, 240))
        picture.paste((colour, 60, 90), (100, 50, 200, 250))
        picture.save(tmp_path / f"{colour:03}.png")
    script = """
from pathlib import Path
from pictures import read_pictures
read, _ = read_pictures(sorted(Path().iterdir()))
print([picture.image.tolist() for picture in read.values()])
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "stages")}
    command = (sys.executable, "-c", script)
    here, there = (
        subprocess.check_output(command, cwd=tmp_path, env=environment | kernels, text=True)
        for kernels in ({}, {"OPENBLAS_CORETYPE": "Prescott"})
    )
    assert here == there


@pytest.mark.parametrize("seed", range(3))
def test_a_photograph_is_turned_into_the_image_it_was_made_of(seed: int, tmp_path: Path) -> None:
    photograph(garment(), np.random.default_rng(seed)).save(tmp_path / "photo.jpg", quality=70)
    assert distance(tmp_path / "photo.jpg") < 20


@pytest.mark.parametrize("background", [255, 128, 0])
def test_the_garment_is_bright_whatever_the_background(background: int, tmp_path: Path) -> None:
    picture = Image.new("RGB", (300, 200), (background,) * 3)
    picture.paste((64, 64, 64), (100, 50, 140, 130))
    picture.save(tmp_path / "picture.png")
    read = read_picture(tmp_path / "picture.png").image
    assert read[:, 9:19].min() > 40
    assert max(read[:, :6].max(), read[:, 22:].max()) < 10


@pytest.mark.parametrize(
    "name", ["RGB.png", "RGB.jpg", "RGB.webp", "RGB.avif", "RGB.bmp", "P.gif", "P.png", "L.tif", "CMYK.jpg"]
)
def test_the_format_makes_no_difference(name: str, photo: Image.Image, tmp_path: Path) -> None:
    mode, _ = name.split(".")
    (photo.quantize() if mode == "P" else photo.convert(mode)).save(tmp_path / name)
    assert distance(tmp_path / name) < 20


@pytest.mark.parametrize("name", ["deep.png", "deep.pgm", "deep.tif"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_more_bits_are_scaled_not_clipped(name: str, bits: int, photo: Image.Image, tmp_path: Path) -> None:
    values = np.asarray(photo.convert("L")).astype(np.int64) * (2**bits - 1) // 255
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / name)
    assert distance(tmp_path / name) < 20


@pytest.mark.parametrize(("least", "step"), [(-32768, 257), (-(2**31), 2**24)])
def test_signed_and_32_bit_pixels_are_scaled_not_clipped(
    least: int, step: int, photo: Image.Image, tmp_path: Path
) -> None:
    values = np.asarray(photo.convert("L")).astype(np.int64) * step + least
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "long.tif")
    assert distance(tmp_path / "long.tif") < 20


def test_damaged_exif_data_do_not_matter(photo: Image.Image, tmp_path: Path) -> None:
    turned = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHI4s", 0x011A, 2, 4, b"bad")
    sideways = photo.transpose(Image.Transpose.ROTATE_90)
    sideways.save(tmp_path / "sideways.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x02\0" + turned + bytes(4))
    photo.save(tmp_path / "upright.png", exif=b"garbage, and no header")
    for file in tmp_path.iterdir():
        assert distance(file) < 20


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_what_is_transparent_is_ground(mode: str, photo: Image.Image, tmp_path: Path) -> None:
    outline = photo.convert("L").point(lambda lightness: 255 * (lightness < 215))
    black = Image.new("RGB", photo.size)
    cut = Image.composite(photo, black, outline).convert(mode.replace("P", "L"))
    cut.putalpha(outline)
    cut.save(tmp_path / "cut.png")
    assert distance(tmp_path / "cut.png") < 20


@pytest.mark.parametrize("colour", ["white", "#fdfdf5", "lightgrey", "dimgrey", "black"])
@pytest.mark.parametrize("kind", ["RGBA.png", "LA.png", "P.gif", "L.png", "I;16.png"])
def test_a_garment_that_is_cut_out_is_bright_in_any_colour(kind: str, colour: str, tmp_path: Path) -> None:
    """The transparent part is given as a channel, as a colour of the palette, or as a value that no garment has."""
    mode, file = kind.split(".")[0], tmp_path / f"cut.{kind.split('.')[1]}"
    garment = (100, 50, 140, 150)
    if mode in ("L", "I;16"):
        lightness = np.asarray(Image.new("RGB", (1, 1), colour).convert("L"))[0, 0].astype(int)
        values = np.full((200, 240), 77, np.uint16 if mode == "I;16" else np.uint8)
        values[50:150, 100:140] = lightness * (257 if mode == "I;16" else 1)
        Image.fromarray(values).save(file, transparency=77)
    else:
        cut = Image.new("RGBA", (240, 200))
        cut.paste(colour, garment)
        (cut if mode == "P" else cut.convert(mode)).save(file)
    read = read_picture(file).image
    assert read[:, 9:19].min() > 140
    assert max(read[:, :7].max(), read[:, 21:].max()) == 0


def test_a_picture_that_is_transparent_all_over_is_black(tmp_path: Path) -> None:
    Image.new("RGBA", (50, 50)).save(tmp_path / "nothing.png")
    assert read_picture(tmp_path / "nothing.png").image.max() == 0


def test_the_first_frame_of_an_animation_counts(photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "two.gif", save_all=True, append_images=[Image.new("RGB", photo.size, "red")])
    assert distance(tmp_path / "two.gif") < 20


@pytest.mark.parametrize(
    "name", ["RGB.jpg", "RGB.png", "RGB.tif", "L.tif", "RGBA.tif", "CMYK.tif", "deep.png", "deep.tif"]
)
def test_a_picture_taken_sideways_is_turned(name: str, photo: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    turned = photo.transpose(Image.Transpose.ROTATE_90)
    mode, _ = name.split(".")
    if mode == "deep":
        turned = Image.fromarray(np.asarray(turned.convert("L")).astype(np.uint16) * 257)
    else:
        turned = turned.convert(mode)
    turned.save(tmp_path / name, exif=exif)
    assert distance(tmp_path / name) < 20


@pytest.mark.parametrize("size", [(1, 1), (5, 5), (10_000, 1), (28, 28)])
def test_any_size_is_read_even_with_nothing_in_it(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size, "white").save(tmp_path / "blank.png")
    assert read_picture(tmp_path / "blank.png").image.max() == 0


def draw(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (300, 300), noise: float = 0) -> Image.Image:
    """Dark boxes on light ground, whose colour may be noisy."""
    picture = Image.new("RGB", size, (220, 215, 205))
    for box in boxes:
        picture.paste((40, 50, 90), box)
    random = np.random.default_rng(0)
    return Image.fromarray(
        (np.asarray(picture) + random.normal(0, noise, (*size[::-1], 1))).clip(0, 255).astype(np.uint8)
    )


def test_light_that_falls_from_a_side_is_background(tmp_path: Path) -> None:
    shade = np.linspace(120, 250, 300)[None, :, None] * np.ones((300, 1, 3))
    shade[80:220, 110:190] = 30
    Image.fromarray(shade.astype(np.uint8)).save(tmp_path / "shade.png")
    picture = read_picture(tmp_path / "shade.png")
    assert picture.warning == ""
    assert picture.image[:, 8:20].min() > 80
    assert max(picture.image[:, :5].max(), picture.image[:, 23:].max()) == 0


def test_a_hanger_beside_the_garment_is_left_out(tmp_path: Path) -> None:
    draw((100, 100, 200, 250), (20, 20, 60, 30)).save(tmp_path / "hanger.png")
    picture = read_picture(tmp_path / "hanger.png")
    assert picture.image[:, :4].max() == 0
    assert picture.warning == ""


@pytest.mark.parametrize(
    ("picture", "warning"),
    [
        (draw((100, 50, 200, 250)), ""),
        (draw((100, 50, 200, 250), noise=8), ""),
        (draw((40, 50, 120, 250), (180, 50, 260, 250)), "several things in it"),
        (draw((100, 50, 200, 250), (0, 0, 300, 20), (0, 20, 20, 300), (280, 20, 300, 300)), "background uneven"),
        (draw((0, 100, 200, 300)), "background uneven"),
        (draw(), "nothing in it"),
    ],
    ids=["alone", "on noise", "two", "framed", "cut off", "none"],
)
def test_a_picture_whose_answer_is_not_to_be_trusted_has_a_warning(
    picture: Image.Image, warning: str, tmp_path: Path
) -> None:
    picture.save(tmp_path / "picture.png")
    assert read_picture(tmp_path / "picture.png").warning == warning


def test_a_thin_garment_does_not_vanish(tmp_path: Path) -> None:
    belt = Image.new("RGB", (1000, 100), "white")
    belt.paste("black", (10, 40, 990, 45))
    belt.save(tmp_path / "belt.png")
    assert read_picture(tmp_path / "belt.png").image.max() > 100


def peak_memory(file: Path) -> int:
    """The kB that reading the picture adds to a process's own."""
    script = """
import pathlib, re, sys, pictures
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
pathlib.Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of the imports
before = peak()
pictures.read_picture(pathlib.Path(sys.argv[1]))
print(peak() - before)
"""
    return int(subprocess.check_output([sys.executable, "-c", script, file], cwd=ROOT / "stages"))


@pytest.mark.parametrize(("mode", "pixel"), [("1", 6), ("RGB", 6), ("I;16", 8)])
def test_a_large_picture_takes_few_bytes_a_pixel(mode: str, pixel: int, tmp_path: Path) -> None:
    Image.new(mode, (5000, 5000), "white").save(tmp_path / "large.png", compress_level=1)
    assert peak_memory(tmp_path / "large.png") < pixel * 25_000  # kB


def test_a_photograph_of_200_megapixels_is_read_in_little_memory(photo: Image.Image, tmp_path: Path) -> None:
    photo.resize((16_000, 12_500)).save(tmp_path / "large.jpg", quality=80)
    assert peak_memory(tmp_path / "large.jpg") < 100_000
    assert distance(tmp_path / "large.jpg") < 20


def test_each_picture_that_cannot_be_read_has_a_line_with_its_reason(photo: Image.Image, tmp_path: Path) -> None:
    other = "not a picture in a format that Pillow reads; convert it to JPEG or PNG"
    reasons = {
        "cut.png": "truncated",
        "empty.png": other,
        "text.pdf": other,
        "a,\nb.heic": other,
        "bomb.png": "its 400,000,000 pixels may not fit into memory",
        "bomb.jpg": "its 160,000,000 pixels may not fit into memory",  # which libjpeg holds, for it is progressive
        "deep.tif": "floating-point",
        "loop.png": "symbolic links",
        "gone.png": "No such file",
        "folder.png": "not a regular file",
        "pipe.png": "not a regular file",
    }
    files = [tmp_path / name for name in reasons]
    photo.save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:2000])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.pdf").write_text("not a picture")
    (tmp_path / "a,\nb.heic").touch()
    (tmp_path / "bomb.png").write_bytes(b"P6 20000 20000 255\n")
    Image.new("L", (301, 101)).save(tmp_path / "bomb.jpg", progressive=True)
    small, large = struct.pack(">HH", 101, 301), struct.pack(">HH", 10_000, 16_000)
    (tmp_path / "bomb.jpg").write_bytes((tmp_path / "bomb.jpg").read_bytes().replace(small, large))
    Image.fromarray(np.zeros((5, 5), np.float32)).save(tmp_path / "deep.tif")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    photo.save(tmp_path / "good.png")

    read, errors = read_pictures([tmp_path / "good.png", *files])
    assert list(read) == [tmp_path / "good.png"]
    for line, file, reason in zip(errors, files, reasons.values(), strict=True):
        assert line.startswith(f"{file}: " if "," not in file.name else f"{str(file)!r}: ")
        assert reason in line
        assert line.endswith("; replace or remove it") or reason == other


def test_a_photograph_that_lies_in_no_folder_of_a_class_is_named(
    shared: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("Bag/bag.png", "Bags/bag.png", "bag.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(shared.path)
    with pytest.raises(
        SystemExit, match=r": Bags, bag\.png: no class; name a folder for each of T-shirt-top, Trouser, "
    ):
        measure(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        measure(tmp_path / "nowhere")


def test_pictures_are_found_by_path_without_what_is_no_picture(tmp_path: Path) -> None:
    names = ["b.png", "a.png", "more/c.jpg", ".hidden", ".folder/x.png", ".DS_Store", "more/Thumbs.db", "desktop.ini"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [str(file.relative_to(tmp_path)) for file in find_pictures(tmp_path)] == ["a.png", "b.png", "more/c.jpg"]
    (tmp_path / "more" / "linked").symlink_to(tmp_path)
    with pytest.raises(SystemExit, match="linked: a link to a folder"):
        find_pictures(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_pictures(tmp_path / "nowhere")


def test_what_is_not_found_makes_nothing_stale(shared: Workspace) -> None:
    for name in (".DS_Store", "more/Thumbs.db", ".folder/picture.png", "desktop.ini"):
        file = shared.path / "data" / "pictures" / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    assert ran(shared.run("dvc", "repro", "--dry")) == []
