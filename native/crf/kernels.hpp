// The hot loops, compiled once for every instruction set and chosen at run time.
//
// locate.cpp and pass.cpp hold them and include nothing of the standard library: of a template instantiated both with and
// without AVX2 the linker keeps one copy, and the AVX2 copy would crash CPUs without it.
#pragma once

#include <cstdint>

namespace upscore::crf {

// Points that locate() handles at a time, and pixels of a tile in a mean-field pass.
constexpr int BLOCK = 16;
constexpr int TILE = 16;
constexpr int SCRATCH_ROWS = 3 * TILE + 1;
constexpr int MAX_DIMENSIONS = 16;

// The enclosing simplices of BLOCK points, one row for each coordinate or corner.
struct Simplices {
    int32_t multiple[MAX_DIMENSIONS + 1][BLOCK];  // coordinates of the remainder-0 corner, in units of d + 1
    int32_t rank[MAX_DIMENSIONS + 1][BLOCK];      // of each coordinate's distance to that corner, largest first
    float weight[MAX_DIMENSIONS + 1][BLOCK];     // barycentric, of the corner of each remainder
};

// An array (N, K) with any strides, counted in elements; unset if `at` is null.
template <class T>
struct Strided {
    T* at = nullptr;
    int64_t pixel = 0, label = 0;
};

enum class Kind : int { energies, logits, probabilities };

// One pairwise kernel as a pass over the pixels reads and writes it. Lattice values are rows of `width` floats.
struct PairwiseSlot {
    int corners;
    const int32_t* vertex;  // (N, corners)
    const float* weight;    // (N, corners)
    const float* before;    // (N,) normalisation factors applied before the filter, or null
    const float* after;     // (N,) and after it, or null
    float scale;            // of the lattice
    const float* cost;      // (width,) compatibility for each label, or null
    const float* matrix;    // (K, width) compatibility matrix, or null
    const float* blurred;   // (V, width) read by slice: the marginals of the step before, filtered
    float* splatted;        // (V, width) added to by splat
};

// A pass over the pixels: slice, softmax, splat, write.
struct Pass {
    int labels, width;  // width: labels, padded to whole vectors
    Strided<const float> unary;
    Kind kind;
    const float* padding;           // (width,) 0 for labels, -infinity for columns beyond the last
    Strided<const float> initial;   // if set, the marginals: no slice and no softmax
    Strided<const float> previous;  // if set, marginals of the step before, whose messages to the pixel itself are subtracted
    Strided<float> out;             // if set, where marginals are written
    bool slice, splat;              // whether messages are read from the lattices, and marginals written to them
    int slots;
    const PairwiseSlot* slot;
};

// Why a pass failed; of several reasons the last.
enum class Fault : int { none, not_finite, overflow };

struct Kernels {
    const char* name;
    int lanes;  // labels are padded to a multiple of it, or to 4 if there are at most 4
    // Find the simplices of points first..first+count-1 of features (d, N); with fewer than BLOCK the rest is undefined.
    void (*locate)(const float* const* features, int64_t first, int count, int d, const double* axis_scale, Simplices& simplices);
    // Run a pass over pixels first..last-1; scratch holds SCRATCH_ROWS * width floats. Continues after a fault and returns it.
    Fault (*pass)(const Pass& pass, int64_t first, int64_t last, float* scratch);
    // to[v] = from[v] + (from[neighbours of v]) / 2 for vertices first..last-1.
    void (*blur)(const float* from, float* to, const int32_t* neighbour, int64_t first, int64_t last, int width);
    // into[k] += from[k]; count is a multiple of 4.
    void (*add)(float* into, const float* from, int64_t count);
};

namespace portable {
extern const Kernels kernels;
}
#ifdef UPSCORE_AVX2
namespace avx2 {
extern const Kernels kernels;
}
#endif

}  // namespace upscore::crf
