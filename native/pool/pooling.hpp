// Max pooling with switches, unpooling, and the gradients of both, on whole arrays with a pool of threads.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "../memory.hpp"
#include "../thread_pool.hpp"
#include "kernels.hpp"

namespace upscore::pool {

enum class Task { pool, scatter, gather };

// With less work than this a thread takes longer to start than it saves.
constexpr int64_t BYTES_PER_THREAD = int64_t{1} << 20;

// `pixels` has the shape before pooling, `values` has one number for each window. pool and gather read `pixels` and write `values`; scatter
// reads `values` and writes `pixels`.
template <class T>
void run(Task task, const Shape& shape, T* pixels, T* values, uint8_t* switches, T lowest, int threads, const Kernels& kernels) {
    const int64_t rows = shape.planes * shape.rows(), line = shape.line();
    if (rows == 0 || shape.width == 0 || shape.channels == 0) return;
    const int64_t count = shape.planes * shape.height * shape.width * shape.channels;
    if (task == Task::scatter)
        prefer_large_pages(pixels, count * sizeof(T));
    else
        prefer_large_pages(values, rows * shape.columns() * shape.channels * sizeof(T));
    const int parts = static_cast<int>(std::clamp<int64_t>(count * sizeof(T) / BYTES_PER_THREAD, 1, threads));
    const std::vector<T> fill(line, task == Task::pool ? lowest : T{0});
    std::vector<T> discard(line * parts);
    const Steps<T>& steps = kernels.steps<T>();
    ThreadPool workers(parts);
    workers.run(rows, parts, [&](int part, int64_t first, int64_t last) {
        T* discarded = discard.data() + part * line;
        switch (task) {
            case Task::pool: return steps.pool(shape, pixels, values, switches, first, last, fill.data(), discarded);
            case Task::scatter: return steps.scatter(shape, values, switches, pixels, first, last, discarded);
            case Task::gather: return steps.gather(shape, pixels, switches, values, first, last, fill.data(), discarded);
        }
    });
}

}  // namespace upscore::pool
