// The kernel for any processor, in vectors of 4 floats.

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

constexpr int kLanes = 4;
#include "lstm.h"

namespace jlstm {

const Target& Portable() {
  static const Target target{"portable", RunForward, RunBackward};
  return target;
}

}  // namespace jlstm

