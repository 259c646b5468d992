// The loops where the time goes, compiled once for every instruction set and chosen at run time.
//
// locate.cpp and pass.cpp hold them, and nothing of the standard library: a template instantiated there with AVX2 could
// be the one that the linker keeps for processors without.
#pragma once

#include <cstdint>

namespace upscore::crf {

// Points of a block that locate() works on at a time, and pixels of a tile.
constexpr int BLOCK = 16;
constexpr int TILE = 16;
constexpr int SCRATCH_ROWS = 3 * TILE + 1;
constexpr int MOST_DIMENSIONS = 16;

// Where BLOCK points lie, an array for each axis or corner.
struct Places {
    int32_t multiple[MOST_DIMENSIONS + 1][BLOCK];  // of the corner of remainder 0, in units of d + 1
    int32_t rank[MOST_DIMENSIONS + 1][BLOCK];
    float weight[MOST_DIMENSIONS + 1][BLOCK];  // of the corner of each remainder
};

// An array (N, K) with any strides, counted in numbers.
template <class T>
struct Strided {
    T* at = nullptr;
    int64_t pixel = 0, label = 0;
};

enum class Kind : int { energies, logits, probabilities };

// One kernel of the CRF, as a pass over the pixels meets it. Rows of vertices are `width` floats.
struct Voice {
    int corners;
    const int32_t* vertex;  // (N, corners)
    const float* weight;    // (N, corners)
    const float* before;    // (N,) or null
    const float* after;     // (N,) or null
    float scale;
    const float* cost;    // (width,): what messages are multiplied by, or null
    const float* matrix;  // (K, width), or null
    const float* heard;   // (V, width): blurred, what all said in the step before
    float* spoken;        // (V, width): what is said now
};

struct Pass {
    int labels, width;  // width: labels, filled up to whole vectors
    Strided<const float> scores;
    Kind kind;
    const float* pad;                // (width,): 0 for labels, very low for what is no label
    Strided<const float> given;      // if set, what is believed; nothing is heard
    Strided<const float> previous;   // if set, messages of a pixel to itself are taken out
    Strided<float> out;              // if set, where beliefs are written
    bool hears, speaks;
    int voices;
    const Voice* voice;
};

// What a pass met; of several the last.
enum class Fault : int { none, not_finite, overflow };

struct Kernels {
    const char* name;
    int lanes;  // labels are filled up to a multiple of it, or of 4 where there are no more than 4
    // Place the points first..first+BLOCK-1 (fewer: the rest is undefined) of features (d, N).
    void (*locate)(const float* const* features, int64_t first, int count, int d, const double* spread, Places& places);
    // Pixels first..last-1; scratch holds SCRATCH_ROWS * width floats. Nothing is refused: what went wrong is returned.
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
