"""The compiled lattice against the one in NumPy, and its doors against strangers."""

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
from upscore.crf.engines import engine_of
from upscore.crf.engines.arrays import ArrayEngine
from upscore.crf.engines.native import NativeEngine, NativeMessage
from upscore.crf.engines.portable import LatticeFilter
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


def believed(engine, values, kind, features, *, cost, normalization="symmetric", self_message=True, steps=3):
    messages = [engine.message(f, np.asarray(cost, np.float64), normalization) for f in features]
    field = engine.field(Unary(values, kind), messages, self_message=self_message)
    return field.array(field.advance(None, steps))


PORTABLE = ArrayEngine(LatticeFilter, np.float32)


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("classes", [1, 2, 3, 4, 5, 8, 9, 16, 21, 24, 33, 70])
def test_every_number_of_labels_gives_numpys_answer(instructions, threads, classes):
    energy, features = problem(classes, (4229,), 3)  # no multiple of a tile, a block or a thread's share
    arguments = {"cost": -np.linspace(0.5, 2, classes), "features": (features[:, :2], features)}
    expected = believed(PORTABLE, energy, "energies", **arguments)
    found = believed(NativeEngine(threads, instructions), energy, "energies", **arguments)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    flipped = np.asfortranarray(energy)
    np.testing.assert_array_equal(believed(NativeEngine(threads, instructions), flipped, "energies", **arguments), found)


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize("dimensions", [1, 2, 3, 4, 5, 6, 9, 16])
@pytest.mark.parametrize("normalization", ["symmetric", "before", "after", "none"])
@pytest.mark.parametrize("self_message", [True, False])
def test_every_dimension_and_normalization_gives_numpys_answer(instructions, dimensions, normalization, self_message):
    energy, features = problem(6, (301,), dimensions)
    matrix = np.ones((6, 6)) - np.eye(6) + 0.1
    for cost in (-np.full(6, 0.3), matrix * 0.3):
        arguments = {"features": (features,), "cost": cost, "normalization": normalization, "self_message": self_message}
        expected = believed(PORTABLE, energy, "energies", **arguments)
        np.testing.assert_allclose(believed(NativeEngine(2, instructions), energy, "energies", **arguments), expected, atol=2e-5)


@pytest.mark.parametrize("kind", ["probabilities", "logits", "energies"])
def test_every_kind_of_scores_gives_numpys_answer(kind):
    energy, features = problem(7, (500,), 2)
    probs = np.exp(-energy) / np.exp(-energy).sum(1, keepdims=True)
    probs[3], probs[4] = np.eye(7)[2], 0  # sure, and below what a probability counts for
    probs[4, :2] = 0.5
    values = {"probabilities": probs.astype(np.float32), "logits": -energy * 40, "energies": energy * 40}[kind]
    arguments = {"features": (features,), "cost": -np.full(7, 4.0)}
    expected = believed(PORTABLE, values, kind, **arguments)
    np.testing.assert_allclose(believed(NativeEngine(1), values, kind, **arguments), expected, atol=2e-5)


def test_the_same_threads_give_the_same_bits_and_others_nearly_the_same():
    energy, features = problem(21, (9000,), 5)
    runs = {
        threads: [believed(NativeEngine(threads), energy, "energies", (features,), cost=-np.full(21, 2.0)) for _ in range(3)]
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
    assert isinstance(NativeEngine(1).message(features, -np.ones(3), "none"), NativeMessage)
    np.testing.assert_allclose(
        believed(NativeEngine(1), energy, "energies", **arguments), believed(PORTABLE, energy, "energies", **arguments), atol=2e-5
    )


def test_features_too_far_apart_for_it_are_numpys():
    energy, features = problem(3, (50,), 5)
    features[25:] += 1e12
    engine = NativeEngine(1)
    assert not isinstance(engine.message(features, -np.ones(3), "symmetric"), NativeMessage)
    arguments = {"features": (features, features[:, :2] % 3), "cost": -np.ones(3)}
    found = believed(engine, energy, "energies", **arguments)
    np.testing.assert_allclose(found, believed(PORTABLE, energy, "energies", **arguments), atol=1e-6)


@pytest.mark.parametrize("far", [1e30, 1e300])
def test_features_too_far_apart_for_anything_are_one_line(far):
    _, features = problem(3, (50,), 5)
    features[25:] += far
    with pytest.raises(CRFError, match="too far apart"):
        NativeEngine(1).message(features, -np.ones(3), "symmetric")


def test_it_is_the_default_and_numpy_takes_its_place_where_it_is_missing(monkeypatch):
    assert isinstance(engine_of("lattice"), NativeEngine)
    rng = np.random.default_rng(0)
    probs, picture = rng.dirichlet(np.ones(4), (20, 31)).transpose(2, 0, 1), rng.integers(0, 256, (20, 31, 3), np.uint8)
    found = DenseCRF().refine(probs, picture)
    monkeypatch.setitem(sys.modules, "upscore._native", None)
    monkeypatch.delattr("upscore._native", raising=False)
    assert isinstance(engine_of("lattice"), ArrayEngine)
    np.testing.assert_allclose(DenseCRF().refine(probs, picture), found, atol=5e-5)


def test_two_threads_of_python_refine_at_the_same_time():
    rng = np.random.default_rng(0)
    probs, picture = rng.dirichlet(np.ones(5), (60, 80)).transpose(2, 0, 1), rng.integers(0, 256, (60, 80, 3), np.uint8)
    crf = DenseCRF(threads=2)
    expected, found = crf.refine(probs, picture), {}
    workers = [threading.Thread(target=lambda k=k: found.update({k: crf.refine(probs, picture)})) for k in range(4)]
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
probs, picture = rng.dirichlet(np.ones(3), (50, 60)).transpose(2, 0, 1), rng.integers(0, 256, (50, 60, 3), np.uint8)
expected = DenseCRF(threads=2).refine(probs, picture)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(DenseCRF(threads=2).refine(probs, picture), expected) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", probe], timeout=60, check=False).returncode == 0


def test_where_no_thread_can_be_had_one_does_the_work():
    probe = """
import resource, numpy as np
from upscore.crf import DenseCRF
rng = np.random.default_rng(0)
probs, picture = rng.dirichlet(np.ones(3), (80, 90)).transpose(2, 0, 1), rng.integers(0, 256, (80, 90, 3), np.uint8)
expected = DenseCRF(threads=2).refine(probs, picture)
import os
os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
assert np.array_equal(DenseCRF(threads=2).refine(probs, picture), expected)
"""
    if not hasattr(os, "getuid") or os.getuid() != 0:
        pytest.skip("only root can give up the right to threads in a test")
    ran = subprocess.run([sys.executable, "-c", probe], timeout=60, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals are another matter there")
def test_who_interrupts_it_is_heard():
    probe = """
import signal
import numpy as np
from upscore.crf import DenseCRF
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let what they start in the background ignore it
probs = np.full((21, 300, 300), 1 / 21, np.float32)
DenseCRF().refine(probs[:, :2, :2], np.zeros((2, 2, 3), np.uint8))  # loaded, since whoever interrupts an import may not be heard
try:
    print("begun", flush=True)
    DenseCRF(iterations=1000, threads=2).refine(probs, np.zeros((300, 300, 3), np.uint8))
except KeyboardInterrupt:
    print("heard", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", probe], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        said, complaint = process.communicate(timeout=60)
        assert (said, complaint, process.returncode) == ("heard\n", "", 0)


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
