// The arguments of one call, as the handlers pass them to the kernel of an instruction set.
//
// M members of a vmap over weights, B rows, T steps, D features, H units. All arrays lead with M and are dense.
// Optional ones are null where they are absent.

#pragma once

// All standard headers stand here, before a file names its instruction set: else their functions would be compiled for
// it, and the linker could pick those for a processor without it.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "parallel.h"

namespace jlstm {

struct Sizes {
  long M, B, T, D, H;
  bool reverse;     // take the steps from the last to the first
  bool time_major;  // x, y, valid and reset are [M, T, B, ...], else [M, B, T, ...]
  float clip;       // of c; infinity for none
};

struct Forward {
  const float *x, *w_ih, *w_hh, *b;     // [B, T, D], [D, 4, H], [H, 4, H], [4, H]
  const float *h0, *c0;                 // [B, H]
  const float *origin_h, *origin_c;     // [B, H], the state after a reset; optional
  const uint8_t *valid, *reset;         // [B, T]; optional
  const float* last0;                   // [B, H], the last output of a row without a valid step; optional, as last
  float *y, *last, *hT, *cT;            // [B, T, H], optional; [B, H] each
  float *gates, *cs;                    // [B, T, 4 HP], [B, T, HP], for the backward pass; optional
};

struct Backward {
  const float *x, *w_ih, *w_hh;
  const float *h0, *c0, *origin_h, *origin_c;
  const uint8_t *valid, *reset, *cut;          // cut [T]: the gradient stops before this step; optional
  const float *y, *cs;                         // of the forward pass
  const float *dy, *dlast, *dhT, *dcT;         // the cotangents; dy and dlast optional
  float* dz;                                   // the gates of the forward pass, which dz overwrites
  float *dx, *dw_ih, *dw_hh, *db, *dh0, *dc0;  // dx optional
  float *dorigin_h, *dorigin_c, *dlast0;       // optional
};

// HP: H rounded up to whole vectors of any instruction set.
constexpr long kUnits = 16;
inline long Padded(long H) { return (H + kUnits - 1) / kUnits * kUnits; }

struct Target {
  const char* name;
  void (*forward)(const Sizes&, const Forward&, Pool*);
  void (*backward)(const Sizes&, const Backward&, Pool*);
};

Target Portable();
#if defined(__x86_64__)
Target Avx2();
Target Avx512();
#endif

}  // namespace jlstm
