"""
Draws the photos of the demo upstream.

    python docs/pictures/draw.py sitio/demo/site/photos

Needs numpy and Pillow.  The photos are in the repository; this program shows how
they were made.  It draws each from noise, gradients and outlines at twice its size,
then scales it down, which smooths the edges.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT = 1080, 720
W, H = WIDTH * 2, HEIGHT * 2
X = np.arange(W) / W
Y = (np.arange(H) / H)[:, None]


def colour(text):
    """C{"#rrggbb"} as three numbers from 0 to 1."""
    return np.array([int(text[at : at + 2], 16) for at in (1, 3, 5)]) / 255


def smooth(low, high, value):
    """0 up to low, 1 from high on, a soft slope between."""
    value = np.clip((value - low) / (high - low), 0, 1)
    return value * value * (3 - 2 * value)


def between(start, end, share):
    """A mix of two colours, or of two pictures, by a number or a mask."""
    share = np.asarray(share)[..., None] if np.ndim(share) else share
    return start + (end - start) * share


def gradient(*stops, along=Y):
    """Colours from place to place: C{(0, "#..."), (1, "#...")}."""
    places = [place for place, _ in stops]
    parts = np.array([colour(text) for _, text in stops])
    if np.ndim(along) == 2:
        along = np.broadcast_to(along, (H, W))
    return np.stack([np.interp(along, places, parts[:, band]) for band in range(3)], -1)


def shade(near, *stops):
    """The one colour of a gradient at a place."""
    return gradient(*stops, along=np.array([near]))[0]


def rough(random, waves, octaves=6, fade=0.5):
    """A line of noise around 0 over the width, with so many waves in its coarsest part."""
    line = np.zeros(W)
    for octave in range(octaves):
        count = int(waves * 2**octave) + 3
        points = random.uniform(-1, 1, count)
        at = X * (count - 3) + 1
        left = at.astype(int)
        part = at - left
        part = part * part * (3 - 2 * part)
        line += fade**octave * (points[left] * (1 - part) + points[left + 1] * part)
    return line


def cloud(random, across, down, octaves=5, fade=0.5):
    """A plane of noise from 0 to 1, with so many lumps across and down."""
    plane = np.zeros((H, W), np.float32)
    for octave in range(octaves):
        size = (int(across * 2**octave) + 1, int(down * 2**octave) + 1)
        lumps = Image.fromarray(random.random(size[::-1], np.float32))
        plane += fade**octave * np.asarray(lumps.resize((W, H), Image.Resampling.BICUBIC))
    plane -= plane.min()
    return plane / plane.max()


def blurred(mask, radius):
    """A mask with soft edges."""
    image = Image.fromarray((np.clip(mask, 0, 1) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius))) / 255


def under(line):
    """A mask of what lies below a line."""
    return (np.broadcast_to(Y, (H, W)) > line).astype(float)


def disc(x, y, radius):
    """How far each place is from a centre, in radii."""
    return np.hypot((X - x) * W / H, Y - y) / radius


def glow(picture, x, y, radius, text, strength=1.0):
    """Light around a place."""
    light = np.exp(-(disc(x, y, radius) ** 1.2)) * strength
    return 1 - (1 - picture) * (1 - light[..., None] * colour(text))


def stars(random, picture, count, mask, size=1.0):
    """Stars of all magnitudes, few of them bright, where the mask lets them."""
    light = np.zeros((H, W))
    for _ in range(count):
        x, y = random.integers(3, W - 3), random.integers(3, H - 3)
        bright = min(1.0, 0.12 / (random.random() + 0.06)) * size
        light[y - 1 : y + 2, x - 1 : x + 2] += bright * 0.55
        light[y, x] += bright
        if bright > 0.75:
            light[y - 2 : y + 3, x - 2 : x + 3] += bright * 0.35
    return picture + (light * mask)[..., None] * colour("#dfe8ff") * 0.8


def pine(draw, random, x, foot, height):
    """The outline of one tree, in white."""
    half = height * random.uniform(0.17, 0.23)
    steps = max(6, int(height / 16))
    left, right = [], []
    for step in range(1, steps + 1):
        part = step / steps
        y = foot - height * (1 - part * 0.93)
        for side, sign in ((left, -1), (right, 1)):
            reach = half * part**0.85 * random.uniform(0.72, 1.08)
            side.append((x + sign * reach, y + height * 0.018 * random.random()))
            side.append((x + sign * reach * 0.52, y - height * 0.012))
    trunk = height * 0.018
    outline = [(x, foot - height), *right, (x + trunk, foot), (x - trunk, foot), *left[::-1]]
    draw.polygon(outline, fill=255)


def pines(random, line, count, low, high):
    """A mask of trees that stand on a line."""
    image = Image.new("L", (W, H))
    draw = ImageDraw.Draw(image)
    for x in np.sort(random.uniform(-0.02, 1.02, count)):
        foot = line[int(np.clip(x, 0, 0.9999) * W)] * H
        height = random.uniform(low, high) * H
        # Their lowest branches are in the ground, or light would show below them.
        pine(draw, random, x * W, foot + height * 0.07, height)
    return np.maximum(np.asarray(image) / 255, under(line))


def dunes(random):
    """Evening in the sand."""
    picture = gradient((0, "#2b3a67"), (0.18, "#6d5c86"), (0.34, "#d98c77"), (0.46, "#fbc78d"))
    picture = glow(picture, 0.7, 0.43, 0.16, "#ffdca0", 0.9)
    picture = between(picture, colour("#fff3d6"), smooth(1.03, 0.97, disc(0.7, 0.37, 0.05)))
    layers = [
        (0.43, 0.030, 1.6, "#e2a06d", "#a9695e", 0.50),
        (0.49, 0.060, 1.3, "#e79a58", "#8e4f4d", 0.62),
        (0.58, 0.085, 1.0, "#e08a45", "#6f3840", 0.80),
        (0.76, 0.130, 0.8, "#d27634", "#4c2533", 0.66),
    ]
    for base, height, waves, lit, dark, scale in layers:
        line = base + height * rough(random, waves, 3, 0.35)
        depth = np.clip((Y - line) / (1 - base), 0, None)
        warp = rough(random, 1.3, 3, 0.4) * 0.35
        # Across a dune light falls off slowly and comes back at its edge at once.
        phase = (X * 0.9 + warp + depth * (0.9 + 0.5 * X)) / scale + random.random()
        saw = phase % 1
        face = smooth(0.0, 0.035 / scale**0.5, saw) * (1 - 0.85 * smooth(0.25, 1.0, saw))
        ripples = 0.5 + 0.5 * np.sin((depth * 260 + warp * 90 + X * 18) / (0.5 + depth))
        face = face + 0.05 * ripples * smooth(0.05, 0.4, depth)
        tone = between(colour(dark), colour(lit), np.clip(face, 0, 1))
        tone = between(tone, colour("#f3b47e"), 0.35 * (1 - smooth(0, 0.25, depth)))
        picture = between(picture, tone, under(line))
    return picture


def ridges(random):
    """Mountains behind mountains, before sunrise."""
    picture = gradient((0, "#5d7ea8"), (0.22, "#a9b7cf"), (0.4, "#f2c9b8"), (0.55, "#fbdcb4"))
    picture = glow(picture, 0.36, 0.40, 0.22, "#ffe2b0", 0.75)
    picture = between(picture, colour("#fff6e0"), smooth(1.03, 0.97, disc(0.36, 0.36, 0.042)))
    count = 7
    for number in range(count):
        near = number / (count - 1)
        base = 0.40 + 0.52 * near**1.15
        line = base + (0.07 + 0.05 * near) * rough(random, 2.2 + number * 0.4, 8, 0.48)
        tone = shade(near, (0, "#b9b3c6"), (0.35, "#7d8fb0"), (0.7, "#3f5a80"), (1, "#16283f"))
        mist = shade(near, (0, "#f6d3bd"), (0.5, "#a9b9d0"), (1, "#5f7d9f"))
        fog = smooth(0.0, 0.22, Y - softened(line, 160)) * (0.75 - 0.35 * near)
        picture = between(picture, between(tone, mist, fog), under(line))
    trees = pines(random, 0.965 + 0.02 * rough(random, 2, 4), 70, 0.05, 0.11)
    return between(picture, colour("#0c1826"), trees)


def night(random):
    """The Milky Way over pines."""
    picture = gradient(
        (0, "#060a1f"), (0.4, "#0e1c42"), (0.72, "#27427a"), (0.82, "#7a6fa0"), (0.92, "#e0a48f")
    )
    lean = (X - 0.62) * 0.80 + (Y - 0.35) * 0.62
    dust = cloud(random, 5, 4, 6, 0.58)
    band = np.exp(-(((lean + (dust - 0.5) * 0.16) / 0.13) ** 2))
    lanes = smooth(0.42, 0.62, cloud(random, 7, 6, 6, 0.6))
    core = np.exp(-(((lean + (dust - 0.5) * 0.1) / 0.05) ** 2)) * lanes
    fade = smooth(0.95, 0.45, Y)
    picture = picture + (band * (0.25 + 0.75 * dust) * fade * 0.42)[..., None] * colour("#8fa4e8")
    picture = picture * (1 - (core * fade * 0.42)[..., None])
    picture = picture + (band**3 * (1 - lanes) * fade * 0.25)[..., None] * colour("#ffd9c2")
    picture = stars(random, picture, 1500, fade, 1.25)
    picture = stars(random, picture, 2600, fade * np.clip(band, 0, 1), 0.9)
    hill = 0.90 + 0.03 * rough(random, 1.4, 6)
    picture = between(picture, colour("#141d3c"), under(hill))
    trees = pines(random, 0.965 + 0.03 * rough(random, 1.2, 3), 46, 0.07, 0.27)
    return between(picture, colour("#05070f"), trees)


def waves(random):
    """A sea cut out of paper."""
    picture = gradient((0, "#f6b58c"), (0.16, "#fbd3a4"), (0.3, "#fdeac8"))
    picture = between(picture, colour("#f4795b"), smooth(1.012, 0.988, disc(0.5, 0.25, 0.15)))
    count = 9
    for number in range(count):
        near = number / (count - 1)
        base = 0.27 + 0.66 * near**1.25
        height = 0.008 + 0.05 * near
        swell = X * (9.5 - 6.8 * near**0.7) + random.random() + 0.25 * rough(random, 1, 2)
        crest = np.abs(np.sin(np.pi * swell)) ** 0.8
        line = base - height * (crest - 0.5) + 0.012 * near * rough(random, 3, 3)
        tone = shade(near, (0, "#8fd0c4"), (0.3, "#3aa3a8"), (0.65, "#17648a"), (1, "#0b2545"))
        depth = Y - line
        rim = np.exp(-np.clip(depth, 0, 1) / (0.012 + 0.03 * near))
        layer = between(tone * 0.92, np.minimum(1, tone * 1.25 + 0.08), rim * 0.8)
        foam = smooth(0.006 + 0.006 * near, 0.003 + 0.003 * near, depth)
        layer = between(layer, colour("#f4f7ee"), foam * (0.45 + 0.45 * near))
        # Each sheet of paper throws a shadow on the one behind it.
        shadow = np.exp(-np.clip(-depth, 0, 1) / (0.006 + 0.014 * near)) * (depth < 0)
        picture = picture * (1 - 0.28 * shadow[..., None])
        picture = between(picture, layer, under(line))
    return picture


def aurora(random):
    """Northern lights and a lake."""
    shore = 0.66
    picture = gradient((0, "#050b1e"), (0.4, "#0b2036"), (shore, "#1b4a58"), (1, "#1b4a58"))
    picture = stars(random, picture, 420, smooth(0.62, 0.2, Y), 0.8)
    for foot, tall, strength in ((0.56, 0.36, 0.62), (0.46, 0.3, 0.8), (0.33, 0.24, 0.45)):
        path = foot + 0.16 * rough(random, 1.1, 3, 0.4) + 0.02 * np.sin(X * 23 + foot * 40)
        fine = softened(rough(random, 30, 4, 0.7), 9) * smooth(-0.5, 0.7, rough(random, 2, 2))
        rays = 0.62 + 0.42 * fine + 0.25 * rough(random, 4, 2)
        above = path - Y
        reach = tall * (0.75 + 0.35 * rough(random, 6, 3))
        light = np.where(above > 0, np.exp(-above / (reach * 0.45)), np.exp(above / 0.014))
        light = light * np.clip(rays, 0.2, 1.3) * strength * smooth(0, 0.12, Y + 0.06)
        tint = gradient(
            (0, "#5dffb0"),
            (0.35, "#38e0b4"),
            (0.7, "#5b7cf0"),
            (1, "#b05be8"),
            along=np.clip(above / tall, 0, 1),
        )
        picture = 1 - (1 - np.clip(picture, 0, 1)) * (1 - np.clip(light, 0, 1)[..., None] * tint)
    far = shore - 0.055 + 0.06 * rough(random, 2.4, 8, 0.5)
    picture = between(picture, colour("#0a1a2a"), under(far))
    near = shore - 0.012 + 0.012 * rough(random, 3, 5)
    picture = between(picture, colour("#04090f"), pines(random, near, 90, 0.015, 0.065))
    return mirrored(random, picture, shore, 0.62, "#07202c")


def mirrored(random, picture, shore, strength, text):
    """The same picture with water below the shore, in which the rest is seen."""
    row = int(shore * H)
    rows = np.arange(row, H)
    depth = (rows - row) / (H - row)
    # The nearer the water, the longer its waves.
    ripple = (np.sin(np.cumsum(1.9 / (1 + depth * 26))) * (2 + 26 * depth)).astype(int)
    source = np.clip(2 * row - rows - 1 + ripple // 2, 0, row - 1)
    sway = (rough(random, 3, 3)[: len(rows)] * 10 * depth).astype(int)
    picture = np.clip(picture, 0, 1)
    water = np.stack([np.roll(picture[at], shift, axis=0) for at, shift in zip(source, sway)])
    image = Image.fromarray((water * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(3))
    water = between(colour(text), np.asarray(image) / 255, strength)
    water = between(water, colour(text), np.broadcast_to(depth[:, None] * 0.45, water.shape[:2]))
    edge = np.exp(-depth * 60)[:, None, None]
    return np.concatenate([picture[:row], np.clip(water * (1 - 0.35 * edge), 0, 1)])


def forest(random):
    """Pines in fog, with the sun behind."""
    picture = gradient((0, "#c9dccb"), (0.4, "#e9eecb"), (1, "#b9d0bd"))
    picture = glow(picture, 0.6, 0.26, 0.24, "#fff2b8", 0.85)
    count = 6
    for number in range(count):
        near = number / (count - 1)
        line = 0.47 + 0.47 * near + 0.05 * rough(random, 1.3, 4)
        mask = pines(random, line, int(92 - 74 * near), 0.13 + 0.17 * near, 0.24 + 0.36 * near)
        tone = shade(near, (0, "#a9c6b0"), (0.4, "#5d937f"), (0.75, "#24594f"), (1, "#0a2622"))
        fog = smooth(-0.22, 0.16, Y - line) * (0.8 - 0.45 * near)
        haze = between(colour("#e6edd0"), colour("#9dc0b0"), near)
        layer = between(tone, haze, fog)
        warm = np.exp(-(disc(0.6, 0.3, 0.42) ** 2)) * (0.4 - 0.36 * near)
        layer = between(layer, colour("#fff3c4"), np.clip(warm, 0, 1))
        picture = between(picture, layer, mask)
    return picture


def lake(random):
    """A full moon, twice."""
    shore = 0.62
    picture = gradient(
        (0, "#16224d"), (0.3, "#3a4a86"), (0.5, "#8a83b4"), (shore, "#e3b6bd"), (1, "#e3b6bd")
    )
    picture = stars(random, picture, 130, smooth(0.4, 0.1, Y), 0.6)
    picture = glow(picture, 0.66, 0.27, 0.15, "#cfd4ff", 0.55)
    moon = smooth(1.012, 0.988, disc(0.66, 0.27, 0.078))
    seas = 0.9 + 0.1 * smooth(0.62, 0.42, cloud(random, 22, 15, 3))
    picture = between(picture, colour("#fff4dc") * seas[..., None], moon)
    for base, height, peaks, lit, dark in (
        (0.50, 0.13, 2.6, "#b3a5c8", "#6d6c9f"),
        (0.56, 0.09, 3.6, "#7d7db0", "#3f4a80"),
    ):
        line = base + height * rough(random, peaks, 9, 0.5) - 0.02
        # Ribs run down aslant, so that below a peak light and shade part like a roof.
        lean = (cloud(random, 26, 18, 4) - 0.5) * 1.4
        fall = np.gradient(softened(line, 26)) * W
        aslant = X * W - np.clip(Y - line, 0, 1) * H * 0.55 + lean * 34
        fall = np.interp(aslant, np.arange(W), fall)
        face = smooth(-0.25, 0.35, -fall * 0.8 + lean * 0.7)
        snow = smooth(0.16, 0.0, Y - line + lean * 0.05) * smooth(0.54, 0.4, line)
        tone = between(colour(dark), colour(lit), face)
        tone = between(tone, between(colour("#a9b4e0"), colour("#fdf3f4"), face), snow * 0.9)
        tone = between(tone, colour("#d9b3c2"), smooth(shore - 0.12, shore, Y) * 0.4 + 0 * X)
        picture = between(picture, tone, under(line))
    near = shore - 0.012 + 0.016 * rough(random, 2.5, 5)
    picture = between(picture, colour("#1b2347"), pines(random, near, 110, 0.012, 0.05))
    return mirrored(random, picture, shore, 0.8, "#2a3468")


def softened(line, radius):
    """A line without its smallest turns."""
    kernel = np.hanning(radius * 2 + 1)
    return np.convolve(np.pad(line, radius, "edge"), kernel / kernel.sum(), "valid")


def fields(random):
    """Lavender in June."""
    picture = gradient((0, "#3f86c6"), (0.3, "#8fc3e4"), (0.5, "#e3f0ea"))
    heap = cloud(random, 5, 7, 7, 0.55)
    body = smooth(0.50, 0.66, heap - 0.14 * np.abs(Y - 0.22) / 0.2) * smooth(0.46, 0.32, Y)
    grey = smooth(0.45, 0.75, np.roll(heap, 46, axis=0))
    tone = between(colour("#ffffff"), colour("#b9cbe0"), grey * 0.75)
    picture = between(picture, tone, body * 0.94)
    for base, height, text in (
        (0.43, 0.03, "#8fb3b6"),
        (0.46, 0.028, "#7ba38a"),
        (0.50, 0.03, "#8cae5c"),
    ):
        line = base + height * rough(random, 1.6, 5, 0.4)
        layer = between(colour(text), colour("#e9efd8"), smooth(0.08, 0.0, Y - line) * 0.3)
        picture = between(picture, layer, under(line))
    line = 0.545 + 0.018 * rough(random, 0.9, 2)
    depth = np.clip((Y - line) / (1 - line), 0, 1)
    # Rows that meet at a point on the horizon.
    spread = (X - 0.56) / (0.035 + depth) + 0.12 * np.sin(depth * 5)
    row = 0.5 + 0.5 * np.cos(spread * 21)
    tufts = cloud(random, 130, 110, 3, 0.7)
    bloom = smooth(0.18, 0.62, row + (tufts - 0.5) * 0.5)
    soil = gradient((0, "#93a567"), (0.3, "#6b7d3f"), (1, "#39452a"), along=depth)
    flowers = gradient((0, "#a493cf"), (0.3, "#7e62bd"), (1, "#4c2f8f"), along=depth)
    flowers = flowers * (0.8 + 0.42 * (tufts * row)[..., None])
    picture = between(picture, between(soil, flowers, bloom), under(line))
    return tree(random, picture, 0.24, 0.575, 0.17)


def tree(random, picture, x, foot, height):
    """One broad tree with light from the left."""
    crown = np.zeros((H, W))
    lit = np.zeros((H, W))
    for _ in range(110):
        turn, reach = random.uniform(0, 2 * np.pi), random.random() ** 0.5
        at = (
            x + np.cos(turn) * reach * height * 0.40,
            foot - height * (0.62 - 0.34 * np.sin(turn) * reach),
        )
        blob = smooth(1.0, 0.72, disc(*at, height * random.uniform(0.07, 0.13)))
        crown = np.maximum(crown, blob)
        bright = np.clip(0.5 - (at[0] - x) / height * 0.9 - (at[1] - foot + height * 0.62), 0, 1)
        lit = lit * (1 - blob) + blob * bright * random.uniform(0.75, 1.1)
    trunk = (np.abs(X - x) < 0.0045) & (foot - height * 0.5 < Y) & (foot > Y)
    shadow = smooth(1, 0.2, np.hypot((X - x - 0.05) / 0.085, (Y - foot) / 0.012))
    picture = picture * (1 - 0.45 * shadow[..., None])
    picture = between(picture, colour("#3c2f26"), trunk.astype(float))
    return between(picture, between(colour("#1f3a24"), colour("#7fa548"), lit), crown)


#: What is drawn, from which seed, and at which quality it is stored.
PICTURES = (
    (dunes, 12, 80),
    (ridges, 3, 80),
    (night, 5, 66),
    (waves, 4, 70),
    (aurora, 7, 78),
    (forest, 2, 62),
    (lake, 6, 72),
    (fields, 1, 58),
)


def main(folder, *only):
    """Draw all, or those that are named, into a folder."""
    for draw, seed, quality in PICTURES:
        if not only or draw.__name__ in only:
            picture = np.clip(draw(np.random.default_rng(seed)), 0, 1)
            image = Image.fromarray((picture * 255 + 0.5).astype(np.uint8))
            image = image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
            path = Path(folder) / f"{draw.__name__}.jpg"
            image.save(path, quality=quality, optimize=True, progressive=True)
            print(path, path.stat().st_size)


if __name__ == "__main__":
    main(*sys.argv[1:])
