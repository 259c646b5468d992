// Max pooling with indices ("switches") and unpooling, row by row; compiled once for every instruction set and chosen at run time.
//
// rows.cpp holds the loops and includes nothing of the standard library; crf/kernels.hpp says why.
#pragma once

#include <cstdint>

namespace upscore::pool {

constexpr int WINDOWS = 4;  // adjacent windows of a row, whose two-bit switches share a byte

// The shape (planes, height, width, channels), in that memory order, of a map. NCHW tensors are N·C planes of one channel.
struct Shape {
    int64_t planes, height, width, channels;

    int64_t rows() const { return (height + 1) / 2; }  // of windows, in one plane
    int64_t columns() const { return (width + 1) / 2; }
    int64_t bytes() const { return (columns() + WINDOWS - 1) / WINDOWS; }  // of switches, in one row of one channel
    int64_t line() const { return channels == 1 ? width : channels; }      // length of the fill and discard buffers
};

// The loops over rows of windows first..last-1 of all planes. T holds the bits of a number: uint32_t of a float, uint16_t of a bfloat16.
// Beyond the last pixel of an odd side, `fill` (line() numbers) is read and `discard` (as many) is written.
template <class T>
struct Steps {
    void (*pool)(const Shape&, const T* x, T* maxima, uint8_t* switches, int64_t first, int64_t last, const T* fill, T* discard);
    void (*scatter)(const Shape&, const T* y, const uint8_t* switches, T* out, int64_t first, int64_t last, T* discard);
    void (*gather)(const Shape&, const T* x, const uint8_t* switches, T* out, int64_t first, int64_t last, const T* fill, T* discard);
};

struct Kernels {
    const char* name;
    Steps<uint32_t> float32;
    Steps<uint16_t> bfloat16;

    template <class T>
    const Steps<T>& steps() const {
        if constexpr (sizeof(T) == 4)
            return float32;
        else
            return bfloat16;
    }
};

namespace portable {
extern const Kernels kernels;
}
#ifdef UPSCORE_AVX2
namespace avx2 {
extern const Kernels kernels;
}
#endif

}  // namespace upscore::pool
