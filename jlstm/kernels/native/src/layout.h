// What both passes share: where things lie, and how work is shared out.

#pragma once

#include "call.h"
#include "product.h"

namespace {

using jlstm::Padded;
using jlstm::ParallelFor;
using jlstm::Pool;
using jlstm::Sizes;
using jlstm::Threads;

// The place of row b at step t among [B, T] or [T, B].
INLINE long At(const Sizes& n, long b, long t) { return n.time_major ? t * n.B + b : b * n.T + t; }
// The place of row b at step t in the arrays that only this kernel reads.
INLINE long Inside(const Sizes& n, long b, long t) { return b * n.T + t; }
// The step that is taken as number s.
INLINE long Step(const Sizes& n, long s) { return n.reverse ? n.T - 1 - s : s; }
INLINE bool IsOn(const uint8_t* flags, const Sizes& n, long b, long t) { return flags && flags[At(n, b, t)]; }
INLINE bool IsValid(const uint8_t* valid, const Sizes& n, long b, long t) { return !valid || valid[At(n, b, t)]; }

template <class T>
T* Member(T* array, long m, long size) {
  return array ? array + m * size : nullptr;
}

void Copy(const float* from, float* to, long n) { std::memcpy(to, from, n * sizeof(float)); }

// Share out `n` things: the first of part `i` of `parts`.
INLINE long Share(long n, long i, long parts) { return n * i / parts; }

// Members share the threads out among themselves where there are enough of them.
template <class F>
void ForMembers(const Sizes& n, Pool* pool, F&& f) {
  if (n.M >= Threads(pool)) {
    ParallelFor(pool, n.M, [&](long m) { f(m, static_cast<Pool*>(nullptr)); });
  } else {
    for (long m = 0; m < n.M; m++) f(m, pool);
  }
}

}  // namespace
