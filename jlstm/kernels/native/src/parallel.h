// A parallel loop on a pool of threads that cannot deadlock.
//
// A handler may itself run on a thread of the pool, so it must not wait for tasks that were only scheduled. Here the
// caller takes indices too, from a shared counter, and waits only for those that another thread has already taken.

#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>

namespace jlstm {

class Pool {
 public:
  virtual ~Pool() = default;
  virtual long Threads() const = 0;
  virtual void Schedule(std::function<void()> task) = 0;
};

class Loop {
 public:
  Loop(long n, std::function<void(long)> body) : n_(n), body_(std::move(body)) {}

  // Take indices until none is left.
  void Work() {
    for (long i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < n_;) {
      try {
        body_(i);
      } catch (...) {
        std::lock_guard<std::mutex> lock(mutex_);
        if (!error_) error_ = std::current_exception();
      }
      if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == n_) {
        std::lock_guard<std::mutex> lock(mutex_);
        finished_.notify_all();
      }
    }
  }

  void Wait() {
    for (int spin = 0; spin < 2000 && done_.load(std::memory_order_acquire) < n_; spin++) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    std::unique_lock<std::mutex> lock(mutex_);
    finished_.wait(lock, [&] { return done_.load(std::memory_order_acquire) == n_; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const long n_;
  const std::function<void(long)> body_;
  std::atomic<long> next_{0}, done_{0};
  std::mutex mutex_;
  std::condition_variable finished_;
  std::exception_ptr error_;
};

inline long Threads(const Pool* pool) { return pool ? std::max(1L, pool->Threads()) : 1; }

// Call body(0), ..., body(n - 1), each once, on the pool and on this thread; on this thread alone without a pool.
inline void ParallelFor(Pool* pool, long n, std::function<void(long)> body) {
  if (n <= 1 || Threads(pool) == 1) {
    for (long i = 0; i < n; i++) body(i);
    return;
  }
  // A task may start after the loop has ended: it finds no index, and the last task frees the loop.
  auto loop = std::make_shared<Loop>(n, std::move(body));
  try {
    for (long i = 1; i < std::min(n, Threads(pool)); i++) pool->Schedule([loop] { loop->Work(); });
  } catch (const std::exception&) {
    // Tasks that run already read this call's arrays, so it goes on: with them, and on this thread.
  }
  loop->Work();
  loop->Wait();
}

}  // namespace jlstm
