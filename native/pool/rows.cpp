#include "kernels.hpp"
#include "vectors.hpp"

namespace upscore::pool::UPSCORE_INSTRUCTIONS {

namespace {

// ---- one window in every lane ------------------------------------------------------------------------------------

template <int W>
struct Window {
    U<W> upper_left, upper_right, lower_left, lower_right;
};

template <int W>
struct Maximum {
    U<W> value, code;
};

// The maximum of a window and the code of its position: of equal values the first, of several NaN the last, as in torch. `bit0` is the
// low bit of the lane's code; the high bit lies above it.
template <int W>
inline Maximum<W> max_of_window(const Window<W>& x, U<W> bit0) {
    const U<W> right = exceeds<W>(x.upper_right, x.upper_left);
    U<W> best = right ? x.upper_right : x.upper_left;
    const U<W> lower = exceeds<W>(x.lower_left, best);
    best = lower ? x.lower_left : best;
    const U<W> last = exceeds<W>(x.lower_right, best);
    best = last ? x.lower_right : best;
    return {best, (((right & ~lower) | last) & bit0) | ((lower | last) & (bit0 << 1))};
}

// Windows of zeros with each value at the position that its code gives; `bit0` as above.
template <int W>
inline Window<W> scatter_lanes(U<W> value, U<W> codes, U<W> bit0) {
    const U<W> code = codes & (bit0 | bit0 << 1);
    return {value & (U<W>)(code == U<W>{}), value & (U<W>)(code == bit0), value & (U<W>)(code == bit0 << 1), value & (U<W>)(code == (bit0 | bit0 << 1))};
}

// The value of each window at the position that its code gives.
template <int W>
inline U<W> gather_lanes(const Window<W>& x, U<W> codes, U<W> bit0) {
    const Window<W> mask = scatter_lanes<W>(broadcast<W>(~0u), codes, bit0);
    return (x.upper_left & mask.upper_left) | (x.upper_right & mask.upper_right) | (x.lower_left & mask.lower_left) |
           (x.lower_right & mask.lower_right);
}

// ---- one channel: windows side by side in the lanes --------------------------------------------------------------

// The low bit of every window's code: the code of lane k lies in bits 2k and 2k + 1.
template <int W>
inline U<W> bit0_of_lanes() {
    U<W> bit0;
    for (int k = 0; k < W; ++k) bit0[k] = 1u << 2 * k;
    return bit0;
}

// Pack codes into bytes, and unpack them to where bit0_of_lanes() expects them; the first `skipped` windows belong to the byte before.
template <int W>
inline void store_codes(uint8_t* at, U<W> codes, int skipped) {
    uint32_t packed = 0;
    for (int k = 0; k < W; ++k) packed |= codes[k];
    packed >>= 2 * skipped;
    for (int k = 0; k < W / WINDOWS; ++k) at[k] = static_cast<uint8_t>(packed >> 8 * k);
}
template <int W>
inline U<W> load_codes(const uint8_t* at, int skipped) {
    uint32_t packed = 0;
    for (int k = 0; k < W / WINDOWS; ++k) packed |= uint32_t{at[k]} << 8 * k;
    packed <<= 2 * skipped;
    if (skipped) packed |= at[-1] >> 2 * (WINDOWS - skipped);
    return broadcast<W>(packed);
}

template <int W, class T>
inline void pool_step(const T* up, const T* down, T* maxima, uint8_t* switches, int skipped = 0) {
    const Pair<W> upper = load_pairs<W>(up), lower = load_pairs<W>(down);
    const Maximum<W> best = max_of_window<W>({upper.even, upper.odd, lower.even, lower.odd}, bit0_of_lanes<W>());
    store<W>(maxima, best.value);
    store_codes<W>(switches, best.code, skipped);
}

template <int W, class T>
inline void scatter_step(const T* y, const uint8_t* switches, T* up, T* down, int skipped = 0) {
    const Window<W> placed = scatter_lanes<W>(load<W>(y), load_codes<W>(switches, skipped), bit0_of_lanes<W>());
    store_pairs<W>(up, {placed.upper_left, placed.upper_right});
    store_pairs<W>(down, {placed.lower_left, placed.lower_right});
}

template <int W, class T>
inline void gather_step(const T* up, const T* down, const uint8_t* switches, T* out, int skipped = 0) {
    const Pair<W> upper = load_pairs<W>(up), lower = load_pairs<W>(down);
    store<W>(out, gather_lanes<W>({upper.even, upper.odd, lower.even, lower.odd}, load_codes<W>(switches, skipped), bit0_of_lanes<W>()));
}

// Call vector_step(j) for LANES windows from the j-th on, and windows_step(j, skipped) for WINDOWS of them, the first `skipped` of which are
// done already. Return the first window not done: fewer than fill a byte, or half a window, are left, and need padding.
template <class Wide, class Narrow>
inline int64_t over_windows(int64_t width, const Wide& vector_step, const Narrow& windows_step) {
    const int64_t complete = width / 2;
    int64_t j = 0;
    for (; j + LANES <= complete; j += LANES) vector_step(j);
    for (; j + WINDOWS <= complete; j += WINDOWS) windows_step(j, 0);
    if (width % 2 || j == 0 || j == complete) return j;
    windows_step(complete - WINDOWS, static_cast<int>(j - (complete - WINDOWS)));
    return complete;
}

// The last windows of a row, at most WINDOWS, padded.
template <class T>
struct Remainder {
    T up[2 * WINDOWS], down[2 * WINDOWS], values[WINDOWS] = {};
    const int64_t first, windows, pixels;

    Remainder(const Shape& shape, int64_t first) : first(first), windows(shape.columns() - first), pixels(shape.width - 2 * first) {}

    static void copy(T* to, const T* from, int64_t count) {
        for (int64_t k = 0; k < count; ++k) to[k] = from[k];
    }
    void read(const T* from_up, const T* from_down, T fill) {
        for (int k = 0; k < 2 * WINDOWS; ++k) up[k] = down[k] = fill;
        copy(up, from_up + 2 * first, pixels);
        copy(down, from_down + 2 * first, pixels);
    }
};

template <class T>
void pool_plane_row(const Shape& shape, const T* up, const T* down, T* maxima, uint8_t* switches, T fill) {
    const auto windows_step = [&](int64_t j, int skipped) {
        pool_step<WINDOWS>(up + 2 * j, down + 2 * j, maxima + j, switches + (j + skipped) / WINDOWS, skipped);
    };
    const int64_t j = over_windows(
        shape.width, [&](int64_t j) { pool_step<LANES>(up + 2 * j, down + 2 * j, maxima + j, switches + j / WINDOWS); }, windows_step);
    if (2 * j == shape.width) return;
    Remainder<T> remainder(shape, j);
    remainder.read(up, down, fill);
    pool_step<WINDOWS>(remainder.up, remainder.down, remainder.values, switches + j / WINDOWS);
    remainder.copy(maxima + j, remainder.values, remainder.windows);
}

template <class T>
void scatter_plane_row(const Shape& shape, const T* y, const uint8_t* switches, T* up, T* down) {
    const auto windows_step = [&](int64_t j, int skipped) {
        scatter_step<WINDOWS>(y + j, switches + (j + skipped) / WINDOWS, up + 2 * j, down + 2 * j, skipped);
    };
    const int64_t j = over_windows(
        shape.width, [&](int64_t j) { scatter_step<LANES>(y + j, switches + j / WINDOWS, up + 2 * j, down + 2 * j); }, windows_step);
    if (2 * j == shape.width) return;
    Remainder<T> remainder(shape, j);
    remainder.copy(remainder.values, y + j, remainder.windows);
    scatter_step<WINDOWS>(remainder.values, switches + j / WINDOWS, remainder.up, remainder.down);
    remainder.copy(up + 2 * j, remainder.up, remainder.pixels);
    remainder.copy(down + 2 * j, remainder.down, remainder.pixels);
}

template <class T>
void gather_plane_row(const Shape& shape, const T* up, const T* down, const uint8_t* switches, T* out) {
    const auto windows_step = [&](int64_t j, int skipped) {
        gather_step<WINDOWS>(up + 2 * j, down + 2 * j, switches + (j + skipped) / WINDOWS, out + j, skipped);
    };
    const int64_t j = over_windows(
        shape.width, [&](int64_t j) { gather_step<LANES>(up + 2 * j, down + 2 * j, switches + j / WINDOWS, out + j); }, windows_step);
    if (2 * j == shape.width) return;
    Remainder<T> remainder(shape, j);
    remainder.read(up, down, 0);
    gather_step<WINDOWS>(remainder.up, remainder.down, switches + j / WINDOWS, remainder.values);
    remainder.copy(out + j, remainder.values, remainder.windows);
}

// ---- several channels: side by side in the lanes, four windows at a time -----------------------------------------

// Pointers to the pixels of four windows and to their values; missing ones point to `no_pixel` and `no_value`.
template <class Pixel, class Value>
struct Quad {
    Pixel* pixel[WINDOWS][4];
    Value* value[WINDOWS];

    Quad(const Shape& shape, int64_t first, Pixel* up, Pixel* down, Value* values, Pixel* no_pixel, Value* no_value) {
        for (int q = 0; q < WINDOWS; ++q) {
            const int64_t left = 2 * (first + q), right = left + 1, channels = shape.channels;
            pixel[q][0] = left < shape.width ? up + left * channels : no_pixel;
            pixel[q][1] = right < shape.width ? up + right * channels : no_pixel;
            pixel[q][2] = left < shape.width && down ? down + left * channels : no_pixel;
            pixel[q][3] = right < shape.width && down ? down + right * channels : no_pixel;
            value[q] = left < shape.width ? values + (first + q) * channels : no_value;
        }
    }

    template <int W>
    Window<W> load_window(int q, int64_t c) const {
        return {load<W>(pixel[q][0] + c), load<W>(pixel[q][1] + c), load<W>(pixel[q][2] + c), load<W>(pixel[q][3] + c)};
    }
};

// Call step(channel) for whole vectors; the last may overlap the one before it and write the same values again.
template <int W, class Step>
inline void over_channels(int64_t channels, const Step& step) {
    int64_t c = 0;
    for (; c + W <= channels; c += W) step(c);
    if (c < channels) step(channels - W);
}

template <int W, class T>
inline void pool_quad(int64_t channels, const Quad<const T, T>& quad, uint8_t* switches) {
    over_channels<W>(channels, [&](int64_t c) {
        U<W> codes{};
        for (int q = 0; q < WINDOWS; ++q) {
            const Maximum<W> best = max_of_window<W>(quad.template load_window<W>(q, c), broadcast<W>(1u << 2 * q));
            store<W>(quad.value[q] + c, best.value);
            codes |= best.code;
        }
        store<W>(switches + c, codes);
    });
}

template <int W, class T>
inline void scatter_quad(int64_t channels, const Quad<T, const T>& quad, const uint8_t* switches) {
    over_channels<W>(channels, [&](int64_t c) {
        const U<W> codes = load<W>(switches + c);
        for (int q = 0; q < WINDOWS; ++q) {
            const Window<W> placed = scatter_lanes<W>(load<W>(quad.value[q] + c), codes, broadcast<W>(1u << 2 * q));
            store<W>(quad.pixel[q][0] + c, placed.upper_left);
            store<W>(quad.pixel[q][1] + c, placed.upper_right);
            store<W>(quad.pixel[q][2] + c, placed.lower_left);
            store<W>(quad.pixel[q][3] + c, placed.lower_right);
        }
    });
}

template <int W, class T>
inline void gather_quad(int64_t channels, const Quad<const T, T>& quad, const uint8_t* switches) {
    over_channels<W>(channels, [&](int64_t c) {
        const U<W> codes = load<W>(switches + c);
        for (int q = 0; q < WINDOWS; ++q) store<W>(quad.value[q] + c, gather_lanes<W>(quad.template load_window<W>(q, c), codes, broadcast<W>(1u << 2 * q)));
    });
}

// ---- rows of windows ---------------------------------------------------------------------------------------------

// Call work(offset of the upper pixels, whether there is a lower row, offset of the values, offset of the switches) for each row.
template <class Work>
inline void over_rows(const Shape& shape, int64_t first, int64_t last, const Work& work) {
    const int64_t rows = shape.rows();
    int64_t plane = first / rows, i = first % rows;
    for (int64_t row = first; row < last; ++row) {
        work((plane * shape.height + 2 * i) * shape.width * shape.channels, 2 * i + 1 < shape.height, row * shape.columns() * shape.channels,
             row * shape.bytes() * shape.channels);
        if (++i == rows) ++plane, i = 0;
    }
}

template <class T>
void pool(const Shape& shape, const T* x, T* maxima, uint8_t* switches, int64_t first, int64_t last, const T* fill, T* discard) {
    over_rows(shape, first, last, [&](int64_t pixels, bool has_lower, int64_t values, int64_t bytes) {
        const T *up = x + pixels, *down = has_lower ? up + shape.width * shape.channels : nullptr;
        if (shape.channels == 1) return pool_plane_row(shape, up, down ? down : fill, maxima + values, switches + bytes, *fill);
        for (int64_t b = 0; b < shape.bytes(); ++b) {
            const Quad<const T, T> quad(shape, b * WINDOWS, up, down, maxima + values, fill, discard);
            uint8_t* codes = switches + bytes + b * shape.channels;
            shape.channels < LANES ? pool_quad<1>(shape.channels, quad, codes) : pool_quad<LANES>(shape.channels, quad, codes);
        }
    });
}

template <class T>
void scatter(const Shape& shape, const T* y, const uint8_t* switches, T* out, int64_t first, int64_t last, T* discard) {
    over_rows(shape, first, last, [&](int64_t pixels, bool has_lower, int64_t values, int64_t bytes) {
        T *up = out + pixels, *down = has_lower ? up + shape.width * shape.channels : nullptr;
        if (shape.channels == 1) return scatter_plane_row(shape, y + values, switches + bytes, up, down ? down : discard);
        for (int64_t b = 0; b < shape.bytes(); ++b) {
            const Quad<T, const T> quad(shape, b * WINDOWS, up, down, y + values, discard, discard);
            const uint8_t* codes = switches + bytes + b * shape.channels;
            shape.channels < LANES ? scatter_quad<1>(shape.channels, quad, codes) : scatter_quad<LANES>(shape.channels, quad, codes);
        }
    });
}

template <class T>
void gather(const Shape& shape, const T* x, const uint8_t* switches, T* out, int64_t first, int64_t last, const T* fill, T* discard) {
    over_rows(shape, first, last, [&](int64_t pixels, bool has_lower, int64_t values, int64_t bytes) {
        const T *up = x + pixels, *down = has_lower ? up + shape.width * shape.channels : nullptr;
        if (shape.channels == 1) return gather_plane_row(shape, up, down ? down : fill, switches + bytes, out + values);
        for (int64_t b = 0; b < shape.bytes(); ++b) {
            const Quad<const T, T> quad(shape, b * WINDOWS, up, down, out + values, fill, discard);
            const uint8_t* codes = switches + bytes + b * shape.channels;
            shape.channels < LANES ? gather_quad<1>(shape.channels, quad, codes) : gather_quad<LANES>(shape.channels, quad, codes);
        }
    });
}

template <class T>
constexpr Steps<T> steps{pool<T>, scatter<T>, gather<T>};

#define UPSCORE_TEXT_OF(name) #name
#define UPSCORE_TEXT(name) UPSCORE_TEXT_OF(name)

}  // namespace

extern const Kernels kernels;
const Kernels kernels{UPSCORE_TEXT(UPSCORE_INSTRUCTIONS), steps<uint32_t>, steps<uint16_t>};

}  // namespace upscore::pool::UPSCORE_INSTRUCTIONS
