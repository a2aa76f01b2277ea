/* A pool of connections: eight tasks share three, made by a library that blocks.
 *
 * The pool opens and closes them as jobs, so that no task stops the loop. Whoever comes when all
 * are lent waits in turn; one that turns out to be broken is destroyed, and the next task gets a
 * new one; an acquire that waits for too long says who has them all. */
#include <ferry.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct connection {
    int number;
};

static int64_t open_connection(void **connection, void *arg) { /* a job: it may block */
    int *opened = arg;
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    struct connection *c = calloc(1, sizeof *c);
    if (!c)
        return ferry_fail(-1, "no memory for a connection");
    c->number = ++*opened;
    *connection = c;
    return 0;
}

static void close_connection(void *connection, void *arg) {
    (void)arg;
    free(connection);
}

static int64_t ask(void *arg) { /* a task */
    ferry_pool *pool = arg;
    void *connection;
    int64_t rc = ferry_pool_acquire(pool, &connection);
    if (rc < 0)
        return rc;
    struct connection *c = connection;
    ferry_sleep(5); /* the conversation */
    if (c->number == 1)
        return ferry_pool_discard(pool, c); /* the line went dead */
    return ferry_pool_release(pool, c);
}

static int64_t talk(void *arg) {
    (void)arg;
    int opened = 0;
    ferry_executor *executor; /* one thread: connections are opened one after the other */
    int64_t rc = ferry_executor_new(&executor, &(ferry_executor_options){.threads_max = 1});
    if (rc < 0)
        return rc;
    ferry_pool *pool;
    rc = ferry_pool_new(&pool, &(ferry_pool_options){.name = "db",
                                                     .max = 3,
                                                     .create = open_connection,
                                                     .destroy = close_connection,
                                                     .arg = &opened,
                                                     .executor = executor});
    ferry_executor_free(executor); /* the pool keeps it */
    if (rc < 0)
        return rc;

    ferry_group group = FERRY_GROUP_INIT;
    ferry_group_open(&group);
    for (int i = 0; i < 8; i++)
        ferry_group_spawn(&group, ask, pool);
    rc = ferry_group_close(&group, 0);
    ferry_pool_stats stats;
    ferry_pool_get_stats(pool, &stats);
    printf("8 tasks shared %d connections, one of which broke\n", (int)stats.created);

    void *all[3], *one_more;
    for (int i = 0; i < 3 && rc == 0; i++)
        rc = ferry_pool_acquire(pool, &all[i]);
    if (rc == 0 && ferry_pool_acquire_for(pool, &one_more, 10) < 0)
        printf("%s\n", ferry_errmsg());
    for (int i = 0; i < 3 && rc == 0; i++)
        ferry_pool_release(pool, all[i]);

    int64_t closed = ferry_pool_close(pool, FERRY_FOREVER);
    if (closed == 0)
        ferry_pool_free(pool);
    return rc < 0 ? rc : closed;
}

int main(void) {
    int64_t rc = ferry_run(talk, NULL);
    if (rc < 0)
        fprintf(stderr, "pool: %s\n", ferry_errmsg());
    return rc < 0;
}
