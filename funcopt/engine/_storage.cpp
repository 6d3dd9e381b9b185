// How entries are stored in fewer bits: what `narrow.py`, `blockwise.py` and `random.py` say, for
// entries in float32. `_machine.py` puts this behind `_operations.cpp`, and fills in the books.

using V = Vec<float>;

inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}

inline float of_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

inline bool is_finite(float x) { return (bits_of(x) & 0x7F800000u) != 0x7F800000u; }

constexpr uint32_t HIGH = 0xFFFF0000u;

// NaN is told by its bits: GCC 12 makes `x` of `x != x ? x : of_bits(bits_of(x) & HIGH)`.
inline bool is_nan(float x) { return (bits_of(x) & 0x7FFFFFFFu) > 0x7F800000u; }

inline float truncated(float x) { return of_bits(is_nan(x) ? bits_of(x) : bits_of(x) & HIGH); }

inline V op_truncated(V x) { return lanes(truncated, x); }

inline float low_half(float x) { return static_cast<int32_t>(bits_of(x) << 16) >> 16; }

inline V op_low_half(V x) { return lanes(low_half, x); }

inline float with_low_half(float x, float low) {
  const float found = of_bits((bits_of(x) & HIGH) | (static_cast<int32_t>(low) & 0xFFFF));
  return is_finite(x) ? found : x;
}

inline V op_with_low_half(V x, V low) { return lanes(with_low_half, x, low); }

inline float rounded_at_random(float x, float noise) {
  const uint32_t bits = bits_of(x);
  const float found = of_bits((bits + static_cast<uint32_t>(static_cast<int32_t>(noise))) & HIGH);
  return !is_finite(x) ? x : is_finite(found) ? found : of_bits(bits & HIGH);
}

inline V op_rounded_at_random(V x, V noise) { return lanes(rounded_at_random, x, noise); }

template <int MANTISSA, int LEAST>
inline float half_of_spacing(float x) {
  const int32_t exponent = static_cast<int32_t>((bits_of(x) >> 23) & 0xFF) - 127;
  const int32_t half = std::max(exponent, LEAST) - MANTISSA - 1;
  return of_bits(static_cast<uint32_t>(half + 60 + 127) << 23) * 0x1p-60f;
}

template <int MANTISSA, int LEAST>
inline float residual(float x, float stored) {
  const float part = (x - stored) / half_of_spacing<MANTISSA, LEAST>(stored);
  return is_finite(part) ? std::nearbyint(127.0f * std::min(std::max(part, -1.0f), 1.0f)) : 0.0f;
}

template <int MANTISSA, int LEAST>
inline float with_residual(float stored, float part) {
  const float unit = static_cast<float>(1.0 / 127);
  const float found = stored + part * unit * half_of_spacing<MANTISSA, LEAST>(stored);
  return is_finite(stored) && part != 0 ? found : stored;  // minus zero stays
}

inline V op_residual_bfloat16(V x, V y) { return lanes(residual<7, -126>, x, y); }
inline V op_residual_float16(V x, V y) { return lanes(residual<10, -14>, x, y); }
inline V op_with_residual_bfloat16(V x, V y) { return lanes(with_residual<7, -126>, x, y); }
inline V op_with_residual_float16(V x, V y) { return lanes(with_residual<10, -14>, x, y); }

inline V op_word(V low, V high) {
  return lanes(
      [](float low, float high) {
        return of_bits(static_cast<uint32_t>(low) | static_cast<uint32_t>(high) << 16);
      },
      low, high);
}

inline V op_mixed(V x, V y) {
  return lanes([](float x, float y) { return of_bits(bits_of(x) ^ bits_of(y)); }, x, y);
}

// Of the lower halves, which may stand beside anything.
inline Vec<int64_t> product(Vec<int64_t> a, Vec<int64_t> b) {
#if defined(CPU_CAPABILITY_AVX512)
  return _mm512_mul_epu32(a, b);
#elif defined(CPU_CAPABILITY_AVX2)
  return _mm256_mul_epu32(a, b);
#else
  const Vec<int64_t> low(0xFFFFFFFF);
  return (a & low) * (b & low);
#endif
}

inline Vec<int64_t> upper_half(Vec<int64_t> a) {
#if defined(CPU_CAPABILITY_AVX512)
  return _mm512_srli_epi64(a, 32);
#elif defined(CPU_CAPABILITY_AVX2)
  return _mm256_srli_epi64(a, 32);
#else
  return a >> Vec<int64_t>(32);
#endif
}

// Philox4x32-10, for 16 blocks at once: 16 bits for each of 128 entries.
constexpr int64_t GROUP = 128, LANES = 16;

// `place` is that of the first one in its part of the tensor, which begins with group `groups`.
inline void all_bits16(int64_t n, int64_t place, float* to, float a, float b, float groups) {
  const uint32_t key = bits_of(a), other = bits_of(b);
  const int64_t begin = place / GROUP + bits_of(groups);
  using Word = Vec<int64_t>;  // in its lower half
  constexpr int W = Word::size(), PARTS = LANES / W;
  for (int64_t start = 0; start < n; start += GROUP) {
    const int64_t first = (begin + start / GROUP) * LANES;
    Word a[PARTS], b[PARTS], c[PARTS], d[PARTS];
    for (int j = 0; j < PARTS; j++) {
      a[j] = Word::arange(first + j * W, 1);
      b[j] = Word(first >> 32);  // `first` is a multiple of 16: nothing is carried
      c[j] = d[j] = Word(0);
    }
    int64_t k = key, m = other;
    for (int round = 0; round < 10; round++) {
      for (int j = 0; j < PARTS; j++) {
        const Word x = product(a[j], Word(0xD2511F53)), y = product(c[j], Word(0xCD9E8D57));
        a[j] = upper_half(y) ^ b[j] ^ Word(k);
        c[j] = upper_half(x) ^ d[j] ^ Word(m);
        b[j] = y;
        d[j] = x;
      }
      k += 0x9E3779B9;
      m += 0xBB67AE85;
    }
    float found[GROUP];
    const auto write = [&](float* low, const Word* words) {
      int64_t given[LANES];
      for (int j = 0; j < PARTS; j++) words[j].store(given + j * W);
#pragma omp simd
      for (int j = 0; j < LANES; j++) {
        low[j] = static_cast<int32_t>(given[j] & 0xFFFF);
        low[j + LANES] = static_cast<int32_t>(given[j] >> 16 & 0xFFFF);
      }
    };
    write(found, a);
    write(found + 2 * LANES, b);
    write(found + 4 * LANES, c);
    write(found + 6 * LANES, d);
    std::copy_n(found, std::min(GROUP, n - start), to + start);
  }
}

// BOOKS

// Rounded to a whole number, to even ones in the middle, of a small number.
inline float to_even(float x) { return (x + 12582912.0f) - 12582912.0f; }

// The bits of float8_e4m3fn, of 448 times a number from -1 to 1.
inline float encoded_float8(float x) {
  const uint32_t size = bits_of(x * 448.0f) & 0x7FFFFFFFu;
  const int32_t exponent = std::max(static_cast<int32_t>(size >> 23) - 127, -6);
  const float unit = of_bits(static_cast<uint32_t>(3 - exponent + 127) << 23);
  const int32_t steps = static_cast<int32_t>(to_even(of_bits(size) * unit));
  const int32_t code = is_nan(x) ? 127 : (exponent + 7) * 8 + steps - 8;
  return code + static_cast<int32_t>(bits_of(x) >> 31 << 7);
}

inline float decoded_float8(float code) {
  const int32_t bits = static_cast<int32_t>(code), exponent = bits >> 3 & 15;
  const int32_t digits = (bits & 7) + 8 * std::min(exponent, 1);
  const float unit = of_bits(static_cast<uint32_t>(std::max(exponent, 1) - 10 + 127) << 23);
  const uint32_t nan = (bits & 127) == 127 ? 0x7FC00000u : 0, sign = (bits & 128u) << 24;
  return of_bits(bits_of(static_cast<float>(digits) * unit) | nan | sign) / 448.0f;
}

inline V op_encoded_float8(V x) { return lanes(encoded_float8, x); }
inline V op_decoded_float8(V code) { return lanes(decoded_float8, code); }

template <int64_t SIZE>
inline void block_amax(int64_t n, float* to, const float* x) {
  using Int = Vec<int32_t>;  // of magnitudes, bits have the order of numbers; NaN comes last
  const Int magnitude(0x7FFFFFFF);
  for (int64_t start = 0; start < n; start += SIZE) {
    const int64_t end = std::min(n, start + SIZE);
    Int found(0);
    int64_t i = start;
    for (; i + V::size() <= end; i += V::size())
      found = at::vec::maximum(found, at::vec::cast<int32_t>(V::loadu(x + i)) & magnitude);
    int32_t lanes[Int::size()], largest = 0;
    found.store(lanes);
    for (int32_t lane : lanes) largest = std::max(largest, lane);
    for (; i < end; i++) largest = std::max<int32_t>(largest, bits_of(x[i]) & 0x7FFFFFFFu);
    std::fill_n(to + start, end - start, of_bits(static_cast<uint32_t>(largest)));
  }
}

inline void all_block_amax_128(int64_t n, float* to, const float* x) { block_amax<128>(n, to, x); }
inline void all_block_amax_256(int64_t n, float* to, const float* x) { block_amax<256>(n, to, x); }

inline void all_load_nibble(int64_t n, float* to, const void* from) {
  const uint8_t* x = static_cast<const uint8_t*>(from);
#pragma omp simd
  for (int64_t k = 0; k < n / 2; k++) {
    to[2 * k] = x[k] >> 4;
    to[2 * k + 1] = x[k] & 15;
  }
  if (n % 2) to[n - 1] = x[n / 2] >> 4;
}

inline void all_store_nibble(int64_t n, void* to, const float* a) {
  uint8_t* x = static_cast<uint8_t*>(to);
#pragma omp simd
  for (int64_t k = 0; k < n / 2; k++)
    x[k] = static_cast<uint8_t>(
        static_cast<int32_t>(a[2 * k]) << 4 | static_cast<int32_t>(a[2 * k + 1]));
  if (n % 2) x[n / 2] = static_cast<uint8_t>(static_cast<int32_t>(a[n - 1]) << 4);
}

template <int64_t SIZE>
inline void load_blocks(int64_t n, float* to, const void* from) {
  const float* x = static_cast<const float*>(from);
  for (int64_t k = 0; k * SIZE < n; k++)
    std::fill_n(to + k * SIZE, std::min(SIZE, n - k * SIZE), x[k]);
}

template <int64_t SIZE>
inline void store_blocks(int64_t n, void* to, const float* a) {
  float* x = static_cast<float*>(to);
  for (int64_t k = 0; k * SIZE < n; k++) x[k] = a[k * SIZE];
}

inline void all_load_blocks128(int64_t n, float* to, const void* x) { load_blocks<128>(n, to, x); }
inline void all_load_blocks256(int64_t n, float* to, const void* x) { load_blocks<256>(n, to, x); }
inline void all_store_blocks128(int64_t n, void* to, const float* a) { store_blocks<128>(n, to, a); }
inline void all_store_blocks256(int64_t n, void* to, const float* a) { store_blocks<256>(n, to, a); }
