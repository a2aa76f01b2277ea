/* Shields: a handle that ends as another one does, and whose cancel leaves that one alone.
 *
 * The shield's link on `inner` does one of two things, and who takes the link back or gets its
 * notify decides which:
 *     inner ends       notify -> after: the shield ends as inner did
 *     it is cancelled  the link is taken back: the shield ends as cancelled
 *
 * Shields of shields end one after the other, on whatever thread the innermost operation ends: a
 * chain of them is a queue of that thread's, no recursion.
 *
 * References: the link holds one on the shield, until either has happened; the shield one on
 * inner, until it is freed. So the result, and what an await delivers, can be taken from inner,
 * and its error counts as read when the shield's was. A shield's own error is never reported as
 * unread (future.c): inner's is. */
#include "config.h"

#include <errno.h>

#include "core.h"

struct shield {
    ferry_future future; /* first */
    struct ferry__link link;
    ferry_future *inner; /* a reference; fixed */
};

static void inner_ended(struct ferry__link *link, ferry_future *inner, struct ferry__wakes *wakes) {
    (void)inner;
    ferry__wakes_later(wakes, link); /* not here: this is inside inner's lock */
}

static void end(struct shield *s) {
    ferry__future_complete(&s->future, s->inner->result, NULL); /* the words are taken from inner */
    ferry__future_unref(&s->future);
}

/* Those whose inner operations have ended; on the stack of the first follow(). */
static _Thread_local struct ferry__link **following;

static void follow(struct ferry__link *link, ferry_future *inner) {
    (void)inner;
    link->next = NULL;
    if (following) { /* end() has led here */
        *following = link;
        following = &link->next;
        return;
    }
    struct ferry__link *first = NULL;
    following = &first;
    do {
        end(ferry__container(link, struct shield, link));
        link = first;
        first = link ? link->next : NULL;
        if (!first)
            following = &first;
    } while (link);
    following = NULL;
}

ferry_future *ferry_shield(ferry_future *inner) {
    struct shield *s = inner ? ferry__record_get(sizeof *s) : NULL;
    if (!s)
        return NULL;
    /* it outlives the shield */
    ferry__future_init(&s->future, FERRY__IS_SHIELD, NULL, inner->name);
    s->future.generation = inner->generation; /* a fork took both, or none */
    s->link = (struct ferry__link){.notify = inner_ended, .after = follow};
    s->inner = ferry_ref(inner);
    ferry_ref(&s->future); /* the link's */
    if (!ferry__future_link(inner, &s->link))
        end(s);
    return &s->future;
}

int ferry__shield_cancel(ferry_future *f) {
    struct shield *s = (struct shield *)f;
    if (!ferry__future_unlink(s->inner, &s->link))
        return FERRY_CANCEL_LATE;
    ferry__future_complete(f, -ECANCELED, NULL);
    ferry__future_unref(f);
    return FERRY_CANCEL_ASKED;
}

ferry_future *ferry__shield_source(ferry_future *f) {
    while (f->kind == FERRY__IS_SHIELD && f->result != -ECANCELED)
        f = ((struct shield *)f)->inner;
    return f;
}

ferry_future *ferry__shield_destroy(ferry_future *f) {
    struct shield *s = (struct shield *)f;
    if (atomic_load(&f->read) && f->result != -ECANCELED)
        atomic_store(&s->inner->read, true);
    ferry_future *inner = s->inner;
    ferry__record_put(s, sizeof *s);
    return inner;
}
