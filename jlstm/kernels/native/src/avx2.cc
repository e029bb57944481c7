// The kernel for avx2, in vectors of 8 floats.

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
#pragma GCC target("avx2,fma")
constexpr int kLanes = 8;
#include "lstm.h"

namespace jlstm {

const Target& Avx2() {
  static const Target target{"avx2", RunForward, RunBackward};
  return target;
}

}  // namespace jlstm

#endif
