// Room for large arrays, in large pages where the system has them: arrays that are walked at random then need few of them.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace upscore {

// Ask for large pages under room that nobody has written to yet: giving it page by page takes longer than filling it.
// Smaller room shares its pages with other things, and is left as it is.
inline void prefer_large_pages([[maybe_unused]] void* at, [[maybe_unused]] size_t bytes) {
#ifdef MADV_HUGEPAGE
    constexpr uintptr_t LARGE = uintptr_t{2} << 20;
    if (bytes < 16 * LARGE) return;  // what the C library always gives pages of its own
    const uintptr_t first = (reinterpret_cast<uintptr_t>(at) + LARGE - 1) / LARGE * LARGE, last = (reinterpret_cast<uintptr_t>(at) + bytes) / LARGE * LARGE;
    madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);  // a wish: what it says does not matter
#endif
}

struct Freed {
    void operator()(void* at) const { std::free(at); }
};

// Not initialised. T is plain numbers.
template <class T>
using Room = std::unique_ptr<T[], Freed>;

template <class T>
Room<T> room(int64_t count) {
    constexpr size_t LARGE = size_t{2} << 20, SMALL = 64;
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    const size_t page = bytes >= 2 * LARGE ? LARGE : SMALL;
    void* at = std::aligned_alloc(page, (bytes + page) / page * page);
    if (!at) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    if (page == LARGE) madvise(at, (bytes + page) / page * page, MADV_HUGEPAGE);  // a wish: what it says does not matter
#endif
    return Room<T>(static_cast<T*>(at));
}

}  // namespace upscore
