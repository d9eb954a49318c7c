"""Transforms of images against Pillow and formulas, tensors against images, draws within bounds."""

from __future__ import annotations

import builtins
import math
import pickle
import re
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph_compiler.errors import ArgumentError
from dualgraph_models import transforms as T
from dualgraph_models.transforms import functional as TF

Image = pytest.importorskip("PIL.Image")


def picture(height: int = 7, width: int = 9, mode: str = "RGB") -> Any:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def same(a: Any, b: Any) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b))


# -- tensors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "I", "F"])
def test_to_tensor(mode: str) -> None:
    image = picture(mode=mode)
    tensor = T.ToTensor()(image)
    pixels = np.asarray(image).astype(np.float64)
    expected = np.atleast_3d(pixels).transpose(2, 0, 1)
    if mode not in ("1", "I", "F"):
        expected = expected / 255
    assert tensor.dtype is (dg.int32 if mode == "I" else dg.float32)
    np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-6)
    assert T.PILToTensor()(image).shape == tensor.shape


def test_to_tensor_of_arrays() -> None:
    gray = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert T.ToTensor()(gray).tolist() == pytest.approx(gray[None] / np.float32(255))
    wide = np.arange(12.0).reshape(2, 3, 2)
    tensor = T.ToTensor()(wide)
    assert (tensor.dtype, tuple(tensor.shape)) == (dg.float64, (2, 2, 3))
    assert tensor[1].tolist() == wide[:, :, 1].tolist()
    with pytest.raises(ArgumentError, match="2/3 dimensional. Got 1"):
        T.ToTensor()(np.ones(3))
    with pytest.raises(TypeError, match="should be PIL Image, got list"):
        T.ToTensor()([1])


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_there_and_back(mode: str) -> None:
    image = picture(mode=mode)
    assert same(T.ToPILImage()(T.PILToTensor()(image)), image)
    # 255 * (x / 255) may fall just below x, and is cut off, as in torchvision.
    back = np.asarray(T.ToPILImage()(T.ToTensor()(image))).astype(int)
    assert np.abs(back - np.asarray(image)).max() <= 1
    assert T.ToPILImage("L")(T.PILToTensor()(image)).mode == "L"
    assert same(T.ToPILImage()(np.asarray(image)), image)


def test_to_pil_image_errors() -> None:
    for wrong, kind in (
        (dg.ones(2), ArgumentError),
        (dg.ones(5, 2, 2), ArgumentError),
        ("x", TypeError),
        (np.ones((2, 2), np.complex64), TypeError),
    ):
        with pytest.raises(kind):
            T.ToPILImage()(wrong)


def test_normalize() -> None:
    x = dg.rand(2, 3, 4, 5)
    mean, std = (0.1, 0.2, 0.3), (1.0, 2.0, 4.0)
    expected = (x.numpy() - np.float32(mean)[:, None, None]) / np.float32(std)[:, None, None]
    np.testing.assert_allclose(T.Normalize(mean, std)(x).numpy(), expected, rtol=1e-5, atol=1e-6)
    assert T.Normalize(mean, std, inplace=True)(x) is x
    np.testing.assert_allclose(x.numpy(), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(TypeError, match="should be a float tensor. Got .*int64"):
        T.Normalize((0,), (1,))(dg.ones(1, 2, 2, dtype=dg.int64))
    with pytest.raises(ArgumentError, match="(..., C, H, W)"):
        T.Normalize((0,), (1,))(dg.ones(2, 2))
    with pytest.raises(ArgumentError, match="std evaluated to zero"):
        T.Normalize((0,), (0,))(dg.ones(1, 2, 2))


# -- geometry -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "max_size", "expected"),
    [
        (14, None, (14, 18)),
        ((3, 4), None, (3, 4)),
        ([5], None, (5, 6)),
        (14, 16, (12, 16)),
        (7, None, (7, 9)),
    ],
)
def test_resize(size: Any, max_size: int | None, expected: tuple[int, int]) -> None:
    image = picture()
    for mode in (T.InterpolationMode.BILINEAR, T.InterpolationMode.NEAREST):
        made = T.Resize(size, mode, max_size)(image)
        assert same(made, image.resize(expected[::-1], Image.Resampling[mode.name]))
    upright = T.Resize(size, max_size=max_size)(image.transpose(Image.Transpose.ROTATE_90))
    assert upright.size == (expected if not (isinstance(size, tuple)) else expected[::-1])


def test_resizing_tensors_is_resizing_images() -> None:
    image = picture(32, 48)
    for size in (12, (50, 64), (16, 24)):
        expected = T.PILToTensor()(T.Resize(size)(image)).numpy().astype(int)
        made = T.Resize(size)(T.PILToTensor()(image))
        assert made.dtype is dg.uint8
        assert np.abs(made.numpy().astype(int) - expected).max() <= 1
        floats = T.Resize(size)(T.ToTensor()(image)).numpy() * 255
        assert np.abs(floats - expected).max() < 1.01


def test_resize_errors() -> None:
    with pytest.raises(ArgumentError, match="must be strictly greater"):
        T.Resize(8, max_size=8)(picture())
    with pytest.raises(ArgumentError, match="max_size should only be passed"):
        T.Resize((8, 8), max_size=9)(picture())
    with pytest.raises(ArgumentError, match="one or two numbers"):
        T.CenterCrop((1, 2, 3))


@pytest.mark.parametrize("size", [3, (4, 6), (7, 9), (8, 4), (12, 12), (3, 20)], ids=str)
def test_center_crop(size: Any) -> None:
    image = picture()
    height, width = (size, size) if isinstance(size, int) else size
    padded = np.pad(np.asarray(image), ((20, 20), (20, 20), (0, 0)))
    top, left = (
        (round((n - m) / 2) if m <= n else -((m - n) // 2)) for n, m in ((7, height), (9, width))
    )
    expected = padded[20 + top : 20 + top + height, 20 + left : 20 + left + width]
    assert same(T.CenterCrop(size)(image), expected)
    tensor = T.CenterCrop(size)(T.PILToTensor()(image))
    assert same(tensor.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("padding", [2, (1, 2), (1, 2, 3, 4), [3]], ids=str)
@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
def test_pad(padding: Any, mode: str) -> None:
    image = picture()
    sides = [padding] if isinstance(padding, int) else list(padding)
    left, top, right, bottom = (sides * 4)[:4]
    expected = np.pad(np.asarray(image), ((top, bottom), (left, right), (0, 0)), mode=mode)
    assert same(T.Pad(padding, padding_mode=mode)(image), expected)
    if mode == "constant":
        tensor = T.Pad(padding, fill=5)(T.PILToTensor()(image))
        filled = np.pad(
            np.asarray(image), ((top, bottom), (left, right), (0, 0)), constant_values=5
        )
        assert same(tensor.permute(1, 2, 0).numpy(), filled)
        assert same(T.Pad(padding, fill=(5, 5, 5))(image), filled)


def test_pad_errors() -> None:
    with pytest.raises(ArgumentError, match="1, 2, or 4 element"):
        T.Pad((1, 2, 3))(picture())
    with pytest.raises(ArgumentError, match="should be one of constant$"):
        T.Pad(1, padding_mode="edge")(dg.ones(1, 2, 2))
    with pytest.raises(ArgumentError, match="should be one of constant, edge"):
        T.Pad(1, padding_mode="wrap")(picture())


def test_crops_beyond_the_image() -> None:
    image = picture()
    tensor = T.PILToTensor()(image)
    for box in ((-2, -3, 5, 5), (5, 6, 4, 6), (0, 0, 7, 9), (-20, 0, 3, 3), (0, 30, 3, 3)):
        made = TF.crop(tensor, *box)
        assert same(made.permute(1, 2, 0).numpy(), TF.crop(image, *box)), box


def test_flips_and_rotations() -> None:
    image = picture()
    pixels, tensor = np.asarray(image), T.PILToTensor()(image)
    assert same(TF.hflip(image), pixels[:, ::-1])
    assert same(TF.vflip(image), pixels[::-1])
    assert same(TF.hflip(tensor).permute(1, 2, 0).numpy(), pixels[:, ::-1])
    assert same(TF.vflip(tensor).permute(1, 2, 0).numpy(), pixels[::-1])
    assert same(TF.rotate(image, 90, expand=True), np.rot90(pixels))
    assert same(TF.rotate(image, 180), pixels[::-1, ::-1])
    filled = TF.rotate(image, 45, fill=(9, 9, 9))
    assert np.asarray(filled)[0, 0].tolist() == [9, 9, 9]


# -- colours --------------------------------------------------------------------------------------


def test_colours() -> None:
    image = picture()
    pixels = np.asarray(image).astype(float)
    assert np.abs(np.asarray(TF.adjust_brightness(image, 0.5)) - pixels * 0.5).max() <= 1
    for adjust in (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation):
        assert same(adjust(image, 1.0), image)
    assert same(TF.adjust_saturation(image, 0.0), TF.to_grayscale(image, 3))
    flat = np.asarray(TF.adjust_contrast(image, 0.0))
    assert (flat == flat[0, 0]).all()
    assert TF.to_grayscale(image).mode == "L"
    assert T.Grayscale(3)(image).mode == "RGB"
    # Half the circle turns red into cyan, and back.
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    assert np.abs(np.asarray(TF.adjust_hue(red, 0.5)).astype(int)[0, 0] - [0, 255, 255]).max() < 8
    assert same(TF.adjust_hue(picture(mode="L"), 0.3), picture(mode="L"))
    for wrong in (
        lambda: TF.adjust_hue(image, 0.6),
        lambda: TF.adjust_brightness(image, -1),
        lambda: TF.to_grayscale(image, 2),
        lambda: T.ColorJitter(brightness=-1),
        lambda: T.ColorJitter(hue=0.6),
        lambda: T.ColorJitter(contrast=(2, 1)),
    ):
        with pytest.raises(ArgumentError):
            wrong()
    with pytest.raises(TypeError, match="should be PIL Image, got Tensor"):
        TF.adjust_hue(dg.ones(3, 2, 2), 0.1)


def test_color_jitter() -> None:
    jitter = T.ColorJitter(0.4, (0.5, 1.5), 2.0, 0.1)
    assert jitter.brightness == pytest.approx((0.6, 1.4))
    assert (jitter.contrast, jitter.saturation) == ((0.5, 1.5), (0.0, 3.0))
    assert jitter.hue == (-0.1, 0.1)
    dg.manual_seed(0)
    made = [jitter(picture()) for _ in range(4)]
    assert not any(same(made[0], other) for other in made[1:])
    assert same(T.ColorJitter()(picture()), picture())


# -- draws ----------------------------------------------------------------------------------------


def test_flips_come_as_often_as_they_should() -> None:
    dg.manual_seed(1)
    image = picture()
    for flip, done in ((T.RandomHorizontalFlip, TF.hflip), (T.RandomVerticalFlip, TF.vflip)):
        assert same(flip(1.0)(image), done(image))
        assert same(flip(0.0)(image), image)
        count = sum(same(flip(0.25)(image), done(image)) for _ in range(1000))
        assert 200 < count < 300
    assert T.RandomGrayscale(1.0)(image).mode == "RGB"
    assert same(T.RandomGrayscale(0.0)(image), image)


def test_random_crop() -> None:
    dg.manual_seed(2)
    image = picture()
    padded = np.pad(np.asarray(image), ((2, 2), (2, 2), (0, 0)))
    places = set()
    for _ in range(400):
        made = np.asarray(T.RandomCrop((5, 6), padding=2)(image))
        found = [
            (top, left)
            for top in range(7)
            for left in range(8)
            if (made == padded[top : top + 5, left : left + 6]).all()
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) == 7 * 8  # every place comes
    assert same(T.RandomCrop((7, 9))(image), image)
    assert T.RandomCrop(20, pad_if_needed=True)(T.ToTensor()(image)).shape == (3, 20, 20)
    with pytest.raises(
        ArgumentError, match=re.escape("size (8, 8) is larger than input image size (7, 9)")
    ):
        T.RandomCrop(8)(image)


def test_random_resized_crop() -> None:
    dg.manual_seed(3)
    crop = T.RandomResizedCrop(10, scale=(0.2, 0.5), ratio=(0.5, 2.0))
    shapes = [crop._part(60, 80) for _ in range(200)]
    for top, left, height, width in shapes:
        assert 0 <= top <= 60 - height
        assert 0 <= left <= 80 - width
        assert 0.18 < height * width / 4800 < 0.52
        assert 0.45 < width / height < 2.2
    assert len(set(shapes)) > 150
    assert crop(picture(60, 80)).size == (10, 10)
    assert tuple(crop(T.ToTensor()(picture(60, 80))).shape) == (3, 10, 10)
    # An image whose shape allows no part gets its middle.
    assert T.RandomResizedCrop(4, scale=(1.0, 1.0))._part(10, 100) == (0, 43, 10, 13)


def test_random_rotation_apply_and_choice() -> None:
    dg.manual_seed(4)
    image = picture()
    assert same(T.RandomRotation((90, 90), expand=True)(image), np.rot90(np.asarray(image)))
    assert T.RandomRotation(30).degrees == (-30, 30)
    twice = T.RandomApply([TF.hflip, TF.vflip], p=1.0)
    assert same(twice(image), np.asarray(image)[::-1, ::-1])
    assert same(T.RandomApply([TF.hflip], p=0.0)(image), image)
    choice = T.RandomChoice([lambda x: "a", lambda x: "b"], p=[1, 3])
    drawn = [choice(image) for _ in range(1000)]
    assert drawn.count("b") / 1000 == pytest.approx(0.75, abs=0.06)
    with pytest.raises(ArgumentError, match="expected 2 probabilities, got 1"):
        T.RandomChoice([len, len], p=[1])


def test_the_seed_decides() -> None:
    transform = T.Compose(
        [T.RandomResizedCrop(6), T.RandomHorizontalFlip(), T.ColorJitter(0.5), T.ToTensor()]
    )
    made = []
    for seed in (5, 5, 6):
        dg.manual_seed(seed)
        made.append(transform(picture()).tolist())
    assert made[0] == made[1] != made[2]


# -- the rest -------------------------------------------------------------------------------------


def test_what_transforms_look_like() -> None:
    transform = T.Compose([T.Resize(4), T.Lambda(len)])
    text = repr(transform)
    assert text.startswith("Compose(\n    Resize(size=4, interpolation=")
    assert (
        repr(T.Normalize((0.5,), (0.25,))) == "Normalize(mean=(0.5,), std=(0.25,), inplace=False)"
    )
    assert pickle.loads(pickle.dumps(T.Compose([T.Resize(4)])))(picture()).size == (5, 4)
    with pytest.raises(TypeError, match="Argument lambd should be callable, got int"):
        T.Lambda(3)
    assert math.prod(T.Lambda(lambda image: image.size)(picture())) == 63


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def absent(name: str, *args: Any) -> Any:
        if name.partition(".")[0] == "PIL":
            raise ModuleNotFoundError("No module named 'PIL'", name="PIL")
        return found(name, *args)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dualgraph\[images\]'"):
        T.Resize(3)(object())
    assert T.Resize(3)(dg.ones(1, 6, 6)).shape == (1, 3, 3)
