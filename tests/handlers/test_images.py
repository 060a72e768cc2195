"""The job types `image_resize` and `image_processing`, on real pictures."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gopher_node.errors import Fail
from gopher_node.handlers import InvalidPayload
from tests.handlers.conftest import Node

RED, BLUE = (254, 0, 0), (0, 0, 254)


def halves(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """Red on the left, blue on the right."""
    picture = Image.new("RGB", size, RED)
    picture.paste(BLUE, (size[0] // 2, 0, size[0], size[1]))
    return picture.convert(mode)


def is_red(pixel: Any) -> bool:
    return pixel[0] > 200 and pixel[2] < 50


@pytest.fixture
def photo(node: Node) -> Path:
    path = node.files / "in" / "photo.jpg"
    path.parent.mkdir()
    halves((640, 480)).save(path)
    return path


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"width": 160}, (160, 120)),
        ({"height": 120}, (160, 120)),
        ({"width": 100, "height": 100}, (100, 75)),
        ({"width": 100, "height": 100, "mode": "fill"}, (100, 100)),
        ({"width": 100, "height": 30, "mode": "exact"}, (100, 30)),
        ({"width": 1280}, (1280, 960)),
        ({"width": 1, "height": 1}, (1, 1)),
    ],
)
def test_picture_is_scaled(node: Node, photo: Path, options: dict[str, Any], size: tuple[int, int]) -> None:
    """The result says where the picture is and how large; the source stays."""
    before = photo.read_bytes()

    result = node.call("image_resize", {"source": "in/photo.jpg", **options})

    path = node.files / result["path"]
    with Image.open(path) as picture:
        assert picture.size == size == (result["width"], result["height"])
        assert picture.format == "JPEG"
    assert result["path"] == f"in/photo-{size[0]}x{size[1]}.jpg"
    assert result["bytes"] == path.stat().st_size
    assert photo.read_bytes() == before


@pytest.mark.parametrize(("name", "form"), [("a.png", "PNG"), ("b.WEBP", "WEBP"), ("c.gif", "GIF"), ("d.tif", "TIFF")])
def test_destination_chooses_the_format(node: Node, photo: Path, name: str, form: str) -> None:
    """By its ending, unless the format is given."""
    result = node.call("image_resize", {"path": "in/photo.jpg", "width": 32, "destination": f"out/{name}"})

    with Image.open(node.files / result["path"]) as picture:
        assert picture.format == form
        assert is_red(picture.convert("RGB").getpixel((2, 2)))


def test_format_chooses_the_ending(node: Node, photo: Path) -> None:
    """Without a destination."""
    result = node.call("image_resize", {"source": "in/photo.jpg", "width": 32, "format": "webp", "quality": 40})

    assert result["path"] == "in/photo-32x24.webp"
    with Image.open(node.files / result["path"]) as picture:
        assert picture.format == "WEBP"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
@pytest.mark.parametrize("form", ["jpeg", "png", "webp", "gif", "bmp", "tiff"])
def test_every_kind_of_pixel_becomes_every_format(node: Node, mode: str, form: str) -> None:
    """Light stays light and dark stays dark, whatever holds them."""
    source = "in.png" if mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else "in.tiff"
    picture = Image.new("L", (64, 32), 250)
    picture.paste(5, (0, 0, 32, 32))
    if mode in ("I;16", "I"):
        picture = picture.convert("I").point(lambda value: value * 257)
    picture.convert(mode).save(node.files / source)

    result = node.call("image_resize", {"source": source, "width": 32, "format": form})

    with Image.open(node.files / result["path"]) as scaled:
        gray = scaled.convert("L")
        assert gray.getpixel((3, 8)) < 60
        assert gray.getpixel((28, 8)) > 190


def test_camera_orientation_is_honoured(node: Node) -> None:
    """A picture taken on its side comes out upright, and is not turned twice by its readers."""
    exif = Image.Exif()
    exif[0x0112] = 6
    halves((64, 32)).save(node.files / "side.jpg", exif=exif)

    result = node.call("image_resize", {"source": "side.jpg", "width": 32})

    with Image.open(node.files / result["path"]) as picture:
        assert picture.size == (32, 64)
        assert is_red(picture.getpixel((16, 4)))
        assert picture.getexif().get(0x0112, 1) == 1


def test_transparency_becomes_white_where_there_is_none(node: Node) -> None:
    """And is kept where the format has it."""
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(node.files / "clear.png")

    flat = node.call("image_resize", {"source": "clear.png", "width": 10, "format": "jpeg"})
    kept = node.call("image_resize", {"source": "clear.png", "width": 10})

    with Image.open(node.files / flat["path"]) as picture:
        assert picture.getpixel((5, 5)) == (255, 255, 255)
    with Image.open(node.files / kept["path"]) as picture:
        assert picture.getpixel((5, 5))[3] == 0


def test_repeated_run_gives_the_same_file(node: Node, photo: Path) -> None:
    """A run after a crash overwrites what the first one wrote."""
    payload = {"source": "in/photo.jpg", "width": 64}

    first = node.call("image_resize", payload)
    content = (node.files / first["path"]).read_bytes()
    second = node.call("image_resize", payload, attempt=2)

    assert first == second
    assert content == (node.files / second["path"]).read_bytes()
    assert len(node.names()) == 2


def test_operations_are_applied_in_order(node: Node, photo: Path) -> None:
    """Crop takes the red half, rotate turns it, grayscale and blur change it, convert chooses the format."""
    result = node.call(
        "image_processing",
        {
            "source": "in/photo.jpg",
            "operations": [
                {"operation": "crop", "left": 0, "top": 0, "width": 300, "height": 480},
                {"operation": "rotate", "degrees": 90},
                {"operation": "thumbnail", "size": 120},
                {"operation": "blur", "radius": 1.5},
                {"operation": "sharpen"},
                {"operation": "flip", "direction": "vertical"},
                {"operation": "resize", "width": 60, "height": 60, "mode": "fill"},
                {"operation": "grayscale"},
                {"operation": "convert", "format": "png"},
            ],
        },
    )

    assert (result["path"], result["format"]) == ("in/photo-processed.png", "png")
    with Image.open(node.files / result["path"]) as picture:
        assert (picture.size, picture.mode) == ((60, 60), "L")
        assert 70 < picture.getpixel((30, 30)) < 85  # red, as gray


def test_rotation_is_clockwise_and_keeps_the_corners(node: Node, photo: Path) -> None:
    """A quarter turn brings the left side to the top."""
    quarter = node.call(
        "image_processing",
        {"source": "in/photo.jpg", "operations": [{"operation": "rotate", "degrees": 90}], "destination": "q.png"},
    )
    eighth = node.call(
        "image_processing",
        {"source": "in/photo.jpg", "operations": [{"operation": "rotate", "degrees": 45}], "destination": "e.png"},
    )

    with Image.open(node.files / quarter["path"]) as picture:
        assert picture.size == (480, 640)
        assert is_red(picture.getpixel((240, 100)))
    assert eighth["width"] > 640


def test_thumbnail_never_scales_up(node: Node, photo: Path) -> None:
    """A small picture stays as it is."""
    result = node.call(
        "image_processing", {"source": "in/photo.jpg", "operations": [{"operation": "thumbnail", "size": 5000}]}
    )

    assert (result["width"], result["height"]) == (640, 480)


def test_crop_outside_of_the_picture_fails(node: Node, photo: Path) -> None:
    """Rather than adding black."""
    crop = {"operation": "crop", "left": 600, "top": 0, "width": 100, "height": 10}
    with pytest.raises(Fail, match="700 × 10, outside of the picture's 640 × 480"):
        node.call("image_processing", {"source": "in/photo.jpg", "operations": [crop]})


@pytest.mark.parametrize(
    ("payload", "mistake"),
    [
        ({"source": "in/photo.jpg"}, ("", "width or height is needed")),
        ({"source": "in/photo.jpg", "width": 5, "mode": "fill"}, ("", "mode fill needs width and height")),
        ({"source": "in/photo.jpg", "width": 0}, ("/width", "greater than or equal to 1")),
        ({"source": "in/photo.jpg", "width": 20_001}, ("/width", "less than or equal to 20000")),
        ({"source": "in/photo.jpg", "width": "5"}, ("/width", "valid integer")),
        ({"source": "in/photo.jpg", "width": 5, "quality": 101}, ("/quality", "less than or equal to 100")),
        ({"source": "in/photo.jpg", "width": 5, "format": "exe"}, ("/format", "'jpeg'")),
        ({"source": "in/photo.jpg", "width": 5, "angle": 5}, ("/angle", "not permitted")),
        ({"width": 5}, ("/source", "required")),
    ],
)
def test_bad_payload_is_refused(node: Node, payload: dict[str, Any], mistake: tuple[str, str]) -> None:
    """Before any picture is opened."""
    with pytest.raises(InvalidPayload) as refused:
        node.call("image_resize", payload)

    pointer, words = mistake
    assert [error["pointer"] for error in refused.value.errors] == [pointer]
    assert words in refused.value.errors[0]["detail"]


def test_missing_picture_fails_for_good(node: Node) -> None:
    """The path is named as the user wrote it."""
    with pytest.raises(Fail, match=r"no file no/such\.jpg in FILES_ROOT"):
        node.call("image_resize", {"source": "no/such.jpg", "width": 5})


@pytest.mark.parametrize(
    "content", [b"", b"no picture", b"P6 1 1 255 abc", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_other_files_are_no_pictures(node: Node, content: bytes) -> None:
    """Nor are those of Pillow's fifty other formats, some of which it reads by starting another program."""
    (node.files / "x.jpg").write_bytes(content)

    with pytest.raises(Fail) as failed:
        node.call("image_resize", {"source": "x.jpg", "width": 5})
    assert failed.value.code == "not-an-image"


def test_damaged_picture_fails_for_good(node: Node, photo: Path) -> None:
    """A file that is cut off half-way."""
    photo.write_bytes(photo.read_bytes()[:2000])

    with pytest.raises(Fail) as failed:
        node.call("image_resize", {"source": "in/photo.jpg", "width": 5})
    assert failed.value.code == "not-an-image"
    assert len(node.names()) == 1


@pytest.mark.parametrize("side", [15_000, 9_000, 30_000])
def test_decompression_bomb_is_not_decoded(node: Node, side: int) -> None:
    """A few hundred bytes that claim to be gigapixels are judged by their header."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (node.files / "bomb.png").write_bytes(bomb)

    with pytest.raises(Fail) as failed:
        node.call("image_resize", {"source": "bomb.png", "width": 5})
    assert failed.value.code == "image-too-large"


def test_result_may_not_be_a_bomb_either(node: Node) -> None:
    """A thin picture scaled by its width would have a billion pixels."""
    Image.new("L", (10, 5000)).save(node.files / "thin.png")

    for payload in ({"width": 20_000}, {"width": 20_000, "height": 20_000, "mode": "exact"}):
        with pytest.raises(Fail) as failed:
            node.call("image_resize", {"source": "thin.png", **payload})
        assert failed.value.code == "image-too-large"


def test_source_is_not_overwritten(node: Node, photo: Path) -> None:
    """A second run would start from the first one's result; by a link it would too."""
    (node.files / "link.jpg").symlink_to(photo)
    operations = [{"operation": "rotate", "degrees": 90}]

    for destination in ("in/photo.jpg", "in/../in/photo.jpg", "link.jpg"):
        with pytest.raises(Fail) as failed:
            node.call(
                "image_processing",
                {"source": "in/photo.jpg", "operations": operations, "destination": destination},
            )
        assert failed.value.code == "same-file"
