// SPDX-License-Identifier: Apache-2.0
// A small thread pool, owned by the context. Work is cut into tasks from the shape alone and handed
// out dynamically, so which thread runs a task never changes a result.
#ifndef HONE_BASE_POOL_H
#define HONE_BASE_POOL_H

#include <stdint.h>

typedef struct ThreadPool ThreadPool;

// task: 0 … tasks-1. worker: 0 … hone_pool_threads()-1, for per-worker scratch.
typedef void (*PoolTask)(void *argument, int64_t task, int worker);

// threads counts the caller. A thread that cannot start means fewer threads. NULL: out of memory.
ThreadPool *hone_pool_create(int threads);
void hone_pool_free(ThreadPool *pool);
int hone_pool_threads(const ThreadPool *pool); // 1 when pool is NULL

// Run all tasks; returns when the last is done. pool NULL, one task, a call from inside a task, or
// a call in a forked child: everything runs in the caller, as worker 0 (or the worker that called).
void hone_pool_run(ThreadPool *pool, int64_t tasks, PoolTask run, void *argument);

#endif
