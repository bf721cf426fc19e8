// SPDX-License-Identifier: Apache-2.0
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/pool.h"
#include "check.h"

enum { TASKS = 5000, THREADS = 8 };

typedef struct Job {
    ThreadPool *pool;
    _Atomic int times[TASKS];
    _Atomic int wrong_worker;
    long long inner[TASKS]; // plain: only the task itself writes it
    int inside[THREADS];    // plain: only one task at a time runs as a worker
} Job;

static void count_task(void *argument, int64_t task, int worker) {
    Job *job = argument;
    atomic_fetch_add(&job->times[task], 1);
    if (worker < 0 || worker >= hone_pool_threads(job->pool))
        atomic_fetch_add(&job->wrong_worker, 1);
    job->inside[worker]++;
}

static void check_job(Job *job, int64_t tasks) {
    int wrong = 0, inside = 0;
    for (int64_t i = 0; i < TASKS; i++) wrong += job->times[i] != (i < tasks);
    for (int i = 0; i < THREADS; i++) inside += job->inside[i];
    CHECK_INT(wrong, 0);
    CHECK_INT(job->wrong_worker, 0);
    CHECK_INT(inside, tasks);
}

static void every_task_runs_once(void) {
    static const int64_t sizes[] = {0, 1, 2, 7, 8, 9, 1000, TASKS};
    for (int threads = 1; threads <= THREADS; threads++) {
        ThreadPool *pool = hone_pool_create(threads);
        CHECK_INT(hone_pool_threads(pool), threads);
        for (int i = 0; i < 8; i++) {
            static Job job;
            memset(&job, 0, sizeof job);
            job.pool = pool;
            hone_pool_run(pool, sizes[i], count_task, &job);
            check_job(&job, sizes[i]);
        }
        hone_pool_free(pool);
    }
}

static void no_pool_runs_in_the_caller(void) {
    static Job job;
    CHECK_INT(hone_pool_threads(NULL), 1);
    hone_pool_run(NULL, 100, count_task, &job);
    check_job(&job, 100);
    CHECK_INT(job.inside[0], 100);
    hone_pool_free(NULL);
    ThreadPool *pool = hone_pool_create(-3);
    CHECK_INT(hone_pool_threads(pool), 1);
    hone_pool_free(pool);
}

// Many short jobs one after the other, with pauses in which the workers fall asleep.
static void jobs_follow_each_other(void) {
    ThreadPool *pool = hone_pool_create(3);
    static Job job;
    job.pool = pool;
    for (int i = 0; i < 3000; i++) {
        hone_pool_run(pool, 5, count_task, &job);
        if (i % 1000 == 0) usleep(2000);
    }
    for (int i = 0; i < 5; i++) CHECK_INT(job.times[i], 3000);
    hone_pool_free(pool);
}

typedef struct Inner {
    Job *job;
    int64_t outer;
    int worker; // that runs the outer task, and so all inner ones
} Inner;

static void inner_task(void *argument, int64_t task, int worker) {
    const Inner *inner = argument;
    inner->job->inner[inner->outer] += task; // not atomic: an inner job runs in one thread
    if (worker != inner->worker) atomic_fetch_add(&inner->job->wrong_worker, 1);
}

static void outer_task(void *argument, int64_t task, int worker) {
    Job *job = argument;
    Inner inner = {job, task, worker};
    hone_pool_run(job->pool, 100, inner_task, &inner);
    count_task(argument, task, worker);
}

static void jobs_nest(void) {
    for (int threads = 1; threads <= 4; threads++) {
        static Job job;
        memset(&job, 0, sizeof job);
        job.pool = hone_pool_create(threads);
        hone_pool_run(job.pool, 200, outer_task, &job);
        check_job(&job, 200);
        for (int i = 0; i < 200; i++) CHECK_INT(job.inner[i], 4950);
        hone_pool_run(job.pool, 0, outer_task, &job);
        hone_pool_free(job.pool);
    }
}

// What a task wrote without a lock is there after the run, and what the caller wrote before is
// seen.
static void square_task(void *argument, int64_t task, int worker) {
    (void)worker;
    long long *values = argument;
    values[task] = values[task] * values[task];
}

static void results_are_seen(void) {
    static long long values[1000];
    ThreadPool *pool = hone_pool_create(4);
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < 1000; i++) values[i] = i + round;
        hone_pool_run(pool, 1000, square_task, values);
        int wrong = 0;
        for (long long i = 0; i < 1000; i++) wrong += values[i] != (i + round) * (i + round);
        CHECK_INT(wrong, 0);
    }
    hone_pool_free(pool);
}

// A forked child has the pool but not its threads: it does the work alone and may free the pool.
static void a_forked_child_works_alone(void) {
    ThreadPool *pool = hone_pool_create(3);
    static Job job;
    job.pool = pool;
    hone_pool_run(pool, 10, count_task, &job);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        memset(&job, 0, sizeof job);
        job.pool = pool;
        hone_pool_run(pool, 100, count_task, &job);
        bool alone = job.inside[0] == 100;
        hone_pool_free(pool);
        _exit(alone ? 0 : 1);
    }
    int status = -1;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    hone_pool_run(pool, 10, count_task, &job);
    CHECK_INT(job.times[9], 2);
    hone_pool_free(pool);
}

static void pools_come_and_go(void) {
    for (int i = 0; i < 100; i++) {
        ThreadPool *pool = hone_pool_create(1 + i % THREADS);
        if (i % 2) {
            static Job job;
            memset(&job, 0, sizeof job);
            job.pool = pool;
            hone_pool_run(pool, 20, count_task, &job);
            check_job(&job, 20);
        }
        hone_pool_free(pool); // some before their workers ever ran
    }
}

int main(void) {
    RUN(every_task_runs_once);
    RUN(no_pool_runs_in_the_caller);
    RUN(jobs_follow_each_other);
    RUN(jobs_nest);
    RUN(results_are_seen);
    RUN(a_forked_child_works_alone);
    RUN(pools_come_and_go);
    return check_report();
}
