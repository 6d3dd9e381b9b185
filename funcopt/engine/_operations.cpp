// What the instructions of `_instructions.py` do: `op_...` to a vector of entries, `all_...` to a
// block of entries that share something. The machine (`_machine.cpp`) runs them one after another;
// code that is printed for one chain (`_native.py`) calls them, too.
//
// `Vectorized` is what torch computes with, so every instruction rounds as the function of torch
// does that it stands for.

// Inductor has GCC leave loops as they are, `omp simd` or not; those below are meant as vectors.
#pragma GCC optimize("tree-loop-vectorize")

#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Float8_e4m3fn.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

namespace {

template <typename T>
using Vec = at::vec::Vectorized<T>;

// A function of numbers, as one of vectors.
template <typename T, typename F>
inline Vec<T> lanes(F f, Vec<T> x) {
  T to[Vec<T>::size()], a[Vec<T>::size()];
  x.store(a);
#pragma omp simd
  for (int i = 0; i < Vec<T>::size(); i++) to[i] = f(a[i]);
  return Vec<T>::loadu(to);
}

template <typename T, typename F>
inline Vec<T> lanes(F f, Vec<T> x, Vec<T> y) {
  T to[Vec<T>::size()], a[Vec<T>::size()], b[Vec<T>::size()];
  x.store(a);
  y.store(b);
#pragma omp simd
  for (int i = 0; i < Vec<T>::size(); i++) to[i] = f(a[i], b[i]);
  return Vec<T>::loadu(to);
}

template <typename V> inline V op_add(V x, V y) { return x + y; }
template <typename V> inline V op_sub(V x, V y) { return x - y; }
template <typename V> inline V op_mul(V x, V y) { return x * y; }
template <typename V> inline V op_div(V x, V y) { return x / y; }
template <typename V> inline V op_maximum(V x, V y) { return at::vec::maximum(x, y); }
template <typename V> inline V op_minimum(V x, V y) { return at::vec::minimum(x, y); }
template <typename V> inline V op_pow(V x, V y) { return x.pow(y); }
template <typename V> inline V op_gt(V x, V y) { return x.gt(y); }
template <typename V> inline V op_ge(V x, V y) { return x.ge(y); }
template <typename V> inline V op_lt(V x, V y) { return x.lt(y); }
template <typename V> inline V op_le(V x, V y) { return x.le(y); }
template <typename V> inline V op_eq(V x, V y) { return x.eq(y); }
template <typename V> inline V op_ne(V x, V y) { return x.ne(y); }
template <typename V> inline V op_and(V x, V y) { return (x * y).ne(V(0)); }
template <typename V> inline V op_or(V x, V y) { return (x + y).ne(V(0)); }
template <typename V> inline V op_xor(V x, V y) { return x.ne(y); }
template <typename V> inline V op_not(V x) { return x.eq(V(0)); }
template <typename V> inline V op_neg(V x) { return x.neg(); }
template <typename V> inline V op_abs(V x) { return x.abs(); }
template <typename V> inline V op_square(V x) { return x * x; }
template <typename V> inline V op_sqrt(V x) { return x.sqrt(); }
template <typename V> inline V op_rsqrt(V x) { return x.rsqrt(); }
template <typename V> inline V op_reciprocal(V x) { return x.reciprocal(); }
template <typename V> inline V op_sign(V x) { return x.gt(V(0)) - x.lt(V(0)); }
template <typename V> inline V op_exp(V x) { return x.exp(); }
template <typename V> inline V op_expm1(V x) { return x.expm1(); }
template <typename V> inline V op_log(V x) { return x.log(); }
template <typename V> inline V op_log1p(V x) { return x.log1p(); }
template <typename V> inline V op_tanh(V x) { return x.tanh(); }
template <typename V> inline V op_sigmoid(V x) { return V(1) / (V(1) + x.neg().exp()); }
template <typename V> inline V op_isnan(V x) { return x.ne(x); }
template <typename V> inline V op_copy(V x) { return x; }

template <typename T>
inline Vec<T> op_isfinite(Vec<T> x) {
  return x.abs().lt(Vec<T>(std::numeric_limits<T>::infinity()));
}

template <typename T>
inline Vec<T> op_signbit(Vec<T> x) {
  return lanes([](T x) { return T(0.5) - std::copysign(T(0.5), x); }, x);
}

template <typename V> inline V op_where(V x, V y, V z) { return V::blendv(z, y, x != V(0)); }

template <typename V>
inline V op_clamp(V x, V y, V z) { return at::vec::minimum(at::vec::maximum(x, y), z); }

template <typename V> inline V op_fmadd(V x, V y, V z) { return at::vec::fmadd(x, y, z); }

template <typename T>
inline Vec<T> op_lerp(Vec<T> x, Vec<T> y, Vec<T> w) {  // from the nearer end, as torch
  const Vec<T> near = w.abs() < Vec<T>(T(0.5));
  const Vec<T> weight = Vec<T>::blendv(w - Vec<T>(1), w, near);
  return at::vec::fmadd(weight, y - x, Vec<T>::blendv(y, x, near));
}

template <typename T>
inline Vec<T> op_round_float(Vec<T> x) {
  return lanes([](T x) { return static_cast<T>(static_cast<float>(x)); }, x);
}

template <typename T>
inline Vec<T> op_round_bfloat16(Vec<T> x) {
  return lanes([](T x) { return static_cast<T>(c10::BFloat16(static_cast<float>(x))); }, x);
}

template <typename T>
inline Vec<T> op_round_half(Vec<T> x) {
  return lanes([](T x) { return static_cast<T>(c10::Half(static_cast<float>(x))); }, x);
}

template <typename S, typename T>
inline void load(int64_t n, T* to, const void* from) {
  const S* x = static_cast<const S*>(from);
  int64_t i = 0;
  if constexpr (std::is_same_v<S, c10::Half> && std::is_same_v<T, float>) {
    for (; i + Vec<float>::size() <= n; i += Vec<float>::size()) {
      Vec<float> found(0);
      at::vec::load_to_float(x + i, found);
      found.store(to + i);
    }
  }
#pragma omp simd
  for (int64_t k = i; k < n; k++) to[k] = static_cast<T>(static_cast<float>(x[k]));
}

template <typename S, typename T>
inline void store(int64_t n, void* to, const T* x) {
  S* y = static_cast<S*>(to);
  int64_t i = 0;
  if constexpr (std::is_same_v<S, c10::Half> && std::is_same_v<T, float>) {
    constexpr int64_t W = Vec<float>::size();
    for (; i + 2 * W <= n; i += 2 * W)
      at::vec::convert_float_half(Vec<float>::loadu(x + i), Vec<float>::loadu(x + i + W)).store(y + i);
  }
  if constexpr (std::is_same_v<S, c10::BFloat16>) {
    uint16_t* const bits = static_cast<uint16_t*>(to);
#pragma omp simd
    for (int64_t k = 0; k < n; k++)
      bits[k] = c10::detail::round_to_nearest_even(static_cast<float>(x[k]));
  } else {
#pragma omp simd
    for (int64_t k = i; k < n; k++) y[k] = static_cast<S>(static_cast<float>(x[k]));
  }
}

// A vector of entries that are stored otherwise; `from` may end after them.
template <typename S>
inline Vec<float> loaded(const S* from) {
  if constexpr (std::is_same_v<S, float>) {
    return Vec<float>::loadu(from);
  } else if constexpr (std::is_same_v<S, c10::BFloat16> || std::is_same_v<S, c10::Half>) {
    Vec<float> found(0);
    at::vec::load_to_float(from, found);
    return found;
  } else {
    return at::vec::convert<float>(Vec<S>::loadu(from, Vec<float>::size()));
  }
}

template <typename S>
inline void stored(S* to, Vec<float> x) {
  if constexpr (std::is_same_v<S, float>) {
    x.store(to);
  } else {  // not by a mask, which is slow on some processors
    S found[Vec<S>::size()];
    at::vec::convert<S>(x).store(found);
    std::memcpy(to, found, Vec<float>::size() * sizeof(S));
  }
}

// The same of numbers that bfloat16 has: nothing is rounded.
inline void stored_exactly(c10::BFloat16* to, Vec<float> x) {
#if defined(CPU_CAPABILITY_AVX512)
  const __m512i bits = _mm512_srli_epi32(_mm512_castps_si512(x), 16);
  const __mmask16 is_nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  const __m512i found = _mm512_mask_or_epi32(bits, is_nan, bits, _mm512_set1_epi32(0x40));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(found));
#else
  stored(to, x);
#endif
}

template <typename T>
inline T first(Vec<T> x) {
  T found[Vec<T>::size()];
  x.store(found);
  return found[0];
}
