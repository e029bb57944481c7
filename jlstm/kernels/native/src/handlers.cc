// What XLA calls: two handlers that check every shape, and the choice of the instruction set.

#include <cmath>
#include <cstdlib>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "call.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace jlstm {
namespace {

template <size_t N>
using Floats = ffi::Buffer<ffi::F32, N>;
template <size_t N>
using Flags = ffi::Buffer<ffi::PRED, N>;
template <size_t N>
using Result = ffi::Result<Floats<N>>;

// XLA's own threads.
class XlaPool : public Pool {
 public:
  explicit XlaPool(ffi::ThreadPool pool) : pool_(std::move(pool)) {}
  long Threads() const override { return pool_.num_threads(); }
  void Schedule(std::function<void()> task) override { pool_.Schedule(std::move(task)); }

 private:
  ffi::ThreadPool pool_;
};

// The instruction sets that this processor has, the best one first.
const std::vector<Target>& Targets() {
  static const std::vector<Target> targets = [] {
    std::vector<Target> found;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) found.push_back(Avx512());
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(Avx2());
#endif
    found.push_back(Portable());
    return found;
  }();
  return targets;
}

// The one that JLSTM_NATIVE_TARGET names, else the best. Python checks the name.
const Target& Chosen() {
  static const Target& chosen = []() -> const Target& {
    const char* named = std::getenv("JLSTM_NATIVE_TARGET");
    for (const Target& target : Targets()) {
      if (named && std::string(named) == target.name) return target;
    }
    return Targets().front();
  }();
  return chosen;
}

std::string Text(ffi::Span<const int64_t> shape) {
  std::string text;
  for (int64_t size : shape) text += (text.empty() ? "[" : ", ") + std::to_string(size);
  return text + "]";
}

// Collects the first shape that is not as expected.
class Checks {
 public:
  // The data of an array of exactly this shape.
  template <class B>
  auto* Get(const char* name, B& buffer, std::vector<int64_t> shape) {
    const auto got = buffer.dimensions();
    if (!std::equal(got.begin(), got.end(), shape.begin(), shape.end())) {
      Fail(std::string(name) + ": expected " + Text({shape.data(), shape.size()}) + ", got " + Text(got) + ".");
    }
    return buffer.typed_data();
  }

  // The same, or null for an array without elements, which stands for an absent one.
  template <class B>
  auto* GetOptional(const char* name, B& buffer, std::vector<int64_t> shape) {
    return buffer.element_count() == 0 ? nullptr : Get(name, buffer, std::move(shape));
  }

  void Fail(const std::string& message) {
    if (error_.empty()) error_ = "jlstm: native: " + message;
  }
  bool failed() const { return !error_.empty(); }
  ffi::Error error() const { return ffi::Error::InvalidArgument(error_); }

 private:
  std::string error_;
};

Sizes SizesOf(const Floats<4>& x, const Floats<4>& w_hh, bool reverse, bool time_major, float clip) {
  const auto d = x.dimensions();
  return {d[0], d[time_major ? 2 : 1], d[time_major ? 1 : 2], d[3], w_hh.dimensions()[1], reverse, time_major, clip};
}

template <class F>
ffi::Error Run(ffi::ThreadPool threads, F&& f) {
  try {
    XlaPool pool(std::move(threads));
    f(&pool);
  } catch (const std::bad_alloc&) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted, "jlstm: native: out of memory.");
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("jlstm: native: ") + error.what());
  }
  return ffi::Error::Success();
}

// The shape of an array of steps, [M, B, T] or [M, T, B], and of one with features behind.
std::vector<int64_t> Steps(const Sizes& n) { return {n.M, n.time_major ? n.T : n.B, n.time_major ? n.B : n.T}; }
std::vector<int64_t> Steps(const Sizes& n, long features) {
  auto shape = Steps(n);
  shape.push_back(features);
  return shape;
}

// Check the arguments that both handlers begin with, and put them into the call.
template <class Call>
Call Begin(Checks& checks, const Sizes& n, Floats<4>& x, Floats<4>& w_ih, Floats<4>& w_hh, Floats<3>& h0, Floats<3>& c0,
           Floats<3>& origin_h, Floats<3>& origin_c, Flags<3>& valid, Flags<3>& reset) {
  const std::vector<int64_t> state{n.M, n.B, n.H}, steps = Steps(n);
  Call f{};
  if (n.H == 0) checks.Fail("w_hh: expected at least one unit, got none.");
  f.x = x.typed_data();
  f.w_ih = checks.Get("w_ih", w_ih, {n.M, n.D, 4, n.H});
  f.w_hh = checks.Get("w_hh", w_hh, {n.M, n.H, 4, n.H});
  f.h0 = checks.Get("h0", h0, state);
  f.c0 = checks.Get("c0", c0, state);
  f.valid = reinterpret_cast<const uint8_t*>(checks.GetOptional("valid", valid, steps));
  f.reset = reinterpret_cast<const uint8_t*>(checks.GetOptional("reset", reset, steps));
  f.origin_h = f.reset ? checks.Get("origin_h", origin_h, state) : nullptr;
  f.origin_c = f.reset ? checks.Get("origin_c", origin_c, state) : nullptr;
  return f;
}

ffi::Error RunForward(ffi::ThreadPool threads, Floats<4> x, Floats<4> w_ih, Floats<4> w_hh, Floats<3> h0, Floats<3> c0,
                      Floats<3> origin_h, Floats<3> origin_c, Flags<3> valid, Flags<3> reset, Floats<3> b,
                      Floats<3> last0, Result<4> y, Result<3> last, Result<3> hT, Result<3> cT, Result<4> gates,
                      Result<4> cs, bool reverse, bool time_major, float clip) {
  const Sizes n = SizesOf(x, w_hh, reverse, time_major, clip);
  const std::vector<int64_t> state{n.M, n.B, n.H};
  const long HP = Padded(n.H);
  Checks checks;
  auto f = Begin<Forward>(checks, n, x, w_ih, w_hh, h0, c0, origin_h, origin_c, valid, reset);
  f.b = checks.Get("b", b, {n.M, 4, n.H});
  f.y = checks.GetOptional("y", *y, Steps(n, n.H));
  f.last = checks.GetOptional("last", *last, state);
  f.last0 = f.last ? checks.Get("last0", last0, state) : nullptr;
  f.hT = checks.Get("hT", *hT, state);
  f.cT = checks.Get("cT", *cT, state);
  f.gates = checks.GetOptional("gates", *gates, {n.M, n.B, n.T, 4 * HP});
  f.cs = f.gates ? checks.Get("cs", *cs, {n.M, n.B, n.T, HP}) : nullptr;
  if (checks.failed()) return checks.error();
  return Run(threads, [&](Pool* pool) { Chosen().forward(n, f, pool); });
}

ffi::Error RunBackward(ffi::ThreadPool threads, Floats<4> x, Floats<4> w_ih, Floats<4> w_hh, Floats<3> h0, Floats<3> c0,
                       Floats<3> origin_h, Floats<3> origin_c, Flags<3> valid, Flags<3> reset, Flags<2> cut,
                       Floats<4> y, Floats<4> cs, Floats<4> gates, Floats<4> dy, Floats<3> dlast, Floats<3> dhT,
                       Floats<3> dcT, Result<4> dz, Result<4> dx, Result<4> dw_ih, Result<4> dw_hh, Result<3> db,
                       Result<3> dh0, Result<3> dc0, Result<3> dorigin_h, Result<3> dorigin_c, Result<3> dlast0,
                       bool reverse, bool time_major, float clip) {
  const Sizes n = SizesOf(x, w_hh, reverse, time_major, clip);
  const std::vector<int64_t> state{n.M, n.B, n.H}, inside{n.M, n.B, n.T, 4 * Padded(n.H)};
  Checks checks;
  auto f = Begin<Backward>(checks, n, x, w_ih, w_hh, h0, c0, origin_h, origin_c, valid, reset);
  f.cut = reinterpret_cast<const uint8_t*>(checks.GetOptional("cut", cut, {n.M, n.T}));
  f.y = checks.Get("y", y, Steps(n, n.H));
  f.cs = checks.Get("cs", cs, {n.M, n.B, n.T, Padded(n.H)});
  checks.Get("gates", gates, inside);
  f.dy = checks.GetOptional("dy", dy, Steps(n, n.H));
  f.dlast = checks.GetOptional("dlast", dlast, state);
  f.dhT = checks.Get("dhT", dhT, state);
  f.dcT = checks.Get("dcT", dcT, state);
  f.dz = checks.Get("dz", *dz, inside);
  f.dx = checks.GetOptional("dx", *dx, Steps(n, n.D));
  f.dw_ih = checks.Get("dw_ih", *dw_ih, {n.M, n.D, 4, n.H});
  f.dw_hh = checks.Get("dw_hh", *dw_hh, {n.M, n.H, 4, n.H});
  f.db = checks.Get("db", *db, {n.M, 4, n.H});
  f.dh0 = checks.Get("dh0", *dh0, state);
  f.dc0 = checks.Get("dc0", *dc0, state);
  f.dorigin_h = checks.GetOptional("dorigin_h", *dorigin_h, state);  // there without a step, too
  f.dorigin_c = checks.GetOptional("dorigin_c", *dorigin_c, state);
  f.dlast0 = f.dlast ? checks.Get("dlast0", *dlast0, state) : nullptr;
  if (checks.failed()) return checks.error();
  if (gates.typed_data() != f.dz) std::copy_n(gates.typed_data(), gates.element_count(), f.dz);
  return Run(threads, [&](Pool* pool) { Chosen().backward(n, f, pool); });
}

}  // namespace
}  // namespace jlstm

// The names of the instruction sets that this processor has, separated by spaces, the best one first.
extern "C" __attribute__((visibility("default"))) const char* jlstm_native_targets() {
  static const std::string names = [] {
    std::string joined;
    for (const jlstm::Target& target : jlstm::Targets()) joined += std::string(joined.empty() ? "" : " ") + target.name;
    return joined;
  }();
  return names.c_str();
}

// Registered by Python under the names of the symbols.
extern "C" {
__attribute__((visibility("default"))) XLA_FFI_Error* jlstm_lstm_forward(XLA_FFI_CallFrame*);
__attribute__((visibility("default"))) XLA_FFI_Error* jlstm_lstm_backward(XLA_FFI_CallFrame*);
}
namespace {

auto BeginBinding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<jlstm::Floats<4>>()  // x
      .Arg<jlstm::Floats<4>>()  // w_ih
      .Arg<jlstm::Floats<4>>()  // w_hh
      .Arg<jlstm::Floats<3>>()  // h0
      .Arg<jlstm::Floats<3>>()  // c0
      .Arg<jlstm::Floats<3>>()  // origin_h
      .Arg<jlstm::Floats<3>>()  // origin_c
      .Arg<jlstm::Flags<3>>()   // valid
      .Arg<jlstm::Flags<3>>();  // reset
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    jlstm_lstm_forward, jlstm::RunForward,
    BeginBinding()
        .Arg<jlstm::Floats<3>>()   // b
        .Arg<jlstm::Floats<3>>()   // last0
        .Ret<jlstm::Floats<4>>()   // y
        .Ret<jlstm::Floats<3>>()   // last
        .Ret<jlstm::Floats<3>>()   // hT
        .Ret<jlstm::Floats<3>>()   // cT
        .Ret<jlstm::Floats<4>>()   // gates
        .Ret<jlstm::Floats<4>>()   // cs
        .Attr<bool>("reverse")
        .Attr<bool>("time_major")
        .Attr<float>("clip"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    jlstm_lstm_backward, jlstm::RunBackward,
    BeginBinding()
        .Arg<jlstm::Flags<2>>()    // cut
        .Arg<jlstm::Floats<4>>()   // y
        .Arg<jlstm::Floats<4>>()   // cs
        .Arg<jlstm::Floats<4>>()   // gates
        .Arg<jlstm::Floats<4>>()   // dy
        .Arg<jlstm::Floats<3>>()   // dlast
        .Arg<jlstm::Floats<3>>()   // dhT
        .Arg<jlstm::Floats<3>>()   // dcT
        .Ret<jlstm::Floats<4>>()   // dz
        .Ret<jlstm::Floats<4>>()   // dx
        .Ret<jlstm::Floats<4>>()   // dw_ih
        .Ret<jlstm::Floats<4>>()   // dw_hh
        .Ret<jlstm::Floats<3>>()   // db
        .Ret<jlstm::Floats<3>>()   // dh0
        .Ret<jlstm::Floats<3>>()   // dc0
        .Ret<jlstm::Floats<3>>()   // dorigin_h
        .Ret<jlstm::Floats<3>>()   // dorigin_c
        .Ret<jlstm::Floats<3>>()   // dlast0
        .Attr<bool>("reverse")
        .Attr<bool>("time_major")
        .Attr<float>("clip"));
