// The kernel in the vectors of 16 floats of AVX-512.

#include "call.h"

#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512dq,fma")
constexpr int kLanes = 16;
#include "backward.h"
#include "forward.h"

jlstm::Target jlstm::Avx512() { return {"avx512", RunForward, RunBackward}; }
#endif
