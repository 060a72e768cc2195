"""The job types `image_resize` and `image_processing`: pictures in FILES_ROOT, changed by Pillow in a process."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from PIL import Image, ImageFilter, ImageOps, UnidentifiedImageError
from pydantic import AliasChoices, Field, model_validator

from gopher_node.errors import Fail
from gopher_node.handlers.builtin.files import Files, PathText, open_file
from gopher_node.handlers.builtin.payloads import Payload
from gopher_node.handlers.context import JobContext

Format = Literal["jpeg", "png", "webp", "gif", "bmp", "tiff"]
# What Pillow may read: without these it would try each of its fifty formats, some of which start other programs.
READABLE = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
SUFFIXES: dict[str, Format] = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".png": "png",
    ".webp": "webp",
    ".gif": "gif",
    ".bmp": "bmp",
    ".tif": "tiff",
    ".tiff": "tiff",
}
MAX_SIDE = 20_000
MAX_PIXELS = 64_000_000
MAX_FILE_BYTES = 256 * 1024 * 1024

Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Mode = Literal["fit", "fill", "exact"]
Quality = Annotated[int, Field(ge=1, le=100)]
Picture = Image.Image


class Sized(Payload):
    """
    A size to scale to. `fit` keeps the proportions inside of it, `fill` keeps them and crops what is over, `exact`
    does not keep them. Width or height alone gives the other one in proportion.
    """

    width: Side | None = None
    height: Side | None = None
    mode: Mode = "fit"

    @model_validator(mode="after")
    def _has_a_side(self) -> Self:
        if self.width is None and self.height is None:
            raise ValueError("width or height is needed")
        if self.mode != "fit" and (self.width is None or self.height is None):
            raise ValueError(f"mode {self.mode} needs width and height")
        return self

    def scale(self, picture: Picture) -> Picture:
        width, height = picture.size
        wide, high = self.width or MAX_SIDE * width, self.height or MAX_SIDE * height
        if self.mode == "fit":
            factor = min(wide / width, high / height)
            wide, high = max(1, round(width * factor)), max(1, round(height * factor))
        _check_size(wide, high)
        if self.mode == "fill":
            return ImageOps.fit(picture, (wide, high), Image.Resampling.LANCZOS)
        return picture.resize((wide, high), Image.Resampling.LANCZOS)  # pyright: ignore[reportUnknownMemberType]


class Resize(Sized):
    operation: Literal["resize"]

    def apply(self, picture: Picture) -> Picture:
        return self.scale(picture)


class Thumbnail(Payload):
    """Scales down to fit into a square of `size`, or into `width` and `height`; a smaller picture stays as it is."""

    operation: Literal["thumbnail"]
    size: Side | None = None
    width: Side | None = None
    height: Side | None = None

    @model_validator(mode="after")
    def _has_a_side(self) -> Self:
        if self.size is None and self.width is None and self.height is None:
            raise ValueError("size is needed, or width or height")
        return self

    def apply(self, picture: Picture) -> Picture:
        picture.thumbnail(
            (self.width or self.size or MAX_SIDE, self.height or self.size or MAX_SIDE), Image.Resampling.LANCZOS
        )
        return picture


class Crop(Payload):
    operation: Literal["crop"]
    left: int = Field(0, ge=0, validation_alias=AliasChoices("left", "x"))
    top: int = Field(0, ge=0, validation_alias=AliasChoices("top", "y"))
    width: Side
    height: Side

    def apply(self, picture: Picture) -> Picture:
        right, bottom = self.left + self.width, self.top + self.height
        if right > picture.width or bottom > picture.height:
            raise Fail(
                f"The part to crop ends at {right} × {bottom}, outside of the picture's {_size(picture)}.",
                code="out-of-range",
            )
        return picture.crop((self.left, self.top, right, bottom))


class Rotate(Payload):
    """Clockwise. The picture grows to hold its corners, which are transparent or white."""

    operation: Literal["rotate"]
    degrees: float = Field(ge=-360, le=360, allow_inf_nan=False, validation_alias=AliasChoices("degrees", "angle"))

    def apply(self, picture: Picture) -> Picture:
        clear: Any = {"RGBA": (255, 255, 255, 0), "LA": (255, 0), "L": 255}.get(picture.mode, (255, 255, 255))
        return picture.rotate(-self.degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=clear)


class Flip(Payload):
    operation: Literal["flip"]
    direction: Literal["horizontal", "vertical"] = "horizontal"

    def apply(self, picture: Picture) -> Picture:
        return ImageOps.mirror(picture) if self.direction == "horizontal" else ImageOps.flip(picture)


class Grayscale(Payload):
    operation: Literal["grayscale", "greyscale"]

    def apply(self, picture: Picture) -> Picture:
        return picture.convert("LA" if picture.mode in ("RGBA", "LA") else "L")


class Blur(Payload):
    operation: Literal["blur"]
    radius: float = Field(2, gt=0, le=100, allow_inf_nan=False)

    def apply(self, picture: Picture) -> Picture:
        return picture.filter(ImageFilter.GaussianBlur(self.radius))


class Sharpen(Payload):
    operation: Literal["sharpen"]

    def apply(self, picture: Picture) -> Picture:
        return picture.filter(ImageFilter.SHARPEN)


class Convert(Payload):
    """Chooses the format of the file that is written."""

    operation: Literal["convert"]
    format: Format
    quality: Quality | None = None

    def apply(self, picture: Picture) -> Picture:
        return picture


Operation = Annotated[
    Resize | Thumbnail | Crop | Rotate | Flip | Grayscale | Blur | Sharpen | Convert, Field(discriminator="operation")
]


class Written(Payload):
    """Where a picture comes from and how it is written."""

    source: PathText = Field(validation_alias=AliasChoices("source", "path"))
    destination: PathText | None = Field(
        None,
        description="By default the source's name with what was done added; its ending chooses the format.",
        validation_alias=AliasChoices("destination", "output"),
    )
    format: Format | None = None
    quality: Quality | None = Field(None, description="For jpeg and webp; 85 by default.")


class ImageResize(Written, Sized):
    pass


class ImageProcessing(Written):
    operations: list[Operation] = Field(min_length=1, max_length=20)


def resize(ctx: JobContext, payload: ImageResize) -> dict[str, Any]:
    """Scale a picture in FILES_ROOT to a width and height."""
    files = Files(ctx)
    source = files.file(payload.source)
    picture, written = _read(source)
    picture = payload.scale(picture)
    return _write(files, payload, source, picture, payload.format or written, f"-{picture.width}x{picture.height}")


def process(ctx: JobContext, payload: ImageProcessing) -> dict[str, Any]:
    """Apply operations to a picture in FILES_ROOT: resize, thumbnail, crop, rotate, flip, grayscale, blur, convert."""
    files = Files(ctx)
    source = files.file(payload.source)
    picture, written = _read(source)
    form, quality = payload.format, payload.quality
    for operation in payload.operations:
        picture = operation.apply(picture)
        _check_size(*picture.size)
        if isinstance(operation, Convert):
            form, quality = form or operation.format, quality or operation.quality
    payload = payload.model_copy(update={"format": form, "quality": quality})
    return _write(files, payload, source, picture, form or written, "-processed")


def _read(source: Path) -> tuple[Picture, Format]:
    """The picture, upright and in one of the modes L, LA, RGB and RGBA, and its file's format."""
    with open_file(source) as file, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        if os.fstat(file.fileno()).st_size > MAX_FILE_BYTES:
            raise Fail(f"{source.name} is larger than {MAX_FILE_BYTES // 2**20} MiB.", code="image-too-large")
        try:
            picture = Image.open(file, formats=READABLE)
            # Before anything is decoded, for the size is in the header and a few bytes can decode to gigabytes.
            _check_size(*picture.size)
            form = cast(Format, (picture.format or "").lower())
            picture.load()
            return _normal(ImageOps.exif_transpose(picture)), form
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise Fail(f"{source.name} is too large to be decoded: {error}", code="image-too-large") from None
        except UnidentifiedImageError:
            raise Fail(f"{source.name} is no {', '.join(READABLE)} picture.", code="not-an-image") from None
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            # Pillow's words for files that are cut off or damaged.
            raise Fail(f"{source.name} cannot be decoded: {error}", code="not-an-image") from error


def _normal(picture: Picture) -> Picture:
    if picture.mode in ("L", "LA", "RGB", "RGBA"):
        return picture
    profile = picture.info.get("icc_profile")
    if picture.mode.startswith("I;16") or picture.mode == "I":
        # Pillow's own way to eight bits clips what is above 255.
        normal = picture.convert("I").point(lambda value: value / 257)  # pyright: ignore[reportUnknownMemberType]
        normal = normal.convert("L")
    elif picture.mode in ("1", "F"):
        normal = picture.convert("L")
    elif picture.mode in ("P", "PA", "La", "RGBa"):
        normal = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    else:
        normal, profile = picture.convert("RGB"), None
    if profile:
        normal.info["icc_profile"] = profile
    return normal


def _write(files: Files, payload: Written, source: Path, picture: Picture, form: Format, suffix: str) -> dict[str, Any]:
    if payload.destination is None:
        ending = source.suffix if SUFFIXES.get(source.suffix.lower()) == form else _ending(form)
        target = files.place(files.name(source.with_name(f"{source.stem}{suffix}{ending}")))
    else:
        target = files.place(payload.destination)
        if payload.format is None:
            form = SUFFIXES.get(target.suffix.lower(), form)
    if target == source:
        raise Fail("The destination is the source; a second run would change it twice.", code="same-file")
    picture = _flat(picture) if form in ("jpeg", "bmp") else picture
    options: dict[str, Any] = {"quality": payload.quality or 85} if form in ("jpeg", "webp") else {}
    if form != "bmp" and picture.mode != "L" and (profile := picture.info.get("icc_profile")):
        options["icc_profile"] = profile
    with files.writing(target) as file:
        picture.save(file, form.upper(), **options)
    return {
        "path": files.name(target),
        "format": form,
        "width": picture.width,
        "height": picture.height,
        "bytes": target.stat().st_size,
    }


def _flat(picture: Picture) -> Picture:
    """On white, for formats that know no transparency."""
    if picture.mode not in ("RGBA", "LA"):
        return picture
    ground = Image.new("RGBA", picture.size, "white")
    ground.alpha_composite(picture.convert("RGBA"))
    return ground.convert("RGB" if picture.mode == "RGBA" else "L")


def _ending(form: Format) -> str:
    return next(suffix for suffix, known in SUFFIXES.items() if known == form)


def _check_size(width: int, height: int) -> None:
    if width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
        raise Fail(
            f"A picture of {width} × {height} is too large: at most {MAX_SIDE:,} a side and {MAX_PIXELS:,} in all.",
            code="image-too-large",
        )


def _size(picture: Picture) -> str:
    return f"{picture.width} × {picture.height}"
