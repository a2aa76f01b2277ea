/* Values that are inherited by what a task starts.
 *
 * A context's values are a chain of nodes, the latest first, that shares its tail with those
 * that it was started from and those that it has started. A node is immutable while it is
 * shared, and has a reference for each chain that begins with it or goes on to it. Setting a
 * value changes a node that is nobody else's, or puts a new one in front. */
#include "config.h"

#include <errno.h>

#include "core.h"

struct ferry__values {
    _Atomic int refs;
    struct ferry__values *next; /* a reference */
    const ferry_local *key;
    void *value;
    void (*value_free)(void *value);
};

struct ferry__values *ferry__values_ref(struct ferry__values *values) {
    if (values)
        atomic_fetch_add_explicit(&values->refs, 1, memory_order_relaxed);
    return values;
}

void ferry__values_drop(struct ferry__values *values) {
    while (values && atomic_fetch_sub_explicit(&values->refs, 1, memory_order_acq_rel) == 1) {
        struct ferry__values *next = values->next;
        if (values->value_free)
            values->value_free(values->value);
        ferry__free(values);
        values = next;
    }
}

int ferry_local_set(ferry_local *key, void *value, void (*value_free)(void *value)) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    for (struct ferry__values *v = ctx->values;
         v && atomic_load_explicit(&v->refs, memory_order_acquire) == 1; v = v->next) {
        if (v->key != key)
            continue;
        void *old = v->value;
        void (*old_free)(void *) = v->value_free;
        v->value = value;
        v->value_free = value_free;
        if (old_free)
            old_free(old);
        return 0;
    }
    struct ferry__values *v = ferry__malloc(sizeof *v);
    if (!v)
        return (int)ferry__error_say(ctx, -ENOMEM, NULL);
    atomic_init(&v->refs, 1);
    v->next = ctx->values; /* the chain's reference goes over */
    v->key = key;
    v->value = value;
    v->value_free = value_free;
    ctx->values = v;
    return 0;
}

void *ferry_local_get(const ferry_local *key) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    for (struct ferry__values *v = ctx ? ctx->values : NULL; v; v = v->next)
        if (v->key == key)
            return v->value;
    return NULL;
}
