// Pooling with switches and unpooling, row by row; compiled once for every instruction set and chosen at run time.
//
// rows.cpp holds the loops, and nothing of the standard library: see crf/kernels.hpp.
#pragma once

#include <cstdint>

namespace upscore::pool {

constexpr int WINDOWS = 4;  // of one row, side by side, whose switches share a byte

// Maps (planes, height, width, channels) in that order in memory. Maps of NCHW are N·C planes of one channel.
struct Maps {
    int64_t planes, height, width, channels;

    int64_t rows() const { return (height + 1) / 2; }  // of windows, in one plane
    int64_t columns() const { return (width + 1) / 2; }
    int64_t bytes() const { return (columns() + WINDOWS - 1) / WINDOWS; }  // of switches, in one row of one channel
    int64_t line() const { return channels == 1 ? width : channels; }      // how long what stands in for missing pixels is
};

// The steps for rows of windows first..last-1 of all planes. T holds the bits of a number: uint32_t of a float,
// uint16_t of a bfloat16. At the end of an odd side, `absent` (line() numbers) is read where there are no pixels and
// `nowhere` (as many) is written.
template <class T>
struct Steps {
    void (*pool)(const Maps&, const T* x, T* maxima, uint8_t* switches, int64_t first, int64_t last, const T* absent, T* nowhere);
    void (*scatter)(const Maps&, const T* y, const uint8_t* switches, T* out, int64_t first, int64_t last, T* nowhere);
    void (*gather)(const Maps&, const T* x, const uint8_t* switches, T* out, int64_t first, int64_t last, const T* absent, T* nowhere);
};

struct Kernels {
    const char* name;
    Steps<uint32_t> single;
    Steps<uint16_t> brain;

    template <class T>
    const Steps<T>& steps() const {
        if constexpr (sizeof(T) == 4)
            return single;
        else
            return brain;
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
