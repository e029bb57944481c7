// Vectors of kLanes floats, and the activations on them. A .cc file includes call.h, names its
// instruction set and defines kLanes first.

#pragma once

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")

namespace {

typedef float Vector __attribute__((vector_size(kLanes * 4)));
typedef int32_t Integers __attribute__((vector_size(kLanes * 4)));
typedef float Unaligned __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

INLINE Vector Load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
INLINE void Store(float* p, Vector v) { *reinterpret_cast<Unaligned*>(p) = v; }

// The first n lanes; the others are 0.
INLINE Vector Load(const float* p, long n) {
  if (n >= kLanes) return Load(p);
  Vector v{};
  std::memcpy(&v, p, n * sizeof(float));
  return v;
}
INLINE void Store(float* p, Vector v, long n) {
  if (n >= kLanes) {
    Store(p, v);
  } else {
    std::memcpy(p, &v, n * sizeof(float));
  }
}

// v with 0 in place of the lanes from n on.
INLINE Vector First(Vector v, long n) {
  if (n >= kLanes) return v;
  Vector kept{};
  std::memcpy(&kept, &v, n * sizeof(float));
  return kept;
}

// A comparison with NaN is false, so that NaN stays.
INLINE Vector Clamp(Vector v, float bound) {
  const Vector high = Vector{} + bound, low = Vector{} - bound;
  v = v > high ? high : v;
  return v < low ? low : v;
}

// e^v; infinity above 88, e^-87 below -87. v = n ln 2 + r, and e^r is a polynomial (Cephes' expf).
INLINE Vector Exp(Vector exact) {
  const Vector v = Clamp(exact, 87.0f);
  const float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Vector n = (v * 1.44269504088896341f + kRound) - kRound;
  Vector r = v - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  Vector p = Vector{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const Integers exponent = __builtin_convertvector(n, Integers) << 23;
  const Vector power = reinterpret_cast<Vector>(reinterpret_cast<Integers>(p) + exponent);
  return exact > 88.0f ? Vector{} + HUGE_VALF : power;  // so that σ(-∞) is 0
}

INLINE Vector Sigmoid(Vector v) { return 1.0f / (1.0f + Exp(-v)); }

// A quotient of polynomials of degrees 13 and 6, within 2.6e-7; Eigen and XLA use the same.
INLINE Vector Tanh(Vector v) {
  v = Clamp(v, 7.90531110763549805f);
  const Vector s = v * v;
  Vector p = Vector{} - 2.76076847742355e-16f;
  p = p * s + 2.00018790482477e-13f;
  p = p * s - 8.60467152213735e-11f;
  p = p * s + 5.12229709037114e-08f;
  p = p * s + 1.48572235717979e-05f;
  p = p * s + 6.37261928875436e-04f;
  p = p * s + 4.89352455891786e-03f;
  Vector q = Vector{} + 1.19825839466702e-06f;
  q = q * s + 1.18534705686654e-04f;
  q = q * s + 2.26843463243900e-03f;
  q = q * s + 4.89352518554385e-03f;
  return v * p / q;
}

}  // namespace
