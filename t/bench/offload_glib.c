/* "offload" with GLib: GTask on its own pool (ten threads, which can't be chosen), and a
 * GThreadPool of the size that is asked for, whose results come back by an idle callback. */
#include "config.h"

#include <gio/gio.h>
#include <stdlib.h>

#include "offload.h"

static offload *current;
static GMainLoop *loop;
static long running;

static void ended(void) {
    if (--running == 0)
        g_main_loop_quit(loop);
}

/* ---- GTask ----------------------------------------------------------------------------------- */

static void task_submit(void);

static void task_work(GTask *task, gpointer source, gpointer data, GCancellable *cancellable) {
    (void)source;
    (void)cancellable;
    g_task_return_int(task, (gssize)bench_piece(*(uint64_t *)data));
}

static void task_done(GObject *source, GAsyncResult *result, gpointer data) {
    (void)source;
    (void)data;
    offload_done(current, g_task_propagate_int(G_TASK(result), NULL));
    task_submit();
}

static void task_submit(void) {
    uint64_t number;
    if (!offload_take(current, &number)) {
        ended();
        return;
    }
    GTask *task = g_task_new(NULL, NULL, task_done, NULL);
    uint64_t *data = g_new(uint64_t, 1);
    *data = number;
    g_task_set_task_data(task, data, g_free);
    g_task_run_in_thread(task, task_work);
    g_object_unref(task);
}

static void task_stage(offload *o, void *arg) {
    (void)arg;
    current = o;
    running = o->what->size;
    for (long i = 0; i < o->what->size; i++)
        task_submit();
    if (running > 0)
        g_main_loop_run(loop);
}

void offload_gtask(const bench_case *what, bench_out *out) {
    loop = g_main_loop_new(NULL, FALSE);
    offload_run(what, out, task_stage, NULL);
    g_main_loop_unref(loop);
}

/* ---- GThreadPool ----------------------------------------------------------------------------- */

typedef struct item {
    uint64_t number;
    int64_t result;
} item;

static GThreadPool *pool;

static void pool_submit(item *i) {
    if (offload_take(current, &i->number))
        BENCH_CHECK(g_thread_pool_push(pool, i, NULL));
    else
        ended();
}

static gboolean pool_done(gpointer data) {
    item *i = data;
    offload_done(current, i->result);
    pool_submit(i);
    return G_SOURCE_REMOVE;
}

static void pool_work(gpointer data, gpointer user) {
    (void)user;
    item *i = data;
    i->result = bench_piece(i->number);
    g_idle_add_full(G_PRIORITY_DEFAULT, pool_done, i, NULL);
}

static void pool_stage(offload *o, void *arg) {
    item *items = arg;
    current = o;
    running = o->what->size;
    for (long i = 0; i < o->what->size; i++)
        pool_submit(&items[i]);
    if (running > 0)
        g_main_loop_run(loop);
}

void offload_gthreadpool(const bench_case *what, bench_out *out) {
    loop = g_main_loop_new(NULL, FALSE);
    pool = g_thread_pool_new(pool_work, NULL, what->threads, TRUE, NULL);
    BENCH_CHECK(pool);
    item *items = bench_alloc((size_t)what->size * sizeof *items);
    offload_run(what, out, pool_stage, items);
    g_thread_pool_free(pool, FALSE, TRUE);
    g_main_loop_unref(loop);
    free(items);
}
