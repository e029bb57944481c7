// The LSTM over a sequence.
//
// Rows are independent: a thread takes its rows through all T steps without a barrier. At a step it computes only the
// rows that are valid there.

#pragma once

#include "layout.h"

namespace {

using jlstm::Forward;

// The number of steps whose projected inputs are computed at once: about 128 KiB.
long Chunk(const Sizes& n, long rows) {
  const long fits = 32768 / (rows * 4 * n.H), fills = (12 + rows - 1) / rows;
  return std::min(n.T, std::max({fits, fills, 1L}));
}

// Rows first, ..., first + rows - 1 through all steps.
void ForwardRows(const Sizes& n, const Forward& f, const float* w_ih, const float* w_hh, const float* bias, long first,
                 long rows) {
  const long H = n.H, P = RoundUp(H, kLanes) / kLanes, HP = Padded(H), steps = Chunk(n, rows);
  const long stride = HP + 16;  // not a power of two, which would put all rows into the same sets of the cache
  Buffer inputs(steps * rows * P * kColumns), states(2 * rows * stride), cells(rows * HP), sums(rows * 2 * kColumns);
  float *h = states, *h_new = h + rows * stride, *c = cells;
  std::fill(h, h + 2 * rows * stride, 0.0f);
  std::fill(c, c + rows * HP, 0.0f);
  for (long r = 0; r < rows; r++) {
    Copy(f.h0 + (first + r) * H, h + r * stride, H);
    Copy(f.c0 + (first + r) * H, c + r * HP, H);
    if (f.last) Copy(f.last0 + (first + r) * H, f.last + (first + r) * H, H);
  }
  std::vector<long> row(steps * rows), begin(steps + 1);  // the rows that are valid, one step after the other
  std::vector<const float*> x(steps * rows), h_of(rows), bias_of(steps * rows, bias);
  std::vector<float*> inputs_of(steps * rows), sums_of(rows);
  for (long i = 0; i < steps * rows; i++) inputs_of[i] = inputs + i * P * kColumns;
  for (long i = 0; i < rows; i++) sums_of[i] = sums + i * 2 * kColumns;

  for (long s0 = 0; s0 < n.T; s0 += steps) {
    const long chunk = std::min(steps, n.T - s0);
    long count = 0;
    for (long s = 0; s < chunk; s++) {
      const long t = Step(n, s0 + s);
      begin[s] = count;
      for (long r = 0; r < rows; r++) {
        if (IsValid(f.valid, n, first + r, t)) {
          row[count] = r;
          x[count++] = f.x + At(n, first + r, t) * n.D;
        } else if (f.y) {
          std::fill_n(f.y + At(n, first + r, t) * H, H, 0.0f);
        }
      }
    }
    begin[chunk] = count;
    for (long p = 0; p < P; p++) {
      MultiplyPanel<4>(count, x.data(), w_ih + p * n.D * kColumns, 0, n.D, bias_of.data(), p * kColumns,
                       inputs_of.data(), p * kColumns);
    }

    for (long s = 0; s < chunk; s++) {
      const long t = Step(n, s0 + s), active = begin[s + 1] - begin[s];
      const long* row_of = &row[begin[s]];
      if (f.reset && !n.reverse) {
        for (long r = 0; r < rows; r++) {
          if (!IsOn(f.reset, n, first + r, t)) continue;
          Copy(f.origin_h + (first + r) * H, h + r * stride, H);
          Copy(f.origin_c + (first + r) * H, c + r * HP, H);
        }
      }
      for (long j = 0; j < active; j++) h_of[j] = h + row_of[j] * stride;
      const float* const* z = &inputs_of[begin[s]];
      for (long p = 0; p < P;) {
        const int panels = active == 1 && p + 2 <= P ? 2 : 1;
        const float* w = w_hh + p * H * kColumns;
        if (panels == 2) {
          MultiplyPanel<8>(active, h_of.data(), w, H * kColumns, H, z, p * kColumns, sums_of.data(), 0);
        } else {
          MultiplyPanel<4>(active, h_of.data(), w, 0, H, z, p * kColumns, sums_of.data(), 0);
        }
        for (int side = 0; side < panels; side++, p++) {
          const long units = H - p * kLanes;
          for (long j = 0; j < active; j++) {
            const long r = row_of[j], at = At(n, first + r, t), inside = Inside(n, first + r, t);
            const float* sum = sums_of[j] + side * kColumns;
            const Vector i = Sigmoid(Load(sum)), f_gate = Sigmoid(Load(sum + kLanes));
            const Vector g = Tanh(Load(sum + 2 * kLanes)), o = Sigmoid(Load(sum + 3 * kLanes));
            float* c_at = c + r * HP + p * kLanes;
            const Vector c_new = Clamp(f_gate * Load(c_at) + i * g, n.clip);
            const Vector h_now = o * Tanh(c_new);
            Store(c_at, c_new);
            Store(h_new + r * stride + p * kLanes, h_now);
            if (f.y) Store(f.y + at * H + p * kLanes, h_now, units);
            if (f.last) Store(f.last + (first + r) * H + p * kLanes, h_now, units);
            if (f.gates) {
              float* gates = f.gates + inside * 4 * HP + p * kColumns;
              Store(gates, i);
              Store(gates + kLanes, f_gate);
              Store(gates + 2 * kLanes, g);
              Store(gates + 3 * kLanes, o);
              Store(f.cs + inside * HP + p * kLanes, c_new);
            }
          }
        }
      }
      if (active < rows) {
        for (long r = 0, j = 0; r < rows; r++) {
          if (j < active && row_of[j] == r) {
            j++;
          } else {
            Copy(h + r * stride, h_new + r * stride, H);
          }
        }
      }
      if (f.reset && n.reverse) {  // the episode that begins here ends here for a scan that comes from behind
        for (long r = 0; r < rows; r++) {
          if (!IsOn(f.reset, n, first + r, t)) continue;
          Copy(f.origin_h + (first + r) * H, h_new + r * stride, H);
          Copy(f.origin_c + (first + r) * H, c + r * HP, H);
        }
      }
      std::swap(h, h_new);
    }
  }
  for (long r = 0; r < rows; r++) {
    Copy(h + r * stride, f.hT + (first + r) * H, H);
    Copy(c + r * HP, f.cT + (first + r) * H, H);
  }
}

Forward MemberOf(const Sizes& n, Forward f, long m) {
  const long steps = n.B * n.T, state = n.B * n.H, HP = Padded(n.H);
  f.x = Member(f.x, m, steps * n.D);
  f.w_ih = Member(f.w_ih, m, n.D * 4 * n.H);
  f.w_hh = Member(f.w_hh, m, n.H * 4 * n.H);
  f.b = Member(f.b, m, 4 * n.H);
  for (auto array : {&f.h0, &f.c0, &f.origin_h, &f.origin_c, &f.last0}) *array = Member(*array, m, state);
  for (auto array : {&f.valid, &f.reset}) *array = Member(*array, m, steps);
  for (auto array : {&f.last, &f.hT, &f.cT}) *array = Member(*array, m, state);
  f.y = Member(f.y, m, steps * n.H);
  f.gates = Member(f.gates, m, steps * 4 * HP);
  f.cs = Member(f.cs, m, steps * HP);
  return f;
}

void ForwardMember(const Sizes& n, const Forward& f, Pool* pool) {
  const long P = RoundUp(n.H, kLanes) / kLanes, parts = std::min(n.B, Threads(pool));
  Buffer w_ih(P * n.D * kColumns), w_hh(P * n.H * kColumns), bias(P * kColumns);
  ParallelFor(pool, parts, [&](long i) {
    const long first = Share(P, i, parts), last = Share(P, i + 1, parts);
    PackGates(f.w_ih, n.D, n.H, first, last, w_ih);
    PackGates(f.w_hh, n.H, n.H, first, last, w_hh);
    PackGates(f.b, 1, n.H, first, last, bias);
  });
  ParallelFor(pool, parts, [&](long i) {
    const long first = Share(n.B, i, parts);
    ForwardRows(n, f, w_ih, w_hh, bias, first, Share(n.B, i + 1, parts) - first);
  });
}

void RunForward(const Sizes& n, const Forward& f, Pool* pool) {
  ForMembers(n, pool, [&](long m, Pool* threads) { ForwardMember(n, MemberOf(n, f, m), threads); });
}

}  // namespace
