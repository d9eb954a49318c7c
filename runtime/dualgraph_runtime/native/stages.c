// Programs of several steps: compiled segments, nodes that Python computes between them, and sizes
// that only these tell, behind which there is memory to ask for. What is to be done is a list of
// instructions, numbers one behind the other; expressions stand in it as code, see frame.c.

enum { RUN, NODE, DEFINE, MEMORY, ARRAY, RESULT };
enum { MAX_OPERANDS = 64, MAX_CHUNKS = 48 };
enum { LONG_WORK = 1 << 16 };     // bytes that are worth letting go of the GIL
enum { LARGE_CHUNK = 1 << 20 };   // bytes of which it is asked whether there are so many

// What one call has asked for behind its arena: each chunk is larger than those before together.
typedef struct {
  Block chunks[MAX_CHUNKS];
  int n;
  size_t left, used;
  char *next;
} Extra;

static char *take_extra(Frame *f, Extra *e, int64_t bytes) {
  size_t size = ((size_t)bytes + 64) / 64 * 64;  // nothing has an address, too
  if (size > e->left) {
    size_t chunk = size + e->used;
    if (chunk < f->extra_bytes) chunk = f->extra_bytes;
    if (chunk > LARGE_CHUNK) {
      PyObject *fits = PyObject_CallFunction(f->fits, "n", (Py_ssize_t)chunk);
      if (!fits) return NULL;
      Py_DECREF(fits);
    }
    Block block = {NULL, 0};
    if (e->n < MAX_CHUNKS) block = take_block(chunk);
    if (!block.memory) {
      PyErr_NoMemory();
      return NULL;
    }
    e->chunks[e->n++] = block;
    e->next = block.memory;
    e->left = block.bytes;
  }
  char *found = e->next;
  e->next += size;
  e->left -= size;
  e->used += size;
  return found;
}

// The sizes of a shape: their number, then an expression for each.
static int read_shape(const int64_t **code, const int64_t *sizes, npy_intp *shape) {
  int n = (int)*(*code)++;
  for (int i = 0; i < n; i++) {
    int64_t value;
    if (!value_of(code, sizes, &value) || value < 0) {
      PyErr_NoMemory();
      return -1;
    }
    shape[i] = (npy_intp)value;
  }
  return n;
}

static PyObject *held_in(const Frame *f, PyObject *const *objects, int64_t slot) {
  return objects[slot] ? objects[slot] : f->held[slot];
}

// The array of a slot in a shape, a new reference.
static PyObject *shaped(PyObject *y, int n, npy_intp *shape) {
  PyArrayObject *a = (PyArrayObject *)y;
  if (PyArray_NDIM(a) == n && PyArray_CompareLists(PyArray_DIMS(a), shape, n)) return Py_NewRef(y);
  PyArray_Dims dims = {shape, n};
  return PyArray_Newshape(a, &dims, NPY_CORDER);
}

static PyObject *tuple_of_sizes(const Frame *f, const int64_t *sizes) {
  PyObject *all = PyTuple_New(f->n_sizes);
  for (Py_ssize_t i = 0; all && i < f->n_sizes; i++) {
    PyObject *size = PyLong_FromLongLong(sizes[i]);
    if (!size) Py_CLEAR(all);
    else PyTuple_SET_ITEM(all, i, size);
  }
  return all;
}

// Puts what a node has given into its slots, contiguous and of the slots' types.
static int take_results(Frame *f, Context *c, PyObject *found, const int64_t **code) {
  Py_ssize_t n = (Py_ssize_t)*(*code)++;
  PyObject *all = PySequence_Fast(found, "a node gave no sequence of results");
  if (!all || PySequence_Fast_GET_SIZE(all) != n) {
    if (all) PyErr_SetString(PyExc_ValueError, "a node gave another number of results");
    Py_XDECREF(all);
    return -1;
  }
  for (Py_ssize_t i = 0; i < n; i++) {
    int64_t slot = *(*code)++;
    PyArray_Descr *dtype = f->dtypes[slot];
    Py_INCREF(dtype);
    PyObject *y = PyArray_FromAny(PySequence_Fast_GET_ITEM(all, i), dtype, 0, 0,
                                  NPY_ARRAY_CARRAY_RO | NPY_ARRAY_NOTSWAPPED |
                                      NPY_ARRAY_FORCECAST | NPY_ARRAY_ENSUREARRAY,
                                  NULL);
    if (!y) {
      Py_DECREF(all);
      return -1;
    }
    Py_XSETREF(c->objects[slot], y);
    c->table[slot] = PyArray_DATA((PyArrayObject *)y);
  }
  Py_DECREF(all);
  return 0;
}

// NODE function, whether it is given the sizes, operands (slot, shape), results (slot).
static int run_node(Frame *f, Context *c, const int64_t **code) {
  PyObject *function = PyTuple_GET_ITEM(f->functions, *(*code)++);
  PyObject *operands[MAX_OPERANDS + 1];
  Py_ssize_t n = 0;
  int64_t is_sized = *(*code)++, count = *(*code)++;
  int ok = 1;
  if (is_sized) ok = (operands[n] = tuple_of_sizes(f, c->sizes)) && ++n;
  for (int64_t i = 0; ok && i < count; i++) {
    int64_t slot = *(*code)++;
    npy_intp shape[NPY_MAXDIMS];
    int ndim = read_shape(code, c->sizes, shape);
    ok = ndim >= 0 && (operands[n] = shaped(held_in(f, c->objects, slot), ndim, shape)) && ++n;
  }
  PyObject *found = ok ? PyObject_Vectorcall(function, operands, (size_t)n, NULL) : NULL;
  while (n) Py_DECREF(operands[--n]);
  if (!found) return -1;
  int status = take_results(f, c, found, code);
  Py_DECREF(found);
  return status;
}

// Whether an array can be a result as it is: it is nobody's but this call's.
static int is_own(const Frame *f, PyObject *y, PyObject *const *args, PyObject *outputs,
                  int64_t slot) {
  PyArrayObject *a = (PyArrayObject *)y;
  if (y == f->held[slot] || !PyArray_CHKFLAGS(a, NPY_ARRAY_OWNDATA) || !PyArray_ISWRITEABLE(a))
    return 0;
  for (Py_ssize_t i = 0; i < f->n_inputs; i++)
    if (args[i] == y) return 0;
  for (Py_ssize_t i = 0; i < f->n_outputs; i++)
    if (PyTuple_GET_ITEM(outputs, i) == y) return 0;
  return 1;
}

// RESULT output, slot, shape.
static int give_result(Frame *f, Context *c, PyObject *const *args, PyObject *outputs,
                       const int64_t **code) {
  int64_t output = *(*code)++, slot = *(*code)++;
  npy_intp shape[NPY_MAXDIMS];
  int ndim = read_shape(code, c->sizes, shape);
  PyObject *held = held_in(f, c->objects, slot);
  PyObject *y = ndim < 0 ? NULL : shaped(held, ndim, shape);
  if (y && (y != held || !is_own(f, y, args, outputs, slot)))
    Py_SETREF(y, PyArray_NewCopy((PyArrayObject *)y, NPY_CORDER));
  if (!y) return -1;
  PyTuple_SET_ITEM(outputs, output, y);
  return 0;
}

// ARRAY slot, shape: memory that Python sees, as an operand of a node or as a result.
static int make_array(Frame *f, Context *c, const int64_t **code) {
  int64_t slot = *(*code)++;
  npy_intp shape[NPY_MAXDIMS];
  int ndim = read_shape(code, c->sizes, shape);
  if (ndim < 0) return -1;
  PyArray_Descr *dtype = f->dtypes[slot];
  Py_INCREF(dtype);
  PyObject *y =
      PyArray_NewFromDescr(&PyArray_Type, dtype, ndim, shape, NULL, NULL, 0, NULL);
  if (!y) return -1;
  Py_XSETREF(c->objects[slot], y);
  c->table[slot] = PyArray_DATA((PyArrayObject *)y);
  return 0;
}

// DEFINE size, slot, axis: that of an array, or without an axis the number that is in the slot.
static int define(Context *c, const int64_t **code) {
  int64_t size = *(*code)++, slot = *(*code)++, axis = *(*code)++;
  int64_t value = axis < 0 ? *(const int64_t *)c->table[slot]
                           : PyArray_DIM((PyArrayObject *)c->objects[slot], (int)axis);
  if (value < 0) {
    PyErr_SetString(PyExc_ValueError, "a size is negative");
    return -1;
  }
  c->sizes[size] = value;
  return 0;
}

// MEMORY slot, bytes.
static int find_memory(Frame *f, Context *c, Extra *extra, const int64_t **code) {
  int64_t slot = *(*code)++, bytes;
  if (!value_of(code, c->sizes, &bytes) || bytes < 0) {
    PyErr_NoMemory();
    return -1;
  }
  c->table[slot] = take_extra(f, extra, bytes);
  return c->table[slot] ? 0 : -1;
}

static int run_segment(Frame *f, Context *c, const Extra *extra, const int64_t **code) {
  Entry entry = (Entry)(intptr_t)*(*code)++;
  int status;
  if (f->releases_gil || extra->used > LONG_WORK) {
    Py_BEGIN_ALLOW_THREADS
    status = entry(c->table, c->sizes, f->team);
    Py_END_ALLOW_THREADS
  } else {
    status = entry(c->table, c->sizes, f->team);
  }
  return status;
}

// Carries out the instructions: 0, the status of a segment, or -1 with an exception set.
static int run_stages(Frame *f, Context *c, PyObject *const *args, PyObject *outputs) {
  Extra extra = {.n = 0, .left = 0, .used = 0, .next = NULL};
  for (Py_ssize_t i = 0; i < f->n_inputs; i++)
    c->objects[f->operands[i].slot] = Py_NewRef(args[i]);
  for (Py_ssize_t i = 0; i < f->n_outputs; i++)
    if (f->operands[f->n_inputs + i].slot >= 0)
      c->objects[f->operands[f->n_inputs + i].slot] = Py_NewRef(PyTuple_GET_ITEM(outputs, i));
  int status = 0;
  const int64_t *code = f->stages;
  while (!status && code < f->stages + f->n_stages) {
    switch (*code++) {
      case RUN: status = run_segment(f, c, &extra, &code); break;
      case NODE: status = run_node(f, c, &code); break;
      case DEFINE: status = define(c, &code); break;
      case MEMORY: status = find_memory(f, c, &extra, &code); break;
      case ARRAY: status = make_array(f, c, &code); break;
      default: status = give_result(f, c, args, outputs, &code);
    }
  }
  for (Py_ssize_t i = 0; i < f->n_slots; i++) Py_CLEAR(c->objects[i]);
  while (extra.n) give_block_back(extra.chunks[--extra.n]);
  f->extra_bytes = extra.used;
  return status;
}

// (instructions, functions, dtypes of the slots, arrays of the slots or None, fits): see Frame.
static int read_stages(Frame *f, PyObject *spec) {
  PyObject *code, *dtypes, *held;
  if (!PyArg_ParseTuple(spec, "O!O!O!O!O", &PyTuple_Type, &code, &PyTuple_Type, &f->functions,
                        &PyTuple_Type, &dtypes, &PyTuple_Type, &held, &f->fits)) {
    f->functions = f->fits = NULL;
    return -1;
  }
  Py_INCREF(f->functions);
  Py_INCREF(f->fits);
  f->n_stages = PyTuple_GET_SIZE(code);
  f->dtypes = calloc((size_t)f->n_slots + 1, sizeof(PyArray_Descr *));
  f->held = calloc((size_t)f->n_slots + 1, sizeof(PyObject *));
  if (!f->dtypes || !f->held) return PyErr_NoMemory(), -1;
  if (PyTuple_GET_SIZE(dtypes) != f->n_slots || PyTuple_GET_SIZE(held) != f->n_slots) {
    PyErr_SetString(PyExc_ValueError, "no description of steps");
    return -1;
  }
  for (Py_ssize_t i = 0; i < f->n_slots; i++) {
    if (!PyArray_DescrConverter(PyTuple_GET_ITEM(dtypes, i), &f->dtypes[i])) return -1;
    PyObject *array = PyTuple_GET_ITEM(held, i);
    if (array != Py_None) f->held[i] = Py_NewRef(array);
  }
  return (f->stages = read_numbers(code)) ? 0 : -1;
}

static void drop_stages(Frame *f) {
  for (Py_ssize_t i = 0; i < f->n_slots; i++) {
    if (f->dtypes) Py_XDECREF(f->dtypes[i]);
    if (f->held) Py_XDECREF(f->held[i]);
  }
  free(f->dtypes);
  free(f->held);
  free(f->stages);
  Py_XDECREF(f->functions);
  Py_XDECREF(f->fits);
}
