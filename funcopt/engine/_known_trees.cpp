// Trees whose structure is known: their leaves, and trees like them of others, each as one call from
// Python. It follows `_ready_call.cpp`.

namespace ready {

enum Kind { LEAF, LIST, TUPLE, NAMED, DICT };

// The nodes of a tree, each before its children, whose number it has.
struct Nodes {
  const int64_t* kinds;
  const int64_t* counts;
  const Object* types;
  const Object* keys;    // of the dicts, as their children are walked, one after another
  const int64_t* order;  // of these children, as a dict that is made has them
};

// What has been walked of them.
struct Walk {
  const Nodes& nodes;
  int64_t node = 0, key = 0, leaf = 0;

  // The leaves of a tree, as items of a list; false if the tree is another.
  bool read(Object x, Object list) {
    const int64_t kind = nodes.kinds[node], count = nodes.counts[node];
    const Object type = nodes.types[node++];
    if (kind == LEAF) {
      py.keep(x);
      return !py.put_item(list, leaf++, x);
    }
    Object own = py.type(x);
    py.drop(own);  // which its object keeps
    if (own != type) return false;
    if (kind == DICT) {
      if (py.dict_size(x) != count) return false;
      const int64_t first = key;
      key += count;
      for (int64_t k = 0; k < count; k++) {
        Object child = py.value(x, nodes.keys[first + k]);
        if (!child || !read(child, list)) return false;
      }
      return true;
    }
    if ((kind == LIST ? py.size(x) : py.tuple_size(x)) != count) return false;
    for (int64_t k = 0; k < count; k++)
      if (!read(kind == LIST ? py.item(x, k) : py.tuple_item(x, k), list)) return false;
    return true;
  }

  // A tree whose leaves are `which` items of a list; null if Python has raised an error.
  Object made(Object list, const int64_t* which) {
    const int64_t kind = nodes.kinds[node], count = nodes.counts[node];
    const Object type = nodes.types[node++];
    if (kind == LEAF) {
      Object x = py.item(list, which[leaf++]);
      if (x) py.keep(x);
      return x;
    }
    const int64_t first = key;
    if (kind == DICT) key += count;
    Object children = kind == LIST ? py.list(count) : py.tuple(count);
    for (int64_t k = 0; children && k < count; k++) {
      Object child = made(list, which);
      if (!child) {
        py.drop(children);
        return nullptr;
      }
      kind == LIST ? py.put_item(children, k, child) : py.put(children, k, child);
    }
    if (!children || kind == LIST || kind == TUPLE) return children;
    Object tree = kind == NAMED ? py.call(type, children, nullptr) : py.dict();
    for (int64_t k = 0; tree && kind == DICT && k < count; k++) {
      const int64_t child = nodes.order[first + k];
      if (py.set(tree, nodes.keys[first + child], py.tuple_item(children, child))) {
        py.drop(tree);
        tree = nullptr;
      }
    }
    py.drop(children);
    return tree;
  }
};

struct Trees {
  const Nodes* given;
  Object check;           // of the metadata of leaves
  const Object* fresh;    // arguments of what makes a tensor
  Object empty;           // which is this
  int64_t leaf_count, fresh_count;
  int64_t clock, next;    // a count among the leaves, and the fresh tensor of the next; or -1
  int64_t* count;         // the next
  Places places;
  const Nodes* results;
  const int64_t* which;   // of the list their leaves are
};

// The leaves of known trees, and fresh tensors after them, as a list; null if they are others.
inline Object taken(Trees& t, Object trees) {
  Object list = py.list(t.leaf_count + t.fresh_count);
  if (!list) return nullptr;
  Walk walk{*t.given};
  bool holds = walk.read(trees, list);
  Object leaves = holds ? py.tuple(t.leaf_count) : nullptr;
  for (int64_t i = 0; leaves && i < t.leaf_count; i++) {
    Object x = py.item(list, i);
    py.keep(x);
    py.put(leaves, i, x);
  }
  Object same = leaves ? py.call(t.check, leaves, nullptr) : nullptr;
  holds = same == py.yes;
  if (same) py.drop(same);
  if (leaves) py.drop(leaves);
  for (int64_t i = 0; holds && i < t.fresh_count; i++) {
    Object x = py.call(t.empty, t.fresh[i], nullptr);
    holds = x && !py.put_item(list, t.leaf_count + i, x);
  }
  for (int64_t i = 0; holds && i < t.leaf_count + t.fresh_count; i++)
    holds = locate(py.item(list, i), reinterpret_cast<void**>(t.places.begins + i));
  if (!holds) {
    py.drop(list);
    return nullptr;
  }
  if (t.clock >= 0) {
    *t.count = *reinterpret_cast<const int64_t*>(t.places.begins[t.clock]) + 1;
    *reinterpret_cast<int64_t*>(t.places.begins[t.next]) = *t.count;
  }
  t.places.fill();
  return list;
}

}  // namespace ready

extern "C" {

// What is taken of trees that are like those before; else `None`.
Object ready_take(Object self, Object trees) {
  Object found = ready::taken(*static_cast<ready::Trees*>(py.address(self)), trees);
  if (found) return found;
  py.clear();
  py.keep(py.none);
  return py.none;
}

// The trees of the results of a step, from a list of all that it works on.
Object ready_give(Object self, Object list) {
  const ready::Trees& t = *static_cast<const ready::Trees*>(py.address(self));
  return ready::Walk{*t.results}.made(list, t.which);
}

}  // extern "C"
