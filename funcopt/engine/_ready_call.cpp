// A step that is like the one before: whether it is, what it works on, and its kernels, each as one
// call from Python. Functions of Python come by their addresses; all are in its stable interface.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

namespace ready {

typedef void* Object;

struct Python {
  Object (*item)(Object, ptrdiff_t);                // PyList_GetItem
  ptrdiff_t (*size)(Object);                        // PyList_Size
  int (*next)(Object, ptrdiff_t*, Object*, Object*);  // PyDict_Next
  Object (*get)(Object, Object);                    // PyObject_GetAttr
  Object (*call)(Object, Object, Object);           // PyObject_Call
  Object (*tuple)(ptrdiff_t);                       // PyTuple_New
  int (*put)(Object, ptrdiff_t, Object);            // PyTuple_SetItem
  Object (*tuple_item)(Object, ptrdiff_t);          // PyTuple_GetItem
  ptrdiff_t (*tuple_size)(Object);                  // PyTuple_Size
  Object (*list)(ptrdiff_t);                        // PyList_New
  int (*put_item)(Object, ptrdiff_t, Object);       // PyList_SetItem
  Object (*dict)();                                 // PyDict_New
  ptrdiff_t (*dict_size)(Object);                   // PyDict_Size
  Object (*value)(Object, Object);                  // PyDict_GetItemWithError
  int (*set)(Object, Object, Object);               // PyDict_SetItem
  Object (*type)(Object);                           // PyObject_Type
  void (*keep)(Object);                             // Py_IncRef
  void (*drop)(Object);                             // Py_DecRef
  void (*clear)();                                  // PyErr_Clear
  Object (*leave)();                                // PyEval_SaveThread
  void (*enter)(Object);                            // PyEval_RestoreThread
  void* (*address)(Object);                         // PyLong_AsVoidPtr
  void* (*data)(Object);                            // of a tensor
  Object none, yes, no, grad;
};

static Python py;  // set once

inline Object answer(bool holds) {
  Object found = holds ? py.yes : py.no;
  py.keep(found);
  return found;
}

// Dicts and lists with what they held: keys and values in turns, then items.
struct Contents {
  const Object* dicts;
  int64_t dict_count;
  const Object* lists;
  int64_t list_count;
  const Object* expected;
  int64_t expected_count;

  bool hold() const {
    int64_t seen = 0;
    for (int64_t i = 0; i < dict_count; i++) {
      Object key, value;
      for (ptrdiff_t at = 0; py.next(dicts[i], &at, &key, &value); seen += 2)
        if (seen + 2 > expected_count || expected[seen] != key || expected[seen + 1] != value)
          return false;
    }
    for (int64_t i = 0; i < list_count; i++) {
      const ptrdiff_t count = py.size(lists[i]);
      if (count < 0 || seen + count > expected_count) return false;
      for (ptrdiff_t k = 0; k < count; k++)
        if (py.item(lists[i], k) != expected[seen++]) return false;
    }
    return seen == expected_count;
  }
};

// Where the addresses of tensors go, and which tensor each of them is of.
struct Places {
  int64_t* const* places;
  const int64_t* which;
  int64_t count;
  int64_t* begins;  // of the tensors

  void fill() const {
    for (int64_t i = 0; i < count; i++) *places[i] = begins[which[i]];
  }
};

// Numbers, all the same, and what they were left as, as words.
struct Column {
  int64_t* numbers;
  int64_t* snapshot;
  int64_t count;

  bool unchanged() const { return !std::memcmp(numbers, snapshot, count * sizeof(int64_t)); }

  void fill(int64_t x) const {
    if (snapshot[0] == x) return;
    for (int64_t i = 0; i < count; i++) numbers[i] = snapshot[i] = x;
  }
};

struct Ready {
  const Contents* contents;
  const Object* params;        // all of them
  const int64_t* have_grad;    // whether each had a gradient
  int64_t param_count, grad_count;
  Object check;                // of the metadata of tensors: those beside the gradients, then these
  const Object* beside;
  int64_t beside_count;
  const Object* fixed;         // tensors that have to begin where they did
  void* const* addresses;
  int64_t fixed_count;
  void* clock;                 // numbers side by side, as they were left
  void* snapshot;
  int64_t clock_count, clock_letter;
  Places grads;
  Object held;                 // the tensors, while kernels work on them
  const Column* columns;
  const int64_t* words;        // what each of them is to be after the step
  int64_t column_count;

  int64_t clock_bytes() const { return clock_count * (clock_letter == 'f' ? 4 : 8); }
};

// Where a tensor begins; false if it has no memory.
inline bool locate(Object tensor, void** begin) {
  try {
    *begin = py.data(tensor);
    return true;
  } catch (...) {
    return false;
  }
}

// The tensors whose metadata matters, as a tuple; null if a gradient has come or gone.
inline Object tensors_of(const Ready& r) {
  Object all = py.tuple(r.beside_count + r.grad_count);
  if (!all) return nullptr;
  for (int64_t i = 0; i < r.beside_count; i++) {
    py.keep(r.beside[i]);
    py.put(all, i, r.beside[i]);
  }
  int64_t count = 0;
  for (int64_t i = 0; i < r.param_count; i++) {
    Object g = py.get(r.params[i], py.grad);
    const bool there = g && g != py.none;
    if (!g || there != (r.have_grad[i] != 0)) {
      if (g) py.drop(g);
      py.drop(all);
      return nullptr;
    }
    if (!there) {
      py.drop(g);
      continue;
    }
    py.put(all, r.beside_count + count, g);
    if (!locate(g, reinterpret_cast<void**>(r.grads.begins + count++))) {
      py.drop(all);
      return nullptr;
    }
  }
  return all;
}

inline bool load(Ready& r) {
  if (!r.contents->hold()) return false;
  for (int64_t i = 0; i < r.fixed_count; i++) {
    void* begin;
    if (!locate(r.fixed[i], &begin) || begin != r.addresses[i]) return false;
  }
  // Clocks are among the fixed tensors: where they have moved, their memory may be gone.
  if (std::memcmp(r.clock, r.snapshot, r.clock_bytes())) return false;
  for (int64_t i = 0; i < r.column_count; i++)
    if (!r.columns[i].unchanged()) return false;
  Object all = tensors_of(r);
  if (!all) return false;
  Object holds = py.call(r.check, all, nullptr);
  if (holds) py.drop(holds);
  if (holds != py.yes) {
    py.drop(all);
    return false;
  }
  r.grads.fill();
  r.held = all;
  return true;
}

template <typename T>
inline void count_up(void* numbers, int64_t count) {
  for (int64_t i = 0; i < count; i++) static_cast<T*>(numbers)[i] += 1;
}

// A kernel with its arguments; those of bytecode begin with its program.
struct Launch {
  void* drive;
  const void* program[5];
  int64_t tasks;
  const int64_t *table, *pointers;
  int64_t leaves;
  const void* rows;
  const int64_t* row_of;
  double* out;
  int64_t threads, alone;  // whether no other thread of Python waits for it: it is that short
};

typedef void (*Drive)(
    int64_t, const int64_t*, const int64_t*, int64_t, const void*, const int64_t*, double*, int64_t);
typedef void (*DriveProgram)(
    const void*, const void*, const void*, const void*, const void*, int64_t, const int64_t*,
    const int64_t*, int64_t, const void*, const int64_t*, double*, int64_t);

inline void run(const Launch& k) {
  const void* const* p = k.program;
  if (p[0])
    reinterpret_cast<DriveProgram>(k.drive)(p[0], p[1], p[2], p[3], p[4], k.tasks, k.table,
        k.pointers, k.leaves, k.rows, k.row_of, k.out, k.threads);
  else
    reinterpret_cast<Drive>(k.drive)(
        k.tasks, k.table, k.pointers, k.leaves, k.rows, k.row_of, k.out, k.threads);
}

// What was measured in parts, and a kernel of their totals, which has a column for each measure.
struct Conclusion {
  const double* parts;    // of each task, side by side
  const int64_t* ranges;  // the first part of each program, and the first one after its last
  int64_t programs, measures;
  int64_t combine;        // a sum, the largest or the smallest
  double* totals;
  const Launch* launch;
  const Launch* const* first;  // the short ones that measure, if they are to be run here
  int64_t first_count;

  double total(int64_t first, int64_t last, int64_t measure) const {
    const double* x = parts + measure;
    if (combine == 0) return sum(x, first, last);
    const double infinity = std::numeric_limits<double>::infinity();
    double found = combine == 1 ? -infinity : infinity;
    for (int64_t i = first; i < last && found == found; i++) {
      const double y = x[i * measures];
      if (combine == 1 ? !(y <= found) : !(y >= found)) found = y;  // NaN stays
    }
    return found;
  }

  // Pairwise, so that rounding does not grow with the number of parts.
  double sum(const double* x, int64_t first, int64_t last) const {
    if (last - first > 64) {
      const int64_t half = first + (last - first) / 2;
      return sum(x, first, half) + sum(x, half, last);
    }
    double found = 0.0;
    for (int64_t i = first; i < last; i++) found += x[i * measures];
    return found;
  }
};

}  // namespace ready

extern "C" {

using ready::py;
typedef ready::Object Object;

void ready_begin(const ready::Python* functions) { py = *functions; }

// Whether dicts and lists hold what they did.
Object ready_same(Object self, Object) {
  return ready::answer(static_cast<const ready::Contents*>(py.address(self))->hold());
}

// Whether the step is like the one before; then it has its gradients.
Object ready_load(Object self, Object) {
  const bool holds = ready::load(*static_cast<ready::Ready*>(py.address(self)));
  if (!holds) py.clear();
  return ready::answer(holds);
}

// Lets go of the gradients.
Object ready_release(Object self, Object) {
  ready::Ready& r = *static_cast<ready::Ready*>(py.address(self));
  Object held = r.held;
  r.held = nullptr;
  if (held) py.drop(held);
  return ready::answer(true);
}

// Counts the step.
Object ready_count(Object self, Object) {
  ready::Ready& r = *static_cast<ready::Ready*>(py.address(self));
  if (r.clock_letter == 'f') ready::count_up<float>(r.snapshot, r.clock_count);
  if (r.clock_letter == 'd') ready::count_up<double>(r.snapshot, r.clock_count);
  if (r.clock_letter == 'q') ready::count_up<int64_t>(r.snapshot, r.clock_count);
  std::memcpy(r.clock, r.snapshot, r.clock_bytes());
  for (int64_t i = 0; i < r.column_count; i++) r.columns[i].fill(r.words[i]);
  return ready::answer(true);
}

// Runs a kernel.
Object ready_launch(Object self, Object) {
  const ready::Launch& k = *static_cast<const ready::Launch*>(py.address(self));
  Object state = k.alone ? nullptr : py.leave();
  ready::run(k);
  if (state) py.enter(state);
  return ready::answer(true);
}

// Concludes from what was measured, or is measured now.
Object ready_conclude(Object self, Object) {
  const ready::Conclusion& c = *static_cast<const ready::Conclusion*>(py.address(self));
  for (int64_t i = 0; i < c.first_count; i++) ready::run(*c.first[i]);
  for (int64_t k = 0; k < c.measures; k++)
    for (int64_t i = 0; i < c.programs; i++)
      c.totals[k * c.programs + i] = c.total(c.ranges[2 * i], c.ranges[2 * i + 1], k);
  ready::run(*c.launch);
  return ready::answer(true);
}

}  // extern "C"
