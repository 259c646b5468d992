"""Strange arguments for everything that reaches compiled code, losses and metrics: an answer, or one clear error.

Calls start out valid, and some of their arguments are replaced, so that wrong ones reach deep code too. Output arrays lie between
guard bytes, which must not change. A crash ends the interpreter: that is what these tests look for. With the sanitizers: ``make sanitize``.
"""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import upscore.crf.pydensecrf.densecrf as dcrf
from fuzz.examples import fuzz
from upscore.crf import Bilateral, DenseCRF, Features, Gaussian
from upscore.crf.pydensecrf import utils
from upscore.errors import UpscoreError
from upscore.losses import (
    Objective,
    boundary_loss,
    dice_loss,
    focal_loss,
    hard_pixel_cross_entropy,
    lovasz_softmax,
    pixel_cross_entropy,
)
from upscore.metrics import BorderCounts, ConfusionMatrix, rand_error
from upscore.ops.box_crop import Canvas, crop_boxes
from upscore.ops.unpool import max_pool, max_unpool

native = pytest.importorskip("upscore._native", reason="upscore was installed without a compiler")

REFUSED = (ValueError, TypeError, OverflowError, MemoryError)
"""What the compiled module refuses with."""

FLOATS = np.array([0, -0.0, 1, -1, 0.5, 255, 1e-45, 1e30, -1e30, 3e38, -3e38, np.inf, -np.inf, np.nan], np.float32)
TYPES = ["<f4", "<f8", "<f2", ">f4", "<i4", "<i8", "u1", "?", "<c8", "O", "<U2", "M8[s]"]
GUARD = 64


def array_of(draw, shape, *, values=(0.0, 1.0), strange=0.1, dtype=np.float32):
    """Draw an array in some memory order, mostly of values in a range, with some that are not."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    array = rng.uniform(*values, shape).astype(dtype)
    if draw(st.floats(0, 1)) < strange and array.size:
        places = rng.random(shape) < draw(st.sampled_from([0.01, 0.2, 1]))
        array[places] = rng.choice(FLOATS, int(places.sum()))
    return ordered(draw, array)


def ordered(draw, array):
    """Return it as it is, or somewhere else in memory."""
    kind = draw(st.sampled_from(["C", "C", "C", "F", "reversed", "strided", "misaligned", "read-only"]))
    if kind == "F":
        return np.asfortranarray(array)
    if kind == "reversed":
        return np.flip(np.ascontiguousarray(np.flip(array)))
    if kind == "strided" and array.ndim:
        wide = np.repeat(array, 2, axis=-1)
        return wide[..., ::2]
    if kind == "misaligned" and array.dtype != object:
        raw = np.empty(array.nbytes + 1, np.uint8)
        moved = raw[1:].view(array.dtype).reshape(array.shape)
        moved[...] = array
        return moved
    if kind == "read-only":
        array = array.copy()
        array.flags.writeable = False
    return array


@st.composite
def odd_arrays(draw, *, vast=False):
    """Arrays of any shape, type and order, and what is none; vast ones have up to 2^66 numbers, which are one in memory."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from([None, "text", 3, 1.5, [1.0], b"bytes", np.float32(1), {}, native, np.empty(0, np.float32)]))
    shape = tuple(draw(st.lists(st.integers(0, 7), max_size=5)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = np.random.default_rng(draw(st.integers(0, 99))).uniform(0, 3, shape).astype(draw(st.sampled_from(TYPES)))
    if vast and draw(st.booleans()):
        sides = draw(st.sampled_from([(2**33,), (2**33, 2**22), (2**31, 2), (0, 2**40), (2**26,)]))
        return np.lib.stride_tricks.as_strided(
            np.ones(1, array.dtype if array.dtype.kind in "fiu" else np.float32), sides, [0] * len(sides)
        )
    return ordered(draw, array)


NUMBERS = st.one_of(st.integers(-3, 9), st.sampled_from([0, 256, 257, 10**6, 2**31, -(2**40), 2**63, 2**70, 1.5, np.nan, None, "2", True]))
THREADS = st.one_of(st.integers(1, 4), NUMBERS)
INSTRUCTIONS = st.sampled_from(["best", "best", "portable", "avx2", "", "AVX9", None])


def guarded(draw, shape, dtype=np.float32):
    """Return an array between guard bytes, and a function that tells whether these are intact."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.full(size + 2 * GUARD, 0xA5, np.uint8)
    array = memory[GUARD : GUARD + size].view(dtype).reshape(shape)
    return array, lambda: bool((memory[:GUARD] == 0xA5).all() and (memory[GUARD + size :] == 0xA5).all())


def replaced(draw, arguments, strategies):
    """Replace none, one or two of the arguments by what is strange."""
    arguments = dict(arguments)
    for name in draw(st.lists(st.sampled_from(sorted(arguments)), max_size=2)):
        arguments[name] = draw(strategies.get(name, odd_arrays(vast=True)))
    return arguments


def tried(function, arguments, *whole):
    """Return whether the call was accepted; guards must be whole in any case."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # nanobind says so too where a lattice was never made
            function(**arguments)
        accepted = True
    except REFUSED:
        accepted = False
    assert all(guard() for guard in whole)
    return accepted


COMMON = {"threads": THREADS, "instructions": INSTRUCTIONS}


def lattices(draw, points):
    scale = draw(st.sampled_from([0.01, 1.0, 30.0, 1e4, 1e9]))
    features = np.random.default_rng(draw(st.integers(0, 99))).normal(0, scale, (draw(st.integers(1, 6)), points)).astype(np.float32)
    try:
        return native.lattice(features, 1)
    except native.TooFarApart:
        return native.lattice(features * 0, 1)


@given(st.data())
@fuzz
def test_lattices_of_anything(data):
    draw = data.draw
    scale = draw(st.sampled_from([1.0, 100.0, 1e9, 1e12, 1e30, 3e38]))
    with np.errstate(over="ignore"):
        features = array_of(draw, (draw(st.integers(1, 17)), draw(st.integers(1, 70))), values=(-scale, scale), strange=0.3)
    if draw(st.booleans()):
        features = features[:, :1] + np.zeros_like(features)  # all of one place, far away
    arguments = replaced(draw, {"features": features, "threads": draw(st.integers(1, 3)), "instructions": "best"}, COMMON)
    try:
        lattice = native.lattice(**arguments)
    except REFUSED:
        return
    given_features = arguments["features"]
    assert np.isfinite(given_features).all()
    d, points = given_features.shape
    assert (lattice.points, 1 <= lattice.vertices <= points * (d + 1)) == (points, True)
    # Rows of the kernel are at most 1 for each pixel, and more than nothing.
    sums = np.ones((1, points), np.float32)
    native.filter(lattice, sums, sums, 1)
    assert (sums > 0).all()
    assert (sums <= points * 1.5 + 1).all()


@given(st.data())
@fuzz
def test_filters_of_anything(data):
    draw = data.draw
    points, columns = draw(st.integers(1, 60)), draw(st.integers(0, 4))
    values = array_of(draw, (columns, points))
    out, guard = guarded(draw, (columns, points))
    shared = draw(st.sampled_from([None, "same", "beside"]))
    if shared == "same":
        values = out
    elif shared == "beside" and columns:
        values = out[:, ::-1]
    good = {"lattice": lattices(draw, points), "values": values, "out": out, "threads": draw(st.integers(1, 3))}
    before = np.array(values)
    arguments = replaced(draw, good, {**COMMON, "lattice": st.sampled_from([None, 3, native.Lattice.__new__(native.Lattice)])})
    accepted = tried(native.filter, arguments, guard)
    if accepted and arguments["values"] is values and arguments["out"] is out and columns and np.isfinite(before).all():
        expected = np.empty_like(out)
        native.filter(arguments["lattice"], np.ascontiguousarray(before), expected, arguments["threads"])
        np.testing.assert_array_equal(out, expected)


@given(st.data())
@fuzz
def test_mean_fields_of_anything(data):
    draw = data.draw
    points, labels = draw(st.integers(0, 50)), draw(st.integers(1, 20))
    kind = draw(st.sampled_from(["energies", "logits", "probabilities"]))
    unary = array_of(draw, (points, labels), values=(-1, 1) if kind != "probabilities" else (0.01, 1))
    flat, guard = guarded(draw, points * labels)
    out = flat.reshape(points, labels) if draw(st.booleans()) else flat.reshape(labels, points).T
    pairwise = []
    for _ in range(draw(st.integers(0, 2)) if points else 0):
        factor = st.sampled_from([None, None, np.full(points, 0.5, np.float32)])
        compatibility = array_of(draw, draw(st.sampled_from([(labels,), (labels, labels)])), values=(-2, 2))
        term = [lattices(draw, points), draw(factor), draw(factor), compatibility]
        if draw(st.integers(0, 9)) == 0:
            term[draw(st.integers(0, 3))] = draw(odd_arrays())
        pairwise.append(tuple(term) if draw(st.integers(0, 19)) else term[: draw(st.integers(0, 3))])
    marginals = draw(st.sampled_from([None, "given", "out"]))
    marginals = np.full((points, labels), 1 / labels, np.float32) if marginals == "given" else out if marginals == "out" else None
    if marginals is out:
        out[...] = 1 / labels
    good = {"unary": unary, "kind": kind, "pairwise": pairwise, "self_message": draw(st.booleans()), "marginals": marginals, "out": out}
    good |= {"steps": draw(st.integers(0, 4)), "threads": draw(st.integers(1, 3)), "instructions": "best"}
    odd = {"kind": st.sampled_from(["odds", "", None]), "pairwise": st.sampled_from([None, [None], [()], (), [(1, 2, 3, 4)]])}
    odd |= {"self_message": st.sampled_from([None, 2, "yes"]), "steps": st.one_of(st.integers(0, 20), NUMBERS), **COMMON}
    odd |= {"out": st.one_of(odd_arrays(), st.just(unary))}
    arguments = replaced(draw, good, odd)
    if isinstance(arguments["steps"], int) and arguments["steps"] > 20:
        arguments["steps"] = 1001
    accepted = tried(native.mean_field, arguments, guard)
    if accepted and arguments["out"] is out and out.size:
        assert np.isfinite(out).all()
        np.testing.assert_allclose(out.sum(1), 1, atol=1e-4)
        assert (out >= 0).all()


@given(st.data())
@fuzz
def test_pooling_of_anything(data):
    draw = data.draw
    planes, height, width, channels = (draw(st.integers(0, top)) for top in (3, 9, 40, 20))
    if draw(st.booleans()):
        channels = 1
    h, w, b = (height + 1) // 2, (width + 1) // 2, (width + 7) // 8
    pixels, first = guarded(draw, (planes, height, width, channels))
    values, second = guarded(draw, (planes, h, w, channels))
    switches, third = guarded(draw, (planes, h, b, channels), np.uint8)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    for array in (pixels, values):
        array[...] = rng.choice(FLOATS, array.shape)
    switches[...] = rng.integers(0, 256, switches.shape)
    good = {"pixels": pixels, "values": values, "switches": switches, "threads": draw(st.integers(1, 3)), "instructions": "best"}
    odd = {"values": st.one_of(odd_arrays(), st.just(pixels)), "pixels": st.one_of(odd_arrays(), st.just(values)), **COMMON}
    function = draw(st.sampled_from([native.pool, native.scatter, native.gather]))
    arguments = replaced(draw, good, odd)
    if draw(st.integers(0, 4)) == 0:
        arguments = {name: torch.from_numpy(x).bfloat16() if x is pixels or x is values else x for name, x in arguments.items()}
    tried(function, arguments, first, second, third)


BOX_CORNERS = st.one_of(
    st.integers(-12, 30), st.sampled_from([2**20, 2**30, -(2**31), 2**63, 2**70, 0.5, None, np.int64(4), np.float32(2)])
)


@given(st.data())
@fuzz
def test_boxes_of_anything(data):
    draw = data.draw
    height, width, channels, count, h, w = (draw(st.integers(1, top)) for top in (25, 25, 19, 4, 9, 9))
    if draw(st.booleans()):
        channels = 3
    canvas, first = guarded(draw, (height, width, channels))
    maps, second = guarded(draw, (count, h, w, channels))
    canvas[...], maps[...] = 0.5, 0.25
    corners = st.tuples(BOX_CORNERS, BOX_CORNERS, BOX_CORNERS, BOX_CORNERS)
    fitting = st.tuples(st.integers(-9, width - 1), st.integers(-9, height - 1)).flatmap(
        lambda at: st.tuples(
            st.just(at[0]), st.just(at[1]), st.integers(max(at[0], 0) + 1, width + 9), st.integers(max(at[1], 0) + 1, height + 9)
        )
    )
    boxes = [draw(fitting) if draw(st.integers(0, 9)) else draw(corners) for _ in range(count)]
    odd = {"boxes": st.sampled_from([None, [], [None], (), [(0, 0, 1)] * count]), "reduce": st.sampled_from(["mean", "", None]), **COMMON}
    common = {"boxes": boxes, "threads": draw(st.integers(1, 3)), "instructions": "best"}
    if draw(st.booleans()):
        good = {"image": canvas, "out": maps, **common}
        function, written = native.crop, "out"
    else:
        good = {"scores": maps, "canvas": canvas, "reduce": draw(st.sampled_from(["max", "sum"])), "clip": draw(st.booleans()), **common}
        odd["clip"] = st.sampled_from([None, 2])
        function, written = native.paste, "canvas"
    arguments = replaced(draw, good, odd)
    if tried(function, arguments, first, second) and arguments[written] is good[written]:
        assert np.isfinite(good[written]).all()


# ---- what stands before the compiled module: whatever is given, an answer or an UpscoreError ------------------------


def answered(call):
    """Return what a call gives, or None where it is refused in one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return call()
    except UpscoreError as caught:
        line = str(caught)
    assert "\n" not in line
    return None


@given(st.data())
@fuzz
def test_a_crf_of_anything_is_the_same_for_every_engine(data):
    draw = data.draw
    shape, labels = (draw(st.integers(0, 6)), draw(st.integers(1, 6))), draw(st.integers(0, 4))
    probs = array_of(draw, (labels, *shape), values=(0.05, 1))
    if draw(st.integers(0, 5)):
        with np.errstate(all="ignore"):
            probs = probs / probs.sum(0)
    image = array_of(draw, (*shape, 3), values=draw(st.sampled_from([(0, 255), (0, 255), (0, 1), (-2, 2.6), (0, 65535)])))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = image.astype(draw(st.sampled_from(["u1", "u1", "<f4", "<f8", "<f2", "?", "<i8", "<u2", "<c8"])))
        probs = probs.astype(draw(st.sampled_from(["<f4", "<f4", "<f8", "<f2", "u1", "?"])))
    number = st.sampled_from([3.0, 80, 1e-3, 1e-20, 1e-320, 1e20, 0, -1, np.nan, np.inf, None, "3", (3.0, 2.0), True])
    cost = st.sampled_from(
        [3.0, 10, -2, 1e7, 0, np.nan, np.inf, "ten", None, [1.0] * labels, np.eye(labels), np.triu(np.ones((labels, labels)))]
    )
    usual = st.sampled_from([3.0, 80.0])
    kernels = [Gaussian(draw(usual | number), draw(cost)), Bilateral(draw(usual | number), draw(usual | number), draw(cost))]
    kernels = [kernel for kernel in kernels if draw(st.booleans())]
    settings_ = {"iterations": draw(st.one_of(st.integers(0, 3), NUMBERS)), "self_message": draw(st.booleans())}
    if settings_["iterations"] in (256, 257):
        settings_["iterations"] = 5
    kind, channels = draw(st.sampled_from(["probabilities", "logits", "energies", "odds"])), draw(st.sampled_from(["first", None, "last"]))

    def refined(engine):
        return answered(lambda: DenseCRF(kernels, engine=engine, **settings_).refine(probs, image, kind=kind, channels=channels))

    found = {engine: refined(engine) for engine in ("lattice", "numpy_lattice", "torch_lattice", "numpy_exact", "torch_exact")}
    refused = {engine for engine, result in found.items() if result is None}
    assert len(refused) in (0, 5), refused
    for result in found.values():
        if result is not None:
            assert np.isfinite(result).all()
            np.testing.assert_allclose(result.sum(-1 if channels == "last" else 0) if labels != shape[-1] else 1, 1, atol=1e-3)


@given(st.data())
@fuzz
def test_the_drop_in_of_anything(data):
    draw = data.draw
    labels, (height, width) = draw(st.integers(1, 4)), (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    given_probs = draw(st.one_of(odd_arrays(), st.none()))
    probs = array_of(draw, (labels, height, width), values=(0.1, 1))
    with np.errstate(all="ignore"):
        probs = probs / probs.sum(0)

    def run():
        crf = dcrf.DenseCRF2D(draw(st.just(width) | NUMBERS), height, labels)
        crf.setUnaryEnergy(utils.unary_from_softmax(probs if given_probs is None else given_probs))
        crf.addPairwiseGaussian(draw(st.just(3) | NUMBERS), draw(st.just(3) | NUMBERS))
        image = np.zeros((height, width, 3), np.uint8)
        crf.addPairwiseBilateral(80, draw(st.just(13) | NUMBERS), draw(st.just(image) | odd_arrays()), 10)
        steps = draw(st.integers(0, 3) | NUMBERS)
        return crf.inference(5 if steps in (256, 257) else steps)

    result = answered(run)
    if result is not None:
        assert np.isfinite(result).all()
        np.testing.assert_allclose(result.sum(0), 1, atol=1e-4)


LOSSES = [pixel_cross_entropy, focal_loss, hard_pixel_cross_entropy, dice_loss, lovasz_softmax, boundary_loss, Objective()]
LABELS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float32, torch.bool, torch.complex64]


@given(st.data())
@fuzz
def test_losses_of_anything(data):
    draw = data.draw
    classes, shape = draw(st.integers(0, 5)), tuple(draw(st.integers(0, 4)) for _ in range(3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    logits = torch.randn(shape[0], classes, *shape[1:], generator=generator).requires_grad_()
    labels = torch.randint(0, max(classes, 1), shape, generator=generator)
    if labels.numel():
        labels[torch.rand(shape, generator=generator) < 0.2] = 255
        wrong = draw(st.sampled_from([None, None, -1, classes, 254, 256, 2**31, -(2**62)]))
        if wrong is not None:
            labels.view(-1)[draw(st.integers(0, labels.numel() - 1))] = wrong
    typed = labels.to(draw(st.sampled_from(LABELS)))
    loss = draw(st.sampled_from(LOSSES))
    more = {}
    if loss in LOSSES[:3] and draw(st.booleans()):
        weights = torch.ones(draw(st.just(shape) | st.just((*shape, 1))))
        if weights.numel():
            weights.view(-1)[0] = draw(st.sampled_from([1.0, 0.0, -1.0, float("nan"), float("inf")]))
        more["pixel_weights"] = weights.to(draw(st.sampled_from([torch.float32, torch.float64, torch.int64])))
        more["class_weights"] = torch.tensor(
            [draw(st.sampled_from([1.0, 0.0, -1.0, float("nan")]))] * draw(st.just(classes) | st.integers(0, 6))
        )
    result = answered(lambda: loss(logits, typed, **more))
    if result is not None:
        assert result.isfinite()
        result.backward()
        assert logits.grad.isfinite().all()
        again = loss(logits.detach().double(), typed.long(), **more)
        torch.testing.assert_close(result.detach().double(), again, rtol=1e-4, atol=1e-4)


@given(st.data())
@fuzz
def test_metrics_of_anything(data):
    draw = data.draw
    classes = draw(st.integers(1, 4) | NUMBERS)
    pair = [draw(odd_arrays()) for _ in range(2)]
    if draw(st.integers(0, 3)):
        shape = tuple(draw(st.lists(st.integers(0, 5), min_size=1, max_size=3)))
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        pair = [rng.choice([0, 1, 2, 3, 255], shape).astype(draw(st.sampled_from(["u1", "u1", "u1", "<i8"]))) for _ in range(2)]
    for make in (ConfusionMatrix, BorderCounts):
        counts = answered(lambda make=make: make(classes))
        if counts is not None and answered(lambda counts=counts: counts.add(*pair) or True):
            answered(lambda counts=counts: counts.metrics())
    if all(isinstance(one, np.ndarray) for one in pair):
        error = answered(lambda: rand_error(*pair))
        assert error is None or 0 <= error <= 1


@given(st.data())
@fuzz
def test_the_steps_of_networks_of_anything(data):
    draw = data.draw
    shape = tuple(draw(st.integers(0, 9)) for _ in range(draw(st.integers(2, 5))))
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float64, torch.float16, torch.int64, torch.uint8]))
    x = torch.zeros(shape, dtype=dtype)
    x = x.to(memory_format=torch.channels_last) if x.ndim == 4 and draw(st.booleans()) else x
    pooled = answered(lambda: max_pool(x))
    if pooled is not None:
        switches = torch.randint(0, 256, pooled[1].shape, dtype=torch.uint8)
        size = draw(st.just(x.shape[-2:]) | st.tuples(st.integers(0, 20), st.integers(0, 20)))
        back = answered(lambda: max_unpool(pooled[0], draw(st.sampled_from([switches, switches[..., :0], switches.long()])), tuple(size)))
        assert back is None or back.shape[-2:] == tuple(size)
    image = torch.zeros(tuple(draw(st.integers(0, 9)) for _ in range(draw(st.integers(2, 4)))), dtype=dtype)
    boxes = draw(st.lists(st.tuples(BOX_CORNERS, BOX_CORNERS, BOX_CORNERS, BOX_CORNERS), max_size=3))
    if dtype not in (torch.float16, torch.bfloat16):  # torch itself resizes those on a GPU alone
        answered(
            lambda: crop_boxes(image, boxes, draw(st.integers(1, 5) | NUMBERS.filter(lambda side: not isinstance(side, int) or side < 300)))
        )
    canvas = Canvas(2, 9, 9, aggregate="max", clip=False, device=torch.device("cpu"))
    answered(lambda: canvas.add(torch.zeros(len(boxes), draw(st.integers(1, 3)), 3, 3), boxes))


@given(st.data())
@fuzz
def test_features_of_anything_are_numpys(data):
    """Of everything that is taken, the compiled lattice and the one in NumPy give the same."""
    draw = data.draw
    count, channels = draw(st.integers(1, 30)), draw(st.integers(1, 5))
    scale = draw(st.sampled_from([1.0, 100.0, 1e6, 1e9, 1e12, 1e13, 1e300]))
    values = np.round(np.random.default_rng(draw(st.integers(0, 999))).uniform(-scale, scale, (1, count, channels)) * 64) / 64
    values = values.astype(np.float32).astype(np.float64) if scale < 1e38 else values
    if draw(st.integers(0, 4)) == 0:
        values[0, 0, 0] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 0, 1e300]))
    energies = np.random.default_rng(0).normal(size=(3, 1, count)).astype(np.float32)
    kernels = [Features(values, 1.0, compatibility=draw(st.sampled_from([1.0, 10.0])))]
    compiled, plain = (
        answered(lambda e=e: DenseCRF(kernels, engine=e, iterations=2).refine(energies, kind="energies"))
        for e in ("lattice", "numpy_lattice")
    )
    assert (compiled is None) == (plain is None)
    if compiled is not None:
        np.testing.assert_allclose(compiled, plain, atol=1e-4)
