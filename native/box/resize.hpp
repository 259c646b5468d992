// Bilinear resizing with antialiasing of channels-last maps: boxes of an image to squares, and score maps to boxes of a canvas.
#pragma once

#include <cstdint>
#include <vector>

#include "../thread_pool.hpp"

namespace upscore::box {

// Of the input and output of a resize: the weights of an axis are a small multiple of it and are indexed in 32 bits.
constexpr int64_t MAX_SIDE = int64_t{1} << 20;

// Interpolation weights of one axis: output pixel i is the sum of weights[i * max_count + k] · input[first[i] + k] over k < count[i].
struct AxisWeights {
    std::vector<int32_t> first, count;
    std::vector<float> weights;
    int max_count = 0;
};

// Weights that resize `from` pixels to `to`, for the outputs in [begin, end), with torch's antialiased bilinear filter: a triangle, as wide
// as an output pixel when downscaling. Inputs outside [low, high) are zero; indices of inputs count from `low`.
AxisWeights axis_weights(int64_t from, int64_t to, int64_t begin, int64_t end, int64_t low, int64_t high);

// How a value is combined with the one that the target holds.
enum class Reduce { write, max, sum };

struct Map {
    const float* data;  // rows × columns × channels
    int64_t row;        // floats between the starts of two rows
    int64_t columns, channels;
};

struct Target {
    float* data;
    int64_t row;
    int64_t rows, columns;
};

// Resize a map to a target whose first row is row `top` of the buffer that all targets lie in.
struct ResizeJob {
    Map map;
    AxisWeights vertical, horizontal;
    Target target;
    int64_t top;
};

// Run the jobs on a buffer of `rows` rows. All jobs that write to a row do so in order before the next row, so that each row is loaded
// into the cache once.
namespace portable {
void resize(const std::vector<ResizeJob>& jobs, int64_t rows, Reduce reduce, bool clip, ThreadPool& workers);
}
#ifdef UPSCORE_AVX2
namespace avx2 {
void resize(const std::vector<ResizeJob>& jobs, int64_t rows, Reduce reduce, bool clip, ThreadPool& workers);
}
#endif

}  // namespace upscore::box
