"""Many tasks on any executor: one engine for files, for fits and for parts of an array.

A *task* is one call ``work(data, **options)``. ``run_tasks`` runs tasks and yields each position and its outcome as
tasks finish; ``run_all`` returns all results in order. The results are the same whichever executor runs the tasks.

=========================  =================================  ==================================  ====================
``executor``               tasks run in                       data                                a worker that dies
=========================  =================================  ==================================  ====================
None                       this thread, one after the other   stay in memory                      –
None, ``threads=8``        eight threads of this process      stay in memory                      –
``ThreadPoolExecutor``     its threads                        stay in memory                      –
another ``Executor``       its processes                      one file, read once by a process    ``WorkerError``
Dask client                the workers of the cluster         sent to every worker once           its tasks run again
=========================  =================================  ==================================  ====================

The words that all modules here use:

- work: a function at the top level of a module, so that other processes can import it.
- data: what the work is about, such as a file or an activity. Tasks in a row with the same object share it.
- options: the keyword arguments that differ from task to task.
- outcome: the result of a task or its error, and the messages of its warnings.
- executor: what runs the tasks; see the table.
- cache_dir: a folder with the results of finished tasks. A run that was stopped reads them and does the rest.
- progress: whether a progress bar is shown.

``map_in_order`` is for small parts of one array: threads alone, no cache, results in order.
"""
