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
struct Choice {
    U<W> maximum, code;
};

// Of equal ones the first, of several NaN the last, as torch chooses. `one` is code 1 in the bits where codes are wanted.
template <int W>
inline Choice<W> choose(const Window<W>& x, U<W> one) {
    const U<W> right = wins<W>(x.upper_right, x.upper_left);
    U<W> best = right ? x.upper_right : x.upper_left;
    const U<W> lower = wins<W>(x.lower_left, best);
    best = lower ? x.lower_left : best;
    const U<W> last = wins<W>(x.lower_right, best);
    best = last ? x.lower_right : best;
    return {best, (((right & ~lower) | last) & one) | ((lower | last) & (one << 1))};
}

// Each value at the place that `codes` have in the bits of `one`, and zeros.
template <int W>
inline Window<W> place(U<W> value, U<W> codes, U<W> one) {
    const U<W> code = codes & (one | one << 1);
    return {value & (U<W>)(code == U<W>{}), value & (U<W>)(code == one), value & (U<W>)(code == one << 1), value & (U<W>)(code == (one | one << 1))};
}

template <int W>
inline U<W> take(const Window<W>& x, U<W> codes, U<W> one) {
    const Window<W> kept = place<W>(all<W>(~0u), codes, one);
    return (x.upper_left & kept.upper_left) | (x.upper_right & kept.upper_right) | (x.lower_left & kept.lower_left) |
           (x.lower_right & kept.lower_right);
}

// ---- one channel: windows side by side in the lanes --------------------------------------------------------------

// Code 1 of every window: two bits further for each.
template <int W>
inline U<W> ones() {
    U<W> one;
    for (int k = 0; k < W; ++k) one[k] = 1u << 2 * k;
    return one;
}

// Write codes, and read them back to where ones() has them; those of the first `skipped` windows lie outside.
template <int W>
inline void store_codes(uint8_t* at, U<W> codes, int skipped) {
    uint32_t joined = 0;
    for (int k = 0; k < W; ++k) joined |= codes[k];
    joined >>= 2 * skipped;
    for (int k = 0; k < W / WINDOWS; ++k) at[k] = static_cast<uint8_t>(joined >> 8 * k);
}
template <int W>
inline U<W> load_codes(const uint8_t* at, int skipped) {
    uint32_t joined = 0;
    for (int k = 0; k < W / WINDOWS; ++k) joined |= uint32_t{at[k]} << 8 * k;
    joined <<= 2 * skipped;
    if (skipped) joined |= at[-1] >> 2 * (WINDOWS - skipped);
    return all<W>(joined);
}

template <int W, class T>
inline void pool_step(const T* up, const T* down, T* maxima, uint8_t* switches, int skipped = 0) {
    const Pair<W> upper = load_pairs<W>(up), lower = load_pairs<W>(down);
    const Choice<W> choice = choose<W>({upper.even, upper.odd, lower.even, lower.odd}, ones<W>());
    store<W>(maxima, choice.maximum);
    store_codes<W>(switches, choice.code, skipped);
}

template <int W, class T>
inline void scatter_step(const T* y, const uint8_t* switches, T* up, T* down, int skipped = 0) {
    const Window<W> placed = place<W>(load<W>(y), load_codes<W>(switches, skipped), ones<W>());
    store_pairs<W>(up, {placed.upper_left, placed.upper_right});
    store_pairs<W>(down, {placed.lower_left, placed.lower_right});
}

template <int W, class T>
inline void gather_step(const T* up, const T* down, const uint8_t* switches, T* out, int skipped = 0) {
    const Pair<W> upper = load_pairs<W>(up), lower = load_pairs<W>(down);
    store<W>(out, take<W>({upper.even, upper.odd, lower.even, lower.odd}, load_codes<W>(switches, skipped), ones<W>()));
}

// Call wide(j) for LANES windows from the j-th on, and narrow(j, skipped) for WINDOWS of them, the first `skipped` of which were
// done before. Return where windows are left, fewer than fill a byte or with a half one: they need room of their own.
template <class Wide, class Narrow>
inline int64_t over_windows(int64_t width, const Wide& wide, const Narrow& narrow) {
    const int64_t whole = width / 2;
    int64_t j = 0;
    for (; j + LANES <= whole; j += LANES) wide(j);
    for (; j + WINDOWS <= whole; j += WINDOWS) narrow(j, 0);
    if (width % 2 || j == 0 || j == whole) return j;
    narrow(whole - WINDOWS, static_cast<int>(j - (whole - WINDOWS)));
    return whole;
}

// The windows that are left of a row, at most WINDOWS.
template <class T>
struct Rest {
    T up[2 * WINDOWS], down[2 * WINDOWS], values[WINDOWS] = {};
    const int64_t first, windows, pixels;

    Rest(const Maps& maps, int64_t first) : first(first), windows(maps.columns() - first), pixels(maps.width - 2 * first) {}

    static void copy(T* to, const T* from, int64_t count) {
        for (int64_t k = 0; k < count; ++k) to[k] = from[k];
    }
    void read(const T* from_up, const T* from_down, T absent) {
        for (int k = 0; k < 2 * WINDOWS; ++k) up[k] = down[k] = absent;
        copy(up, from_up + 2 * first, pixels);
        copy(down, from_down + 2 * first, pixels);
    }
};

template <class T>
void pool_plane_row(const Maps& maps, const T* up, const T* down, T* maxima, uint8_t* switches, T absent) {
    const auto narrow = [&](int64_t j, int skipped) {
        pool_step<WINDOWS>(up + 2 * j, down + 2 * j, maxima + j, switches + (j + skipped) / WINDOWS, skipped);
    };
    const int64_t j = over_windows(
        maps.width, [&](int64_t j) { pool_step<LANES>(up + 2 * j, down + 2 * j, maxima + j, switches + j / WINDOWS); }, narrow);
    if (2 * j == maps.width) return;
    Rest<T> rest(maps, j);
    rest.read(up, down, absent);
    pool_step<WINDOWS>(rest.up, rest.down, rest.values, switches + j / WINDOWS);
    rest.copy(maxima + j, rest.values, rest.windows);
}

template <class T>
void scatter_plane_row(const Maps& maps, const T* y, const uint8_t* switches, T* up, T* down) {
    const auto narrow = [&](int64_t j, int skipped) {
        scatter_step<WINDOWS>(y + j, switches + (j + skipped) / WINDOWS, up + 2 * j, down + 2 * j, skipped);
    };
    const int64_t j = over_windows(
        maps.width, [&](int64_t j) { scatter_step<LANES>(y + j, switches + j / WINDOWS, up + 2 * j, down + 2 * j); }, narrow);
    if (2 * j == maps.width) return;
    Rest<T> rest(maps, j);
    rest.copy(rest.values, y + j, rest.windows);
    scatter_step<WINDOWS>(rest.values, switches + j / WINDOWS, rest.up, rest.down);
    rest.copy(up + 2 * j, rest.up, rest.pixels);
    rest.copy(down + 2 * j, rest.down, rest.pixels);
}

template <class T>
void gather_plane_row(const Maps& maps, const T* up, const T* down, const uint8_t* switches, T* out) {
    const auto narrow = [&](int64_t j, int skipped) {
        gather_step<WINDOWS>(up + 2 * j, down + 2 * j, switches + (j + skipped) / WINDOWS, out + j, skipped);
    };
    const int64_t j = over_windows(
        maps.width, [&](int64_t j) { gather_step<LANES>(up + 2 * j, down + 2 * j, switches + j / WINDOWS, out + j); }, narrow);
    if (2 * j == maps.width) return;
    Rest<T> rest(maps, j);
    rest.read(up, down, 0);
    gather_step<WINDOWS>(rest.up, rest.down, switches + j / WINDOWS, rest.values);
    rest.copy(out + j, rest.values, rest.windows);
}

// ---- several channels: side by side in the lanes, four windows at a time -----------------------------------------

// Where the pixels of four windows and their values begin; what is not there begins at `absent`, read or written in its stead.
template <class Pixel, class Value>
struct Quad {
    Pixel* pixel[WINDOWS][4];
    Value* value[WINDOWS];

    Quad(const Maps& maps, int64_t first, Pixel* up, Pixel* down, Value* values, Pixel* no_pixel, Value* no_value) {
        for (int q = 0; q < WINDOWS; ++q) {
            const int64_t left = 2 * (first + q), right = left + 1, channels = maps.channels;
            pixel[q][0] = left < maps.width ? up + left * channels : no_pixel;
            pixel[q][1] = right < maps.width ? up + right * channels : no_pixel;
            pixel[q][2] = left < maps.width && down ? down + left * channels : no_pixel;
            pixel[q][3] = right < maps.width && down ? down + right * channels : no_pixel;
            value[q] = left < maps.width ? values + (first + q) * channels : no_value;
        }
    }

    template <int W>
    Window<W> load_window(int q, int64_t c) const {
        return {load<W>(pixel[q][0] + c), load<W>(pixel[q][1] + c), load<W>(pixel[q][2] + c), load<W>(pixel[q][3] + c)};
    }
};

// Call step(channel) for whole vectors; the last may overlap the one before it, and write the same once more.
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
            const Choice<W> choice = choose<W>(quad.template load_window<W>(q, c), all<W>(1u << 2 * q));
            store<W>(quad.value[q] + c, choice.maximum);
            codes |= choice.code;
        }
        store<W>(switches + c, codes);
    });
}

template <int W, class T>
inline void scatter_quad(int64_t channels, const Quad<T, const T>& quad, const uint8_t* switches) {
    over_channels<W>(channels, [&](int64_t c) {
        const U<W> codes = load<W>(switches + c);
        for (int q = 0; q < WINDOWS; ++q) {
            const Window<W> placed = place<W>(load<W>(quad.value[q] + c), codes, all<W>(1u << 2 * q));
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
        for (int q = 0; q < WINDOWS; ++q) store<W>(quad.value[q] + c, take<W>(quad.template load_window<W>(q, c), codes, all<W>(1u << 2 * q)));
    });
}

// ---- rows of windows ---------------------------------------------------------------------------------------------

// Call work(offset of the upper pixels, whether there are lower ones, offset of the values, offset of the switches) for each row.
template <class Work>
inline void over_rows(const Maps& maps, int64_t first, int64_t last, const Work& work) {
    const int64_t rows = maps.rows();
    int64_t plane = first / rows, i = first % rows;
    for (int64_t row = first; row < last; ++row) {
        work((plane * maps.height + 2 * i) * maps.width * maps.channels, 2 * i + 1 < maps.height, row * maps.columns() * maps.channels,
             row * maps.bytes() * maps.channels);
        if (++i == rows) ++plane, i = 0;
    }
}

template <class T>
void pool(const Maps& maps, const T* x, T* maxima, uint8_t* switches, int64_t first, int64_t last, const T* absent, T* nowhere) {
    over_rows(maps, first, last, [&](int64_t pixels, bool whole, int64_t values, int64_t bytes) {
        const T *up = x + pixels, *down = whole ? up + maps.width * maps.channels : nullptr;
        if (maps.channels == 1) return pool_plane_row(maps, up, down ? down : absent, maxima + values, switches + bytes, *absent);
        for (int64_t b = 0; b < maps.bytes(); ++b) {
            const Quad<const T, T> quad(maps, b * WINDOWS, up, down, maxima + values, absent, nowhere);
            uint8_t* codes = switches + bytes + b * maps.channels;
            maps.channels < LANES ? pool_quad<1>(maps.channels, quad, codes) : pool_quad<LANES>(maps.channels, quad, codes);
        }
    });
}

template <class T>
void scatter(const Maps& maps, const T* y, const uint8_t* switches, T* out, int64_t first, int64_t last, T* nowhere) {
    over_rows(maps, first, last, [&](int64_t pixels, bool whole, int64_t values, int64_t bytes) {
        T *up = out + pixels, *down = whole ? up + maps.width * maps.channels : nullptr;
        if (maps.channels == 1) return scatter_plane_row(maps, y + values, switches + bytes, up, down ? down : nowhere);
        for (int64_t b = 0; b < maps.bytes(); ++b) {
            const Quad<T, const T> quad(maps, b * WINDOWS, up, down, y + values, nowhere, nowhere);
            const uint8_t* codes = switches + bytes + b * maps.channels;
            maps.channels < LANES ? scatter_quad<1>(maps.channels, quad, codes) : scatter_quad<LANES>(maps.channels, quad, codes);
        }
    });
}

template <class T>
void gather(const Maps& maps, const T* x, const uint8_t* switches, T* out, int64_t first, int64_t last, const T* absent, T* nowhere) {
    over_rows(maps, first, last, [&](int64_t pixels, bool whole, int64_t values, int64_t bytes) {
        const T *up = x + pixels, *down = whole ? up + maps.width * maps.channels : nullptr;
        if (maps.channels == 1) return gather_plane_row(maps, up, down ? down : absent, switches + bytes, out + values);
        for (int64_t b = 0; b < maps.bytes(); ++b) {
            const Quad<const T, T> quad(maps, b * WINDOWS, up, down, out + values, absent, nowhere);
            const uint8_t* codes = switches + bytes + b * maps.channels;
            maps.channels < LANES ? gather_quad<1>(maps.channels, quad, codes) : gather_quad<LANES>(maps.channels, quad, codes);
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
