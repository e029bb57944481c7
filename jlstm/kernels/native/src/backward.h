// The gradients of the LSTM over a sequence: of x and the states row by row, then of the weights for all rows at once.

#pragma once

#include "layout.h"

namespace {

using jlstm::Backward;

// The state before step t of row b, by its place: h in y, the given state or the origin; c likewise.
struct Before {
  const float *h, *c;
};

// `before[t]` for row b, in the order of processing.
void Trace(const Sizes& n, const Backward& f, const float* c0, const float* origin_c, long b, Before* before) {
  const Before origin{f.origin_h ? f.origin_h + b * n.H : nullptr, origin_c};
  Before now{f.h0 + b * n.H, c0};
  for (long s = 0; s < n.T; s++) {
    const long t = Step(n, s);
    const bool reset = IsOn(f.reset, n, b, t);
    if (reset && !n.reverse) now = origin;
    before[t] = now;
    if (IsValid(f.valid, n, b, t)) now = {f.y + At(n, b, t) * n.H, f.cs + Inside(n, b, t) * Padded(n.H)};
    if (reset && n.reverse) now = origin;
  }
}

// dz and the gradients of x and of the states for rows first, ...; `before` gets the states before each step.
void BackwardRows(const Sizes& n, const Backward& f, const float* w_hh, const float* w_ih, Before* before, long first,
                  long rows) {
  const long H = n.H, P = RoundUp(H, kLanes) / kLanes, HP = Padded(H), K = P * kColumns;
  const long Q = RoundUp(H, kColumns) / kColumns, HQ = Q * kColumns, stride = K + 16;
  Buffer states(rows * HQ), cells(rows * HP), slopes(rows * stride), given(2 * rows * HP), tile(rows * kColumns);
  Buffer origins(2 * rows * HP);
  float *dh = states, *dc = cells, *c0 = given, *origin_c = c0 + rows * HP, *dorigin_h = origins;
  float* dorigin_c = dorigin_h + rows * HP;
  std::fill_n(dh, rows * HQ, 0.0f);
  std::fill_n(dc, rows * HP, 0.0f);
  std::fill_n(c0, 2 * rows * HP, 0.0f);
  std::fill_n(dorigin_h, 2 * rows * HP, 0.0f);
  std::vector<char> pending(rows, f.dlast != nullptr);
  for (long r = 0; r < rows; r++) {
    const long b = first + r;
    Copy(f.dhT + b * H, dh + r * HQ, H);
    Copy(f.dcT + b * H, dc + r * HP, H);
    Copy(f.c0 + b * H, c0 + r * HP, H);
    if (f.origin_c) Copy(f.origin_c + b * H, origin_c + r * HP, H);
    Trace(n, f, c0 + r * HP, origin_c + r * HP, b, before + b * n.T);
  }
  // What has come back to a state that was the origin goes there.
  const auto to_origin = [&](long r) {
    for (long k = 0; k < H; k++) {
      dorigin_h[r * HP + k] += dh[r * HQ + k];
      dorigin_c[r * HP + k] += dc[r * HP + k];
      dh[r * HQ + k] = dc[r * HP + k] = 0.0f;
    }
  };
  std::vector<long> row_of(rows);
  std::vector<const float*> slope_of(rows);
  std::vector<float*> dh_of(rows);

  for (long s = n.T - 1; s >= 0; s--) {
    const long t = Step(n, s);
    long active = 0;
    for (long r = 0; r < rows; r++) {
      const long b = first + r, at = At(n, b, t);
      float* dz = f.dz + Inside(n, b, t) * 4 * HP;
      if (n.reverse && IsOn(f.reset, n, b, t)) to_origin(r);
      if (!IsValid(f.valid, n, b, t)) {
        std::fill_n(dz, K, 0.0f);
        continue;
      }
      const float *c_now = f.cs + Inside(n, b, t) * HP, *c_before = before[b * n.T + t].c;
      float* slope = slopes + active * stride;
      for (long p = 0; p < P; p++) {
        const long at_p = p * kLanes, units = H - at_p;
        const float* gates = dz + p * kColumns;
        const Vector i = Load(gates), f_gate = Load(gates + kLanes), g = Load(gates + 2 * kLanes);
        const Vector o = Load(gates + 3 * kLanes), c = Load(c_now + at_p), tanh_c = Tanh(c);
        Vector d = Load(dh + r * HQ + at_p);
        if (f.dy) d += Load(f.dy + at * H + at_p, units);
        if (pending[r]) d += Load(f.dlast + b * H + at_p, units);
        Vector d_c = d * o * (1.0f - tanh_c * tanh_c) + Load(dc + r * HP + at_p);
        // A product, since NaN times a slope of 0 is NaN.
        if (n.clip < INFINITY) d_c *= (c < n.clip) & (c > -n.clip) ? Vector{} + 1.0f : Vector{};
        const Vector parts[4] = {d_c * g * i * (1.0f - i), d_c * Load(c_before + at_p) * f_gate * (1.0f - f_gate),
                                 d_c * i * (1.0f - g * g), d * tanh_c * o * (1.0f - o)};
        Store(dc + r * HP + at_p, d_c * f_gate);
        for (int gate = 0; gate < 4; gate++) {
          // Units beyond H may be NaN here, for an x of infinity, and must not reach the product.
          const Vector part = First(parts[gate], units);
          Store(dz + p * kColumns + gate * kLanes, part);
          Store(slope + p * kColumns + gate * kLanes, part);
        }
      }
      pending[r] = false;
      slope_of[active] = slope;
      dh_of[active] = dh + r * HQ;
      row_of[active++] = r;
    }
    for (long q = 0; q < Q;) {
      const int panels = active == 1 && q + 2 <= Q ? 2 : 1;
      const float* w = w_hh + q * K * kColumns;
      if (panels == 2) {
        MultiplyPanel<8>(active, slope_of.data(), w, K * kColumns, K, nullptr, 0, dh_of.data(), q * kColumns);
      } else {
        MultiplyPanel<4>(active, slope_of.data(), w, 0, K, nullptr, 0, dh_of.data(), q * kColumns);
      }
      q += panels;
    }
    for (long r = 0; r < rows; r++) {
      if (!n.reverse && IsOn(f.reset, n, first + r, t)) to_origin(r);
      if (f.cut && f.cut[t]) {
        std::fill_n(dh + r * HQ, HQ, 0.0f);
        std::fill_n(dc + r * HP, HP, 0.0f);
      }
    }
  }
  for (long r = 0; r < rows; r++) {
    const long b = first + r;
    Copy(dh + r * HQ, f.dh0 + b * H, H);
    Copy(dc + r * HP, f.dc0 + b * H, H);
    if (f.dorigin_h) Copy(dorigin_h + r * HP, f.dorigin_h + b * H, H);
    if (f.dorigin_c) Copy(dorigin_c + r * HP, f.dorigin_c + b * H, H);
    if (f.dlast0 && pending[r]) Copy(f.dlast + b * H, f.dlast0 + b * H, H);
    if (f.dlast0 && !pending[r]) std::fill_n(f.dlast0 + b * H, H, 0.0f);
  }
  if (!f.dx) return;
  // dx = dz W^T, a block of steps at a time.
  const long block = std::max(kRows * 4L, 32768 / K), panels = RoundUp(n.D, kColumns) / kColumns;
  Buffer result(block * kColumns);
  std::vector<const float*> dz_of(block);
  std::vector<float*> result_of(block);
  for (long i = 0; i < block; i++) result_of[i] = result + i * kColumns;
  for (long begin = 0; begin < rows * n.T; begin += block) {
    const long count = std::min(block, rows * n.T - begin);
    for (long i = 0; i < count; i++) dz_of[i] = f.dz + (first * n.T + begin + i) * 4 * HP;
    for (long q = 0; q < panels; q++) {
      const long width = std::min(kColumns, n.D - q * kColumns);
      const auto multiply = width <= kLanes ? MultiplyPanel<1> : width <= 2 * kLanes ? MultiplyPanel<2> : MultiplyPanel<4>;
      multiply(count, dz_of.data(), w_ih + q * K * kColumns, 0, K, nullptr, 0, result_of.data(), 0);
      for (long i = 0; i < count; i++) {
        const long b = first + (begin + i) / n.T, t = (begin + i) % n.T;
        Copy(result_of[i], f.dx + At(n, b, t) * n.D + q * kColumns, width);
      }
    }
  }
}

// [dW_ih; dW_hh; db] = [x | h before | 1]^T dz over all valid steps, in pieces of kSteps of them.
void WeightGradients(const Sizes& n, const Backward& f, const Before* before, Pool* pool) {
  constexpr long kSteps = 128;
  const long H = n.H, D = n.D, I = D + H + 1, P = RoundUp(H, kLanes) / kLanes, HP = Padded(H);
  std::vector<long> step;  // b * T + t
  for (long i = 0; i < n.B * n.T; i++) {
    if (IsValid(f.valid, n, i / n.T, i % n.T)) step.push_back(i);
  }
  const long count = step.size(), pieces = (count + kSteps - 1) / kSteps;
  Buffer left(pieces * I * kSteps), sums(P * I * kColumns);
  ParallelFor(pool, pieces, [&](long piece) {
    const long begin = piece * kSteps, depth = std::min(kSteps, count - begin);
    float* to = left + piece * I * kSteps;
    const float *x_of[kSteps], *h_of[kSteps];
    for (long k = 0; k < depth; k++) {
      const long i = step[begin + k];
      x_of[k] = f.x + At(n, i / n.T, i % n.T) * D;
      h_of[k] = before[i].h;
    }
    for (long k0 = 0; k0 < depth; k0 += kLanes) {
      const long k1 = std::min(depth, k0 + kLanes);
      for (long i = 0; i < D; i++) {
        for (long k = k0; k < k1; k++) to[i * kSteps + k] = x_of[k][i];
      }
      for (long i = 0; i < H; i++) {
        for (long k = k0; k < k1; k++) to[(D + i) * kSteps + k] = h_of[k][i];
      }
    }
    std::fill_n(to + (D + H) * kSteps, depth, 1.0f);
  });
  const long parts = std::min(P, Threads(pool));
  ParallelFor(pool, parts, [&](long part) {
    Buffer right(kSteps * kColumns);
    std::vector<const float*> left_of(I);
    std::vector<float*> sums_of(I);
    for (long p = Share(P, part, parts); p < Share(P, part + 1, parts); p++) {
      float* sum = sums + p * I * kColumns;
      std::fill_n(sum, I * kColumns, 0.0f);
      for (long i = 0; i < I; i++) sums_of[i] = sum + i * kColumns;
      for (long piece = 0; piece < pieces; piece++) {
        const long begin = piece * kSteps, depth = std::min(kSteps, count - begin);
        for (long k = 0; k < depth; k++) {
          Copy(f.dz + step[begin + k] * 4 * HP + p * kColumns, right + k * kColumns, kColumns);
        }
        for (long i = 0; i < I; i++) left_of[i] = left + (piece * I + i) * kSteps;
        MultiplyPanel<4>(I, left_of.data(), right, 0, depth, sums_of.data(), 0,
                         sums_of.data(), 0);
      }
      for (long i = 0; i < I; i++) {
        float* row = i < D ? f.dw_ih + i * 4 * H : i < D + H ? f.dw_hh + (i - D) * 4 * H : f.db;
        for (int gate = 0; gate < 4; gate++) {
          Store(row + gate * H + p * kLanes, Load(sums_of[i] + gate * kLanes), H - p * kLanes);
        }
      }
    }
  });
}

Backward MemberOf(const Sizes& n, Backward f, long m) {
  const long steps = n.B * n.T, state = n.B * n.H, HP = Padded(n.H);
  f.x = Member(f.x, m, steps * n.D);
  f.dx = Member(f.dx, m, steps * n.D);
  f.w_ih = Member(f.w_ih, m, n.D * 4 * n.H);
  f.dw_ih = Member(f.dw_ih, m, n.D * 4 * n.H);
  f.w_hh = Member(f.w_hh, m, n.H * 4 * n.H);
  f.dw_hh = Member(f.dw_hh, m, n.H * 4 * n.H);
  f.db = Member(f.db, m, 4 * n.H);
  for (auto array : {&f.h0, &f.c0, &f.origin_h, &f.origin_c, &f.dlast, &f.dhT, &f.dcT}) {
    *array = Member(*array, m, state);
  }
  for (auto array : {&f.dh0, &f.dc0, &f.dorigin_h, &f.dorigin_c, &f.dlast0}) *array = Member(*array, m, state);
  for (auto array : {&f.valid, &f.reset}) *array = Member(*array, m, steps);
  f.cut = Member(f.cut, m, n.T);
  for (auto array : {&f.y, &f.dy}) *array = Member(*array, m, steps * n.H);
  f.cs = Member(f.cs, m, steps * HP);
  f.dz = Member(f.dz, m, steps * 4 * HP);
  return f;
}

void BackwardMember(const Sizes& n, const Backward& f, Pool* pool) {
  const long P = RoundUp(n.H, kLanes) / kLanes, K = P * kColumns;
  const long Q = RoundUp(n.H, kColumns) / kColumns, QD = RoundUp(n.D, kColumns) / kColumns;
  const long parts = std::min(n.B, Threads(pool));
  Buffer w_hh(Q * K * kColumns), w_ih(f.dx ? QD * K * kColumns : 0);
  ParallelFor(pool, parts, [&](long i) {
    PackTransposed(f.w_hh, n.H, n.H, Share(Q, i, parts), Share(Q, i + 1, parts), w_hh);
    if (f.dx) PackTransposed(f.w_ih, n.D, n.H, Share(QD, i, parts), Share(QD, i + 1, parts), w_ih);
  });
  std::vector<Before> before(n.B * n.T);
  ParallelFor(pool, parts, [&](long i) {
    const long first = Share(n.B, i, parts);
    BackwardRows(n, f, w_hh, w_ih, before.data(), first, Share(n.B, i + 1, parts) - first);
  });
  WeightGradients(n, f, before.data(), pool);
}

void RunBackward(const Sizes& n, const Backward& f, Pool* pool) {
  ForMembers(n, pool, [&](long m, Pool* threads) { BackwardMember(n, MemberOf(n, f, m), threads); });
}

}  // namespace
