// Room for large arrays, in large pages where the system has them: arrays that are walked at random then need few of them.
// And whether the machine has it: Linux promises memory that it does not have, and stops the program that writes to it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <memory>
#include <new>
#include <string>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace upscore {

struct NotEnoughMemory : std::bad_alloc {
    const char* what() const noexcept override { return "this takes more memory than is available"; }
};

// The number after `name` in a file of names and numbers, or the file's first if there is no name; `otherwise` where there is none.
inline double number_in(const char* path, const std::string& name, double otherwise) {
    std::ifstream file(path);
    double number;
    if (name.empty()) return file >> number ? number : otherwise;
    for (std::string word; file >> word;)
        if (word == name) return file >> number ? number : otherwise;
    return otherwise;
}

// Bytes that can be written to before the system stops a program: what is free or can be freed, and what is left of the control
// group's limit. Infinite where the system does not say.
inline double available_memory() {
    constexpr double UNKNOWN = std::numeric_limits<double>::infinity();
    const double machine = number_in("/proc/meminfo", "MemAvailable:", UNKNOWN) * 1024;
    const double limit = number_in("/sys/fs/cgroup/memory.max", "", UNKNOWN);
    return std::max(0.0, std::min(machine, limit - number_in("/sys/fs/cgroup/memory.stat", "anon", 0)));
}

// Refuse to ask for more than there is. Less than this is not looked up: reading what there is takes some ten microseconds.
inline void require_memory(double bytes) {
    if (bytes > double{1 << 28} && bytes > available_memory()) throw NotEnoughMemory();
}

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
