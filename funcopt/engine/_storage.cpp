// How entries are stored in fewer bits: what `narrow.py`, `blockwise.py` and `random.py` say, for a
// block of entries in float32. `_machine.py` puts this into the machine, and fills in the books.

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

inline float low_half(float x) { return static_cast<int16_t>(bits_of(x) & 0xFFFFu); }

inline float with_low_half(float x, float low) {
  const float found = of_bits((bits_of(x) & HIGH) | (static_cast<int32_t>(low) & 0xFFFF));
  return is_finite(x) ? found : x;
}

inline float rounded_at_random(float x, float noise) {
  const uint32_t bits = bits_of(x);
  const float found = of_bits((bits + static_cast<uint32_t>(static_cast<int32_t>(noise))) & HIGH);
  return !is_finite(x) ? x : is_finite(found) ? found : of_bits(bits & HIGH);
}

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

inline void bits16(int64_t n, int64_t begin, float* to, uint32_t key, uint32_t other) {
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

// A book of numbers. Where a number stands is found by its sign and the first 15 bits of its
// magnitude, its cell. In a cell is at most one boundary: from some lower half of a magnitude on,
// the code is another one. Nearer to zero than each boundary is one cell, beyond 1 another.
struct Book {
  using Int = Vec<int32_t>;
  float values[256];
  int32_t lowest, count, last;
  std::vector<float> cells;  // the bits of integers: the code below that half, and the half + 1

  Book(std::vector<float> numbers, std::vector<float> middles)
      : last(static_cast<int32_t>(middles.size())) {
    std::copy(numbers.begin(), numbers.end(), values);
    const auto cell = [](float x) { return static_cast<int32_t>(bits_of(x) >> 16 & 0x7FFF); };
    const auto code = [&](float x) {
      return static_cast<uint32_t>(
          std::upper_bound(middles.begin(), middles.end(), x) - middles.begin());
    };
    lowest = cell(1.0f);
    for (float x : middles) lowest = std::min(lowest, cell(x));
    lowest -= 1;
    count = cell(1.0f) + 2 - lowest;
    for (uint32_t sign = 0; sign < 2; sign++)
      for (int32_t k = 0; k < count; k++) {
        const uint32_t begin = sign << 31 | static_cast<uint32_t>(lowest + k) << 16;
        const uint32_t first = k ? code(of_bits(begin)) : code(0.0f);
        uint32_t half = 0x10000;  // where no boundary is
        if (k && k < count - 1 && code(of_bits(begin | 0xFFFF)) != first)
          for (uint32_t same = 0, other = half = 0xFFFF; other - same > 1; half = other) {
            const uint32_t middle = (same + other) / 2;
            (code(of_bits(begin | middle)) == first ? same : other) = middle;
          }
        cells.push_back(of_bits(first << 24 | half));
      }
  }

  void encode(int64_t n, float* to, const float* x) const {
    const Int none(0), most(count - 1), magnitude(0x7FFFFFFF), low(lowest), negative(count);
    each(n, to, x, [&](Vec<float> x) {
      const Int bits = at::vec::cast<int32_t>(x), sign = bits >> Int(31);
      const Int cell = ((bits & magnitude) >> Int(16)) - low;
      const Int at = at::vec::minimum(at::vec::maximum(cell, none), most) + (sign & negative);
      const Int found = at::vec::cast<int32_t>(at::vec::gather<4>(cells.data(), at));
      const Int beyond = (bits & Int(0xFFFF)).ge(found & Int(0xFFFFFF));  // 1 or 0
      const Int code = ((found >> Int(24)) & Int(0xFF)) + (beyond ^ sign) - sign;
      const Vec<float> number = at::vec::convert_to_fp_of_same_size<float>(code);
      return Vec<float>::blendv(Vec<float>(last), number, x == x);
    });
  }

  void decode(int64_t n, float* to, const float* codes) const {
    each(n, to, codes, [&](Vec<float> x) {
      return at::vec::gather<4>(values, at::vec::convert_to_int_of_same_size(x));
    });
  }
};

// BOOKS

inline void block_amax(int64_t n, float* to, const float* x, int64_t size) {
  for (int64_t start = 0; start < n; start += size) {
    const int64_t count = std::min(size, n - start);
    int32_t largest = 0;  // of magnitudes, bits have the order of numbers; those of NaN come last
#pragma omp simd reduction(max : largest)
    for (int64_t i = start; i < start + count; i++)
      largest = std::max(largest, static_cast<int32_t>(bits_of(x[i]) & 0x7FFFFFFFu));
    std::fill_n(to + start, count, of_bits(static_cast<uint32_t>(largest)));
  }
}

inline void run_storage(
    const Instruction& s, float* const* reg, void* const* memory, int64_t n, int64_t at) {
  float* to = reg[s.to];
  const float *a = reg[s.a], *b = reg[s.b];
  const auto unary = [&](auto f) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) to[i] = f(a[i]);
  };
  const auto binary = [&](auto f) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) to[i] = f(a[i], b[i]);
  };
  const auto blocks = [&](int64_t size, bool is_load) {
    if (is_load) {
      const float* x = static_cast<const float*>(memory[s.a]);
      for (int64_t k = 0; k * size < n; k++)
        std::fill_n(to + k * size, std::min(size, n - k * size), x[k]);
    } else {
      float* x = static_cast<float*>(memory[s.to]);
      for (int64_t k = 0; k * size < n; k++) x[k] = a[k * size];
    }
  };
  switch (s.code) {
    case WORD:
      return binary([](float low, float high) {
        return of_bits(static_cast<uint32_t>(low) | static_cast<uint32_t>(high) << 16);
      });
    case MIXED: return binary([](float x, float y) { return of_bits(bits_of(x) ^ bits_of(y)); });
    case BITS16:
      return bits16(
          n, at / GROUP + bits_of(reg[s.c][0]), to, bits_of(a[0]), bits_of(b[0]));
    case TRUNCATED: return unary(truncated);
    case LOW_HALF: return unary(low_half);
    case WITH_LOW_HALF: return binary(with_low_half);
    case ROUNDED_AT_RANDOM: return binary(rounded_at_random);
    case RESIDUAL_BFLOAT16: return binary(residual<7, -126>);
    case RESIDUAL_FLOAT16: return binary(residual<10, -14>);
    case WITH_RESIDUAL_BFLOAT16: return binary(with_residual<7, -126>);
    case WITH_RESIDUAL_FLOAT16: return binary(with_residual<10, -14>);
    case BLOCK_AMAX_128: return block_amax(n, to, a, 128);
    case BLOCK_AMAX_256: return block_amax(n, to, a, 256);
    case ENCODED_DYNAMIC8: return DYNAMIC8_BOOK.encode(n, to, a);
    case ENCODED_DYNAMIC8UNSIGNED: return DYNAMIC8UNSIGNED_BOOK.encode(n, to, a);
    case ENCODED_DYNAMIC4: return DYNAMIC4_BOOK.encode(n, to, a);
    case ENCODED_LINEAR4: return LINEAR4_BOOK.encode(n, to, a);
    case ENCODED_FLOAT8:
      return unary([](float x) {
        return static_cast<float>(c10::detail::fp8e4m3fn_from_fp32_value(x * 448.0f));
      });
    case DECODED_DYNAMIC8: return DYNAMIC8_BOOK.decode(n, to, a);
    case DECODED_DYNAMIC8UNSIGNED: return DYNAMIC8UNSIGNED_BOOK.decode(n, to, a);
    case DECODED_DYNAMIC4: return DYNAMIC4_BOOK.decode(n, to, a);
    case DECODED_LINEAR4: return LINEAR4_BOOK.decode(n, to, a);
    case DECODED_FLOAT8:
      return unary([](float x) {
        return c10::detail::fp8e4m3fn_to_fp32_value(static_cast<uint8_t>(x)) / 448.0f;
      });
    case LOAD_NIBBLE: {
      const uint8_t* x = static_cast<const uint8_t*>(memory[s.a]);
#pragma omp simd
      for (int64_t k = 0; k < n / 2; k++) {
        to[2 * k] = x[k] >> 4;
        to[2 * k + 1] = x[k] & 15;
      }
      if (n % 2) to[n - 1] = x[n / 2] >> 4;
      return;
    }
    case STORE_NIBBLE: {
      uint8_t* x = static_cast<uint8_t*>(memory[s.to]);
#pragma omp simd
      for (int64_t k = 0; k < n / 2; k++)
        x[k] = static_cast<uint8_t>(
            static_cast<int32_t>(a[2 * k]) << 4 | static_cast<int32_t>(a[2 * k + 1]));
      if (n % 2) x[n / 2] = static_cast<uint8_t>(static_cast<int32_t>(a[n - 1]) << 4);
      return;
    }
    case LOAD_BLOCKS128: return blocks(128, true);
    case LOAD_BLOCKS256: return blocks(256, true);
    case STORE_BLOCKS128: return blocks(128, false);
    case STORE_BLOCKS256: return blocks(256, false);
  }
}
