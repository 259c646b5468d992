// Checks of arguments from Python. Anybody can import upscore._native, so that every call is checked here: types, shapes, memory order,
// alignment, overlapping memory, ranges. A wrong argument raises TypeError, ValueError, OverflowError or MemoryError.
// Two things are taken on trust: that arrays describe their memory truthfully, and that nobody changes them during a call.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace upscore {

namespace nb = nanobind;
using namespace nb::literals;

using Floats = nb::ndarray<const float, nb::device::cpu>;
using FloatsOut = nb::ndarray<float, nb::device::cpu>;

constexpr int MAX_THREADS = 256;

inline void expect(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
}

// Whether to run the AVX2 loops: `instructions` is "best", "avx2" or "portable".
inline bool use_avx2(const std::string& instructions) {
#ifdef UPSCORE_AVX2
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (instructions == "avx2") {
        expect(avx2, "this CPU has no AVX2");
        return true;
    }
    if (instructions == "best" && avx2) return true;
#endif
    expect(instructions == "best" || instructions == "portable", "expected instructions 'best', 'avx2' or 'portable'");
    return false;
}

inline void check_threads(int threads) { expect(threads >= 1 && threads <= MAX_THREADS, "expected 1 to 256 threads"); }

// The interrupt callback of long computations: runs Python's signal handlers and throws what they raise.
inline void check_signals() {
    nb::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
}

template <class T>
T cast_to(nb::handle from, const char* what) {
    T value;
    // Integers are converted from NumPy's too; nothing else is converted.
    expect(nb::try_cast(from, value, std::is_integral_v<T> && PyIndex_Check(from.ptr())), what);
    return value;
}

template <class Array>
void check_alignment(const Array& array, const char* what) {
    expect(array.size() == 0 || reinterpret_cast<uintptr_t>(array.data()) % array.itemsize() == 0, what);
}

// The range of bytes that an array lies in.
struct Extent {
    __int128 first = 0, end = 0;
};

template <class Array>
Extent extent(const Array& array) {
    if (array.size() == 0) return {};
    const __int128 at = static_cast<__int128>(reinterpret_cast<uintptr_t>(array.data())), item = array.itemsize();
    Extent range{at, at + item};
    for (size_t axis = 0; axis < array.ndim(); ++axis) {
        const __int128 reach = (static_cast<__int128>(array.shape(axis)) - 1) * array.stride(axis) * item;
        (reach < 0 ? range.first : range.end) += reach;
    }
    return range;
}

// Refuse an output that shares memory with an input.
template <class Output, class Input>
void check_disjoint(const Output& output, const Input& input) {
    const Extent written = extent(output), read = extent(input);
    expect(written.end <= read.first || read.end <= written.first, "expected an output array that shares no memory with the inputs");
}

// Whether two arrays are the same elements in the same order.
template <class A, class B>
bool same_memory(const A& a, const B& b) {
    if (static_cast<const void*>(a.data()) != static_cast<const void*>(b.data()) || a.ndim() != b.ndim()) return false;
    for (size_t axis = 0; axis < a.ndim(); ++axis)
        if (a.shape(axis) != b.shape(axis) || (a.shape(axis) > 1 && a.stride(axis) != b.stride(axis))) return false;
    return true;
}

// The data of a C-contiguous array of this shape.
template <class Array>
auto contiguous(const Array& array, const std::vector<int64_t>& shape, const char* what) {
    expect(array.ndim() == shape.size(), what);
    int64_t stride = 1;
    for (size_t axis = shape.size(); axis-- > 0;) {
        const int64_t size = shape[axis];
        expect(static_cast<int64_t>(array.shape(axis)) == size, what);
        if (array.size() == 0) continue;  // strides of an empty array mean nothing, and its other sides may have any size
        expect(size <= 1 || array.stride(axis) == stride, what);
        stride *= size;
    }
    check_alignment(array, what);
    return array.data();
}

}  // namespace upscore
