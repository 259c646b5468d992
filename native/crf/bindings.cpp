// The dense CRF for Python: lattice, filter, mean_field.
#include <algorithm>
#include <string>
#include <vector>

#include "../arguments.hpp"
#include "kernels.hpp"
#include "lattice.hpp"
#include "meanfield.hpp"

namespace upscore::crf {

namespace {

constexpr int MAX_LABELS = 1 << 16;
constexpr int MAX_STEPS = 1000;

const Kernels& select_kernels(const std::string& instructions) {
#ifdef UPSCORE_AVX2
    if (use_avx2(instructions)) return avx2::kernels;
#else
    use_avx2(instructions);
#endif
    return portable::kernels;
}

template <class T, class Array>
Strided<T> strided(const Array& array, int64_t points, int64_t labels, const char* what) {
    expect(array.ndim() == 2 && static_cast<int64_t>(array.shape(0)) == points && static_cast<int64_t>(array.shape(1)) == labels, what);
    check_alignment(array, what);
    return {array.data(), array.stride(0), array.stride(1)};
}

// Build the lattice of features (d, N), each divided by its sigma.
Lattice* build_lattice(const Floats& features, int threads, const std::string& instructions) {
    expect(features.ndim() == 2, "expected features (d, N)");
    const int64_t d = features.shape(0), points = features.shape(1);
    expect(d >= 1 && d <= MAX_DIMENSIONS, "expected 1 to 16 features");
    expect(points >= 1 && points < INT32_MAX / (MAX_DIMENSIONS + 1), "expected 1 to 126 million points");
    expect(points == 1 || features.stride(1) == 1, "expected the values of each feature contiguous in memory");
    check_alignment(features, "expected features aligned in memory");
    std::vector<const float*> rows;
    for (int64_t i = 0; i < d; ++i) rows.push_back(features.data() + i * features.stride(0));
    const Kernels& kernels = select_kernels(instructions);
    check_threads(threads);
    nb::gil_scoped_release release;
    ThreadPool workers(threads);
    return new Lattice(rows, points, workers, kernels, check_signals);
}

// out = kernel · values, both (C, N); they may be the same array.
void filter(const Lattice& lattice, const Floats& values, const FloatsOut& out, int threads) {
    expect(values.ndim() == 2 && static_cast<int64_t>(values.shape(1)) == lattice.points(), "expected values (C, N)");
    const int64_t columns = values.shape(0), points = lattice.points();
    const float* from = contiguous(values, {columns, points}, "expected contiguous values (C, N)");
    float* to = contiguous(out, {columns, points}, "expected a contiguous output array (C, N)");
    if (!same_memory(out, values)) check_disjoint(out, values);
    check_threads(threads);
    nb::gil_scoped_release release;
    ThreadPool workers(threads);
    for (int64_t c = 0; c < columns; ++c) lattice.filter(from + c * points, to + c * points, workers, check_signals);
}

Kind parse_kind(const std::string& kind) {
    expect(kind == "energies" || kind == "logits" || kind == "probabilities", "expected kind 'energies', 'logits' or 'probabilities'");
    return kind == "energies" ? Kind::energies : kind == "logits" ? Kind::logits : Kind::probabilities;
}

// Whether an output (N, K) has no gaps: pixel by pixel or label by label.
bool is_dense(const Strided<float>& out, int64_t points, int64_t labels) {
    const auto has_stride = [](int64_t stride, int64_t size, int64_t expected) { return size <= 1 || stride == expected; };
    return (has_stride(out.label, labels, 1) && has_stride(out.pixel, points, labels)) ||
           (has_stride(out.pixel, points, 1) && has_stride(out.label, labels, points));
}

// Run mean field from `unary` (N, K), or from `marginals` (N, K), and write the marginals to `out` (N, K), which may be `marginals`.
// `pairwise` is a list of (lattice, before, after, compatibility).
void run_mean_field(const Floats& unary, const std::string& kind, const nb::list& pairwise, bool self_message, const nb::object& marginals,
                    const FloatsOut& out, int steps, int threads, const std::string& instructions) {
    expect(unary.ndim() == 2, "expected a unary (N, K)");
    Problem problem{};
    problem.points = unary.shape(0);
    expect(unary.shape(1) >= 1 && unary.shape(1) <= MAX_LABELS, "expected 1 to 65536 labels");
    problem.labels = static_cast<int>(unary.shape(1));
    problem.unary = strided<const float>(unary, problem.points, problem.labels, "expected a unary (N, K)");
    problem.out = strided<float>(out, problem.points, problem.labels, "expected an output array (N, K)");
    expect(is_dense(problem.out, problem.points, problem.labels), "expected an output array without gaps, pixel by pixel or label by label");
    check_disjoint(out, unary);
    problem.self_message = self_message;
    problem.kind = parse_kind(kind);
    Floats initial;
    if (!marginals.is_none()) {
        initial = cast_to<Floats>(marginals, "expected marginals (N, K) float32");
        problem.initial = strided<const float>(initial, problem.points, problem.labels, "expected marginals (N, K)");
        if (!same_memory(out, initial)) check_disjoint(out, initial);
    }
    // References to everything the pointers point into: a signal handler may change the list during the call.
    std::vector<Floats> arrays;
    std::vector<nb::object> lattices;
    for (nb::handle item : pairwise) {
        const auto parts = cast_to<nb::tuple>(item, "expected pairwise (lattice, before, after, compatibility)");
        expect(parts.size() == 4, "expected pairwise (lattice, before, after, compatibility)");
        Pairwise term{};
        lattices.push_back(nb::borrow(parts[0]));
        expect(nb::isinstance<Lattice>(parts[0]) && nb::inst_ready(parts[0]), "expected a lattice");
        term.lattice = nb::cast<const Lattice*>(parts[0]);
        expect(term.lattice && term.lattice->points() == problem.points, "expected a lattice of as many points as the unary has");
        for (int side = 1; side <= 2; ++side)
            if (!parts[side].is_none()) {
                arrays.push_back(cast_to<Floats>(parts[side], "expected normalisation factors (N,) float32"));
                (side == 1 ? term.before : term.after) = contiguous(arrays.back(), {problem.points}, "expected a factor for each pixel");
            }
        arrays.push_back(cast_to<Floats>(parts[3], "expected a compatibility (K,) or (K, K) float32"));
        term.matrix = arrays.back().ndim() == 2;
        term.cost = term.matrix ? contiguous(arrays.back(), {problem.labels, problem.labels}, "expected a compatibility (K, K)")
                                : contiguous(arrays.back(), {problem.labels}, "expected a compatibility (K,)");
        problem.pairwise.push_back(term);
    }
    for (const Floats& array : arrays) {
        expect(std::all_of(array.data(), array.data() + array.size(), [](float x) { return x - x == 0; }),
               "expected finite normalisation factors and compatibilities");
        check_disjoint(out, array);
    }
    expect(steps >= 0 && steps <= MAX_STEPS, "expected 0 to 1000 steps");
    check_threads(threads);
    const Kernels& kernels = select_kernels(instructions);
    nb::gil_scoped_release release;
    ThreadPool workers(threads);
    mean_field(problem, steps, workers, kernels, check_signals);
}

}  // namespace

void define_functions(nb::module_& module) {
    nb::exception<TooFarApart>(module, "TooFarApart", PyExc_OverflowError);
    nb::class_<Lattice>(module, "Lattice").def_prop_ro("points", &Lattice::points).def_prop_ro("vertices", &Lattice::vertices);
    module.def("lattice", &build_lattice, nb::rv_policy::take_ownership, "features"_a.noconvert(), "threads"_a, "instructions"_a = "best");
    module.def("filter", &filter, "lattice"_a, "values"_a.noconvert(), "out"_a.noconvert(), "threads"_a);
    module.def("mean_field", &run_mean_field, "unary"_a.noconvert(), "kind"_a, "pairwise"_a, "self_message"_a, "marginals"_a.none(),
               "out"_a.noconvert(), "steps"_a, "threads"_a, "instructions"_a = "best");
    module.def("instructions", [](const std::string& name) { return std::string(select_kernels(name).name); }, "name"_a = "best");
}

}  // namespace upscore::crf
