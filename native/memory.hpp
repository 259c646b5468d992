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
