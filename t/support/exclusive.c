#include "config.h"

#include "exclusive.h"

#include <errno.h>
#include <ferry.h>
#include <stdlib.h>

#include "waiters.h"

union any_lock {
    ferry_mutex mutex;
    ferry_rwlock rwlock;
};

static int lock(void *mutex) {
    return ferry_lock(mutex);
}

static int try_lock(void *mutex) {
    return ferry_trylock(mutex);
}

static int unlock(void *mutex) {
    return ferry_unlock(mutex);
}

const struct exclusive exclusive_mutex = {lock, try_lock, unlock};

static int write_lock(void *rwlock) {
    return ferry_wrlock(rwlock);
}

static int try_write_lock(void *rwlock) {
    return ferry_trywrlock(rwlock);
}

static int write_unlock(void *rwlock) {
    return ferry_rwunlock(rwlock);
}

const struct exclusive exclusive_rwlock = {write_lock, try_write_lock, write_unlock};

/* ---- Several --------------------------------------------------------------------------------- */

enum { SEVERAL = 5 };

struct several {
    const struct exclusive *kind;
    union any_lock locks[SEVERAL];
    bool kept[SEVERAL];
    unsigned seed;
};

static int64_t take_several_and_end(void *arg) {
    struct several *s = arg;
    for (int i = 0; i < SEVERAL; i++) {
        CHECK_INT(s->kind->take(&s->locks[i]), 0);
        s->kept[i] = true;
    }
    for (int n = rand_r(&s->seed) % (2 * SEVERAL); n > 0; n--) {
        int i = rand_r(&s->seed) % SEVERAL;
        CHECK_INT(s->kind->give(&s->locks[i]), s->kept[i] ? 0 : -EPERM);
        s->kept[i] = false;
    }
    return 0;
}

void exclusive_several_kept(const struct exclusive *kind) {
    struct several s = {.kind = kind, .seed = 5};
    for (int round = 0; round < 100; round++) {
        CHECK_INT(ferry_await(ferry_spawn(take_several_and_end, &s)), 0);
        for (int i = 0; i < SEVERAL; i++) {
            CHECK_INT(kind->try_take(&s.locks[i]), s.kept[i] ? -EOWNERDEAD : 0);
            CHECK_INT(kind->give(&s.locks[i]), 0);
        }
    }
}

/* ---- Freed ----------------------------------------------------------------------------------- */

struct shared {
    const struct exclusive *kind;
    union any_lock lock;
    int users; /* under the lock */
};

static void *use_and_leave(void *arg) {
    struct shared *shared = arg;
    const struct exclusive *kind = shared->kind;
    CHECK_INT(kind->take(&shared->lock), 0);
    bool last = --shared->users == 0;
    CHECK_INT(kind->give(&shared->lock), 0);
    if (last)
        free(shared);
    return NULL;
}

void exclusive_freed_at_once(const struct exclusive *kind) {
    for (int i = 0; i < (support_slow() ? 200 : 2000); i++) {
        struct shared *shared = calloc(1, sizeof *shared);
        assert_non_null(shared);
        shared->kind = kind;
        shared->users = 3;
        pthread_t threads[2];
        for (int k = 0; k < 2; k++)
            threads[k] = start_thread(use_and_leave, shared);
        use_and_leave(shared);
        for (int k = 0; k < 2; k++)
            pthread_join(threads[k], NULL);
    }
}
