// Where a number stands in a book, and what stands there.

// The boundaries of a book, as straight pieces: within one, they are equally far from one another, so
// that a number is divided by that distance, and none has to be looked up. A piece begins at a
// boundary, which may be nearer to the next one, and in each binade begins at most one. What is so
// near to a boundary that rounding may matter is left to the `cells` of the book.
struct Pieces {
  static constexpr int BINADES = 32, FIRST = 127 - 27, MOST = 16;
  static constexpr float NEAR = 0x1p-11f;  // of the distance of two boundaries
  bool are_there = false;
  int32_t below = 0;  // boundaries below zero: those nearest to zero above it, with another sign
  alignas(64) float begin[BINADES];    // where a piece begins in a binade, or infinity
  alignas(64) int32_t before[BINADES];  // the piece at the beginning of a binade
  alignas(64) float slope[MOST], offset[MOST], end[MOST];

  explicit Pieces(const std::vector<float>& boundaries) {
    std::vector<float> above;
    for (float x : boundaries) {
      below += x < 0;
      if (x > 0) above.push_back(x);
    }
    for (int32_t k = 0; k < below; k++)
      if (k >= static_cast<int32_t>(above.size()) || boundaries[below - 1 - k] != -above[k]) return;
    if (below + above.size() != boundaries.size() || above[0] < 0x1p-26f) return;
    std::fill_n(begin, BINADES, std::numeric_limits<float>::infinity());
    std::fill_n(slope, MOST, 0.0f);
    std::fill_n(offset, MOST, 0.5f);  // no boundary: the same, and far from any
    std::fill_n(end, MOST, 0.5f);
    std::vector<float> starts{0.0f};
    const int64_t count = above.size();
    for (int64_t first = 0; first < count;) {
      int64_t last = first + 1;  // the first boundary that is not of this piece
      const auto gap = [&](int64_t k) { return double(above[k]) - above[k - 1]; };
      while (last < count && (last < first + 3 || std::abs(gap(last) / gap(first + 2) - 1) < 0.01))
        last++;
      const double least = above[std::min(first + 1, count - 1)];
      const double step = last > first + 2 ? (above[last - 1] - least) / (last - first - 2) : 1.0;
      if (least - above[first] > (1 + 0.1 * NEAR) * step) return;
      for (int64_t k = first + 1; k < last; k++)
        if (std::abs((above[k] - least) / step - double(k - first - 1)) > 0.1 * NEAR) return;
      const size_t piece = starts.size();
      float& start = begin[std::clamp<int>((bits_of(above[first]) >> 23) - FIRST, 0, BINADES - 1)];
      if (piece == MOST || std::isfinite(start)) return;
      starts.push_back(start = above[first]);
      end[piece] = static_cast<float>(last) + 0.5f;
      offset[piece] = static_cast<float>(first) + 1.5f;
      if (last > first + 1) {
        slope[piece] = static_cast<float>(1 / step);
        offset[piece] = static_cast<float>(first + 2 - least / step);
      }
      first = last;
    }
    for (int k = 0; k < BINADES; k++) {
      const float x = of_bits(static_cast<uint32_t>(FIRST + k) << 23);
      before[k] = k ? std::upper_bound(starts.begin() + 1, starts.end(), x) - starts.begin() - 1 : 0;
      if (begin[k] == x) before[k]--;
    }
    are_there = true;
  }

  // Whether the codes of all of these numbers are found so.
  bool encode(V x, V& codes) const {
#if defined(CPU_CAPABILITY_AVX512)
    if (!are_there) return false;
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i size = _mm512_and_si512(bits, _mm512_set1_epi32(0x7FFFFFFF));
    const __m512 magnitude = _mm512_castsi512_ps(size);
    const __m512i binade = _mm512_min_epu32(
        _mm512_subs_epu16(_mm512_srli_epi32(size, 23), _mm512_set1_epi32(FIRST)),
        _mm512_set1_epi32(BINADES - 1));
    const __m512 start =
        _mm512_permutex2var_ps(_mm512_load_ps(begin), binade, _mm512_load_ps(begin + 16));
    __m512i piece =
        _mm512_permutex2var_epi32(_mm512_load_si512(before), binade, _mm512_load_si512(before + 16));
    const __mmask16 later = _mm512_cmp_ps_mask(magnitude, start, _CMP_GE_OQ);
    piece = _mm512_mask_add_epi32(piece, later, piece, _mm512_set1_epi32(1));
    const __m512 place = _mm512_min_ps(
        _mm512_fmadd_ps(magnitude, _mm512_permutexvar_ps(piece, _mm512_load_ps(slope)),
                        _mm512_permutexvar_ps(piece, _mm512_load_ps(offset))),
        _mm512_permutexvar_ps(piece, _mm512_load_ps(end)));
    const __m512 rest = _mm512_abs_ps(_mm512_reduce_ps(place, 0));  // to the nearest whole number
    const __mmask16 is_near = _mm512_cmp_ps_mask(rest, _mm512_set1_ps(NEAR), _CMP_NGE_UQ);  // or NaN
    if (is_near | _mm512_cmp_ps_mask(magnitude, start, _CMP_EQ_OQ)) return false;
    const __m512i count = _mm512_cvttps_epi32(place), zero = _mm512_set1_epi32(below);
    const __m512i code = _mm512_mask_sub_epi32(
        _mm512_add_epi32(zero, count), _mm512_movepi32_mask(bits), zero,
        _mm512_min_epi32(count, zero));
    codes = _mm512_cvtepi32_ps(code);
    return true;
#else
    return false;
#endif
  }
};

// A book of numbers. Where a number stands is found by its sign and the first 15 bits of its
// magnitude, its cell. In a cell is at most one boundary: from some lower half of a magnitude on,
// the code is another one. Nearer to zero than each boundary is one cell, beyond 1 another.
struct Book {
  using Int = Vec<int32_t>;
  alignas(64) float values[256] = {};
  alignas(64) uint8_t planes[1024];  // their bytes: first those of all, then the second ones
  bool is_large;
  int32_t lowest, count, last;
  Pieces pieces;
  std::vector<float> cells;  // the bits of integers: the code below that half, and the half + 1

  Book(std::vector<float> numbers, std::vector<float> middles)
      : is_large(numbers.size() > 16), last(static_cast<int32_t>(middles.size())), pieces(middles) {
    std::copy(numbers.begin(), numbers.end(), values);
    for (int k = 0; k < 1024; k++) planes[k] = bits_of(values[k % 256]) >> (k / 256 * 8) & 0xFF;
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

  V encode(V x) const {
    V found;
    return pieces.encode(x, found) ? found : encode_by_cells(x);
  }

  V encode_by_cells(V x) const {
    const Int none(0), most(count - 1), magnitude(0x7FFFFFFF), low(lowest), negative(count);
    const Int bits = at::vec::cast<int32_t>(x), sign = bits >> Int(31);
    const Int cell = ((bits & magnitude) >> Int(16)) - low;
    const Int at = at::vec::minimum(at::vec::maximum(cell, none), most) + (sign & negative);
    const Int found = at::vec::cast<int32_t>(at::vec::gather<4>(cells.data(), at));
    const Int beyond = (bits & Int(0xFFFF)).ge(found & Int(0xFFFFFF));  // 1 or 0
    const Int code = ((found >> Int(24)) & Int(0xFF)) + (beyond ^ sign) - sign;
    const V number = at::vec::convert_to_fp_of_same_size<float>(code);
    return V::blendv(V(last), number, x == x);
  }

  V decode(V code) const {
#if defined(CPU_CAPABILITY_AVX512)
    if (!is_large) return _mm512_permutexvar_ps(_mm512_cvttps_epi32(code), _mm512_load_ps(values));
#endif
    return at::vec::gather<4>(values, at::vec::convert_to_int_of_same_size(code));
  }

  // The same of many, of a large book. The four bytes of a number come from four tables of 256,
  // where the processor has an instruction that looks up 64 at once.
  void decode_all(int64_t n, float* to, const float* codes) const {
    int64_t i = 0;
#if defined(CPU_CAPABILITY_AVX512) && defined(__AVX512VBMI__)
    for (; i + 64 <= n; i += 64) {
      __m512i some[4], bytes[4];
      for (int k = 0; k < 4; k++)
        some[k] = _mm512_cvttps_epi32(_mm512_loadu_ps(codes + i + 16 * k));
      const __m512i code = _mm512_packus_epi16(
          _mm512_packus_epi32(some[0], some[1]), _mm512_packus_epi32(some[2], some[3]));
      const __mmask64 is_high = _mm512_movepi8_mask(code);
      for (int k = 0; k < 4; k++) {
        const auto part = [&](int j) { return _mm512_load_si512(planes + 256 * k + 64 * j); };
        bytes[k] = _mm512_mask_blend_epi8(
            is_high, _mm512_permutex2var_epi8(part(0), code, part(1)),
            _mm512_permutex2var_epi8(part(2), code, part(3)));
      }
      // What was packed lane by lane is unpacked lane by lane: the order is that of the entries.
      for (int k = 0; k < 2; k++) {
        const auto joined = [&](int b) {
          return k ? _mm512_unpackhi_epi8(bytes[b], bytes[b + 1])
                   : _mm512_unpacklo_epi8(bytes[b], bytes[b + 1]);
        };
        const __m512i low = joined(0), high = joined(2);
        _mm512_storeu_si512(to + i + 32 * k, _mm512_unpacklo_epi16(low, high));
        _mm512_storeu_si512(to + i + 32 * k + 16, _mm512_unpackhi_epi16(low, high));
      }
    }
#endif
    for (; i < n; i += V::size()) {
      const int64_t count = std::min<int64_t>(V::size(), n - i);
      decode(V::loadu(codes + i, count)).store(to + i, count);
    }
  }
};
