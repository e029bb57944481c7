// The kernel in the vectors of 8 floats of AVX2.

#include "call.h"

#if defined(__x86_64__)
#pragma GCC target("avx2,fma")
constexpr int kLanes = 8;
#include "backward.h"
#include "forward.h"

jlstm::Target jlstm::Avx2() { return {"avx2", RunForward, RunBackward}; }
#endif
