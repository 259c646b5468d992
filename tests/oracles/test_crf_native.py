"""The compiled lattice against the one in NumPy, and its checks against wrong arguments."""

import contextlib
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upscore.crf import Bilateral, DenseCRF, Features, Gaussian
from upscore.crf.engines import make_engine
from upscore.crf.engines.native_lattice import NativeEngine, NativePairwise
from upscore.crf.engines.numpy_lattice import NumpyLattice
from upscore.crf.engines.numpy_meanfield import NumpyEngine
from upscore.crf.unary import Unary
from upscore.errors import CRFError

native = pytest.importorskip("upscore._native", reason="upscore was installed without a compiler")

INSTRUCTIONS = ["portable", *(["avx2"] if native.instructions() == "avx2" else [])]


def problem(classes, shape, dimensions, seed=0):
    """Return energies (N, K) and features (N, d) that are near one another in places."""
    rng = np.random.default_rng(seed)
    pixels = int(np.prod(shape))
    energy = rng.normal(size=(pixels, classes)).astype(np.float32) * 2
    return energy, rng.normal(0, 1.5, (pixels, dimensions)).cumsum(0) % 3


def infer(engine, values, kind, features, *, cost, normalization="symmetric", self_message=True, steps=3):
    pairwise = [engine.pairwise(f, np.asarray(cost, np.float64), normalization) for f in features]
    mean_field = engine.mean_field(Unary(values, kind), pairwise, self_message=self_message)
    return mean_field.to_array(mean_field.advance(None, steps))


NUMPY = NumpyEngine(NumpyLattice, np.float32)


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("classes", [1, 2, 3, 4, 5, 8, 9, 16, 21, 24, 33, 70])
def test_every_number_of_labels_gives_numpys_answer(instructions, threads, classes):
    energy, features = problem(classes, (4229,), 3)  # no multiple of a tile, a block or a thread's share
    arguments = {"cost": -np.linspace(0.5, 2, classes), "features": (features[:, :2], features)}
    expected = infer(NUMPY, energy, "energies", **arguments)
    found = infer(NativeEngine(threads, instructions), energy, "energies", **arguments)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    flipped = np.asfortranarray(energy)
    np.testing.assert_array_equal(infer(NativeEngine(threads, instructions), flipped, "energies", **arguments), found)


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize("dimensions", [1, 2, 3, 4, 5, 6, 9, 16])
@pytest.mark.parametrize("normalization", ["symmetric", "before", "after", "none"])
@pytest.mark.parametrize("self_message", [True, False])
def test_every_dimension_and_normalization_gives_numpys_answer(instructions, dimensions, normalization, self_message):
    energy, features = problem(6, (301,), dimensions)
    matrix = np.ones((6, 6)) - np.eye(6) + 0.1
    for cost in (-np.full(6, 0.3), matrix * 0.3):
        arguments = {"features": (features,), "cost": cost, "normalization": normalization, "self_message": self_message}
        expected = infer(NUMPY, energy, "energies", **arguments)
        np.testing.assert_allclose(infer(NativeEngine(2, instructions), energy, "energies", **arguments), expected, atol=2e-5)


@pytest.mark.parametrize("kind", ["probabilities", "logits", "energies"])
def test_every_kind_of_scores_gives_numpys_answer(kind):
    energy, features = problem(7, (500,), 2)
    probs = np.exp(-energy) / np.exp(-energy).sum(1, keepdims=True)
    probs[3], probs[4] = np.eye(7)[2], 0  # sure, and below what a probability counts for
    probs[4, :2] = 0.5
    values = {"probabilities": probs.astype(np.float32), "logits": -energy * 40, "energies": energy * 40}[kind]
    arguments = {"features": (features,), "cost": -np.full(7, 4.0)}
    expected = infer(NUMPY, values, kind, **arguments)
    np.testing.assert_allclose(infer(NativeEngine(1), values, kind, **arguments), expected, atol=2e-5)


def test_the_same_threads_give_the_same_bits_and_others_nearly_the_same():
    energy, features = problem(21, (9000,), 5)
    runs = {
        threads: [infer(NativeEngine(threads), energy, "energies", (features,), cost=-np.full(21, 2.0)) for _ in range(3)]
        for threads in (1, 2, 5)
    }
    for again in runs.values():
        np.testing.assert_array_equal(again[0], again[1])
        np.testing.assert_array_equal(again[0], again[2])
    for threads in (2, 5):
        np.testing.assert_allclose(runs[threads][0], runs[1][0], atol=1e-5)


def test_vertices_are_numbered_alike_by_any_number_of_threads():
    _, features = problem(1, (20000,), 5)
    rows = np.ascontiguousarray(features.T, np.float32)
    assert len({native.lattice(rows, threads).vertices for threads in (1, 2, 7)}) == 1


def test_codes_of_more_than_64_bits_give_numpys_answer():
    energy, features = problem(3, (400,), 5)
    features = np.round(features * 64) / 64  # as exact in single precision
    features[200:] += 40000.0  # five coordinates of 17 bits
    arguments = {"features": (features,), "cost": -np.full(3, 2.0)}
    assert isinstance(NativeEngine(1).pairwise(features, -np.ones(3), "none"), NativePairwise)
    np.testing.assert_allclose(
        infer(NativeEngine(1), energy, "energies", **arguments), infer(NUMPY, energy, "energies", **arguments), atol=2e-5
    )


def test_features_too_far_apart_for_it_are_numpys():
    energy, features = problem(3, (50,), 5)
    features[25:] += 1e12
    engine = NativeEngine(1)
    assert not isinstance(engine.pairwise(features, -np.ones(3), "symmetric"), NativePairwise)
    arguments = {"features": (features, features[:, :2] % 3), "cost": -np.ones(3)}
    found = infer(engine, energy, "energies", **arguments)
    np.testing.assert_allclose(found, infer(NUMPY, energy, "energies", **arguments), atol=1e-6)


@pytest.mark.parametrize("far", [1e30, 1e300])
def test_features_too_far_apart_for_anything_are_one_line(far):
    _, features = problem(3, (50,), 5)
    features[25:] += far
    with pytest.raises(CRFError, match="too far apart"):
        NativeEngine(1).pairwise(features, -np.ones(3), "symmetric")


def test_it_is_the_default_and_numpy_takes_its_place_where_it_is_missing(monkeypatch):
    assert isinstance(make_engine("lattice"), NativeEngine)
    rng = np.random.default_rng(0)
    probs, image = rng.dirichlet(np.ones(4), (20, 31)).transpose(2, 0, 1), rng.integers(0, 256, (20, 31, 3), np.uint8)
    found = DenseCRF().refine(probs, image)
    monkeypatch.setitem(sys.modules, "upscore._native", None)
    monkeypatch.delattr("upscore._native", raising=False)
    assert isinstance(make_engine("lattice"), NumpyEngine)
    np.testing.assert_allclose(DenseCRF().refine(probs, image), found, atol=5e-5)


def test_asked_for_by_name_it_is_refused_in_one_line_where_it_is_missing(monkeypatch):
    assert isinstance(make_engine("native_lattice", threads=3), NativeEngine)
    assert make_engine("native_lattice", threads=3).threads == 3
    monkeypatch.setitem(sys.modules, "upscore._native", None)
    monkeypatch.delattr("upscore._native", raising=False)
    with pytest.raises(CRFError, match=r"'native_lattice' was not compiled: .*, or use 'lattice'"):
        DenseCRF(engine="native_lattice").refine(np.full((2, 3, 4), 0.5), np.zeros((3, 4, 3), np.uint8))


def test_two_threads_of_python_refine_at_the_same_time():
    rng = np.random.default_rng(0)
    probs, image = rng.dirichlet(np.ones(5), (60, 80)).transpose(2, 0, 1), rng.integers(0, 256, (60, 80, 3), np.uint8)
    crf = DenseCRF(threads=2)
    expected, found = crf.refine(probs, image), {}
    workers = [threading.Thread(target=lambda k=k: found.update({k: crf.refine(probs, image)})) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for result in found.values():
        np.testing.assert_array_equal(result, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_it_refines_in_a_forked_process():
    probe = """
import os, numpy as np
from upscore.crf import DenseCRF
rng = np.random.default_rng(0)
probs, image = rng.dirichlet(np.ones(3), (50, 60)).transpose(2, 0, 1), rng.integers(0, 256, (50, 60, 3), np.uint8)
expected = DenseCRF(threads=2).refine(probs, image)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(DenseCRF(threads=2).refine(probs, image), expected) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", probe], timeout=60, check=False).returncode == 0


def test_where_no_thread_can_be_had_one_does_the_work():
    probe = """
import resource, numpy as np
from upscore.crf import DenseCRF
rng = np.random.default_rng(0)
probs, image = rng.dirichlet(np.ones(3), (80, 90)).transpose(2, 0, 1), rng.integers(0, 256, (80, 90, 3), np.uint8)
expected = DenseCRF(threads=2).refine(probs, image)
import os
os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
assert np.array_equal(DenseCRF(threads=2).refine(probs, image), expected)
"""
    if not hasattr(os, "getuid") or os.getuid() != 0:
        pytest.skip("only root can give up the right to threads in a test")
    ran = subprocess.run([sys.executable, "-c", probe], timeout=60, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals are another matter there")
def test_it_can_be_interrupted():
    probe = """
import signal
import numpy as np
from upscore.crf import DenseCRF
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let what they start in the background ignore it
probs = np.full((21, 300, 300), 1 / 21, np.float32)
DenseCRF().refine(probs[:, :2, :2], np.zeros((2, 2, 3), np.uint8))  # loaded, since an interrupt during an import may be lost
try:
    print("begun", flush=True)
    DenseCRF(iterations=1000, threads=2).refine(probs, np.zeros((300, 300, 3), np.uint8))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", probe], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        printed, complaint = process.communicate(timeout=60)
        assert (printed, complaint, process.returncode) == ("interrupted\n", "", 0)


ARRAYS = st.one_of(
    st.none(),
    st.just("text"),
    st.builds(
        lambda shape, dtype, order, step: np.zeros(shape, dtype, order=order)[::step],
        st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple),
        st.sampled_from([np.float32, np.float64, np.int32, np.float16]),
        st.sampled_from("CF"),
        st.sampled_from([1, 2, -1]),
    ),
)
NUMBERS = st.one_of(st.integers(-3, 5), st.sampled_from([2**31, -(2**40), 10**9, 1.5, None]))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_strange_arguments_are_refused_and_never_crash(data):
    lattice = native.lattice(np.zeros((2, 9), np.float32), 1)
    array, number = (lambda: data.draw(ARRAYS)), (lambda: data.draw(NUMBERS))
    cost = data.draw(st.sampled_from([np.zeros(3, np.float32), np.zeros((3, 3), np.float32), None, np.zeros(2, np.float32)]))
    message = data.draw(st.sampled_from([(lattice, None, None, cost), (lattice, np.ones(9, np.float32), None, cost), (lattice,), None, ()]))
    calls = [
        lambda: native.lattice(array(), number(), data.draw(st.sampled_from(["best", "portable", "", None]))),
        lambda: native.filter(data.draw(st.sampled_from([lattice, None])), array(), array(), number()),
        lambda: native.mean_field(
            data.draw(st.sampled_from([np.zeros((9, 3), np.float32), None])) if data.draw(st.booleans()) else array(),
            data.draw(st.sampled_from(["energies", "odds"])), [message], True, array(), np.zeros((9, 3), np.float32), number(), number(),
        ),
    ]  # fmt: skip
    with contextlib.suppress(ValueError, TypeError, OverflowError, RuntimeError):
        data.draw(st.sampled_from(calls))()


@pytest.mark.parametrize("kernels", [(Gaussian(),), (Bilateral(),), (Features(np.zeros((1, 1, 4)), 1.0),), ()])
def test_one_pixel(kernels):
    refined = DenseCRF(kernels).refine(np.full((2, 1, 1), 0.5, np.float32), np.zeros((1, 1, 3), np.uint8))
    np.testing.assert_allclose(refined, 0.5, atol=1e-6)


# ---- what the module refuses by itself, whoever calls it ------------------------------------------------------------


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("place", [0, 1, 4999, 8999])
def test_a_position_that_is_not_a_number_is_refused_wherever_it_is(instructions, threads, place):
    features = np.random.default_rng(0).normal(size=(3, 9000)).astype(np.float32)
    features[1, place] = np.nan
    with pytest.raises(ValueError, match="expected finite features"):
        native.lattice(features, threads, instructions)
    features[1, place] = -np.inf
    with pytest.raises(native.TooFarApart):
        native.lattice(features, threads, instructions)


def raised_to(coordinates):
    """Return features (d,) whose first d coordinates in the lattice's plane, in cells, are these; the last is what sums to zero."""
    d = len(coordinates)
    raised = np.append(coordinates, -np.sum(coordinates)) * (d + 1)
    scaled, total = np.zeros(d), 0.0
    for j in range(d, 0, -1):
        scaled[j - 1] = (total - raised[j]) / j
        total += scaled[j - 1]
    i = np.arange(d)
    return scaled / (np.sqrt(2 / 3) * (d + 1) / np.sqrt((i + 1) * (i + 2)))


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize("dimensions", [2, 5, 9, 16])
def test_a_coordinate_beyond_32_bits_is_too_far_though_the_others_are_not(instructions, dimensions):
    far = raised_to(np.full(dimensions, 0.9e9 if dimensions > 2 else 0.99e9)).astype(np.float32)[:, None] + np.zeros((1, 40), np.float32)
    with pytest.raises(native.TooFarApart):
        native.lattice(far, 1, instructions)


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize("dimensions", [4, 5, 9])
def test_coordinates_whose_sums_wrap_on_their_way_give_numpys_answer(instructions, dimensions):
    signs = np.where(np.arange(dimensions) < dimensions // 2, 1, -1) * 0.8e9
    signs[-1] = 0
    features = raised_to(signs).astype(np.float32) + np.zeros((60, 1), np.float32)
    energy, _ = problem(3, (60,), 2)
    arguments = {"features": (features,), "cost": -np.ones(3)}
    engine = NativeEngine(1, instructions)
    assert isinstance(engine.pairwise(features, -np.ones(3), "none"), NativePairwise)
    np.testing.assert_allclose(infer(engine, energy, "energies", **arguments), infer(NUMPY, energy, "energies", **arguments), atol=2e-5)


LATTICE = native.lattice(np.zeros((2, 9), np.float32), 1)
COSTS = np.ones(3, np.float32)


def mean_field(unary, out, *, pairwise=((LATTICE, None, None, COSTS),), marginals=None, steps=2):
    native.mean_field(unary, "energies", [*pairwise], True, marginals, out, steps, 1)


def numbers(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def misaligned(array):
    raw = np.zeros(array.nbytes + 1, np.uint8)
    raw[1:].view(array.dtype).reshape(array.shape)[...] = array
    return raw[1:].view(array.dtype).reshape(array.shape)


BOTH = np.zeros((2, 9, 3), np.float32)
HOLES = np.zeros((9, 6), np.float32)[:, ::2]
NAN, LARGE = np.full((9, 3), np.nan, np.float32), np.zeros((4, 9), np.float32)
REFUSED = {
    "a unary of doubles": lambda: mean_field(numbers(9, 3).astype(float), numbers(9, 3)),
    "an output of doubles, which would be written to in a copy": lambda: mean_field(numbers(9, 3), numbers(9, 3).astype(float)),
    "filtered into doubles": lambda: native.filter(LATTICE, numbers(1, 9), numbers(1, 9).astype(float), 1),
    "a read-only output": lambda: mean_field(numbers(9, 3), np.broadcast_to(np.float32(0), (9, 3))),
    "an output that is one number": lambda: mean_field(numbers(9, 3), np.lib.stride_tricks.as_strided(numbers(1), (9, 3), (0, 0))),
    "an output with gaps": lambda: mean_field(numbers(9, 3), HOLES),
    "an output that is the unary": lambda: mean_field(BOTH[0], BOTH[0]),
    "an output that overlaps the unary": lambda: mean_field(BOTH.reshape(18, 3)[:9], BOTH.reshape(18, 3)[4:13]),
    "an output that overlaps the marginals": lambda: mean_field(
        numbers(9, 3), BOTH.reshape(18, 3)[:9], marginals=BOTH.reshape(18, 3)[4:13]
    ),
    "filtering into an overlapping array": lambda: native.filter(LATTICE, LARGE[:2], LARGE[1:3], 1),
    "a misaligned unary": lambda: mean_field(misaligned(numbers(9, 3)), numbers(9, 3)),
    "misaligned features": lambda: native.lattice(misaligned(numbers(2, 9)), 1),
    "a unary that is not finite": lambda: mean_field(NAN, numbers(9, 3)),
    "marginals that are not finite": lambda: mean_field(numbers(9, 3), numbers(9, 3), marginals=NAN),
    "compatibilities that are not finite": lambda: mean_field(
        numbers(9, 3), numbers(9, 3), pairwise=[(LATTICE, None, None, COSTS * np.nan)]
    ),
    "factors that are not finite": lambda: mean_field(numbers(9, 3), numbers(9, 3), pairwise=[(LATTICE, NAN[:, 0].copy(), None, COSTS)]),
    "a lattice that was never made": lambda: mean_field(
        numbers(9, 3), numbers(9, 3), pairwise=[(native.Lattice.__new__(native.Lattice), None, None, COSTS)]
    ),
    "a unary of the other byte order": lambda: mean_field(numbers(9, 3).astype(">f4"), numbers(9, 3)),
    "a million threads": lambda: native.lattice(numbers(2, 9), 10**6),
    "no thread": lambda: native.lattice(numbers(2, 9), 0),
    "no points": lambda: native.lattice(numbers(2, 0), 1),
    "17 features": lambda: native.lattice(numbers(17, 9), 1),
    "points without end": lambda: native.lattice(np.lib.stride_tricks.as_strided(numbers(1), (2, 2**40), (0, 4)), 1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_module_refuses(name):
    with pytest.raises((ValueError, TypeError)):
        REFUSED[name]()


def test_what_may_be_the_same_memory_is():
    marginals = np.full((9, 3), 1 / 3, np.float32)
    expected, given = np.empty_like(marginals), marginals.copy()
    mean_field(numbers(9, 3), expected, marginals=given)
    mean_field(numbers(9, 3), marginals, marginals=marginals)
    np.testing.assert_array_equal(marginals, expected)
    values, filtered = numbers(2, 9), np.empty((2, 9), np.float32)
    native.filter(LATTICE, values, filtered, 1)
    native.filter(LATTICE, values, values, 1)
    np.testing.assert_array_equal(values, filtered)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timer")
def test_signals_are_handled_while_a_lattice_is_built_and_filters():
    """More than once within one call: signals that come between two checks are handled once, at the next."""
    features = np.random.default_rng(0).uniform(0, 9, (2, 3 << 20)).astype(np.float32)
    values = np.ones((1, 3 << 20), np.float32)
    handled = []
    before = signal.signal(signal.SIGALRM, lambda *_: handled.append(None))
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)
        lattice = native.lattice(features, 1)
        while_built = len(handled)
        native.filter(lattice, values, values, 1)
        while_filtering = len(handled) - while_built
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert while_built > 2
    assert while_filtering > 2


def test_a_list_that_a_signal_handler_empties_stays_in_use():
    probe = """
import gc, signal
import numpy as np
from upscore import _native as native
pairwise = [(native.lattice(np.random.default_rng(0).normal(size=(2, 50_000)).astype(np.float32), 1), None, None, np.ones(3, np.float32))]
signal.signal(signal.SIGALRM, lambda *_: (pairwise.clear(), gc.collect(), [np.ones(300_000, np.float32) for _ in range(9)]))
signal.setitimer(signal.ITIMER_REAL, 0.02)
unary, out = np.zeros((50_000, 3), np.float32), np.empty((50_000, 3), np.float32)
native.mean_field(unary, "energies", pairwise, True, None, out, 60, 1)
assert not pairwise and np.allclose(out.sum(1), 1), "emptied, and the sums are right"
"""
    if not hasattr(signal, "setitimer"):
        pytest.skip("this system has no such timer")
    ran = subprocess.run([sys.executable, "-c", probe], timeout=120, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.skipif(not np.isfinite(native.available_memory()), reason="this system does not say how much memory it has")
def test_more_memory_than_there_is_is_refused_before_it_is_asked_for():
    """Buffers of two lattices, each of which could be had alone; Linux would promise both, and stop the process that writes to them."""
    probe = """
import numpy as np
from upscore import _native as native
labels, most = 1 << 16, native.available_memory()
points = max(8, int(0.75 * most / (2 * labels * 4)) // 6)
far = np.stack([np.arange(points) * 50.0, *np.zeros((4, points))]).astype(np.float32)
lattice = native.lattice(far, 1)
assert lattice.vertices == 6 * points
unary, costs = np.broadcast_to(np.float32(0), (points, labels)), np.ones(labels, np.float32)
try:
    pairwise = [(lattice, None, None, costs)] * 2
    native.mean_field(unary, "energies", pairwise, True, None, np.empty((points, labels), np.float32), 1, 1)
except MemoryError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", probe], timeout=120, check=False, capture_output=True, text=True)
    assert (ran.stdout, ran.returncode) == ("this takes more memory than is available\n", 0), ran.stderr
