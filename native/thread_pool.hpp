// Work on a range in contiguous parts by a pool of threads; the same number of parts gives bit-identical results.
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

// Threads that live for one call from Python: none are left for a fork to lose, or to be joined at exit. A task is often shorter
// than starting a thread, so that threads are started once and spin for a while before they sleep.
class ThreadPool {
  public:
    // If the system refuses threads, the pool works with fewer.
    explicit ThreadPool(int size) : size_(size) {
        threads_.reserve(size);
        try {
            for (int worker = 1; worker < size; ++worker) threads_.emplace_back([this, worker] { work_until_stopped(worker); });
        } catch (const std::system_error&) {
        }
    }

    ~ThreadPool() {
        stopping_ = true;
        wake_all();
        for (auto& thread : threads_) thread.join();
    }

    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    // The number of threads requested, not started: work is divided by it, so that results do not depend on the system.
    int size() const { return size_; }

    // Call work(part, first, last) for `parts` parts of [0, count); part 0 runs on the calling thread. When all parts have finished,
    // the exception of the first part that failed is rethrown.
    template <class Work>
    void run(int64_t count, int parts, const Work& work) {
        std::vector<std::exception_ptr> failures(parts);
        const auto call_part = [&](int part) noexcept {
            try {
                work(part, count * part / parts, count * (part + 1) / parts);
            } catch (...) {
                failures[part] = std::current_exception();
            }
        };
        if (parts == 1 || threads_.empty()) {
            for (int part = 0; part < parts; ++part) call_part(part);
        } else {
            const int workers = static_cast<int>(threads_.size()) + 1;
            task_ = [&](int worker) {
                for (int part = worker; part < parts; part += workers) call_part(part);
            };
            busy_ = static_cast<int>(threads_.size());
            wake_all();
            task_(0);
            wait_until([this] { return busy_ == 0; });
        }
        for (auto& failure : failures)
            if (failure) std::rethrow_exception(failure);
    }

  private:
    static constexpr int SPINS = 4000;  // some tens of microseconds, about what waking a thread costs

    void wake_all() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            ++generation_;
        }
        changed_.notify_all();
    }

    template <class Condition>
    void wait_until(const Condition& condition) {
        for (int spin = 0; spin < SPINS; ++spin) {
            if (condition()) return;
#if defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
#endif
        }
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, condition);
    }

    void work_until_stopped(int worker) {
        for (int64_t seen = 0;;) {
            wait_until([this, seen] { return generation_ != seen; });
            seen = generation_;
            if (stopping_) return;
            task_(worker);
            if (--busy_ == 0) {
                const std::lock_guard<std::mutex> lock(mutex_);
                changed_.notify_all();
            }
        }
    }

    const int size_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::atomic<int64_t> generation_{0};
    std::atomic<int> busy_{0};
    std::atomic<bool> stopping_{false};
    std::function<void(int)> task_;
    std::vector<std::thread> threads_;
};

}  // namespace upscore
