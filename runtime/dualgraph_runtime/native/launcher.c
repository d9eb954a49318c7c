// The module: frame.c and tensors.c, which stand before this in one text, under the names Python uses.

static PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Frame, call), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyMethodDef methods[] = {
    {"tensors", (PyCFunction)(void (*)(void))frame_tensors, METH_FASTCALL,
     "Call with the arrays of tensors; the first results become tensors."},
    {"trim", frame_trim, METH_NOARGS, "Let go of arrays kept for the next calls."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot slots[] = {{Py_tp_new, frame_new},
                              {Py_tp_methods, methods},
                              {Py_tp_dealloc, frame_dealloc},
                              {Py_tp_call, PyVectorcall_Call},
                              {Py_tp_members, members},
                              {0, NULL}};

static PyType_Spec spec = {"dualgraph_launcher.Frame", sizeof(Frame), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL, slots};

static PyMethodDef functions[] = {
    {"use", use, METH_VARARGS, "What the front end is made of."},
    {"trim", trim, METH_NOARGS, "Let go of memory kept for intermediate values."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "dualgraph_launcher", NULL, -1,
                                    functions, NULL, NULL, NULL, NULL};

static PyTypeObject *add_type(PyObject *m, PyType_Spec *of, const char *name) {
  PyObject *type = PyType_FromSpec(of);
  if (!type || PyModule_AddObjectRef(m, name, type)) {
    Py_XDECREF(type);
    return NULL;
  }
  return (PyTypeObject *)type;  // the reference is kept: types are there as long as the process
}

PyMODINIT_FUNC PyInit_dualgraph_launcher(void) {
  import_array();
  name_grad = PyUnicode_InternFromString("grad");
  name_current = PyUnicode_InternFromString("current");
  name_disabled = PyUnicode_InternFromString("disabled");
  PyObject *m = PyModule_Create(&module);
  if (!m || !name_grad || !name_current || !name_disabled) return NULL;
  shortcut_type = add_type(m, &shortcut_spec, "Shortcut");
  if (!shortcut_type || !add_type(m, &spec, "Frame") || !add_type(m, &caller_spec, "Caller")) {
    Py_DECREF(m);
    return NULL;
  }
  return m;
}
