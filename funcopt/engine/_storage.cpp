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

inline float truncated(float x) { return x != x ? x : of_bits(bits_of(x) & HIGH); }

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

// Philox4x32-10, for 16 blocks at once: 16 bits for each of 128 entries.
constexpr int64_t GROUP = 128, LANES = 16;

inline void bits16(int64_t n, int64_t begin, float* to, uint32_t key, uint32_t other) {
  for (int64_t start = 0; start < n; start += GROUP) {
    const uint64_t first = static_cast<uint64_t>(begin + start / GROUP) * LANES;
    uint32_t a[LANES], b[LANES], c[LANES], d[LANES];
    for (int j = 0; j < LANES; j++) {
      a[j] = static_cast<uint32_t>(first) + j;  // `first` is a multiple of 16: nothing is carried
      b[j] = static_cast<uint32_t>(first >> 32);
      c[j] = d[j] = 0;
    }
    uint32_t k = key, m = other;
    for (int round = 0; round < 10; round++) {
      for (int j = 0; j < LANES; j++) {
        const uint64_t x = uint64_t(0xD2511F53u) * a[j], y = uint64_t(0xCD9E8D57u) * c[j];
        a[j] = static_cast<uint32_t>(y >> 32) ^ b[j] ^ k;
        c[j] = static_cast<uint32_t>(x >> 32) ^ d[j] ^ m;
        b[j] = static_cast<uint32_t>(y);
        d[j] = static_cast<uint32_t>(x);
      }
      k += 0x9E3779B9u;
      m += 0xBB67AE85u;
    }
    float found[GROUP];
    const uint32_t* words[] = {a, b, c, d};
    for (int w = 0; w < 4; w++)
      for (int j = 0; j < LANES; j++) {
        found[(2 * w) * LANES + j] = static_cast<int32_t>(words[w][j] & 0xFFFFu);
        found[(2 * w + 1) * LANES + j] = static_cast<int32_t>(words[w][j] >> 16);
      }
    std::copy_n(found, std::min(GROUP, n - start), to + start);
  }
}

// A book of numbers. Where a number stands, is found by its first 16 bits: of those there is at most
// one boundary in between.
struct Book {
  float values[256], boundaries[257];
  std::vector<int32_t> first;

  Book(std::vector<float> numbers, std::vector<float> middles) : first(1 << 16) {
    std::copy(numbers.begin(), numbers.end(), values);
    std::copy(middles.begin(), middles.end(), boundaries);
    boundaries[middles.size()] = std::numeric_limits<float>::infinity();
    size_t below = 0;
    for (uint32_t cell = 0; cell < 1 << 16; cell++) {
      const uint32_t lowest = cell << 16;
      while (below < middles.size() && place(middles[below]) <= lowest) below++;
      first[cell] = static_cast<int32_t>(below);
    }
  }

  // The order of these is that of the numbers.
  static uint32_t place(float x) {
    const uint32_t bits = bits_of(x);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
  }

  void encode(int64_t n, float* to, const float* x) const {
    const int32_t* const cells = first.data();
    for (int64_t i = 0; i < n; i++) {
      const int32_t code = cells[place(x[i]) >> 16];
      to[i] = static_cast<float>(code + (x[i] >= boundaries[code]));
    }
  }

  void decode(int64_t n, float* to, const float* codes) const {
    for (int64_t i = 0; i < n; i++) to[i] = values[static_cast<int32_t>(codes[i])];
  }
};

// BOOKS

inline void block_amax(int64_t n, float* to, const float* x, int64_t size) {
  for (int64_t start = 0; start < n; start += size) {
    const int64_t count = std::min(size, n - start);
    Vec<float> found(0);
    constexpr int64_t W = Vec<float>::size();
    int64_t i = 0;
    for (; i + W <= count; i += W)
      found = at::vec::maximum(found, Vec<float>::loadu(x + start + i).abs());
    if (i < count) found = at::vec::maximum(found, Vec<float>::loadu(x + start + i, count - i).abs());
    const float largest = at::vec::vec_reduce_all<float>(
        [](Vec<float>& a, Vec<float>& b) { return at::vec::maximum(a, b); }, found);
    std::fill_n(to + start, count, largest);
  }
}

inline void run_storage(
    const Instruction& s, float* const* reg, void* const* memory, int64_t n, int64_t at) {
  float* to = reg[s.to];
  const float *a = reg[s.a], *b = reg[s.b];
  const auto unary = [&](auto f) {
    for (int64_t i = 0; i < n; i++) to[i] = f(a[i]);
  };
  const auto binary = [&](auto f) {
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
      for (int64_t i = 0; i < n; i++) to[i] = i % 2 ? x[i / 2] & 15 : x[i / 2] >> 4;
      return;
    }
    case STORE_NIBBLE: {
      uint8_t* x = static_cast<uint8_t*>(memory[s.to]);
      for (int64_t i = 0; i < n; i += 2) {
        const int32_t low = i + 1 < n ? static_cast<int32_t>(a[i + 1]) : 0;
        x[i / 2] = static_cast<uint8_t>(static_cast<int32_t>(a[i]) << 4 | low);
      }
      return;
    }
    case LOAD_BLOCKS128: return blocks(128, true);
    case LOAD_BLOCKS256: return blocks(256, true);
    case STORE_BLOCKS128: return blocks(128, false);
    case STORE_BLOCKS256: return blocks(256, false);
  }
}
