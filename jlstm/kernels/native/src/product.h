// Matrix products in panels of 4 vectors: the micro-kernel, the loops around it, and the packing of weights.
//
// One number of a result is one chain of multiply-adds for each piece of k, in order, whatever the number of rows beside
// it. So the result is the same bit for bit however rows are shared out over threads.

#pragma once

#include "simd.h"

namespace {

constexpr long kColumns = 4 * kLanes;          // of a panel: in a gate panel, 4 gates of kLanes units
constexpr long kDepth = 8192 / kColumns;       // of a piece of a panel, 32 KiB: it stays in the first cache
constexpr int kRows = kLanes == 16 ? 6 : 3;    // 4 kRows sums, in 32 registers or in 16

long RoundUp(long n, long to) { return (n + to - 1) / to * to; }

class Buffer {
 public:
  explicit Buffer(long n) : data_(static_cast<float*>(std::aligned_alloc(64, RoundUp(std::max(n, 1L) * 4, 64)))) {
    if (!data_) throw std::bad_alloc();
  }
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  operator float*() { return data_; }

 private:
  float* data_;
};

// out[r][j] = start[r][j] + sum_k a[r][k] w[k][j], for ROWS rows and the columns j of N vectors: those of a panel, or of
// two, which lie `apart` floats from each other in w. start may be null.
template <int ROWS, int N>
INLINE void Multiply(const float* const* a, long a_at, const float* w, long apart, long K, const float* const* start,
                     long start_at, float* const* out, long out_at) {
  Vector sum[ROWS][N];
  const float* row[ROWS];
  UNROLL for (int r = 0; r < ROWS; r++) row[r] = a[r] + a_at;
  UNROLL for (int r = 0; r < ROWS; r++) {
    UNROLL for (int j = 0; j < N; j++) sum[r][j] = Vector{};
  }
  for (long k = 0; k < K; k++, w += kColumns) {
    UNROLL for (int j = 0; j < N; j++) {
      const Vector column = Load(w + j / 4 * apart + j % 4 * kLanes);
      UNROLL for (int r = 0; r < ROWS; r++) sum[r][j] += row[r][k] * column;
    }
  }
  UNROLL for (int r = 0; r < ROWS; r++) {
    UNROLL for (int j = 0; j < N; j++) {
      // Added at the end: the rounding of a long product is that of its pieces and of their number, not of its length.
      const Vector total = start ? Load(start[r] + start_at + j * kLanes) + sum[r][j] : sum[r][j];
      Store(out[r] + out_at + j * kLanes, total);
    }
  }
}

template <int ROWS>
struct Rows {
  static constexpr int value = ROWS;
};

// Call f(Rows<R>, first) for blocks of at most kRows rows that make up n rows.
template <int ROWS = kRows, class F>
INLINE void ForRows(long n, F&& f, long first = 0) {
  for (; n - first >= ROWS; first += ROWS) f(Rows<ROWS>(), first);
  if constexpr (ROWS > 1) {
    if (first < n) ForRows<ROWS - 1>(n, f, first);
  }
}

// All n rows: out = start + a w, for the columns of N vectors; more than a panel has for single rows alone.
template <int N>
void MultiplyPanel(long n, const float* const* a, const float* w, long apart, long K, const float* const* start,
                          long start_at, float* const* out, long out_at) {
  long k = 0;
  do {
    const long depth = std::min(kDepth, K - k);
    ForRows<N <= 4 ? kRows : 1>(n, [&](auto rows, long r) __attribute__((always_inline)) {
      constexpr int R = decltype(rows)::value;
      // After the first piece, to what lies there already.
      Multiply<R, N>(a + r, k, w + k * kColumns, apart, depth, k ? out + r : start ? start + r : nullptr,
                          k ? out_at : start_at, out + r, out_at);
    });
    k += depth;
  } while (k < K);
}

// Gate weights [K, 4, H] as panels [H / kLanes][K][4][kLanes], with 0 for units beyond H.
void PackGates(const float* w, long K, long H, long first, long last, float* out) {
  for (long p = first; p < last; p++) {
    for (long k = 0; k < K; k++) {
      for (int gate = 0; gate < 4; gate++) {
        const Vector v = Load(w + (k * 4 + gate) * H + p * kLanes, H - p * kLanes);
        Store(out + (p * K + k) * kColumns + gate * kLanes, v);
      }
    }
  }
}

// The transpose of gate weights [K, 4, H], for products with rows in the order of gate panels: panels
// [K / kColumns][H / kLanes][4][kLanes][kColumns], with 0 beyond K and H.
void PackTransposed(const float* w, long K, long H, long first, long last, float* out) {
  const long P = RoundUp(H, kLanes) / kLanes;
  for (long q = first; q < last; q++) {
    for (long p = 0; p < P; p++) {
      const long units = std::min<long>(kLanes, H - p * kLanes), columns = std::min(kColumns, K - q * kColumns);
      for (int gate = 0; gate < 4; gate++) {
        float* block = out + ((q * P + p) * 4 + gate) * kLanes * kColumns;
        if (units < kLanes || columns < kColumns) std::fill(block, block + kLanes * kColumns, 0.0f);
        for (long j = 0; j < columns; j++) {
          const float* from = w + ((q * kColumns + j) * 4 + gate) * H + p * kLanes;
          for (long l = 0; l < units; l++) block[l * kColumns + j] = from[l];
        }
      }
    }
  }
}

}  // namespace
