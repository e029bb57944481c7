// The kernel for avx512, in vectors of 16 floats.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <vector>

#include "call.h"

#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512dq,fma")
constexpr int kLanes = 16;
#include "lstm.h"

namespace jlstm {

const Target& Avx512() {
  static const Target target{"avx512", RunForward, RunBackward};
  return target;
}

}  // namespace jlstm

#endif
