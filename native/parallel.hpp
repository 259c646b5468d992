// Work in contiguous pieces, one thread each: the same number of pieces gives the same bits.
#pragma once

#include <cstdint>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

namespace upscore {

// Call work(part, first, last) for `parts` pieces of [0, count). Where no thread can be had, the piece is done by this one.
// The first exception of any piece is thrown when all have ended.
template <class Work>
void in_parts(int64_t count, int parts, const Work& work) {
    std::vector<std::exception_ptr> failures(parts);
    const auto piece = [&](int part) noexcept {
        try {
            work(part, count * part / parts, count * (part + 1) / parts);
        } catch (...) {
            failures[part] = std::current_exception();
        }
    };
    std::vector<std::thread> threads;
    threads.reserve(parts);
    int begun = 1;
    try {
        for (; begun < parts; ++begun) threads.emplace_back(piece, begun);
    } catch (const std::system_error&) {
    }
    piece(0);
    for (int part = begun; part < parts; ++part) piece(part);
    for (auto& thread : threads) thread.join();
    for (auto& failure : failures)
        if (failure) std::rethrow_exception(failure);
}

}  // namespace upscore
