// Separable resizing: vertically first, a whole row of all channels at a time; then horizontally, directly into the target.
#include <algorithm>
#include <vector>

#include "resize.hpp"

namespace upscore::box::UPSCORE_INSTRUCTIONS {

namespace {

#ifdef __AVX2__
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

template <int W>
struct Vector {
    typedef float F __attribute__((vector_size(W * 4)));
    typedef float Unaligned __attribute__((vector_size(W * 4), aligned(4), may_alias));
};
template <>
struct Vector<1> {
    typedef float F;
    typedef float Unaligned;
};
template <int W>
using F = typename Vector<W>::F;

template <int W>
inline F<W> load(const float* at) {
    return *reinterpret_cast<const typename Vector<W>::Unaligned*>(at);
}
template <int W>
inline void store(float* at, F<W> x) {
    *reinterpret_cast<typename Vector<W>::Unaligned*>(at) = x;
}

// Maximum that propagates NaN, as torch.maximum does.
template <int W>
inline F<W> max_or_nan(F<W> a, F<W> b) {
    return (a >= b) | (a != a) ? a : b;
}

template <int W, Reduce REDUCE>
inline void reduce_into(float* at, F<W> x, bool clip) {
    if (clip) x = max_or_nan<W>(x, F<W>{});
    if (REDUCE == Reduce::max) x = max_or_nan<W>(load<W>(at), x);
    if (REDUCE == Reduce::sum) x = load<W>(at) + x;
    store<W>(at, x);
}

template <int W>
inline F<W> weighted_sum(const float* row, const float* weights, int count, int64_t step) {
    F<W> sum{};
    for (int k = 0; k < count; ++k) sum += weights[k] * load<W>(row + k * step);
    return sum;
}

template <int W>
inline int64_t resize_rows(const float* from, int64_t row, const float* weights, int count, float* to, int64_t begin, int64_t size) {
    for (; begin + W <= size; begin += W) store<W>(to + begin, weighted_sum<W>(from + begin, weights, count, row));
    return begin;
}

// Remaining channels that do not fill a vector: if reducing twice changes nothing, by a vector that overlaps the last one; else one by one.
template <Reduce REDUCE>
inline void resize_pixel(const float* pixel, const float* weights, int count, int64_t channels, float* to, bool clip) {
    int64_t c = 0;
    for (; c + LANES <= channels; c += LANES) reduce_into<LANES, REDUCE>(to + c, weighted_sum<LANES>(pixel + c, weights, count, channels), clip);
    if (c == channels) return;
    if (REDUCE != Reduce::sum && channels > LANES) {
        c = channels - LANES;
        reduce_into<LANES, REDUCE>(to + c, weighted_sum<LANES>(pixel + c, weights, count, channels), clip);
        return;
    }
    for (; c < channels; ++c) reduce_into<1, REDUCE>(to + c, weighted_sum<1>(pixel + c, weights, count, channels), clip);
}

template <Reduce REDUCE>
void resize_row(const float* row, const AxisWeights& horizontal, const Map& map, float* to, int64_t columns, bool clip) {
    const int64_t channels = map.channels;
    const auto weights = [&](int64_t x) { return horizontal.weights.data() + x * horizontal.max_count; };
    int64_t x = 0;
    if (REDUCE == Reduce::write && channels == 3)  // four lanes at a time: the fourth lane is overwritten by the next pixel
        for (; x + 1 < columns; ++x)
            reduce_into<4, REDUCE>(to + x * channels, weighted_sum<4>(row + horizontal.first[x] * channels, weights(x), horizontal.count[x], channels), clip);
    for (; x < columns; ++x)
        resize_pixel<REDUCE>(row + horizontal.first[x] * channels, weights(x), horizontal.count[x], channels, to + x * channels, clip);
}

void run_row(const ResizeJob& job, int64_t y, Reduce reduce, bool clip, std::vector<float>& row_buffer) {
    const int64_t size = job.map.columns * job.map.channels;
    const float* from = job.map.data + job.vertical.first[y] * job.map.row;
    const float* weights = job.vertical.weights.data() + y * job.vertical.max_count;
    const int64_t done = resize_rows<LANES>(from, job.map.row, weights, job.vertical.count[y], row_buffer.data(), 0, size);
    resize_rows<1>(from, job.map.row, weights, job.vertical.count[y], row_buffer.data(), done, size);
    float* to = job.target.data + y * job.target.row;
    if (reduce == Reduce::write) resize_row<Reduce::write>(row_buffer.data(), job.horizontal, job.map, to, job.target.columns, clip);
    if (reduce == Reduce::max) resize_row<Reduce::max>(row_buffer.data(), job.horizontal, job.map, to, job.target.columns, clip);
    if (reduce == Reduce::sum) resize_row<Reduce::sum>(row_buffer.data(), job.horizontal, job.map, to, job.target.columns, clip);
}

}  // namespace

void resize(const std::vector<ResizeJob>& jobs, int64_t rows, Reduce reduce, bool clip, ThreadPool& workers) {
    int64_t max_size = 0;
    for (const ResizeJob& job : jobs) max_size = std::max(max_size, job.map.columns * job.map.channels);
    // Boxes overlap and leave gaps, so that rows differ in work: more parts than threads balance it.
    constexpr int PARTS = 16;
    workers.run(rows, workers.size() == 1 ? 1 : PARTS * workers.size(), [&](int, int64_t first, int64_t last) {
        std::vector<float> row_buffer(max_size + LANES);  // vector loads read past the last pixel
        for (int64_t row = first; row < last; ++row)
            for (const ResizeJob& job : jobs)
                if (row >= job.top && row < job.top + job.target.rows) run_row(job, row - job.top, reduce, clip, row_buffer);
    });
}

}  // namespace upscore::box::UPSCORE_INSTRUCTIONS
