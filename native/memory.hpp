// Buffers for large arrays, in huge pages if the system has them, which saves TLB misses in random access; and a check that memory is
// available before it is allocated: Linux overcommits, and kills the process that writes to memory it does not have.
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

// The number after `name` in a file of names and numbers, or the file's first if `name` is empty; `otherwise` if there is none.
inline double number_in(const char* path, const std::string& name, double otherwise) {
    std::ifstream file(path);
    double number;
    if (name.empty()) return file >> number ? number : otherwise;
    for (std::string word; file >> word;)
        if (word == name) return file >> number ? number : otherwise;
    return otherwise;
}

// Bytes that can be written to before the system kills the process: what is free or reclaimable, within what is left of the control
// group's limit. Infinite if the system does not report it.
inline double available_memory() {
    constexpr double UNKNOWN = std::numeric_limits<double>::infinity();
    const double machine = number_in("/proc/meminfo", "MemAvailable:", UNKNOWN) * 1024;
    const double limit = number_in("/sys/fs/cgroup/memory.max", "", UNKNOWN);
    return std::max(0.0, std::min(machine, limit - number_in("/sys/fs/cgroup/memory.stat", "anon", 0)));
}

// Throw if `bytes` are not available. Smaller requests are not checked: reading the available memory takes some ten microseconds.
inline void require_memory(double bytes) {
    if (bytes > double{1 << 28} && bytes > available_memory()) throw NotEnoughMemory();
}

// Ask for huge pages for a buffer that nobody has written to yet: faulting in small pages takes longer than filling them.
// Smaller buffers share their pages with other allocations and are left alone.
inline void prefer_large_pages([[maybe_unused]] void* at, [[maybe_unused]] size_t bytes) {
#ifdef MADV_HUGEPAGE
    constexpr uintptr_t LARGE = uintptr_t{2} << 20;
    if (bytes < 16 * LARGE) return;  // from here on malloc maps pages for the buffer alone
    const uintptr_t first = (reinterpret_cast<uintptr_t>(at) + LARGE - 1) / LARGE * LARGE, last = (reinterpret_cast<uintptr_t>(at) + bytes) / LARGE * LARGE;
    madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);  // a hint: its result does not matter
#endif
}

struct FreeDeleter {
    void operator()(void* at) const { std::free(at); }
};

// An uninitialised array of numbers.
template <class T>
using Buffer = std::unique_ptr<T[], FreeDeleter>;

template <class T>
Buffer<T> allocate(int64_t count) {
    constexpr size_t LARGE = size_t{2} << 20, SMALL = 64;
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    const size_t page = bytes >= 2 * LARGE ? LARGE : SMALL;
    void* at = std::aligned_alloc(page, (bytes + page) / page * page);
    if (!at) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    if (page == LARGE) madvise(at, (bytes + page) / page * page, MADV_HUGEPAGE);  // a hint: its result does not matter
#endif
    return Buffer<T>(static_cast<T*>(at));
}

}  // namespace upscore
