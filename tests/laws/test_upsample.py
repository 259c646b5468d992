"""What must hold for every bilinear upsampling, whatever computes it."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from upscore.ops.geometry import Geometry
from upscore.ops.upsample import BilinearUpsample, bilinear_weights

law = settings(deadline=None, max_examples=60)
factors = st.sampled_from([1, 2, 3, 4, 8, 16, 32])
sizes = st.integers(1, 5)


@st.composite
def layers(draw, channels=3, borders=("zeros", "replicate")):
    factor = draw(factors)
    kernel = draw(st.sampled_from([2 * factor, 2 * factor - 1]))
    return BilinearUpsample(channels, factor=factor, kernel=kernel, border=draw(st.sampled_from(borders)))


def scores(seed, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@law
@given(factors, st.booleans())
def test_taps_that_reach_a_pixel_sum_to_one(factor, even):
    weights = bilinear_weights(2 * factor if even else 2 * factor - 1, factor)
    assert weights.dtype == torch.float64
    assert torch.equal(weights, weights.flip(0))
    for phase in range(factor):
        assert weights[phase::factor].sum() == pytest.approx(1, abs=1e-15)
    assert torch.outer(weights, weights).sum() == pytest.approx(factor**2)


@law
@given(layers(borders=("replicate",)), sizes, sizes, st.integers(-70, 70), st.integers(-70, 70), st.floats(-5, 5))
def test_a_constant_stays_constant_with_replicated_borders(layer, h, w, top, left, value):
    x = torch.full((1, 3, h, w), value, dtype=torch.float64)
    y = layer(x, offset=(top, left), size=(9, 11))
    torch.testing.assert_close(y, torch.full((1, 3, 9, 11), value, dtype=torch.float64), rtol=1e-14, atol=1e-14)


@law
@given(layers(borders=("zeros",)), sizes, sizes)
def test_a_constant_stays_constant_between_cells_and_fades_at_the_border(layer, h, w):
    y = layer(torch.ones(1, 3, h, w, dtype=torch.float64))
    inside = slice(layer.factor, -layer.factor) if layer.kernel > layer.factor else slice(None)
    whole = y[..., inside, inside]
    assert torch.allclose(whole, torch.ones_like(whole), rtol=0, atol=1e-14)
    assert y[0, 0, 0, 0] == pytest.approx(float(bilinear_weights(layer.kernel, layer.factor)[0]) ** 2)


@law
@given(st.integers(1, 5), st.booleans(), st.sampled_from(["zeros", "replicate"]), st.integers(2, 6), st.floats(-3, 3), st.floats(-3, 3))
def test_a_ramp_comes_back_where_it_was(times, pools, border, cells, down, right):
    """Scores that say where their cell lies must say, upsampled, where the pixel lies: half a pixel off would show."""
    geometry = Geometry()
    for _ in range(times):
        geometry = geometry.conv(3, 1, 1).conv(*((2, 2, 0) if pools else (3, 2, 1)))
    factor = 2**times
    kernel = geometry.bilinear_kernel(factor)
    offset = geometry.deconv(kernel, factor).crop_offset(Geometry())
    centres = torch.tensor([float(geometry.offset + i * geometry.stride) for i in range(cells)], dtype=torch.float64)
    x = down * centres[:, None] + right * centres
    size = int(centres[-1] + float(geometry.offset)) + 1
    y = BilinearUpsample(1, factor=factor, kernel=kernel, border=border)(x[None, None], offset=(offset, offset), size=(size, size))[0, 0]
    pixels = torch.arange(size, dtype=torch.float64)
    between = (pixels >= centres[0]) & (pixels <= centres[-1])
    wanted = down * pixels[:, None] + right * pixels
    assert between.sum() > 1
    torch.testing.assert_close(y[between][:, between], wanted[between][:, between], rtol=0, atol=1e-10)


@law
@given(layers(), sizes, sizes, st.integers(-40, 40), st.integers(-40, 40), st.integers(0, 30), st.integers(0, 30), st.integers(0, 99))
def test_any_window_is_cut_from_one_plane(layer, h, w, top, left, rows, columns, seed):
    x = scores(seed, 2, 3, h, w)
    plane = layer(x, offset=(-50, -50), size=(130, 130))
    window = layer(x, offset=(top, left), size=(rows, columns))
    assert window.shape == (2, 3, rows, columns)
    assert window.is_contiguous()
    torch.testing.assert_close(window, plane[..., top + 50 : top + 50 + rows, left + 50 : left + 50 + columns], rtol=0, atol=1e-14)


@law
@given(layers(channels=4), sizes, sizes, st.integers(0, 99), st.permutations(range(4)))
def test_classes_never_mix(layer, h, w, seed, order):
    x = scores(seed, 1, 4, h, w)
    assert torch.equal(layer(x[:, order]), layer(x)[:, order])
    alone = x.clone()
    alone[:, 1:] = 0
    assert torch.equal(layer(alone)[:, :1], layer(x)[:, :1])
    assert not layer(alone)[:, 1:].any()


@law
@given(layers(), sizes, sizes, st.integers(0, 99), st.floats(-2, 2))
def test_upsampling_is_linear(layer, h, w, seed, scale):
    x, y = scores(seed, 2, 1, 3, h, w)
    torch.testing.assert_close(layer(x + scale * y), layer(x) + scale * layer(y), rtol=0, atol=1e-12)


@law
@given(layers(), sizes, sizes, st.integers(-20, 20), st.integers(-20, 20), st.integers(0, 99))
def test_the_gradient_is_the_transposed_map(layer, h, w, top, left, seed):
    """<upsample(x), g> == <x, gradient(g)>, for the learned layer too."""
    x = scores(seed, 1, 3, h, w).requires_grad_()
    g = scores(seed + 1, 1, 3, 23, 19)
    y = layer(x, offset=(top, left), size=(23, 19))
    (gradient,) = torch.autograd.grad(y, x, g)
    torch.testing.assert_close((y * g).sum(), (x * gradient).sum(), rtol=1e-10, atol=1e-10)


@law
@given(layers(), sizes, sizes, st.integers(-20, 20), st.integers(-20, 20), st.integers(0, 99))
def test_a_learned_layer_starts_as_the_frozen_one(layer, h, w, top, left, seed):
    learned = BilinearUpsample(3, factor=layer.factor, kernel=layer.kernel, learned=True, border=layer.border).double()
    x = scores(seed, 2, 3, h, w)
    window = {"offset": (top, left), "size": (21, 17)}
    rounded = 2**-24 * float(x.abs().max())  # its weights are float32's, and those of a pixel add up to 1 at most
    torch.testing.assert_close(learned(x, **window), layer(x, **window), rtol=0, atol=rounded)
    assert learned(x).shape == layer(x).shape


@law
@given(layers(), sizes, sizes, st.integers(-20, 20), st.integers(-20, 20), st.integers(0, 99))
def test_the_matrix_product_gives_the_same(layer, h, w, top, left, seed):
    """Other devices and exported graphs multiply by a matrix."""
    x = scores(seed, 2, 3, h, w)
    window = {"offset": (top, left), "size": (21, 17)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        product = layer(x, **window)
    torch.testing.assert_close(product, layer(x, **window), rtol=0, atol=1e-13)


def test_layers_of_one_grid_compose_as_geometry_says():
    grid = Geometry(Fraction(8), Fraction(7, 2))
    finer = grid.deconv(4, 2).deconv(8, 4)
    assert finer.stride == 1
    x = scores(0, 1, 1, 3, 3)
    y = BilinearUpsample(1, factor=4)(BilinearUpsample(1, factor=2)(x))
    assert y.shape[-1] == ((3 - 1) * 2 + 4 - 1) * 4 + 8
