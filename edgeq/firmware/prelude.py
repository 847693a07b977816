"""What every generated file of kernels begins with: the arithmetic that TFLite's kernels share, in C99.

The formulas are those of gemmlowp's fixed point (github.com/google/gemmlowp, fixedpoint.h)
as TensorFlow Lite Micro uses them: products rounded half up at bit 31, shifts rounded half away from zero.
"""

from __future__ import annotations

PRELUDE = """\
/* (a * b) / 2^31, rounded to nearest, ties up. Never called with a = b = INT32_MIN. */
static inline int32_t eq_doubling_high(int32_t a, int32_t b) {
  return (int32_t)(((int64_t)a * b + 0x40000000) >> 31);
}

/* a / 2^exponent, rounded to nearest, ties away from zero; 0 <= exponent <= 31. */
static inline int32_t eq_rounding_shift(int32_t a, int32_t exponent) {
  const int32_t mask = (int32_t)(((uint32_t)1 << exponent) - 1u);
  const int32_t threshold = (mask >> 1) + (a < 0 ? 1 : 0);
  return (a >> exponent) + ((a & mask) > threshold ? 1 : 0);
}

/* The same for 1 <= exponent <= 30 and |a| <= 2^30, in fewer instructions. */
static inline int32_t eq_rounding_shift_short(int32_t a, int32_t exponent) {
  return (a + ((int32_t)1 << (exponent - 1)) - (a < 0 ? 1 : 0)) >> exponent;
}

/* a * multiplier * 2^(shift - 31), each of the two steps rounded. */
static inline int32_t eq_scaled(int32_t a, int32_t multiplier, int32_t shift) {
  const int32_t left = shift > 0 ? shift : 0;
  const int32_t right = shift > 0 ? 0 : -shift;
  return eq_rounding_shift(eq_doubling_high((int32_t)((uint32_t)a << left), multiplier), right);
}

/* a * multiplier * 2^(shift - 15) for 64-bit sums: the multiplier has 15 bits, and `down` is 15 - shift. */
static inline int32_t eq_scaled_wide(int64_t a, int32_t multiplier, int32_t down) {
  return (int32_t)((a * multiplier + ((int64_t)1 << (down - 1))) >> down);
}

/* a within low .. high */
static inline int32_t eq_clamped(int32_t a, int32_t low, int32_t high) {
  return a < low ? low : (a > high ? high : a);
}
"""
