/* The Python module devnest.bcrypt._kernel, with one function. Python code reads and writes salts
   and hashes as text. This file checks its arguments, calls the kernel without the GIL, and frees
   its memory. */
#include <Python.h>

#include "bcrypt.h"

enum { SETTING_BYTES = 1 + BCRYPT_SALT_BYTES };

PyDoc_STRVAR(digests_doc,
             "digests(passwords, settings, lanes, /)\n--\n\n"
             "The 23-byte digests, joined, of a tuple of passwords.\n"
             "settings holds 17 bytes for each: cost, salt. Neighbours of one cost share a group\n"
             "of up to `lanes` (1 to 8). Everything is checked first; the GIL is released until\n"
             "all is done.");

/* Fills in the jobs. Returns -1, with an exception set, if an input is wrong. */
static int take(struct bcrypt_job *jobs, PyObject *passwords, const char *settings,
                Py_ssize_t count, char *digests)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        char *password;
        Py_ssize_t length;
        unsigned cost = (unsigned char)settings[i * SETTING_BYTES];
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(passwords, i), &password, &length) < 0)
            return -1;
        if (length > BCRYPT_PASSWORD_MAX || cost < BCRYPT_COST_MIN || cost > BCRYPT_COST_MAX) {
            PyErr_Format(PyExc_ValueError, "entry %zd: a password of %zd bytes at cost %u", i,
                         length, cost);
            return -1;
        }
        jobs[i].password = (const uint8_t *)password;
        jobs[i].length = (size_t)length;
        jobs[i].salt = (const uint8_t *)settings + i * SETTING_BYTES + 1;
        jobs[i].digest = (uint8_t *)digests + i * BCRYPT_DIGEST_BYTES;
    }
    return 0;
}

/* Runs without the GIL: reads only the content of bytes objects, which cannot change. */
static void run(const struct bcrypt_job *jobs, Py_ssize_t count, unsigned lanes, void *scratch)
{
    unsigned code = bcrypt_best_code();
    for (Py_ssize_t first = 0; first < count;) {
        unsigned width = 1, cost = jobs[first].salt[-1];
        while (width < lanes && first + width < count && jobs[first + width].salt[-1] == cost)
            width++;
        bcrypt_group(jobs + first, width, cost, code, scratch);
        first += width;
    }
}

static PyObject *digests(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    PyObject *passwords, *joined, *result = NULL;
    int lanes;
    /* No "#" in the format: before 3.13 it needs the macro PY_SSIZE_T_CLEAN, and one binary
       serves all. */
    if (!PyArg_ParseTuple(arguments, "O!Si:digests", &PyTuple_Type, &passwords, &joined, &lanes))
        return NULL;
    const char *settings = PyBytes_AsString(joined);
    Py_ssize_t size = PyBytes_Size(joined), count = PyTuple_Size(passwords);
    if (size / SETTING_BYTES != count || size % SETTING_BYTES)
        return PyErr_Format(PyExc_ValueError, "%zd bytes of settings for %zd passwords", size,
                            count);
    if (lanes < 1 || lanes > BCRYPT_LANES_MAX)
        return PyErr_Format(PyExc_ValueError, "%d lanes", lanes);

    struct bcrypt_job *jobs = PyMem_Calloc((size_t)count, sizeof *jobs);
    void *scratch = PyMem_Malloc(BCRYPT_SCRATCH_BYTES);
    if (jobs && scratch)
        result = PyBytes_FromStringAndSize(NULL, count * BCRYPT_DIGEST_BYTES);
    else
        PyErr_NoMemory();
    if (result && take(jobs, passwords, settings, count, PyBytes_AsString(result)) < 0)
        Py_CLEAR(result);
    if (result) {
        Py_BEGIN_ALLOW_THREADS
        run(jobs, count, (unsigned)lanes, scratch);
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(scratch);
    PyMem_Free(jobs);
    return result;
}

static PyMethodDef methods[] = {{"digests", digests, METH_VARARGS, digests_doc},
                                {NULL, NULL, 0, NULL}};

/* One binary serves Python 3.11 and newer, and a Python refuses slots that it does not know. So the
   newest slot is first, and an older Python gets the end of the list. The limited API of 3.11 does
   not define the names in the comments. */
static struct PyModuleDef_Slot slots[] = {
    {4, (void *)1}, /* Py_mod_gil, Py_MOD_GIL_NOT_USED: from 3.13 on */
    {3, (void *)2}, /* Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED: 3.12 */
    {0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_kernel",
    .m_doc = "bcrypt, up to eight hashes at once on one core. See docs/explanation/lanes.md.",
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__kernel(void)
{
    definition.m_slots = slots + (Py_Version < 0x030D0000) + (Py_Version < 0x030C0000);
    return PyModuleDef_Init(&definition);
}
