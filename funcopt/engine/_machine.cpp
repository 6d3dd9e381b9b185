// The machine that runs programs of `_bytecode.py`: one instruction after another, each over a block
// of entries that stays in the cache, so that memory is read once and written once.
//
// A register is a block of entries of the compute dtype T. The first ones are the tensors themselves;
// then come scalars, each repeated over a block, and values. `_machine.py` puts this behind
// `_operations.cpp` and fills in the lists.

constexpr int64_t LINE = 64;    // bytes of the cache

// The order is that of `_instructions.py`; `_machine.py` fills in the list.
enum Code : int32_t { CODES };
enum Storage : int32_t { STORAGES };

struct Instruction {
  int32_t code, to, a, b, c;
  int32_t measure;  // of a reduction
  int32_t uniform;  // whether the last argument holds one number
};

struct Measure {
  int32_t code, factor;  // a reduction, times a register of scalars, or -1
};

struct Program {
  int32_t tensors, scalars, constants, registers, measures;
  int32_t prologue, body;  // instructions: for each row of scalars, and for each block
  int32_t block;           // entries: a multiple of every vector's length, and of what shares a scale
};

// Bytes of a number, and how many entries share it: 2^shift.
struct Size {
  int64_t bytes, shift;

  int64_t of(int64_t entries) const { return (entries >> shift) * bytes; }
};

inline Size size_of(int32_t storage, int64_t own) {
  switch (storage) {
    case FLOAT: return {4, 0};
    case BFLOAT16: case HALF: case INT16: return {2, 0};
    case INT8: case UINT8: return {1, 0};
    case NIBBLE: return {1, 1};
    case BLOCKS128: return {4, 7};
    case BLOCKS256: return {4, 8};
  }
  return {own, 0};
}

template <typename T, typename F>
inline void each(int64_t n, T* to, const T* a, F f) {
  constexpr int64_t W = Vec<T>::size();
  int64_t i = 0;
#pragma GCC unroll 4
  for (; i + W <= n; i += W) f(Vec<T>::loadu(a + i)).store(to + i);
  if (i < n) f(Vec<T>::loadu(a + i, n - i)).store(to + i, n - i);
}

template <typename T, typename F>
inline void each(int64_t n, T* to, const T* a, const T* b, F f) {
  constexpr int64_t W = Vec<T>::size();
  int64_t i = 0;
#pragma GCC unroll 4
  for (; i + W <= n; i += W) f(Vec<T>::loadu(a + i), Vec<T>::loadu(b + i)).store(to + i);
  if (i < n) f(Vec<T>::loadu(a + i, n - i), Vec<T>::loadu(b + i, n - i)).store(to + i, n - i);
}

template <typename T, typename F>
inline void each(int64_t n, T* to, const T* a, const T* b, const T* c, F f) {
  constexpr int64_t W = Vec<T>::size();
  int64_t i = 0;
#pragma GCC unroll 4
  for (; i + W <= n; i += W)
    f(Vec<T>::loadu(a + i), Vec<T>::loadu(b + i), Vec<T>::loadu(c + i)).store(to + i);
  if (i < n)
    f(Vec<T>::loadu(a + i, n - i), Vec<T>::loadu(b + i, n - i), Vec<T>::loadu(c + i, n - i))
        .store(to + i, n - i);
}

template <typename T, typename F>
inline T fold(int64_t n, const T* a, T empty, F f) {
  Vec<T> found(empty);
  constexpr int64_t W = Vec<T>::size();
  int64_t i = 0;
#pragma GCC unroll 4
  for (; i + W <= n; i += W) found = f(found, Vec<T>::loadu(a + i));
  T lanes[W];
  if (i < n) {
    std::fill(lanes, lanes + W, empty);
    std::copy(a + i, a + n, lanes);
    found = f(found, Vec<T>::loadu(lanes));
  }
  return at::vec::vec_reduce_all<T>([&](Vec<T>& x, Vec<T>& y) { return f(x, y); }, found);
}

template <typename T>
void run(
    const Instruction& s, T* const* reg, void* const* memory, int64_t n, int64_t at, double* found) {
  using V = Vec<T>;
  T* to = reg[s.to];
  const T *a = reg[s.a], *b = reg[s.b], *c = reg[s.c];
  const auto unary = [&](auto f) { each(n, to, a, f); };
  const auto binary = [&](auto f) {
    if (!s.uniform) return each(n, to, a, b, f);
    const V y(b[0]);
    each(n, to, a, [&](V x) { return f(x, y); });
  };
  const auto ternary = [&](auto f) {
    if (!s.uniform) return each(n, to, a, b, c, f);
    const V z(c[0]);
    each(n, to, a, b, [&](V x, V y) { return f(x, y, z); });
  };
  switch (s.code) {
    // OPERATIONS
    case SUM: found[s.measure] += fold(n, a, T(0), [](V x, V y) { return x + y; }); return;
    case AMAX: {
      const double x = fold(
          n, a, -std::numeric_limits<T>::infinity(), [](V x, V y) { return at::vec::maximum(x, y); });
      if (!(x <= found[s.measure]) && found[s.measure] == found[s.measure]) found[s.measure] = x;
      return;
    }
    case AMIN: {
      const double x = fold(
          n, a, std::numeric_limits<T>::infinity(), [](V x, V y) { return at::vec::minimum(x, y); });
      if (!(x >= found[s.measure]) && found[s.measure] == found[s.measure]) found[s.measure] = x;
      return;
    }
  }
  if constexpr (std::is_same_v<T, float>) {
    switch (s.code) {
      // PRIMITIVES
    }
  }
}

// What one thread works with: its registers, filled for the row of scalars that it saw last.
template <typename T>
struct Worker {
  const Program& program;
  const Instruction* code;
  const T* constants;
  std::unique_ptr<T[]> blocks;
  std::unique_ptr<T*[]> reg;
  std::unique_ptr<void*[]> memory;
  int64_t row = -1, filled = 0;

  Worker(const Program& program, const Instruction* code, const T* constants)
      : program(program), code(code), constants(constants),
        blocks(new T[(program.registers - program.tensors) * program.block + LINE]),
        reg(new T*[program.registers]()), memory(new void*[program.tensors]()) {
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
    for (int64_t k = 0; k < program.prologue; k++)
      run(code[k], reg.get(), memory.get(), n, 0, nullptr);
    row = which;
    filled = n;
  }
};

double empty(int32_t code) {
  const double infinity = std::numeric_limits<double>::infinity();
  return code == SUM ? 0.0 : code == AMAX ? -infinity : infinity;
}

template <typename T>
void drive(
    const Program& program, const Instruction* code, const int32_t* storages, const Measure* measures,
    const T* constants, int64_t tasks, const int64_t* table, const int64_t* pointers, int64_t leaves,
    const T* rows, const int64_t* row_of, double* out, int64_t threads) {
  const int64_t BLOCK = program.block;
  const int64_t grain = std::max<int64_t>(1, tasks / (threads * 16));
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    Worker<T> worker(program, code, constants);
    T** reg = worker.reg.get();
    void** memory = worker.memory.get();
    std::vector<char*> next(program.tensors);
    std::vector<Size> sizes(program.tensors);
    for (int64_t k = 0; k < program.tensors; k++) sizes[k] = size_of(storages[k], sizeof(T));
    const int64_t most = program.tensors * BLOCK * sizeof(T) / LINE;
    const int64_t lines = (most + program.body - 1) / std::max(1, program.body);
#pragma omp for schedule(dynamic, grain)
    for (int64_t t = 0; t < tasks; t++) {
      const int64_t leaf = table[3 * t], from = table[3 * t + 1], length = table[3 * t + 2];
      const int64_t row = row_of[leaf];
      worker.fill(rows + row * program.scalars, row, std::min(BLOCK, length));
      double* found = out + t * program.measures;
      for (int64_t k = 0; k < program.measures; k++) found[k] = empty(measures[k].code);
      for (int64_t start = 0; start < length; start += BLOCK) {
        for (int64_t k = 0; k < program.tensors; k++) {
          const Size size = sizes[k];
          memory[k] = reinterpret_cast<char*>(pointers[k * leaves + leaf]) + size.of(from + start);
          reg[k] = static_cast<T*>(memory[k]);
          next[k] = static_cast<char*>(memory[k]) + size.of(BLOCK);
        }
        const int64_t n = std::min(BLOCK, length - start);
        const int64_t ahead = std::max<int64_t>(0, std::min(BLOCK, length - start - BLOCK));
        int64_t tensor = 0, at = 0;
        for (int64_t k = 0; k < program.body; k++) {
          // While it computes, the next block comes: as many lines with each instruction.
          for (int64_t i = 0; i < lines && tensor < program.tensors; i++) {
            const int64_t bytes = sizes[tensor].of(ahead);
            if (at < bytes) __builtin_prefetch(next[tensor] + at);
            at += LINE;
            if (at >= bytes) tensor++, at = 0;
          }
          run(code[program.prologue + k], reg, memory, n, from + start, found);
        }
      }
      for (int64_t k = 0; k < program.measures; k++)
        if (measures[k].factor >= 0) found[k] *= reg[measures[k].factor][0];
    }
  }
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
