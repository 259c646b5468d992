// Pooling with switches, unpooling, and the gradients of both, on whole arrays by a team of threads.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "../memory.hpp"
#include "../parallel.hpp"
#include "kernels.hpp"

namespace upscore::pool {

enum class Task { pool, scatter, gather };

// Less than this is done sooner than a thread begins.
constexpr int64_t BYTES_A_THREAD = int64_t{1} << 20;

// `pixels` has the size of what is pooled, `values` and `switches` one a window. A task reads one of the two and writes the other.
template <class T>
void perform(Task task, const Maps& maps, T* pixels, T* values, uint8_t* switches, T lowest, int threads, const Kernels& kernels) {
    const int64_t rows = maps.planes * maps.rows(), line = maps.line();
    if (rows == 0 || maps.width == 0 || maps.channels == 0) return;
    const int64_t count = maps.planes * maps.height * maps.width * maps.channels;
    if (task == Task::scatter)
        prefer_large_pages(pixels, count * sizeof(T));
    else
        prefer_large_pages(values, rows * maps.columns() * maps.channels * sizeof(T));
    const int parts = static_cast<int>(std::clamp<int64_t>(count * sizeof(T) / BYTES_A_THREAD, 1, threads));
    const std::vector<T> absent(line, task == Task::pool ? lowest : T{0});
    std::vector<T> nowhere(line * parts);
    const Steps<T>& steps = kernels.steps<T>();
    Team team(parts);
    team.run(rows, parts, [&](int part, int64_t first, int64_t last) {
        T* beyond = nowhere.data() + part * line;
        switch (task) {
            case Task::pool: return steps.pool(maps, pixels, values, switches, first, last, absent.data(), beyond);
            case Task::scatter: return steps.scatter(maps, values, switches, pixels, first, last, beyond);
            case Task::gather: return steps.gather(maps, pixels, switches, values, first, last, absent.data(), beyond);
        }
    });
}

}  // namespace upscore::pool
