// The machine that runs programs of `_bytecode.py`: one instruction after another, each over a block
// of entries that stays in the cache, so that memory is read once and written once.
//
// A register is a block of entries of the compute dtype T. The first ones are the tensors themselves;
// then come scalars, each repeated over a block, and values. `_machine.py` puts this behind
// `_operations.cpp` and fills in the lists.

constexpr int64_t LINE = 64;    // bytes of the cache

// The order is that of `_instructions.py`; `_machine.py` fills in the list.
enum Code : int32_t { CODES, COUNT };
enum Storage : int32_t { STORAGES };

struct Instruction {
  int32_t code, to;
  int32_t measure;  // of a reduction
  int32_t uniform;  // whether the last argument holds one number
  int32_t a, b, c, d, e, f, g, h;
};

struct Measure {
  int32_t code, factor;  // a reduction, times a register of scalars, or -1
};

struct Program {
  int32_t tensors, scalars, constants, registers, measures;
  int32_t prologue, body;  // instructions: for each row of scalars, and for each block
  int32_t fetches;         // whether memory is asked for what comes next
  int32_t block;           // entries: a multiple of every vector's length, and of what shares a scale
};

// Bytes of a number, and how many entries share it: 2^shift.
struct Size {
  int64_t bytes, shift;

  int64_t of(int64_t entries) const { return (entries >> shift) * bytes; }

  // Of all that these entries share in.
  int64_t of_all(int64_t entries) const { return of(entries + (int64_t(1) << shift) - 1); }
};

constexpr int32_t STREAMED = 1 << 8;  // beside a storage

inline Size size_of(int32_t storage, int64_t own) {
  switch (storage & (STREAMED - 1)) {
    case FLOAT: return {4, 0};
    case BFLOAT16: case HALF: case INT16: return {2, 0};
    case INT8: case UINT8: return {1, 0};
    case NIBBLE: return {1, 1};
    case BLOCKS128: return {4, 7};
    case BLOCKS256: return {4, 8};
  }
  return {own, 0};
}

template <typename T, typename F, typename... A>
inline void each(int64_t n, T* to, F f, const A*... a) {
  constexpr int64_t W = Vec<T>::size();
  const auto one = [&](int64_t i) { f(Vec<T>::loadu(a + i)...).store(to + i); };
  int64_t i = 0;
  for (; i + 4 * W <= n; i += 4 * W) one(i), one(i + W), one(i + 2 * W), one(i + 3 * W);
  for (; i + W <= n; i += W) one(i);
  if (i < n) f(Vec<T>::loadu(a + i, n - i)...).store(to + i, n - i);
}

template <typename T, typename F>
inline T fold(int64_t n, const T* a, T empty, F f) {
  using V = Vec<T>;
  constexpr int64_t W = V::size();
  V found[4] = {V(empty), V(empty), V(empty), V(empty)};  // which do not wait for one another
  int64_t i = 0;
  for (; i + 4 * W <= n; i += 4 * W)
    for (int64_t k = 0; k < 4; k++) found[k] = f(found[k], V::loadu(a + i + k * W));
  for (; i + W <= n; i += W) found[0] = f(found[0], V::loadu(a + i));
  T lanes[W];
  if (i < n) {
    std::fill(lanes, lanes + W, empty);
    std::copy(a + i, a + n, lanes);
    found[1] = f(found[1], V::loadu(lanes));
  }
  const V all = f(f(found[0], found[1]), f(found[2], found[3]));
  return at::vec::vec_reduce_all<T>([&](V& x, V& y) { return f(x, y); }, all);
}

// What instructions work with in one block.
template <typename T>
struct Frame {
  T* const* reg;
  int64_t n, at;  // entries, and the place of the first one in its tensor
  double* found;  // measures

  template <typename F>
  void unary(const Instruction& s, F f) const {
    each(n, reg[s.to], f, reg[s.a]);
  }

  template <typename F>
  void binary(const Instruction& s, F f) const {
    if (!s.uniform) return each(n, reg[s.to], f, reg[s.a], reg[s.b]);
    const Vec<T> y(reg[s.b][0]);
    each(n, reg[s.to], [&](Vec<T> x) { return f(x, y); }, reg[s.a]);
  }

  template <typename F>
  void ternary(const Instruction& s, F f) const {
    if (!s.uniform) return each(n, reg[s.to], f, reg[s.a], reg[s.b], reg[s.c]);
    const Vec<T> z(reg[s.c][0]);
    each(n, reg[s.to], [&](Vec<T> x, Vec<T> y) { return f(x, y, z); }, reg[s.a], reg[s.b]);
  }
};

template <typename T>
void run_sum(const Instruction& s, const Frame<T>& in) {
  using V = Vec<T>;
  in.found[s.measure] += fold(in.n, in.reg[s.a], T(0), [](V x, V y) { return x + y; });
}

template <typename T>
void run_amax(const Instruction& s, const Frame<T>& in) {
  using V = Vec<T>;
  const double x = fold(
      in.n, in.reg[s.a], -std::numeric_limits<T>::infinity(),
      [](V x, V y) { return at::vec::maximum(x, y); });
  double& found = in.found[s.measure];
  if (!(x <= found) && found == found) found = x;
}

template <typename T>
void run_amin(const Instruction& s, const Frame<T>& in) {
  using V = Vec<T>;
  const double x = fold(
      in.n, in.reg[s.a], std::numeric_limits<T>::infinity(),
      [](V x, V y) { return at::vec::minimum(x, y); });
  double& found = in.found[s.measure];
  if (!(x >= found) && found == found) found = x;
}

// OPERATIONS

// A function for each code: so they are called without a search.
template <typename T>
struct Handlers {
  void (*of[COUNT])(const Instruction&, const Frame<T>&) = {};

  constexpr Handlers() {
    // HANDLERS
    if constexpr (std::is_same_v<T, float>) {
      // PRIMITIVES
    }
  }
};

template <typename T>
constexpr Handlers<T> HANDLERS;

// What one thread works with: its registers, filled for the row of scalars that it saw last.
template <typename T>
struct Worker {
  const Program& program;
  const Instruction* code;
  const T* constants;
  std::unique_ptr<T[]> blocks;
  std::unique_ptr<T*[]> reg;
  int64_t row = -1, filled = 0;

  Worker(const Program& program, const Instruction* code, const T* constants)
      : program(program), code(code), constants(constants),
        blocks(new T[(program.registers - program.tensors) * program.block + LINE]),
        reg(new T*[program.registers]()) {
    const auto begin = reinterpret_cast<uintptr_t>(blocks.get());
    T* const aligned = reinterpret_cast<T*>((begin + LINE - 1) / LINE * LINE);
    for (int64_t r = program.tensors; r < program.registers; r++)
      reg[r] = aligned + (r - program.tensors) * program.block;
  }

  // Repeats the scalars over a block, and computes what follows from them alone.
  void fill(const T* scalars, int64_t which, int64_t n) {
    if (which == row && n <= filled) return;
    T** const first = reg.get() + program.tensors;
    for (int64_t k = 0; k < program.scalars; k++) std::fill_n(first[k], n, scalars[k]);
    for (int64_t k = 0; k < program.constants; k++)
      std::fill_n(first[program.scalars + k], n, constants[k]);
    const Frame<T> frame{reg.get(), n, 0, nullptr};
    for (int64_t k = 0; k < program.prologue; k++) HANDLERS<T>.of[code[k].code](code[k], frame);
    row = which;
    filled = n;
  }
};

double empty(int32_t code) {
  const double infinity = std::numeric_limits<double>::infinity();
  return code == SUM ? 0.0 : code == AMAX ? -infinity : infinity;
}

// Writes past the cache: memory is not read before.
#if defined(CPU_CAPABILITY_AVX512)
constexpr int64_t STREAM = 64;
inline void stream(char* to, const char* from) {
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), _mm512_load_si512(from));
}
inline void end_of_stream() { _mm_sfence(); }
#elif defined(CPU_CAPABILITY_AVX2)
constexpr int64_t STREAM = 32;
inline void stream(char* to, const char* from) {
  _mm256_stream_si256(
      reinterpret_cast<__m256i*>(to), _mm256_load_si256(reinterpret_cast<const __m256i*>(from)));
}
inline void end_of_stream() { _mm_sfence(); }
#else
constexpr int64_t STREAM = 0;
inline void stream(char*, const char*) {}
inline void end_of_stream() {}
#endif

// Asks memory for so many bytes, which are needed later.
inline void fetch(const char* from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += LINE) __builtin_prefetch(from + i);
}

// How a thread goes on in the tensors of one column, from block to block.
struct Column {
  Size size;
  int64_t step, asked;  // bytes: to the next block, and of it what memory is asked for
};

// A column whose blocks are computed where they stay in the cache, and then pass it by.
struct Passing {
  int64_t column, block;  // bytes
  std::unique_ptr<char[]> memory;
  char* own;
  char* next = nullptr;  // in the tensor, or null where its blocks are not at whole lines

  Passing(int64_t column, int64_t block)
      : column(column), block(block), memory(new char[block + LINE]) {
    const auto begin = reinterpret_cast<uintptr_t>(memory.get());
    own = reinterpret_cast<char*>((begin + LINE - 1) / LINE * LINE);
  }

  // Passes on so many bytes that were computed.
  void pass_on(const int64_t bytes) {
    char* const to = next;
    const char* const from = own;
    int64_t i = 0;
    for (; i + 4 * STREAM <= bytes; i += 4 * STREAM)
      for (int64_t k = i; k < i + 4 * STREAM; k += STREAM) stream(to + k, from + k);
    for (; i + STREAM <= bytes; i += STREAM) stream(to + i, from + i);
    if (i < bytes) std::memcpy(to + i, from + i, bytes - i);
    next = to + bytes;
  }
};

template <typename T>
void drive(
    const Program& program, const Instruction* code, const int32_t* storages, const Measure* measures,
    const T* constants, int64_t tasks, const int64_t* table, const int64_t* pointers, int64_t leaves,
    const T* rows, const int64_t* row_of, double* out, int64_t threads) {
  const int64_t BLOCK = program.block, tensors = program.tensors;
  const int64_t grain = std::max<int64_t>(1, tasks / (threads * 16));
  const Instruction* const body = code + program.prologue;
  const int64_t fetched = program.fetches ? tensors : 0;
  const auto work = [&](const auto& each_task) {
    Worker<T> worker(program, code, constants);
    T** const reg = worker.reg.get();
    std::vector<Column> columns(tensors);
    std::vector<Passing> passing;
    for (int64_t k = 0; k < tensors; k++) {
      Column& one = columns[k];
      one.size = size_of(storages[k], sizeof(T));
      one.step = one.asked = one.size.of(BLOCK);
      const bool passes = STREAM && storages[k] & STREAMED && one.step % LINE == 0;
      if (!passes) continue;
      passing.emplace_back(k, one.step);
      one.asked = 0;
    }
    each_task([&](const int64_t t) {
      const int64_t leaf = table[3 * t], from = table[3 * t + 1], length = table[3 * t + 2];
      const int64_t row = row_of[leaf];
      worker.fill(rows + row * program.scalars, row, std::min(BLOCK, length));
      double* const found = out + t * program.measures;
      for (int64_t k = 0; k < program.measures; k++) found[k] = empty(measures[k].code);
      for (int64_t k = 0; k < tensors; k++) {
        const auto begin = reinterpret_cast<char*>(pointers[k * leaves + leaf]);
        reg[k] = reinterpret_cast<T*>(begin + columns[k].size.of(from));
      }
      for (Passing& one : passing) {
        T*& at = reg[one.column];
        const bool passes = reinterpret_cast<uintptr_t>(at) % LINE == 0;
        one.next = passes ? reinterpret_cast<char*>(at) : nullptr;
        columns[one.column].step = passes ? 0 : one.block;
        if (passes) at = reinterpret_cast<T*>(one.own);
      }
      Frame<T> frame{reg, BLOCK, from, found};
      for (int64_t rest = length; rest > 0; rest -= BLOCK, frame.at += BLOCK) {
        frame.n = std::min(BLOCK, rest);
        const bool asks = rest >= 3 * BLOCK;
        int64_t column = 0;
        for (int64_t k = 0; k < program.body; k++) {
          // While it computes, the block after the next one comes: one column after another.
          for (; column < fetched && column * program.body <= k * fetched; column++) {
            const int64_t bytes = columns[column].asked;
            fetch(reinterpret_cast<char*>(reg[column]) + 2 * bytes, asks ? bytes : 0);
          }
          HANDLERS<T>.of[body[k].code](body[k], frame);
        }
        for (Passing& one : passing) {
          if (!one.next) continue;
          one.pass_on(rest < BLOCK ? columns[one.column].size.of_all(rest) : one.block);
        }
        for (int64_t k = 0; k < tensors; k++)
          reg[k] = reinterpret_cast<T*>(reinterpret_cast<char*>(reg[k]) + columns[k].step);
      }
      for (int64_t k = 0; k < program.measures; k++)
        if (measures[k].factor >= 0) found[k] *= reg[measures[k].factor][0];
    });
    if (!passing.empty()) end_of_stream();
  };
  if (threads <= 1) {  // a team of one thread takes longer than a small step
    work([&](const auto& task) {
      for (int64_t t = 0; t < tasks; t++) task(t);
    });
    return;
  }
#pragma omp parallel num_threads(threads)
  work([&](const auto& task) {
#pragma omp for schedule(dynamic, grain)
    for (int64_t t = 0; t < tasks; t++) task(t);
  });
}

}  // namespace

#define DRIVER(NAME, T)                                                                          \
  extern "C" void NAME(                                                                          \
      const void* program, const void* code, const void* storages, const void* measures,          \
      const void* constants, int64_t tasks, const int64_t* table, const int64_t* pointers,       \
      int64_t leaves, const void* rows, const int64_t* row_of, double* out, int64_t threads) {   \
    drive<T>(*static_cast<const Program*>(program), static_cast<const Instruction*>(code),       \
             static_cast<const int32_t*>(storages), static_cast<const Measure*>(measures),         \
             static_cast<const T*>(constants), tasks, table, pointers, leaves,                   \
             static_cast<const T*>(rows), row_of, out, threads);                                 \
  }

DRIVER(drive_float, float)
DRIVER(drive_double, double)
