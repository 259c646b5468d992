#include "kernels.hpp"
#include "vectors.hpp"

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace upscore::crf::UPSCORE_INSTRUCTIONS {

namespace {

template <int W>
inline typename Vector<W>::F max_of(typename Vector<W>::F a, typename Vector<W>::F b) {
    return a > b ? a : b;
}

// Lanes permuted by a butterfly step; with them the sum and the maximum of all lanes, in every lane.
inline Vector<4>::F permuted(Vector<4>::F v, int by) {
    return by == 2 ? __builtin_shufflevector(v, v, 2, 3, 0, 1) : __builtin_shufflevector(v, v, 1, 0, 3, 2);
}
[[maybe_unused]] inline Vector<8>::F permuted(Vector<8>::F v, int by) {
    return by == 4   ? __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3)
           : by == 2 ? __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5)
                     : __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6);
}
template <int W>
inline typename Vector<W>::F sum_lanes(typename Vector<W>::F v) {
    for (int by = W / 2; by > 0; by /= 2) v += permuted(v, by);
    return v;
}
template <int W>
inline typename Vector<W>::F max_lanes(typename Vector<W>::F v) {
    for (int by = W / 2; by > 0; by /= 2) v = max_of<W>(v, permuted(v, by));
    return v;
}

// exp for x <= 0, to 2 units in the last place; 0 below -50, long before products become denormal and slow.
// Cody and Waite (1980): x = n log 2 + r with log 2 in two parts; the polynomial is Cephes' (Moshier).
template <int W>
inline typename Vector<W>::F exp_of(typename Vector<W>::F x) {
    using F = typename Vector<W>::F;
    using I = typename Vector<W>::I;
    const I in_range = x > broadcast<W>(-50.0f);
    x = max_of<W>(x, broadcast<W>(-50.0f));
    const I n = __builtin_convertvector(x * 1.44269504f - 0.5f, I);
    const F whole = __builtin_convertvector(n, F);
    const F r = x - whole * 0.693359375f - whole * -2.12194440e-4f;
    F p = broadcast<W>(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    p *= (F)((n + 127) << 23);
    return in_range ? p : broadcast<W>(0.0f);
}

// ---- a tile of pixels, copied from any memory layout to rows of labels and back --------------------------------

#ifdef __AVX2__
inline void transpose(__m256 (&r)[8]) {
    __m256 a[8], b[8];
    for (int k = 0; k < 8; k += 2) {
        a[k] = _mm256_unpacklo_ps(r[k], r[k + 1]);
        a[k + 1] = _mm256_unpackhi_ps(r[k], r[k + 1]);
    }
    for (int k = 0; k < 8; k += 4) {
        b[k] = _mm256_shuffle_ps(a[k], a[k + 2], 0x44);
        b[k + 1] = _mm256_shuffle_ps(a[k], a[k + 2], 0xEE);
        b[k + 2] = _mm256_shuffle_ps(a[k + 1], a[k + 3], 0x44);
        b[k + 3] = _mm256_shuffle_ps(a[k + 1], a[k + 3], 0xEE);
    }
    for (int k = 0; k < 4; ++k) {
        r[k] = _mm256_permute2f128_ps(b[k], b[k + 4], 0x20);
        r[k + 4] = _mm256_permute2f128_ps(b[k], b[k + 4], 0x31);
    }
}
#endif

// tile (TILE, width) <- pixels first..first+count-1; columns beyond the last label are 0.
void read_tile(float* tile, Strided<const float> from, int64_t first, int count, int labels, int width) {
    const float* at = from.at + first * from.pixel;
#ifdef __AVX2__
    if (from.pixel == 1 && count % 8 == 0 && width % 8 == 0) {
        // More streams than the hardware prefetcher follows. With a stride of 4 KiB all streams share one cache set, and prefetching is useless.
        if (from.label % 1024 != 0)
            for (int k = 0; k < labels; ++k) __builtin_prefetch(at + k * from.label + 64);
        for (int k = 0; k < width; k += 8)
            for (int half = 0; half < count; half += 8) {
                __m256 rows[8];
                for (int r = 0; r < 8; ++r) rows[r] = k + r < labels ? _mm256_loadu_ps(at + (k + r) * from.label + half) : _mm256_setzero_ps();
                transpose(rows);
                for (int p = 0; p < 8; ++p) _mm256_storeu_ps(tile + (half + p) * width + k, rows[p]);
            }
        return;
    }
#endif
    for (int p = 0; p < count; ++p) {
        for (int k = 0; k < labels; ++k) tile[p * width + k] = at[p * from.pixel + k * from.label];
        for (int k = labels; k < width; ++k) tile[p * width + k] = 0;
    }
}

void write_tile(const float* tile, Strided<float> to, int64_t first, int count, int labels, int width) {
    float* at = to.at + first * to.pixel;
#ifdef __AVX2__
    if (to.pixel == 1 && count % 8 == 0 && width % 8 == 0) {
        for (int k = 0; k < width; k += 8)
            for (int half = 0; half < count; half += 8) {
                __m256 rows[8];
                for (int p = 0; p < 8; ++p) rows[p] = _mm256_loadu_ps(tile + (half + p) * width + k);
                transpose(rows);
                for (int r = 0; r < 8 && k + r < labels; ++r) _mm256_storeu_ps(at + (k + r) * to.label + half, rows[r]);
            }
        return;
    }
#endif
    for (int p = 0; p < count; ++p)
        for (int k = 0; k < labels; ++k) at[p * to.pixel + k * to.label] = tile[p * width + k];
}

// ---- mean field ------------------------------------------------------------------------------------------------

// Slice: the messages that pixel i receives through one kernel, for CHUNK vectors of labels from label `b` on. With a cost for each label
// they are subtracted from the logits at once; for a compatibility matrix they are stored in `messages`.
template <int W, int CHUNK, int CORNERS>
inline void slice_chunk(const PairwiseSlot& slot, int64_t i, int width, int b, const float* previous, float* logits, float* messages) {
    using F = typename Vector<W>::F;
    const int n = CORNERS ? CORNERS : slot.corners;
    const int32_t* vertex = slot.vertex + i * n;
    const float* weight = slot.weight + i * n;
    const float* blurred = slot.blurred + b;
    const float before = slot.before ? slot.before[i] : 1.0f;
    const float after = slot.after ? slot.after[i] : 1.0f;
    F sum[CHUNK];
    for (int k = 0; k < CHUNK; ++k) sum[k] = broadcast<W>(0.0f);
    for (int c = 0; c < n; ++c) {
        const float* row = blurred + int64_t{vertex[c]} * width;
        const F w = broadcast<W>(weight[c]);
        for (int k = 0; k < CHUNK; ++k) sum[k] += w * load<W>(row + k * W);
    }
    for (int k = 0; k < CHUNK; ++k) {
        sum[k] *= slot.scale * after;
        if (previous) sum[k] -= load<W>(previous + b + k * W) * (before * after);
        if (slot.cost)
            store<W>(logits + b + k * W, load<W>(logits + b + k * W) - sum[k] * load<W>(slot.cost + b + k * W));
        else
            store<W>(messages + b + k * W, sum[k]);
    }
}

// Slice all labels of pixel i, and apply the compatibility: logits -= messages * cost, or messages · matrix.
template <int W, int BLOCKS, int CORNERS>
inline void slice_pixel(const PairwiseSlot& slot, const Pass& pass, int64_t i, const float* previous, float* logits, float* messages) {
    const int width = BLOCKS ? BLOCKS * W : pass.width;
    if (BLOCKS) {
        slice_chunk<W, BLOCKS ? BLOCKS : 1, CORNERS>(slot, i, width, 0, previous, logits, messages);
    } else {
        int b = 0;
        for (; b + 4 * W <= width; b += 4 * W) slice_chunk<W, 4, CORNERS>(slot, i, width, b, previous, logits, messages);
        for (; b < width; b += W) slice_chunk<W, 1, CORNERS>(slot, i, width, b, previous, logits, messages);
    }
    if (slot.cost) return;
    for (int k = 0; k < pass.labels; ++k) {
        const float* row = slot.matrix + int64_t{k} * width;
        const float message = messages[k];
        for (int b = 0; b < width; b += W) store<W>(logits + b, load<W>(logits + b) - message * load<W>(row + b));
    }
}

// Splat: add the marginals of pixel i to the vertices of its simplex, by barycentric weight.
template <int W, int BLOCKS, int CORNERS>
inline void splat_pixel(const PairwiseSlot& slot, const Pass& pass, int64_t i, const float* marginals) {
    using F = typename Vector<W>::F;
    const int width = BLOCKS ? BLOCKS * W : pass.width;
    const int n = CORNERS ? CORNERS : slot.corners;
    const int32_t* vertex = slot.vertex + i * n;
    const float* weight = slot.weight + i * n;
    const float before = slot.before ? slot.before[i] : 1.0f;
    for (int c = 0; c < n; ++c) {
        float* to = slot.splatted + int64_t{vertex[c]} * width;
        const F w = broadcast<W>(weight[c] * before);
        for (int b = 0; b < width; b += W) store<W>(to + b, load<W>(to + b) + w * load<W>(marginals + b));
    }
}

// Whether every number of a tile is finite.
template <int W>
inline bool all_finite(const float* tile, int64_t count) {
    using I = typename Vector<W>::I;
    I bad{};
    for (int64_t k = 0; k < count; k += W) {
        const typename Vector<W>::F x = load<W>(tile + k);
        bad |= (x - x) != broadcast<W>(0.0f);
    }
    for (int k = 0; k < W; ++k)
        if (bad[k]) return false;
    return true;
}

// Marginals of a tile: prior · exp(logits), normalised. The prior is the unary probability; unary logits and energies are in the logits.
// Returns false if the sum of a pixel is not positive: its maximum contributes exp(0) = 1, unless the logits overflowed.
template <int W, int BLOCKS>
inline bool softmax(const Pass& pass, int count, float* tile, const float* logits) {
    using F = typename Vector<W>::F;
    const int width = BLOCKS ? BLOCKS * W : pass.width;
    bool normalised = true;
    for (int p = 0; p < count; ++p, tile += width, logits += width) {
        F maximum = load<W>(logits);
        for (int b = W; b < width; b += W) maximum = max_of<W>(maximum, load<W>(logits + b));
        maximum = max_lanes<W>(maximum);
        F sums = broadcast<W>(0.0f);
        for (int b = 0; b < width; b += W) {
            F value = exp_of<W>(load<W>(logits + b) - maximum);
            if (pass.kind == Kind::probabilities) {
                F prior = max_of<W>(load<W>(tile + b), broadcast<W>(1e-5f));
                value *= prior < broadcast<W>(1.0f) ? prior : broadcast<W>(1.0f);
            }
            store<W>(tile + b, value);
            sums += value;
        }
        const F sum = sum_lanes<W>(sums), inverse = 1.0f / sum;
        normalised &= sum[0] > 0;
        for (int b = 0; b < width; b += W) store<W>(tile + b, load<W>(tile + b) * inverse);
    }
    return normalised;
}

// One mean-field step for pixels first..last-1: slice, softmax, splat, write, as far as the pass asks for each. Each phase runs over a
// whole tile, not pixel by pixel: the pixels of a phase are independent, so that the CPU can overlap them.
template <int W, int BLOCKS>
Fault pass_over(const Pass& pass, int64_t first, int64_t last, float* scratch) {
    using F = typename Vector<W>::F;
    const int width = BLOCKS ? BLOCKS * W : pass.width;
    float* tile = scratch;
    float* previous_tile = tile + TILE * width;
    float* logits = previous_tile + TILE * width;
    float* messages = logits + TILE * width;
    const int tile_size = width <= 64 ? TILE : TILE / 2;  // one cache line of pixels, as long as the tile fits in the L1 cache
    Fault fault = Fault::none;
    for (int64_t begin = first; begin < last; begin += tile_size) {
        const int count = last - begin < tile_size ? static_cast<int>(last - begin) : tile_size;
        read_tile(tile, pass.initial.at ? pass.initial : pass.unary, begin, count, pass.labels, width);
        if (!all_finite<W>(tile, int64_t{count} * width)) fault = Fault::not_finite;
        if (!pass.initial.at) {
            for (int p = 0; p < count; ++p)
                for (int b = 0; b < width; b += W) {
                    const F padding = load<W>(pass.padding + b), unary = load<W>(tile + p * width + b);
                    store<W>(logits + p * width + b, pass.kind == Kind::probabilities ? padding
                                                     : pass.kind == Kind::logits      ? padding + unary
                                                                                      : padding - unary);
                }
            if (pass.slice) {
                if (pass.previous.at) read_tile(previous_tile, pass.previous, begin, count, pass.labels, width);
                for (int m = 0; m < pass.slots; ++m) {
                    const PairwiseSlot& slot = pass.slot[m];
                    for (int p = 0; p < count; ++p) {
                        const float* previous = pass.previous.at ? previous_tile + p * width : nullptr;
                        switch (slot.corners) {
                            case 3: slice_pixel<W, BLOCKS, 3>(slot, pass, begin + p, previous, logits + p * width, messages); break;
                            case 6: slice_pixel<W, BLOCKS, 6>(slot, pass, begin + p, previous, logits + p * width, messages); break;
                            default: slice_pixel<W, BLOCKS, 0>(slot, pass, begin + p, previous, logits + p * width, messages);
                        }
                    }
                }
            }
            if (!softmax<W, BLOCKS>(pass, count, tile, logits) && fault == Fault::none) fault = Fault::overflow;
        }
        if (pass.splat)
            for (int m = 0; m < pass.slots; ++m) {
                const PairwiseSlot& slot = pass.slot[m];
                for (int p = 0; p < count; ++p) switch (slot.corners) {
                        case 3: splat_pixel<W, BLOCKS, 3>(slot, pass, begin + p, tile + p * width); break;
                        case 6: splat_pixel<W, BLOCKS, 6>(slot, pass, begin + p, tile + p * width); break;
                        default: splat_pixel<W, BLOCKS, 0>(slot, pass, begin + p, tile + p * width);
                    }
            }
        if (pass.out.at) write_tile(tile, pass.out, begin, count, pass.labels, width);
    }
    return fault;
}

Fault pass_of(const Pass& pass, int64_t first, int64_t last, float* scratch) {
    if (pass.width == 4) return pass_over<4, 1>(pass, first, last, scratch);
    switch (pass.width / LANES) {
        case 1: return pass_over<LANES, 1>(pass, first, last, scratch);
        case 2: return pass_over<LANES, 2>(pass, first, last, scratch);
        case 3: return pass_over<LANES, 3>(pass, first, last, scratch);
        default: return pass_over<LANES, 0>(pass, first, last, scratch);
    }
}

// Blur along one axis with the kernel [½ 1 ½].
template <int W, int BLOCKS>
void blur_rows(const float* from, float* to, const int32_t* neighbour, int64_t first, int64_t last, int dynamic) {
    const int64_t width = BLOCKS ? BLOCKS * W : dynamic;
    for (int64_t v = first; v < last; ++v) {
        const float* own = from + v * width;
        const float* next = from + neighbour[v * 2] * width;
        const float* previous = from + neighbour[v * 2 + 1] * width;
        for (int64_t b = 0; b < width; b += W)
            store<W>(to + v * width + b, load<W>(own + b) + 0.5f * (load<W>(next + b) + load<W>(previous + b)));
    }
}

void blur(const float* from, float* to, const int32_t* neighbour, int64_t first, int64_t last, int width) {
    if (width == 4) return blur_rows<4, 1>(from, to, neighbour, first, last, width);
    switch (width / LANES) {
        case 1: return blur_rows<LANES, 1>(from, to, neighbour, first, last, width);
        case 2: return blur_rows<LANES, 2>(from, to, neighbour, first, last, width);
        case 3: return blur_rows<LANES, 3>(from, to, neighbour, first, last, width);
        default: return blur_rows<LANES, 0>(from, to, neighbour, first, last, width);
    }
}

void add(float* into, const float* from, int64_t count) {
    for (int64_t k = 0; k < count; k += 4) store<4>(into + k, load<4>(into + k) + load<4>(from + k));
}

#define UPSCORE_TEXT_OF(name) #name
#define UPSCORE_TEXT(name) UPSCORE_TEXT_OF(name)

}  // namespace

void locate(const float* const* features, int64_t first, int count, int d, const double* axis_scale, Simplices& simplices);

extern const Kernels kernels;
const Kernels kernels{UPSCORE_TEXT(UPSCORE_INSTRUCTIONS), LANES, locate, pass_of, blur, add};

}  // namespace upscore::crf::UPSCORE_INSTRUCTIONS
