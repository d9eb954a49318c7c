// From tensors to tensors: the front end's objects, and calls like the one before.
//
// A Shortcut is a call of a compiled function that is known: what it must find for the call to be
// that one, and the frame that computes it. Whatever it does not find makes it return
// NotImplemented, and Python code decides what becomes of the call. A Caller takes the place of a
// class's `__call__`: it tries the shortcuts of the object that is called, then calls the function
// that was there before.

// What the front end is made of: classes with the places of their slots, and settings of threads.
static struct {
  PyTypeObject *tensor, *view, *leaf, *pick;
  Py_ssize_t data, fn, ver, base;  // of a tensor
  Py_ssize_t view_version;         // of what `base` holds
  Py_ssize_t pick_seq, node_seq, node_hooks;
  PyObject *next_seq;   // gives the next number for an entry of the tape
  PyObject *locals[2];  // thread-local: whether operations are recorded; what captures them
} front;

static PyObject *name_grad, *name_current, *name_disabled;

static inline PyObject **slot_of(PyObject *t, Py_ssize_t offset) {
  return (PyObject **)((char *)t + offset);
}

static void set_slot(PyObject *t, Py_ssize_t offset, PyObject *value) {
  PyObject *before = *slot_of(t, offset);
  *slot_of(t, offset) = value;
  Py_XDECREF(before);
}

static Py_ssize_t offset_of(PyTypeObject *cls, const char *name) {
  PyObject *found = PyObject_GetAttrString((PyObject *)cls, name);
  if (!found) return -1;
  Py_ssize_t offset = -1;
  if (Py_TYPE(found) == &PyMemberDescr_Type &&
      ((PyMemberDescrObject *)found)->d_member->type == T_OBJECT_EX)
    offset = ((PyMemberDescrObject *)found)->d_member->offset;
  else
    PyErr_Format(PyExc_TypeError, "%s is no slot of %s", name, cls->tp_name);
  Py_DECREF(found);
  return offset;
}

// A tensor around an array, whose reference it takes: of version 0, made by nobody.
static PyObject *make_tensor(PyObject *array) {
  PyObject *version = PyList_New(1);
  if (!version) return NULL;
  PyList_SET_ITEM(version, 0, PyLong_FromLong(0));
  PyObject *t = front.tensor->tp_alloc(front.tensor, 0);
  if (!t) {
    Py_DECREF(version);
    return NULL;
  }
  *slot_of(t, front.data) = array;
  *slot_of(t, front.ver) = version;
  *slot_of(t, front.fn) = Py_NewRef(Py_None);
  *slot_of(t, front.base) = Py_NewRef(Py_None);
  return t;
}

// A call of a frame with the arrays of tensors and further ones; of the results the first `count`
// become tensors. NotImplemented where an array is not what the frame is for, or the run fails.
static PyObject *call_frame(PyObject *frame, PyObject *const *tensors, Py_ssize_t n_tensors,
                            PyObject *const *params, Py_ssize_t n_params, Py_ssize_t count) {
  Frame *f = (Frame *)frame;
  Py_ssize_t total = n_tensors + n_params, held = 0;
  if (total != f->n_inputs || count < 0 || count > f->n_outputs) Py_RETURN_NOTIMPLEMENTED;
  PyObject *few[32], **arrays = few;
  if (total > 32 && !(arrays = malloc(sizeof(PyObject *) * (size_t)total))) return PyErr_NoMemory();
  // Another thread may put other arrays there while this call is going on: they are held.
  for (; held < n_tensors; held++) {
    PyObject *t = tensors[held];
    if (!PyObject_TypeCheck(t, front.tensor) || !*slot_of(t, front.data)) break;
    arrays[held] = Py_NewRef(*slot_of(t, front.data));
  }
  PyObject *outputs = NULL;
  if (held == n_tensors) {
    for (; held < total; held++) arrays[held] = Py_NewRef(params[held - n_tensors]);
    outputs = frame_call(frame, arrays, (size_t)total, NULL);
  } else {
    outputs = Py_NewRef(Py_NotImplemented);
  }
  for (Py_ssize_t i = 0; i < held; i++) Py_DECREF(arrays[i]);
  if (arrays != few) free(arrays);
  if (!outputs) return NULL;
  if (!PyTuple_CheckExact(outputs)) {
    Py_DECREF(outputs);
    Py_RETURN_NOTIMPLEMENTED;
  }
  for (Py_ssize_t i = 0; i < count; i++) {
    PyObject *t = make_tensor(PyTuple_GET_ITEM(outputs, i));
    if (!t) {
      Py_DECREF(outputs);
      return NULL;
    }
    PyTuple_SET_ITEM(outputs, i, t);
  }
  return outputs;
}

// tensors(arguments, params, count): see call_frame; the first two are lists or tuples.
static PyObject *frame_tensors(PyObject *self, PyObject *const *args, Py_ssize_t n) {
  if (n != 3 || !front.tensor) Py_RETURN_NOTIMPLEMENTED;
  for (int k = 0; k < 2; k++)
    if (!PyList_CheckExact(args[k]) && !PyTuple_CheckExact(args[k])) Py_RETURN_NOTIMPLEMENTED;
  return call_frame(self, PySequence_Fast_ITEMS(args[0]), Py_SIZE(args[0]),
                    PySequence_Fast_ITEMS(args[1]), Py_SIZE(args[1]), PyLong_AsSsize_t(args[2]));
}

// -- settings of threads ---------------------------------------------------------------------------

// The attributes of `front.locals` in this thread, as long as it has this Python thread state.
static _Thread_local struct {
  uint64_t state;
  PyObject *held[2];  // borrowed: they live as long as the thread state and the locals do
} here;

static int know_thread(uint64_t state) {
  for (int i = 0; i < 2; i++) {
    PyObject *held = PyObject_GetAttrString(front.locals[i], "__dict__");
    if (!held) return -1;
    here.held[i] = held;
    Py_DECREF(held);
  }
  here.state = state;
  return 0;
}

// Whether a setting of this thread is `wanted`; it is `usual` where nobody has set it.
static inline int is_set(int local, PyObject *name, PyObject *wanted, PyObject *usual) {
  PyObject *held = here.held[local];
  PyObject *found = PyDict_GET_SIZE(held) ? PyDict_GetItemWithError(held, name) : NULL;
  return (found ? found : usual) == wanted;
}

// Whether operations are recorded or not, as wanted, and nothing captures calls in this thread.
static int thread_fits(PyObject *grad) {
  uint64_t state = PyThreadState_GetID(PyThreadState_Get()) + 1;
  if (here.state != state && know_thread(state)) {
    PyErr_Clear();
    return 0;
  }
  return is_set(0, name_grad, grad, Py_True) && is_set(1, name_current, Py_None, Py_None) &&
         is_set(1, name_disabled, Py_False, Py_False);
}

// -- shortcuts -------------------------------------------------------------------------------------

enum { NOT_TAPED, LEAF, COMPUTED };  // what has produced a tensor

// What an argument, or an item of one, must be: this very object; a tensor of this class, produced
// so; or a list or tuple of so many items, which come next.
typedef struct {
  PyObject *value;
  PyTypeObject *type;
  int producer;
  Py_ssize_t n_items;  // -1: it is no list or tuple
} Argument;

// What must be found at some place still.
typedef struct {
  PyObject *owner, *found;
  Py_ssize_t offset;  // of a slot of the owner; -1: the owner is a list, its first item is meant
} Known;

typedef struct {
  PyObject_HEAD
  PyObject *spec;  // the constructor's arguments; what follows, but for the last, is borrowed
  PyObject *frame, *keeps, *grad, *always, *after, *make_node, *indices, *result;
  PyObject **params;
  Argument *arguments;
  Known *known;
  Py_ssize_t n_arguments, n_nodes, n_tensors, n_lists, n_params, n_known, count, n_results;
  int is_single;
  long long hits;
  PyObject *entries;  // of the tape, made for the last results: a node and its picks
} Shortcut;

// What has produced a tensor, as NOT_TAPED and so on; -1 where that must be found out first.
static int producer_of(PyObject *t) {
  PyObject *fn = *slot_of(t, front.fn), *base = *slot_of(t, front.base);
  if (!fn || !base) return -1;
  if (base != Py_None) {  // a view is known if nobody has written to its memory since
    if (!PyObject_TypeCheck(base, front.view)) return -1;
    PyObject *cell = *slot_of(t, front.ver), *then = *slot_of(base, front.view_version);
    if (!cell || !then || !PyList_CheckExact(cell) || PyList_GET_SIZE(cell) < 1) return -1;
    PyObject *now = PyList_GET_ITEM(cell, 0);
    if (now != then && PyObject_RichCompareBool(now, then, Py_EQ) != 1) {
      PyErr_Clear();
      return -1;
    }
  }
  return fn == Py_None ? NOT_TAPED : Py_TYPE(fn) == front.leaf ? LEAF : COMPUTED;
}

// What a call's arguments hold: tensors, whose references it has, and lists, which are borrowed.
typedef struct {
  PyObject **tensors, **lists;
  Py_ssize_t n_tensors, n_lists;
} Taken;

static int is_among(PyObject *x, PyObject *const *items, Py_ssize_t n) {
  for (Py_ssize_t i = 0; i < n; i++)
    if (items[i] == x) return 1;
  return 0;
}

// Take what is described at `*a`, which moves behind it; 0 where something is not what it was, or
// occurs twice.
static int take(const Argument **a, PyObject *x, Taken *found) {
  const Argument *is = (*a)++;
  if (!is->type) return x == is->value;
  if (Py_TYPE(x) != is->type) return 0;
  if (is->n_items < 0) {
    if (producer_of(x) != is->producer || is_among(x, found->tensors, found->n_tensors)) return 0;
    found->tensors[found->n_tensors++] = Py_NewRef(x);
    return 1;
  }
  if (Py_SIZE(x) != is->n_items) return 0;
  if (is->type == &PyList_Type) {
    if (is_among(x, found->lists, found->n_lists)) return 0;
    found->lists[found->n_lists++] = x;
  }
  for (Py_ssize_t i = 0; i < is->n_items; i++)
    if (!take(a, PySequence_Fast_ITEMS(x)[i], found)) return 0;
  return 1;
}

// Numbers only grow, and a new one is another object: what is the same object has not changed.
static int is_unchanged(const Shortcut *s) {
  for (Py_ssize_t i = 0; i < s->n_known; i++) {
    const Known *k = &s->known[i];
    if (k->offset < 0) {
      if (PyList_GET_SIZE(k->owner) != 1 || PyList_GET_ITEM(k->owner, 0) != k->found) return 0;
    } else if (*slot_of(k->owner, k->offset) != k->found) {
      return 0;
    }
  }
  return 1;
}

static int has_weak_references(PyObject *x) {
  return PyType_SUPPORTS_WEAKREFS(Py_TYPE(x)) && *PyObject_GET_WEAKREFS_LISTPTR(x);
}

// Whether the entries made for earlier results are as they were made, and nobody else's.
static int entries_are_free(const Shortcut *s) {
  if (!s->entries || Py_REFCNT(s->entries) != 1) return 0;
  Py_ssize_t n = PyTuple_GET_SIZE(s->entries);
  PyObject *node = PyTuple_GET_ITEM(s->entries, 0);
  if (Py_REFCNT(node) != n || has_weak_references(node)) return 0;
  if (*slot_of(node, front.node_hooks) != Py_None) return 0;
  for (Py_ssize_t i = 1; i < n; i++) {
    PyObject *pick = PyTuple_GET_ITEM(s->entries, i);
    if (Py_REFCNT(pick) != 1 || has_weak_references(pick)) return 0;
  }
  return 1;
}

static PyObject *new_entries(const Shortcut *s) {
  Py_ssize_t n = PyTuple_GET_SIZE(s->indices);
  PyObject *entries = PyTuple_New(n + 1);
  PyObject *node = entries ? PyObject_CallNoArgs(s->make_node) : NULL;
  if (!node) {
    Py_XDECREF(entries);
    return NULL;
  }
  PyTuple_SET_ITEM(entries, 0, node);
  for (Py_ssize_t i = 0; i < n; i++) {
    PyObject *index = PyTuple_GET_ITEM(s->indices, i);
    PyObject *pick = PyObject_CallFunctionObjArgs((PyObject *)front.pick, node, index, NULL);
    if (!pick) {
      Py_DECREF(entries);
      return NULL;
    }
    PyTuple_SET_ITEM(entries, i + 1, pick);
  }
  return entries;
}

// Later numbers for the entries: they are new ones again.
static int renumber(const Shortcut *s) {
  PyObject *node = PyTuple_GET_ITEM(s->entries, 0), *seq = PyObject_CallNoArgs(front.next_seq);
  if (!seq) return -1;
  set_slot(node, front.node_seq, seq);
  double at = PyLong_AsDouble(seq);
  for (Py_ssize_t i = 1; i < PyTuple_GET_SIZE(s->entries); i++) {
    double index = PyLong_AsDouble(PyTuple_GET_ITEM(s->indices, i - 1));
    PyObject *after = PyFloat_FromDouble(at + (index + 1) / (index + 2));  // as `Pick` has it
    if (!after) return -1;
    set_slot(PyTuple_GET_ITEM(s->entries, i), front.pick_seq, after);
  }
  return 0;
}

// Put results on the tape whose gradients have been taken already: their entries hold nothing.
static int put_on_tape(Shortcut *s, PyObject *outputs) {
  if (entries_are_free(s)) {
    if (renumber(s)) return -1;
  } else {
    PyObject *made = new_entries(s), *before = s->entries;
    if (!made) return -1;
    s->entries = made;
    Py_XDECREF(before);
  }
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(s->indices); i++) {
    PyObject *t = PyTuple_GET_ITEM(outputs, PyLong_AsSsize_t(PyTuple_GET_ITEM(s->indices, i)));
    set_slot(t, front.fn, Py_NewRef(PyTuple_GET_ITEM(s->entries, i + 1)));
  }
  return 0;
}

static PyObject *list_of(PyObject *const *items, Py_ssize_t n) {
  PyObject *list = PyList_New(n);
  for (Py_ssize_t i = 0; list && i < n; i++) PyList_SET_ITEM(list, i, Py_NewRef(items[i]));
  return list;
}

// What is to be done with the results before the caller has them.
static int finish(Shortcut *s, PyObject *const *tensors, PyObject *outputs) {
  if (s->make_node) return put_on_tape(s, outputs);
  if (!s->after) return 0;
  PyObject *arguments = list_of(tensors, s->n_tensors);
  if (!arguments) return -1;
  PyObject *done = PyObject_CallFunctionObjArgs(s->after, arguments, outputs, NULL);
  Py_DECREF(arguments);
  Py_XDECREF(done);
  return done ? 0 : -1;
}

// The result that is described: numbers of outputs in lists, tuples and dicts, and what is constant.
static PyObject *built(PyObject *result, PyObject *outputs) {
  if (PyLong_CheckExact(result))
    return Py_NewRef(PyTuple_GET_ITEM(outputs, PyLong_AsSsize_t(result)));
  if (PyDict_CheckExact(result)) {
    PyObject *made = PyDict_New(), *key, *value;
    for (Py_ssize_t at = 0; made && PyDict_Next(result, &at, &key, &value);) {
      PyObject *item = built(value, outputs);
      if (!item || PyDict_SetItem(made, key, item)) Py_CLEAR(made);
      Py_XDECREF(item);
    }
    return made;
  }
  int is_list = PyList_CheckExact(result);
  if (!is_list && !PyTuple_CheckExact(result)) return Py_NewRef(result);
  Py_ssize_t n = Py_SIZE(result);
  PyObject *made = is_list ? PyList_New(n) : PyTuple_New(n);
  for (Py_ssize_t i = 0; made && i < n; i++) {
    PyObject *item = built(PySequence_Fast_ITEMS(result)[i], outputs);
    if (!item)
      Py_CLEAR(made);
    else
      PySequence_Fast_ITEMS(made)[i] = item;
  }
  return made;
}

// Whether every number in the description of a result is that of an output.
static int describes(PyObject *result, Py_ssize_t n) {
  if (PyLong_CheckExact(result)) {
    Py_ssize_t index = PyLong_AsSsize_t(result);
    return index >= 0 && index < n;
  }
  if (PyDict_CheckExact(result)) {
    PyObject *key, *value;
    for (Py_ssize_t at = 0; PyDict_Next(result, &at, &key, &value);)
      if (!describes(value, n)) return 0;
  } else if (PyList_CheckExact(result) || PyTuple_CheckExact(result)) {
    for (Py_ssize_t i = 0; i < Py_SIZE(result); i++)
      if (!describes(PySequence_Fast_ITEMS(result)[i], n)) return 0;
  }
  return 1;
}

static PyObject *run_shortcut(Shortcut *s, PyObject *const *args) {
  PyObject *few[32];
  Taken found = {few, NULL, 0, 0};
  size_t n = (size_t)(s->n_tensors + s->n_lists);
  if (n > 32 && !(found.tensors = malloc(sizeof(PyObject *) * n))) return PyErr_NoMemory();
  found.lists = found.tensors + s->n_tensors;
  PyObject *outputs = Py_NotImplemented;
  const Argument *a = s->arguments;
  int fits = 1;
  for (Py_ssize_t i = 0; fits && i < s->n_arguments; i++) fits = take(&a, args[i], &found);
  if (fits)
    outputs = call_frame(s->frame, found.tensors, s->n_tensors, s->params, s->n_params, s->count);
  else
    Py_INCREF(outputs);
  if (outputs && outputs != Py_NotImplemented) {
    s->hits++;
    if (finish(s, found.tensors, outputs)) Py_CLEAR(outputs);
  }
  for (Py_ssize_t i = 0; i < found.n_tensors; i++) Py_DECREF(found.tensors[i]);
  if (found.tensors != few) free(found.tensors);
  if (!outputs || outputs == Py_NotImplemented) return outputs;
  if (s->result) {
    PyObject *made = built(s->result, outputs);
    Py_DECREF(outputs);
    return made;
  }
  if (!s->is_single && s->n_results == PyTuple_GET_SIZE(outputs)) return outputs;
  PyObject *result = s->is_single ? Py_NewRef(PyTuple_GET_ITEM(outputs, 0))
                                  : PyTuple_GetSlice(outputs, 0, s->n_results);
  Py_DECREF(outputs);
  return result;
}

// The result of a call with these arguments; NotImplemented where it is not the known one.
static PyObject *try_shortcut(Shortcut *s, PyObject *const *args, Py_ssize_t n) {
  if (n != s->n_arguments || !is_unchanged(s) || !thread_fits(s->grad)) Py_RETURN_NOTIMPLEMENTED;
  Py_INCREF(s);  // Python code that runs from here on may drop it
  PyObject *result = NULL;
  PyObject *holds = s->always ? PyObject_CallNoArgs(s->always) : Py_NewRef(Py_True);
  if (holds) result = holds == Py_True ? run_shortcut(s, args) : Py_NewRef(Py_NotImplemented);
  Py_XDECREF(holds);
  Py_DECREF(s);
  return result;
}

// -- making shortcuts ------------------------------------------------------------------------------

// (None, an object), (class, kind of producer), or (list or tuple, tuple of such) for each.
static int read_arguments(Shortcut *s, PyObject *specs) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(specs); i++) {
    PyObject *type, *value;
    if (!PyArg_ParseTuple(PyTuple_GET_ITEM(specs, i), "OO", &type, &value)) return -1;
    Argument *more = realloc(s->arguments, (size_t)(s->n_nodes + 1) * sizeof(Argument));
    if (!more) return PyErr_NoMemory(), -1;
    s->arguments = more;
    Argument *a = &more[s->n_nodes++];
    *a = (Argument){value, NULL, 0, -1};
    if (type == Py_None) continue;
    if (type == (PyObject *)&PyList_Type || type == (PyObject *)&PyTuple_Type) {
      if (!PyTuple_CheckExact(value)) {
        PyErr_SetString(PyExc_TypeError, "expected the items of a list or tuple");
        return -1;
      }
      a->type = (PyTypeObject *)type;
      a->n_items = PyTuple_GET_SIZE(value);
      s->n_lists += a->type == &PyList_Type;
      if (read_arguments(s, value)) return -1;
      continue;
    }
    if (!PyType_Check(type) || !PyType_IsSubtype((PyTypeObject *)type, front.tensor)) {
      PyErr_SetString(PyExc_TypeError, "expected a class of tensors");
      return -1;
    }
    a->type = (PyTypeObject *)type;
    a->producer = (int)PyLong_AsLong(value);
    if (a->producer == -1 && PyErr_Occurred()) return -1;
    s->n_tensors++;
  }
  return 0;
}

// (object with a slot `count`, or list; what is there now) for each.
static int read_known(Shortcut *s, PyObject *specs) {
  s->n_known = PyTuple_GET_SIZE(specs);
  s->known = calloc((size_t)s->n_known + 1, sizeof(Known));
  if (!s->known) return PyErr_NoMemory(), -1;
  for (Py_ssize_t i = 0; i < s->n_known; i++) {
    Known *k = &s->known[i];
    if (!PyArg_ParseTuple(PyTuple_GET_ITEM(specs, i), "OO", &k->owner, &k->found)) return -1;
    k->offset = PyList_CheckExact(k->owner) ? -1 : offset_of(Py_TYPE(k->owner), "count");
    if (k->offset < 0 && PyErr_Occurred()) return -1;
  }
  return 0;
}

static PyObject *or_null(PyObject *x) { return x == Py_None ? NULL : x; }

// Shortcut(frame, keeps, arguments, params, known, grad, always, after, make_node, indices, count,
//          n_results, is_single, result), the last None where it is one output or the tuple of them
static PyObject *shortcut_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
  PyObject *frame, *keeps, *arguments, *params, *known, *grad, *always, *after, *make_node, *indices;
  PyObject *result;
  Py_ssize_t count, n_results;
  int is_single;
  if (!front.tensor || (keywords && PyDict_GET_SIZE(keywords))) {
    PyErr_SetString(PyExc_TypeError, "the front end is not known, or there are keywords");
    return NULL;
  }
  if (!PyArg_ParseTuple(args, "OOO!O!O!O!OOOO!nnpO", &frame, &keeps, &PyTuple_Type, &arguments,
                        &PyTuple_Type, &params, &PyTuple_Type, &known, &PyBool_Type, &grad, &always,
                        &after, &make_node, &PyTuple_Type, &indices, &count, &n_results,
                        &is_single, &result))
    return NULL;
  if (Py_TYPE(frame)->tp_dealloc != frame_dealloc) {
    PyErr_SetString(PyExc_TypeError, "expected a Frame");
    return NULL;
  }
  Py_ssize_t n_outputs = ((Frame *)frame)->n_outputs;
  int fits = count >= 0 && count <= n_outputs && n_results >= is_single && n_results <= count;
  fits = fits && describes(result, count);
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(indices); i++) {
    Py_ssize_t index = PyLong_AsSsize_t(PyTuple_GET_ITEM(indices, i));
    fits = fits && index >= 0 && index < count;
  }
  if (!fits) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "there are fewer outputs");
    return NULL;
  }
  Shortcut *s = (Shortcut *)type->tp_alloc(type, 0);
  if (!s) return NULL;
  s->spec = Py_NewRef(args);
  s->frame = frame;
  s->keeps = keeps;
  s->grad = grad;
  s->always = or_null(always);
  s->after = or_null(after);
  s->make_node = or_null(make_node);
  s->indices = indices;
  s->params = PySequence_Fast_ITEMS(params);
  s->n_params = PyTuple_GET_SIZE(params);
  s->count = count;
  s->n_results = n_results;
  s->is_single = is_single;
  s->result = or_null(result);
  s->n_arguments = PyTuple_GET_SIZE(arguments);
  if (read_arguments(s, arguments) || read_known(s, known)) {
    Py_DECREF(s);
    return NULL;
  }
  return (PyObject *)s;
}

static int shortcut_traverse(PyObject *self, visitproc visit, void *arg) {
  Shortcut *s = (Shortcut *)self;
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(s->spec);
  Py_VISIT(s->entries);
  return 0;
}

static int shortcut_clear(PyObject *self) {
  Shortcut *s = (Shortcut *)self;
  s->n_arguments = -1;  // it fits no call any longer
  s->n_known = 0;
  s->frame = s->keeps = NULL;
  Py_CLEAR(s->entries);
  Py_CLEAR(s->spec);
  return 0;
}

static void shortcut_dealloc(PyObject *self) {
  Shortcut *s = (Shortcut *)self;
  PyTypeObject *type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  shortcut_clear(self);
  free(s->arguments);
  free(s->known);
  type->tp_free(self);
  Py_DECREF(type);
}

static PyObject *shortcut_call(PyObject *self, PyObject *args, PyObject *keywords) {
  if (keywords && PyDict_GET_SIZE(keywords)) Py_RETURN_NOTIMPLEMENTED;
  return try_shortcut((Shortcut *)self, PySequence_Fast_ITEMS(args), PyTuple_GET_SIZE(args));
}

// is_current(): whether what is known of state holds; calls of other kinds are another matter.
static PyObject *shortcut_is_current(PyObject *self, PyObject *unused) {
  return PyBool_FromLong(is_unchanged((Shortcut *)self));
}

static PyMethodDef shortcut_methods[] = {
    {"is_current", shortcut_is_current, METH_NOARGS, "Whether what is known of state holds."},
    {NULL, NULL, 0, NULL}};

static PyMemberDef shortcut_members[] = {
    {"frame", T_OBJECT_EX, offsetof(Shortcut, frame), READONLY, "The frame that it calls."},
    {"keeps", T_OBJECT_EX, offsetof(Shortcut, keeps), READONLY, "What that is the frame of."},
    {"hits", T_LONGLONG, offsetof(Shortcut, hits), READONLY, "How many calls it has answered."},
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot shortcut_slots[] = {{Py_tp_new, shortcut_new},
                                       {Py_tp_members, shortcut_members},
                                       {Py_tp_methods, shortcut_methods},
                                       {Py_tp_call, shortcut_call},
                                       {Py_tp_traverse, shortcut_traverse},
                                       {Py_tp_clear, shortcut_clear},
                                       {Py_tp_dealloc, shortcut_dealloc},
                                       {0, NULL}};

static PyType_Spec shortcut_spec = {"dualgraph_launcher.Shortcut", sizeof(Shortcut), 0,
                                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, shortcut_slots};

// -- calling objects that have shortcuts -----------------------------------------------------------

typedef struct {
  PyObject_HEAD
  vectorcallfunc call;
  PyObject *function;  // the `__call__` whose place it takes
  Py_ssize_t offset;   // of the slot with the tuple of shortcuts
} Caller;

static PyTypeObject *shortcut_type;

static PyObject *caller_call(PyObject *self, PyObject *const *args, size_t flags, PyObject *names) {
  Caller *c = (Caller *)self;
  Py_ssize_t n = PyVectorcall_NARGS(flags);
  PyObject *known = n ? *slot_of(args[0], c->offset) : NULL;
  if (known && !names && PyTuple_CheckExact(known)) {
    PyObject *result = Py_NotImplemented;
    Py_INCREF(known);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(known) && result == Py_NotImplemented; i++) {
      PyObject *shortcut = PyTuple_GET_ITEM(known, i);
      if (Py_TYPE(shortcut) != shortcut_type) break;
      result = try_shortcut((Shortcut *)shortcut, args + 1, n - 1);
      if (result == Py_NotImplemented) Py_DECREF(result);
    }
    Py_DECREF(known);
    if (result != Py_NotImplemented) return result;
  }
  return PyObject_Vectorcall(c->function, args, flags, names);
}

// Caller(cls, slot): for `cls.__call__`, of objects whose slot of that name has the shortcuts.
static PyObject *caller_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
  PyTypeObject *cls;
  const char *slot;
  if ((keywords && PyDict_GET_SIZE(keywords)) ||
      !PyArg_ParseTuple(args, "O!s", &PyType_Type, &cls, &slot))
    return PyErr_Occurred() ? NULL : (PyErr_SetString(PyExc_TypeError, "no keywords"), NULL);
  Py_ssize_t offset = offset_of(cls, slot);
  if (offset < 0) return NULL;
  PyObject *function = PyObject_GetAttrString((PyObject *)cls, "__call__");
  Caller *c = function ? (Caller *)type->tp_alloc(type, 0) : NULL;
  if (!c) {
    Py_XDECREF(function);
    return NULL;
  }
  c->call = caller_call;
  c->function = function;
  c->offset = offset;
  return (PyObject *)c;
}

static PyObject *caller_get(PyObject *self, PyObject *instance, PyObject *owner) {
  if (!instance || instance == Py_None) return Py_NewRef(self);
  return PyMethod_New(self, instance);
}

static int caller_traverse(PyObject *self, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(((Caller *)self)->function);
  return 0;
}

static void caller_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  Py_CLEAR(((Caller *)self)->function);
  type->tp_free(self);
  Py_DECREF(type);
}

static PyMemberDef caller_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Caller, call), READONLY, NULL},
    {"__wrapped__", T_OBJECT_EX, offsetof(Caller, function), READONLY, "The Python function."},
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot caller_slots[] = {{Py_tp_new, caller_new},
                                     {Py_tp_call, PyVectorcall_Call},
                                     {Py_tp_descr_get, caller_get},
                                     {Py_tp_members, caller_members},
                                     {Py_tp_traverse, caller_traverse},
                                     {Py_tp_dealloc, caller_dealloc},
                                     {0, NULL}};

static PyType_Spec caller_spec = {
    "dualgraph_launcher.Caller", sizeof(Caller), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
        Py_TPFLAGS_METHOD_DESCRIPTOR,
    caller_slots};

// use(tensor, view, leaf, pick, node, next_seq, grad_mode, captures): what the front end is made of.
//
// The classes have slots: a tensor `_data`, an array; `_ver`, a list of one count; `_fn` and
// `_base`, None for what no operation has made and what is no view. A view `version`, a pick
// `seq`, a node `seq` and `hooks`. The last two are thread-local: `grad`; `current`, `disabled`.
static PyObject *use(PyObject *self, PyObject *args) {
  PyTypeObject *tensor, *view, *leaf, *pick, *node;
  PyObject *next_seq, *grad_mode, *captures;
  if (!PyArg_ParseTuple(args, "O!O!O!O!O!OOO", &PyType_Type, &tensor, &PyType_Type, &view,
                        &PyType_Type, &leaf, &PyType_Type, &pick, &PyType_Type, &node, &next_seq,
                        &grad_mode, &captures))
    return NULL;
  struct {
    PyTypeObject *cls;
    const char *name;
    Py_ssize_t *offset;
  } wanted[] = {{tensor, "_data", &front.data},       {tensor, "_fn", &front.fn},
                {tensor, "_ver", &front.ver},         {tensor, "_base", &front.base},
                {view, "version", &front.view_version}, {pick, "seq", &front.pick_seq},
                {node, "seq", &front.node_seq},       {node, "hooks", &front.node_hooks}};
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
    if ((*wanted[i].offset = offset_of(wanted[i].cls, wanted[i].name)) < 0) return NULL;
  Py_INCREF(args);  // for ever: there is one front end
  front.view = view;
  front.leaf = leaf;
  front.pick = pick;
  front.next_seq = next_seq;
  front.locals[0] = grad_mode;
  front.locals[1] = captures;
  front.tensor = tensor;
  Py_RETURN_NONE;
}
