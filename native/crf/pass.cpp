#include "kernels.hpp"
#include "vectors.hpp"

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace upscore::crf::UPSCORE_INSTRUCTIONS {

namespace {

template <int W>
inline typename Vector<W>::F greater_of(typename Vector<W>::F a, typename Vector<W>::F b) {
    return a > b ? a : b;
}

// The sum, and the greatest, of all lanes in every lane.
inline Vector<4>::F turned(Vector<4>::F v, int by) {
    return by == 2 ? __builtin_shufflevector(v, v, 2, 3, 0, 1) : __builtin_shufflevector(v, v, 1, 0, 3, 2);
}
[[maybe_unused]] inline Vector<8>::F turned(Vector<8>::F v, int by) {
    return by == 4   ? __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3)
           : by == 2 ? __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5)
                     : __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6);
}
template <int W>
inline typename Vector<W>::F sum_of(typename Vector<W>::F v) {
    for (int by = W / 2; by > 0; by /= 2) v += turned(v, by);
    return v;
}
template <int W>
inline typename Vector<W>::F greatest_of(typename Vector<W>::F v) {
    for (int by = W / 2; by > 0; by /= 2) v = greater_of<W>(v, turned(v, by));
    return v;
}

// exp for x <= 0, to 2 units in the last place; 0 below -50, long before products become denormal and slow.
// Cody and Waite (1980): x = n log 2 + r with log 2 in two parts; the polynomial is Cephes' (Moshier).
template <int W>
inline typename Vector<W>::F exp_of(typename Vector<W>::F x) {
    using F = typename Vector<W>::F;
    using I = typename Vector<W>::I;
    const I kept = x > all<W>(-50.0f);
    x = greater_of<W>(x, all<W>(-50.0f));
    const I n = __builtin_convertvector(x * 1.44269504f - 0.5f, I);
    const F whole = __builtin_convertvector(n, F);
    const F r = x - whole * 0.693359375f - whole * -2.12194440e-4f;
    F p = all<W>(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    p *= (F)((n + 127) << 23);
    return kept ? p : all<W>(0.0f);
}

// ---- a tile of pixels, between any layout and rows of labels ---------------------------------------------------

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

// tile (TILE, width) <- pixels first..first+count-1; labels beyond the last are 0.
void read_tile(float* tile, Strided<const float> from, int64_t first, int count, int labels, int width) {
    const float* at = from.at + first * from.pixel;
#ifdef __AVX2__
    if (from.pixel == 1 && count % 8 == 0 && width % 8 == 0) {
        // More streams than the processor foresees by itself; but where all fall into one set of its cache, it would be in vain.
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

// What pixel i hears of one kernel in CHUNK vectors of labels from `b` on: taken from its scores, or left in `heard` for the matrix.
template <int W, int CHUNK, int CORNERS>
inline void hear_chunk(const Voice& voice, int64_t i, int width, int b, const float* self, float* scores, float* heard) {
    using F = typename Vector<W>::F;
    const int n = CORNERS ? CORNERS : voice.corners;
    const int32_t* vertex = voice.vertex + i * n;
    const float* weight = voice.weight + i * n;
    const float* grid = voice.heard + b;
    const float before = voice.before ? voice.before[i] : 1.0f;
    const float after = voice.after ? voice.after[i] : 1.0f;
    F sum[CHUNK];
    for (int k = 0; k < CHUNK; ++k) sum[k] = all<W>(0.0f);
    for (int c = 0; c < n; ++c) {
        const float* row = grid + int64_t{vertex[c]} * width;
        const F w = all<W>(weight[c]);
        for (int k = 0; k < CHUNK; ++k) sum[k] += w * load<W>(row + k * W);
    }
    for (int k = 0; k < CHUNK; ++k) {
        sum[k] *= voice.scale * after;
        if (self) sum[k] -= load<W>(self + b + k * W) * (before * after);
        if (voice.cost)
            store<W>(scores + b + k * W, load<W>(scores + b + k * W) - sum[k] * load<W>(voice.cost + b + k * W));
        else
            store<W>(heard + b + k * W, sum[k]);
    }
}

template <int W, int BLOCKS, int CORNERS>
inline void hear(const Voice& voice, const Pass& pass, int64_t i, const float* self, float* scores, float* heard) {
    const int width = BLOCKS ? BLOCKS * W : pass.width;
    if (BLOCKS) {
        hear_chunk<W, BLOCKS ? BLOCKS : 1, CORNERS>(voice, i, width, 0, self, scores, heard);
    } else {
        int b = 0;
        for (; b + 4 * W <= width; b += 4 * W) hear_chunk<W, 4, CORNERS>(voice, i, width, b, self, scores, heard);
        for (; b < width; b += W) hear_chunk<W, 1, CORNERS>(voice, i, width, b, self, scores, heard);
    }
    if (voice.cost) return;
    for (int k = 0; k < pass.labels; ++k) {
        const float* row = voice.matrix + int64_t{k} * width;
        const float h = heard[k];
        for (int b = 0; b < width; b += W) store<W>(scores + b, load<W>(scores + b) - h * load<W>(row + b));
    }
}

template <int W, int BLOCKS, int CORNERS>
inline void speak(const Voice& voice, const Pass& pass, int64_t i, const float* belief) {
    using F = typename Vector<W>::F;
    const int width = BLOCKS ? BLOCKS * W : pass.width;
    const int n = CORNERS ? CORNERS : voice.corners;
    const int32_t* vertex = voice.vertex + i * n;
    const float* weight = voice.weight + i * n;
    const float before = voice.before ? voice.before[i] : 1.0f;
    for (int c = 0; c < n; ++c) {
        float* to = voice.spoken + int64_t{vertex[c]} * width;
        const F w = all<W>(weight[c] * before);
        for (int b = 0; b < width; b += W) store<W>(to + b, load<W>(to + b) + w * load<W>(belief + b));
    }
}

// Whether all of a tile's numbers are numbers, and finite.
template <int W>
inline bool finite(const float* tile, int64_t count) {
    using I = typename Vector<W>::I;
    I strange{};
    for (int64_t k = 0; k < count; k += W) {
        const typename Vector<W>::F x = load<W>(tile + k);
        strange |= (x - x) != all<W>(0.0f);
    }
    for (int k = 0; k < W; ++k)
        if (strange[k]) return false;
    return true;
}

// Beliefs of a tile: prior · exp(scores), normalised. The prior is what probabilities say; for logits and energies it is in the scores.
// False where they cannot be: the greatest score counts as 1 in a sum, unless there is none.
template <int W, int BLOCKS>
inline bool decide(const Pass& pass, int count, float* tile, const float* scores) {
    using F = typename Vector<W>::F;
    const int width = BLOCKS ? BLOCKS * W : pass.width;
    bool possible = true;
    for (int p = 0; p < count; ++p, tile += width, scores += width) {
        F most = load<W>(scores);
        for (int b = W; b < width; b += W) most = greater_of<W>(most, load<W>(scores + b));
        most = greatest_of<W>(most);
        F sums = all<W>(0.0f);
        for (int b = 0; b < width; b += W) {
            F value = exp_of<W>(load<W>(scores + b) - most);
            if (pass.kind == Kind::probabilities) {
                F prior = greater_of<W>(load<W>(tile + b), all<W>(1e-5f));
                value *= prior < all<W>(1.0f) ? prior : all<W>(1.0f);
            }
            store<W>(tile + b, value);
            sums += value;
        }
        const F sum = sum_of<W>(sums), inverse = 1.0f / sum;
        possible &= sum[0] > 0;
        for (int b = 0; b < width; b += W) store<W>(tile + b, load<W>(tile + b) * inverse);
    }
    return possible;
}

// In phases, not pixel by pixel: pixels of a phase do not wait for one another, and the processor works on several at once.
template <int W, int BLOCKS>
Fault pass_over(const Pass& pass, int64_t first, int64_t last, float* scratch) {
    using F = typename Vector<W>::F;
    const int width = BLOCKS ? BLOCKS * W : pass.width;
    float* tile = scratch;
    float* selves = tile + TILE * width;
    float* scores = selves + TILE * width;
    float* heard = scores + TILE * width;
    const int most = width <= 64 ? TILE : TILE / 2;  // a line of the cache, if the tile then stays in it
    Fault fault = Fault::none;
    for (int64_t begin = first; begin < last; begin += most) {
        const int count = last - begin < most ? static_cast<int>(last - begin) : most;
        read_tile(tile, pass.given.at ? pass.given : pass.scores, begin, count, pass.labels, width);
        if (!finite<W>(tile, int64_t{count} * width)) fault = Fault::not_finite;
        if (!pass.given.at) {
            for (int p = 0; p < count; ++p)
                for (int b = 0; b < width; b += W) {
                    const F pad = load<W>(pass.pad + b), said = load<W>(tile + p * width + b);
                    store<W>(scores + p * width + b, pass.kind == Kind::probabilities ? pad : pass.kind == Kind::logits ? pad + said : pad - said);
                }
            if (pass.hears) {
                if (pass.previous.at) read_tile(selves, pass.previous, begin, count, pass.labels, width);
                for (int m = 0; m < pass.voices; ++m) {
                    const Voice& voice = pass.voice[m];
                    for (int p = 0; p < count; ++p) {
                        const float* self = pass.previous.at ? selves + p * width : nullptr;
                        switch (voice.corners) {
                            case 3: hear<W, BLOCKS, 3>(voice, pass, begin + p, self, scores + p * width, heard); break;
                            case 6: hear<W, BLOCKS, 6>(voice, pass, begin + p, self, scores + p * width, heard); break;
                            default: hear<W, BLOCKS, 0>(voice, pass, begin + p, self, scores + p * width, heard);
                        }
                    }
                }
            }
            if (!decide<W, BLOCKS>(pass, count, tile, scores) && fault == Fault::none) fault = Fault::overflow;
        }
        if (pass.speaks)
            for (int m = 0; m < pass.voices; ++m) {
                const Voice& voice = pass.voice[m];
                for (int p = 0; p < count; ++p) switch (voice.corners) {
                        case 3: speak<W, BLOCKS, 3>(voice, pass, begin + p, tile + p * width); break;
                        case 6: speak<W, BLOCKS, 6>(voice, pass, begin + p, tile + p * width); break;
                        default: speak<W, BLOCKS, 0>(voice, pass, begin + p, tile + p * width);
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

template <int W, int BLOCKS>
void blur_rows(const float* from, float* to, const int32_t* neighbour, int64_t first, int64_t last, int dynamic) {
    const int64_t width = BLOCKS ? BLOCKS * W : dynamic;
    for (int64_t v = first; v < last; ++v) {
        const float* own = from + v * width;
        const float* one = from + neighbour[v * 2] * width;
        const float* other = from + neighbour[v * 2 + 1] * width;
        for (int64_t b = 0; b < width; b += W)
            store<W>(to + v * width + b, load<W>(own + b) + 0.5f * (load<W>(one + b) + load<W>(other + b)));
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

void locate(const float* const* features, int64_t first, int count, int d, const double* spread, Places& places);

extern const Kernels kernels;
const Kernels kernels{UPSCORE_TEXT(UPSCORE_INSTRUCTIONS), LANES, locate, pass_of, blur, add};

}  // namespace upscore::crf::UPSCORE_INSTRUCTIONS
