// SPDX-License-Identifier: Apache-2.0
#include "base/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/memory.h"

enum { SPINS = 2000 }; // about 20 µs: longer than the gap between two kernels, shorter than a sleep

// Which job, and the next task of it, in one word: a worker takes a task only by advancing the very
// word it has read, so one that wakes late can neither take nor delay a job that is not its own.
enum { TASK_BITS = 40 };
static const uint64_t task_mask = ((uint64_t)1 << TASK_BITS) - 1;

struct ThreadPool {
    int threads, started;
    pid_t owner;
    pthread_t *handles;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    _Atomic uint64_t ticket;
    _Atomic int64_t tasks, finished;
    PoolTask run; // these two are read only by who has taken a task of the job
    void *argument;
    bool stop;
};

typedef struct WorkerStart {
    ThreadPool *pool;
    int worker;
} WorkerStart;

// The pool whose task this thread is running; NULL outside of tasks.
static _Thread_local const ThreadPool *current_pool;
static _Thread_local int current_worker;

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// Take and run tasks of the current job until none is left.
static void work(ThreadPool *pool, int worker) {
    uint64_t ticket = atomic_load_explicit(&pool->ticket, memory_order_acquire);
    for (;;) {
        int64_t tasks = atomic_load_explicit(&pool->tasks, memory_order_acquire);
        int64_t task = (int64_t)(ticket & task_mask);
        if (task >= tasks) return;
        if (!atomic_compare_exchange_weak_explicit(&pool->ticket, &ticket, ticket + 1,
                                                   memory_order_acq_rel, memory_order_acquire))
            continue;
        current_pool = pool;
        current_worker = worker;
        pool->run(pool->argument, task, worker);
        current_pool = NULL;
        if (atomic_fetch_add_explicit(&pool->finished, 1, memory_order_acq_rel) + 1 == tasks &&
            worker != 0) {
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->lock);
        }
        ticket = atomic_load_explicit(&pool->ticket, memory_order_acquire);
    }
}

static uint64_t current_job(ThreadPool *pool) {
    return atomic_load_explicit(&pool->ticket, memory_order_acquire) >> TASK_BITS;
}

static void *worker_main(void *argument) {
    WorkerStart start = *(WorkerStart *)argument;
    hone_free(argument);
    ThreadPool *pool = start.pool;
    uint64_t seen = 0;
    for (;;) {
        for (int spin = 0; spin < SPINS && current_job(pool) == seen; spin++) relax();
        pthread_mutex_lock(&pool->lock);
        while (current_job(pool) == seen && !pool->stop)
            pthread_cond_wait(&pool->wake, &pool->lock);
        bool stop = pool->stop;
        seen = current_job(pool);
        pthread_mutex_unlock(&pool->lock);
        if (stop) return NULL;
        work(pool, start.worker);
    }
}

ThreadPool *hone_pool_create(int threads) {
    if (threads < 1) threads = 1;
    ThreadPool *pool = hone_calloc(1, sizeof *pool);
    if (!pool) return NULL;
    pool->owner = getpid();
    pool->threads = 1;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->handles = hone_calloc((size_t)threads, sizeof *pool->handles);
    for (int worker = 1; pool->handles && worker < threads; worker++) {
        WorkerStart *start = hone_alloc(sizeof *start);
        if (!start) break;
        *start = (WorkerStart){pool, worker};
        if (pthread_create(&pool->handles[pool->started], NULL, worker_main, start) != 0) {
            hone_free(start);
            break;
        }
        pool->started++;
        pool->threads++;
    }
    return pool;
}

void hone_pool_free(ThreadPool *pool) {
    if (!pool) return;
    if (getpid() == pool->owner) { // a forked child has no workers to join
        pthread_mutex_lock(&pool->lock);
        pool->stop = true;
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->lock);
        for (int i = 0; i < pool->started; i++) pthread_join(pool->handles[i], NULL);
        pthread_cond_destroy(&pool->done);
        pthread_cond_destroy(&pool->wake);
        pthread_mutex_destroy(&pool->lock);
    }
    hone_free(pool->handles);
    hone_free(pool);
}

int hone_pool_threads(const ThreadPool *pool) {
    return pool ? pool->threads : 1;
}

void hone_pool_run(ThreadPool *pool, int64_t tasks, PoolTask run, void *argument) {
    if (!pool || pool->started == 0 || tasks <= 1 || current_pool || getpid() != pool->owner) {
        int worker = current_pool == pool ? current_worker : 0;
        for (int64_t task = 0; task < tasks; task++) run(argument, task, worker);
        return;
    }
    pthread_mutex_lock(&pool->lock);
    uint64_t job = (current_job(pool) + 1) << TASK_BITS;
    // First a number past all tasks: who still looks at the last job must not see this one's count
    // beside a word that it could advance.
    atomic_store_explicit(&pool->ticket, job | task_mask, memory_order_relaxed);
    pool->run = run;
    pool->argument = argument;
    atomic_store_explicit(&pool->finished, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->tasks, tasks, memory_order_release);
    atomic_store_explicit(&pool->ticket, job, memory_order_release);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);

    work(pool, 0);
    for (int spin = 0; spin < SPINS; spin++) {
        if (atomic_load_explicit(&pool->finished, memory_order_acquire) == tasks) return;
        relax();
    }
    pthread_mutex_lock(&pool->lock);
    while (atomic_load_explicit(&pool->finished, memory_order_acquire) != tasks)
        pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}
