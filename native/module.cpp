// upscore._native: what Python sees of the compiled parts. Anybody can import it, so that everything is checked here too: types, shapes,
// order and alignment in memory, what overlaps what, ranges. What is wrong is a TypeError, ValueError, OverflowError or MemoryError.
// Only this is asked of the caller: arrays that are what they say they are, and that nobody changes during a call.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "box/maps.hpp"
#include "crf/kernels.hpp"
#include "crf/lattice.hpp"
#include "crf/meanfield.hpp"
#include "pool/maps.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using namespace upscore;

namespace {

using Floats = nb::ndarray<const float, nb::device::cpu>;
using Writable = nb::ndarray<float, nb::device::cpu>;
using Numbers = nb::ndarray<nb::device::cpu>;
using Bytes = nb::ndarray<uint8_t, nb::device::cpu>;

constexpr int MOST_LABELS = 1 << 16;
constexpr int MOST_STEPS = 1000;
constexpr int MOST_THREADS = 256;

void expect(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
}

bool means_avx2(const std::string& instructions) {
#ifdef UPSCORE_AVX2
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (instructions == "avx2") {
        expect(avx2, "this processor has no AVX2");
        return true;
    }
    if (instructions == "best" && avx2) return true;
#endif
    expect(instructions == "best" || instructions == "portable", "expected instructions 'best', 'avx2' or 'portable'");
    return false;
}

#ifdef UPSCORE_AVX2
namespace wide_crf = crf::avx2;
namespace wide_pool = pool::avx2;
#else
namespace wide_crf = crf::portable;
namespace wide_pool = pool::portable;
#endif

const crf::Kernels& kernels_of(const std::string& instructions) {
    return means_avx2(instructions) ? wide_crf::kernels : crf::portable::kernels;
}

void check_threads(int threads) { expect(threads >= 1 && threads <= MOST_THREADS, "expected 1 to 256 threads"); }

// Called now and then by what takes long: whoever interrupts is heard.
void heed_signals() {
    nb::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
}

template <class T>
T item_of(nb::handle from, const char* what) {
    T value;
    // NumPy's whole numbers are taken; nothing else is made what it is not.
    expect(nb::try_cast(from, value, std::is_integral_v<T> && PyIndex_Check(from.ptr())), what);
    return value;
}

template <class Array>
void check_alignment(const Array& array, const char* what) {
    expect(array.size() == 0 || reinterpret_cast<uintptr_t>(array.data()) % array.itemsize() == 0, what);
}

// The bytes that an array lies in.
struct Extent {
    __int128 first = 0, end = 0;
};

template <class Array>
Extent extent(const Array& array) {
    if (array.size() == 0) return {};
    const __int128 at = static_cast<__int128>(reinterpret_cast<uintptr_t>(array.data())), item = array.itemsize();
    Extent all{at, at + item};
    for (size_t axis = 0; axis < array.ndim(); ++axis) {
        const __int128 reach = (static_cast<__int128>(array.shape(axis)) - 1) * array.stride(axis) * item;
        (reach < 0 ? all.first : all.end) += reach;
    }
    return all;
}

// Refuse what is written to where it shares memory with what is read.
template <class Written, class Read>
void check_apart(const Written& written, const Read& read) {
    const Extent one = extent(written), other = extent(read);
    expect(one.end <= other.first || other.end <= one.first, "expected room that shares no memory with what is read");
}

template <class One, class Other>
bool same(const One& one, const Other& other) {
    if (static_cast<const void*>(one.data()) != static_cast<const void*>(other.data()) || one.ndim() != other.ndim()) return false;
    for (size_t axis = 0; axis < one.ndim(); ++axis)
        if (one.shape(axis) != other.shape(axis) || (one.shape(axis) > 1 && one.stride(axis) != other.stride(axis))) return false;
    return true;
}

template <class Array>
auto contiguous(const Array& array, const std::vector<int64_t>& shape, const char* what) {
    expect(array.ndim() == shape.size(), what);
    int64_t stride = 1;
    for (size_t axis = shape.size(); axis-- > 0;) {
        const int64_t size = shape[axis];
        expect(static_cast<int64_t>(array.shape(axis)) == size, what);
        if (array.size() == 0) continue;  // where nothing lies, strides mean nothing, and other sides may be of any size
        expect(size <= 1 || array.stride(axis) == stride, what);
        stride *= size;
    }
    check_alignment(array, what);
    return array.data();
}

template <class T, class Array>
crf::Strided<T> strided(const Array& array, int64_t points, int64_t labels, const char* what) {
    expect(array.ndim() == 2 && static_cast<int64_t>(array.shape(0)) == points && static_cast<int64_t>(array.shape(1)) == labels, what);
    check_alignment(array, what);
    return {array.data(), array.stride(0), array.stride(1)};
}

crf::Lattice* lattice_of(const Floats& features, int threads, const std::string& instructions) {
    expect(features.ndim() == 2, "expected features (d, N)");
    const int64_t d = features.shape(0), points = features.shape(1);
    expect(d >= 1 && d <= crf::MOST_DIMENSIONS, "expected 1 to 16 features");
    expect(points >= 1 && points < INT32_MAX / (crf::MOST_DIMENSIONS + 1), "expected 1 to 126 million points");
    expect(points == 1 || features.stride(1) == 1, "expected each feature's values beside one another in memory");
    check_alignment(features, "expected features aligned in memory");
    std::vector<const float*> rows;
    for (int64_t i = 0; i < d; ++i) rows.push_back(features.data() + i * features.stride(0));
    const crf::Kernels& kernels = kernels_of(instructions);
    check_threads(threads);
    nb::gil_scoped_release release;
    Team team(threads);
    return new crf::Lattice(rows, points, team, kernels, heed_signals);
}

void filter(const crf::Lattice& lattice, const Floats& values, const Writable& out, int threads) {
    expect(values.ndim() == 2 && static_cast<int64_t>(values.shape(1)) == lattice.points(), "expected values (C, N)");
    const int64_t columns = values.shape(0), points = lattice.points();
    const float* from = contiguous(values, {columns, points}, "expected contiguous values (C, N)");
    float* to = contiguous(out, {columns, points}, "expected contiguous room (C, N)");
    if (!same(out, values)) check_apart(out, values);
    check_threads(threads);
    nb::gil_scoped_release release;
    Team team(threads);
    for (int64_t c = 0; c < columns; ++c) lattice.filter(from + c * points, to + c * points, team, heed_signals);
}

void mean_field(const Floats& scores, const std::string& kind, const nb::list& messages, bool self_message, const nb::object& belief, const Writable& out,
                int steps, int threads, const std::string& instructions) {
    expect(scores.ndim() == 2, "expected scores (N, K)");
    crf::Problem problem{};
    problem.points = scores.shape(0);
    expect(scores.shape(1) >= 1 && scores.shape(1) <= MOST_LABELS, "expected 1 to 65536 labels");
    problem.labels = static_cast<int>(scores.shape(1));
    problem.scores = strided<const float>(scores, problem.points, problem.labels, "expected scores (N, K)");
    problem.out = strided<float>(out, problem.points, problem.labels, "expected room (N, K)");
    const auto steps_by = [](int64_t stride, int64_t size, int64_t step) { return size <= 1 || stride == step; };
    const bool by_pixel = steps_by(problem.out.label, problem.labels, 1) && steps_by(problem.out.pixel, problem.points, problem.labels);
    const bool by_label = steps_by(problem.out.pixel, problem.points, 1) && steps_by(problem.out.label, problem.labels, problem.points);
    expect(by_pixel || by_label, "expected room without gaps, pixel by pixel or label by label");
    check_apart(out, scores);
    problem.self_message = self_message;
    expect(kind == "energies" || kind == "logits" || kind == "probabilities", "expected kind 'energies', 'logits' or 'probabilities'");
    problem.kind = kind == "energies" ? crf::Kind::energies : kind == "logits" ? crf::Kind::logits : crf::Kind::probabilities;
    Floats given;
    if (!belief.is_none()) {
        given = item_of<Floats>(belief, "expected a belief (N, K) float32");
        problem.belief = strided<const float>(given, problem.points, problem.labels, "expected a belief (N, K)");
        if (!same(out, given)) check_apart(out, given);
    }
    // What the pointers point into, for as long as they do: the list may change when signals are heeded.
    std::vector<Floats> kept;
    std::vector<nb::object> lattices;
    for (nb::handle item : messages) {
        const auto parts = item_of<nb::tuple>(item, "expected messages (lattice, before, after, cost)");
        expect(parts.size() == 4, "expected messages (lattice, before, after, cost)");
        crf::Message message{};
        lattices.push_back(nb::borrow(parts[0]));
        expect(nb::isinstance<crf::Lattice>(parts[0]) && nb::inst_ready(parts[0]), "expected a lattice");
        message.lattice = nb::cast<const crf::Lattice*>(parts[0]);
        expect(message.lattice && message.lattice->points() == problem.points, "expected a lattice of as many points");
        for (int side = 1; side <= 2; ++side)
            if (!parts[side].is_none()) {
                kept.push_back(item_of<Floats>(parts[side], "expected factors (N,) float32"));
                (side == 1 ? message.before : message.after) = contiguous(kept.back(), {problem.points}, "expected a factor for each pixel");
            }
        kept.push_back(item_of<Floats>(parts[3], "expected costs (K,) or (K, K) float32"));
        message.matrix = kept.back().ndim() == 2;
        message.cost = message.matrix ? contiguous(kept.back(), {problem.labels, problem.labels}, "expected costs (K, K)")
                                      : contiguous(kept.back(), {problem.labels}, "expected costs (K,)");
        problem.messages.push_back(message);
    }
    for (const Floats& numbers : kept) {
        expect(std::all_of(numbers.data(), numbers.data() + numbers.size(), [](float x) { return x - x == 0; }), "expected finite factors and costs");
        check_apart(out, numbers);
    }
    expect(steps >= 0 && steps <= MOST_STEPS, "expected 0 to 1000 steps");
    check_threads(threads);
    const crf::Kernels& kernels = kernels_of(instructions);
    nb::gil_scoped_release release;
    Team team(threads);
    crf::mean_field(problem, steps, team, kernels, heed_signals);
}

constexpr nb::dlpack::dtype BRAIN{static_cast<uint8_t>(nb::dlpack::dtype_code::Bfloat), 16, 1};
constexpr uint32_t LOWEST_SINGLE = 0xff800000;  // -infinity
constexpr uint16_t LOWEST_BRAIN = 0xff80;

template <pool::Task task>
void pooling(const Numbers& pixels, const Numbers& values, const Bytes& switches, int threads, const std::string& instructions) {
    expect(pixels.ndim() == 4, "expected pixels (P, H, W, K)");
    const auto size = [&](size_t axis) { return static_cast<int64_t>(pixels.shape(axis)); };
    const pool::Maps maps{size(0), size(1), size(2), size(3)};
    const bool single = pixels.dtype() == nb::dtype<float>();
    expect((single || pixels.dtype() == BRAIN) && values.dtype() == pixels.dtype(), "expected pixels and values of float32 or bfloat16");
    void* at = contiguous(pixels, {maps.planes, maps.height, maps.width, maps.channels}, "expected contiguous pixels (P, H, W, K)");
    void* of = contiguous(values, {maps.planes, maps.rows(), maps.columns(), maps.channels}, "expected contiguous values (P, H/2, W/2, K), rounded up");
    uint8_t* codes =
        contiguous(switches, {maps.planes, maps.rows(), maps.bytes(), maps.channels}, "expected contiguous switches (P, H/2, W/8, K), rounded up");
    if (task == pool::Task::scatter)
        check_apart(pixels, values), check_apart(pixels, switches);
    else
        check_apart(values, pixels), check_apart(values, switches), check_apart(switches, pixels);
    check_threads(threads);
    const pool::Kernels& kernels = means_avx2(instructions) ? wide_pool::kernels : pool::portable::kernels;
    nb::gil_scoped_release release;
    if (single)
        pool::perform(task, maps, static_cast<uint32_t*>(at), static_cast<uint32_t*>(of), codes, LOWEST_SINGLE, threads, kernels);
    else
        pool::perform(task, maps, static_cast<uint16_t*>(at), static_cast<uint16_t*>(of), codes, LOWEST_BRAIN, threads, kernels);
}

// Where a box lies: what it is resized from and to, and the part of it that lies in the picture.
struct Sides {
    int64_t top, left, bottom, right;
};

Sides sides_of(const nb::tuple& box) {
    constexpr const char* WHOLE = "expected a box of whole numbers: left, top, right, bottom";
    expect(box.size() == 4, WHOLE);
    const auto at = [&](size_t place) { return item_of<int64_t>(box[place], WHOLE); };
    const Sides sides{at(1), at(0), at(3), at(2)};
    constexpr int64_t FAR = int64_t{1} << 30;
    expect(-FAR < sides.top && sides.top < sides.bottom && sides.bottom < FAR && -FAR < sides.left && sides.left < sides.right && sides.right < FAR,
           "expected a box that is not empty");
    expect(sides.bottom - sides.top <= box::MOST_SIDE && sides.right - sides.left <= box::MOST_SIDE, "expected a box of at most 1048576 pixels a side");
    return sides;
}

// What of a box lies in a picture.
Sides common(const Sides& box, int64_t height, int64_t width, const char* what) {
    const Sides inside{std::max<int64_t>(box.top, 0), std::max<int64_t>(box.left, 0), std::min(box.bottom, height), std::min(box.right, width)};
    expect(inside.top < inside.bottom && inside.left < inside.right, what);
    return inside;
}

template <int AXES, class Array>
auto pixels_of(const Array& array, const char* what) {
    expect(array.ndim() == AXES, what);
    std::vector<int64_t> shape;
    for (size_t axis = 0; axis < AXES; ++axis) {
        expect(array.shape(axis) >= 1 && array.shape(axis) < INT32_MAX / 2, what);
        shape.push_back(static_cast<int64_t>(array.shape(axis)));
    }
    return contiguous(array, shape, what);
}

std::vector<Sides> boxes_of(const nb::list& boxes, size_t count) {
    expect(boxes.size() == count, "expected a box for each");
    std::vector<Sides> sides;
    for (const nb::handle box : boxes) sides.push_back(sides_of(item_of<nb::tuple>(box, "expected boxes that are tuples of four")));
    return sides;
}

// What maps may be resized to and from.
void check_sides(int64_t rows, int64_t columns) {
    expect(rows <= box::MOST_SIDE && columns <= box::MOST_SIDE, "expected maps of at most 1048576 pixels a side");
}

// Resizes pieces a few at a time, in their order, so that what is kept of each stays little whatever their number and size.
template <class Resize>
class Batch {
  public:
    explicit Batch(const Resize& resize) : resize_(resize) {}

    void add(box::Piece piece) {
        weights_ += piece.down.weights.size() + piece.across.weights.size();
        pieces_.push_back(std::move(piece));
        if (weights_ > MOST_WEIGHTS || pieces_.size() >= MOST_PIECES) finish();
    }
    void finish() {
        if (!pieces_.empty()) resize_(pieces_);
        pieces_.clear(), weights_ = 0;
        heed_signals();
    }

  private:
    static constexpr size_t MOST_WEIGHTS = size_t{1} << 23, MOST_PIECES = 256;
    const Resize& resize_;
    std::vector<box::Piece> pieces_;
    size_t weights_ = 0;
};

auto resize_of(const std::string& instructions) {
#ifdef UPSCORE_AVX2
    if (means_avx2(instructions)) return &box::avx2::resize;
#else
    means_avx2(instructions);
#endif
    return &box::portable::resize;
}

// Cut boxes out of a picture, each resized to its place in `out`; beyond the picture there are zeros.
void cut(const Floats& picture, const nb::list& where, const Writable& out, int threads, const std::string& instructions) {
    const float* from = pixels_of<3>(picture, "expected a contiguous picture (H, W, C)");
    float* to = pixels_of<4>(out, "expected contiguous room (N, h, w, C)");
    const int64_t height = picture.shape(0), width = picture.shape(1), channels = picture.shape(2), rows = out.shape(1), columns = out.shape(2);
    expect(static_cast<int64_t>(out.shape(3)) == channels, "expected as many channels");
    check_sides(rows, columns);
    check_apart(out, picture);
    const std::vector<Sides> boxes = boxes_of(where, out.shape(0));
    for (const Sides& box : boxes) common(box, height, width, "expected boxes that meet the picture");
    const auto resize = resize_of(instructions);
    check_threads(threads);
    nb::gil_scoped_release release;
    Team team(threads);
    const auto write = [&](std::vector<box::Piece>& pieces) {
        const int64_t above = pieces.front().above;
        for (box::Piece& piece : pieces) piece.above -= above;
        resize(pieces, static_cast<int64_t>(pieces.size()) * rows, box::Join::write, false, team);
    };
    Batch batch(write);
    int64_t above = 0;
    for (const Sides& box : boxes) {
        const auto [top, left, bottom, right] = common(box, height, width, "expected boxes that meet the picture");
        batch.add({{from + (top * width + left) * channels, width * channels, right - left, channels},
                          box::taps(box.bottom - box.top, rows, 0, rows, top - box.top, bottom - box.top),
                          box::taps(box.right - box.left, columns, 0, columns, left - box.left, right - box.left),
                   {to + above * columns * channels, columns * channels, rows, columns},
                   above});
        above += rows;
    }
    batch.finish();
}

// Put scores back where boxes lie on a canvas: resized, cut at its edges, and joined with what is there, in order.
void paste(const Floats& scores, const nb::list& where, const Writable& canvas, const std::string& join, bool clip, int threads,
           const std::string& instructions) {
    const float* from = pixels_of<4>(scores, "expected contiguous scores (N, h, w, K)");
    float* to = pixels_of<3>(canvas, "expected a contiguous canvas (H, W, K)");
    const int64_t height = canvas.shape(0), width = canvas.shape(1), channels = canvas.shape(2), rows = scores.shape(1), columns = scores.shape(2);
    expect(static_cast<int64_t>(scores.shape(3)) == channels, "expected as many channels");
    check_sides(rows, columns);
    check_apart(canvas, scores);
    expect(join == "max" || join == "sum", "expected join 'max' or 'sum'");
    const std::vector<Sides> boxes = boxes_of(where, scores.shape(0));
    for (const Sides& box : boxes) common(box, height, width, "expected boxes that meet the canvas");
    const auto resize = resize_of(instructions);
    check_threads(threads);
    nb::gil_scoped_release release;
    Team team(threads);
    const auto write = [&](const std::vector<box::Piece>& pieces) {
        resize(pieces, height, join == "max" ? box::Join::greatest : box::Join::sum, clip, team);
    };
    Batch batch(write);
    int64_t map = 0;
    for (const Sides& box : boxes) {
        const auto [top, left, bottom, right] = common(box, height, width, "expected boxes that meet the canvas");
        batch.add({{from + map++ * rows * columns * channels, columns * channels, columns, channels},
                          box::taps(rows, box.bottom - box.top, top - box.top, bottom - box.top, 0, rows),
                          box::taps(columns, box.right - box.left, left - box.left, right - box.left, 0, columns),
                   {to + (top * width + left) * channels, width * channels, bottom - top, right - left},
                   top});
    }
    batch.finish();
}

}  // namespace

NB_MODULE(_native, module) {
    nb::exception<crf::TooFarApart>(module, "TooFarApart", PyExc_OverflowError);
    nb::class_<crf::Lattice>(module, "Lattice")
        .def_prop_ro("points", &crf::Lattice::points)
        .def_prop_ro("vertices", &crf::Lattice::vertices);
    module.def("lattice", &lattice_of, nb::rv_policy::take_ownership, "features"_a.noconvert(), "threads"_a, "instructions"_a = "best");
    module.def("filter", &filter, "lattice"_a, "values"_a.noconvert(), "out"_a.noconvert(), "threads"_a);
    module.def("mean_field", &mean_field, "scores"_a.noconvert(), "kind"_a, "messages"_a, "self_message"_a, "belief"_a.none(), "out"_a.noconvert(),
               "steps"_a, "threads"_a, "instructions"_a = "best");
    const auto define = [&](const char* name, auto task) {
        module.def(name, task, "pixels"_a.noconvert(), "values"_a.noconvert(), "switches"_a.noconvert(), "threads"_a, "instructions"_a = "best");
    };
    define("pool", &pooling<pool::Task::pool>);
    define("scatter", &pooling<pool::Task::scatter>);
    define("gather", &pooling<pool::Task::gather>);
    module.def("cut", &cut, "picture"_a.noconvert(), "boxes"_a, "out"_a.noconvert(), "threads"_a, "instructions"_a = "best");
    module.def("paste", &paste, "scores"_a.noconvert(), "boxes"_a, "canvas"_a.noconvert(), "join"_a, "clip"_a, "threads"_a, "instructions"_a = "best");
    module.def("available_memory", &available_memory);
    module.def("instructions", [](const std::string& name) { return std::string(kernels_of(name).name); }, "name"_a = "best");
}
