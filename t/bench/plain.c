/* The plain-C baselines: see plain.h. */
#include "config.h"

#include "plain.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bench.h"

enum { BATCH = 64 };

typedef struct list {
    plain_job *first, *last;
} list;

struct plain_pool {
    bool batch;
    pthread_mutex_t lock;
    pthread_cond_t work;
    list jobs;   /* under lock */
    int waiting; /* under lock: threads that wait */
    bool closed; /* under lock */
    pthread_mutex_t done_lock;
    list done; /* under done_lock */
    int eventfd, epoll;
    list turn; /* loop only: submitted in this turn */
    int n_threads;
    pthread_t *threads;
};

static void list_clear(list *l) {
    *l = (list){NULL, NULL};
}

static void list_append(list *to, plain_job *first, plain_job *last) {
    if (to->first)
        to->last->next = first;
    else
        to->first = first;
    to->last = last;
    last->next = NULL;
}

static void finished(plain_pool *p, plain_job *first, plain_job *last) {
    pthread_mutex_lock(&p->done_lock);
    bool was_empty = !p->done.first;
    list_append(&p->done, first, last);
    pthread_mutex_unlock(&p->done_lock);
    if (was_empty || !p->batch)
        BENCH_CHECK(eventfd_write(p->eventfd, 1) == 0);
}

static void *thread_main(void *arg) {
    plain_pool *p = arg;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->jobs.first && !p->closed) {
            p->waiting++;
            pthread_cond_wait(&p->work, &p->lock);
            p->waiting--;
        }
        if (!p->jobs.first)
            break;
        plain_job *first = p->jobs.first, *last = first;
        for (int n = 1; p->batch && n < BATCH && last->next; n++)
            last = last->next;
        p->jobs.first = last->next;
        last->next = NULL;
        bool more = p->batch && p->jobs.first && p->waiting > 0;
        pthread_mutex_unlock(&p->lock);
        if (more)
            pthread_cond_signal(&p->work);
        for (plain_job *job = first; job; job = job->next)
            job->result = job->fn(job);
        finished(p, first, last);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

plain_pool *plain_new(int threads, bool batch) {
    plain_pool *p = bench_alloc(sizeof *p);
    p->batch = batch;
    pthread_mutex_init(&p->lock, NULL);
    pthread_mutex_init(&p->done_lock, NULL);
    pthread_cond_init(&p->work, NULL);
    p->eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    p->epoll = epoll_create1(EPOLL_CLOEXEC);
    BENCH_CHECK(p->eventfd >= 0 && p->epoll >= 0);
    struct epoll_event event = {.events = EPOLLIN};
    BENCH_CHECK(epoll_ctl(p->epoll, EPOLL_CTL_ADD, p->eventfd, &event) == 0);
    p->threads = bench_alloc((size_t)threads * sizeof *p->threads);
    for (; p->n_threads < threads; p->n_threads++)
        BENCH_CHECK(pthread_create(&p->threads[p->n_threads], NULL, thread_main, p) == 0);
    return p;
}

static void hand_over(plain_pool *p) {
    if (!p->turn.first)
        return;
    pthread_mutex_lock(&p->lock);
    list_append(&p->jobs, p->turn.first, p->turn.last);
    bool wake = p->waiting > 0;
    pthread_mutex_unlock(&p->lock);
    list_clear(&p->turn);
    if (wake)
        pthread_cond_signal(&p->work);
}

void plain_submit(plain_pool *p, plain_job *job) {
    if (p->batch) {
        list_append(&p->turn, job, job);
        return;
    }
    pthread_mutex_lock(&p->lock);
    list_append(&p->jobs, job, job);
    pthread_mutex_unlock(&p->lock);
    pthread_cond_signal(&p->work);
}

plain_job *plain_wait(plain_pool *p) {
    hand_over(p);
    for (;;) {
        struct epoll_event event;
        eventfd_t drained;
        BENCH_CHECK(epoll_wait(p->epoll, &event, 1, -1) == 1);
        eventfd_read(p->eventfd, &drained);
        pthread_mutex_lock(&p->done_lock);
        plain_job *first = p->done.first;
        list_clear(&p->done);
        pthread_mutex_unlock(&p->done_lock);
        if (first)
            return first;
    }
}

void plain_free(plain_pool *p) {
    pthread_mutex_lock(&p->lock);
    p->closed = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n_threads; i++)
        pthread_join(p->threads[i], NULL);
    close(p->eventfd);
    close(p->epoll);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->done_lock);
    free(p->threads);
    free(p);
}
