
// Passes over matrices, tile by tile: the same programs, in which a tensor may have one number for
// each row or each column, and which measure every row and every column. `_tiles.py` calls this.

namespace {

// What a tensor has numbers for; what is measured of columns has one for each column of each tile,
// and begins with what there is of no rows.
enum Extent : int32_t { ENTRIES, ROWS, COLUMNS, SUMS, MAXIMA, MINIMA };

struct Tiling {
  int64_t matrices, rows, columns;  // of them, and of each of them
  int64_t height, width;            // of a tile, at most

  int64_t down() const { return (rows + height - 1) / height; }
  int64_t across() const { return (columns + width - 1) / width; }
};

template <typename T>
void drive_tiles(
    const Program& program, const Instruction* code, const int32_t* storages, const Measure* measures,
    const T* constants, const int32_t* extents, const Tiling& tiling, const int64_t* pointers,
    const T* scalars, T* out, int64_t threads) {
  const int64_t BLOCK = program.block, tensors = program.tensors;
  const int64_t down = tiling.down(), across = tiling.across();
  const Instruction* const body = code + program.prologue;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    Worker<T> worker(program, code, constants);
    worker.fill(scalars, 0, BLOCK);
    T** const reg = worker.reg.get();
    std::vector<char*> base(tensors);  // of a row in the tile
    std::vector<Size> sizes(tensors);
    std::vector<int64_t> of_rows;  // tensors
    std::vector<double> found(program.measures);
    std::unique_ptr<T[]> repeated(new T[tensors * BLOCK]);  // the number of a row
    for (int64_t k = 0; k < tensors; k++) {
      sizes[k] = size_of(storages[k], sizeof(T));
      if (extents[k] != ROWS) continue;
      of_rows.push_back(k);
      reg[k] = repeated.get() + k * BLOCK;
    }
#pragma omp for schedule(dynamic)
    for (int64_t t = 0; t < tiling.matrices * down * across; t++) {
      const int64_t matrix = t / (down * across), i = t / across % down, j = t % across;
      const int64_t left = j * tiling.width, width = std::min(tiling.width, tiling.columns - left);
      const int64_t top = i * tiling.height, end = std::min(tiling.rows, top + tiling.height);
      for (int64_t k = 0; k < tensors; k++) {
        const int32_t extent = extents[k];
        const int64_t line = extent == ENTRIES   ? matrix * tiling.rows + top
                             : extent == COLUMNS ? matrix
                                                 : matrix * down + i;
        base[k] = reinterpret_cast<char*>(pointers[k]) + sizes[k].of(line * tiling.columns + left);
        if (extent < SUMS) continue;
        const T infinity = std::numeric_limits<T>::infinity();
        const T nothing = extent == SUMS ? T(0) : extent == MAXIMA ? -infinity : infinity;
        std::fill_n(reinterpret_cast<T*>(base[k]), width, nothing);
      }
      for (int64_t row = top; row < end; row++) {
        for (const int64_t k : of_rows) {
          const T one = reinterpret_cast<const T*>(pointers[k])[matrix * tiling.rows + row];
          std::fill_n(reg[k], std::min(BLOCK, width), one);
        }
        for (int64_t k = 0; k < program.measures; k++) found[k] = empty(measures[k].code);
        for (int64_t at = 0; at < width; at += BLOCK) {
          for (int64_t k = 0; k < tensors; k++)
            if (extents[k] != ROWS) reg[k] = reinterpret_cast<T*>(base[k] + sizes[k].of(at));
          const Frame<T> frame{reg, std::min(BLOCK, width - at), 0, found.data()};
          for (int64_t k = 0; k < program.body; k++) HANDLERS<T>.of[body[k].code](body[k], frame);
        }
        for (int64_t k = 0; k < tensors; k++)
          if (extents[k] == ENTRIES) base[k] += sizes[k].of(tiling.columns);
        for (int64_t k = 0; k < program.measures; k++) {
          const double factor = measures[k].factor < 0 ? 1.0 : reg[measures[k].factor][0];
          const int64_t part = (k * tiling.matrices + matrix) * across + j;
          out[part * tiling.rows + row] = static_cast<T>(found[k] * factor);
        }
      }
    }
  }
}

}  // namespace

#define TILES_DRIVER(NAME, T)                                                                     \
  extern "C" void NAME(                                                                          \
      const void* program, const void* code, const void* storages, const void* measures,          \
      const void* constants, const int32_t* extents, const void* tiling, const int64_t* pointers, \
      const void* scalars, void* out, int64_t threads) {                                          \
    drive_tiles<T>(*static_cast<const Program*>(program), static_cast<const Instruction*>(code), \
                   static_cast<const int32_t*>(storages), static_cast<const Measure*>(measures), \
                   static_cast<const T*>(constants), extents, *static_cast<const Tiling*>(tiling), \
                   pointers, static_cast<const T*>(scalars), static_cast<T*>(out), threads);       \
  }

TILES_DRIVER(drive_tiles_float, float)
TILES_DRIVER(drive_tiles_double, double)
