// Work in contiguous pieces by a team of threads: the same number of pieces gives the same bits.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace upscore {

// Threads that live as long as one call from Python does: none are left behind to be forked, or waited for at exit.
// A piece of work often takes no longer than a thread takes to begin, so that they are begun once, and look out for work a
// while before they sleep.
class Team {
  public:
    // Where fewer threads can be had, fewer do the work.
    explicit Team(int size) : size_(size) {
        threads_.reserve(size);
        try {
            for (int member = 1; member < size; ++member) threads_.emplace_back([this, member] { serve(member); });
        } catch (const std::system_error&) {
        }
    }

    ~Team() {
        over_ = true;
        announce();
        for (auto& thread : threads_) thread.join();
    }

    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    // As many as were asked for: what work is cut for, so that its bits do not depend on what could be had.
    int size() const { return size_; }

    // Call work(part, first, last) for `parts` pieces of [0, count); the first piece is this thread's.
    // The first exception of any piece is thrown when all have ended.
    template <class Work>
    void run(int64_t count, int parts, const Work& work) {
        std::vector<std::exception_ptr> failures(parts);
        const auto piece = [&](int part) noexcept {
            try {
                work(part, count * part / parts, count * (part + 1) / parts);
            } catch (...) {
                failures[part] = std::current_exception();
            }
        };
        if (parts == 1 || threads_.empty()) {
            for (int part = 0; part < parts; ++part) piece(part);
        } else {
            const int members = static_cast<int>(threads_.size()) + 1;
            task_ = [&](int member) {
                for (int part = member; part < parts; part += members) piece(part);
            };
            working_ = static_cast<int>(threads_.size());
            announce();
            task_(0);
            await([this] { return working_ == 0; });
        }
        for (auto& failure : failures)
            if (failure) std::rethrow_exception(failure);
    }

  private:
    static constexpr int LOOKS = 4000;  // some tens of microseconds, what waking a thread costs

    void announce() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            ++round_;
        }
        news_.notify_all();
    }

    template <class Condition>
    void await(const Condition& holds) {
        for (int look = 0; look < LOOKS; ++look) {
            if (holds()) return;
#if defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
#endif
        }
        std::unique_lock<std::mutex> lock(mutex_);
        news_.wait(lock, holds);
    }

    void serve(int member) {
        for (int64_t seen = 0;;) {
            await([this, seen] { return round_ != seen; });
            seen = round_;
            if (over_) return;
            task_(member);
            if (--working_ == 0) {
                const std::lock_guard<std::mutex> lock(mutex_);
                news_.notify_all();
            }
        }
    }

    const int size_;
    std::mutex mutex_;
    std::condition_variable news_;
    std::atomic<int64_t> round_{0};
    std::atomic<int> working_{0};
    std::atomic<bool> over_{false};
    std::function<void(int)> task_;
    std::vector<std::thread> threads_;
};

}  // namespace upscore
