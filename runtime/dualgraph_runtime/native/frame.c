// Calls compiled programs on NumPy arrays: one generic type, no glue per program.
//
// A Frame is a program made ready for inputs of fixed shapes, or of shapes with sizes that vary as
// far as its memory for intermediate values goes. Calling it with arrays checks them,
// allocates the outputs, runs the program, and returns a tuple of the outputs; or NotImplemented
// where an array is not what the frame is for, or the program's status where that is not zero.
// Some outputs are not allocated: they are inputs, which the program overwrites. Such an input must
// be writable, and no other one may lie in its memory. Behind the inputs may come an array, or None,
// for each output: results are written there.
//
// A frame may have several steps, see stages.c. Then those outputs whose sizes they tell have no slot.
//
// Memory for intermediate values is lent by the process to whatever program is running. An array
// that was returned and that nobody but the frame refers to any longer is returned again: fresh
// memory costs a page fault for every 4 KiB.
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
#include <numpy/arrayobject.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <structmember.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

enum { MAX_IDLE = 4 };  // contexts, and blocks of memory, kept for the next calls
enum { KEPT = 2 };      // results kept of each output: the caller often holds the last one
enum { HUGE_PAGE = 1 << 21 };

typedef struct {
  PyArray_Descr *dtype;
  int ndim, slot, is_written;
  Py_ssize_t at;  // its shape, in the shapes of a call
} Operand;

// Memory that one call has for its intermediate values.
typedef struct {
  char *memory;
  size_t bytes;
} Block;

// What one call works on: the table of buffers, and where its arena was when that was filled; where
// sizes vary, the sizes that `shapes` are for, too.
typedef struct Context {
  struct Context *next;
  char *arena;
  int64_t *sizes;
  npy_intp *shapes;
  PyObject **objects;  // where there are several steps: the arrays in slots, while a call runs
  int is_sized;
  void *table[];
} Context;

// Expressions in sizes: numbers of this many words in all, or operations on what is on the stack.
enum { END, NUMBER, SIZE, ADD, MULTIPLY, DIVIDE, LARGER };
enum { DEEPEST = 32 };

typedef int (*Entry)(void *const *, const int64_t *, const void *);

typedef struct {
  PyObject_HEAD
  vectorcallfunc call;
  Entry entry;
  Py_ssize_t n_inputs, n_outputs, n_slots, n_arena, n_fixed, n_written;
  Operand *operands;    // inputs, then outputs
  int64_t *arena_slots; // pairs: slot, offset
  int64_t *fixed_slots; // pairs: slot, address
  int64_t *dims;
  npy_intp *shapes;     // of all operands, one behind the other
  Py_ssize_t n_shapes, n_sizes, n_varying;
  int64_t *sizes;       // where each size is found: input (or -1), axis, the least, the most it may be
  int64_t *varying;     // places in `shapes`
  int64_t *room;        // bytes of each block of the arena
  int64_t *code;        // expressions for what varies, then for the bytes of each block
  const void *team;     // the threads that it may use, see pool.c; NULL for none
  int64_t *donated;     // for each output the input that it is, or -1
  int64_t *written;     // inputs that the program overwrites
  const char **seen;    // where the inputs were that were found to be apart
  size_t arena_bytes;
  int releases_gil, idle;
  Context *contexts;
  PyObject **kept;      // results that may be returned again, KEPT for each output
  // Where there are several steps: what is to be done; functions that compute nodes; of each slot
  // its type, and the array that is in it whatever happens; what raises where memory does not
  // suffice; how much the last call has asked for.
  int64_t *stages;
  Py_ssize_t n_stages;
  PyObject *functions, *fits, **held;
  PyArray_Descr **dtypes;
  size_t extra_bytes;
} Frame;

static int run_stages(Frame *f, Context *c, PyObject *const *args, PyObject *outputs);
static int read_stages(Frame *f, PyObject *spec);
static void drop_stages(Frame *f);

// -- memory ----------------------------------------------------------------------------------------

// Blocks that no call is using, of all programs; guarded by the GIL, as everything here is.
static Block idle_blocks[MAX_IDLE];
static int n_idle_blocks;

// The smallest idle block that is large enough, else a new one; `memory` is NULL if there is none.
static Block take_block(size_t bytes) {
  int best = -1;
  for (int i = 0; i < n_idle_blocks; i++)
    if (idle_blocks[i].bytes >= bytes && (best < 0 || idle_blocks[i].bytes < idle_blocks[best].bytes))
      best = i;
  if (best >= 0) {
    Block found = idle_blocks[best];
    idle_blocks[best] = idle_blocks[--n_idle_blocks];
    return found;
  }
  size_t alignment = bytes >= 2 * HUGE_PAGE ? HUGE_PAGE : 64;
  Block made = {NULL, (bytes + bytes / 8 + alignment - 1) / alignment * alignment};
  void *memory = NULL;
  if (posix_memalign(&memory, alignment, made.bytes)) return made;
#ifdef MADV_HUGEPAGE
  if (alignment == HUGE_PAGE) madvise(memory, made.bytes, MADV_HUGEPAGE);
#endif
  made.memory = memory;
  return made;
}

// Keep a block for later calls, or let go of the smallest.
static void give_block_back(Block block) {
  if (n_idle_blocks == MAX_IDLE) {
    int least = 0;
    for (int i = 1; i < MAX_IDLE; i++)
      if (idle_blocks[i].bytes < idle_blocks[least].bytes) least = i;
    if (idle_blocks[least].bytes >= block.bytes) {
      free(block.memory);
      return;
    }
    free(idle_blocks[least].memory);
    idle_blocks[least] = idle_blocks[--n_idle_blocks];
  }
  idle_blocks[n_idle_blocks++] = block;
}

static PyObject *trim(PyObject *self, PyObject *unused) {
  while (n_idle_blocks) free(idle_blocks[--n_idle_blocks].memory);
  Py_RETURN_NONE;
}

static Context *take_context(Frame *f) {
  Context *c = f->contexts;
  if (c) {
    f->contexts = c->next;
    f->idle--;
    return c;
  }
  size_t table = sizeof(Context) + (size_t)f->n_slots * sizeof(void *);
  size_t sizes = f->n_sizes ? (size_t)(f->n_sizes + f->n_shapes) * sizeof(int64_t) : 0;
  size_t objects = f->stages ? (size_t)f->n_slots * sizeof(PyObject *) : 0;
  c = calloc(1, table + sizes + objects);
  if (!c) return NULL;
  c->objects = (PyObject **)((char *)c + table + sizes);
  c->sizes = f->dims;
  c->shapes = f->shapes;
  if (f->n_sizes) {
    c->sizes = (int64_t *)((char *)c + table);
    c->shapes = (npy_intp *)(c->sizes + f->n_sizes);
    memcpy(c->sizes, f->dims, (size_t)f->n_sizes * sizeof(int64_t));
    memcpy(c->shapes, f->shapes, (size_t)f->n_shapes * sizeof(npy_intp));
  }
  for (Py_ssize_t i = 0; i < f->n_fixed; i++)
    c->table[f->fixed_slots[2 * i]] = (void *)(intptr_t)f->fixed_slots[2 * i + 1];
  return c;
}

static void give_back(Frame *f, Context *c) {
  if (f->idle >= MAX_IDLE) {
    free(c);
    return;
  }
  c->next = f->contexts;
  f->contexts = c;
  f->idle++;
}

static inline npy_intp bytes_of(PyObject *array) { return PyArray_NBYTES((PyArrayObject *)array); }

// Whether what the program overwrites shares no memory with another input. Only inputs that are
// not where they were at the last call are looked at.
static int are_apart(Frame *f, PyObject *const *args) {
  for (Py_ssize_t i = 0; i < f->n_inputs; i++) {
    const char *at = PyArray_DATA((PyArrayObject *)args[i]);
    if (f->seen[i] == at && !f->n_sizes) continue;
    const Operand *o = &f->operands[i];
    Py_ssize_t n = o->is_written ? f->n_inputs : f->n_written;
    for (Py_ssize_t k = 0; k < n; k++) {
      Py_ssize_t j = o->is_written ? k : (Py_ssize_t)f->written[k];
      const char *other = PyArray_DATA((PyArrayObject *)args[j]);
      if (j != i && at < other + bytes_of(args[j]) && other < at + bytes_of(args[i])) {
        memset(f->seen, 0, sizeof(char *) * (size_t)f->n_inputs);
        return 0;
      }
    }
  }
  for (Py_ssize_t i = 0; i < f->n_inputs; i++)
    f->seen[i] = PyArray_DATA((PyArrayObject *)args[i]);
  return 1;
}

static int fits(PyObject *object, const Operand *o, const Context *c) {
  if (!PyArray_CheckExact(object)) return 0;
  PyArrayObject *a = (PyArrayObject *)object;
  if (PyArray_DESCR(a)->type_num != o->dtype->type_num || PyArray_NDIM(a) != o->ndim) return 0;
  if (!PyArray_IS_C_CONTIGUOUS(a) || !PyArray_ISBEHAVED_RO(a)) return 0;
  if (o->is_written && !PyArray_ISWRITEABLE(a)) return 0;
  const npy_intp *shape = PyArray_DIMS(a), *wanted = c->shapes + o->at;
  for (int i = 0; i < o->ndim; i++)
    if (shape[i] != wanted[i]) return 0;
  return 1;
}

// -- sizes that vary -------------------------------------------------------------------------------

// The value of the expression at `*code`, which moves behind it; 0 where it has none.
static int value_of(const int64_t **code, const int64_t *sizes, int64_t *value) {
  int64_t stack[DEEPEST];
  int n = 0;
  for (const int64_t *c = *code;; c++) {
    if (*c == END) {
      *code = c + 1;
      *value = stack[0];
      return 1;
    }
    if (*c == NUMBER || *c == SIZE) {
      stack[n++] = *c == NUMBER ? c[1] : sizes[c[1]];
      c++;
      continue;
    }
    int64_t a = stack[n - 2], b = stack[n - 1], y = 0;
    if (*c == ADD && __builtin_add_overflow(a, b, &y)) return 0;
    if (*c == MULTIPLY && __builtin_mul_overflow(a, b, &y)) return 0;
    if (*c == LARGER) y = a > b ? a : b;
    if (*c == DIVIDE) {
      if (b == 0 || (b == -1 && a == INT64_MIN)) return 0;
      y = a / b - (a % b != 0 && (a < 0) != (b < 0));
    }
    stack[--n - 1] = y;
  }
}

// The shapes for these inputs; 0 where they are not what the frame is for, or it has no room.
static int take_sizes(const Frame *f, Context *c, PyObject *const *args) {
  int same = c->is_sized;
  for (Py_ssize_t i = 0; i < f->n_sizes; i++) {
    const int64_t *at = f->sizes + 4 * i;
    if (at[0] < 0) continue;
    PyObject *array = args[at[0]];
    if (!PyArray_CheckExact(array) || PyArray_NDIM((PyArrayObject *)array) <= at[1]) return 0;
    int64_t size = PyArray_DIM((PyArrayObject *)array, (int)at[1]);
    if (size < at[2] || size > at[3]) return 0;
    same = same && c->sizes[i] == size;
    c->sizes[i] = size;
  }
  if (same) return 1;
  c->is_sized = 0;
  const int64_t *code = f->code;
  int64_t value;
  for (Py_ssize_t i = 0; i < f->n_varying; i++) {
    if (!value_of(&code, c->sizes, &value) || value < 0) return 0;
    c->shapes[f->varying[i]] = (npy_intp)value;
  }
  for (Py_ssize_t i = 0; i < f->n_arena; i++)
    if (!value_of(&code, c->sizes, &value) || value < 0 || value > f->room[i]) return 0;
  c->is_sized = 1;
  return 1;
}

// Whether an array that the caller has brought can be written to while the inputs are read.
static int takes_output(Frame *f, const Context *c, PyObject *const *args, Py_ssize_t i) {
  Py_ssize_t at = f->n_inputs + i;
  PyObject *given = args[at];
  if (given == Py_None) return 1;
  if (f->donated[i] >= 0 || !fits(given, &f->operands[at], c)) return 0;
  if (!PyArray_ISWRITEABLE((PyArrayObject *)given)) return 0;
  const char *from = PyArray_DATA((PyArrayObject *)given), *to = from + bytes_of(given);
  for (Py_ssize_t j = 0; j < at; j++) {
    if (args[j] == Py_None) continue;
    const char *other = PyArray_DATA((PyArrayObject *)args[j]);
    if (from < other + bytes_of(args[j]) && other < to) return 0;
  }
  return 1;
}

// Whether an array was returned once, has stayed as it was, and is nobody's any longer.
static int is_free(PyObject *y, const Operand *o, const Context *c) {
  return Py_REFCNT(y) == 1 && fits(y, o, c) && PyArray_ISWRITEABLE((PyArrayObject *)y) &&
         PyArray_CHKFLAGS((PyArrayObject *)y, NPY_ARRAY_OWNDATA) &&
         !((PyArrayObject_fields *)y)->weakreflist;
}

// An array for an output, a new reference: one that was returned before, or a new one.
static PyObject *take_output(Frame *f, const Context *c, Py_ssize_t i) {
  const Operand *o = &f->operands[f->n_inputs + i];
  PyObject **kept = &f->kept[KEPT * i];
  for (int k = 0; k < KEPT; k++) {
    if (!kept[k]) continue;
    if (is_free(kept[k], o, c)) return Py_NewRef(kept[k]);
    if (f->n_sizes && Py_REFCNT(kept[k]) == 1) Py_CLEAR(kept[k]);  // sizes change: nobody's use
  }
  Py_INCREF(o->dtype);
  PyObject *y = PyArray_NewFromDescr(&PyArray_Type, o->dtype, o->ndim, c->shapes + o->at, NULL,
                                     NULL, 0, NULL);
  if (!y) return NULL;
  PyObject *oldest = kept[0];
  for (int k = 1; k < KEPT; k++) kept[k - 1] = kept[k];
  kept[KEPT - 1] = Py_NewRef(y);
  Py_XDECREF(oldest);
  return y;
}

// The tuple of outputs; their addresses go into the table.
static PyObject *prepare_outputs(Frame *f, Context *c, PyObject *const *args, int given) {
  PyObject *outputs = PyTuple_New(f->n_outputs);
  if (!outputs) return NULL;
  for (Py_ssize_t i = 0; i < f->n_outputs; i++) {
    PyObject *y;
    if (f->operands[f->n_inputs + i].slot < 0) continue;
    if (f->donated[i] >= 0)
      y = Py_NewRef(args[f->donated[i]]);
    else if (given && args[f->n_inputs + i] != Py_None)
      y = Py_NewRef(args[f->n_inputs + i]);
    else
      y = take_output(f, c, i);
    if (!y) {
      Py_DECREF(outputs);
      return NULL;
    }
    PyTuple_SET_ITEM(outputs, i, y);
    if (f->donated[i] < 0)
      c->table[f->operands[f->n_inputs + i].slot] = PyArray_DATA((PyArrayObject *)y);
  }
  return outputs;
}

static PyObject *frame_call(PyObject *self, PyObject *const *args, size_t flags, PyObject *names) {
  Frame *f = (Frame *)self;
  Py_ssize_t n = PyVectorcall_NARGS(flags);
  int given = n == f->n_inputs + f->n_outputs && f->n_outputs && !f->stages;
  if ((n != f->n_inputs && !given) || names) Py_RETURN_NOTIMPLEMENTED;
  Context *c = take_context(f);
  if (!c) return PyErr_NoMemory();
  int ok = !f->n_sizes || take_sizes(f, c, args);
  for (Py_ssize_t i = 0; ok && i < f->n_inputs; i++) ok = fits(args[i], &f->operands[i], c);
  for (Py_ssize_t i = 0; ok && given && i < f->n_outputs; i++) ok = takes_output(f, c, args, i);
  if (!ok || (f->n_written && !are_apart(f, args))) {
    give_back(f, c);
    Py_RETURN_NOTIMPLEMENTED;
  }
  PyObject *outputs = prepare_outputs(f, c, args, given);
  if (!outputs) {
    give_back(f, c);
    return NULL;
  }
  Block block = {NULL, 0};
  if (f->arena_bytes) {
    block = take_block(f->arena_bytes);
    if (!block.memory) {
      Py_DECREF(outputs);
      give_back(f, c);
      return PyErr_NoMemory();
    }
    if (c->arena != block.memory)
      for (Py_ssize_t i = 0; i < f->n_arena; i++)
        c->table[f->arena_slots[2 * i]] = block.memory + f->arena_slots[2 * i + 1];
    c->arena = block.memory;
  }
  for (Py_ssize_t i = 0; i < f->n_inputs; i++)
    c->table[f->operands[i].slot] = PyArray_DATA((PyArrayObject *)args[i]);
  int status;
  if (f->stages) {
    status = run_stages(f, c, args, outputs);
  } else if (f->releases_gil) {
    Py_BEGIN_ALLOW_THREADS
    status = f->entry(c->table, c->sizes, f->team);
    Py_END_ALLOW_THREADS
  } else {
    status = f->entry(c->table, c->sizes, f->team);
  }
  if (block.memory) give_block_back(block);
  give_back(f, c);
  if (status) {
    Py_DECREF(outputs);
    return status < 0 ? NULL : PyLong_FromLong(status);
  }
  return outputs;
}

// Let go of the results that might have been returned again.
static PyObject *frame_trim(PyObject *self, PyObject *unused) {
  Frame *f = (Frame *)self;
  for (Py_ssize_t i = 0; i < KEPT * f->n_outputs; i++) Py_CLEAR(f->kept[i]);
  Py_RETURN_NONE;
}

// -- making ----------------------------------------------------------------------------------------

// One (dtype, shape, slot), the shape to be kept in `shapes`, of which `*n` are there.
static int read_operand(PyObject *spec, Operand *o, npy_intp **shapes, Py_ssize_t *n) {
  PyObject *shape;
  if (!PyArg_ParseTuple(spec, "O&O!i", PyArray_DescrConverter, &o->dtype, &PyTuple_Type, &shape,
                        &o->slot))
    return -1;
  o->ndim = (int)PyTuple_GET_SIZE(shape);
  o->at = *n;
  npy_intp *more = realloc(*shapes, (size_t)(*n + o->ndim + 1) * sizeof(npy_intp));
  if (!more) return PyErr_NoMemory(), -1;
  *shapes = more;
  *n += o->ndim;
  if (o->ndim > NPY_MAXDIMS) {
    PyErr_SetString(PyExc_ValueError, "too many dimensions");
    return -1;
  }
  for (int i = 0; i < o->ndim; i++) {
    more[o->at + i] = PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, i));
    if (more[o->at + i] == -1 && PyErr_Occurred()) return -1;
  }
  return 0;
}

static int64_t *read_numbers(PyObject *numbers) {
  Py_ssize_t n = PyTuple_GET_SIZE(numbers);
  int64_t *out = malloc(sizeof(int64_t) * (size_t)(n + 1));
  if (!out) {
    PyErr_NoMemory();
    return NULL;
  }
  for (Py_ssize_t i = 0; i < n; i++) {
    out[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(numbers, i));
    if (out[i] == -1 && PyErr_Occurred()) {
      free(out);
      return NULL;
    }
  }
  return out;
}

// The inputs that the program overwrites.
static int read_donations(Frame *f) {
  f->written = malloc(sizeof(int64_t) * (size_t)(f->n_outputs + 1));
  f->seen = calloc((size_t)f->n_inputs + 1, sizeof(char *));
  if (!f->written || !f->seen) {
    PyErr_NoMemory();
    return -1;
  }
  for (Py_ssize_t i = 0; i < f->n_outputs; i++) {
    int64_t of = f->donated[i];
    if (of >= f->n_inputs) {
      PyErr_SetString(PyExc_ValueError, "an output is donated no input");
      return -1;
    }
    if (of < 0) continue;
    f->operands[of].is_written = 1;
    f->written[f->n_written++] = of;
  }
  return 0;
}

// Whether the code is `n` expressions, each of which leaves one number on the stack.
static int is_code(const int64_t *code, Py_ssize_t length, Py_ssize_t n, Py_ssize_t n_sizes) {
  Py_ssize_t depth = 0, found = 0;
  for (Py_ssize_t i = 0; i < length; i++) {
    if (code[i] == NUMBER || code[i] == SIZE) {
      if (++i == length || depth == DEEPEST) return 0;
      if (code[i - 1] == SIZE && (code[i] < 0 || code[i] >= n_sizes)) return 0;
      depth++;
    } else if (code[i] == END) {
      if (depth != 1) return 0;
      depth = 0;
      found++;
    } else if (code[i] < END || code[i] > LARGER || --depth < 1) {
      return 0;
    }
  }
  return depth == 0 && found == n;
}

// (sizes, varying, room, code): how sizes vary. Sizes are input, axis, least and most, one behind
// the other; for the rest see Frame.
static int read_sizes(Frame *f, PyObject *spec) {
  PyObject *parts[4];
  if (!PyArg_ParseTuple(spec, "O!O!O!O!", &PyTuple_Type, &parts[0], &PyTuple_Type, &parts[1],
                        &PyTuple_Type, &parts[2], &PyTuple_Type, &parts[3]))
    return -1;
  if (!(f->sizes = read_numbers(parts[0])) || !(f->varying = read_numbers(parts[1])) ||
      !(f->room = read_numbers(parts[2])) || !(f->code = read_numbers(parts[3])))
    return -1;
  f->n_sizes = PyTuple_GET_SIZE(parts[0]) / 4;
  f->n_varying = PyTuple_GET_SIZE(parts[1]);
  int ok = PyTuple_GET_SIZE(parts[2]) == f->n_arena && PyTuple_GET_SIZE(parts[0]) % 4 == 0;
  for (Py_ssize_t i = 0; i < f->n_sizes; i++)
    ok = ok && f->sizes[4 * i] >= -1 && f->sizes[4 * i] < f->n_inputs && f->sizes[4 * i + 1] >= 0;
  for (Py_ssize_t i = 0; i < f->n_varying; i++)
    ok = ok && f->varying[i] >= 0 && f->varying[i] < f->n_shapes;
  if (ok && is_code(f->code, PyTuple_GET_SIZE(parts[3]), f->n_varying + f->n_arena, f->n_sizes))
    return 0;
  PyErr_SetString(PyExc_ValueError, "no description of sizes");
  return -1;
}

// Frame(entry, inputs, outputs, n_slots, arena, arena_bytes, fixed, dims, donated, releases_gil,
//       team, sizes, stages), sizes None where none varies, stages where there is but one step
static PyObject *frame_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
  long long entry, team;
  PyObject *inputs, *outputs, *arena, *fixed, *dims, *donated, *sizes, *stages;
  Py_ssize_t n_slots, arena_bytes;
  int releases_gil;
  if (keywords && PyDict_GET_SIZE(keywords)) {
    PyErr_SetString(PyExc_TypeError, "Frame takes no keywords");
    return NULL;
  }
  if (!PyArg_ParseTuple(args, "LO!O!nO!nO!O!O!pLOO", &entry, &PyTuple_Type, &inputs, &PyTuple_Type,
                        &outputs, &n_slots, &PyTuple_Type, &arena, &arena_bytes, &PyTuple_Type,
                        &fixed, &PyTuple_Type, &dims, &PyTuple_Type, &donated, &releases_gil,
                        &team, &sizes, &stages))
    return NULL;
  Frame *f = (Frame *)type->tp_alloc(type, 0);
  if (!f) return NULL;
  f->call = frame_call;
  f->entry = (Entry)(intptr_t)entry;
  f->team = (const void *)(intptr_t)team;
  f->n_slots = n_slots;
  f->arena_bytes = (size_t)arena_bytes;
  f->releases_gil = releases_gil;
  f->n_arena = PyTuple_GET_SIZE(arena) / 2;
  f->n_fixed = PyTuple_GET_SIZE(fixed) / 2;
  Py_ssize_t n_in = PyTuple_GET_SIZE(inputs), n_out = PyTuple_GET_SIZE(outputs);
  f->operands = calloc((size_t)(n_in + n_out + 1), sizeof(Operand));
  f->arena_slots = read_numbers(arena);
  f->fixed_slots = read_numbers(fixed);
  f->dims = read_numbers(dims);
  f->donated = read_numbers(donated);
  f->kept = calloc((size_t)(KEPT * n_out + 1), sizeof(PyObject *));
  if (!f->kept || !f->operands || !f->arena_slots || !f->fixed_slots || !f->dims || !f->donated ||
      PyTuple_GET_SIZE(donated) != n_out) {
    if (!PyErr_Occurred()) PyErr_NoMemory();
    Py_DECREF(f);
    return NULL;
  }
  for (Py_ssize_t i = 0; i < n_in + n_out; i++) {
    PyObject *spec = i < n_in ? PyTuple_GET_ITEM(inputs, i) : PyTuple_GET_ITEM(outputs, i - n_in);
    if (read_operand(spec, &f->operands[i], &f->shapes, &f->n_shapes)) {
      f->n_inputs = i + 1;  // what has been read so far is let go again
      Py_DECREF(f);
      return NULL;
    }
  }
  f->n_inputs = n_in;
  f->n_outputs = n_out;
  if (read_donations(f) || (sizes != Py_None && read_sizes(f, sizes)) ||
      (stages != Py_None && read_stages(f, stages))) {
    Py_DECREF(f);
    return NULL;
  }
  return (PyObject *)f;
}

static void frame_dealloc(PyObject *self) {
  Frame *f = (Frame *)self;
  PyTypeObject *type = Py_TYPE(self);
  for (Py_ssize_t i = 0; i < f->n_inputs + f->n_outputs; i++) Py_XDECREF(f->operands[i].dtype);
  for (Context *c = f->contexts, *next; c; c = next) {
    next = c->next;
    free(c);
  }
  if (f->kept) frame_trim(self, NULL);
  drop_stages(f);
  free(f->kept);
  free(f->operands);
  free(f->arena_slots);
  free(f->fixed_slots);
  free(f->dims);
  free(f->shapes);
  free(f->sizes);
  free(f->varying);
  free(f->room);
  free(f->code);
  free(f->donated);
  free(f->written);
  free(f->seen);
  type->tp_free(self);
  Py_DECREF(type);
}
