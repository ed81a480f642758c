/* Counts spikes, compiled. `add_spikes_numpy` in binning.py describes it, and is used if this file was not compiled. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

enum { STEP = 8 }; /* spikes between windows that are skipped at a time */

static void add_all(const double *spikes, Py_ssize_t n_spikes, const double *starts, const double *ends,
                    const double *adds, Py_ssize_t n_windows, double per_s, int32_t *counts, Py_ssize_t n_counts)
{
    Py_ssize_t first = 0, next = 0;
    for (Py_ssize_t k = 0; k < n_windows; k++) {
        if (k > 0 && starts[k] >= ends[k - 1]) /* no later window has a spike before this one */
            first = next;
        while (n_spikes - first > STEP && spikes[first + STEP] < starts[k])
            first += STEP;
        while (first < n_spikes && spikes[first] < starts[k])
            first++;
        next = first;
        /* the middles of the first and the last bin; a window outside of the counts is skipped */
        double low = starts[k] * per_s + adds[k] + 0.5, high = ends[k] * per_s + adds[k] - 0.5;
        if (!(low >= 0 && low < (double)n_counts && high >= 0 && high < (double)n_counts))
            continue;
        Py_ssize_t from = (Py_ssize_t)low, to = (Py_ssize_t)high;
        for (; next < n_spikes && spikes[next] < ends[k]; next++) {
            Py_ssize_t place = (Py_ssize_t)(spikes[next] * per_s + adds[k]);
            counts[place < from ? from : place > to ? to : place]++;
        }
    }
}

static PyObject *add_spikes(PyObject *module, PyObject *args)
{
    Py_buffer spikes, starts, ends, adds, counts;
    double per_s;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*y*y*dw*", &spikes, &starts, &ends, &adds, &per_s, &counts))
        return NULL;
    int alike = starts.len == ends.len && starts.len == adds.len;
    if (alike) {
        Py_BEGIN_ALLOW_THREADS
        add_all(spikes.buf, spikes.len / 8, starts.buf, ends.buf, adds.buf, starts.len / 8, per_s, counts.buf,
                counts.len / 4);
        Py_END_ALLOW_THREADS
    } else
        PyErr_SetString(PyExc_ValueError, "starts, ends and adds need to be equally many");
    PyBuffer_Release(&spikes);
    PyBuffer_Release(&starts);
    PyBuffer_Release(&ends);
    PyBuffer_Release(&adds);
    PyBuffer_Release(&counts);
    if (!alike)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"add_spikes", add_spikes, METH_VARARGS, "add_spikes(spikes, starts, ends, adds, per_s, counts)"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_count", "The counting of spikes, compiled.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__count(void)
{
    return PyModuleDef_Init(&definition);
}
