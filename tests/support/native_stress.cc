// Runs the native kernel without XLA: random problems of odd sizes, on pools of several sizes, and many calls at once.
//
// Compile it with portable.cc, avx2.cc and avx512.cc, best with sanitizers. It prints one line and ends with status 0,
// or it prints the differences and ends with status 1.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "call.h"

namespace {

using jlstm::Pool;
using jlstm::Sizes;
using jlstm::Target;

constexpr int kProblems = 100;       // random ones, each run on every target and pool
constexpr int kShared = 24;          // of these are run by many callers at once
constexpr int kCallers = 12;         // threads outside of the pool
constexpr int kInside = 8;           // tasks of the pool that make calls themselves
constexpr int kLimit = 60;           // seconds without the end of a call
constexpr float kTolerance = 1e-4f;  // between targets, relative to the largest number of an array

// A vector is allocated at its exact size, so AddressSanitizer sees a read or write just past its end. An empty one has
// a null pointer, as an absent array has in the kernel.
using Floats = std::vector<float>;
using Flags = std::vector<uint8_t>;

std::atomic<long> calls{0}, failures{0};

void Fail(const std::string& text) {
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  if (failures++ < 10) std::printf("%s\n", text.c_str());
}

// ---- threads

class ThreadPool : public Pool {
 public:
  explicit ThreadPool(int threads) {
    for (int i = 0; i < threads; i++) threads_.emplace_back([this] { Work(); });
  }
  // Runs the tasks that are left: the kernel may leave some that have nothing to do.
  ~ThreadPool() override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      closed_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  long Threads() const override { return static_cast<long>(threads_.size()); }
  void Schedule(std::function<void()> task) override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    changed_.notify_one();
  }

 private:
  void Work() {
    while (true) {
      std::function<void()> task;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return closed_ || !tasks_.empty(); });
        if (tasks_.empty()) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool closed_ = false;
  std::vector<std::thread> threads_;
};

// Ends the process when no call ends for a long time. It sleeps, since older sanitizers do not know a timed wait.
class Watchdog {
 public:
  Watchdog() : thread_([this] { Watch(); }) {}
  ~Watchdog() {
    done_ = true;
    thread_.join();
  }

 private:
  void Watch() {
    using Clock = std::chrono::steady_clock;
    auto changed = Clock::now();
    for (long seen = 0; !done_; std::this_thread::sleep_for(std::chrono::milliseconds(20))) {
      if (calls != seen) {
        seen = calls;
        changed = Clock::now();
      } else if (Clock::now() - changed > std::chrono::seconds(kLimit)) {
        std::printf("deadlock: no call has ended for %d seconds, after %ld calls\n", kLimit, seen);
        std::fflush(stdout);
        std::_Exit(1);
      }
    }
  }

  std::atomic<bool> done_{false};
  std::thread thread_;
};

// ---- problems

struct Problem {
  std::string name;
  Sizes n;
  bool sequence, with_dx;
  Floats x, w_ih, w_hh, b, h0, c0, origin_h, origin_c, last0;
  Flags valid, reset, cut;
  Floats dy, dlast, dhT, dcT;
};

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  long Integer(long first, long last) { return first + static_cast<long>(engine_() % (last - first + 1)); }
  bool Chance(int percent) { return Integer(1, 100) <= percent; }
  float Float() { return static_cast<float>(engine_()) / 2147483648.0f - 1.0f; }
  Floats Array(long size, float scale = 1.0f) {
    Floats array(size);
    for (float& value : array) value = scale * Float();
    return array;
  }
  Flags Mask(long size, int percent) {
    Flags array(size);
    for (uint8_t& value : array) value = Chance(percent);
    return array;
  }
  // Often small, seldom 0 where that is allowed, at most 40.
  long Size(bool may_be_0) {
    if (may_be_0 && Chance(4)) return 0;
    const long most[] = {1, 5, 17, 40, 40, 40};
    return Integer(1, most[Integer(0, 5)]);
  }

 private:
  std::mt19937 engine_;
};

std::string Describe(const Problem& p, unsigned seed) {
  const Sizes& n = p.n;
  std::string text = "problem " + std::to_string(seed) + " (M " + std::to_string(n.M) + ", B " + std::to_string(n.B) +
                     ", T " + std::to_string(n.T) + ", D " + std::to_string(n.D) + ", H " + std::to_string(n.H);
  const std::pair<bool, const char*> options[] = {
      {n.reverse, "reverse"},        {n.time_major, "time_major"}, {n.clip < INFINITY, "clip"},
      {!p.valid.empty(), "valid"},   {!p.reset.empty(), "reset"},  {!p.cut.empty(), "cut"},
      {p.sequence, "sequence"},      {p.with_dx, "dx"},
  };
  for (const auto& [on, name] : options) text += on ? std::string(", ") + name : "";
  return text + ")";
}

Problem Draw(unsigned seed) {
  Random random(seed);
  Problem p;
  Sizes& n = p.n;
  do {
    n.M = random.Chance(60) ? 1 : random.Integer(2, 5);
    n.B = random.Size(true), n.T = random.Size(true), n.D = random.Size(true), n.H = random.Size(false);
  } while (n.M * n.B * n.T * n.H * (n.D + n.H) > 2000000);
  // Weights of more rows than one piece of a panel has.
  if (seed % 20 == 7) n.M = 1, n.B = random.Integer(1, 3), n.T = random.Integer(1, 4), n.D = 530 + random.Size(false);
  // More units than one panel of a transposed weight has, for any vectors.
  if (seed % 20 == 13) n.M = 1, n.B = random.Integer(1, 3), n.T = random.Integer(1, 4), n.H = 130 + random.Size(false);
  n.reverse = random.Chance(50), n.time_major = random.Chance(50);
  n.clip = random.Chance(30) ? 0.3f : INFINITY;
  p.sequence = random.Chance(60), p.with_dx = random.Chance(70);
  const bool valid = random.Chance(50), reset = random.Chance(40), cut = random.Chance(30);

  const long steps = n.M * n.B * n.T, state = n.M * n.B * n.H;
  const float scale = 1.5f / std::sqrt(static_cast<float>(n.H + n.D));
  p.x = random.Array(steps * n.D, 2.0f);
  p.w_ih = random.Array(n.M * n.D * 4 * n.H, scale);
  p.w_hh = random.Array(n.M * n.H * 4 * n.H, scale);
  p.b = random.Array(n.M * 4 * n.H);
  p.h0 = random.Array(state), p.c0 = random.Array(state), p.dhT = random.Array(state), p.dcT = random.Array(state);
  if (valid) p.valid = random.Mask(steps, random.Chance(20) ? 10 : 70);
  if (reset) p.reset = random.Mask(steps, 20), p.origin_h = random.Array(state), p.origin_c = random.Array(state);
  if (cut) p.cut = random.Mask(n.M * n.T, 20);
  if (p.sequence) p.dy = random.Array(steps * n.H);
  if (!p.sequence) p.last0 = random.Array(state), p.dlast = random.Array(state);
  // Nothing may read the steps that are not valid.
  for (size_t i = 0; i < p.valid.size(); i++) {
    if (p.valid[i]) continue;
    std::fill_n(p.x.begin() + i * n.D, n.D, NAN);
    if (p.sequence) std::fill_n(p.dy.begin() + i * n.H, n.H, NAN);
  }
  p.name = Describe(p, seed);
  return p;
}

// ---- calls

// `all`: the kernel must write every number. The others have padding and steps that are not valid.
struct Output {
  const char* name;
  Floats values;
  bool all, in_order;  // in_order: the same order for every target
};
using Outputs = std::vector<Output>;

// A forward pass for inference, one for training and its backward pass. All results start as NaN.
Outputs Run(const Target& target, const Problem& p, Pool* pool) {
  const Sizes& n = p.n;
  const long steps = n.M * n.B * n.T, state = n.M * n.B * n.H, HP = jlstm::Padded(n.H);
  const auto empty = [](long size) { return Floats(size, NAN); };

  jlstm::Forward f{};
  f.x = p.x.data(), f.w_ih = p.w_ih.data(), f.w_hh = p.w_hh.data(), f.b = p.b.data();
  f.h0 = p.h0.data(), f.c0 = p.c0.data();
  f.origin_h = p.origin_h.data(), f.origin_c = p.origin_c.data();
  f.valid = p.valid.data(), f.reset = p.reset.data();
  f.last0 = p.last0.data();

  Floats y0 = empty(p.sequence ? steps * n.H : 0), last0 = empty(p.sequence ? 0 : state);
  Floats hT0 = empty(state), cT0 = empty(state);
  f.y = y0.data(), f.last = last0.data(), f.hT = hT0.data(), f.cT = cT0.data();
  target.forward(n, f, pool);
  calls++;

  Floats y = empty(steps * n.H), last = empty(p.sequence ? 0 : state), hT = empty(state), cT = empty(state);
  Floats gates = empty(steps * 4 * HP), cs = empty(steps * HP);
  f.y = y.data(), f.last = last.data(), f.hT = hT.data(), f.cT = cT.data(), f.gates = gates.data(), f.cs = cs.data();
  target.forward(n, f, pool);
  calls++;

  Floats dz = gates, dx = empty(p.with_dx ? steps * n.D : 0);
  Floats dw_ih = empty(p.w_ih.size()), dw_hh = empty(p.w_hh.size()), db = empty(p.b.size());
  Floats dh0 = empty(state), dc0 = empty(state), dlast0 = empty(p.last0.size());
  Floats dorigin_h = empty(p.origin_h.size()), dorigin_c = empty(p.origin_c.size());
  jlstm::Backward g{};
  g.x = f.x, g.w_ih = f.w_ih, g.w_hh = f.w_hh, g.h0 = f.h0, g.c0 = f.c0;
  g.origin_h = f.origin_h, g.origin_c = f.origin_c;
  g.valid = f.valid, g.reset = f.reset, g.cut = p.cut.data();
  g.y = y.data(), g.cs = cs.data();
  g.dy = p.dy.data(), g.dlast = p.dlast.data(), g.dhT = p.dhT.data(), g.dcT = p.dcT.data();
  g.dz = dz.data(), g.dx = dx.data(), g.dw_ih = dw_ih.data(), g.dw_hh = dw_hh.data(), g.db = db.data();
  g.dh0 = dh0.data(), g.dc0 = dc0.data(), g.dlast0 = dlast0.data();
  g.dorigin_h = dorigin_h.data(), g.dorigin_c = dorigin_c.data();
  target.backward(n, g, pool);
  calls++;

  for (size_t i = 0; i < y0.size(); i++) {
    if (std::memcmp(&y[i], &y0[i], sizeof(float)) == 0) continue;
    Fail(p.name + ", " + target.name + ": y of training differs from y of inference");
    break;
  }
  return {
      {"y", y, true, true},           {"last", last, true, true},     {"hT", hT, true, true},
      {"cT", cT, true, true},         {"last0", last0, true, true},   {"hT0", hT0, true, true},
      {"cT0", cT0, true, true},       {"gates", gates, false, false}, {"cs", cs, false, true},
      {"dz", dz, false, false},       {"dx", dx, true, true},         {"dw_ih", dw_ih, true, true},
      {"dw_hh", dw_hh, true, true},   {"db", db, true, true},         {"dh0", dh0, true, true},
      {"dc0", dc0, true, true},       {"dlast0", dlast0, true, true}, {"dorigin_h", dorigin_h, true, true},
      {"dorigin_c", dorigin_c, true, true},
  };
}

// ---- comparisons

std::string Number(float value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.9g", value);  // all its digits
  return text;
}

void CheckWritten(const std::string& where, const Outputs& outputs) {
  for (const Output& one : outputs) {
    for (size_t i = 0; one.all && i < one.values.size(); i++) {
      if (std::isfinite(one.values[i])) continue;
      Fail(where + ": " + one.name + "[" + std::to_string(i) + "] is not finite, or was not written");
      break;
    }
  }
}

void CheckSame(const std::string& where, const Outputs& expected, const Outputs& found) {
  for (size_t k = 0; k < expected.size(); k++) {
    const Floats &a = expected[k].values, &b = found[k].values;
    for (size_t i = 0; i < a.size(); i++) {
      if (std::memcmp(&a[i], &b[i], sizeof(float)) == 0) continue;
      Fail(where + ": " + expected[k].name + "[" + std::to_string(i) + "]: expected " + Number(a[i]) + ", got " +
           Number(b[i]));
      break;
    }
  }
}

// Where c is at its bound, and has no gradient. Rounding decides if c is just below, so targets may differ.
bool SameClips(const Problem& p, const Floats& a, const Floats& b) {
  const long HP = jlstm::Padded(p.n.H);
  for (size_t i = 0; i < a.size(); i++) {
    const bool unit = static_cast<long>(i) % HP < p.n.H;  // not padding
    if (unit && (std::fabs(a[i]) >= p.n.clip) != (std::fabs(b[i]) >= p.n.clip)) return false;
  }
  return true;
}

void CheckClose(const Problem& p, const std::string& where, const Outputs& expected, const Outputs& found) {
  const auto named = [](const Outputs& outputs, const char* name) -> const Floats& {
    return std::find_if(outputs.begin(), outputs.end(), [&](const Output& o) { return !std::strcmp(o.name, name); })
        ->values;
  };
  const bool same_clips = SameClips(p, named(expected, "cs"), named(found, "cs"));
  for (size_t k = 0; k < expected.size(); k++) {
    const Output& one = expected[k];
    if (!one.in_order || !one.all || (one.name[0] == 'd' && !same_clips)) continue;
    float largest = 0.0f;
    for (float value : one.values) largest = std::max(largest, std::fabs(value));
    for (size_t i = 0; i < one.values.size(); i++) {
      if (std::fabs(one.values[i] - found[k].values[i]) <= kTolerance * largest + 1e-7f) continue;
      Fail(where + ": " + one.name + "[" + std::to_string(i) + "]: expected " + Number(one.values[i]) +
           ", got " + Number(found[k].values[i]));
      break;
    }
  }
}

// ---- checks

std::vector<Target> Targets() {
  std::vector<Target> targets{jlstm::Portable()};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) targets.push_back(jlstm::Avx2());
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) targets.push_back(jlstm::Avx512());
#endif
  return targets;
}

// Every index once, and an exception of one of them reaches the caller.
void CheckLoop(Pool* pool) {
  for (long n : {0, 1, 2, 7, 100}) {
    std::vector<std::atomic<int>> count(n);
    bool thrown = false;
    try {
      jlstm::ParallelFor(pool, n, [&](long i) {
        count[i]++;
        if (i == n - 1) throw std::runtime_error("the last index");
      });
    } catch (const std::runtime_error&) {
      thrown = true;
    }
    if (thrown != (n > 0)) Fail("ParallelFor: expected the exception of index " + std::to_string(n - 1));
    for (long i = 0; i < n; i++) {
      const std::string times = std::to_string(count[i]) + " times";
      if (count[i] != 1) Fail("ParallelFor: called index " + std::to_string(i) + " " + times);
    }
  }
}

struct Expected {
  Problem problem;
  std::vector<Outputs> outputs;  // of each target
};

// One problem on every target and pool, twice each.
Expected CheckProblem(unsigned seed, const std::vector<Target>& targets, const std::vector<Pool*>& pools) {
  Expected all{Draw(seed), {}};
  const Problem& p = all.problem;
  for (const Target& target : targets) {
    const std::string where = p.name + ", " + target.name;
    const Outputs expected = Run(target, p, nullptr);
    CheckWritten(where, expected);
    if (!all.outputs.empty()) CheckClose(p, where + " against " + targets[0].name, all.outputs[0], expected);
    for (Pool* pool : pools) {
      for (const char* run : {"first run", "second run"}) {
        const std::string threads = std::to_string(pool ? pool->Threads() : 0);
        CheckSame(where + ", " + threads + " threads, " + run, expected, Run(target, p, pool));
      }
    }
    all.outputs.push_back(expected);
  }
  return all;
}

// Many callers share one small pool, and some of its own tasks are callers: more calls wait than it has threads.
void CheckManyAtOnce(const std::vector<Expected>& all, const std::vector<Target>& targets) {
  ThreadPool pool(2);
  std::atomic<int> left{kInside};
  const auto work = [&](int caller) {
    const size_t k = caller % targets.size();
    for (size_t i = 0; i < all.size(); i++) {
      const Expected& one = all[(i + 2 * caller) % all.size()];  // each caller begins elsewhere
      const std::string where = one.problem.name + ", " + targets[k].name + ", many calls at once";
      CheckSame(where, one.outputs[k], Run(targets[k], one.problem, &pool));
    }
  };
  std::vector<std::thread> callers;
  for (int i = 0; i < kCallers; i++) callers.emplace_back(work, i);
  for (int i = 0; i < kInside; i++) {
    pool.Schedule([&, i] {
      work(kCallers + i);
      left--;
    });
  }
  for (std::thread& caller : callers) caller.join();
  while (left > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

}  // namespace

int main() {
  Watchdog watchdog;
  const std::vector<Target> targets = Targets();
  {
    ThreadPool one(1), two(2), three(3), eight(8);
    const std::vector<Pool*> pools{nullptr, &one, &two, &three, &eight};
    for (Pool* pool : pools) CheckLoop(pool);
    std::vector<Expected> shared;
    for (unsigned seed = 0; seed < kProblems; seed++) {
      Expected all = CheckProblem(seed, targets, pools);
      if (seed < kShared) shared.push_back(std::move(all));
    }
    CheckManyAtOnce(shared, targets);
  }
  if (failures > 0) {
    std::printf("%ld differences in %ld calls\n", failures.load(), calls.load());
    return 1;
  }
  std::string names;
  for (const Target& target : targets) names += std::string(names.empty() ? "" : ", ") + target.name;
  std::printf("%ld calls agree (%s)\n", calls.load(), names.c_str());
  return 0;
}
